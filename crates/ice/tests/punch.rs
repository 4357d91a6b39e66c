//! Hard NATs: ports in sequence and at random, on one side and on both, within the limits on probes and sockets.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::nat::{By, Datagram, Manner, Nat, Node, Ports, StunServer, World};
use common::{addr, ms};
use towline_ice::gather::{GatherAction, GatherConfig, GatherEvent, Gatherer, Server, Via};
use towline_ice::nat::Mapping;
use towline_ice::punch::{Budget, BudgetConfig, Party, Plan, Punch, PunchConfig, PunchRefused};
use towline_ice::{
    Action, Agent, Candidate, CandidateKind, Config, Description, Disposition, DropReason, Event, Role,
    Transport,
};

const PUBLIC: [&str; 2] = ["192.0.2.1:3478", "192.0.2.2:3478"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Cone,
    Sequential(i32),
    Random,
    /// Random, and the same for all ports of an address, which are let in by address (or by port).
    Scattered(By),
}

impl Kind {
    fn nat(self, outside: &str, seed: u8) -> Option<Nat> {
        let (mapping, ports) = match self {
            Self::Open => return None,
            Self::Cone => (By::Nothing, Ports::Preserving),
            Self::Sequential(step) => (By::Port, Ports::Sequential(step)),
            Self::Random => (By::Port, Ports::Random),
            Self::Scattered(filter) => {
                return Some(Nat::new(outside, By::Address, filter, Ports::Random, seed));
            }
        };
        // Filters are of the hardest kind.
        Some(Nat::new(outside, mapping, By::Port, ports, seed))
    }
}

/// A device: asks two servers, then has a session, and punches if that is the plan.
struct Device {
    ip: String,
    now: Instant,
    gatherer: Gatherer,
    agent: Agent,
    punch: Option<Punch>,
    budget: Rc<RefCell<Budget>>,
    config: PunchConfig,
    sent: u32,
    sockets: BTreeSet<SocketAddr>,
    selected: Option<Instant>,
    reflexive: Vec<Candidate>,
}

impl Device {
    fn new(now: Instant, ip: &str, role: Role, seed: u8, budget: &Rc<RefCell<Budget>>) -> Self {
        let base = addr(&format!("{ip}:5000"));
        let mut gatherer = Gatherer::new(GatherConfig::default(), now, [seed; 32]);
        gatherer.add_base(now, Via::Udp, base);
        for server in PUBLIC {
            gatherer.add_server(now, Server { address: addr(server), via: Via::Udp });
        }
        let mut agent = Agent::new(Config::parallel(), role, now, [seed ^ 0x80; 32]);
        agent.add_local(now, Candidate::host(Transport::Udp, base, 0));
        Self {
            ip: ip.to_owned(),
            now,
            gatherer,
            agent,
            punch: None,
            budget: Rc::clone(budget),
            config: PunchConfig::default(),
            sent: 0,
            sockets: BTreeSet::new(),
            selected: None,
            reflexive: Vec::new(),
        }
    }

    fn describe(&mut self, now: Instant) -> (Description, Party) {
        for candidate in self.reflexive.drain(..).chain(self.gatherer.predicted(Via::Udp, 8)) {
            self.agent.add_local(now, candidate);
        }
        // An open host sees itself.
        (self.agent.local_description(), self.gatherer.party().unwrap())
    }

    fn start(
        &mut self,
        now: Instant,
        remote: Description,
        peer: Party,
        seed: u8,
    ) -> Result<Plan, PunchRefused> {
        assert!(self.agent.probe().is_none(), "the peer is not known");
        self.agent.set_remote(now, remote);
        let ours = self.gatherer.party().unwrap().mapping;
        let mut budget = self.budget.borrow_mut();
        let punch =
            Punch::new(self.config.clone(), self.agent.role(), ours, peer, &mut budget, now, [seed; 32])?;
        let plan = punch.plan();
        self.punch = Some(punch);
        Ok(plan)
    }
}

impl Node for Device {
    fn datagram(&mut self, now: Instant, local: SocketAddr, remote: SocketAddr, payload: &[u8]) {
        if !self.gatherer.handle_udp(now, local, remote, payload) {
            self.agent.adopt(now, local, remote, payload);
        }
    }

    fn due(&self) -> Option<Instant> {
        let punch = self.punch.as_ref().and_then(|p| p.poll_timeout(self.now, &self.budget.borrow()));
        [self.gatherer.poll_timeout(), self.agent.poll_timeout(), punch].into_iter().flatten().min()
    }

    fn timeout(&mut self, now: Instant) {
        self.gatherer.handle_timeout(now);
        self.agent.handle_timeout(now);
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        self.now = now;
        while let Some(GatherAction::SendUdp { local, remote, payload }) = self.gatherer.poll_action() {
            out.push(Datagram { local, remote, payload: payload.to_vec() });
        }
        while let Some(event) = self.gatherer.poll_event() {
            if let GatherEvent::Candidate(candidate) = event {
                self.reflexive.push(candidate);
            }
        }
        while let Some(Action::SendUdp { local, remote, payload }) = self.agent.poll_action() {
            out.push(Datagram { local, remote, payload: payload.to_vec() });
        }
        while let Some(event) = self.agent.poll_event() {
            if matches!(event, Event::Selected { .. }) {
                self.selected.get_or_insert(now);
            }
        }
        let Some(mut punch) = self.punch.take() else { return };
        let mut budget = self.budget.borrow_mut();
        while let Some(probe) = punch.poll_probe(now, &mut budget) {
            let port = if punch.sockets() == 0 { 5000 } else { 10_000 + probe.socket };
            let local = addr(&format!("{}:{port}", self.ip));
            self.sockets.insert(local);
            let payload = self.agent.probe().unwrap().to_vec();
            out.push(Datagram { local, remote: probe.remote, payload });
        }
        self.sent = punch.sent();
        if self.selected.is_some() || punch.is_over(now) {
            punch.finish(&mut budget);
        } else {
            self.punch = Some(punch);
        }
    }
}

struct Trial {
    world: World,
    a: Device,
    b: Device,
    servers: [StunServer; 2],
}

impl Trial {
    fn new(kinds: [Kind; 2], seed: u8) -> Self {
        let mut world = World::new(seed);
        let roles = if seed.is_multiple_of(2) {
            [Role::Controlling, Role::Controlled]
        } else {
            [Role::Controlled, Role::Controlling]
        };
        let budgets = [(); 2].map(|()| Rc::new(RefCell::new(Budget::default())));
        let mut device = |n: usize| {
            let (ip, outside) = (format!("10.0.{n}.1"), format!("198.51.100.{n}"));
            let nat = kinds[n].nat(&outside, seed.wrapping_mul(2) + n as u8);
            let ip = if nat.is_none() { format!("203.0.113.{n}") } else { ip };
            world.host(n, &ip, nat);
            let mut device =
                Device::new(world.now, &ip, roles[n], seed.wrapping_mul(2) + n as u8, &budgets[n]);
            if matches!(kinds[n], Kind::Scattered(_)) {
                // It takes two ports of one server to be told.
                let other = addr(&PUBLIC[0].replace("3478", "3479"));
                device.gatherer.add_server(world.now, Server { address: other, via: Via::Udp });
            }
            device
        };
        let (a, b) = (device(0), device(1));
        for (n, server) in PUBLIC.iter().enumerate() {
            world.host(2 + n, &addr(server).ip().to_string(), None);
        }
        let servers = [StunServer::new(Manner::Honest), StunServer::new(Manner::Honest)];
        Self { world, a, b, servers }
    }

    fn run(&mut self, limit: Duration, selected: bool) -> bool {
        let Self { world, a, b, servers: [one, two] } = self;
        let mut none = |_: &mut [&mut dyn Node]| false;
        let end = world.now + limit;
        // In slices, so that both may be looked at.
        while world.now < end {
            world.run(&mut [a, b, one, two], ms(10), &mut none);
            if selected && a.selected.is_some() && b.selected.is_some() {
                return true;
            }
        }
        false
    }

    /// Gathers, tells each other, and looks for a path; how long it took. `skipped` is what others use of the ports of each NAT
    /// in between.
    fn meet(&mut self, skipped: [i32; 2]) -> ([Result<Plan, PunchRefused>; 2], Option<Duration>) {
        self.run(ms(200), false);
        let (ours, our_party) = self.a.describe(self.world.now);
        let (theirs, their_party) = self.b.describe(self.world.now);
        for (n, ports) in skipped.into_iter().enumerate() {
            if ports > 0 {
                self.world.nat(&format!("198.51.100.{n}")).skip(ports);
            }
        }
        let start = self.world.now;
        let first = self.a.start(start, theirs, their_party, 1);
        // The other one hears of it a little later.
        self.run(ms(150), false);
        let second = self.b.start(self.world.now, ours, our_party, 2);
        let done = self.run(Duration::from_secs(10), true);
        let took = done.then(|| self.world.now - start);
        ([first, second], took)
    }

    fn bounded(&self) {
        assert!(self.a.sent + self.b.sent <= 2_500);
        assert!(self.a.sockets.len() <= 256 && self.b.sockets.len() <= 256);
        let report = [&self.a, &self.b].map(|d| d.agent.report());
        for report in report {
            let adopted = report.local.iter().filter(|c| c.kind == CandidateKind::PeerReflexive).count();
            assert!(adopted <= 4);
        }
    }
}

/// Successes within 10 s, and the median of their times.
fn trials(
    kinds: [Kind; 2],
    seeds: u8,
    skipped: impl Fn(u8) -> [i32; 2],
    plans: [Plan; 2],
) -> (usize, Duration) {
    let mut times = Vec::new();
    for seed in 0..seeds {
        let mut trial = Trial::new(kinds, seed);
        let (chosen, took) = trial.meet(skipped(seed));
        let chosen = chosen.map(|plan| match plan {
            Ok(plan) => plan,
            Err(PunchRefused::NotNeeded) => Plan::Checks,
            Err(error) => panic!("{error}"),
        });
        assert_eq!(chosen, plans);
        trial.bounded();
        times.extend(took);
    }
    times.sort();
    (times.len(), times.get(times.len() / 2).copied().unwrap_or_default())
}

#[test]
fn random_ports_on_one_side_are_found_by_their_birthday() {
    for (other, seeds) in [(Kind::Open, 10), (Kind::Cone, 40)] {
        let (found, median) = trials([Kind::Random, other], seeds, |_| [0, 0], [Plan::Spread, Plan::Guess]);
        assert_eq!(found, usize::from(seeds), "against {other:?}");
        // Both sides may be the one that begins.
        assert!(median < Duration::from_secs(4), "{median:?}");
        let (found, _) = trials([other, Kind::Random], 10, |_| [0, 0], [Plan::Guess, Plan::Spread]);
        assert_eq!(found, 10);
    }
}

#[test]
fn the_mathematics_hold_in_the_simulation() {
    let mut found = 0;
    for seed in 0..60 {
        let mut trial = Trial::new([Kind::Cone, Kind::Random], seed);
        // 175 guesses after all sockets are open: even odds.
        let config =
            PunchConfig { max_probes: 256 + 175, head_start: Duration::from_secs(2), ..Default::default() };
        (trial.a.config, trial.b.config) = (config.clone(), config);
        let (_, took) = trial.meet([0, 0]);
        assert!(trial.a.sent <= 175);
        found += usize::from(took.is_some());
    }
    // Three standard deviations of 3.9 around 30.
    assert!((18..=42).contains(&found), "{found} of 60");
}

#[test]
fn a_sequence_on_one_side_is_predicted() {
    for step in [1, 2, -1] {
        for other in [Kind::Open, Kind::Cone] {
            let skipped = |seed: u8| [i32::from(seed % 4), 0];
            let plans = [Plan::Checks; 2];
            let (found, median) = trials([Kind::Sequential(step), other], 20, skipped, plans);
            assert_eq!(found, 20, "step {step} against {other:?}");
            assert!(median < ms(1500), "{median:?}");
        }
    }
}

#[test]
fn sequences_on_both_sides_meet_whatever_others_use_meanwhile() {
    for steps in [[1, 1], [1, 2], [-1, 1]] {
        let skipped = |seed: u8| [i32::from(seed % 7), i32::from(seed % 11)];
        let (found, median) = trials(steps.map(Kind::Sequential), 50, skipped, [Plan::Meet; 2]);
        assert!(found >= 49, "{found} of 50 with {steps:?}");
        assert!(median < Duration::from_secs(2), "{median:?}");
    }
}

#[test]
fn random_ports_that_are_the_same_for_an_address_are_found_from_any_nat() {
    let scattered = Kind::Scattered(By::Address);
    for other in [Kind::Cone, Kind::Sequential(1), Kind::Random] {
        let (found, median) = trials([scattered, other], 20, |_| [0, 0], [Plan::Spread, Plan::Guess]);
        assert_eq!(found, 20, "against {other:?}");
        assert!(median < Duration::from_secs(4), "{median:?}");
        let (found, _) = trials([other, scattered], 5, |_| [0, 0], [Plan::Guess, Plan::Spread]);
        assert_eq!(found, 5, "{other:?}");
    }
    // One that lets in by port keeps the promise to known ports only; in vain, it costs no more.
    let strict = Kind::Scattered(By::Port);
    let (found, _) = trials([strict, Kind::Cone], 5, |_| [0, 0], [Plan::Spread, Plan::Guess]);
    assert_eq!(found, 5);
    let (found, _) = trials([strict, Kind::Random], 5, |_| [0, 0], [Plan::Spread, Plan::Guess]);
    assert!(found <= 1, "{found}");
}

#[test]
fn what_is_hopeless_is_said_at_once() {
    for kinds in [[Kind::Random; 2], [Kind::Random, Kind::Sequential(1)], [Kind::Sequential(1), Kind::Random]]
    {
        let mut trial = Trial::new(kinds, 1);
        let (plans, took) = trial.meet([0, 0]);
        assert_eq!(plans, [Err(PunchRefused::Hopeless); 2]);
        assert_eq!((took, trial.a.sent + trial.b.sent), (None, 0));
    }
}

#[test]
fn several_attempts_share_one_budget_and_none_starves() {
    let budget = Rc::new(RefCell::new(Budget::default()));
    let mut trials: Vec<_> = (0..3).map(|seed| Trial::new([Kind::Cone, Kind::Random], 2 * seed)).collect();
    let now = trials[0].world.now;
    for trial in &mut trials {
        trial.a.budget = Rc::clone(&budget);
        trial.world.now = now;
        trial.run(ms(200), false);
        let (ours, our_party) = trial.a.describe(trial.world.now);
        let (theirs, their_party) = trial.b.describe(trial.world.now);
        trial.a.start(trial.world.now, theirs, their_party, 1).unwrap();
        trial.b.start(trial.world.now, ours, our_party, 2).unwrap();
    }
    assert_eq!(budget.borrow().attempts(), 3);
    // They share a clock.
    for step in 1..=1000u64 {
        for trial in &mut trials {
            trial.run(ms(10), false);
        }
        let looking: Vec<_> = trials.iter().filter(|t| t.a.punch.is_some()).map(|t| t.a.sent).collect();
        if let (Some(most), Some(least)) = (looking.iter().max(), looking.iter().min()) {
            assert!(most - least <= 4, "{looking:?}");
        }
        // They all are after one address, which gets 300 per second, after half a second of waiting.
        let all: u32 = trials.iter().map(|t| t.a.sent).sum();
        assert!(u64::from(all) <= (step * 3).saturating_sub(150) + 3 * 5, "{all} after {step}0 ms");
    }
    assert!(trials.iter().all(|t| t.a.selected.is_some() && t.b.selected.is_some()));
    assert_eq!(budget.borrow().attempts(), 0, "shares are given back");
}

#[test]
fn sockets_for_punching_are_for_the_peer_only() {
    let now = Instant::now();
    let mut ours = Agent::new(Config::parallel(), Role::Controlled, now, [1; 32]);
    let mut theirs = Agent::new(Config::parallel(), Role::Controlling, now, [2; 32]);
    let mut stranger = Agent::new(Config::parallel(), Role::Controlling, now, [3; 32]);
    ours.add_local(now, Candidate::host(Transport::Udp, addr("10.0.0.1:5000"), 0));
    theirs.set_remote(now, ours.local_description());
    let mut forged = ours.local_description();
    forged.credentials =
        towline_ice::Credentials::parse(forged.credentials.ufrag(), "guessed-password-00000").unwrap();
    stranger.set_remote(now, forged);
    ours.set_remote(now, theirs.local_description());

    let adopt = |agent: &mut Agent, n: usize, packet: &[u8]| {
        agent.adopt(now, addr(&format!("10.0.0.1:{}", 10_000 + n)), addr("198.51.100.1:7"), packet)
    };
    let answers = |agent: &mut Agent| std::iter::from_fn(|| agent.poll_action()).count();
    for packet in [b"\x40data".to_vec(), stranger.probe().unwrap().to_vec()] {
        assert!(matches!(adopt(&mut ours, 0, &packet), Disposition::Dropped(_)));
    }
    let probe = theirs.probe().unwrap();
    let mut broken = probe.to_vec();
    broken[30] ^= 1;
    assert!(matches!(adopt(&mut ours, 0, &broken), Disposition::Dropped(DropReason::Malformed(_))));
    assert_eq!((ours.report().local.len(), answers(&mut ours)), (1, 0), "nothing came of it");
    for n in 0..10 {
        let taken = adopt(&mut ours, n, &theirs.probe().unwrap());
        let expected = if n < 4 { Disposition::Consumed } else { Disposition::Dropped(DropReason::Policy) };
        assert_eq!(taken, expected);
    }
    assert_eq!(adopt(&mut ours, 0, &probe), Disposition::Consumed, "it is one of ours now");
    assert_eq!(ours.local_description().candidates.len(), 1, "they are announced to nobody");
    assert_eq!(answers(&mut ours), 2 * 4 + 1, "an answer to each, and a check of ours on each path");
}

#[test]
fn a_party_that_names_nobody_is_not_punched() {
    let now = Instant::now();
    let mut budget = Budget::new(BudgetConfig { max_attempts: 1, ..BudgetConfig::default() });
    let random: Mapping = "by-port-random".parse().unwrap();
    let mut make = |peer: &str| {
        let peer = Party { mapping: Mapping::Open, outside: addr(peer) };
        Punch::new(PunchConfig::default(), Role::Controlled, random, peer, &mut budget, now, [0; 32])
            .map(|p| (p.plan(), p.sockets()))
    };
    assert!(matches!(make("224.0.0.1:5000"), Err(PunchRefused::Policy(_))));
    assert!(matches!(make("0.0.0.0:5000"), Err(PunchRefused::Policy(_))));
    assert_eq!(make("198.51.100.1:5000"), Ok((Plan::Spread, 256)));
    assert_eq!(make("198.51.100.1:5000"), Err(PunchRefused::TooMany));
}
