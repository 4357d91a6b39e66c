//! Candidates that come after the description (RFC 8838), as text.
//!
//! The user name fragment says which description they belong to: a message may overtake the restart of a session, or be
//! overtaken by it.

use std::time::Instant;

use crate::agent::Agent;
use crate::blob::{self, MAX_BLOB_LEN, MAX_CANDIDATES};
use crate::candidate::Candidate;
use crate::policy::CandidateRefused;

/// The last line, once the sender has no more.
const END: &str = "end-of-candidates";

/// More candidates of one side, and perhaps the end of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trickle {
    /// The user name fragment of the sender's description.
    pub ufrag: String,
    /// The candidates, at most [`MAX_CANDIDATES`].
    pub candidates: Vec<Candidate>,
    /// No more will come.
    pub end: bool,
}

/// Why a message with further candidates is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrickleError {
    /// Longer than [`MAX_BLOB_LEN`].
    #[error("the candidates exceed 65536 bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("the candidates are not text")]
    NotText,
    /// No line that says whose they are.
    #[error("the candidates belong to no description")]
    MissingFragment,
    /// They belong to another description than the newest one of the peer: too late, or too early.
    #[error("the candidates belong to another description")]
    OtherGeneration,
}

impl Trickle {
    /// The fragment, a line for each candidate as in a description, and perhaps `end-of-candidates`.
    pub fn to_text(&self) -> String {
        let lines = self.candidates.iter().take(MAX_CANDIDATES).map(blob::to_line);
        let lines = std::iter::once(self.ufrag.clone()).chain(lines).chain(self.end.then(|| END.to_owned()));
        lines.map(|line| line + "\n").collect()
    }

    /// Parses such a text; lines that are no candidate are skipped, as in a description, and so are those beyond
    /// [`MAX_CANDIDATES`].
    pub fn from_text(text: &[u8]) -> Result<Self, TrickleError> {
        if text.len() > MAX_BLOB_LEN {
            return Err(TrickleError::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| TrickleError::NotText)?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let ufrag = lines.next().ok_or(TrickleError::MissingFragment)?.to_owned();
        let end = lines.clone().any(|line| line == END);
        let candidates = lines.filter_map(|line| blob::from_line(line).ok()).take(MAX_CANDIDATES).collect();
        Ok(Self { ufrag, candidates, end })
    }
}

impl Agent {
    /// Takes further candidates of the peer; returns those that were refused, in order.
    pub fn add_trickle(
        &mut self,
        now: Instant,
        trickle: Trickle,
    ) -> Result<Vec<(Candidate, CandidateRefused)>, TrickleError> {
        if self.remote_ufrag() != Some(trickle.ufrag.as_str()) {
            return Err(TrickleError::OtherGeneration);
        }
        let refused = self.admit_all(now, trickle.candidates);
        if trickle.end {
            self.end_of_remote_candidates(now);
        }
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::{TcpType, Transport};

    #[test]
    fn it_survives_its_text() {
        let candidate = Candidate::reflexive(
            Transport::Tcp(TcpType::SimultaneousOpen),
            "198.51.100.1:7".parse().unwrap(),
            "10.0.0.1:5000".parse().unwrap(),
            0,
        );
        for end in [false, true] {
            let trickle = Trickle { ufrag: "frag".into(), candidates: vec![candidate.clone()], end };
            let text = trickle.to_text();
            assert_eq!(text.lines().count(), 2 + usize::from(end));
            let parsed = Trickle::from_text(text.as_bytes()).unwrap();
            // The base stays at home.
            assert_eq!(parsed.candidates[0].address, candidate.address);
            assert_eq!((parsed.ufrag.as_str(), parsed.end), ("frag", end));
        }
    }

    #[test]
    fn bad_lines_are_skipped_and_the_rest_is_bounded() {
        let line = "F 1 UDP 5 192.0.2.9 6000 typ srflx\n";
        let text = format!("frag\nnonsense\n{}", line.repeat(100));
        let parsed = Trickle::from_text(text.as_bytes()).unwrap();
        assert_eq!((parsed.candidates.len(), parsed.end), (MAX_CANDIDATES, false));
        assert_eq!(Trickle::from_text(b"\n\n"), Err(TrickleError::MissingFragment));
        assert_eq!(Trickle::from_text(&[0xff]), Err(TrickleError::NotText));
        assert_eq!(Trickle::from_text("a".repeat(MAX_BLOB_LEN + 1).as_bytes()), Err(TrickleError::TooLong));
    }
}
