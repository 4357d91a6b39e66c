//! What the tasks keep of those who wait.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use towline_channeler::{EndpointConfig, KeyOnly, OpenOptions, Peer, StaticKey};
use towline_lab::{Host, Link, Options, World};

use crate::{Connection, Endpoint, SocketId};

fn endpoint(host: &Host, key: StaticKey) -> Endpoint {
    let anyone = Arc::new(KeyOnly::anyone());
    let config = EndpointConfig::new(key, anyone.clone(), anyone);
    Endpoint::bind(Arc::new(host.clone()), (host.ipv4(), 0).into(), config).unwrap()
}

/// A connection, and the endpoint at its other end.
async fn pair(world: &World) -> (Connection, Endpoint) {
    let internet = world.internet();
    let [alice, bob] = ["alice", "bob"].map(|name| {
        let host = world.host(name);
        host.attach(internet, Link::delay(Duration::from_millis(5)));
        host
    });
    let [ours, theirs] = [1, 2].map(|byte| StaticKey::from_bytes([byte; 32]));
    let peer = Peer::Key(theirs.public());
    let (alice, bob) = (endpoint(&alice, ours), endpoint(&bob, theirs));
    let addr = bob.local_addr(SocketId::FIRST).unwrap();
    (alice.connect(peer, addr).await.unwrap(), bob)
}

#[test]
fn a_writer_that_is_polled_often_waits_once() {
    let story = async |world: World| {
        let (connection, _other) = pair(&world).await;
        let (mut one, _) = connection.open(OpenOptions::default()).await.unwrap().split();
        let (mut other, _) = connection.open(OpenOptions::default()).await.unwrap().split();
        // As if as much had been written as may be before the driver runs. It does not meanwhile.
        connection.shared().lock().unsent = usize::MAX;
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..100 {
            assert!(one.poll_send(cx, &[0]).is_pending());
            assert!(other.poll_send(cx, &[0]).is_pending());
        }
        let waiting = connection.shared().lock().unsent_writers.clone();
        assert_eq!(waiting, [one.id(), other.id()]);
    };
    Options::new(1).run(story).unwrap();
}

#[test]
fn who_gives_up_waiting_leaves_nothing() {
    let story = async |world: World| {
        let (connection, _other) = pair(&world).await;
        let channel = connection.open(OpenOptions::default()).await.unwrap();
        let channel = Arc::new(channel);
        for _ in 0..50 {
            // Each a task of its own, with a waker of its own.
            let (here, there) = (connection.clone(), Arc::clone(&channel));
            let wait = tokio::spawn(async move {
                let limit = Duration::from_millis(1);
                assert!(tokio::time::timeout(limit, here.accept()).await.is_err());
                assert!(tokio::time::timeout(limit, there.accepted()).await.is_err());
            });
            wait.await.unwrap();
        }
        let state = connection.shared().lock();
        assert_eq!(state.acceptors.len(), 0);
        assert!(state.channels.values().all(|slot| slot.status.len() == 0));
    };
    Options::new(2).run(story).unwrap();
}
