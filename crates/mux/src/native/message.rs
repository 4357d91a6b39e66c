//! Messages of the control channel.
//!
//! Each is a msgpack array whose first element says what it is. Further elements than those known, further keys
//! of the settings and further messages are for later versions: they are skipped.

use rmp::encode::{write_array_len, write_bool, write_map_len, write_str, write_uint};

use crate::msgpack::{Malformed, Reader};
use crate::{Class, Code, Config, EARLY_MIN, PENDING_MIN, Priority, Reason};

/// Version of the native dialect.
pub(crate) const VERSION: u64 = 1;

/// No message of ours is longer, in bytes: an open with the longest name, or a reason with the longest text,
/// and their numbers.
pub(crate) const MAX_MESSAGE: usize = 3 + crate::MAX_NAME + 48;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Settings(Settings),
    Open { number: u16, name: Box<str>, window: u64, priority: Priority, early: bool },
    Accept { number: u16, window: u64 },
    Refuse { number: u16, reason: Reason },
    Window { number: u16, credit: u64 },
    Reset { number: u16, reason: Reason },
    Stop { number: u16, reason: Reason },
    Shrink { number: u16, credit: u64 },
    Shrunk { number: u16, credit: u64 },
    Ping { nonce: u64 },
    Pong { nonce: u64 },
    GoAway { reason: Reason },
}

/// What a peer says of itself first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) version: u64,
    pub(crate) early: u64,
    pub(crate) pending: u64,
}

impl Settings {
    pub(crate) fn of(config: &Config) -> Self {
        Self { version: VERSION, early: config.early_window, pending: config.max_pending as u64 }
    }

    /// What may be relied upon before the peer's settings have arrived.
    pub(crate) fn least() -> Self {
        Self { version: VERSION, early: EARLY_MIN, pending: PENDING_MIN as u64 }
    }
}

const SETTINGS: u64 = 0;
const OPEN: u64 = 1;
const ACCEPT: u64 = 2;
const REFUSE: u64 = 3;
const WINDOW: u64 = 4;
const RESET: u64 = 5;
const STOP: u64 = 6;
const SHRINK: u64 = 7;
const SHRUNK: u64 = 8;
const PING: u64 = 9;
const PONG: u64 = 10;
const GO_AWAY: u64 = 11;

impl Message {
    /// Appends the message to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.write(out).expect("writing into a Vec does not fail");
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), rmp::encode::ValueWriteError> {
        let mut uints = |values: &[u64]| {
            write_array_len(out, values.len() as u32)?;
            values.iter().try_for_each(|value| write_uint(out, *value).map(drop))
        };
        match self {
            Self::Window { number, credit } => uints(&[WINDOW, (*number).into(), *credit]),
            Self::Shrink { number, credit } => uints(&[SHRINK, (*number).into(), *credit]),
            Self::Shrunk { number, credit } => uints(&[SHRUNK, (*number).into(), *credit]),
            Self::Accept { number, window } => uints(&[ACCEPT, (*number).into(), *window]),
            Self::Ping { nonce } => uints(&[PING, *nonce]),
            Self::Pong { nonce } => uints(&[PONG, *nonce]),
            Self::Settings(settings) => {
                write_array_len(out, 2)?;
                write_uint(out, SETTINGS)?;
                write_map_len(out, 3)?;
                let pairs =
                    [("v", settings.version), ("early", settings.early), ("pending", settings.pending)];
                for (key, value) in pairs {
                    write_str(out, key)?;
                    write_uint(out, value)?;
                }
                Ok(())
            }
            Self::Open { number, name, window, priority, early } => {
                write_array_len(out, 7)?;
                write_uint(out, OPEN)?;
                write_uint(out, (*number).into())?;
                write_str(out, name)?;
                write_uint(out, *window)?;
                write_uint(out, priority.class as u64)?;
                write_uint(out, priority.weight.into())?;
                Ok(write_bool(out, *early).map_err(rmp::encode::ValueWriteError::InvalidMarkerWrite)?)
            }
            Self::Refuse { number, reason } => write_reasoned(out, REFUSE, *number, reason),
            Self::Reset { number, reason } => write_reasoned(out, RESET, *number, reason),
            Self::Stop { number, reason } => write_reasoned(out, STOP, *number, reason),
            Self::GoAway { reason } => {
                write_array_len(out, 3)?;
                write_uint(out, GO_AWAY)?;
                write_uint(out, u32::from(reason.code).into())?;
                write_str(out, &reason.text)
            }
        }
    }

    /// The next message; `None` if it is of a kind this version does not know.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let elements = reader.array()?.checked_sub(1).ok_or(Malformed)?;
        let kind = reader.uint()?;
        let known = match kind {
            OPEN => 6,
            REFUSE | RESET | STOP => 3,
            ACCEPT | WINDOW | SHRINK | SHRUNK | GO_AWAY => 2,
            SETTINGS | PING | PONG => 1,
            _ => {
                reader.skip(elements)?;
                return Ok(None);
            }
        };
        let further = elements.checked_sub(known).ok_or(Malformed)?;
        let message = match kind {
            SETTINGS => Self::Settings(read_settings(reader)?),
            OPEN => Self::Open {
                number: reader.u16()?,
                name: reader.str()?.into(),
                window: reader.uint()?,
                priority: read_priority(reader)?,
                early: reader.bool()?,
            },
            ACCEPT => Self::Accept { number: reader.u16()?, window: reader.uint()? },
            REFUSE => Self::Refuse { number: reader.u16()?, reason: read_reason(reader)? },
            WINDOW => Self::Window { number: reader.u16()?, credit: reader.uint()? },
            RESET => Self::Reset { number: reader.u16()?, reason: read_reason(reader)? },
            STOP => Self::Stop { number: reader.u16()?, reason: read_reason(reader)? },
            SHRINK => Self::Shrink { number: reader.u16()?, credit: reader.uint()? },
            SHRUNK => Self::Shrunk { number: reader.u16()?, credit: reader.uint()? },
            PING => Self::Ping { nonce: reader.uint()? },
            PONG => Self::Pong { nonce: reader.uint()? },
            _ => Self::GoAway { reason: read_reason(reader)? },
        };
        reader.skip(further)?;
        Ok(Some(message))
    }
}

fn write_reasoned(
    out: &mut Vec<u8>,
    kind: u64,
    number: u16,
    reason: &Reason,
) -> Result<(), rmp::encode::ValueWriteError> {
    write_array_len(out, 4)?;
    write_uint(out, kind)?;
    write_uint(out, number.into())?;
    write_uint(out, u32::from(reason.code).into())?;
    write_str(out, &reason.text)
}

fn read_reason(reader: &mut Reader<'_>) -> Result<Reason, Malformed> {
    let code = u32::try_from(reader.uint()?).map_err(|_| Malformed)?;
    Ok(Reason::new(Code::from(code), reader.str()?))
}

fn read_priority(reader: &mut Reader<'_>) -> Result<Priority, Malformed> {
    let class = match reader.uint()? {
        0 => Class::Urgent,
        1 => Class::Normal,
        // Classes of later versions can only be less urgent.
        _ => Class::Background,
    };
    Ok(Priority { class, weight: reader.uint()?.clamp(1, 255) as u8 })
}

fn read_settings(reader: &mut Reader<'_>) -> Result<Settings, Malformed> {
    let mut settings = Settings { version: 0, ..Settings::least() };
    for _ in 0..reader.map()? {
        let field = match reader.bytes()? {
            b"v" => &mut settings.version,
            b"early" => &mut settings.early,
            b"pending" => &mut settings.pending,
            _ => {
                reader.skip(1)?;
                continue;
            }
        };
        *field = reader.uint()?;
    }
    if settings.early < EARLY_MIN || settings.pending < PENDING_MIN as u64 {
        return Err(Malformed);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::header;

    fn examples() -> Vec<(String, Vec<u8>)> {
        let readme = include_str!("../../README.md");
        let rows = readme.split("### Examples").nth(1).unwrap().lines().filter(|line| line.contains('`'));
        rows.map(|row| {
            let mut cells = row.split('|').skip(1).map(str::trim);
            let meaning = cells.next().unwrap().to_owned();
            (meaning, hex::decode(cells.next().unwrap().replace(['`', ' '], "")).unwrap())
        })
        .collect()
    }

    #[test]
    fn the_examples_of_the_readme() {
        let reason = |code: u32, text| Reason::new(Code::from(code), text);
        let messages = [
            Message::Settings(Settings::of(&Config::default())),
            Message::Open {
                number: 1,
                name: "sip".into(),
                window: 256 << 10,
                priority: Priority::default(),
                early: false,
            },
            Message::Accept { number: 1, window: 256 << 10 },
            Message::Refuse { number: 1, reason: reason(1, "busy") },
            Message::Window { number: 0x8000, credit: 128 << 10 },
            Message::Reset { number: 1, reason: reason(6, "") },
            Message::Stop { number: 1, reason: reason(256, "") },
            Message::Shrink { number: 1, credit: 4096 },
            Message::Shrunk { number: 1, credit: 4096 },
            Message::Ping { nonce: 7 },
            Message::Pong { nonce: 7 },
            Message::GoAway { reason: reason(5, "restart") },
        ];
        let examples = examples();
        assert_eq!(examples.len(), messages.len() + 2, "and two without a message");
        for ((meaning, frame), message) in examples.iter().zip(&messages) {
            let mut body = Vec::new();
            message.encode(&mut body);
            let head = header(0, body.len() as u16);
            assert_eq!(hex::encode([&head[..], &body].concat()), hex::encode(frame), "{meaning}");
            assert_eq!(Message::decode(&mut Reader::new(&body)), Ok(Some(message.clone())), "{meaning}");
        }
    }

    #[test]
    fn what_a_later_version_adds_is_skipped() {
        for hex in ["93090705", "92fa", "9220c0", "920084a17601a178c0a17992c0c0a56561726c79cd5000"] {
            let bytes = hex::decode(hex).unwrap();
            let mut reader = Reader::new(&bytes);
            let decoded = Message::decode(&mut reader);
            match hex {
                "93090705" => assert_eq!(decoded, Ok(Some(Message::Ping { nonce: 7 }))),
                "9220c0" => assert_eq!(decoded, Ok(None)),
                "92fa" => assert_eq!(decoded, Err(Malformed)),
                _ => {
                    let settings = Settings { version: 1, early: 0x5000, pending: 64 };
                    assert_eq!(decoded, Ok(Some(Message::Settings(settings))));
                }
            }
        }
    }

    #[test]
    fn the_longest_messages_fit() {
        let reason = Reason::new(Code::Application(u32::MAX), &"x".repeat(300));
        let name: Box<str> = "x".repeat(crate::MAX_NAME).into();
        let priority = Priority::default();
        for message in [
            Message::Open { number: 0xfffe, name, window: u64::MAX, priority, early: true },
            Message::Reset { number: 0xfffe, reason },
        ] {
            let mut body = Vec::new();
            message.encode(&mut body);
            assert!(body.len() <= MAX_MESSAGE);
        }
    }
}
