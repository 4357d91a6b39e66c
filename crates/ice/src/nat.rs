//! What kind of NAT stands before us, as far as the answers of two or more servers tell (RFC 4787 section 4.1).
//!
//! How a NAT filters cannot be seen so: no server sends from where it was not asked.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::addr::canonical;

/// The furthest two ports given in a row may be apart and still count as given in sequence. Of two random ports one
/// pair in 500 is as close.
const MAX_STRIDE: i32 = 64;
/// The most mappings of others between two of ours that still look like a sequence.
const MAX_SKIPPED: i32 = 16;

/// What one server saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// The server.
    pub server: SocketAddr,
    /// The local address asked from.
    pub base: SocketAddr,
    /// Where the question came from, as the server saw it.
    pub mapped: SocketAddr,
}

/// To which outside addresses a NAT maps one inside address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mapping {
    /// Nobody was asked.
    #[default]
    Unknown,
    /// Nobody who was asked answered: the network does not let such packets through.
    Blocked,
    /// One server answered: there is a NAT, and no more is known.
    Unclear,
    /// The outside address is the inside address: no NAT.
    Open,
    /// One outside address for all destinations.
    Independent {
        /// It has the port of the inside address.
        preserving: bool,
    },
    /// Another outside address for each destination ("symmetric").
    Dependent {
        /// What makes a destination another one.
        on: Dependence,
        /// How its ports follow one another.
        ports: Allocation,
    },
}

/// What a mapping depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependence {
    /// The address of the destination; also known when its port is not.
    Address,
    /// Its port as well, or it could not be told: the harder case is assumed.
    AddressAndPort,
}

/// How a NAT picks ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// The port of the inside address; only the outside address changes.
    Preserving,
    /// Each new mapping takes the next port.
    Sequential {
        /// The distance between two; may be negative.
        step: i16,
    },
    /// No rule that could be seen.
    Random,
}

impl Mapping {
    /// Each destination gets a port that nobody foretells.
    pub const fn is_random(self) -> bool {
        matches!(self, Self::Dependent { ports: Allocation::Random, .. })
    }

    /// What these observations, of one transport and family and in the order of asking, say.
    ///
    /// Of several local addresses the one with the most answers counts; the others only help to see how ports follow
    /// one another.
    pub fn infer(observations: &[Observation]) -> Self {
        let answers = |base: SocketAddr| observations.iter().filter(move |o| o.base == base);
        let Some(base) = observations.iter().rev().map(|o| o.base).max_by_key(|base| answers(*base).count())
        else {
            return Self::Unknown;
        };
        let all = observations;
        let observations: Vec<_> = answers(base).copied().collect();
        let first = &observations[0];
        let mapped = canonical(first.mapped);
        if observations.iter().all(|o| canonical(o.mapped) == canonical(o.base)) {
            return Self::Open;
        }
        let servers = |o: &Observation| canonical(o.server);
        if observations.iter().all(|o| servers(o) == servers(first)) {
            return Self::Unclear;
        }
        if observations.iter().all(|o| canonical(o.mapped) == mapped) {
            return Self::Independent { preserving: mapped.port() == first.base.port() };
        }
        let mapped_there = |o: &&Observation| canonical(o.mapped).ip() == mapped.ip();
        let all: Vec<_> = all.iter().filter(mapped_there).copied().collect();
        // A NAT with several outside addresses: what each does is not worth telling apart.
        let ports = allocation(if all.len() > 1 { &all } else { &observations });
        Self::Dependent { on: dependence(&observations), ports }
    }

    /// Whether the outside address the peer must send to is known beforehand.
    pub const fn is_predictable(self) -> bool {
        matches!(self, Self::Open | Self::Independent { .. })
    }
}

/// Two ports of one server that see one address, while other servers see others, tell address-dependent mapping.
fn dependence(observations: &[Observation]) -> Dependence {
    let mut seen = false;
    for (n, one) in observations.iter().enumerate() {
        for other in &observations[n + 1..] {
            let ip = |o: &Observation| canonical(o.server).ip();
            if ip(one) != ip(other) || canonical(one.server) == canonical(other.server) {
                continue;
            }
            if canonical(one.mapped) != canonical(other.mapped) {
                return Dependence::AddressAndPort;
            }
            seen = true;
        }
    }
    if seen { Dependence::Address } else { Dependence::AddressAndPort }
}

fn allocation(observations: &[Observation]) -> Allocation {
    if observations.iter().all(|o| o.mapped.port() == o.base.port()) {
        return Allocation::Preserving;
    }
    let ports: Vec<i32> = observations.iter().map(|o| o.mapped.port().into()).collect();
    // Servers that share a mapping add no step.
    let steps: Vec<i32> = ports.windows(2).map(|two| two[1] - two[0]).filter(|&step| step != 0).collect();
    let step = steps.iter().fold(0, |common, &step| gcd(common, step.abs()));
    let upwards = steps.iter().all(|&s| s > 0);
    let one_way = upwards || steps.iter().all(|&s| s < 0);
    let near = steps.iter().all(|s| s.abs() <= MAX_STRIDE && s.abs() <= MAX_SKIPPED * step);
    if step == 0 || !one_way || !near {
        return Allocation::Random;
    }
    let step = i16::try_from(step).expect("no step is beyond MAX_STRIDE");
    Allocation::Sequential { step: if upwards { step } else { -step } }
}

const fn gcd(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The text in which two devices tell each other their mappings; [`Mapping::from_str`] reads it.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Blocked => f.write_str("blocked"),
            Self::Unclear => f.write_str("unclear"),
            Self::Open => f.write_str("open"),
            Self::Independent { preserving: true } => f.write_str("independent-preserving"),
            Self::Independent { preserving: false } => f.write_str("independent"),
            Self::Dependent { on, ports } => {
                f.write_str(if *on == Dependence::Address { "by-address" } else { "by-port" })?;
                match ports {
                    Allocation::Preserving => f.write_str("-preserving"),
                    Allocation::Random => f.write_str("-random"),
                    Allocation::Sequential { step } => write!(f, "-sequential:{step}"),
                }
            }
        }
    }
}

/// The text names no mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text names no kind of mapping")]
pub struct UnknownMapping;

impl FromStr for Mapping {
    type Err = UnknownMapping;

    fn from_str(text: &str) -> Result<Self, UnknownMapping> {
        Ok(match text {
            "unknown" => Self::Unknown,
            "blocked" => Self::Blocked,
            "unclear" => Self::Unclear,
            "open" => Self::Open,
            "independent" => Self::Independent { preserving: false },
            "independent-preserving" => Self::Independent { preserving: true },
            _ => {
                let (on, ports) =
                    [("by-address-", Dependence::Address), ("by-port-", Dependence::AddressAndPort)]
                        .into_iter()
                        .find_map(|(prefix, on)| Some((on, text.strip_prefix(prefix)?)))
                        .ok_or(UnknownMapping)?;
                let ports = match (ports, ports.strip_prefix("sequential:")) {
                    ("preserving", _) => Allocation::Preserving,
                    ("random", _) => Allocation::Random,
                    (_, Some(step)) => match step.parse() {
                        Ok(step) if step != 0 && i32::from(step).abs() <= MAX_STRIDE => {
                            Allocation::Sequential { step }
                        }
                        _ => return Err(UnknownMapping),
                    },
                    _ => return Err(UnknownMapping),
                };
                Self::Dependent { on, ports }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(answers: &[(&str, &str)]) -> Mapping {
        let observe = |&(server, mapped): &(&str, &str)| Observation {
            server: server.parse().unwrap(),
            base: "10.0.0.1:5000".parse().unwrap(),
            mapped: mapped.parse().unwrap(),
        };
        Mapping::infer(&answers.iter().map(observe).collect::<Vec<_>>())
    }

    #[test]
    fn kinds_are_told_apart() {
        let (one, two, three) = ("192.0.2.1:3478", "192.0.2.2:3478", "192.0.2.3:3478");
        for (answers, kind) in [
            (vec![], "unknown"),
            (vec![(one, "10.0.0.1:5000")], "open"),
            (vec![(one, "198.51.100.1:5000")], "unclear"),
            (vec![(one, "198.51.100.1:7"), (one, "198.51.100.1:9")], "unclear"),
            (vec![(one, "198.51.100.1:5000"), (two, "198.51.100.1:5000")], "independent-preserving"),
            (vec![(one, "198.51.100.1:7"), (two, "198.51.100.1:7")], "independent"),
            (vec![(one, "198.51.100.1:5000"), (two, "198.51.100.2:5000")], "by-port-preserving"),
            (vec![(one, "198.51.100.1:700"), (two, "198.51.100.1:701")], "by-port-sequential:1"),
            (
                vec![(one, "198.51.100.1:700"), (two, "198.51.100.1:704"), (three, "198.51.100.1:706")],
                "by-port-sequential:2",
            ),
            (vec![(one, "198.51.100.1:700"), (two, "198.51.100.1:697")], "by-port-sequential:-3"),
            (vec![(one, "198.51.100.1:700"), (two, "198.51.100.1:7000")], "by-port-random"),
            (
                vec![(one, "198.51.100.1:700"), (two, "198.51.100.1:705"), (three, "198.51.100.1:701")],
                "by-port-random",
            ),
            (
                vec![(one, "198.51.100.1:7"), ("192.0.2.1:3479", "198.51.100.1:7"), (two, "198.51.100.1:8")],
                "by-address-sequential:1",
            ),
            (
                vec![(one, "198.51.100.1:7"), ("192.0.2.1:3479", "198.51.100.1:8"), (two, "198.51.100.1:9")],
                "by-port-sequential:1",
            ),
        ] {
            let mapping = infer(&answers);
            assert_eq!(mapping.to_string(), kind, "{answers:?}");
            assert_eq!(kind.parse(), Ok(mapping));
        }
    }

    #[test]
    fn what_a_peer_writes_is_checked() {
        for bad in
            ["", "open ", "by-port", "by-port-sequential:", "by-port-sequential:0", "by-port-sequential:65"]
        {
            assert_eq!(bad.parse::<Mapping>(), Err(UnknownMapping), "{bad}");
        }
    }
}
