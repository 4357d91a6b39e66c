//! Writing messages.

use std::fmt::Write as _;

use super::{HeaderName, Headers, Request, Response};

impl Request {
    /// The message as it goes out.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(&format!("{} {} SIP/2.0", self.method, self.uri), &self.headers, &self.body)
    }
}

impl Response {
    /// The message as it goes out.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(&format!("SIP/2.0 {} {}", self.status.code(), self.reason), &self.headers, &self.body)
    }
}

fn write(start: &str, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(512);
    let line = |text: &mut String, name: &HeaderName, value: &str| {
        write!(text, "{name}: {value}\r\n").expect("a string takes everything");
    };
    text.push_str(start);
    text.push_str("\r\n");
    for (name, value) in headers.iter() {
        line(&mut text, name, value);
    }
    if headers.get(&HeaderName::ContentLength).is_none() {
        line(&mut text, &HeaderName::ContentLength, &body.len().to_string());
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
