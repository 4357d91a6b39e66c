//! Everything that can happen to several paths, in any order: each report holds, and a network that heals is enough.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::driver::Driver;
use common::{Host, Net, Out, Rule, addr, ms};
use proptest::prelude::*;
use towline_ice::{Candidate, Config, Event, PairState, Preference, Role, TcpType, Transport};

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Loss(u32),
    Connects(u8),
    /// Ends the connections of one side, or only the selected one.
    Close(usize),
    /// One side hears of it, or both.
    Restart(usize, bool),
    Move(usize, u16),
    Back(usize),
    GiveUp(usize, usize),
    Garbage(usize, Vec<u8>),
    Stranger(usize, u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop_oneof![0u64..30, 30u64..3000, 3000u64..60_000].prop_map(Step::Pass),
        2 => prop_oneof![Just(0u32), Just(30), Just(100)].prop_map(Step::Loss),
        2 => (0u8..3).prop_map(Step::Connects),
        2 => (0usize..2).prop_map(Step::Close),
        2 => (0usize..2, any::<bool>()).prop_map(|(side, both)| Step::Restart(side, both)),
        1 => (0usize..2, 6001u16..6004).prop_map(|(side, port)| Step::Move(side, port)),
        1 => (0usize..2).prop_map(Step::Back),
        1 => (0usize..2, any::<usize>()).prop_map(|(side, which)| Step::GiveUp(side, which)),
        1 => (0usize..2, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(side, b)| Step::Garbage(side, b)),
        1 => (0usize..2, 1u16..9999).prop_map(|(side, port)| Step::Stranger(side, port)),
    ]
}

const IPS: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

struct World {
    net: Net,
    sides: [Driver; 2],
    /// Pairs that were reported valid, and how many events have been looked at.
    links: [BTreeSet<towline_ice::PairId>; 2],
    seen: [usize; 2],
    strangers: u32,
}

impl World {
    fn new(seed: u8, preference: Preference) -> Self {
        let mut net = Net::new(seed);
        // Attempts that may not fail: the first description is complete only at the end.
        let config = Config { max_pairs: 48, preference, ..Config::parallel() };
        let roles = [Role::Controlling, Role::Controlled];
        let sides = [0, 1].map(|n| {
            Driver::with_hosts(&mut net, n, roles[n], &[IPS[n]], Some(5000), Some(6000), config.clone())
        });
        Self { net, sides, links: Default::default(), seen: [0; 2], strangers: 0 }
    }

    fn exchange(&mut self) {
        let descriptions = [0, 1].map(|n| self.sides[n].agent.local_description());
        for (n, description) in descriptions.into_iter().rev().enumerate() {
            self.sides[n].agent.set_remote(self.net.now, description);
        }
    }

    fn run(&mut self, time: Duration) {
        let [a, b] = &mut self.sides;
        self.net.run(&mut [a, b], time, |_| false);
        self.check();
    }

    fn check(&mut self) {
        for n in 0..2 {
            let side = &self.sides[n];
            for (_, event) in &side.events[self.seen[n]..] {
                match event {
                    Event::PairValid(valid) => assert!(self.links[n].insert(valid.pair), "valid twice"),
                    Event::PairLost { pair, .. } => assert!(self.links[n].remove(pair), "lost, never valid"),
                    Event::Selected { .. }
                    | Event::Better(_)
                    | Event::PairChanged { .. }
                    | Event::Disconnected
                    | Event::ConsentLost { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            self.seen[n] = side.events.len();
            let report = side.agent.report();
            let states: BTreeMap<_, _> = report.pairs.iter().map(|p| (p.id, p.state)).collect();
            let valid = |(_, state): &(_, &PairState)| **state == PairState::Valid;
            let now: BTreeSet<_> = states.iter().filter(valid).map(|(id, _)| *id).collect();
            assert_eq!(now, self.links[n], "events and report agree");
            assert!(report.selected.is_none_or(|id| self.links[n].contains(&id)), "what is selected works");
            assert!(report.pairs.len() <= 48 && report.local.len() <= 32);
            assert!(report.remote.len() <= 2 * (31 + 16) && report.streams <= 48 + 32);
        }
    }

    fn apply(&mut self, step: Step) {
        let now = self.net.now;
        match step {
            Step::Pass(time) => self.run(ms(time)),
            Step::Loss(percent) => self.net.udp_loss = percent,
            Step::Connects(rule) => {
                let rule = [Rule::Pass, Rule::Refuse, Rule::Swallow][usize::from(rule)];
                self.net.tcp_rule = Box::new(move |_, _| rule);
            }
            Step::Close(n) => {
                if let Some(conn) = self.sides[n].conn() {
                    self.net.apply(n, Out::Close { conn });
                    self.sides[n].closed(now, conn);
                }
            }
            Step::Restart(n, both) => {
                let description = self.sides[n].agent.restart(now);
                if both {
                    let other = self.sides[1 - n].agent.restart(now);
                    self.sides[1 - n].agent.set_remote(now, description);
                    self.sides[n].agent.set_remote(now, other);
                }
            }
            Step::Move(n, port) => {
                let address = addr(&format!("{}:{port}", IPS[n]));
                self.net.bind(n, address);
                let candidate = Candidate::host(Transport::Udp, address, port);
                self.sides[n].agent.add_local(now, candidate.clone());
                let _ = self.sides[1 - n].agent.add_remote_candidate(now, candidate);
            }
            Step::Back(n) => {
                for port in 6001..6004 {
                    self.sides[n].agent.remove_local(now, addr(&format!("{}:{port}", IPS[n])));
                }
            }
            Step::GiveUp(n, which) => {
                let pairs = self.sides[n].agent.report().pairs;
                if !pairs.is_empty() {
                    self.sides[n].agent.give_up(now, pairs[which % pairs.len()].id);
                }
            }
            Step::Garbage(n, bytes) => {
                let (local, remote) =
                    (addr(&format!("{}:6000", IPS[n])), addr(&format!("{}:6000", IPS[1 - n])));
                self.sides[n].agent.handle_udp(now, local, remote, &bytes);
                self.sides[n].agent.handle_udp(now, local, addr("192.0.2.1:7"), &bytes);
            }
            Step::Stranger(n, port) => {
                self.strangers += 1;
                let (local, remote) = (addr(&format!("{}:5000", IPS[n])), ([192, 0, 2, 1], port).into());
                self.sides[n].accepted(now, 1_000_000 + self.strangers, local, remote);
            }
        }
        // Whatever was asked is told before the next step.
        self.run(Duration::ZERO);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_network_that_heals_is_enough(
        seed in any::<u8>(),
        preference in prop_oneof![
            Just(Preference::TcpFirst),
            Just(Preference::UdpFirst),
            Just(Preference::First),
            Just(Preference::Priority),
        ],
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut world = World::new(seed, preference);
        world.exchange();
        for step in steps {
            world.apply(step);
        }
        world.net.udp_loss = 0;
        world.net.tcp_rule = Box::new(|_, _| Rule::Pass);
        for (n, ip) in IPS.iter().enumerate() {
            // What a device offers always.
            let local = [
                Candidate::host(Transport::Udp, addr(&format!("{ip}:6000")), 2),
                Candidate::host(Transport::Tcp(TcpType::Active), addr(&format!("{ip}:9")), 1),
            ];
            for candidate in local {
                world.sides[n].agent.add_local(world.net.now, candidate);
            }
        }
        world.apply(Step::Restart(0, true));
        world.run(Duration::from_mins(1));
        let paths = [0, 1].map(|n| world.sides[n].selected());
        let [Some(a), Some(b)] = paths else { panic!("{:#?}", world.sides[0].agent.report()) };
        prop_assert_eq!(a.is_tcp(), b.is_tcp());
        if a.is_tcp() {
            prop_assert_eq!(world.sides[0].conn(), world.sides[1].conn());
        } else {
            prop_assert_eq!((a.local(), a.remote()), (b.remote(), b.local()));
        }
    }
}
