//! What an endpoint tells its program.

use thiserror::Error;

/// A channel of one endpoint, opened or still being opened. Never used twice in an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub(super) u64);

/// Something the program may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a channel.
    Opened {
        /// The channel.
        channel: Handle,
        /// What its opener said: bit 0 resend, 1 ordered, 2 close on loss. This version of the protocol has no means to
        /// keep such promises.
        capabilities: u16,
    },
    /// The peer granted a channel that this side opened.
    Established(Handle),
    /// A channel that this side wanted was not granted in time. It is forgotten.
    Unanswered(Handle),
    /// There is something to read where there was nothing.
    Readable(Handle),
    /// There is room to write where there was none.
    Writable(Handle),
    /// Nothing went either way for the idle timeout. The channel is forgotten; what was not read is lost.
    Idle(Handle),
}

/// Why a channel was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// As many channels as the limit allows exist.
    #[error("as many channels as are allowed")]
    TooMany,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// No room: [`Event::Writable`] follows.
    #[error("no room in the send buffer")]
    Blocked,
    /// Longer than this, which is what a packet carries.
    #[error("message longer than {0} bytes")]
    TooLong(usize),
    /// There is no such channel, or no longer.
    #[error("no such channel")]
    Unknown,
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Nothing there: [`Event::Readable`] follows.
    #[error("nothing to read yet")]
    Blocked,
    /// The buffer is shorter than the message, which stays where it is. It has this many bytes.
    #[error("message of {0} bytes does not fit")]
    TooShort(usize),
    /// There is no such channel, or no longer.
    #[error("no such channel")]
    Unknown,
}

/// What came, and why it was dropped. Each datagram counts once in `received`; the others count reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Datagrams.
    pub received: u64,
    /// Datagrams whose envelope or a message broke a rule, checksums included.
    pub malformed: u64,
    /// Datagrams for somebody else, from somebody else, or of another protocol.
    pub foreign: u64,
    /// Datagrams that say that they are encrypted.
    pub encrypted: u64,
    /// Datagrams on channels that do not exist.
    pub unknown_channel: u64,
    /// Messages where they have no place: data on the default channel, negotiation elsewhere.
    pub out_of_place: u64,
    /// Grants and proofs whose cookie is not ours.
    pub bad_cookie: u64,
    /// Openings not answered or not completed because a limit was reached or the answer would have been longer than
    /// the question.
    pub refused: u64,
    /// Messages for which a channel had no room.
    pub overflow: u64,
}
