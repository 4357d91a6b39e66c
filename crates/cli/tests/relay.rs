//! `towline relay`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::Running;
use towline_net::{Net, Os, UdpBind, UdpSocket};
use towline_turn_tokio::proto::{Config, Credentials, Failure, Refusal, ServerTransport};
use towline_turn_tokio::{AllocateError, Options, RelaySocket};

fn start(more: &[&str]) -> Running {
    let usual = ["relay", "--listen", "127.0.0.1:0", "--relay-ip", "127.0.0.1", "--json", "--end-with-stdin"];
    Running::start(usual.iter().chain(more).copied())
}

fn address(ready: &serde_json::Value) -> SocketAddr {
    ready["addresses"][0].as_str().unwrap().parse().unwrap()
}

fn allocate(
    server: SocketAddr,
    transport: ServerTransport,
    who: Credentials,
) -> Result<RelaySocket, AllocateError> {
    let mut config = Config::new(server, transport);
    config.credentials = Some(who);
    tokio::runtime::Handle::current().block_on(RelaySocket::allocate(Arc::new(Os), &Options::new(config)))
}

#[test]
fn it_relays_for_its_users_and_says_so() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let more =
        ["--user", "ann:secret", "--secret", "north", "--allow-private-peers", "--allocations-per-user", "1"];
    let mut relay = start(&more);
    let server = address(&relay.until("relay_ready"));
    let ann = || Credentials::new("ann", "secret");
    for transport in [ServerTransport::Udp, ServerTransport::Tcp] {
        let relayed = allocate(server, transport, ann()).unwrap();
        let told = relay.until("relay_allocated");
        assert_eq!(
            (told["user"].as_str(), told["relayed"][0].as_str()),
            (Some("ann"), Some(&*relayed.local_addr().to_string()))
        );
        let full = allocate(server, transport, ann()).map(|_| ());
        assert_eq!(full, Err(AllocateError::Failed(Failure::Refused(Refusal::QuotaReached))));
        runtime.block_on(async {
            let peer = Os.bind_udp(&UdpBind::new("127.0.0.1:0".parse().unwrap())).unwrap();
            let (relayed, peer): (&dyn UdpSocket, &dyn UdpSocket) = (&relayed, &*peer);
            let mut buffer = [0; 100];
            relayed.send(b"there", peer.local_addr()).await.unwrap();
            let there = peer.recv(&mut buffer).await.unwrap();
            assert_eq!((there.from, &buffer[..there.len]), (relayed.local_addr(), &b"there"[..]));
            peer.send(b"back", there.from).await.unwrap();
            let back = relayed.recv(&mut buffer).await.unwrap();
            assert_eq!((back.from, &buffer[..back.len]), (peer.local_addr(), &b"back"[..]));
        });
        runtime.block_on(relayed.close());
        assert_eq!(relay.until("relay_released")["user"], "ann");
    }
    let wrong = allocate(server, ServerTransport::Udp, Credentials::new("ann", "wrong")).map(|_| ());
    assert_eq!(wrong, Err(AllocateError::Failed(Failure::WrongCredentials)));
    let later = Os.unix_time().as_secs() + 1000;
    allocate(server, ServerTransport::Udp, Credentials::time_limited(b"north", "ben", later)).unwrap();
    relay.signal("TERM");
    relay.ended().success();
}

#[test]
fn private_networks_are_closed_unless_opened() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let mut relay = start(&["--user", "ann:secret"]);
    let server = address(&relay.until("relay_ready"));
    let relayed = allocate(server, ServerTransport::Udp, Credentials::new("ann", "secret")).unwrap();
    let forbidden = runtime.block_on(relayed.permit("127.0.0.1".parse().unwrap()));
    assert_eq!(forbidden, Err(Failure::Refused(Refusal::Forbidden)));
}

#[test]
fn what_makes_no_relay_is_said() {
    let nobody = common::towline(["relay", "--relay-ip", "127.0.0.1", "--listen", "127.0.0.1:0"]);
    nobody.fails_with(2);
    let twice = ["relay", "--user", "a:b", "--relay-ip", "127.0.0.1", "--relay-ip", "127.0.0.2"];
    common::towline(twice).fails_with(2);
    let unused = ["relay", "--user", "a:b", "--relay-ip", "::1", "--external-ip", "192.0.2.1"];
    common::towline(unused).fails_with(2);
    let elsewhere = ["relay", "--user", "a:b", "--relay-ip", "127.0.0.1", "--listen", "192.0.2.1:3478"];
    common::towline(elsewhere).fails_with(6);
}
