//! Reading messages (RFC 3261 7).

use super::{HeaderName, Headers, Message, Method, Request, Response, Status};
use crate::error::ParseError;
use crate::limits::Limits;
use crate::text::{is_line, number, trim};

/// A message whose body is still to come.
#[derive(Debug)]
pub(crate) struct Head {
    /// With an empty body.
    pub(crate) message: Message,
    /// Bytes of the body.
    pub(crate) body: u64,
}

/// Reads start line and headers; `head` ends with the empty line.
pub(crate) fn parse_head(head: &[u8], limits: &Limits) -> Result<Head, ParseError> {
    let text = std::str::from_utf8(head).map_err(|_| ParseError::NotUtf8)?;
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default();
    if !is_line(start) {
        return Err(ParseError::Control);
    }
    let start = parse_start(start)?;
    let mut headers = Headers::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        if !is_line(line) {
            return Err(ParseError::Control);
        }
        if line.starts_with([' ', '\t']) {
            if !headers.fold(line) {
                return Err(ParseError::HeaderLine);
            }
            continue;
        }
        let (name, value) = line.split_once(':').ok_or(ParseError::HeaderLine)?;
        let name = HeaderName::from_name(trim(name)).ok_or(ParseError::HeaderLine)?;
        if headers.len() == limits.headers {
            return Err(ParseError::TooManyHeaders { max: limits.headers });
        }
        headers.push(name, trim(value))?;
    }
    // A stream has nothing else to tell messages apart by (18.3).
    let length = headers.one(HeaderName::ContentLength)?;
    let body = number(length).ok_or(ParseError::Value(HeaderName::ContentLength))?;
    let message = match start {
        Start::Request(method, uri) => Message::Request(Request { method, uri, headers, body: Vec::new() }),
        Start::Response(status, reason) => {
            Message::Response(Response { status, reason, headers, body: Vec::new() })
        }
    };
    Ok(Head { message, body })
}

enum Start {
    Request(Method, super::Uri),
    Response(Status, String),
}

fn parse_start(line: &str) -> Result<Start, ParseError> {
    let mut words = line.splitn(3, ' ');
    let (Some(first), Some(second), Some(third)) = (words.next(), words.next(), words.next()) else {
        // A status line may end after its code, without the space that the grammar asks for.
        return match line.split_once(' ') {
            Some((version, code)) if is_version(version) => status(code, ""),
            _ => Err(ParseError::StartLine),
        };
    };
    if first.get(..4).is_some_and(|protocol| protocol.eq_ignore_ascii_case("SIP/")) {
        return if is_version(first) { status(second, third) } else { Err(ParseError::Version) };
    }
    let method = Method::from_name(first).ok_or(ParseError::StartLine)?;
    if !third.get(..4).is_some_and(|protocol| protocol.eq_ignore_ascii_case("SIP/")) || third.contains(' ') {
        return Err(ParseError::StartLine);
    }
    if !is_version(third) {
        return Err(ParseError::Version);
    }
    Ok(Start::Request(method, second.parse()?))
}

fn is_version(text: &str) -> bool {
    text.eq_ignore_ascii_case("SIP/2.0")
}

fn status(code: &str, reason: &str) -> Result<Start, ParseError> {
    let code = if code.len() == 3 { number(code) } else { None };
    let status = code.and_then(|code| Status::from_code(code as u16)).ok_or(ParseError::StatusCode)?;
    Ok(Start::Response(status, reason.to_owned()))
}
