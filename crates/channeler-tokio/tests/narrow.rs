//! Sockets that have no room.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::{
    collections::BTreeMap,
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use towline_channeler_tokio::{
    LinkError,
    proto::{AddLinkError, Capabilities, Config},
};
use towline_lab::{Link, Options, World};
use towline_net::{Arrival, Burst, Net as _, Received, UdpSocket};

use support::{Station, channel, hosts, pattern};

/// What sockets take that have three batches of ten datagrams of room in each millisecond, while they take any.
#[derive(Debug, Default)]
struct Gate {
    room: u32,
    /// A task makes room again.
    refilling: bool,
    closed: bool,
    refused: u32,
    /// What there was no room for: until it is sent, nothing else may be tried there.
    first: BTreeMap<SocketAddr, Vec<u8>>,
    waiting: Option<Waker>,
}

#[derive(Debug)]
struct NarrowSocket {
    inner: Box<dyn UdpSocket>,
    gate: Arc<Mutex<Gate>>,
}

impl UdpSocket for NarrowSocket {
    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        self.inner.poll_recv(cx, buf)
    }

    fn poll_send(&self, cx: &mut Context<'_>, payload: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        self.inner.poll_send(cx, payload, to)
    }

    fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        self.inner.try_send(payload, to)
    }

    fn poll_recv_batch(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        arrivals: &mut [Arrival],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv_batch(cx, bufs, arrivals)
    }

    fn poll_send_batch(&self, cx: &mut Context<'_>, burst: &Burst<'_>) -> Poll<io::Result<()>> {
        let mut gate = self.gate.lock().unwrap();
        if let Some(first) = gate.first.remove(&burst.to) {
            assert!(first == burst.payload, "overtaken");
        }
        if gate.closed || gate.room == 0 {
            gate.refused += 1;
            gate.first.insert(burst.to, burst.payload.to_vec());
            gate.waiting = Some(cx.waker().clone());
            if !std::mem::replace(&mut gate.refilling, true) {
                let gate = Arc::clone(&self.gate);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let mut gate = gate.lock().unwrap();
                    (gate.room, gate.refilling) = (3, false);
                    let waiting = if gate.closed { None } else { gate.waiting.take() };
                    drop(gate);
                    waiting.into_iter().for_each(Waker::wake);
                });
            }
            return Poll::Pending;
        }
        gate.room -= 1;
        assert!(burst.payload.len() <= burst.segment.unwrap_or(burst.payload.len()) * 10);
        for datagram in burst.payload.chunks(burst.segment.unwrap_or(burst.payload.len())) {
            self.inner.try_send(datagram, burst.to)?;
        }
        Poll::Ready(Ok(()))
    }

    fn max_segments(&self) -> usize {
        10
    }
}

/// An endpoint on a narrow host, one on another, and the gate of the first.
fn stations(world: &World) -> (Station, Station, Arc<Mutex<Gate>>) {
    let (alice, bob) = hosts(world, Link::delay(Duration::from_millis(2)));
    let gate = Arc::<Mutex<Gate>>::default();
    let shared = Arc::clone(&gate);
    let narrow = alice.with_udp(move |host, options| {
        Ok(Box::new(NarrowSocket { inner: host.bind_udp(options)?, gate: Arc::clone(&shared) }))
    });
    (Station::with(Arc::new(narrow), alice.ipv4(), Config::default()), Station::in_lab(&bob), gate)
}

#[test]
fn what_waits_for_room_is_sent_when_there_is_some() {
    let story = async |world: World| {
        let (alice, bob, gate) = stations(&world);
        let (ours, theirs) = alice.connect(&bob).await;
        let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
        let sent = pattern(0, 5_000_000);
        let send = async {
            sender.send(&sent).await.unwrap();
            sender.finish();
        };
        let receive = async {
            let mut received = Vec::new();
            while let Some(some) = receiver.message().await.unwrap() {
                received.extend(some);
            }
            assert!(received == sent);
        };
        tokio::join!(send, receive);
        assert!(gate.lock().unwrap().refused > 10, "the socket was never full");
        assert_eq!(ours.stats().packets_lost, 0, "what waits is not lost");
    };
    Options::new(1).run(story).unwrap();
}

#[test]
fn a_socket_without_room_holds_up_no_other_link() {
    let story = async |world: World| {
        let (alice, bob, gate) = stations(&world);
        let addr = bob.endpoint.listen((bob.addr.ip(), 0).into()).unwrap();
        let (ours, theirs) = alice.connect(&bob).await;
        ours.add_tcp(addr).await.unwrap();
        let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
        gate.lock().unwrap().closed = true;
        let sent = pattern(0, 1_000_000);
        let send = async {
            sender.send(&sent).await.unwrap();
            sender.finish();
        };
        let receive = async {
            let mut received = Vec::new();
            while let Some(some) = receiver.message().await.unwrap() {
                received.extend(some);
            }
            assert!(received == sent);
        };
        let transfer = async { tokio::join!(send, receive) };
        tokio::time::timeout(Duration::from_secs(5), transfer).await.unwrap();
    };
    Options::new(2).run(story).unwrap();
}

#[test]
fn a_link_that_begins_anew_on_a_route_waits_for_what_the_last_one_left() {
    let story = async |world: World| {
        let (alice, bob, gate) = stations(&world);
        let addr = bob.endpoint.listen((bob.addr.ip(), 0).into()).unwrap();
        let (ours, theirs) = alice.connect(&bob).await;
        let old = ours.links()[0].link;
        let (mut sender, mut receiver) = channel(&ours, &theirs, Capabilities::stream()).await;
        gate.lock().unwrap().closed = true;
        sender.send(&pattern(0, 10_000)).await.unwrap();
        ours.add_tcp(addr).await.unwrap();
        let refused = gate.lock().unwrap().refused;
        assert!(refused > 0, "the socket was never full");
        ours.close_link(old);
        let anew = async {
            loop {
                match ours.add_link(bob.addr).await {
                    Ok(link) => break link,
                    Err(LinkError::Add(AddLinkError::RouteTaken)) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let open = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let waiting = {
                let mut gate = gate.lock().unwrap();
                (gate.closed, gate.room) = (false, 3);
                gate.waiting.take()
            };
            waiting.into_iter().for_each(Waker::wake);
        };
        let (link, ()) = tokio::join!(anew, open);
        assert_ne!(link, old);
        let mut received = Vec::new();
        while received.len() < 10_000 {
            received.extend(receiver.message().await.unwrap().unwrap());
        }
        assert!(received == pattern(0, 10_000));
    };
    Options::new(3).run(story).unwrap();
}
