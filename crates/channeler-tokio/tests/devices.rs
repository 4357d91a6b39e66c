//! Endpoints that show the certificates of their devices, and ask for those of others.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]

mod support;

use std::{net::Ipv4Addr, sync::Arc};

use tokio::time::timeout;
use towline_channeler_tokio::{
    ConnectError, Endpoint, SocketId,
    proto::{
        Certified, CertifiedPeers, ConnectionError, EndpointConfig, HandshakeError, KeyOnly, Peer, Refused,
        StaticKey, Trust,
    },
};
use towline_identity::{AccountId, GenerateOptions, Hierarchy, Identity, KeySize};
use towline_net::{Net, Os};

use support::{PATIENCE, Station};

const HOUR: i64 = 3600;

fn now() -> i64 {
    Os.unix_time().as_secs().try_into().unwrap()
}

fn device() -> Identity {
    let options = GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(now()) };
    Hierarchy::generate(&options).unwrap().device
}

/// The devices of one account, as long as their certificates count.
fn of_account(account: AccountId) -> CertifiedPeers {
    CertifiedPeers::new(move |chain, now| {
        chain.verify_validity(now).map_err(|_| Refused::Expired)?;
        if chain.account_id() == Some(account) { Ok(()) } else { Err(Refused::Unknown) }
    })
}

/// An endpoint of a device, which speaks for its key until then.
fn station(device: &Identity, until: i64, trust: impl Trust + 'static) -> Station {
    let key = StaticKey::from_bytes(Os.seed());
    let credentials = Arc::new(Certified::new(device, &key, until));
    let config = EndpointConfig::new(key.clone(), credentials, Arc::new(trust));
    let endpoint = Endpoint::bind(Arc::new(Os), (Ipv4Addr::LOCALHOST, 0).into(), config).unwrap();
    let addr = endpoint.local_addr(SocketId::FIRST).unwrap();
    Station { peer: Peer::Key(key.public()), endpoint, addr }
}

/// Why `to` cannot be reached as `peer`.
async fn failure(from: &Station, peer: Peer, to: &Station) -> HandshakeError {
    match timeout(PATIENCE, from.endpoint.connect(peer, to.addr)).await.unwrap() {
        Err(ConnectError::Connection(ConnectionError::Handshake(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn devices_meet_and_strangers_are_refused() {
    let (a, b) = (device(), device());
    let alice = station(&a, now() + HOUR, CertifiedPeers::device(b.device_id()));
    let bob = station(&b, now() + HOUR, of_account(a.account_id().unwrap()));

    // By the key, and as whoever proves to be that device.
    for peer in [bob.peer, Peer::Trusted] {
        let connecting =
            async { tokio::join!(alice.endpoint.connect(peer, bob.addr), bob.endpoint.accept()) };
        let (ours, theirs) = timeout(PATIENCE, connecting).await.unwrap();
        let (ours, theirs) = (ours.unwrap().peer(), theirs.unwrap().peer());
        assert_eq!((ours.device(), ours.account()), (Some(b.device_id()), b.account_id()));
        assert_eq!((theirs.device(), theirs.account()), (Some(a.device_id()), a.account_id()));
    }

    // Another account; no certificate; a word that counts no longer.
    let carol = station(&device(), now() + HOUR, KeyOnly::anyone());
    let nobody = Station::on_loopback();
    let late = station(&a, now() - HOUR, KeyOnly::anyone());
    for (who, reason) in
        [(&carol, Refused::Unknown), (&nobody, Refused::Malformed), (&late, Refused::Expired)]
    {
        assert_eq!(failure(who, bob.peer, &bob).await, HandshakeError::RefusedByPeer(reason));
    }
    // And the one who dials looks as well.
    assert_eq!(failure(&alice, carol.peer, &carol).await, HandshakeError::NotAdmitted(Refused::WrongDevice));
}
