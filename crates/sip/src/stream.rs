//! Messages out of a stream of bytes (RFC 3261 18.3, 7.5).

use crate::error::{ParseError, StreamFault};
use crate::limits::Limits;
use crate::message::{Head, Message, parse_head};

/// Cuts a stream into messages. It may be fed in pieces of any size.
///
/// Empty lines between messages are keep-alives and are skipped. A fault is final.
///
/// ```
/// use towline_sip::{Limits, Message, StreamParser};
///
/// let mut parser = StreamParser::new(Limits::default());
/// parser.push(b"\r\n\r\nSIP/2.0 200 OK\r\nContent-Len");
/// assert_eq!(parser.next_message()?, None);
/// parser.push(b"gth: 2\r\n\r\nhi");
/// let Some(Message::Response(response)) = parser.next_message()? else { panic!() };
/// assert_eq!((response.status.code(), &response.body[..]), (200, &b"hi"[..]));
/// # Ok::<(), towline_sip::StreamFault>(())
/// ```
#[derive(Debug)]
pub struct StreamParser {
    limits: Limits,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are used up.
    consumed: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Looking for the end of the headers; no end begins before this offset from `consumed`.
    Head {
        searched: usize,
    },
    /// Waiting for a body of this length.
    Body {
        message: Message,
        length: usize,
    },
    Failed(StreamFault),
}

impl StreamParser {
    /// At the start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self { limits, buffer: Vec::new(), consumed: 0, state: State::Head { searched: 0 } }
    }

    /// Takes what came. Ask [`next_message`](Self::next_message) until it returns `None` before the next push: what is
    /// not taken out is kept.
    pub fn push(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, or `None` if it is not yet there in full.
    pub fn next_message(&mut self) -> Result<Option<Message>, StreamFault> {
        let result = self.advance();
        if let Err(fault) = &result {
            self.state = State::Failed(fault.clone());
            self.buffer = Vec::new();
            self.consumed = 0;
        }
        result
    }

    /// To be called at the end of the stream: whether it ended between two messages.
    pub fn end(&self) -> Result<(), StreamFault> {
        match &self.state {
            State::Head { .. } if self.rest().iter().all(|byte| matches!(byte, b'\r' | b'\n')) => Ok(()),
            State::Head { .. } | State::Body { .. } => Err(StreamFault::Truncated),
            State::Failed(fault) => Err(fault.clone()),
        }
    }

    /// Bytes that are kept.
    pub fn held(&self) -> usize {
        let body = match &self.state {
            State::Body { message, .. } => message.headers().iter().map(|(_, value)| value.len()).sum(),
            _ => 0,
        };
        self.rest().len() + body
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.consumed..]
    }

    fn advance(&mut self) -> Result<Option<Message>, StreamFault> {
        loop {
            match &mut self.state {
                State::Failed(fault) => return Err(fault.clone()),
                State::Head { searched } => {
                    let mut searched = *searched;
                    if searched == 0 {
                        while self.rest().starts_with(b"\r\n") {
                            self.consumed += 2;
                        }
                    }
                    let rest = self.rest();
                    check_start(rest)?;
                    let found = rest[searched..].windows(4).position(|window| window == b"\r\n\r\n");
                    let length = found.map_or(rest.len(), |at| searched + at + 4);
                    if length > self.limits.head {
                        return Err(ParseError::HeadTooLong { max: self.limits.head }.into());
                    }
                    if found.is_none() {
                        searched = rest.len().saturating_sub(3);
                        self.state = State::Head { searched };
                        return Ok(None);
                    }
                    let Head { message, body } = parse_head(&rest[..length], &self.limits)?;
                    let total = body.saturating_add(length as u64);
                    if total > self.limits.message_in as u64 {
                        return Err(ParseError::TooLong { length: total, max: self.limits.message_in }.into());
                    }
                    self.consumed += length;
                    self.state = State::Body { message, length: body as usize };
                }
                State::Body { length, .. } => {
                    let length = *length;
                    if self.buffer.len() - self.consumed < length {
                        return Ok(None);
                    }
                    let state = std::mem::replace(&mut self.state, State::Head { searched: 0 });
                    let State::Body { mut message, .. } = state else {
                        unreachable!("it was a body a moment ago")
                    };
                    let body = self.rest()[..length].to_vec();
                    self.consumed += length;
                    match &mut message {
                        Message::Request(request) => request.body = body,
                        Message::Response(response) => response.body = body,
                    }
                    return Ok(Some(message));
                }
            }
        }
    }
}

/// Tells garbage at once, and not when the bound of the headers is reached: a start line begins with a token, or with
/// the protocol. What it says does not depend on how much is there already.
fn check_start(rest: &[u8]) -> Result<(), ParseError> {
    let first = rest.iter().take_while(|byte| **byte != b' ');
    let line = first.take(64).all(|byte| crate::text::is_token_byte(*byte) || *byte == b'/');
    // A single CR may be half an empty line.
    if line || rest == b"\r" { Ok(()) } else { Err(ParseError::StartLine) }
}
