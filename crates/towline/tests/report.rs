//! A connection explains itself, and so does an attempt, long before it gives up.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Duration;

use common::{Lab, accepted, connected, identity, pass, story};
use towline::{Cause, ConnectError, ConnectionState, Side, Step};
use towline_lab::{Link, Place};

#[test]
fn a_connection_tells_how_it_came_to_be() {
    story(1, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let mut channels = accepted(&bob);
        let _ends = connected(&alice, &bob, "hello", &mut channels).await;
        let report = alice.report(bob.device()).await.unwrap();
        assert_eq!((report.state, report.causes.as_slice()), (ConnectionState::Established, &[][..]));
        let steps: Vec<Step> = report.steps.iter().map(|step| step.step).collect();
        assert_eq!(steps, [Step::Certificate, Step::Signalling, Step::Path, Step::Tls]);
        assert!(!report.here.is_empty() && !report.there.is_empty() && !report.links.is_empty());
        assert!(report.pairs.iter().any(|pair| pair.nominated && pair.rtt.is_some()));
        // The same again: nothing is used up.
        assert_eq!(alice.report(bob.device()).await.unwrap().pairs.len(), report.pairs.len());
        let text = report.to_string();
        for part in
            ["connected", "Steps", "Candidates here", "Candidates there", "Pairs", "Paths", "carries data"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(alice.report(identity(2).device_id()).await.is_none(), "nobody dialled");
    });
}

#[test]
fn a_device_that_is_gone_is_known_to_be_within_seconds() {
    story(2, async |world| {
        let (_lab, alice, bob) = Lab::pair(world).await;
        let device = bob.device();
        bob.shutdown().await;
        let dialled = tokio::spawn({
            let alice = alice.clone();
            async move { alice.dial(device).await.map(drop) }
        });
        pass(Duration::from_secs(3)).await;
        let report = alice.report(device).await.unwrap();
        assert_eq!((report.cause(), &report.error), (Some(&Cause::OfflineThere), &None));
        assert!(report.to_string().contains("So far (there): the device does not answer"), "{report}");
        let error = dialled.await.unwrap().unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { .. }));
        let report = alice.report(device).await.unwrap();
        assert_eq!((report.cause(), &report.error), (Some(&Cause::OfflineThere), &Some(error)));
    });
}

#[test]
fn two_homes_with_nobody_to_tell_them_their_addresses_find_no_path() {
    story(3, async |world| {
        let lab = Lab::new(world).await;
        let mut nodes = Vec::new();
        for (number, name) in ["alice", "bob"].into_iter().enumerate() {
            let site = lab.world.site(name, lab.internet, Place::PortRestricted);
            nodes.push(lab.node_on(&site.host, identity(number), lab.config()).await);
            nodes[number].registered().await;
        }
        let (alice, device) = (nodes[0].clone(), nodes[1].device());
        let dialled = tokio::spawn(async move { alice.dial(device).await.map(drop) });
        pass(Duration::from_secs(3)).await;
        let report = nodes[0].report(device).await.unwrap();
        assert_eq!(report.state, ConnectionState::Path, "{report}");
        assert_eq!(report.cause(), Some(&Cause::NoStunHere), "{report}");
        assert_eq!(report.causes[0].side(), Side::Here);
        assert!(dialled.await.unwrap().is_err());
    });
}

#[test]
fn nobody_in_a_network_that_is_down_blames_others() {
    for (seed, unplugged) in [(4, true), (5, false)] {
        story(seed, async |world| {
            let lab = Lab::new(world).await;
            let host = lab.world.host("alice");
            let interface = host.attach(lab.internet, Link::delay(Duration::from_millis(5)));
            let alice = lab.node_on(&host, identity(0), lab.config()).await;
            let bob = lab.node(1).await;
            bob.registered().await;
            assert!(alice.find(bob.device()).await.is_ok());
            if unplugged {
                host.unplug(interface);
            } else {
                host.set_outage(interface, true);
            }
            let device = bob.device();
            let dialled = tokio::spawn({
                let alice = alice.clone();
                async move { alice.dial(device).await.map(drop) }
            });
            let cause = if unplugged { Cause::NoNetworkHere } else { Cause::OfflineHere };
            pass(Duration::from_secs(3)).await;
            let report = alice.report(device).await.unwrap();
            assert_eq!(report.cause(), Some(&cause), "{report}");
            let error = dialled.await.unwrap().unwrap_err();
            let report = alice.report(device).await.unwrap();
            assert_eq!((report.cause(), &report.error), (Some(&cause), &Some(error)), "{report}");
        });
    }
}
