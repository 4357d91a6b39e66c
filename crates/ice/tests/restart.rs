//! ICE restart: everything new, and not a packet lost meanwhile.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::time::Duration;

use common::driver::{A, B, Driver, Setup};
use common::{Host, Net, addr, ms};
use towline_ice::{
    Candidate, CloseReason, Config, Description, Event, PairError, Role, SelectedPath, Transport, Trickle,
    TrickleError,
};

impl Setup {
    fn new(tcp: bool, udp: bool, config: &Config) -> Self {
        let mut setup = Self::with(tcp, udp, config, [Role::Controlling, Role::Controlled]);
        setup.exchange();
        setup.run(Duration::from_secs(1));
        assert!(setup.a.selected().is_some() && setup.b.selected().is_some());
        setup
    }

    /// Time passes, and both sides talk all the time.
    fn talk(&mut self, limit: Duration) {
        let end = self.net.now + limit;
        while self.net.now < end {
            self.a.send(b"\x40");
            self.b.send(b"\x40");
            self.run(ms(10));
        }
    }

    /// A restarts, B hears of it after a while, A of the answer after another.
    fn restart(&mut self) -> [Description; 2] {
        let ours = self.a.agent.restart(self.net.now);
        self.talk(ms(100));
        assert!(self.b.agent.is_restart(&ours));
        let theirs = self.b.agent.restart(self.net.now);
        self.b.agent.set_remote(self.net.now, ours.clone());
        assert!(!self.b.agent.is_restart(&ours));
        self.talk(ms(100));
        self.a.agent.set_remote(self.net.now, theirs.clone());
        [ours, theirs]
    }

    fn complete(&mut self) {
        self.run(ms(100));
        assert_eq!(
            (self.a.data.len(), self.b.data.len()),
            (self.b.sent, self.a.sent),
            "not a packet is lost"
        );
    }
}

fn selections(driver: &Driver) -> usize {
    driver.events.iter().filter(|(_, e)| matches!(e, Event::Selected { .. })).count()
}

fn generations(driver: &Driver) -> Vec<u32> {
    let mut all: Vec<_> = driver.agent.report().pairs.iter().map(|p| p.generation).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn selected_generation(driver: &Driver) -> u32 {
    let report = driver.agent.report();
    report.pairs.iter().find(|p| Some(p.id) == report.selected).unwrap().generation
}

#[test]
fn the_old_pairs_carry_data_until_a_new_one_is_selected_and_a_moment_longer() {
    for (tcp, udp) in [(true, true), (false, true), (true, false)] {
        let mut setup = Setup::new(tcp, udp, &Config::parallel());
        let before = setup.a.agent.local_description().credentials;
        setup.restart();
        assert_ne!(setup.a.agent.local_description().credentials, before);
        setup.talk(Duration::from_secs(1));
        for side in [&setup.a, &setup.b] {
            // UDP answers first; TCP is preferred.
            let expected = if tcp && udp { 3 } else { 2 };
            assert_eq!((selections(side), selected_generation(side)), (expected, 1));
            assert_eq!(side.selected().unwrap().is_tcp(), tcp);
            assert_eq!(generations(side), [0, 1], "what is under way still counts");
        }
        setup.talk(Duration::from_secs(3));
        for side in [&setup.a, &setup.b] {
            assert_eq!(generations(side), [1]);
            let report = side.agent.report();
            assert!(report.streams <= 2 && report.remote.len() <= 5);
            let gone = |e: &Event| {
                matches!(e, Event::PairLost { reason: PairError::Superseded | PairError::Closed, .. })
            };
            assert!(side.events.iter().any(|(_, e)| gone(e)));
        }
        setup.complete();
        let before = selections(&setup.a);
        setup.run(Duration::from_mins(5));
        assert_eq!((selections(&setup.a), setup.a.agent.role()), (before, Role::Controlling));
    }
}

#[test]
fn a_single_path_over_udp_restarts_too() {
    let mut setup = Setup::new(false, true, &Config::default());
    setup.restart();
    setup.talk(Duration::from_secs(1));
    setup.complete();
    for side in [&setup.a, &setup.b] {
        assert_eq!((selections(side), generations(side)), (2, vec![1]));
        assert!(side.lost().is_none() && side.failure().is_none());
    }
}

#[test]
fn a_single_path_whose_address_goes_during_a_restart_is_replaced() {
    for found in [true, false] {
        let mut setup = Setup::new(false, true, &Config::default());
        let theirs = setup.b.agent.restart(setup.net.now);
        assert_eq!(setup.b.agent.remove_local(setup.net.now, addr("10.0.0.2:6000")), 1);
        setup.run(ms(10));
        assert!(setup.b.lost().is_none() && setup.b.agent.selected().is_none());
        let moved = Candidate::host(Transport::Udp, addr("172.16.0.9:6000"), 0);
        if found {
            setup.net.bind(1, addr("172.16.0.9:6000"));
            setup.b.agent.add_local(setup.net.now, moved.clone());
            let ours = setup.a.agent.restart(setup.net.now);
            setup.a.agent.set_remote(setup.net.now, Description { candidates: vec![moved], ..theirs });
            setup.b.agent.set_remote(setup.net.now, ours);
        }
        setup.run(Duration::from_secs(30));
        let there = SelectedPath::Udp { local: addr("10.0.0.1:6000"), remote: addr("172.16.0.9:6000") };
        if found {
            assert_eq!(setup.a.agent.selected(), Some(there));
            assert_eq!(setup.b.agent.selected().map(SelectedPath::remote), Some(addr("10.0.0.1:6000")));
        } else {
            assert!(setup.b.failure().is_some(), "its restart led nowhere");
        }
    }
}

#[test]
fn reflexive_candidates_go_when_they_do_not_hold_any_more() {
    let mut setup = Setup::new(true, true, &Config::parallel());
    let (outside, base) = (addr("198.51.100.1:7"), addr("10.0.0.1:6000"));
    for port in 0..100 {
        let seen = std::net::SocketAddr::new(outside.ip(), 7 + port);
        assert!(setup.a.agent.add_local(setup.net.now, Candidate::reflexive(Transport::Udp, seen, base, 0)));
        setup.talk(ms(10));
        assert_eq!(setup.a.agent.remove_reflexive(setup.net.now), 1);
    }
    assert_eq!(setup.a.agent.remove_reflexive(setup.net.now), 0);
    setup.talk(Duration::from_secs(1));
    setup.complete();
}

#[test]
fn a_device_that_moves_is_found_at_its_new_address() {
    let mut setup = Setup::new(false, true, &Config::parallel());
    let now = setup.net.now;
    // B leaves its network; A hears of it by other means.
    assert_eq!(setup.b.agent.remove_local(now, addr("10.0.0.2:6000")), 1);
    setup.run(ms(10));
    assert!(setup.b.selected().is_none());
    assert!(setup.b.events.iter().any(|(_, e)| *e == Event::Disconnected));
    setup.net.bind(1, addr("172.16.0.9:6000"));
    setup.b.agent.add_local(now, Candidate::host(Transport::Udp, addr("172.16.0.9:6000"), 0));
    let theirs = setup.b.agent.restart(setup.net.now);
    let ours = setup.a.agent.restart(setup.net.now);
    setup.a.agent.set_remote(setup.net.now, theirs);
    setup.b.agent.set_remote(setup.net.now, ours);
    setup.run(Duration::from_secs(1));
    let path = SelectedPath::Udp { local: addr("10.0.0.1:6000"), remote: addr("172.16.0.9:6000") };
    assert_eq!(setup.a.selected(), Some(path));
    setup.talk(Duration::from_secs(5));
    setup.complete();
}

#[test]
fn a_restart_that_leads_nowhere_changes_nothing() {
    let mut setup = Setup::new(false, true, &Config::parallel());
    let mut ours = setup.a.agent.restart(setup.net.now);
    let mut theirs = setup.b.agent.restart(setup.net.now);
    for (description, dead) in [(&mut ours, "192.0.2.1:1024"), (&mut theirs, "192.0.2.2:1024")] {
        description.candidates = vec![Candidate::host(Transport::Udp, addr(dead), 0)];
    }
    setup.a.agent.set_remote(setup.net.now, theirs);
    setup.b.agent.set_remote(setup.net.now, ours);
    setup.talk(Duration::from_mins(3));
    setup.complete();
    for side in [&setup.a, &setup.b] {
        assert_eq!((selections(side), selected_generation(side)), (1, 0));
        assert!(side.failure().is_none());
    }
}

#[test]
fn restarts_may_follow_each_other_at_any_moment() {
    for pause in [0, 15, 150, 1000, 5000] {
        let mut setup = Setup::new(true, true, &Config::parallel());
        for _ in 0..5 {
            let ours = setup.a.agent.restart(setup.net.now);
            let theirs = setup.b.agent.restart(setup.net.now);
            setup.a.agent.set_remote(setup.net.now, theirs);
            setup.b.agent.set_remote(setup.net.now, ours);
            setup.talk(ms(pause));
            for side in [&setup.a, &setup.b] {
                assert!(generations(side).len() <= 2, "two generations at most");
            }
        }
        setup.talk(Duration::from_secs(5));
        for side in [&setup.a, &setup.b] {
            assert_eq!((generations(side), selected_generation(side)), (vec![5], 5));
        }
        if pause != 15 {
            setup.complete();
        }
    }
}

#[test]
fn late_candidates_of_the_old_description_are_not_taken() {
    let mut setup = Setup::new(false, true, &Config::parallel());
    let old = setup.b.agent.local_description();
    let [_, theirs] = setup.restart();
    let trickle = |of: &Description| Trickle {
        ufrag: of.credentials.ufrag().to_owned(),
        candidates: vec![Candidate::host(Transport::Udp, addr("10.0.0.3:6000"), 0)],
        end: false,
    };
    assert_eq!(setup.a.agent.add_trickle(setup.net.now, trickle(&old)), Err(TrickleError::OtherGeneration));
    assert_eq!(setup.a.agent.add_trickle(setup.net.now, trickle(&theirs)), Ok(vec![]));
}

#[test]
fn an_address_that_goes_takes_only_its_own_pairs_with_it() {
    let mut net = Net::new(1);
    let ips = [A, "10.1.0.1"];
    let config = Config::parallel();
    let mut a =
        Driver::with_hosts(&mut net, 0, Role::Controlling, &ips, Some(5000), Some(6000), config.clone());
    let mut b = Driver::with_hosts(&mut net, 1, Role::Controlled, &[B], Some(5000), Some(6000), config);
    let (one, other) = (a.blob(), b.blob());
    a.set_remote(net.now, &other);
    b.set_remote(net.now, &one);
    net.run(&mut [&mut a, &mut b], Duration::from_secs(1), |_| false);
    // Strangers that have connected and said nothing.
    assert!(a.accepted(net.now, 900, addr("10.0.0.1:5000"), addr("192.0.2.1:7")));
    assert!(a.accepted(net.now, 901, addr("10.1.0.1:5000"), addr("192.0.2.1:8")));
    let before = a.agent.report();
    for base in ["10.0.0.1:5000", "10.0.0.1:6000", "10.0.0.1:9"] {
        assert_eq!(a.agent.remove_local(net.now, addr(base)), 1);
        assert_eq!(a.agent.remove_local(net.now, addr(base)), 0);
    }
    a.drain(net.now, &mut Vec::new());
    let after = a.agent.report();
    assert_eq!((before.local.len(), after.local.len()), (6, 3));
    let stays = |p: &&towline_ice::PairReport| p.local.ip() == addr("10.1.0.1:1").ip();
    let ids =
        |pairs: &[towline_ice::PairReport]| pairs.iter().filter(stays).map(|p| p.id).collect::<Vec<_>>();
    assert_eq!(after.pairs.len(), ids(&after.pairs).len());
    assert_eq!(ids(&before.pairs), ids(&after.pairs));
    assert_eq!(a.selected().unwrap().local().ip(), addr("10.1.0.1:1").ip());
    let strangers = a.closed.iter().filter(|(_, reason)| *reason == CloseReason::LocalGone);
    assert_eq!(strangers.count(), 1);
}
