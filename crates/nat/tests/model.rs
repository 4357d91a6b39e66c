//! Any traffic through any kind of NAT, beside a model that is too simple to be fast: lists that are searched from end to end.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use common::*;
use proptest::prelude::*;
use towline_nat::{
    Config, Filtering, Flags, Header, Limits, Mapping, Nat, Pooling, Request, Transport, Verdict, Way,
};

#[derive(Debug, Clone)]
struct Conversation {
    inside: SocketAddr,
    remote: SocketAddr,
    outside: SocketAddr,
    expires: u64,
}

#[derive(Debug, Clone)]
struct Made {
    inside: SocketAddr,
    first: SocketAddr,
    outside: SocketAddr,
    expires: u64,
}

/// UDP, without bounds, ports of its own choice, or leases.
#[derive(Debug)]
struct Model {
    mapping: Mapping,
    filtering: Filtering,
    conversations: Vec<Conversation>,
    made: Vec<Made>,
}

/// Both lifetimes of UDP in the model, in seconds.
const LIFE: u64 = 60;

impl Model {
    /// The outside end that a packet must get, if it is not to get a new one.
    fn out(&self, now: u64, inside: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        let alive = |outside| self.made.iter().any(|made| made.outside == outside && now < made.expires);
        let talks = |c: &&Conversation| {
            c.inside == inside && c.remote == remote && now < c.expires && alive(c.outside)
        };
        if let Some(conversation) = self.conversations.iter().find(talks) {
            return Some(conversation.outside);
        }
        let fits = |m: &&Made| {
            m.inside == inside
                && now < m.expires
                && match self.mapping {
                    Mapping::EndpointIndependent => true,
                    Mapping::AddressDependent => m.first.ip() == remote.ip(),
                    Mapping::AddressAndPortDependent => m.first == remote,
                }
        };
        self.made.iter().find(fits).map(|made| made.outside)
    }

    fn sent(&mut self, now: u64, inside: SocketAddr, remote: SocketAddr, outside: SocketAddr) {
        if self.out(now, inside, remote).is_none() {
            // What had this end before is over, with all that belonged to it.
            self.made.retain(|made| made.outside != outside);
            self.conversations.retain(|c| c.outside != outside);
            self.made.push(Made { inside, first: remote, outside, expires: now });
        }
        for made in self.made.iter_mut().filter(|made| made.outside == outside) {
            made.expires = now + LIFE;
        }
        self.conversations.retain(|c| (c.inside, c.remote) != (inside, remote));
        self.conversations.push(Conversation { inside, remote, outside, expires: now + LIFE });
    }

    /// Who gets a packet from outside.
    fn back(&mut self, now: u64, remote: SocketAddr, outside: SocketAddr) -> Option<SocketAddr> {
        let inside = self.made.iter().find(|made| made.outside == outside && now < made.expires)?.inside;
        let known = |c: &Conversation| c.inside == inside && c.outside == outside && now < c.expires;
        let may = self.conversations.iter().filter(|c| known(c)).any(|c| match self.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => c.remote.ip() == remote.ip(),
            Filtering::AddressAndPortDependent => c.remote == remote,
        });
        if !may && self.filtering != Filtering::EndpointIndependent {
            return None;
        }
        let talks = |c: &Conversation| c.inside == inside && c.remote == remote && now < c.expires;
        if !self.conversations.iter().any(talks) {
            self.conversations.retain(|c| (c.inside, c.remote) != (inside, remote));
            self.conversations.push(Conversation { inside, remote, outside, expires: now + LIFE });
        }
        Some(inside)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Out { host: u8, port: u8, to: u8 },
    In { from: u8, end: usize },
    Wait { secs: u64 },
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3u8, 0..2u8, 0..6u8).prop_map(|(host, port, to)| Step::Out { host, port, to }),
        6 => (0..6u8, any::<usize>()).prop_map(|(from, end)| Step::In { from, end }),
        3 => (0..70u64).prop_map(|secs| Step::Wait { secs }),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec(step, 1..120)
}

/// Two ports each of three hosts.
fn peer(number: u8) -> SocketAddr {
    remote(1 + number / 2, 1000 + u16::from(number % 2))
}

fn config(kind: usize, parity: bool) -> Config {
    let (mapping, filtering, allocation) = kinds().nth(kind).expect("there are 27");
    let mut config =
        Config { parity, inbound_refresh: false, ..Config::of_kind(mapping, filtering, allocation) };
    config.timeouts.udp = secs(LIFE);
    config.timeouts.udp_unanswered = secs(LIFE);
    config
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn all_kinds_do_as_the_model(kind in 0..27usize, parity: bool, steps in steps()) {
        let config = config(kind, parity);
        let (mapping, filtering) = (config.mapping, config.filtering);
        let mut nat = nat(config);
        let mut model = Model { mapping, filtering, conversations: Vec::new(), made: Vec::new() };
        let mut now = 0;
        let mut ends: Vec<SocketAddr> = vec![addr("203.0.113.1:4000")];
        for step in steps {
            match step {
                Step::Out { host, port, to } => {
                    // All hosts use the same ports, so that they are taken.
                    let (from, to) = (inside(10 + host, 5000 + u16::from(port)), peer(to));
                    let outside = out(&mut nat, secs(now), from, to);
                    if let Some(wanted) = model.out(now, from, to) {
                        prop_assert_eq!(outside, wanted);
                    } else {
                        let taken = model.made.iter().any(|m| m.outside == outside && now < m.expires);
                        prop_assert!(!taken, "{} belongs to another", outside);
                        prop_assert!(!parity || outside.port() % 2 == from.port() % 2);
                    }
                    model.sent(now, from, to, outside);
                    ends.push(outside);
                }
                Step::In { from, end } => {
                    let (from, to) = (peer(from), ends[end % ends.len()]);
                    let wanted = model.back(now, from, to);
                    prop_assert_eq!(back(&mut nat, secs(now), from, to), wanted);
                }
                Step::Wait { secs } => now += secs,
                Step::Forget => {
                    nat.forget(secs(now));
                    model.made.clear();
                    model.conversations.clear();
                }
            }
            let live: Vec<_> = model.made.iter().filter(|made| now < made.expires).collect();
            prop_assert_eq!(nat.mappings(secs(now)).count(), live.len());
        }
    }

    /// Whatever happens: no outside end belongs to two mappings of one transport, bounds hold, and a seed gives the same
    /// answers twice.
    #[test]
    fn no_port_is_given_twice(
        kind in 0..27usize,
        seed: u8,
        arbitrary: bool,
        happenings in proptest::collection::vec((0..8u8, 0..4u8, 0..8u8, 0..6u8, 0..40u64), 1..200),
    ) {
        let run = || {
            let limits = Limits {
                sessions: 30, sessions_per_mapping: 5, mappings_per_host: 12, leases_per_host: 2, waiting: 3,
            };
            let config = Config {
                limits,
                ports: 2000..=2011,
                leases: Some(secs(100)),
                hairpin: true,
                pooling: if arbitrary { Pooling::Arbitrary } else { Pooling::Paired },
                reuse_after: secs(u64::from(seed % 3) * 20),
                unsolicited: towline_nat::Refusal::Late(secs(6)),
                ..config(kind, false)
            };
            let pool: [IpAddr; 2] = [ip("203.0.113.1"), ip("203.0.113.2")];
            let mut nat = Nat::new(config, &pool, [seed; 32]);
            let mut now = Duration::ZERO;
            let mut answers = Vec::new();
            for &(what, host, port, to, wait) in &happenings {
                now += secs(wait / 4);
                let from = inside(10 + host, 5000 + u16::from(port));
                let outside = SocketAddr::new(pool[usize::from(to % 2)], 2000 + u16::from(port));
                let flags = [Flags::SYN, Flags::SYN_ACK, Flags::ACK, Flags::FIN, Flags::RST][usize::from(to) % 5];
                let verdict = match what {
                    0 | 1 => nat.handle(now, Way::Out, &Header::udp(from, peer(to))),
                    2 => nat.handle(now, Way::In, &Header::udp(peer(to), outside)),
                    3 => nat.handle(now, Way::Out, &Header::tcp(from, peer(to), Flags::SYN)),
                    4 => nat.handle(now, Way::Out, &Header::tcp(from, peer(to), flags)),
                    5 => nat.handle(now, Way::In, &Header::tcp(peer(to), outside, flags)),
                    6 => nat.handle(now, Way::Out, &Header::udp(from, outside)),
                    _ => {
                        let request = Request {
                            transport: if to % 2 == 0 { Transport::Udp } else { Transport::Tcp },
                            inside: from,
                            port: Some(outside.port()),
                            exact: to > 3,
                            lifetime: secs(wait),
                        };
                        answers.push(format!("{:?}", nat.map(now, &request)));
                        continue;
                    }
                };
                while let Some(refused) = nat.poll_refused(now) {
                    answers.push(format!("{refused:?}"));
                }
                answers.push(format!("{verdict:?}"));
                let live: Vec<_> = nat.mappings(now).collect();
                let ends: BTreeSet<_> = live.iter().map(|mapped| (mapped.transport, mapped.outside)).collect();
                assert_eq!(ends.len(), live.len(), "a port twice: {live:?}");
                for host in 10..14 {
                    let own = live.iter().filter(|mapped| mapped.inside.ip() == inside(host, 0).ip());
                    assert!(own.count() <= 12);
                }
                if let Verdict::Forward { to, .. } | Verdict::Turn { to, .. } = verdict
                    && matches!(what, 2 | 5 | 6)
                {
                    assert!(live.iter().any(|mapped| mapped.inside == to), "{to} has a mapping");
                }
            }
            answers
        };
        prop_assert_eq!(run(), run());
    }
}
