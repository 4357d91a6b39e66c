//! Relay and clients in the lab: two devices that can reach only the relay, by every way and with losses.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use towline_lab::{Host, Link, Network, Place, World, run};
use towline_net::{Net, UdpBind, UdpSocket, now};
use towline_turn_tokio::proto::{
    Config, Credentials, Failure, PeerPolicy, Refusal, ServerConfig, ServerEvent, ServerTransport, Users,
};
use towline_turn_tokio::{AllocateError, Ended, Options, RelayServer, RelaySocket, ServerOptions};

const LISTEN: u16 = 3478;

fn server(host: &Host, change: impl FnOnce(&mut ServerConfig)) -> RelayServer {
    let mut config = ServerConfig {
        users: Users { fixed: BTreeMap::from([("ann".into(), "secret".into())]), secret: None },
        peers: PeerPolicy::DangerouslyAll,
        ..ServerConfig::default()
    };
    change(&mut config);
    let options = ServerOptions {
        config,
        listen: vec![(host.ipv4(), LISTEN).into()],
        tls: None,
        relay_v4: match host.ipv4() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        },
        relay_v6: None,
        external_v4: None,
    };
    RelayServer::start(Arc::new(host.clone()), options).unwrap()
}

fn options(relay: &Host, transport: ServerTransport) -> Options {
    let mut config = Config::new((relay.ipv4(), LISTEN).into(), transport);
    config.credentials = Some(Credentials::new("ann", "secret"));
    Options::new(config)
}

async fn allocate(host: &Host, options: &Options) -> Result<RelaySocket, AllocateError> {
    RelaySocket::allocate(Arc::new(host.clone()), options).await
}

/// A relay on the internet.
fn relay_host(world: &World, internet: Network) -> Host {
    let relay = world.host("relay");
    relay.attach(internet, Link::delay(Duration::from_millis(10)));
    relay
}

/// Counts the numbers that arrive of `count` that are sent.
async fn stream_of(from: &dyn UdpSocket, to: &dyn UdpSocket, count: u32) -> Vec<u32> {
    let target = to.local_addr();
    let send = async {
        for number in 0..count {
            from.send(&number.to_be_bytes(), target).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut seen = Vec::new();
    let receive = async {
        let mut buffer = [0; 100];
        loop {
            let received = to.recv(&mut buffer).await.unwrap();
            assert_eq!((received.len, received.from), (4, from.local_addr()));
            seen.push(u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]));
        }
    };
    tokio::select! {
        biased;
        () = receive => {}
        () = async { send.await; tokio::time::sleep(Duration::from_secs(1)).await } => {}
    }
    seen
}

#[test]
fn two_devices_behind_symmetric_nats_meet_at_the_relay() {
    for (a, b) in [
        (ServerTransport::Udp, ServerTransport::Udp),
        (ServerTransport::Tcp, ServerTransport::Udp),
        (ServerTransport::Tcp, ServerTransport::Tcp),
    ] {
        run(7, async |world| {
            let pair = world.behind(Place::Symmetric, Place::Symmetric);
            let relay = relay_host(&world, pair.internet);
            let mut server = server(&relay, |_| {});
            let start = now();
            let alice = allocate(&pair.a.host, &options(&relay, a)).await.unwrap();
            assert!(now() - start < Duration::from_secs(1), "{:?}", now() - start);
            let bob = allocate(&pair.b.host, &options(&relay, b)).await.unwrap();
            assert_ne!(alice.allocation().mapped.ip(), pair.a.host.ipv4(), "the NAT is seen from outside");
            assert!(matches!(server.event().await, ServerEvent::Allocated { .. }));
            alice.permit(bob.local_addr().ip()).await.unwrap();
            bob.permit(alice.local_addr().ip()).await.unwrap();
            assert_eq!(stream_of(&alice, &bob, 100).await, (0..100).collect::<Vec<_>>());
            assert_eq!(stream_of(&bob, &alice, 100).await, (0..100).collect::<Vec<_>>());
            // An idle hour: NATs forget what is silent, and servers what is not refreshed.
            tokio::time::sleep(Duration::from_hours(1)).await;
            assert_eq!(stream_of(&alice, &bob, 10).await, (0..10).collect::<Vec<_>>());
            alice.close().await;
            assert_eq!(server.allocations(), 1);
            drop(bob);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(server.allocations(), 0);
        });
    }
}

#[test]
fn losses_delay_an_allocation_and_end_none() {
    for seed in 0..10 {
        run(seed, async |world| {
            let internet = world.internet();
            let relay = world.host("relay");
            relay.attach(internet, Link { loss: 0.2, ..Link::delay(Duration::from_millis(20)) });
            let alice = world.host("alice");
            alice.attach(internet, Link::delay(Duration::from_millis(20)));
            let peer = world.host("peer");
            peer.attach(internet, Link::delay(Duration::from_millis(20)));
            let _server = server(&relay, |_| {});
            let relayed = loop {
                match allocate(&alice, &options(&relay, ServerTransport::Udp)).await {
                    Ok(relayed) => break relayed,
                    Err(error) => assert_eq!(error, AllocateError::Failed(Failure::NoAnswer)),
                }
            };
            let socket = peer.bind_udp(&UdpBind::new((peer.ipv4(), 0).into())).unwrap();
            let outside: &dyn UdpSocket = &*socket;
            while relayed.permit(peer.ipv4()).await == Err(Failure::NoAnswer) {}
            let arrived = stream_of(&relayed, outside, 200).await;
            // A fifth is lost before the relay, and a fifth behind it.
            assert!((100..160).contains(&arrived.len()), "{}", arrived.len());
        });
    }
}

#[test]
fn a_relay_that_dies_is_noticed_and_silence_has_its_name() {
    run(1, async |world| {
        let internet = world.internet();
        let relay = relay_host(&world, internet);
        let alice = world.host("alice");
        alice.attach(internet, Link::delay(Duration::from_millis(20)));
        let first = server(&relay, |config| config.allocations_per_user = 1);
        for transport in [ServerTransport::Udp, ServerTransport::Tcp] {
            let relayed = allocate(&alice, &options(&relay, transport)).await.unwrap();
            let second = allocate(&alice, &options(&relay, ServerTransport::Udp)).await;
            let quota = Failure::Refused(Refusal::QuotaReached);
            assert_eq!(second.map(|_| ()), Err(AllocateError::Failed(quota)));
            relayed.close().await;
        }
        let relayed = allocate(&alice, &options(&relay, ServerTransport::Udp)).await.unwrap();
        drop(first);
        relayed.check();
        let start = now();
        assert_eq!(relayed.ended().await, Ended::Lost(Failure::NoAnswer));
        assert_eq!(now() - start, Duration::from_millis(7500));
        let anywhere: SocketAddr = (relay.ipv4(), 9).into();
        let sending: &dyn UdpSocket = &relayed;
        assert!(sending.send(b"x", anywhere).await.is_err());
        let silent = allocate(&alice, &options(&relay, ServerTransport::Udp)).await;
        assert_eq!(silent.map(|_| ()), Err(AllocateError::Failed(Failure::NoAnswer)));
        let refused = allocate(&alice, &options(&relay, ServerTransport::Tcp)).await;
        let unreachable = AllocateError::Unreachable(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(refused.map(|_| ()), Err(unreachable));
    });
}
