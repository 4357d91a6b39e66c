//! Punching through NATs that give each destination another port.
//!
//! Ordinary checks reach a peer whose outside port is known beforehand. [`Plan::choose`] says what to do where it is not;
//! [`Punch`] is the plan of one attempt, and [`Budget`] is what all attempts of a program share. All are sans-IO: a
//! [`Probe`] says from which socket to send [`crate::Agent::probe`] where, and what arrives on those sockets goes to
//! [`crate::Agent::adopt`], which makes a pair of what is authentic. The rest is an ordinary session.
//!
//! # Ports in sequence
//!
//! If one side gives out ports in sequence and the other's port is known, the first announces the next few ports as
//! candidates ([`Party::predict`]), and the other's checks to them open its filter for the right one.
//!
//! If both do, neither knows from which port its packets will leave, but each knows what follows what. Since both were
//! observed, others have used `a` ports of the one NAT and `b` of the other. The controlling side sends its `n`-th packet to
//! port `2n` after the observed one, so that it leaves from `a + n`; the controlled side sends its `m`-th to `m`, so that it
//! leaves from `b + m`. The packets to and from one pair of ports meet when `m = a + n` and `2n = b + m`, that is at
//! `n = a + b`: there always is such an `n`, as long as others have not used more ports than the plan is long. (Would both
//! count by ones, they would meet only if `a + b` happened to be 0.)
//!
//! # Ports at random
//!
//! If one side gives out random ports and the other's port is known, the first opens `N` sockets and sends from each of them
//! to the other, so that `N` of its `S` = 64,512 ports (1024 to 65535) lead inside. The other tries `M` ports, none twice.
//! All of them miss with probability `C(S - N, M) / C(S, M)`, about `exp(-N M / S)`: with 256 sockets half of the attempts
//! succeed after 175 guesses, 95 % after 750, 99.9 % after 1,715, and 2,244 guesses (2,500 probes with those of the
//! sockets) fail once in 8,800 times. [`success_probability`] computes it exactly. At 300 probes per second the 750 take
//! 2.5 s.
//!
//! If both sides are random, a guess must hit the port that the other side's NAT gives to a packet towards the port that
//! our NAT gives to the guess: one in `S` × `S`. That is hopeless, and [`Plan::Hopeless`] says so at once.
//!
//! # Random ports here, a sequence there
//!
//! If the sequence has one port for our whole address, that port is as good as known. If it moves on with each port that
//! is tried, it is not, although the next ones can be foretold: from each of them leaves one packet, to one port of ours, and it
//! lets in what comes from that port only. So a packet of ours to one of them meets if the port that our NAT gives it is
//! that very one of `S`, whatever the number of sockets and of targets: the packets of the two sides no longer multiply, and
//! no birthday helps. `P` packets meet with probability `1 - (1 - 1/S)^P`: 2,500 in 3.8 % of all cases; even odds take 44,716,
//! and 95 % take 193,260, eleven minutes at 300 per second. That is hopeless, too.
//!
//! # Random ports that are the same for a whole address
//!
//! A NAT may map by the address of the destination and not by its port. Where ours does, each of our sockets has one outside
//! port for the whole of the peer's address, from whichever port the peer sends; and where it filters so, too, as
//! such NATs do, one packet opens it for all of them. So we spread and the peer guesses whatever its own ports are, and the odds are
//! those of the birthday. (If it filters by port, they are those above. If both NATs are of this kind, neither side
//! knows that it is the one to guess, and nothing is tried.)
//!
//! # What it costs others
//!
//! An attempt sends at most 2,500 packets of about 120 bytes in 10 s to one IP address that an authenticated peer named,
//! and all attempts together keep to the rate of the budget, those to one address to a lower one. An address where nobody is met
//! gets no more than four such attempts in ten minutes.

mod attempt;
mod budget;
mod party;

use std::fmt;

pub use attempt::{Probe, Punch, PunchConfig, PunchRefused};
pub use budget::{AttemptId, Budget, BudgetConfig};
pub use party::{Party, PartyError};

use crate::nat::{Allocation, Dependence, Mapping};

/// The ports a NAT picks from at random: 1024 to 65535.
pub const PORTS: u32 = 64_512;

/// What to do about the NATs of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Ordinary checks, predicted ports among the candidates.
    Checks,
    /// Both give out ports in sequence: send in an order in which the packets must meet.
    Meet,
    /// Our ports are random: send from many sockets to where the peer is.
    Spread,
    /// The peer's ports are random: try many of them from one socket.
    Guess,
    /// No direct path over UDP can be found.
    Hopeless,
}

impl Plan {
    /// The plan for these two mappings. The peer's is the counterpart: both of the first two, both hopeless, or one
    /// spreads and the other guesses.
    pub const fn choose(ours: Mapping, theirs: Mapping) -> Self {
        match (Skill::of(ours), Skill::of(theirs)) {
            (Skill::Random, Skill::Random | Skill::Moving)
            | (Skill::Moving, Skill::Random)
            | (Skill::Scattered, Skill::Scattered) => Self::Hopeless,
            (Skill::Scattered, _) => Self::Spread,
            (_, Skill::Scattered) => Self::Guess,
            (Skill::Random, _) => Self::Spread,
            (_, Skill::Random) => Self::Guess,
            (Skill::Moving | Skill::Predicted, Skill::Moving | Skill::Predicted) => Self::Meet,
            _ => Self::Checks,
        }
    }
}

/// How well an outside port can be told beforehand.
#[derive(Clone, Copy)]
enum Skill {
    Known,
    /// One of the next few, the same for all ports of the peer.
    Predicted,
    /// One of the next few, and another one for each port that is tried.
    Moving,
    /// Any, the same for all ports of the peer.
    Scattered,
    Random,
}

impl Skill {
    const fn of(mapping: Mapping) -> Self {
        match mapping {
            Mapping::Dependent { on, ports } => match (ports, on) {
                (Allocation::Preserving, _) => Self::Known,
                (Allocation::Sequential { .. }, Dependence::Address) => Self::Predicted,
                (Allocation::Sequential { .. }, Dependence::AddressAndPort) => Self::Moving,
                (Allocation::Random, Dependence::Address) => Self::Scattered,
                (Allocation::Random, Dependence::AddressAndPort) => Self::Random,
            },
            // What is not known is tried.
            Mapping::Unknown
            | Mapping::Blocked
            | Mapping::Unclear
            | Mapping::Open
            | Mapping::Independent { .. } => Self::Known,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checks => "the ports are known or can be predicted",
            Self::Meet => "both NATs give out ports in sequence",
            Self::Spread => "our NAT gives out random ports: many sockets of ours, one of the peer",
            Self::Guess => "the peer's NAT gives out random ports: many guesses of ours",
            Self::Hopeless => "both NATs give another port to each destination, one that cannot be guessed",
        })
    }
}

/// The probability that at least one of `guesses` different ports is one of `sockets` random ones.
pub fn success_probability(sockets: u32, guesses: u32) -> f64 {
    let miss = |n: u32| f64::from(PORTS.saturating_sub(sockets + n)) / f64::from(PORTS - n);
    1.0 - (0..guesses.min(PORTS)).map(miss).product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_the_text() {
        for (guesses, probability) in [(175, 0.5), (750, 0.95), (1715, 0.999)] {
            assert!(success_probability(256, guesses) >= probability);
            assert!(success_probability(256, guesses - 1) < probability);
        }
        let failure = 1.0 - success_probability(256, 2500 - 256);
        assert!((1.0 / failure - 8_800.0).abs() < 10.0, "{}", 1.0 / failure);
        let met = |packets: i32| 1.0 - (1.0 - 1.0 / f64::from(PORTS)).powi(packets);
        assert!((met(2_500) - 0.038).abs() < 0.0005);
        for (packets, probability) in [(44_716, 0.5), (193_260, 0.95)] {
            assert!((met(packets) - probability).abs() < 1e-5, "{}", met(packets));
        }
        assert!(success_probability(0, 100).abs() < f64::EPSILON);
        assert!((success_probability(PORTS, 1) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn plans_are_counterparts() {
        let kinds = [
            "unknown",
            "unclear",
            "open",
            "independent",
            "by-port-preserving",
            "by-address-sequential:1",
            "by-port-sequential:2",
            "by-address-random",
            "by-port-random",
        ];
        for ours in kinds {
            for theirs in kinds {
                let plan = |a: &str, b: &str| Plan::choose(a.parse().unwrap(), b.parse().unwrap());
                let expected = match plan(ours, theirs) {
                    Plan::Spread => Plan::Guess,
                    Plan::Guess => Plan::Spread,
                    same => same,
                };
                assert_eq!(plan(theirs, ours), expected, "{ours} {theirs}");
            }
        }
        let plan = |a: &str, b: &str| Plan::choose(a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(plan("open", "by-port-random"), Plan::Guess);
        assert_eq!(plan("by-port-sequential:1", "independent"), Plan::Checks);
        assert_eq!(plan("by-port-sequential:1", "by-port-sequential:-2"), Plan::Meet);
        assert_eq!(plan("by-port-random", "by-address-sequential:1"), Plan::Spread);
        assert_eq!(plan("by-port-random", "by-port-sequential:1"), Plan::Hopeless);
        assert_eq!(plan("by-port-random", "by-port-random"), Plan::Hopeless);
        for theirs in
            ["open", "independent", "by-address-sequential:1", "by-port-sequential:1", "by-port-random"]
        {
            assert_eq!(plan("by-address-random", theirs), Plan::Spread, "{theirs}");
        }
        assert_eq!(plan("by-address-random", "by-address-random"), Plan::Hopeless);
    }
}
