//! What a list of addresses can make us do to others (`connection.md` 9.1 no. 21).
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use common::rogue::{Rogue, public, request};
use common::{Lab, echo, exchange, identity, story};
use towline_lab::{Kind, Record};

/// Every address that `from` tried to open a connection to.
fn doors(lab: &Lab, from: IpAddr) -> BTreeSet<SocketAddr> {
    let trace = lab.world.trace();
    let tried = trace.timeline().filter_map(|record| match record {
        Record::Packet { kind: Kind::Syn, from: by, to, .. } if by.ip() == from => Some(*to),
        _ => None,
    });
    tried.collect()
}

/// Credentials, and candidates at these addresses.
fn blob(addresses: impl IntoIterator<Item = (String, u16)>) -> String {
    let mut text = "13e86381\naaaaaaaaaaaaaaaaaaaaaaaa\n".to_owned();
    for (number, (ip, port)) in addresses.into_iter().enumerate() {
        let priority = 2_130_706_431 - number;
        writeln!(text, "H{number} 1 TCP {priority} {ip} {port} typ host tcptype passive").unwrap();
    }
    text
}

#[test]
fn a_list_of_hostile_addresses_opens_few_doors_and_none_of_a_service() {
    story(1, async |world| {
        let lab = Lab::new(world).await;
        let (host, bob) = lab.housed("bob", 1).await;
        let alice = lab.node(0).await;
        bob.registered().await;
        alice.registered().await;
        tokio::spawn(echo(bob.clone()));
        let before = doors(&lab, host.ipv4());
        let victim = lab.host("victim").ipv4().to_string();
        let rogue = Rogue::new(&lab, identity(2)).await;
        // Services of the victim, addresses that are nobody's, then ports without end.
        let services = [22, 25, 53, 80, 443, 9, 0].map(|port| (victim.clone(), port));
        let nobody =
            ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"].map(|ip| (ip.to_owned(), 5000));
        let ports = (1024..2000).map(|port| (victim.clone(), port));
        let list = blob(services.into_iter().chain(nobody).chain(ports.clone()));
        // More of them at once than one device may have under way.
        for id in 1..=20 {
            rogue.put(&public(&bob), request(id, &list).encode()).await;
        }
        let mut channel = alice.connect(bob.device(), "not disturbed").await.unwrap();
        assert_eq!(exchange(&mut channel, b"hello").await.unwrap(), b"hello");
        common::pass(Duration::from_mins(1)).await;
        let opened: BTreeSet<SocketAddr> = doors(&lab, host.ipv4()).difference(&before).copied().collect();
        let at_victim: Vec<&SocketAddr> =
            opened.iter().filter(|address| address.ip().to_string() == victim).collect();
        assert!(at_victim.len() <= 31, "{} doors: {at_victim:?}", at_victim.len());
        assert!(opened.iter().all(|address| address.port() >= 1024), "{opened:?}");
        assert!(bob.connections().await.iter().all(|info| info.device == alice.device()));
    });
}
