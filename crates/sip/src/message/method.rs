//! Methods (RFC 3261 7.1; MESSAGE is of RFC 3428, INFO of RFC 6086).

use std::fmt;

use crate::text::is_token;

/// What a request asks for. Methods are case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Begin or change a session.
    Invite,
    /// The final response to an INVITE has arrived.
    Ack,
    /// Give an INVITE up.
    Cancel,
    /// End a session.
    Bye,
    /// What can you do?
    Options,
    /// A text, or any other content, outside of a session or in it.
    Message,
    /// Something about a session.
    Info,
    /// Any other.
    Other(Box<str>),
}

impl Method {
    /// The methods that an endpoint takes, in the order of its Allow header field.
    pub const ALLOWED: [Self; 7] =
        [Self::Invite, Self::Ack, Self::Bye, Self::Cancel, Self::Info, Self::Options, Self::Message];

    /// The method called `name`; `None` if that is not a token.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "CANCEL" => Self::Cancel,
            "BYE" => Self::Bye,
            "OPTIONS" => Self::Options,
            "MESSAGE" => Self::Message,
            "INFO" => Self::Info,
            other if is_token(other) => Self::Other(other.into()),
            _ => return None,
        })
    }

    /// Its name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Cancel => "CANCEL",
            Self::Bye => "BYE",
            Self::Options => "OPTIONS",
            Self::Message => "MESSAGE",
            Self::Info => "INFO",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
