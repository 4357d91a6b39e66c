//! What happens at an endpoint, and what a program wants of it.

use thiserror::Error;

use crate::message::{HeaderName, Headers, Method, Request, Response, Status};

/// A request of the peer that awaits its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub(super) u64);

/// A request to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub(super) u64);

/// Something the program should know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer asks for something; [`Endpoint::respond`](super::Endpoint::respond) to it. Today MESSAGE and INVITE come
    /// this way.
    Request {
        /// To answer it by.
        id: ServerId,
        /// What it asks.
        request: Request,
    },
    /// The peer gave an INVITE up that was undecided. It has its answers; the id is void.
    Cancelled {
        /// The INVITE.
        id: ServerId,
    },
    /// A request was not answered in time, so nobody waits for the answer any more (an INVITE was answered 480).
    /// The id is void.
    Expired {
        /// The request.
        id: ServerId,
    },
    /// The peer answered. After a final response the id is void.
    Response {
        /// What it answers.
        id: ClientId,
        /// The answer.
        response: Response,
    },
    /// The peer did not answer within [`Timers::transaction`](crate::Timers::transaction). The id is void.
    TimedOut {
        /// The request.
        id: ClientId,
    },
}

/// A request to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutgoingRequest {
    /// What it asks for.
    pub method: Method,
    /// Header fields beside those that every request has.
    pub headers: Headers,
    /// Media type of the body; needed if there is one.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl OutgoingRequest {
    /// A request without a body.
    pub fn new(method: Method) -> Self {
        Self { method, headers: Headers::new(), content_type: None, body: Vec::new() }
    }

    /// A MESSAGE with this content.
    pub fn message(content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { content_type: Some(content_type.into()), body: body.into(), ..Self::new(Method::Message) }
    }
}

/// A response to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutgoingResponse {
    /// What it says.
    pub status: Status,
    /// Header fields beside those that every response has.
    pub headers: Headers,
    /// Media type of the body; needed if there is one.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl From<Status> for OutgoingResponse {
    /// A response without a body.
    fn from(status: Status) -> Self {
        Self { status, headers: Headers::new(), content_type: None, body: Vec::new() }
    }
}

/// Why a request cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// INVITE, ACK, CANCEL, BYE and INFO belong to dialogs, which there are not.
    #[error("{0} needs a call")]
    NeedsDialog(Method),
    /// As many requests as [`Limits::client_transactions`](crate::Limits::client_transactions) await their answer.
    #[error("too many requests await their answer")]
    TooMany,
    /// More than [`Limits::output`](crate::Limits::output) waits to be sent already.
    #[error("too much waits to be sent")]
    Full,
    /// The message would be longer than [`Limits::message_out`](crate::Limits::message_out).
    #[error("a message of {length} bytes is longer than {max}")]
    TooLong {
        /// In bytes, with headers.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// The media type is missing, or is not one.
    #[error("the media type is not `type/subtype`")]
    ContentType,
    /// The program gave a header field that only the endpoint writes.
    #[error("the {0} header field is written by the endpoint")]
    Reserved(HeaderName),
    /// The stream has ended or failed.
    #[error("the stream has ended")]
    Ended,
}

/// Why a response cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RespondError {
    /// The request has its final answer already, or nobody waits for it any more.
    #[error("the request does not await an answer")]
    NotAwaited,
    /// To accept an INVITE takes a dialog, which there is not.
    #[error("an INVITE can only be refused")]
    NeedsDialog,
    /// The message would be longer than [`Limits::message_out`](crate::Limits::message_out).
    #[error("a message of {length} bytes is longer than {max}")]
    TooLong {
        /// In bytes, with headers.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// The media type of the body is missing, or is not one.
    #[error("the media type is not `type/subtype`")]
    ContentType,
    /// The program gave a header field that only the endpoint writes.
    #[error("the {0} header field is written by the endpoint")]
    Reserved(HeaderName),
}

/// What can be wrong with what a program adds to a message.
pub(super) enum Unfit {
    ContentType,
    Reserved(HeaderName),
    TooLong { length: usize, max: usize },
}

impl From<Unfit> for RequestError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::ContentType => Self::ContentType,
            Unfit::Reserved(name) => Self::Reserved(name),
            Unfit::TooLong { length, max } => Self::TooLong { length, max },
        }
    }
}

impl From<Unfit> for RespondError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::ContentType => Self::ContentType,
            Unfit::Reserved(name) => Self::Reserved(name),
            Unfit::TooLong { length, max } => Self::TooLong { length, max },
        }
    }
}

/// Whether `text` looks like `type/subtype;parameters` and fits on a line.
pub(super) fn is_media_type(text: &str) -> bool {
    use crate::text::{is_line, is_token, trim};
    let kind = text.split(';').next().unwrap_or_default();
    let (kind, subtype) = kind.split_once('/').unwrap_or_default();
    is_line(text) && is_token(trim(kind)) && is_token(trim(subtype))
}
