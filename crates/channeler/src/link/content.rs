//! What a packet carried, in the few words by which its channel can repair it.

/// What one packet carried: one contiguous range of one channel, or control messages, or both, or neither.
///
/// Channels and control records are named by their slots in the connection; the link only keeps and returns them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// First offset of the channel's data.
    pub(crate) start: u64,
    /// How many offsets.
    pub(crate) len: u32,
    /// Slot of the channel, or [`Content::NONE`].
    pub(crate) channel: u32,
    /// Slot of the record of control messages, or [`Content::NONE`].
    pub(crate) control: u32,
    /// Tells the channel from others that had its slot before or after.
    pub(crate) generation: u32,
    /// How often this range was repaired before.
    pub(crate) tries: u8,
    /// Whether the end of the direction was told.
    pub(crate) fin: bool,
    /// Whether it counts against the background window.
    pub(crate) background: bool,
    /// Whether another link carries the same: the loss of one copy need not be one.
    pub(crate) mirrored: bool,
    /// The lowest bits of the generation of keys that it was sealed with: no packet is on its way for 256 of them.
    pub(crate) keys: u8,
    /// Whether it searches for a larger packet size: its loss says nothing about congestion.
    pub(crate) mtu_probe: bool,
}

impl Content {
    /// No slot.
    pub(crate) const NONE: u32 = u32::MAX;

    /// Nothing that anybody waits for: an acknowledgement, a ping, padding.
    pub(crate) const EMPTY: Self = Self {
        start: 0,
        len: 0,
        channel: Self::NONE,
        control: Self::NONE,
        generation: 0,
        tries: 0,
        fin: false,
        background: false,
        mirrored: false,
        keys: 0,
        mtu_probe: false,
    };

    /// Whether somebody wants to hear what became of it.
    #[inline]
    pub(crate) fn is_tracked(&self) -> bool {
        self.channel != Self::NONE || self.control != Self::NONE
    }
}

/// What acknowledgements and timers told about packets. The owner clears it after use, so its memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Arrived. Each packet comes here or to `lost`, once.
    pub(crate) acked: Vec<Content>,
    /// Declared lost, in order of sending.
    pub(crate) lost: Vec<Content>,
    /// Declared lost before, and arrived after all: the repair was needless.
    pub(crate) late: Vec<Content>,
    /// Packets that were declared lost and arrived after all.
    pub(crate) spurious: u32,
    /// Whether anything new was acknowledged, so that the window may have room.
    pub(crate) progress: bool,
    /// Whether [`Link::status`](super::Link::status) changed.
    pub(crate) status_changed: bool,
    /// Whether [`Link::mtu`](super::Link::mtu) changed.
    pub(crate) mtu_changed: bool,
}

impl Outcome {
    /// Forgets everything, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.acked.clear();
        self.lost.clear();
        self.late.clear();
        self.spurious = 0;
        self.progress = false;
        self.status_changed = false;
        self.mtu_changed = false;
    }
}
