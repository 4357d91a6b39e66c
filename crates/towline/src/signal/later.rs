//! Candidates that come after a request or its answer (RFC 8838): a value of its own, at the same key and sealed alike.
//!
//! Only Towlines send these, to Towlines; its user type is not that of requests, so others pass it over. The body is a msgpack
//! map: `id`, that of the request; `dial`, whether the sender is who asked; `cand`, the text of [`towline_ice::Trickle`].

use rmp::{decode, encode};
use towline_ice::Trickle;

use super::request::{
    MAX_ENTRIES, MAX_ICE_MESSAGE, MAX_ID, MAX_TEXT, RequestError, read_text, read_uint, skip_value,
};

/// Further candidates of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterCandidates {
    /// The id of the request.
    pub id: u64,
    /// The sender is who asked.
    pub by_dialler: bool,
    /// The candidates, and the description of the sender's that they belong to.
    pub trickle: Trickle,
}

impl LaterCandidates {
    /// The `user_type` of the DHT value.
    pub const USER_TYPE: &str = "towline_candidates";

    /// The msgpack bytes.
    pub fn encode(&self) -> Vec<u8> {
        let text = self.trickle.to_text();
        let mut out = Vec::with_capacity(32 + text.len());
        let (buf, infallible) = (&mut out, "writing to a vector does not fail");
        encode::write_map_len(buf, 3).expect(infallible);
        encode::write_str(buf, "id").expect(infallible);
        encode::write_uint(buf, self.id).expect(infallible);
        encode::write_str(buf, "dial").expect(infallible);
        encode::write_bool(buf, self.by_dialler).expect(infallible);
        encode::write_str(buf, "cand").expect(infallible);
        encode::write_str(buf, &text).expect(infallible);
        out
    }

    /// Reads such a value. Keys may come in any order and unknown ones are skipped; sizes are bounded.
    pub fn decode(mut reader: &[u8]) -> Result<Self, RequestError> {
        let reader = &mut reader;
        let entries = decode::read_map_len(reader).ok().filter(|entries| *entries <= MAX_ENTRIES);
        let (mut id, mut by_dialler, mut trickle) = (None, None, None);
        for _ in 0..entries.ok_or(RequestError::NotAMap)? {
            match read_text(reader, MAX_TEXT).ok_or(RequestError::BadUnknown)? {
                "id" => id = Some(read_uint(reader, "id")?),
                "dial" => {
                    let flag = decode::read_bool(reader);
                    by_dialler = Some(flag.map_err(|_| RequestError::BadField("dial"))?);
                }
                "cand" => {
                    let text = read_text(reader, MAX_ICE_MESSAGE);
                    let read = text.and_then(|text| Trickle::from_text(text.as_bytes()).ok());
                    trickle = Some(read.ok_or(RequestError::BadField("cand"))?);
                }
                _ => skip_value(reader, 0).ok_or(RequestError::BadUnknown)?,
            }
        }
        let id = id.ok_or(RequestError::Missing("id"))?;
        if !(1..=MAX_ID).contains(&id) {
            return Err(RequestError::IdRange);
        }
        Ok(Self {
            id,
            by_dialler: by_dialler.ok_or(RequestError::Missing("dial"))?,
            trickle: trickle.ok_or(RequestError::Missing("cand"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use towline_ice::{Candidate, Transport};

    use super::*;

    fn sample() -> LaterCandidates {
        let (outside, base) = ("198.51.100.1:7".parse().unwrap(), "10.0.0.1:5000".parse().unwrap());
        let candidate = Candidate::reflexive(Transport::Udp, outside, base, 0);
        let trickle = Trickle { ufrag: "frag".into(), candidates: vec![candidate], end: true };
        LaterCandidates { id: 77, by_dialler: true, trickle }
    }

    #[test]
    fn they_survive_the_way() {
        let decoded = LaterCandidates::decode(&sample().encode()).unwrap();
        assert_eq!(decoded.trickle.to_text(), sample().trickle.to_text());
        assert_eq!((decoded.id, decoded.by_dialler), (77, true));
    }

    #[test]
    fn what_is_cut_or_of_no_attempt_is_nothing() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert!(LaterCandidates::decode(&bytes[..end]).is_err(), "{end} bytes");
        }
        let refused = |bytes: &[u8]| LaterCandidates::decode(bytes).unwrap_err();
        assert_eq!(refused(&LaterCandidates { id: 0, ..sample() }.encode()), RequestError::IdRange);
        assert_eq!(refused(&[0x80]), RequestError::Missing("id"));
        assert_eq!(refused(&[0xdf, 0xff, 0xff, 0xff, 0xff]), RequestError::NotAMap);
        assert_eq!(refused(b"\x81\xa4cand\xa0"), RequestError::BadField("cand"));
    }
}
