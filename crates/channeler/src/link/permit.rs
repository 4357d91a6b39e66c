//! Questions to a link before a packet is sent, and what its timers ask for.

use std::time::Instant;

/// What kind of packet wants to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Data and control messages.
    Normal,
    /// Data that gives way to everything else.
    Background,
    /// The only packet in flight of its channel, unless that is in the background: may leave though the window is full, so that one channel never waits for
    /// the losses of another.
    Sparse,
    /// A probe, challenge or response: neither window nor pacing holds it back, nor that the link is dead.
    Probe,
    /// Carries nothing but acknowledgements.
    Ack,
}

/// Whether a packet may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Yes.
    Yes,
    /// Not before acknowledgements come: as much as the window allows is on its way.
    Window,
    /// Not before this instant, which is also among the link's timers.
    Paced(Instant),
    /// The driver said that the stream takes no more.
    NotReady,
    /// Three times what came from this address was sent to it, and it is not validated.
    Amplification,
    /// The link is dead, closed or not validated.
    Unusable,
}

/// What a timer of a link asks of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkTimeout {
    /// Send [`Link::probes_due`](super::Link::probes_due) packets that elicit acknowledgements, of class [`Class::Probe`]:
    /// with new data, the oldest unacknowledged data, or a ping.
    Probe,
    /// As `Probe`, and the link became suspect: what is urgent in [`Link::unacked`](super::Link::unacked) belongs on
    /// another link, too.
    Suspect,
    /// As `Probe`, and the link is dead: everything unacknowledged belongs on another link, if there is one
    /// ([`Link::abandon`](super::Link::abandon)). If there is none, probes go on and nothing need be declared lost.
    Dead,
    /// Packets were declared lost by time: they are in the outcome.
    Loss,
    /// Send an acknowledgement.
    AckDue,
    /// The pacer lets the next packet leave.
    PaceReady,
    /// Send a ping.
    KeepAlive,
    /// [`Link::mtu_probe`](super::Link::mtu_probe) may have a size to try.
    MtuProbe,
    /// [`Link::challenge_due`](super::Link::challenge_due) has a challenge to send.
    Challenge,
    /// Nobody answered the challenges. A link that moved went back to where it was; a new one is dead.
    ValidationFailed,
}

/// What to do with a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The first with its number.
    Fresh,
    /// Seen before, or so old that nobody can tell: to be dropped.
    Duplicate,
}
