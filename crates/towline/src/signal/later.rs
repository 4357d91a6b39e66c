//! Candidates that come after a request or its answer (RFC 8838): a value of its own, at the same key and sealed alike.
//!
//! Only Towlines send these, to Towlines; its user type is not that of requests, so others pass it over. The body is a msgpack
//! map: `id`, that of the request; `dial`, whether the sender is who asked; `cand`, the text of [`towline_ice::Trickle`]. With
//! `plight`, if the sender wants the other side to know what it meets with, is a number of [`Plight`]. With
//! `round` and `pwd` it begins or answers a restart: the candidates belong to new credentials. Who does not know these entries
//! takes it for candidates of a description that it has not seen, and does nothing. `nat`, if the sender has found out what NAT it is
//! behind, is the text of [`towline_ice::punch::Party`].

use rmp::{decode, encode};
use towline_ice::punch::Party;
use towline_ice::{Credentials, Description, Trickle};

use super::request::{
    MAX_ENTRIES, MAX_ICE_MESSAGE, MAX_ID, MAX_TEXT, RequestError, read_party, read_text, read_uint,
    skip_value,
};

/// What one side of a connection tells the other of its candidates, after the first words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Further {
    pub(crate) trickle: Trickle,
    /// They begin or answer a restart.
    pub(crate) restart: Option<Restart>,
    /// The NAT that it is behind, if that is known now and was not told yet.
    pub(crate) party: Option<Party>,
    /// What the sender meets with.
    pub(crate) plight: Option<Plight>,
}

/// What one side meets with that the other one cannot see, and is told, so that it does not look for the fault where it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plight {
    /// Checks come, and no answer to the sender's own does: what it sends is lost.
    Unheard,
    /// No datagram gets out of the sender's network.
    NoDatagrams,
    /// Nothing comes at all, and nothing is answered: the sender, at least, is there.
    Deaf,
    /// Nothing but TCP to the port of the web gets out of the sender's network.
    OnlyWeb,
}

impl Plight {
    fn code(self) -> u64 {
        match self {
            Self::Unheard => 1,
            Self::NoDatagrams => 2,
            Self::Deaf => 3,
            Self::OnlyWeb => 4,
        }
    }

    /// Nothing, if this version does not know it.
    fn from_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Self::Unheard),
            2 => Some(Self::NoDatagrams),
            3 => Some(Self::Deaf),
            4 => Some(Self::OnlyWeb),
            _ => None,
        }
    }
}

/// A restart (RFC 8445 section 9) of a connection that lives.
#[derive(Clone, PartialEq, Eq)]
pub struct Restart {
    /// Counts the restarts of a connection, of either side: descriptions of the same round belong together.
    pub round: u32,
    /// The password of the sender's new credentials; the user name fragment is that of the candidates. A secret.
    pub password: String,
}

impl std::fmt::Debug for Restart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restart").field("round", &self.round).finish_non_exhaustive()
    }
}

impl Further {
    /// A description of this round.
    pub(crate) fn restart(round: u32, description: Description) -> Self {
        let Description { credentials, candidates } = description;
        let password = credentials.password().to_owned();
        let trickle = Trickle { ufrag: credentials.ufrag().to_owned(), candidates, end: false };
        Self { trickle, restart: Some(Restart { round, password }), party: None, plight: None }
    }

    /// What is said of a description beside the description: a restart can have more in one value with it.
    pub(crate) fn beside(&self) -> Self {
        let Trickle { ufrag, end, .. } = &self.trickle;
        let trickle = Trickle { ufrag: ufrag.clone(), candidates: Vec::new(), end: *end };
        Self { trickle, restart: None, party: self.party, plight: None }
    }

    /// The round and the description, if it is of a restart and its credentials may be some.
    pub(crate) fn into_restart(self) -> Option<(u32, Description)> {
        let Restart { round, password } = self.restart?;
        let credentials = Credentials::parse(&self.trickle.ufrag, &password).ok()?;
        Some((round, Description { credentials, candidates: self.trickle.candidates }))
    }
}

impl From<Trickle> for Further {
    fn from(trickle: Trickle) -> Self {
        Self { trickle, restart: None, party: None, plight: None }
    }
}

/// Further candidates of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterCandidates {
    /// The id of the request.
    pub id: u64,
    /// The sender is who asked.
    pub by_dialler: bool,
    /// The candidates, and the description of the sender's that they belong to.
    pub trickle: Trickle,
    /// They begin or answer a restart.
    pub restart: Option<Restart>,
    /// The NAT that the sender is behind, if it has found that out.
    pub party: Option<Party>,
    /// What the sender meets with.
    pub plight: Option<Plight>,
}

impl LaterCandidates {
    /// The `user_type` of the DHT value.
    pub const USER_TYPE: &str = "towline_candidates";

    /// The msgpack bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Self { trickle, restart, party, plight, .. } = self;
        let text = trickle.to_text();
        let mut out = Vec::with_capacity(32 + text.len());
        let (buf, infallible) = (&mut out, "writing to a vector does not fail");
        let entries =
            3 + 2 * u32::from(restart.is_some()) + u32::from(party.is_some()) + u32::from(plight.is_some());
        encode::write_map_len(buf, entries).expect(infallible);
        encode::write_str(buf, "id").expect(infallible);
        encode::write_uint(buf, self.id).expect(infallible);
        encode::write_str(buf, "dial").expect(infallible);
        encode::write_bool(buf, self.by_dialler).expect(infallible);
        encode::write_str(buf, "cand").expect(infallible);
        encode::write_str(buf, &text).expect(infallible);
        if let Some(plight) = plight {
            encode::write_str(buf, "plight").expect(infallible);
            encode::write_uint(buf, plight.code()).expect(infallible);
        }
        if let Some(Restart { round, password }) = restart {
            encode::write_str(buf, "round").expect(infallible);
            encode::write_uint(buf, (*round).into()).expect(infallible);
            encode::write_str(buf, "pwd").expect(infallible);
            encode::write_str(buf, password).expect(infallible);
        }
        if let Some(party) = party {
            encode::write_str(buf, "nat").expect(infallible);
            encode::write_str(buf, &party.to_string()).expect(infallible);
        }
        out
    }

    /// Reads such a value. Keys may come in any order and unknown ones are skipped; sizes are bounded.
    pub fn decode(mut reader: &[u8]) -> Result<Self, RequestError> {
        let reader = &mut reader;
        let entries = decode::read_map_len(reader).ok().filter(|entries| *entries <= MAX_ENTRIES);
        let (mut id, mut by_dialler, mut trickle) = (None, None, None);
        let (mut round, mut password, mut party, mut plight) = (None, None, None, None);
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
                "round" => {
                    let number = u32::try_from(read_uint(reader, "round")?);
                    round = Some(number.map_err(|_| RequestError::BadField("round"))?);
                }
                "plight" => plight = Plight::from_code(read_uint(reader, "plight")?),
                "pwd" => {
                    let text =
                        read_text(reader, Credentials::MAX_LEN).ok_or(RequestError::BadField("pwd"))?;
                    password = Some(text.to_owned());
                }
                "nat" => read_party(reader, &mut party).ok_or(RequestError::BadField("nat"))?,
                _ => skip_value(reader, 0).ok_or(RequestError::BadUnknown)?,
            }
        }
        let restart = match (round, password) {
            (Some(round), Some(password)) => Some(Restart { round, password }),
            (None, None) => None,
            (None, Some(_)) => return Err(RequestError::Missing("round")),
            (Some(_), None) => return Err(RequestError::Missing("pwd")),
        };
        let id = id.ok_or(RequestError::Missing("id"))?;
        if !(1..=MAX_ID).contains(&id) {
            return Err(RequestError::IdRange);
        }
        Ok(Self {
            id,
            by_dialler: by_dialler.ok_or(RequestError::Missing("dial"))?,
            trickle: trickle.ok_or(RequestError::Missing("cand"))?,
            restart,
            party,
            plight,
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
        LaterCandidates {
            id: 77,
            by_dialler: true,
            trickle,
            restart: None,
            party: "by-port-random 198.51.100.1:7".parse().ok(),
            plight: Some(Plight::Unheard),
        }
    }

    fn restart() -> LaterCandidates {
        let restart = Some(Restart { round: 3, password: "secret".into() });
        LaterCandidates { restart, ..sample() }
    }

    #[test]
    fn they_survive_the_way() {
        for sample in [sample(), restart()] {
            let decoded = LaterCandidates::decode(&sample.encode()).unwrap();
            assert_eq!(decoded.trickle.to_text(), sample.trickle.to_text());
            assert_eq!((&decoded.restart, decoded.party), (&sample.restart, sample.party));
            assert_eq!(decoded.plight, sample.plight);
            assert_eq!((decoded.id, decoded.by_dialler), (77, true));
        }
        for plight in [Plight::Unheard, Plight::NoDatagrams, Plight::Deaf, Plight::OnlyWeb].map(Some) {
            let told = LaterCandidates { plight, ..sample() };
            assert_eq!(LaterCandidates::decode(&told.encode()).unwrap().plight, plight);
        }
        let LaterCandidates { trickle, restart: of, party, .. } = restart();
        let further = Further { trickle, restart: of, party, plight: None };
        let beside = further.beside();
        assert_eq!((beside.trickle.ufrag.as_str(), beside.trickle.end), ("frag", true));
        assert_eq!((beside.party, beside.restart), (sample().party, None));
        let (round, description) = further.into_restart().unwrap();
        assert_eq!((round, description.credentials.ufrag()), (3, "frag"));
        assert!(!format!("{:?}", restart()).contains("secret"), "a password must not reach a log");
    }

    #[test]
    fn what_is_cut_or_of_no_attempt_is_nothing() {
        for bytes in [sample().encode(), restart().encode()] {
            for end in 0..bytes.len() {
                assert!(LaterCandidates::decode(&bytes[..end]).is_err(), "{end} bytes");
            }
        }
        let refused = |bytes: &[u8]| LaterCandidates::decode(bytes).unwrap_err();
        assert_eq!(refused(&LaterCandidates { id: 0, ..sample() }.encode()), RequestError::IdRange);
        assert_eq!(refused(&[0x80]), RequestError::Missing("id"));
        assert_eq!(refused(&[0xdf, 0xff, 0xff, 0xff, 0xff]), RequestError::NotAMap);
        assert_eq!(refused(b"\x81\xa4cand\xa0"), RequestError::BadField("cand"));
    }
}
