//! Two agents in a simulated network, each behaviour as a story.
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::fmt::Write as _;
use std::time::Duration;

use common::driver::{A, B, Driver, Setup};
use common::{Host, Net, Rule, addr, ms};
use towline_ice::{
    Candidate, CandidateKind, CandidateRefused, Config, Event, FailureReason, LossReason, PairError,
    PairState, Role, SelectedPath, TcpType, Transport,
};

impl Setup {
    /// A controls. Both listen on TCP or UDP, or both.
    fn new(tcp: bool, udp: bool) -> Self {
        Self::with(tcp, udp, &Config::default(), [Role::Controlling, Role::Controlled])
    }

    /// Both selected one path, and it carries data both ways.
    fn connected(&mut self) -> Duration {
        let missing = |d: &Driver| panic!("nothing selected: {:#?}", d.agent.report());
        let when = [&self.a, &self.b].map(|d| d.selected_at().unwrap_or_else(|| missing(d)) - self.net.start);
        match (self.a.selected().unwrap(), self.b.selected().unwrap()) {
            (SelectedPath::Udp { local: la, remote: ra }, SelectedPath::Udp { local: lb, remote: rb }) => {
                assert_eq!((la, ra), (rb, lb));
            }
            (SelectedPath::Tcp { .. }, SelectedPath::Tcp { .. }) => {
                assert_eq!(self.a.conn(), self.b.conn());
                assert_eq!(self.net.open_conns(), 1, "the others are closed");
            }
            paths => panic!("different paths: {paths:?}"),
        }
        assert_eq!(self.a.agent.role(), self.b.agent.role().other());
        self.net.udp_loss = 0;
        self.a.send(b"ping");
        self.b.send(b"pong");
        self.run(ms(100));
        assert_eq!((&self.a.data[..], &self.b.data[..]), (&b"pong"[..], &b"ping"[..]));
        when[0].max(when[1])
    }
}

#[test]
fn tcp_in_a_lan_takes_five_one_way_trips() {
    let mut setup = Setup::new(true, false);
    setup.exchange();
    setup.run(Duration::from_secs(1));
    // SYN, SYN-ACK, check, answer, nomination, answer: 6 × 5 ms.
    assert_eq!(setup.connected(), ms(30));
    assert_eq!(setup.net.connects.len(), 2, "both sides connect, as Jami peers do");
}

#[test]
fn udp_in_a_lan_takes_two_round_trips() {
    let mut setup = Setup::new(false, true);
    setup.exchange();
    setup.run(Duration::from_secs(1));
    assert_eq!(setup.connected(), ms(20));
}

#[test]
fn udp_checks_are_repeated_until_they_get_through() {
    for seed in 0..20 {
        let mut setup = Setup::new(false, true);
        setup.net = Net::new(seed);
        setup.a = Driver::with_hosts(
            &mut setup.net,
            0,
            Role::Controlling,
            &[A],
            None,
            Some(6000),
            Config::default(),
        );
        setup.b = Driver::with_hosts(
            &mut setup.net,
            1,
            Role::Controlled,
            &[B],
            None,
            Some(6000),
            Config::default(),
        );
        setup.net.udp_loss = 20;
        setup.exchange();
        setup.run(Duration::from_mins(1));
        setup.connected();
    }
}

#[test]
fn bytes_may_be_split_anywhere() {
    for split in [1, 2, 3, 7, 60] {
        let mut setup = Setup::new(true, false);
        setup.net.split = split;
        setup.exchange();
        setup.run(Duration::from_secs(1));
        setup.connected();
    }
}

#[test]
fn one_direction_of_connecting_is_enough() {
    for blocked in [A, B] {
        for rule in [Rule::Refuse, Rule::Swallow] {
            let mut setup = Setup::new(true, false);
            setup.net.tcp_rule =
                Box::new(
                    move |_, to| {
                        if to.ip() == addr(&format!("{blocked}:1")).ip() { rule } else { Rule::Pass }
                    },
                );
            setup.exchange();
            setup.run(Duration::from_secs(1));
            // At most the delay for a better pair longer.
            assert!(setup.connected() <= ms(90));
        }
    }
}

#[test]
fn a_better_pair_is_awaited_for_the_delay_and_no_longer() {
    for (delay, port) in [(ms(20), 5000), (ms(200), 5001)] {
        let mut net = Net::new(1);
        let mut a =
            Driver::with_hosts(&mut net, 0, Role::Controlling, &[A], Some(5000), None, Config::default());
        let mut b =
            Driver::with_hosts(&mut net, 1, Role::Controlled, &[B], Some(5000), None, Config::default());
        net.listen(1, addr("10.0.0.2:5001"));
        let second = Candidate::host(Transport::Tcp(TcpType::Passive), addr("10.0.0.2:5001"), 7);
        assert!(b.agent.add_local(net.now, second));
        net.tcp_rule = Box::new(move |_, to| match (to.ip() == addr("10.0.0.1:1").ip(), to.port()) {
            (true, _) => Rule::Swallow,
            (false, 5000) => Rule::Slow(delay),
            (false, _) => Rule::Pass,
        });
        let (ba, bb) = (a.blob(), b.blob());
        a.set_remote(net.now, &bb);
        b.set_remote(net.now, &ba);
        net.run(&mut [&mut a, &mut b], Duration::from_secs(1), |_| false);
        let Some(SelectedPath::Tcp { remote, .. }) = a.selected() else { panic!("{:#?}", a.agent.report()) };
        assert_eq!(remote.port(), port);
        assert!(a.selected_at().unwrap() - net.start <= ms(90));
    }
}

#[test]
fn role_conflicts_are_settled_whoever_is_right() {
    for roles in [[Role::Controlling; 2], [Role::Controlled; 2]] {
        for (tcp, udp) in [(true, false), (false, true)] {
            let mut setup = Setup::with(tcp, udp, &Config::default(), roles);
            setup.exchange();
            setup.run(Duration::from_secs(1));
            setup.connected();
            let switches =
                |d: &Driver| d.events.iter().filter(|(_, e)| matches!(e, Event::RoleSwitched { .. })).count();
            assert_eq!(switches(&setup.a) + switches(&setup.b), 1, "exactly one side gives way");
        }
    }
}

#[test]
fn a_refused_attempt_says_so() {
    let mut setup = Setup::new(true, false);
    setup.net.tcp_rule = Box::new(|_, _| Rule::Refuse);
    setup.exchange();
    setup.run(Duration::from_mins(1));
    for (side, patience) in [(&setup.a, 5), (&setup.b, 10)] {
        let report = side.failure().unwrap();
        assert_eq!(report.reason, FailureReason::AllPairsFailed);
        assert_eq!(report.to_string(), "no candidate pair answered: 1 TCP refused");
        assert_eq!(report.count(true, PairError::Refused), 1);
        let (when, _) = side.events.last().unwrap();
        assert_eq!(*when - setup.net.start, Duration::from_secs(patience) + ms(10));
    }
}

#[test]
fn silence_is_told_from_refusal() {
    let mut setup = Setup::new(true, true);
    setup.net.tcp_rule = Box::new(|_, _| Rule::Swallow);
    setup.net.udp_loss = 100;
    setup.exchange();
    setup.run(Duration::from_mins(2));
    let report = setup.a.failure().unwrap();
    assert_eq!(report.to_string(), "no candidate pair answered: 1 TCP connect timed out, 1 UDP silent");
    // RFC 8489: at 0, 0.5, 1.5, 3.5, 7.5 s, and 8 s more.
    let udp = report.pairs.iter().find(|p| p.transport == Transport::Udp).unwrap();
    assert_eq!(udp.checks_sent, 5);
    let silent = Event::PairChanged { pair: udp.id, state: PairState::Failed(PairError::Silent) };
    let (when, _) = setup.a.events.iter().find(|(_, e)| *e == silent).unwrap();
    assert_eq!(*when - setup.net.start, ms(15_500));
    assert_eq!(setup.a.open_streams(), 0);
}

#[test]
fn a_check_on_tcp_is_sent_once_and_waits_8_seconds() {
    let mut setup = Setup::new(true, false);
    // B never learns of A, and does not exist as an agent of this session: its own credentials differ.
    let other = Driver::new(&setup.net, Role::Controlled, 99, Config::default()).blob();
    let candidates: String = setup.b.blob().split_inclusive('\n').skip(2).collect();
    setup.a.set_remote(setup.net.now, &(other + &candidates));
    setup.run(Duration::from_mins(1));
    let report = setup.a.failure().unwrap();
    assert_eq!(report.to_string(), "no candidate pair answered: 1 TCP silent");
    assert_eq!(report.pairs[0].checks_sent, 1);
    let (when, _) = setup.a.events.last().unwrap();
    assert_eq!(*when - setup.net.start, ms(10) + Duration::from_secs(8 + 5));
    assert!(!setup.b.drops.is_empty(), "B dropped what was not for it");
}

#[test]
fn without_candidates_it_fails_at_once() {
    let cases = [
        (vec![], vec![], FailureReason::NoLocalCandidates),
        (vec![TcpType::Active], vec![], FailureReason::NoRemoteCandidates),
        (vec![TcpType::Active], vec![TcpType::Active], FailureReason::NoPairs),
    ];
    for (local, remote, reason) in cases {
        let net = Net::new(1);
        let mut a = Driver::new(&net, Role::Controlled, 1, Config::default());
        let mut b = Driver::new(&net, Role::Controlling, 2, Config::default());
        for (driver, kinds, address) in [(&mut a, local, "10.0.0.1:5000"), (&mut b, remote, "10.0.0.2:5000")]
        {
            for kind in kinds {
                driver.agent.add_local(net.now, Candidate::host(Transport::Tcp(kind), addr(address), 0));
            }
        }
        a.set_remote(net.now, &b.blob());
        a.drain(net.now, &mut Vec::new());
        assert_eq!(a.failure().unwrap().reason, reason);
        assert_eq!(a.due(), None);
    }
}

#[test]
fn a_peer_that_never_nominates_is_given_up() {
    let mut setup = Setup::new(false, true);
    // A waits for ever with its nomination.
    let never = Config { nomination_delay: Duration::from_hours(1), ..Config::default() };
    setup.a = Driver::with_hosts(&mut setup.net, 0, Role::Controlling, &[A], None, Some(6000), never);
    // A better candidate that stays silent keeps A waiting; A's checks reach B from its plain address.
    let (a, b) = (setup.a.blob(), setup.b.blob());
    let better = "H1 1 UDP 2130706432 10.0.0.77 6000 typ host\n";
    setup.a.set_remote(setup.net.now, &(b + better));
    setup.b.set_remote(setup.net.now, &a);
    setup.run(Duration::from_secs(20));
    assert_eq!(setup.b.failure().unwrap().reason, FailureReason::NotNominated);
}

#[test]
fn keep_alives_come_every_20_to_24_seconds_and_are_not_answered() {
    for (tcp, udp) in [(true, false), (false, true)] {
        let mut setup = Setup::new(tcp, udp);
        setup.exchange();
        setup.run(Duration::from_mins(10));
        for side in [&setup.a, &setup.b] {
            let mut last = side.selected_at().unwrap();
            let mut gaps = Vec::new();
            for &at in &side.keepalives {
                gaps.push(at - last);
                last = at;
            }
            assert!(gaps.len() >= 600 / 24 - 1);
            assert!(gaps.iter().all(|g| (Duration::from_secs(20)..=Duration::from_secs(24)).contains(g)));
            assert!(gaps.windows(2).any(|w| w[0] != w[1]), "they are spread");
            assert!(side.drops.is_empty() && side.data.is_empty());
        }
        setup.connected();
    }
}

#[test]
fn the_end_of_the_selected_connection_is_the_end() {
    let mut setup = Setup::new(true, false);
    setup.exchange();
    setup.run(Duration::from_secs(1));
    let conn = setup.b.conn().unwrap();
    setup.net.apply(1, common::Out::Close { conn });
    setup.run(Duration::from_secs(1));
    assert_eq!(setup.a.lost(), Some(LossReason::StreamClosed));
    assert_eq!((setup.a.selected(), setup.a.due()), (None, None));
}

#[test]
fn candidates_may_come_later() {
    let config = Config { trickle: true, ..Config::default() };
    let mut setup = Setup::with(true, false, &config, [Role::Controlling, Role::Controlled]);
    let (a, b) = (setup.a.agent.local_description(), setup.b.agent.local_description());
    let bare = |d: &towline_ice::Description| towline_ice::Description { candidates: vec![], ..d.clone() };
    setup.a.agent.set_remote(setup.net.now, bare(&b));
    setup.b.agent.set_remote(setup.net.now, bare(&a));
    setup.run(Duration::from_secs(30));
    assert!(setup.a.failure().is_none() && setup.b.failure().is_none());
    let now = setup.net.now;
    for candidate in b.candidates.clone() {
        assert_eq!(setup.a.agent.add_remote_candidate(now, candidate.clone()), Ok(()));
        assert_eq!(setup.a.agent.add_remote_candidate(now, candidate), Err(CandidateRefused::Duplicate));
    }
    setup.run(Duration::from_secs(1));
    setup.connected();

    let config = Config { trickle: true, ..Config::default() };
    let mut setup = Setup::with(true, false, &config, [Role::Controlling, Role::Controlled]);
    setup.a.agent.set_remote(setup.net.now, bare(&b));
    setup.a.agent.end_of_remote_candidates(setup.net.now);
    setup.run(ms(1));
    assert_eq!(setup.a.failure().unwrap().reason, FailureReason::NoRemoteCandidates);
}

#[test]
fn a_relay_that_refuses_is_asked_again() {
    let mut setup = Setup::new(true, false);
    let mut refusals = 3;
    setup.net.tcp_rule = Box::new(move |_, to| {
        if to.port() != 7000 {
            return Rule::Refuse;
        }
        refusals -= 1;
        if refusals >= 0 { Rule::Refuse } else { Rule::Pass }
    });
    setup.net.listen(1, addr("10.0.0.2:7000"));
    let relay =
        Candidate::new(CandidateKind::Relayed, Transport::Tcp(TcpType::Passive), addr("10.0.0.2:7000"), 0);
    assert!(setup.b.agent.add_local(setup.net.now, relay));
    setup.exchange();
    setup.run(Duration::from_secs(4));
    let took = setup.connected();
    assert!(took > ms(1500) && took < ms(1700), "three delays of 500 ms: {took:?}");
}

#[test]
fn a_relay_that_keeps_refusing_is_given_up_after_24_repetitions() {
    let mut setup = Setup::new(true, false);
    setup.net.tcp_rule = Box::new(|_, _| Rule::Refuse);
    let relay =
        Candidate::new(CandidateKind::Relayed, Transport::Tcp(TcpType::Passive), addr("10.0.0.2:7000"), 0);
    assert!(setup.b.agent.add_local(setup.net.now, relay));
    setup.exchange();
    setup.run(Duration::from_mins(1));
    assert_eq!(setup.net.connects.iter().filter(|(_, to, _)| to.port() == 7000).count(), 25);
    assert_eq!(setup.a.failure().unwrap().count(true, PairError::Refused), 2);
}

#[test]
fn a_peer_at_an_unknown_address_is_learnt_from_its_checks() {
    let mut setup = Setup::new(false, true);
    let (a, b) = (setup.a.blob(), setup.b.blob());
    setup.a.set_remote(setup.net.now, &b);
    setup.b.set_remote(setup.net.now, &a.replace(A, "10.0.0.99"));
    setup.run(Duration::from_secs(1));
    setup.connected();
    let remote = setup.b.agent.report().remote;
    assert!(
        remote.iter().any(|c| c.kind == CandidateKind::PeerReflexive && c.address == addr("10.0.0.1:6000"))
    );
}

#[test]
fn checks_are_paced_and_connects_bounded() {
    let mut setup = Setup::with(
        true,
        false,
        &Config { max_connecting: 12, ..Config::default() },
        [Role::Controlling, Role::Controlled],
    );
    setup.net.tcp_rule = Box::new(|_, _| Rule::Swallow);
    let mut blob = setup.b.blob().split_inclusive('\n').take(2).collect::<String>();
    for port in 5000..5031 {
        writeln!(blob, "F 1 TCP {port} 10.0.0.2 {port} typ host tcptype passive").unwrap();
    }
    setup.a.set_remote(setup.net.now, &blob);
    setup.run(Duration::from_secs(14));
    let times: Vec<_> = setup.net.connects.iter().map(|(_, _, at)| *at).collect();
    let mut expected = vec![ms(0); 8];
    expected.extend([50, 100, 150, 200].map(ms));
    assert_eq!(times, expected, "a burst of 8, one per 50 ms, 12 in flight");
    assert_eq!(setup.net.connects[0].1.port(), 5030, "the best first");
    setup.run(Duration::from_mins(1));
    assert_eq!(setup.net.connects.len(), 31);
    assert_eq!(setup.a.failure().unwrap().count(true, PairError::ConnectTimeout), 31);
}

#[test]
fn losing_connections_are_closed_when_the_path_is_chosen() {
    let mut setup = Setup::new(true, true);
    setup.exchange();
    setup.run(Duration::from_secs(1));
    setup.connected();
    let superseded = PairState::Failed(PairError::Superseded);
    for side in [&setup.a, &setup.b] {
        let report = side.agent.report();
        let selected = report.selected.unwrap();
        for pair in report.pairs {
            assert!(
                pair.id == selected || pair.state == superseded || pair.transport == Transport::Udp,
                "{pair:?}"
            );
        }
        assert!(report.streams <= 1);
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = || {
        let mut setup = Setup::new(true, true);
        setup.net.udp_loss = 30;
        setup.net.split = 9;
        setup.exchange();
        setup.run(Duration::from_secs(100));
        let trace = |d: &Driver| {
            d.events.iter().map(|(at, e)| format!("{:?} {e:?}", *at - setup.net.start)).collect::<Vec<_>>()
        };
        (trace(&setup.a), trace(&setup.b), setup.net.connects.clone(), setup.net.datagrams)
    };
    assert_eq!(story(), story());
}
