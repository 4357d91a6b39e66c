//! What two Towlines tell each other about channels beside what the transport says: on a channel without a name, which the
//! initiator opens first of all.
//!
//! A row of messages: kind (1 byte), length of the body (2 bytes), body. Integers are big-endian; unknown kinds are skipped.
//!
//! | kind | message | body |
//! | --- | --- | --- |
//! | 1 | PING | 8 bytes of the asker's choice |
//! | 2 | PONG | those bytes |
//! | 3 | GO_AWAY: no more requests will be taken | code (4 bytes), text |
//! | 4 | LAST: after GO_AWAY, the recipient knows of every channel that the sender opened | empty |
//! | 5 | REASON: text of a reset or stop whose code announces one | number of the channel (4 bytes), text |
//! | 6 | RESTART: the sender has new credentials in ICE, and candidates follow (`moves.rs`) | round (4 bytes), user name fragment, a space, password |
//! | 7 | CANDIDATES of the sender, at most one in a message | the text of [`towline_ice::Trickle`] |
//! | 8 | UDP_FIRST: data shall go by datagrams wherever they work, in both directions (`path/kind.rs`) | empty |

use towline_ice::{Credentials, Trickle};
use towline_mux::{Code, MAX_REASON_TEXT, Reason};

/// Bytes that wait to be sent beyond which answers and texts are left out.
const MAX_QUEUED: usize = 64 * 1024;
/// Longest body that is taken.
const MAX_BODY: usize = MAX_REASON_TEXT + 64;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Ping(u64),
    Pong(u64),
    GoAway(Reason),
    Last,
    Reason { channel: u32, text: Box<str> },
    Restart { round: u32, credentials: Credentials },
    Candidates(Trickle),
    UdpFirst,
}

/// The peer said something that is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Both directions of the channel.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// What is to be written.
    output: Vec<u8>,
    /// What was read and is no whole message yet.
    input: Vec<u8>,
}

impl Control {
    /// Queues a message. False if there is no room for one that can be left out.
    pub(super) fn say(&mut self, message: &Message) -> bool {
        let optional = !matches!(message, Message::GoAway(_) | Message::Last);
        if optional && self.output.len() > MAX_QUEUED {
            return false;
        }
        let mut put = |kind: u8, parts: &[&[u8]]| {
            let len: usize = parts.iter().map(|part| part.len()).sum();
            self.output.push(kind);
            self.output.extend_from_slice(&(len as u16).to_be_bytes());
            for part in parts {
                self.output.extend_from_slice(part);
            }
        };
        match message {
            Message::Ping(id) => put(1, &[&id.to_be_bytes()]),
            Message::Pong(id) => put(2, &[&id.to_be_bytes()]),
            Message::GoAway(reason) => {
                put(3, &[&u32::from(reason.code).to_be_bytes(), reason.text.as_bytes()]);
            }
            Message::Last => put(4, &[]),
            Message::Reason { channel, text } => put(5, &[&channel.to_be_bytes(), text.as_bytes()]),
            Message::Restart { round, credentials } => {
                let (ufrag, password) = (credentials.ufrag().as_bytes(), credentials.password().as_bytes());
                put(6, &[&round.to_be_bytes(), ufrag, b" ", password]);
            }
            Message::Candidates(trickle) => put(7, &[trickle.to_text().as_bytes()]),
            Message::UdpFirst => put(8, &[]),
        }
        true
    }

    /// What is to be written to the channel.
    pub(super) fn output(&self) -> &[u8] {
        &self.output
    }

    /// That much of it was.
    pub(super) fn written(&mut self, bytes: usize) {
        self.output.drain(..bytes);
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }

    /// Takes what was read from the channel.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next message that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Malformed> {
        loop {
            let Some(&[kind, high, low]) = self.input.first_chunk() else { return Ok(None) };
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len > MAX_BODY {
                return Err(Malformed);
            }
            let Some(body) = self.input.get(3..3 + len) else { return Ok(None) };
            let message = parse(kind, body);
            self.input.drain(..3 + len);
            if let Some(message) = message? {
                return Ok(Some(message));
            }
        }
    }
}

fn parse(kind: u8, body: &[u8]) -> Result<Option<Message>, Malformed> {
    let number = || body.try_into().map(u64::from_be_bytes).map_err(|_| Malformed);
    let numbered_text = || {
        let (number, text) = body.split_first_chunk().ok_or(Malformed)?;
        let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
        Ok((u32::from_be_bytes(*number), text))
    };
    Ok(Some(match kind {
        1 => Message::Ping(number()?),
        2 => Message::Pong(number()?),
        3 => {
            let (code, text) = numbered_text()?;
            Message::GoAway(Reason::new(Code::from(code), text))
        }
        4 => Message::Last,
        5 => {
            let (channel, text) = numbered_text()?;
            Message::Reason { channel, text: text.into() }
        }
        6 => {
            let (round, text) = numbered_text()?;
            let (ufrag, password) = text.split_once(' ').ok_or(Malformed)?;
            let credentials = Credentials::parse(ufrag, password).map_err(|_| Malformed)?;
            Message::Restart { round, credentials }
        }
        7 => Message::Candidates(Trickle::from_text(body).map_err(|_| Malformed)?),
        8 => Message::UdpFirst,
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Message> {
        vec![
            Message::Ping(7),
            Message::Pong(u64::MAX),
            Message::GoAway(Reason::new(Code::GoingAway, "tomorrow is another day")),
            Message::Last,
            Message::Reason { channel: 9, text: "é".repeat(128).into() },
            Message::Restart { round: 70_000, credentials: Credentials::parse("frag", "secret").unwrap() },
            Message::Candidates(Trickle { ufrag: "frag".into(), candidates: Vec::new(), end: true }),
            Message::UdpFirst,
        ]
    }

    #[test]
    fn messages_survive_any_cut() {
        let mut said = Control::default();
        assert!(all().iter().all(|message| said.say(message)));
        for step in 1..40 {
            let (mut heard, mut messages) = (Control::default(), Vec::new());
            for piece in said.output().chunks(step) {
                heard.take(piece);
                while let Some(message) = heard.next().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, all());
        }
    }

    #[test]
    fn what_is_unknown_is_skipped_and_what_is_malformed_is_not() {
        let read = |bytes: &[u8]| {
            let mut control = Control::default();
            control.take(bytes);
            control.next()
        };
        assert_eq!(read(&[99, 0, 1, 5, 4, 0, 0]), Ok(Some(Message::Last)));
        assert_eq!(read(&[1, 0, 1, 5]), Err(Malformed));
        assert_eq!(read(&[3, 0, 5, 0, 0, 0, 1, 0xff]), Err(Malformed));
        assert_eq!(read(&[3, 0xff, 0xff]), Err(Malformed));
    }

    #[test]
    fn a_peer_that_does_not_read_does_not_make_us_queue() {
        let mut control = Control::default();
        while control.say(&Message::Pong(1)) {}
        assert!(control.output().len() < MAX_QUEUED + 2 * MAX_BODY);
        assert!(control.say(&Message::Last), "what matters is said all the same");
    }
}
