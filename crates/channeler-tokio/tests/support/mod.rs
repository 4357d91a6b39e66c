//! Two endpoints that know each other's keys, on the machine or in the lab.
#![allow(dead_code, reason = "each file of tests uses what it needs")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    task::{AbortHandle, JoinSet},
};
use towline_channeler_tokio::{
    Channel, Connection, Endpoint, SocketId,
    proto::{Capabilities, Config, EndpointConfig, KeyOnly, OpenOptions, Peer, StaticKey},
};
use towline_lab::{Host, Link, World};
use towline_net::{Net, Os, TcpConnect};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn config(key: &StaticKey, config: Config) -> EndpointConfig {
    EndpointConfig {
        config: Arc::new(config),
        ..EndpointConfig::new(key.clone(), Arc::new(KeyOnly::anyone()), Arc::new(KeyOnly::anyone()))
    }
}

/// An endpoint with the peer that others dial to reach it, and its address.
pub(crate) struct Station {
    pub(crate) endpoint: Endpoint,
    pub(crate) peer: Peer,
    pub(crate) addr: SocketAddr,
}

impl Station {
    pub(crate) fn with(net: Arc<dyn Net>, ip: IpAddr, limits: Config) -> Self {
        let key = StaticKey::from_bytes(net.seed());
        let endpoint = Endpoint::bind(net, (ip, 0).into(), config(&key, limits)).unwrap();
        let addr = endpoint.local_addr(SocketId::FIRST).unwrap();
        Self { peer: Peer::Key(key.public()), endpoint, addr }
    }

    pub(crate) fn new(net: Arc<dyn Net>, ip: IpAddr) -> Self {
        Self::with(net, ip, Config::default())
    }

    pub(crate) fn on_loopback() -> Self {
        Self::new(Arc::new(Os), Ipv4Addr::LOCALHOST.into())
    }

    pub(crate) fn in_lab(host: &Host) -> Self {
        Self::new(Arc::new(host.clone()), host.ipv4())
    }

    /// A connection from here to there, both ends.
    pub(crate) async fn connect(&self, other: &Self) -> (Connection, Connection) {
        let (ours, theirs) =
            tokio::join!(self.endpoint.connect(other.peer, other.addr), other.endpoint.accept(),);
        (ours.unwrap(), theirs.unwrap())
    }
}

/// Two hosts on one network, each with a link of its own.
pub(crate) fn hosts(world: &World, link: Link) -> (Host, Host) {
    let internet = world.internet();
    let (alice, bob) = (world.host("alice"), world.host("bob"));
    alice.attach(internet, link.clone());
    bob.attach(internet, link);
    (alice, bob)
}

/// A channel from the first to the second, both ends.
pub(crate) async fn channel(
    from: &Connection,
    to: &Connection,
    capabilities: Capabilities,
) -> (Channel, Channel) {
    let options = OpenOptions { capabilities, label: b"test".to_vec(), ..OpenOptions::default() };
    let ours = from.open(options).await.unwrap();
    let theirs = to.accept().await.unwrap();
    assert_eq!((theirs.label(), theirs.capabilities()), (&b"test"[..], capabilities));
    (ours, theirs.accept())
}

/// Bytes of which each tells its place.
pub(crate) fn pattern(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

/// A way by TCP to where a peer listens, for one stream after the other, that can be broken.
pub(crate) struct Pipe {
    pub(crate) addr: SocketAddr,
    task: AbortHandle,
}

impl Pipe {
    pub(crate) fn new(net: Arc<dyn Net>, ip: IpAddr, to: SocketAddr) -> Self {
        let mut listener = net.listen_tcp((ip, 0).into()).unwrap();
        let addr = listener.local_addr();
        let serve = async move {
            let mut streams = JoinSet::new();
            loop {
                let mut near = listener.accept().await.unwrap();
                let mut far = net.connect_tcp(to, TcpConnect::default()).await.unwrap();
                streams.spawn(async move { copy_bidirectional(&mut near, &mut far).await });
            }
        };
        Self { addr, task: tokio::spawn(serve).abort_handle() }
    }

    /// Closes its sockets, on both sides.
    pub(crate) fn break_it(self) {
        self.task.abort();
    }
}
