//! The header fields without which nothing can be done with a message (RFC 3261 8.1.1).

use std::fmt;

use super::{Address, HeaderName, Headers, Method, Via};
use crate::error::ParseError;
use crate::text::{is_word, number, trim};

/// Number and method of a request (20.16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    /// Less than 2^31.
    pub number: u32,
    /// The method of the request, also in responses to it.
    pub method: Method,
}

impl CSeq {
    fn read(text: &str) -> Option<Self> {
        let (digits, method) = text.split_once([' ', '\t'])?;
        let number = u32::try_from(number(digits)?).ok().filter(|number| *number < 1 << 31)?;
        Some(Self { number, method: Method::from_name(trim(method))? })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// What every message must have, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Essentials {
    /// The topmost Via.
    pub via: Via,
    /// Who sent the request.
    pub from: Address,
    /// Whom it is for.
    pub to: Address,
    /// What it belongs to.
    pub call_id: String,
    /// Its number.
    pub cseq: CSeq,
}

impl Essentials {
    /// Reads them.
    pub fn of(headers: &Headers) -> Result<Self, ParseError> {
        let via = headers.values(&HeaderName::Via).next().ok_or(ParseError::Missing(HeaderName::Via))?;
        let call_id = headers.one(HeaderName::CallId)?;
        let (left, right) = call_id.split_once('@').unwrap_or((call_id, "x"));
        if !is_word(left) || !is_word(right) {
            return Err(ParseError::Value(HeaderName::CallId));
        }
        let cseq = CSeq::read(headers.one(HeaderName::CSeq)?).ok_or(ParseError::Value(HeaderName::CSeq))?;
        Ok(Self {
            via: Via::parse(via)?,
            from: Address::parse(headers.one(HeaderName::From)?, HeaderName::From)?,
            to: Address::parse(headers.one(HeaderName::To)?, HeaderName::To)?,
            call_id: call_id.to_owned(),
            cseq,
        })
    }
}
