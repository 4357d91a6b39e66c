//! What can be wrong with what a peer sends.

use thiserror::Error;

use crate::message::HeaderName;

/// A rule that a message breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The start line is neither a request line nor a status line (RFC 3261 7.1, 7.2).
    #[error("the start line is neither that of a request nor that of a response")]
    StartLine,
    /// The version is not SIP/2.0 (7.1).
    #[error("the version of the protocol is not SIP/2.0")]
    Version,
    /// The status code is not of three digits between 100 and 699 (7.2).
    #[error("the status code is not between 100 and 699")]
    StatusCode,
    /// A URI breaks its grammar (19.1.1).
    #[error("a URI breaks its grammar")]
    Uri,
    /// Start line or headers are not UTF-8 (7).
    #[error("the headers are not UTF-8")]
    NotUtf8,
    /// A control character in the start line or a header field, a lone CR or LF among them (25.1).
    #[error("a control character in the headers")]
    Control,
    /// A header line without a name and a colon (7.3.1).
    #[error("a header line has no name")]
    HeaderLine,
    /// A header field that must be there is missing (8.1.1, 20).
    #[error("there is no {0} header field")]
    Missing(HeaderName),
    /// A header field that may occur once occurs more often (7.3.1).
    #[error("the {0} header field occurs more than once")]
    Repeated(HeaderName),
    /// The value of a header field breaks its grammar (20).
    #[error("the {0} header field breaks its grammar")]
    Value(HeaderName),
    /// The method in CSeq is not that of the request (8.1.1.5).
    #[error("the methods of the request line and of CSeq differ")]
    CSeqMethod,
    /// Start line and headers are longer than [`Limits::head`](crate::Limits::head).
    #[error("the headers are longer than {max} bytes")]
    HeadTooLong {
        /// The bound.
        max: usize,
    },
    /// There are more header fields than [`Limits::headers`](crate::Limits::headers).
    #[error("there are more than {max} header fields")]
    TooManyHeaders {
        /// The bound.
        max: usize,
    },
    /// The message is longer than [`Limits::message_in`](crate::Limits::message_in).
    #[error("a message of {length} bytes is longer than {max}")]
    TooLong {
        /// As its Content-Length says, headers included.
        length: u64,
        /// The bound.
        max: usize,
    },
}

/// Why the stream of a peer cannot be read any further. Its channel is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamFault {
    /// Where a message ends cannot be told, or it exceeds a bound.
    #[error("the peer does not keep to SIP: {0}")]
    Framing(#[from] ParseError),
    /// The stream ended inside a message.
    #[error("the stream ended inside a message")]
    Truncated,
}
