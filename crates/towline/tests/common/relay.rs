//! A TURN server on a host of the lab, which also tells how it sees those who ask.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use towline::net::{Net as _, UdpBind, UdpSocket, now};
use towline::{Relay, RelayTransport};
use towline_lab::Host;
use towline_turn::{PeerPolicy, RelayId, Server, ServerAction, ServerConfig, ServerEvent, Users, Via};

/// The server runs until this is dropped.
pub struct Station {
    pub address: SocketAddr,
    allocations: Arc<AtomicUsize>,
    granted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Station {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Station {
    pub fn start(host: &Host) -> Self {
        let address = SocketAddr::new(host.ipv4(), 3478);
        let fixed = BTreeMap::from([("ann".to_owned(), "secret".to_owned())]);
        let config = ServerConfig {
            users: Users { fixed, secret: None },
            peers: PeerPolicy::Public,
            ..ServerConfig::default()
        };
        let (allocations, granted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut driver = Driver {
            host: host.clone(),
            server: Server::new(config, now(), 1_800_000_000, [7; 32]),
            listener: host.bind_udp(&UdpBind::new(address)).unwrap(),
            relays: BTreeMap::new(),
            allocations: Arc::clone(&allocations),
            granted: Arc::clone(&granted),
        };
        let task = tokio::spawn(async move {
            loop {
                let next = driver.server.poll_timeout();
                let timer = async {
                    match next {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = poll_fn(|cx| driver.poll(cx)) => {}
                    () = timer => driver.server.handle_timeout(now()),
                }
                driver.act();
            }
        });
        Self { address, allocations, granted, task }
    }

    /// For [`towline::Reach::stun`].
    pub fn stun(&self) -> String {
        self.address.to_string()
    }

    /// For [`towline::Reach::relays`].
    pub fn relay(&self) -> Relay {
        Relay {
            server: self.address.to_string(),
            transport: RelayTransport::Udp,
            user: "ann".to_owned(),
            secret: "secret".to_owned(),
        }
    }

    /// Addresses that are given away now.
    pub fn allocations(&self) -> usize {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Addresses that were ever given.
    pub fn granted(&self) -> usize {
        self.granted.load(Ordering::Relaxed)
    }
}

struct Driver {
    host: Host,
    server: Server,
    listener: Box<dyn UdpSocket>,
    relays: BTreeMap<RelayId, Box<dyn UdpSocket>>,
    allocations: Arc<AtomicUsize>,
    granted: Arc<AtomicUsize>,
}

impl Driver {
    /// Takes what came; ready if anything did.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (mut buf, mut moved) = (vec![0; 2048], Poll::Pending);
        while let Poll::Ready(Ok(received)) = self.listener.poll_recv(cx, &mut buf) {
            moved = Poll::Ready(());
            let packet = &buf[..received.len];
            if let Some(out) = self.server.handle_datagram(now(), 0, received.from, packet) {
                let _ = self.relays[&out.relay].try_send(out.payload, out.peer);
            }
        }
        for (relay, socket) in &self.relays {
            while let Poll::Ready(Ok(received)) = socket.poll_recv(cx, &mut buf) {
                moved = Poll::Ready(());
                let (packet, mut out) = (&buf[..received.len], Vec::new());
                let via = self.server.handle_peer(now(), *relay, received.from, packet, &mut out);
                if let Some(Via::Datagram { from, .. }) = via {
                    let _ = self.listener.try_send(&out, from);
                }
            }
        }
        moved
    }

    fn act(&mut self) {
        while let Some(action) = self.server.poll_action() {
            match action {
                ServerAction::Send { via: Via::Datagram { from, .. }, bytes } => {
                    let _ = self.listener.try_send(&bytes, from);
                }
                ServerAction::Bind { relay, .. } => {
                    let socket =
                        self.host.bind_udp(&UdpBind::new(SocketAddr::new(self.host.ipv4(), 0))).unwrap();
                    self.server.relay_bound(now(), relay, Some(socket.local_addr()));
                    self.relays.insert(relay, socket);
                }
                ServerAction::Unbind(relay) => drop(self.relays.remove(&relay)),
                ServerAction::Send { .. } | ServerAction::CloseStream(_) => {
                    unreachable!("there are no streams")
                }
            }
        }
        while let Some(event) = self.server.poll_event() {
            if let ServerEvent::Allocated { .. } = event {
                self.granted.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.allocations.store(self.server.allocations(), Ordering::Relaxed);
    }
}
