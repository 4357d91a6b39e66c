//! Messages: their parts, how they are read and how they are written (RFC 3261 7, 8.1.1, 20).

mod address;
mod essentials;
mod headers;
mod method;
mod name;
mod parameter;
mod parse;
mod status;
mod uri;
mod via;
mod write;

pub use address::Address;
pub use essentials::{CSeq, Essentials};
pub use headers::Headers;
pub use method::Method;
pub use name::HeaderName;
pub use parameter::Parameters;
pub use status::Status;
pub use uri::{SipUri, Uri};
pub use via::{MAGIC_COOKIE, Via};

pub(crate) use parse::{Head, parse_head};

use crate::error::ParseError;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub method: Method,
    /// Of whom.
    pub uri: Uri,
    /// Its header fields. Content-Length is written by [`to_bytes`](Self::to_bytes) if it is not among them.
    pub headers: Headers,
    /// Its body, of any media type; of a multipart body the parts are not taken apart.
    pub body: Vec<u8>,
}

impl Request {
    /// The header fields that every request must have.
    pub fn essentials(&self) -> Result<Essentials, ParseError> {
        let essentials = Essentials::of(&self.headers)?;
        if essentials.cseq.method != self.method {
            return Err(ParseError::CSeqMethod);
        }
        Ok(essentials)
    }

    /// The media type of the body.
    pub fn content_type(&self) -> Option<&str> {
        self.headers.get(&HeaderName::ContentType)
    }
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What it says.
    pub status: Status,
    /// The same for people.
    pub reason: String,
    /// Its header fields; as for a [`Request`].
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
}

impl Response {
    /// The header fields that every response must have.
    pub fn essentials(&self) -> Result<Essentials, ParseError> {
        Essentials::of(&self.headers)
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// Its header fields.
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }
}
