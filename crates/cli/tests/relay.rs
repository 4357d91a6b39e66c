//! `towline relay`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use common::Running;
use towline_net::{Net, Os, UdpBind, UdpSocket};
use towline_turn_tokio::proto::{Config, Credentials, Failure, Refusal, ServerTransport};
use towline_turn_tokio::{AllocateError, Options, RelaySocket, Roots};

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

/// A certificate for 127.0.0.1 that nobody signed, and its key, in files; and the certificate as clients trust it.
fn certificate(folder: &Path) -> (String, String, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (chain, key) =
        (write("fullchain.pem", made.cert.pem()), write("privkey.pem", made.signing_key.serialize_pem()));
    (chain, key, made.cert.der().to_vec())
}

#[test]
fn it_speaks_tls_beside_udp_and_tcp() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key, trusted) = certificate(folder.path());
    let mut relay = start(&[
        "--user",
        "ann:secret",
        "--tls-certificate",
        &chain,
        "--tls-key",
        &key,
        "--tls-listen",
        "127.0.0.1:0",
    ]);
    let ready = relay.until("relay_ready");
    let server: SocketAddr = ready["tls_addresses"][0].as_str().unwrap().parse().unwrap();
    assert_ne!(server, address(&ready));
    runtime.block_on(async {
        let mut config = Config::new(server, ServerTransport::Tls);
        config.credentials = Some(Credentials::new("ann", "secret"));
        let mut options = Options::new(config);
        options.tls = Some(Roots::of_the_system(&[trusted]).server("127.0.0.1").unwrap());
        let on_tls = RelaySocket::allocate(Arc::new(Os), &options).await.unwrap();
        options.client.server = address(&ready);
        options.client.transport = ServerTransport::Tcp;
        let on_tcp = RelaySocket::allocate(Arc::new(Os), &options).await.unwrap();
        assert_ne!(on_tls.local_addr(), on_tcp.local_addr());
    });
}

#[test]
fn files_that_make_no_tls_are_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key, _) = certificate(folder.path());
    let said = |chain: &str, key: &str| {
        let usual = ["relay", "--listen", "127.0.0.1:0", "--relay-ip", "127.0.0.1", "--user", "a:b"];
        let tls = ["--tls-listen", "127.0.0.1:0", "--tls-certificate", chain, "--tls-key", key];
        common::towline(usual.iter().chain(&tls).copied()).fails_with(6).err
    };
    for (shown, proof, named, what) in [
        ("/nowhere.pem", &*key, "/nowhere.pem", "No such file"),
        (&*chain, "/nowhere.pem", "/nowhere.pem", "No such file"),
        (&*key, &*key, &*key, "no certificate"),
        (&*chain, &*chain, &*chain, "no private key"),
    ] {
        let said = said(shown, proof);
        assert!(said.contains(named) && said.contains(what), "{said}");
    }
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let other = certificate(&other).1;
    let said = said(&chain, &other);
    assert!(said.contains(&other) && said.contains("not that of the certificate"), "{said}");
    let usual = ["relay", "--relay-ip", "127.0.0.1", "--user", "a:b"];
    for half in [["--tls-key", &*key], ["--tls-certificate", &*chain], ["--tls-listen", "127.0.0.1:0"]] {
        common::towline(usual.iter().chain(&half).copied()).fails_with(2);
    }
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
