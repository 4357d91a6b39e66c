//! The connection request and its answer: the body of the DHT value two devices exchange before they are
//! connected. Spec: `connection.md` 3.1.
//!
//! The four keys of the original are written first and in its order. Towline adds a fifth, `tl`, a small map that
//! readers of the original skip: it tells the other side that we are a Towline, and carries a refusal, which the
//! original can only express by silence.

use rmp::decode::{self, RmpRead as _};
use rmp::encode;
use thiserror::Error;
use towline_ice::punch::Party;

/// The `user_type` of the DHT value.
pub const USER_TYPE: &str = "peer_request";

/// Ids are drawn from `1..=MAX_ID` (2^53, what a double holds exactly).
pub const MAX_ID: u64 = 1 << 53;

/// Longest `ice_msg` accepted, in bytes: 31 candidates of at most 200 bytes and the credentials.
pub(super) const MAX_ICE_MESSAGE: usize = 16 * 1024;
/// Longest `connType` and longest unknown key accepted, in bytes.
pub(super) const MAX_TEXT: usize = 1024;
/// Longest description of a NAT that is looked at, in bytes. None has more than 70.
const MAX_PARTY: usize = 128;
/// Entries of the outer map; the original has four.
pub(super) const MAX_ENTRIES: u32 = 32;
/// Version of the Towline extension.
const EXTENSION_VERSION: u64 = 1;
/// Versions of the channeler transport that are read from a peer.
const MAX_VERSIONS: u32 = 32;

/// A connection request, or the answer to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRequest {
    /// Names the attempt; the answer repeats it. Also the id of the connection that comes of it.
    pub id: u64,
    /// The sender's ICE description as text (`connection.md` 4.1). Empty in a refusal.
    pub ice_message: String,
    /// Answer to a request of the recipient.
    pub is_answer: bool,
    /// What the connection is wanted for; free text, visible to the recipient only. Empty in answers.
    pub connection_type: String,
    /// Present when the sender is a Towline.
    pub extension: Option<Extension>,
}

/// What only Towlines tell each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension {
    /// In an answer: the request is refused, and why.
    pub refused: Option<RefusalReason>,
    /// The sender speaks the channeler transport, in a version that we do, too. If both sides say so, the connection runs
    /// on it, and on TLS otherwise.
    pub channeler: Option<StaticKey>,
    /// The sender's candidates beside those of [`PeerRequest::ice_message`] and in the same form, for connections on that
    /// transport: those of UDP, and those that the sender has from others. Jami peers see the host's own of TCP only.
    pub datagrams: Option<String>,
    /// More candidates may come, as values of their own.
    pub more: bool,
    /// What the sender's wall clock shows, in seconds since 1970: where the two differ much, one of them is wrong.
    pub clock: Option<u64>,
    /// The NAT that the sender is behind, if it knows that already.
    pub party: Option<Party>,
}

/// The public half of the key by which the sender is known in the channeler transport. The request is signed by the device
/// and encrypted to the recipient, so it is the device's word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StaticKey(pub [u8; 32]);

impl std::fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a connection request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The device's policy does not admit us.
    NotAllowed,
    /// The device has no room for another connection now.
    Busy,
    /// The device could not parse our candidates or had none of its own.
    NoCandidates,
    /// A certificate of ours is revoked.
    Revoked,
    /// A reason this version does not know.
    Other(u8),
}

impl RefusalReason {
    fn code(self) -> u8 {
        match self {
            Self::NotAllowed => 1,
            Self::Busy => 2,
            Self::NoCandidates => 3,
            Self::Revoked => 4,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::NotAllowed,
            2 => Self::Busy,
            3 => Self::NoCandidates,
            4 => Self::Revoked,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("its policy does not admit this device"),
            Self::Busy => f.write_str("it has no room for another connection"),
            Self::NoCandidates => f.write_str("it found no usable address in the request"),
            Self::Revoked => f.write_str("it knows that a certificate of this device is revoked"),
            Self::Other(code) => write!(f, "reason {code}"),
        }
    }
}

/// Why bytes are not a connection request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Not the msgpack map of `connection.md` 3.1.
    #[error("not a msgpack map of at most {MAX_ENTRIES} entries")]
    NotAMap,
    /// A known key holds another type, or the bytes end early.
    #[error("the value of `{0}` is malformed")]
    BadField(&'static str),
    /// An unknown entry could not be skipped.
    #[error("an unknown entry is malformed")]
    BadUnknown,
    /// A key of the original is missing.
    #[error("the key `{0}` is missing")]
    Missing(&'static str),
    /// The id is zero or above 2^53.
    #[error("the id is outside 1..=2^53")]
    IdRange,
}

impl PeerRequest {
    /// The msgpack bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.ice_message.len());
        let buf = &mut out;
        let infallible = "writing to a vector does not fail";
        encode::write_map_len(buf, 4 + u32::from(self.extension.is_some())).expect(infallible);
        encode::write_str(buf, "id").expect(infallible);
        encode::write_uint(buf, self.id).expect(infallible);
        encode::write_str(buf, "ice_msg").expect(infallible);
        encode::write_str(buf, &self.ice_message).expect(infallible);
        encode::write_str(buf, "isAnswer").expect(infallible);
        encode::write_bool(buf, self.is_answer).expect(infallible);
        encode::write_str(buf, "connType").expect(infallible);
        encode::write_str(buf, &self.connection_type).expect(infallible);
        if let Some(extension) = &self.extension {
            encode::write_str(buf, "tl").expect(infallible);
            let entries = 1
                + u32::from(extension.refused.is_some())
                + 2 * u32::from(extension.channeler.is_some())
                + u32::from(extension.datagrams.is_some())
                + u32::from(extension.more)
                + u32::from(extension.clock.is_some())
                + u32::from(extension.party.is_some());
            encode::write_map_len(buf, entries).expect(infallible);
            encode::write_str(buf, "v").expect(infallible);
            encode::write_uint(buf, EXTENSION_VERSION).expect(infallible);
            if let Some(reason) = extension.refused {
                encode::write_str(buf, "no").expect(infallible);
                encode::write_uint(buf, reason.code().into()).expect(infallible);
            }
            if let Some(key) = extension.channeler {
                encode::write_str(buf, "ch").expect(infallible);
                encode::write_array_len(buf, 1).expect(infallible);
                encode::write_uint(buf, u64::from(towline_channeler::VERSION)).expect(infallible);
                encode::write_str(buf, "key").expect(infallible);
                encode::write_bin(buf, &key.0).expect(infallible);
            }
            if let Some(datagrams) = &extension.datagrams {
                encode::write_str(buf, "udp").expect(infallible);
                encode::write_str(buf, datagrams).expect(infallible);
            }
            if extension.more {
                encode::write_str(buf, "more").expect(infallible);
                encode::write_bool(buf, true).expect(infallible);
            }
            if let Some(clock) = extension.clock {
                encode::write_str(buf, "clock").expect(infallible);
                encode::write_uint(buf, clock).expect(infallible);
            }
            if let Some(party) = extension.party {
                encode::write_str(buf, "nat").expect(infallible);
                encode::write_str(buf, &party.to_string()).expect(infallible);
            }
        }
        out
    }

    /// Reads a request. Keys may come in any order and unknown ones are skipped; sizes are bounded.
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let mut reader = bytes;
        let entries = decode::read_map_len(&mut reader).map_err(|_| RequestError::NotAMap)?;
        if entries > MAX_ENTRIES {
            return Err(RequestError::NotAMap);
        }
        let (mut id, mut ice_message, mut is_answer, mut connection_type, mut extension) =
            (None, None, None, None, None);
        for _ in 0..entries {
            let key = read_text(&mut reader, MAX_TEXT).ok_or(RequestError::BadUnknown)?;
            match key {
                "id" => id = Some(read_uint(&mut reader, "id")?),
                "ice_msg" => {
                    let text = read_text(&mut reader, MAX_ICE_MESSAGE);
                    ice_message = Some(text.ok_or(RequestError::BadField("ice_msg"))?.to_owned());
                }
                "isAnswer" => {
                    let flag = decode::read_bool(&mut reader);
                    is_answer = Some(flag.map_err(|_| RequestError::BadField("isAnswer"))?);
                }
                "connType" => {
                    let text = read_text(&mut reader, MAX_TEXT);
                    connection_type = Some(text.ok_or(RequestError::BadField("connType"))?.to_owned());
                }
                "tl" => extension = Some(read_extension(&mut reader)?),
                _ => skip_value(&mut reader, 0).ok_or(RequestError::BadUnknown)?,
            }
        }
        let id = id.ok_or(RequestError::Missing("id"))?;
        if !(1..=MAX_ID).contains(&id) {
            return Err(RequestError::IdRange);
        }
        Ok(Self {
            id,
            ice_message: ice_message.ok_or(RequestError::Missing("ice_msg"))?,
            is_answer: is_answer.ok_or(RequestError::Missing("isAnswer"))?,
            // Absent before the field was introduced.
            connection_type: connection_type.unwrap_or_default(),
            extension,
        })
    }
}

fn read_extension(reader: &mut &[u8]) -> Result<Extension, RequestError> {
    let bad = RequestError::BadField("tl");
    let entries = decode::read_map_len(reader).map_err(|_| bad)?;
    if entries > MAX_ENTRIES {
        return Err(bad);
    }
    let mut extension = Extension::default();
    let (mut speaks, mut key) = (false, None);
    for _ in 0..entries {
        match read_text(reader, MAX_TEXT).ok_or(bad)? {
            "no" => {
                let code = u8::try_from(read_uint(reader, "tl")?).map_err(|_| bad)?;
                extension.refused = Some(RefusalReason::from_code(code));
            }
            "ch" => {
                let versions = decode::read_array_len(reader).map_err(|_| bad)?;
                if versions > MAX_VERSIONS {
                    return Err(bad);
                }
                for _ in 0..versions {
                    speaks |= read_uint(reader, "tl")? == u64::from(towline_channeler::VERSION);
                }
            }
            "udp" => extension.datagrams = Some(read_text(reader, MAX_ICE_MESSAGE).ok_or(bad)?.to_owned()),
            "nat" => read_party(reader, &mut extension.party).ok_or(bad)?,
            "more" => extension.more = decode::read_bool(reader).map_err(|_| bad)?,
            "clock" => extension.clock = Some(read_uint(reader, "tl")?),
            "key" => {
                let len = decode::read_bin_len(reader).map_err(|_| bad)? as usize;
                let bytes = take(reader, len).ok_or(bad)?;
                // Keys of another length belong to other versions.
                key = bytes.try_into().ok().map(StaticKey);
            }
            _ => skip_value(reader, 0).ok_or(bad)?,
        }
    }
    extension.channeler = key.filter(|_| speaks);
    Ok(extension)
}

pub(super) fn read_uint(reader: &mut &[u8], field: &'static str) -> Result<u64, RequestError> {
    decode::read_int(reader).map_err(|_| RequestError::BadField(field))
}

/// Reads the description of a NAT; nothing comes of it if it is of a kind that this version does not know.
pub(super) fn read_party(reader: &mut &[u8], party: &mut Option<Party>) -> Option<()> {
    let text = read_text(reader, MAX_TEXT)?;
    *party = if text.len() <= MAX_PARTY { text.parse().ok() } else { None };
    Some(())
}

fn take<'a>(reader: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = reader.split_at_checked(len)?;
    *reader = tail;
    Some(head)
}

pub(super) fn read_text<'a>(reader: &mut &'a [u8], max: usize) -> Option<&'a str> {
    let len = decode::read_str_len(reader).ok()? as usize;
    if len > max {
        return None;
    }
    std::str::from_utf8(take(reader, len)?).ok()
}

/// Skips one msgpack object of any shape, nested at most eight deep.
pub(super) fn skip_value(reader: &mut &[u8], depth: u8) -> Option<()> {
    use rmp::Marker;
    if depth > 8 {
        return None;
    }
    let marker = decode::read_marker(reader).ok()?;
    let mut length = |bytes: usize| -> Option<usize> {
        let mut len = 0usize;
        for _ in 0..bytes {
            len = (len << 8) | usize::from(reader.read_u8().ok()?);
        }
        Some(len)
    };
    let (skip, items) = match marker {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
        Marker::U8 | Marker::I8 => (1, 0),
        Marker::U16 | Marker::I16 | Marker::FixExt1 => (2, 0),
        Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
        Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
        Marker::FixStr(n) => (usize::from(n), 0),
        Marker::Str8 | Marker::Bin8 => (length(1)?, 0),
        Marker::Str16 | Marker::Bin16 => (length(2)?, 0),
        Marker::Str32 | Marker::Bin32 => (length(4)?, 0),
        Marker::FixExt2 => (3, 0),
        Marker::FixExt4 => (5, 0),
        Marker::FixExt8 => (9, 0),
        Marker::FixExt16 => (17, 0),
        Marker::Ext8 => (length(1)? + 1, 0),
        Marker::Ext16 => (length(2)? + 1, 0),
        Marker::Ext32 => (length(4)? + 1, 0),
        Marker::FixArray(n) => (0, usize::from(n)),
        Marker::Array16 => (0, length(2)?),
        Marker::Array32 => (0, length(4)?),
        Marker::FixMap(n) => (0, usize::from(n) * 2),
        Marker::Map16 => (0, length(2)? * 2),
        Marker::Map32 => (0, length(4)? * 2),
        Marker::Reserved => return None,
    };
    take(reader, skip)?;
    // Each item takes at least one byte, so a claimed count beyond the rest cannot be honest.
    if items > reader.len() {
        return None;
    }
    for _ in 0..items {
        skip_value(reader, depth + 1)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> PeerRequest {
        PeerRequest {
            id: 1_234_567_890_123_456,
            ice_message: format!(
                "13e86381\n{}\nHa4d0003 1 TCP 2130706431 10.77.0.3 10001 typ host tcptype passive\n",
                "a".repeat(24)
            ),
            is_answer: false,
            connection_type: String::new(),
            extension: None,
        }
    }

    #[test]
    fn worked_example_of_the_specification() {
        // `connection.md` 3.1: 144 bytes.
        let mut expected = hex::decode("84a26964cf000462d53c8abac0a76963655f6d7367d965").unwrap();
        expected.extend_from_slice(original().ice_message.as_bytes());
        expected.extend_from_slice(&hex::decode("a86973416e73776572c2a8636f6e6e54797065a0").unwrap());
        let bytes = original().encode();
        assert_eq!(bytes.len(), 144);
        assert_eq!(bytes, expected);
        assert_eq!(PeerRequest::decode(&bytes), Ok(original()));
    }

    #[test]
    fn refusal_travels_in_the_extension() {
        let refusal = PeerRequest {
            ice_message: String::new(),
            is_answer: true,
            extension: Some(Extension { refused: Some(RefusalReason::Revoked), ..Extension::default() }),
            ..original()
        };
        assert_eq!(PeerRequest::decode(&refusal.encode()), Ok(refusal));
    }

    #[test]
    fn the_key_of_the_transport_travels_in_the_extension() {
        let key = StaticKey([7; 32]);
        let speaks = PeerRequest {
            extension: Some(Extension { channeler: Some(key), ..Extension::default() }),
            ..original()
        };
        let bytes = speaks.encode();
        assert_eq!(PeerRequest::decode(&bytes), Ok(speaks.clone()));
        // A version that we do not speak is no offer, whatever else is said.
        let other = bytes.len() - 32 - 2 - 4 - 1;
        assert_eq!(u16::from(bytes[other]), towline_channeler::VERSION);
        let mut strange = bytes.clone();
        strange[other] = 99;
        let plain = PeerRequest { extension: Some(Extension::default()), ..original() };
        assert_eq!(PeerRequest::decode(&strange), Ok(plain));
        for end in 0..bytes.len() {
            assert!(PeerRequest::decode(&bytes[..end]).is_err(), "accepted {end} bytes");
        }
        let datagrams = Some("candidates".to_owned());
        let clock = Some(1_800_000_000);
        let party = "by-port-sequential:2 [2001:db8::1]:7".parse().ok();
        let extension = Extension { datagrams, more: true, clock, party, ..speaks.extension.unwrap() };
        let more = PeerRequest { extension: Some(extension), ..original() };
        assert_eq!(PeerRequest::decode(&more.encode()), Ok(more));
    }

    #[test]
    fn a_nat_of_an_unknown_kind_is_passed_over() {
        let party = "open 198.51.100.1:7".parse().ok();
        let told = PeerRequest { extension: Some(Extension { party, ..Extension::default() }), ..original() };
        let mut bytes = told.encode();
        let at = bytes.len() - "open 198.51.100.1:7".len();
        bytes[at..at + 4].copy_from_slice(b"odd!");
        let silent = PeerRequest { extension: Some(Extension::default()), ..original() };
        assert_eq!(PeerRequest::decode(&bytes), Ok(silent));
    }

    #[test]
    fn unknown_entries_are_skipped_and_order_is_free() {
        let mut bytes = vec![0x85];
        for part in ["a8636f6e6e54797065a0", "a27a7a9281a1610193c0c3ca00000000", "a86973416e73776572c3"] {
            bytes.extend_from_slice(&hex::decode(part).unwrap());
        }
        bytes.extend_from_slice(&hex::decode("a2696407a76963655f6d7367a0").unwrap());
        let request = PeerRequest::decode(&bytes).unwrap();
        assert_eq!((request.id, request.is_answer), (7, true));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = original().encode();
        for end in 0..bytes.len() {
            assert!(PeerRequest::decode(&bytes[..end]).is_err(), "accepted {end} bytes");
        }
    }

    #[test]
    fn rules_are_named() {
        let mut request = original();
        request.id = 0;
        assert_eq!(PeerRequest::decode(&request.encode()), Err(RequestError::IdRange));
        request.id = MAX_ID + 1;
        assert_eq!(PeerRequest::decode(&request.encode()), Err(RequestError::IdRange));
        assert_eq!(PeerRequest::decode(&[0x80]), Err(RequestError::Missing("id")));
        assert_eq!(PeerRequest::decode(&[0xdf, 0xff, 0xff, 0xff, 0xff]), Err(RequestError::NotAMap));
        // A map that claims four thousand million nested entries behind an unknown key.
        let bomb = hex::decode("81a1789ddfffffffff").unwrap();
        assert_eq!(PeerRequest::decode(&bomb), Err(RequestError::BadUnknown));
    }
}
