//! The messages around the bytes of a file: msgpack maps behind a length of 16 bits, big endian.
//!
//! Unknown keys are skipped, so that later versions can say more.

use std::io;

use rmpv::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The version of this protocol.
const VERSION: u64 = 1;
/// Longest message, in bytes.
pub(super) const LONGEST_MESSAGE: usize = 8 * 1024;
/// Longest name and longest error text, in bytes.
const LONGEST_TEXT: usize = 1024;
/// Deeper nesting is refused while parsing.
const DEEPEST: usize = 8;

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// It is longer than messages are.
    #[error("a message of {0} bytes, the longest allowed has {LONGEST_MESSAGE}")]
    TooLong(usize),
    /// It is no msgpack map.
    #[error("a message is not a msgpack map")]
    NotAMap,
    /// A field is missing or of a wrong type or length.
    #[error("the field \"{0}\" is missing or wrong")]
    Field(&'static str),
    /// It is of another version.
    #[error("version {0} of the file protocol, this program speaks version {VERSION}")]
    Version(u64),
}

/// What the sender says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the file.
    pub(super) size: u64,
    /// Its name; free text.
    pub(super) name: String,
    /// When it was last changed, in seconds since the Unix epoch.
    pub(super) modified: Option<i64>,
}

/// What the receiver says: once before the bytes, once after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// `Err` with a text for people.
    pub(super) result: Result<(), String>,
    /// Bytes of the file that it has.
    pub(super) bytes: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = vec![
            ("v", Value::from(VERSION)),
            ("size", Value::from(self.size)),
            ("name", Value::from(shortened(&self.name))),
        ];
        fields.extend(self.modified.map(|time| ("mtime", Value::from(time))));
        encode(fields)
    }

    pub(super) fn decode(message: &[u8]) -> Result<Self, WireError> {
        let fields = Fields::parse(message)?;
        match fields.get("v").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => return Err(WireError::Version(other)),
            None => return Err(WireError::Field("v")),
        }
        let name = fields.text("name")?.ok_or(WireError::Field("name"))?;
        let size = fields.get("size").and_then(Value::as_u64).ok_or(WireError::Field("size"))?;
        let modified = match fields.get("mtime") {
            Some(time) => Some(time.as_i64().ok_or(WireError::Field("mtime"))?),
            None => None,
        };
        Ok(Self { size, name, modified })
    }
}

impl Answer {
    /// All is well so far.
    pub(super) fn good(bytes: u64) -> Self {
        Self { result: Ok(()), bytes }
    }

    /// It ends here.
    pub(super) fn bad(error: &(impl ToString + ?Sized), bytes: u64) -> Self {
        Self { result: Err(error.to_string()), bytes }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = vec![("ok", Value::from(self.result.is_ok())), ("bytes", Value::from(self.bytes))];
        if let Err(error) = &self.result {
            fields.push(("error", Value::from(shortened(error))));
        }
        encode(fields)
    }

    pub(super) fn decode(message: &[u8]) -> Result<Self, WireError> {
        let fields = Fields::parse(message)?;
        let ok = fields.get("ok").and_then(Value::as_bool).ok_or(WireError::Field("ok"))?;
        let bytes = fields.get("bytes").and_then(Value::as_u64).ok_or(WireError::Field("bytes"))?;
        let error = fields.text("error")?;
        Ok(Self { result: if ok { Ok(()) } else { Err(error.unwrap_or_default()) }, bytes })
    }
}

/// Cuts text to the longest that is accepted.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

fn encode(fields: Vec<(&'static str, Value)>) -> Vec<u8> {
    let map = Value::Map(fields.into_iter().map(|(key, value)| (Value::from(key), value)).collect());
    let mut body = Vec::new();
    rmpv::encode::write_value(&mut body, &map).expect("writing to memory never fails");
    let length = u16::try_from(body.len()).expect("texts are shortened");
    let mut message = length.to_be_bytes().to_vec();
    message.append(&mut body);
    message
}

struct Fields(Vec<(Value, Value)>);

impl Fields {
    fn parse(mut message: &[u8]) -> Result<Self, WireError> {
        let parsed = rmpv::decode::read_value_with_max_depth(&mut message, DEEPEST);
        match parsed {
            Ok(Value::Map(fields)) if message.is_empty() => Ok(Self(fields)),
            _ => Err(WireError::NotAMap),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, WireError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = value.as_str().filter(|text| text.len() <= LONGEST_TEXT).ok_or(WireError::Field(key))?;
        Ok(Some(text.to_owned()))
    }
}

/// Reads one message; the inner error is that of a message that is too long.
pub(super) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Vec<u8>, WireError>> {
    let length = usize::from(reader.read_u16().await?);
    if length > LONGEST_MESSAGE {
        return Ok(Err(WireError::TooLong(length)));
    }
    let mut message = vec![0; length];
    reader.read_exact(&mut message).await?;
    Ok(Ok(message))
}

/// Writes one message, made by `encode`.
pub(super) async fn write(writer: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    writer.write_all(message).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(message: &[u8]) -> &[u8] {
        assert_eq!(usize::from(u16::from_be_bytes([message[0], message[1]])), message.len() - 2);
        &message[2..]
    }

    #[test]
    fn headers_survive() {
        for modified in [None, Some(0), Some(-5), Some(1_790_000_000)] {
            let header = Header { size: u64::MAX, name: "né.txt".to_owned(), modified };
            assert_eq!(Header::decode(body(&header.encode())), Ok(header));
        }
    }

    #[test]
    fn answers_survive() {
        for answer in [Answer::good(7), Answer::bad("disk full", 3)] {
            assert_eq!(Answer::decode(body(&answer.encode())), Ok(answer));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_readme() {
        let header = Header { size: 5, name: "a".to_owned(), modified: None };
        assert_eq!(header.encode(), b"\x00\x11\x83\xa1v\x01\xa4size\x05\xa4name\xa1a");
        assert_eq!(Answer::good(5).encode(), b"\x00\x0c\x82\xa2ok\xc3\xa5bytes\x05");
    }

    #[test]
    fn hostile_messages_are_refused_by_name() {
        let header = |fields: Vec<(&'static str, Value)>| Header::decode(body(&encode(fields)));
        assert_eq!(Header::decode(b""), Err(WireError::NotAMap));
        assert_eq!(Header::decode(b"\xc1"), Err(WireError::NotAMap));
        assert_eq!(Header::decode(b"\xdf\xff\xff\xff\xff"), Err(WireError::NotAMap));
        assert_eq!(Header::decode(&[0x91; 8000]), Err(WireError::NotAMap));
        assert_eq!(header(vec![]), Err(WireError::Field("v")));
        assert_eq!(header(vec![("v", 2.into())]), Err(WireError::Version(2)));
        assert_eq!(header(vec![("v", 1.into()), ("size", 1.into())]), Err(WireError::Field("name")));
        let long = "x".repeat(LONGEST_TEXT + 1);
        let fields = vec![("v", 1.into()), ("size", 1.into()), ("name", long.into())];
        assert_eq!(header(fields), Err(WireError::Field("name")));
        let fields = vec![("v", 1.into()), ("size", (-1).into()), ("name", "x".into())];
        assert_eq!(header(fields), Err(WireError::Field("size")));
        let fields = vec![("v", 1.into()), ("size", 1.into()), ("name", "x".into()), ("later", Value::Nil)];
        assert!(header(fields).is_ok(), "unknown fields are skipped");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let error = "é".repeat(LONGEST_TEXT);
        let answer = Answer::decode(body(&Answer::bad(&error, 0).encode())).unwrap();
        assert_eq!(answer.result.unwrap_err().len(), LONGEST_TEXT);
    }
}
