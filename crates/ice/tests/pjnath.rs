//! Sessions with a peer that follows pjnath to the letter (spec 4.5 to 4.8).
#![allow(clippy::unwrap_used, reason = "only tests are here")]

mod common;

use std::time::Duration;

use common::driver::Driver;
use common::pjnath::{Pjnath, Version};
use common::{Net, Rule, addr, ms};
use towline_ice::{Config, Role};

const OURS: &str = "10.0.0.1";
const THEIRS: &str = "10.0.0.2:6000";

fn pair(net: &mut Net, role: Role, version: Version) -> (Driver, Pjnath) {
    let ours = Driver::with_hosts(net, 0, role, &[OURS], Some(5000), None, Config::default());
    let theirs = Pjnath::new(role == Role::Controlled, version, addr(THEIRS));
    net.listen(1, addr(THEIRS));
    (ours, theirs)
}

/// Until both agree, then both talk, then both live for a minute.
fn complete(net: &mut Net, ours: &mut Driver, theirs: &mut Pjnath) -> Duration {
    let done = net.run(&mut [ours, theirs], Duration::from_secs(20), |_| false);
    assert!(!done);
    let selected = ours.selected_at().unwrap_or_else(|| panic!("not connected: {:#?}", ours.agent.report()));
    let (_, conn) = theirs.complete.expect("the peer has not completed");
    assert_eq!(ours.conn(), Some(conn), "both use one connection");
    ours.send(b"from ours");
    theirs.send(b"from theirs");
    net.run(&mut [ours, theirs], Duration::from_mins(1), |_| false);
    assert_eq!(ours.data, b"first recordfrom theirs");
    assert_eq!(theirs.data, b"from ours");
    assert!(theirs.indications >= 2, "keep-alives arrive");
    assert!(ours.failure().is_none() && ours.lost().is_none());
    assert_eq!(ours.open_streams(), 1, "losing connections are closed");
    selected - net.start
}

#[test]
fn it_connects_in_both_roles_with_both_versions_however_bytes_are_split() {
    for version in [Version::V2_12, Version::V2_13] {
        for role in [Role::Controlling, Role::Controlled] {
            for prefer_opened in [false, true] {
                for split in [0, 1, 50] {
                    let mut net = Net::new(1);
                    net.split = split;
                    let (mut ours, mut theirs) = pair(&mut net, role, version);
                    theirs.prefer_opened = prefer_opened;
                    theirs.to_send.push_back(b"first record".to_vec());
                    // The requester puts its blob first, the answerer starts on receipt.
                    let (a, b) = (ours.blob(), theirs.blob());
                    ours.set_remote(net.now, &b);
                    theirs.start(net.now, &a);
                    let took = complete(&mut net, &mut ours, &mut theirs);
                    let bound = if role == Role::Controlling { ms(120) } else { ms(500) };
                    assert!(took <= bound, "{role:?} {version:?} took {took:?}");
                }
            }
        }
    }
}

#[test]
fn a_peer_that_starts_a_second_later_finds_us_waiting() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut net = Net::new(2);
        // Nothing gets in to the peer: only its own connects work.
        net.tcp_rule = Box::new(|_, to| if to == addr(THEIRS) { Rule::Refuse } else { Rule::Pass });
        let (mut ours, mut theirs) = pair(&mut net, role, Version::V2_13);
        theirs.to_send.push_back(b"first record".to_vec());
        let (a, b) = (ours.blob(), theirs.blob());
        ours.set_remote(net.now, &b);
        net.run(&mut [&mut ours, &mut theirs], Duration::from_secs(3), |_| false);
        assert!(ours.failure().is_none(), "{role:?} must wait for the peer's own checks");
        theirs.start(net.now, &a);
        complete(&mut net, &mut ours, &mut theirs);
    }
}

#[test]
fn a_peer_whose_checks_arrive_before_its_description_is_answered() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut net = Net::new(3);
        net.tcp_rule = Box::new(|_, to| if to == addr(THEIRS) { Rule::Swallow } else { Rule::Pass });
        let (mut ours, mut theirs) = pair(&mut net, role, Version::V2_13);
        theirs.to_send.push_back(b"first record".to_vec());
        theirs.start(net.now, &ours.blob());
        net.run(&mut [&mut ours, &mut theirs], ms(200), |_| false);
        assert!(ours.selected().is_none());
        let blob = theirs.blob();
        ours.set_remote(net.now, &blob);
        complete(&mut net, &mut ours, &mut theirs);
    }
}

#[test]
fn the_spare_connection_at_nomination_harms_nobody() {
    for version in [Version::V2_12, Version::V2_13] {
        let mut net = Net::new(4);
        // Inbound connections to the peer are blocked: it nominates one it opened, and opens a spare one.
        net.tcp_rule = Box::new(|_, to| if to == addr(THEIRS) { Rule::Swallow } else { Rule::Pass });
        let (mut ours, mut theirs) = pair(&mut net, Role::Controlled, version);
        theirs.to_send.push_back(b"first record".to_vec());
        let (a, b) = (ours.blob(), theirs.blob());
        ours.set_remote(net.now, &b);
        theirs.start(net.now, &a);
        complete(&mut net, &mut ours, &mut theirs);
        let spare: Vec<_> = net.connects.iter().filter(|(_, to, _)| to.port() == 5000).collect();
        assert_eq!(spare.len(), 2, "the peer did open a second one");
    }
}
