//! Several paths at once, as two Towlines use them: all that works is reported, kept alive, lost and found again.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::fmt::Write as _;
use std::time::Duration;

use common::driver::{A, B, Driver, Setup};
use common::{Host, Out, Rule, addr, ms};
use towline_ice::{
    Candidate, CandidateKind, Config, Consent, Disposition, Event, LossReason, PairError, Paths, Preference,
    Role, SelectedPath, Transport, ValidPair,
};

impl Setup {
    fn new(tcp: bool, udp: bool, config: &Config) -> Self {
        Self::with(tcp, udp, config, [Role::Controlling, Role::Controlled])
    }

    fn connected(config: &Config) -> Self {
        let mut setup = Self::new(true, true, config);
        setup.exchange();
        setup.run(Duration::from_secs(1));
        setup
    }

    /// Both have selected one pair of this transport.
    fn agree(&self, tcp: bool) {
        let paths = [&self.a, &self.b].map(|d| d.selected().unwrap());
        assert_eq!(paths.map(SelectedPath::is_tcp), [tcp; 2], "{paths:?}");
        assert_eq!(self.a.conn(), self.b.conn());
        if !tcp {
            assert_eq!((paths[0].local(), paths[0].remote()), (paths[1].remote(), paths[1].local()));
        }
    }
}

/// Pairs reported valid and not lost since.
fn links(driver: &Driver) -> Vec<ValidPair> {
    let mut links: Vec<ValidPair> = Vec::new();
    for (_, event) in &driver.events {
        match event {
            Event::PairValid(valid) => {
                assert!(links.iter().all(|l| l.pair != valid.pair), "reported twice");
                links.push(*valid);
            }
            Event::PairLost { pair, .. } => {
                assert!(links.iter().any(|l| l.pair == *pair), "never reported");
                links.retain(|l| l.pair != *pair);
            }
            _ => {}
        }
    }
    links
}

fn udp_links(driver: &Driver) -> usize {
    links(driver).iter().filter(|l| !l.path.is_tcp()).count()
}

fn selections(driver: &Driver) -> Vec<SelectedPath> {
    let path = |(_, e): &_| if let Event::Selected { path, .. } = e { Some(*path) } else { None };
    driver.events.iter().filter_map(path).collect()
}

fn has(driver: &Driver, fits: impl Fn(&Event) -> bool) -> bool {
    driver.events.iter().any(|(_, e)| fits(e))
}

#[test]
fn every_pair_that_works_is_reported_and_carries_data() {
    let mut setup = Setup::connected(&Config::parallel());
    setup.agree(true);
    for (side, other) in [(&mut setup.a, B), (&mut setup.b, A)] {
        let links = links(side);
        // One over UDP, and a connection opened by each side.
        assert_eq!(links.len(), 3);
        assert_eq!(links.iter().filter(|l| !l.path.is_tcp()).count(), 1);
        assert!(links.iter().all(|l| !l.is_relayed() && l.rtt.is_some()));
        for link in links {
            let disposition = match link.path {
                SelectedPath::Udp { local, remote } => {
                    side.agent.handle_udp(setup.net.now, local, remote, b"\x40data")
                }
                SelectedPath::Tcp { stream, .. } => {
                    side.agent.handle_tcp_frame(setup.net.now, stream, b"\x40data")
                }
            };
            assert_eq!(disposition, Disposition::Data);
            assert_eq!(link.path.remote().ip().to_string(), other);
        }
        assert!(side.closed.is_empty(), "selection closes nothing");
    }
    setup.run(Duration::from_mins(10));
    assert_eq!(links(&setup.a).len(), 3, "all are kept alive");
    assert_eq!(selections(&setup.a).len(), 1);
}

#[test]
fn the_preference_decides_where_both_work() {
    for (preference, tcp) in [
        (Preference::TcpFirst, true),
        (Preference::UdpFirst, false),
        // Over UDP a check is answered while TCP shakes hands.
        (Preference::First, false),
    ] {
        let setup = Setup::connected(&Config { preference, ..Config::parallel() });
        setup.agree(tcp);
        assert_eq!(selections(&setup.b).len(), 1);
    }
}

#[test]
fn another_preference_moves_what_was_selected_and_the_other_side_follows() {
    let mut setup = Setup::connected(&Config::parallel());
    setup.agree(true);
    let (leads, follows) = match setup.a.agent.role() {
        Role::Controlling => (&mut setup.a, &mut setup.b),
        Role::Controlled => (&mut setup.b, &mut setup.a),
    };
    follows.agent.prefer(setup.net.now, Preference::UdpFirst);
    leads.agent.prefer(setup.net.now, Preference::TcpFirst);
    setup.run(Duration::from_secs(1));
    setup.agree(true);
    for side in [&mut setup.a, &mut setup.b] {
        side.agent.prefer(setup.net.now, Preference::UdpFirst);
        assert_eq!(side.agent.preference(), Preference::UdpFirst);
    }
    setup.run(Duration::from_secs(1));
    setup.agree(false);
    assert!(setup.a.closed.is_empty(), "what is not selected stays a link");
}

#[test]
fn the_preference_also_holds_for_a_single_path() {
    for (preference, tcp) in [(Preference::TcpFirst, true), (Preference::UdpFirst, false)] {
        let setup = Setup::connected(&Config { preference, ..Config::default() });
        setup.agree(tcp);
        assert_eq!(setup.net.open_conns(), usize::from(tcp));
        assert!(!has(&setup.a, |e| matches!(e, Event::PairValid(_))));
    }
}

#[test]
fn a_better_kind_that_works_later_takes_over() {
    let mut setup = Setup::new(true, true, &Config::parallel());
    setup.net.tcp_rule = Box::new(|_, _| Rule::Slow(ms(300)));
    setup.exchange();
    setup.run(ms(200));
    setup.agree(false);
    setup.run(Duration::from_secs(1));
    setup.agree(true);
    for side in [&setup.a, &setup.b] {
        assert_eq!(selections(side).len(), 2);
        assert!(has(side, |e| matches!(e, Event::Better(valid) if valid.path.is_tcp())));
        assert_eq!(udp_links(side), 1, "the first one goes on");
    }
}

#[test]
fn an_equal_kind_moves_nothing() {
    let mut setup = Setup::new(false, true, &Config::parallel());
    setup.exchange();
    setup.run(Duration::from_secs(1));
    // A second interface of B, with the best priority there is.
    setup.net.bind(1, addr("10.0.0.3:6000"));
    let mut second = Candidate::host(Transport::Udp, addr("10.0.0.3:6000"), 0);
    second.priority = u32::MAX;
    assert!(setup.b.agent.add_local(setup.net.now, second.clone()));
    assert_eq!(setup.a.agent.add_remote_candidate(setup.net.now, second), Ok(()));
    setup.run(Duration::from_secs(1));
    for side in [&setup.a, &setup.b] {
        assert_eq!((udp_links(side), selections(side).len()), (2, 1));
    }
}

#[test]
fn the_end_of_the_selected_connection_moves_to_another_path() {
    let mut setup = Setup::connected(&Config::parallel());
    // Only one connection can be made, so that nothing but UDP is left.
    while let Some(conn) = setup.b.conn() {
        setup.net.tcp_rule = Box::new(|_, _| Rule::Swallow);
        setup.net.apply(1, Out::Close { conn });
        setup.b.closed(setup.net.now, conn);
        setup.run(ms(100));
    }
    setup.agree(false);
    assert!(setup.a.lost().is_none() && !has(&setup.a, |e| matches!(e, Event::Disconnected)));
    assert!(has(&setup.a, |e| matches!(e, Event::PairLost { reason: PairError::Closed, .. })));
    // Connections are tried again, and taken again.
    setup.net.tcp_rule = Box::new(|_, _| Rule::Pass);
    setup.run(Duration::from_mins(2));
    setup.agree(true);
}

#[test]
fn consent_is_asked_every_5_seconds_or_so_and_its_loss_ends_the_pair() {
    let mut setup = Setup::connected(&Config::parallel());
    let before = setup.net.datagrams;
    setup.run(Duration::from_mins(10));
    // Question and answer of each side, every 5 s on average.
    let sent = setup.net.datagrams - before;
    assert!((440..520).contains(&sent), "{sent}");
    assert!(setup.a.keepalives.iter().all(|at| *at > setup.net.start), "TCP pairs have keep-alives instead");
    setup.net.udp_loss = 100;
    let cut = setup.net.now;
    setup.run(Duration::from_secs(40));
    for side in [&setup.a, &setup.b] {
        assert_eq!((udp_links(side), links(side).len()), (0, 2));
        let lost = |e: &Event| matches!(e, Event::PairLost { reason: PairError::ConsentLost, .. });
        let (at, _) = side.events.iter().find(|(_, e)| lost(e)).unwrap();
        let after = *at - cut;
        assert!(after >= Duration::from_secs(24) && after <= Duration::from_secs(30), "{after:?}");
        assert!(!has(side, |e| matches!(e, Event::ConsentLost { .. })), "it was not the selected one");
    }
    setup.agree(true);
    setup.net.udp_loss = 0;
    setup.run(Duration::from_mins(2));
    assert_eq!((udp_links(&setup.a), udp_links(&setup.b)), (1, 1), "found again");
}

#[test]
fn when_nothing_works_the_agent_waits_and_comes_back() {
    let mut setup = Setup::new(false, true, &Config::parallel());
    setup.exchange();
    setup.run(Duration::from_secs(1));
    setup.net.udp_loss = 100;
    setup.run(Duration::from_mins(3));
    for side in [&setup.a, &setup.b] {
        let tail: Vec<_> = side.events.iter().map(|(_, e)| e).collect();
        let at = tail.iter().position(|e| matches!(e, Event::ConsentLost { .. })).unwrap();
        assert!(tail[at..].iter().any(|e| matches!(e, Event::PairLost { .. })));
        assert!(tail[at..].iter().any(|e| matches!(e, Event::Disconnected)));
        assert!(side.selected().is_none() && side.failure().is_none() && side.lost().is_none());
    }
    setup.net.udp_loss = 0;
    setup.run(Duration::from_mins(2));
    setup.agree(false);
    assert_eq!(setup.a.agent.role(), Role::Controlling, "roles in use stay");
}

#[test]
fn a_single_path_ends_with_its_consent() {
    let config = Config { consent: Some(Consent::default()), ..Config::default() };
    let mut setup = Setup::new(false, true, &config);
    setup.exchange();
    setup.run(Duration::from_mins(5));
    setup.agree(false);
    setup.net.udp_loss = 100;
    setup.run(Duration::from_secs(31));
    for side in [&setup.a, &setup.b] {
        assert_eq!(side.lost(), Some(LossReason::ConsentLost));
        assert!(has(side, |e| matches!(e, Event::ConsentLost { .. })));
        assert_eq!(side.agent.poll_timeout(), None);
    }
}

#[test]
fn a_pair_that_dies_while_it_is_nominated_is_given_up_for_another() {
    let mut setup =
        Setup::new(true, true, &Config { preference: Preference::UdpFirst, ..Config::parallel() });
    setup.exchange();
    // UDP has answered, and its nomination is under way; TCP shakes hands.
    setup.run(ms(10));
    setup.net.udp_loss = 100;
    setup.run(Duration::from_secs(5));
    setup.agree(true);
    assert!(setup.b.failure().is_none(), "TCP worked all the time");
    setup.net.udp_loss = 0;
    setup.run(Duration::from_secs(30));
    setup.agree(false);
}

#[test]
fn connects_that_hang_do_not_hold_up_datagrams() {
    let mut setup = Setup::new(true, true, &Config { burst: 1, ..Config::parallel() });
    setup.net.tcp_rule = Box::new(|_, _| Rule::Swallow);
    // Thirty connections of the best priority, and UDP behind them.
    let mut blob: String = setup.b.blob().split_inclusive('\n').take(2).collect();
    for n in 0..30 {
        writeln!(blob, "T 1 TCP {} 10.0.0.2 {} typ host tcptype passive", 4_000_000 + n, 7000 + n).unwrap();
    }
    writeln!(blob, "U 1 UDP 1 10.0.0.2 6000 typ host").unwrap();
    setup.a.set_remote(setup.net.now, &blob);
    let a = setup.a.blob();
    setup.b.set_remote(setup.net.now, &a);
    setup.run(Duration::from_secs(1));
    setup.agree(false);
    let took = setup.a.selected_at().unwrap() - setup.net.start;
    assert!(took <= ms(150), "the second check of all, and the delay for something better: {took:?}");
}

#[test]
fn an_address_that_never_answers_is_not_asked_for_ever() {
    let mut setup = Setup::new(false, true, &Config::parallel());
    let dead = "F 1 UDP 5 192.0.2.9 6000 typ srflx\n";
    let (a, b) = (setup.a.blob(), setup.b.blob());
    setup.a.set_remote(setup.net.now, &(b + dead));
    setup.b.set_remote(setup.net.now, &a);
    setup.run(Duration::from_mins(30));
    let report = setup.a.agent.report();
    let pair = report.pairs.iter().find(|p| p.remote.ip().to_string() == "192.0.2.9").unwrap();
    assert_eq!(pair.checks_sent, 5 * 4, "once, and three times again");
}

#[test]
fn a_pair_given_up_stays_so() {
    let mut setup = Setup::connected(&Config::parallel());
    let udp = links(&setup.a).into_iter().find(|l| !l.path.is_tcp()).unwrap();
    assert!(setup.a.agent.give_up(setup.net.now, udp.pair));
    assert!(!setup.a.agent.give_up(setup.net.now, udp.pair));
    setup.run(Duration::from_secs(1));
    assert_eq!(udp_links(&setup.a), 0);
    setup.agree(true);
    // The peer goes on asking, until it notices; that makes nothing of it.
    let mut times = setup.a.keepalives.len();
    setup.run(Duration::from_secs(20));
    times = setup.a.keepalives.len() - times;
    assert_eq!(udp_links(&setup.a), 0);
    assert!(times > 0, "the selected pair lives");
}

#[test]
fn a_pair_that_failed_may_be_given_up_for_good() {
    let mut setup = Setup::connected(&Config::parallel());
    let opened = |s: &Setup| links(&s.a).into_iter().filter(|l| l.path.is_tcp()).count();
    assert_eq!(opened(&setup), 2);
    let connects = setup.net.connects.len();
    // Each side gives up the connection that the other side has opened and prefers not to have; who opened it hears so.
    for side in [&mut setup.a, &mut setup.b] {
        let theirs = side.selected().unwrap();
        let other = links(side).into_iter().find(|l| l.path.is_tcp() && l.path != theirs).unwrap();
        side.agent.give_up(setup.net.now, other.pair);
        side.agent.give_up(setup.net.now, other.pair);
    }
    setup.run(Duration::from_mins(3));
    assert_eq!(opened(&setup), 1);
    assert_eq!(setup.net.connects.len(), connects, "nobody tries again");
    setup.agree(true);
}

#[test]
fn an_attempt_at_many_paths_fails_too_when_none_works() {
    let config = Config { trickle: false, ..Config::parallel() };
    let mut setup = Setup::new(true, true, &config);
    setup.net.tcp_rule = Box::new(|_, _| Rule::Swallow);
    setup.net.udp_loss = 100;
    setup.exchange();
    setup.run(Duration::from_mins(1));
    for (side, patience) in [(&setup.a, 5), (&setup.b, 10)] {
        let report = side.failure().unwrap();
        assert_eq!(report.to_string(), "no candidate pair answered: 1 TCP connect timed out, 1 UDP silent");
        let (when, _) = side.events.last().unwrap();
        assert_eq!(*when - setup.net.start, ms(15_500) + Duration::from_secs(patience));
    }
}

#[test]
fn what_the_peer_can_do_may_be_learnt_after_the_agent_was_made() {
    let mut setup = Setup::new(true, true, &Config::default());
    for side in [&mut setup.a, &mut setup.b] {
        side.agent.set_paths(Paths::Many);
        side.agent.set_trickle(true);
    }
    setup.exchange();
    setup.run(Duration::from_secs(1));
    assert_eq!((links(&setup.a).len(), links(&setup.b).len()), (3, 3));
    setup.a.agent.set_paths(Paths::One);
    let before = links(&setup.a);
    setup.run(Duration::from_secs(1));
    assert_eq!(links(&setup.a), before, "too late to change");
    assert!(before.iter().all(|l| l.local == CandidateKind::Host));
}
