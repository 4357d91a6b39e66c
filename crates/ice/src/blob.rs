//! The text in which a Jami peer sends its credentials and candidates (spec 4.1, 4.2).

use std::net::{IpAddr, SocketAddr};

use crate::candidate::{Candidate, CandidateKind, Foundation, TcpType, Transport};
use crate::credentials::{Credentials, CredentialsError};

/// The most candidates read from or written to a blob.
pub const MAX_CANDIDATES: usize = 31;
/// The most host candidates kept when a blob holds more than [`MAX_CANDIDATES`].
pub const MAX_HOST_WHEN_CUT: usize = 8;
/// The most relayed candidates kept when a blob holds more than [`MAX_CANDIDATES`].
pub const MAX_RELAYED_WHEN_CUT: usize = 4;
/// The longest blob read, in bytes: more lines than a peer may send, at their full length.
pub const MAX_BLOB_LEN: usize = 64 * 1024;

// A line of the longest fields a peer accepts (31 + 11 + 79 + 31 + 31) with its numbers stays well below this.
const MAX_LINE_LEN: usize = 256;

/// What one side tells the other: how to authenticate, and where to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// User name fragment and password of the sender.
    pub credentials: Credentials,
    /// Its candidates, in the order sent.
    pub candidates: Vec<Candidate>,
}

/// A parsed blob with all that was left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedBlob {
    /// What could be used.
    pub description: Description,
    /// Lines that were skipped, in order; at most [`MAX_CANDIDATES`] are listed.
    pub skipped: Vec<SkippedLine>,
}

/// A candidate line that takes no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippedLine {
    /// Number of the line in the blob, from 1.
    pub line: usize,
    /// The rule it breaks.
    pub reason: SkipReason,
}

/// Why a candidate line takes no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// Fewer than the seven fields up to the type.
    #[error("fields are missing")]
    MissingFields,
    /// Longer than any valid line.
    #[error("the line is too long")]
    LineTooLong,
    /// A field exceeds its limit of spec 4.2.
    #[error("a field is too long")]
    FieldTooLong,
    /// Component, priority or port is no number in range.
    #[error("a number is out of range")]
    BadNumber,
    /// The address is not an IP address; names are not resolved.
    #[error("the address is not an IP address")]
    BadAddress,
    /// The word `typ` is not where it belongs, or the type is unknown.
    #[error("the candidate type is unknown")]
    UnknownType,
    /// A TCP line without `tcptype`.
    #[error("a TCP candidate has no tcptype")]
    MissingTcpType,
    /// A TCP line with a `tcptype` nobody knows.
    #[error("the tcptype is unknown")]
    UnknownTcpType,
    /// Beyond the limits on the number of candidates.
    #[error("there are too many candidates")]
    TooMany,
}

/// Why a blob is of no use at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Longer than [`MAX_BLOB_LEN`].
    #[error("the description exceeds 65536 bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("the description is not text")]
    NotText,
    /// Fewer than two lines.
    #[error("the description lacks its credentials")]
    MissingCredentials,
    /// The credentials cannot be used.
    #[error("the description's credentials are unusable: {0}")]
    Credentials(#[from] CredentialsError),
}

impl Description {
    /// The blob of spec 4.1: at most 31 candidate lines, each ended by LF.
    pub fn to_blob(&self) -> String {
        let mut blob = format!("{}\n{}\n", self.credentials.ufrag(), self.credentials.password());
        for candidate in self.candidates.iter().take(MAX_CANDIDATES) {
            blob.push_str(&to_line(candidate));
            blob.push('\n');
        }
        blob
    }

    /// Parses a blob as liberally as spec 4.2 says: a bad candidate line is skipped and listed, never fatal.
    pub fn from_blob(blob: &[u8]) -> Result<ParsedBlob, BlobError> {
        if blob.len() > MAX_BLOB_LEN {
            return Err(BlobError::TooLong);
        }
        let text = std::str::from_utf8(blob).map_err(|_| BlobError::NotText)?;
        let mut lines =
            text.lines().enumerate().map(|(n, line)| (n + 1, line)).filter(|(_, l)| !l.is_empty());
        let mut word = || lines.next().map(|(_, line)| line.trim()).ok_or(BlobError::MissingCredentials);
        let credentials = Credentials::parse(word()?, word()?)?;
        let mut parsed = Vec::new();
        let mut skipped = Vec::new();
        for (line, text) in lines {
            match from_line(text) {
                Ok(candidate) => parsed.push((line, candidate)),
                Err(reason) => skipped.push(SkippedLine { line, reason }),
            }
        }
        let candidates = cut(parsed, &mut skipped);
        skipped.sort_by_key(|s| s.line);
        skipped.truncate(MAX_CANDIDATES);
        Ok(ParsedBlob { description: Self { credentials, candidates }, skipped })
    }
}

/// Up to 31 candidates stay; of more, at most 8 host, at most 4 relayed and 31 in total, in order.
fn cut(parsed: Vec<(usize, Candidate)>, skipped: &mut Vec<SkippedLine>) -> Vec<Candidate> {
    if parsed.len() <= MAX_CANDIDATES {
        return parsed.into_iter().map(|(_, candidate)| candidate).collect();
    }
    let (mut hosts, mut relayed) = (0, 0);
    let mut kept = Vec::with_capacity(MAX_CANDIDATES);
    for (line, candidate) in parsed {
        let (count, limit) = match candidate.kind {
            CandidateKind::Host => (&mut hosts, MAX_HOST_WHEN_CUT),
            CandidateKind::Relayed => (&mut relayed, MAX_RELAYED_WHEN_CUT),
            CandidateKind::ServerReflexive | CandidateKind::PeerReflexive => (&mut 0, MAX_CANDIDATES),
        };
        if kept.len() < MAX_CANDIDATES && *count < limit {
            *count += 1;
            kept.push(candidate);
        } else {
            skipped.push(SkippedLine { line, reason: SkipReason::TooMany });
        }
    }
    kept
}

/// One candidate line, exactly as spec 4.1 writes it and without its LF.
pub fn to_line(candidate: &Candidate) -> String {
    let (transport, tcptype) = match candidate.transport {
        Transport::Udp => ("UDP", String::new()),
        Transport::Tcp(kind) => ("TCP", format!(" tcptype {}", kind.as_str())),
    };
    format!(
        "{} {} {transport} {} {} {} typ {}{tcptype}",
        candidate.foundation.as_str(),
        candidate.component,
        candidate.priority,
        candidate.address.ip(),
        candidate.address.port(),
        candidate.kind.as_str(),
    )
}

/// Parses one candidate line.
pub fn from_line(line: &str) -> Result<Candidate, SkipReason> {
    if line.len() > MAX_LINE_LEN {
        return Err(SkipReason::LineTooLong);
    }
    let mut words = line.split_ascii_whitespace();
    let mut word = |limit: usize| {
        let word = words.next().ok_or(SkipReason::MissingFields)?;
        if word.len() <= limit { Ok(word) } else { Err(SkipReason::FieldTooLong) }
    };
    let foundation = Foundation::parse(word(Foundation::MAX_LEN)?).ok_or(SkipReason::FieldTooLong)?;
    // The peers keep the low eight bits of the component.
    let component = number::<u32>(word(10)?)? as u8;
    let transport = word(11)?;
    let priority = number(word(10)?)?;
    let address = word(79)?;
    let port = number(word(5)?)?;
    let marker = word(31)?;
    let kind = match word(31)? {
        "host" => CandidateKind::Host,
        "srflx" => CandidateKind::ServerReflexive,
        "prflx" => CandidateKind::PeerReflexive,
        "relay" => CandidateKind::Relayed,
        _ => return Err(SkipReason::UnknownType),
    };
    if marker != "typ" {
        return Err(SkipReason::UnknownType);
    }
    // An address with a scope belongs to the sender's interfaces; the scope means nothing here.
    let ip: IpAddr =
        address.split('%').next().unwrap_or(address).parse().map_err(|_| SkipReason::BadAddress)?;
    let transport = match transport {
        "TCP" => Transport::Tcp(tcp_type(words)?),
        // Whatever is not TCP counts as UDP.
        _ => Transport::Udp,
    };
    let address = SocketAddr::new(ip, port);
    Ok(Candidate { foundation, component, transport, priority, address, kind, base: address })
}

/// The value of `tcptype` among the name-value pairs after the type: other pairs may stand before it.
fn tcp_type<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<TcpType, SkipReason> {
    while let Some(name) = words.next() {
        let value = words.next();
        if name == "tcptype" {
            return match value.ok_or(SkipReason::MissingTcpType)? {
                "active" => Ok(TcpType::Active),
                "passive" => Ok(TcpType::Passive),
                "so" => Ok(TcpType::SimultaneousOpen),
                _ => Err(SkipReason::UnknownTcpType),
            };
        }
    }
    Err(SkipReason::MissingTcpType)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, SkipReason> {
    text.parse().map_err(|_| SkipReason::BadNumber)
}
