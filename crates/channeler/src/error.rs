//! What can go wrong, one enum per operation.

use thiserror::Error;

/// Why a channel or a connection was ended, as told to the other side: a number, 0 to 2^62 - 1.
///
/// Numbers below 256 belong to the protocol; programs use those above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u64);

impl Code {
    /// Nothing is wrong.
    pub const DONE: Self = Self(0);
    /// The program does not want this channel.
    pub const REFUSED: Self = Self(1);
    /// A message was given up on a channel that closes on loss.
    pub const LOSS: Self = Self(2);
    /// A limit was reached.
    pub const LIMIT: Self = Self(3);
    /// The program dropped its handle.
    pub const DROPPED: Self = Self(4);
    /// The peer broke a rule of the protocol; the text of the close names it.
    pub const VIOLATION: Self = Self(5);
    /// The endpoint is going away.
    pub const GOING_AWAY: Self = Self(6);
    /// First number for programs.
    pub const PROGRAM: Self = Self(256);
}

/// Why a channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Both directions were finished.
    Finished,
    /// This side reset or stopped it.
    Local(Code),
    /// The other side reset or stopped it.
    Peer(Code),
    /// A message was lost for good on a channel that closes on loss.
    Loss,
    /// The connection ended.
    Connection,
}

/// A rule of the protocol that the peer broke. Always the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    /// A message did not parse.
    #[error("malformed message of type {0}")]
    Malformed(u8),
    /// Data beyond the window that was granted.
    #[error("data beyond the receive window")]
    Window,
    /// Data on the control channel, or control messages where they have no place.
    #[error("message of type {0} out of place")]
    OutOfPlace(u8),
    /// The end of a direction was moved, or data came behind it.
    #[error("the final size of a channel changed")]
    FinalSize,
    /// More channels, links or ids than were allowed.
    #[error("a limit that was told was exceeded")]
    Limit,
    /// An acknowledgement of a packet that was never sent.
    #[error("acknowledgement of a packet that was not sent")]
    Acknowledgement,
    /// Message boundaries that contradict each other.
    #[error("boundaries of messages contradict each other")]
    Boundary,
    /// What a side says of itself in the handshake.
    #[error("transport parameters that make no sense")]
    Parameters,
    /// A message for a channel that this peer never opened.
    #[error("message for a channel that does not exist")]
    Channel,
}

/// Why a connection ended or never came to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectionError {
    /// The handshake was not answered in time.
    #[error("no answer to the handshake")]
    NoAnswer,
    /// The peer could not prove who it is, or is not who was dialled, or is not admitted.
    #[error("handshake refused: {0}")]
    Handshake(#[from] crate::handshake::HandshakeError),
    /// Nothing was heard on any link for the idle timeout.
    #[error("connection timed out")]
    TimedOut,
    /// Every link was closed or broke, and for [`Config::no_link_timeout`](crate::Config::no_link_timeout) none was added.
    #[error("no link left")]
    NoLink,
    /// The peer knows nothing of the connection any more: its program was started again, or gave the connection up without a
    /// word that arrived. A new one may be begun at once.
    #[error("the peer has lost its state")]
    Forgotten,
    /// The peer closed it.
    #[error("closed by the peer: code {}, {text:?}", code.0)]
    ClosedByPeer {
        /// What the peer gave as the reason.
        code: Code,
        /// Text from the peer, at most 256 bytes. Untrusted.
        text: String,
    },
    /// The peer broke a rule.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// This side closed it.
    #[error("closed here")]
    ClosedHere,
}

/// Why a channel could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// As many channels as the peer allows are open.
    #[error("the peer allows no more channels")]
    TooMany,
    /// The label is longer than `Config::max_label`.
    #[error("label longer than the limit")]
    Label,
    /// A parameter of the capabilities is out of its range.
    #[error("capabilities out of range")]
    Capabilities,
    /// The connection has ended.
    #[error("connection closed")]
    Closed,
}

/// Why bytes were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// No room in the send buffer: [`Event::Writable`](crate::Event::Writable) follows.
    #[error("no room in the send buffer")]
    Blocked,
    /// The message is longer than the limits allow, now or ever.
    #[error("message longer than {0} bytes")]
    TooLong(usize),
    /// This direction was finished already.
    #[error("finished")]
    Finished,
    /// The channel has ended.
    #[error("channel ended: {0:?}")]
    Ended(Reason),
    /// There is no such channel.
    #[error("no such channel")]
    Unknown,
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Nothing there: [`Event::Readable`](crate::Event::Readable) follows.
    #[error("nothing to read yet")]
    Blocked,
    /// The buffer is shorter than the message, which stays where it is. It has this many bytes.
    #[error("message of {0} bytes does not fit")]
    TooShort(usize),
    /// The channel has ended.
    #[error("channel ended: {0:?}")]
    Ended(Reason),
    /// There is no such channel.
    #[error("no such channel")]
    Unknown,
}
