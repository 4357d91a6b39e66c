//! What a channel promises: the three axes.

use std::time::Duration;

/// How hard the sender tries to repair a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resend {
    /// Never: what is lost stays lost.
    No,
    /// At most this many times after the first; at least 1.
    Tries(u8),
    /// For this long after the message was written. At least 1 ms, whole milliseconds, at most 2^32 of them.
    Until(Duration),
    /// Until it arrives or the connection ends.
    Forever,
}

/// Order, repair and close-on-loss of a channel, chosen by its opener and the same in both directions
/// (`spec/channeler.md` section 2.3).
///
/// A channel that is `ordered` and resends [`Resend::Forever`] carries a stream of bytes; every other carries messages: each
/// write is one, arrives whole or not at all, and at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// Whether messages are delivered in the order of their writing. What is missing is waited for as long as it may
    /// still come, then skipped; what comes behind its time is dropped.
    pub ordered: bool,
    /// What is done about a loss.
    pub resend: Resend,
    /// Whether a message that was given up closes the channel.
    pub close_on_loss: bool,
}

impl Capabilities {
    /// Like TCP: a stream of bytes, in order, repaired for as long as the connection lives.
    pub const fn stream() -> Self {
        Self { ordered: true, resend: Resend::Forever, close_on_loss: true }
    }

    /// Like UDP: messages, on arrival, with no repair.
    pub const fn datagram() -> Self {
        Self { ordered: false, resend: Resend::No, close_on_loss: false }
    }

    /// Whether writes are joined to a stream of bytes.
    pub const fn is_stream(self) -> bool {
        self.ordered && matches!(self.resend, Resend::Forever)
    }

    /// The bits on the wire: 1 resend, 2 ordered, 4 close on loss.
    pub const fn bits(self) -> u16 {
        (!matches!(self.resend, Resend::No)) as u16
            | (self.ordered as u16) << 1
            | (self.close_on_loss as u16) << 2
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::stream()
    }
}
