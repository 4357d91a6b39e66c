//! What the stories share: identities, nodes on loopback or in the lab, programs that answer.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod home;
pub mod meter;
pub mod relay;
pub mod rogue;
pub mod sockets;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use towline::dht::{Dht, DhtConfig};
use towline::identity::{Identity, KeySize, PrivateKey, Validity};
use towline::net::Net;
use towline::{
    Channel, ChannelError, Config, Connection, ConnectionPolicy, Event, LinkInfo, Node, PathKind, Use,
};
use towline_lab::{Host, Kind, Link, Network, Record, World};

/// January 2027: the time of the lab.
fn validity() -> Validity {
    Validity::ten_years_from(1_800_000_000)
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeySize::Rsa2048).unwrap()
}

/// A list that grows on demand and stays for the life of the process: keys take time to make.
type Made = OnceLock<Mutex<Vec<Identity>>>;

fn nth(made: &'static Made, number: usize, make: impl Fn(&[Identity]) -> Identity) -> Identity {
    let mut made = made.get_or_init(Mutex::default).lock().unwrap();
    while made.len() <= number {
        let next = make(&made);
        made.push(next);
    }
    made[number].clone()
}

/// RSA-2048 devices, each with an account of its own.
pub fn identity(number: usize) -> Identity {
    static MADE: Made = OnceLock::new();
    nth(&MADE, number, |_| {
        let account = Identity::self_signed(key(), "account", validity()).unwrap();
        account.issue_device(key(), "device", validity()).unwrap()
    })
}

/// An account, and a device of it: for stories in which the account has something to say.
pub fn family() -> (Identity, Identity) {
    static MADE: OnceLock<(Identity, Identity)> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let account = Identity::self_signed(key(), "account", validity()).unwrap();
        let device = account.issue_device(key(), "device", validity()).unwrap();
        (account, device)
    });
    made.clone()
}

/// What an account that nobody knows can make of the public key of a device that is not its own, and publish.
pub fn claimed(device: &Identity) -> Identity {
    let account = Identity::self_signed(key(), "claims everybody", validity()).unwrap();
    account.issue_device(device.key().clone(), "device", validity()).unwrap()
}

/// RSA-2048 devices of one account.
pub fn sibling(number: usize) -> Identity {
    static ACCOUNT: OnceLock<Identity> = OnceLock::new();
    static MADE: Made = OnceLock::new();
    nth(&MADE, number, |_| {
        let account = ACCOUNT.get_or_init(|| Identity::self_signed(key(), "account", validity()).unwrap());
        account.issue_device(key(), "device", validity()).unwrap()
    })
}

/// A device that no account vouches for.
pub fn self_signed() -> Identity {
    Identity::self_signed(key(), "alone", validity()).unwrap()
}

/// Virtual time that a story may take unless it says otherwise.
pub const LIMIT: Duration = Duration::from_mins(10);

/// Runs a story in the lab, within [`LIMIT`].
pub fn story<F: Future>(seed: u64, tell: impl FnOnce(World) -> F) -> F::Output {
    let options = towline_lab::Options { limit: LIMIT, ..towline_lab::Options::new(seed) };
    options.run(tell).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

/// A network in the lab: a DHT node to bootstrap from, and whoever joins.
pub struct Lab {
    pub world: World,
    pub internet: Network,
    pub bootstrap: SocketAddr,
    pub bootstrap_host: Host,
    pub dht: Dht,
}

impl Lab {
    pub async fn new(world: World) -> Self {
        let internet = world.internet();
        let host = world.host("bootstrap");
        host.attach(internet, Link::delay(Duration::from_millis(5)));
        let bootstrap = SocketAddr::new(host.ipv4(), 4222);
        let dht = Dht::start(Arc::new(host.clone()), DhtConfig::on_port(4222), None).await.unwrap();
        Self { world, internet, bootstrap, bootstrap_host: host, dht }
    }

    /// The network, and two nodes that can be dialled.
    pub async fn pair(world: World) -> (Self, Node, Node) {
        let lab = Self::new(world).await;
        let config = lab.config();
        lab.pair_with(config.clone(), config).await
    }

    /// The same with these set-ups.
    pub async fn pair_with(self, first: Config, second: Config) -> (Self, Node, Node) {
        let (alice, bob) = (self.node_with(0, first).await, self.node_with(1, second).await);
        alice.registered().await;
        bob.registered().await;
        (self, alice, bob)
    }

    pub fn host(&self, name: &str) -> Host {
        let host = self.world.host(name);
        host.attach(self.internet, Link::delay(Duration::from_millis(5)));
        host
    }

    pub fn config(&self) -> Config {
        Config::lan()
            .with_bootstrap(self.bootstrap.to_string())
            .with_policy(ConnectionPolicy::DangerouslyAnyone)
    }

    /// A node with identity `number` that admits anyone.
    pub async fn node(&self, number: usize) -> Node {
        self.node_with(number, self.config()).await
    }

    pub async fn node_with(&self, number: usize, config: Config) -> Node {
        self.node_on(&self.host(&format!("device-{number}")), identity(number), config).await
    }

    /// A node, and the host that it is on.
    pub async fn housed(&self, name: &str, number: usize) -> (Host, Node) {
        let host = self.host(name);
        let node = self.node_on(&host, identity(number), self.config()).await;
        (host, node)
    }

    pub async fn node_on(&self, host: &Host, identity: Identity, config: Config) -> Node {
        let host: Arc<dyn Net> = Arc::new(host.clone());
        Node::start(host, config, identity).await.unwrap()
    }

    /// Where somebody has tried to connect to at this address so far.
    pub fn tried_ports(&self, ip: IpAddr) -> Vec<SocketAddr> {
        let trace = self.world.trace();
        let mut found: Vec<SocketAddr> = trace
            .timeline()
            .filter_map(|record| match record {
                Record::Packet { kind: Kind::Syn, to, .. } if to.ip() == ip => Some(*to),
                _ => None,
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// A DHT node of `identity` without anything above it.
    pub async fn bare_dht(&self, name: &str, identity: Identity) -> Dht {
        let host: Arc<dyn Net> = Arc::new(self.host(name));
        let config = DhtConfig::default().with_bootstrap(self.bootstrap.to_string());
        let dht = Dht::start(host, config, Some(Arc::new(identity))).await.unwrap();
        dht.connected().await.unwrap();
        dht
    }
}

/// Accepts every channel and sends back what comes, until its end.
pub async fn echo(node: Node) {
    while let Some(incoming) = node.incoming().await {
        tokio::spawn(async move {
            // The connection may be gone before the answer, or end under the copy.
            let Ok(channel) = incoming.accept().await else { return };
            let (mut reader, mut writer) = channel.split();
            if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
                let _ = writer.shutdown().await;
            }
        });
    }
}

/// Accepts every channel and hands it over.
pub fn accepted(node: &Node) -> mpsc::Receiver<Channel> {
    let (sender, channels) = mpsc::channel(1024);
    let node = node.clone();
    tokio::spawn(async move {
        while let Some(incoming) = node.incoming().await {
            let Ok(channel) = incoming.accept().await else { continue };
            if sender.send(channel).await.is_err() {
                return;
            }
        }
    });
    channels
}

/// A channel and its other end, where `accepting` is what [`accepted`] returned for the peer.
pub async fn connected(
    from: &Node,
    to: &Node,
    name: &str,
    accepting: &mut mpsc::Receiver<Channel>,
) -> (Channel, Channel) {
    let near = from.connect(to.device(), name).await.unwrap();
    let far = accepting.recv().await.unwrap();
    assert_eq!(far.name(), name);
    (near, far)
}

/// Sends `bytes`, ends the direction, and reads the answer to its end.
pub async fn exchange(channel: &mut Channel, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    channel.write_all(bytes).await?;
    channel.shutdown().await?;
    let mut answer = Vec::new();
    channel.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Sends and gets back a few bytes over an [`echo`] channel that stays open.
pub async fn ping_pong(channel: &mut Channel, bytes: &[u8]) -> std::io::Result<()> {
    channel.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    channel.read_exact(&mut answer).await?;
    assert_eq!(answer, bytes);
    Ok(())
}

/// Sends so much, which is to arrive as it was sent.
pub async fn transfer(near: &mut Channel, far: &mut Channel, len: usize) {
    let words = bytes(len, len);
    let mut heard = vec![0; len];
    let (sent, read) = tokio::join!(near.write_all(&words), far.read_exact(&mut heard));
    sent.unwrap();
    read.unwrap();
    assert!(heard == words, "what was sent is not what arrived");
}

/// What an error of a channel carries.
pub fn channel_error(error: &std::io::Error) -> &ChannelError {
    let inner = error.get_ref().unwrap_or_else(|| panic!("{error:?} carries no channel error"));
    inner.downcast_ref().unwrap_or_else(|| panic!("{inner:?} is no channel error"))
}

/// The next event for which `pick` returns something.
pub async fn event<T>(
    events: &mut tokio::sync::broadcast::Receiver<Event>,
    mut pick: impl FnMut(&Event) -> Option<T>,
) -> T {
    loop {
        let event = events.recv().await.unwrap();
        if let Some(picked) = pick(&event) {
            return picked;
        }
    }
}

/// Reproducible bytes that differ from place to place and from one `salt` to another.
pub fn bytes(salt: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ salt.wrapping_mul(197)) as u8).collect()
}

/// The first link of this kind that works, once there is one.
pub async fn link(connection: &Connection, kind: PathKind) -> LinkInfo {
    loop {
        let links = connection.links().await;
        if let Some(link) = links.iter().find(|link| link.kind == kind && link.purpose != Use::Nothing) {
            return link.clone();
        }
        pass(Duration::from_millis(100)).await;
    }
}

/// Steps of virtual time in which the nodes can do what is left to do; used where the absence of something is shown.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
