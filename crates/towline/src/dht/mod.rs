//! The distributed hash table: values stored under keys on the nodes of the OpenDHT network.
//!
//! [`Dht`] is a handle to a node that runs in a task of its own: the engine of [`towline_dht`], which knows no
//! sockets and no clock, its UDP sockets, and the operations of all handles. There are no locks; everything goes
//! through bounded queues. A program that does not take what it asked for holds up nobody but itself.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use towline::dht::{Dht, DhtConfig, InfoHash, ListenEvent, PutOptions, Query, Value};
//!
//! let config = DhtConfig::default().with_bootstrap("bootstrap.jami.net");
//! let dht = Dht::start(Arc::new(towline_net::Os), config, None).await?;
//!
//! let key = InfoHash::digest("a name");
//! dht.put(key, Value::new(0, 0, *b"hello"), PutOptions::default()).await?;
//! for found in dht.get(key, Query::all()).collect().await? {
//!     println!("{:?}", found.value.data());
//! }
//!
//! let mut listening = dht.listen(key, Query::all());
//! while let Some(event) = listening.next().await {
//!     if let ListenEvent::New(values) = event {
//!         println!("{} new values", values.len());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Spec: `dht.md` 2 to 4, `connection.md` 2.5.

mod announce;
mod bootstrap;
mod certificate;
mod config;
mod driver;
mod error;
mod get;
mod listen;
mod operations;
mod pacing;
mod pulse;
mod request;
mod sealed_put;
mod secure;
mod sockets;
mod state;
mod subscription;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use towline_dht::node::Node;
use towline_identity::Identity;
use towline_net::{Net, UdpSocket};

pub use announce::{Announcement, PutOutcome};
pub use certificate::{
    CertificateAnnouncement, CertificateEvidence, CertificateKey, FindCertificateError, FoundCertificate,
    RejectedCertificate, RejectionReason,
};
pub use config::{DhtConfig, DhtLimits, StartError, StateFault};
pub use error::{Closed, GetError, PutError, SaveError};
pub(crate) use pulse::{SILENCE, Vitals};

pub use get::{FieldQuery, Get, LookupReport, RawGet};
pub use listen::{ListenEnd, ListenEvent, Listening, RawListening};
pub use secure::SecureValue;
pub use towline_dht::node::{
    Config as NodeConfig, Family, GetOptions, Mode as NodeMode, PerFamily, PutOptions, Reachability, Stats,
    Status,
};
pub use towline_dht::{Field, FieldValue, InfoHash, Query, Restriction, Value};

use announce::AnnouncementState;
use bootstrap::Bootstrap;
use driver::{Driver, best};
use operations::Operations;
use pacing::Pacer;
use pulse::Pulse;
use request::{Control, REQUESTS_PER_PLACE, Start};
use secure::Opener;
use sockets::Sockets;
use subscription::Counter;

/// Messages about the node that may wait for its task; whoever sends one more waits.
const CONTROLS: usize = 64;

/// A running DHT node. Cloning costs a few reference counts; all clones are the same node.
///
/// The node runs for as long as a handle to it, or to an operation of it, exists, or until
/// [`shutdown`](Self::shutdown).
///
/// Operations may be started at any time. Those started while the node is still looking for the network go out when
/// it knows the first other node, and fail when it is clear that there is none.
#[derive(Clone)]
#[doc(alias = "DhtRunner")]
pub struct Dht {
    net: Arc<dyn Net>,
    identity: Option<Arc<Identity>>,
    counter: Counter,
    controls: mpsc::Sender<Control>,
    status: watch::Receiver<PerFamily<Status>>,
    reachability: watch::Receiver<PerFamily<Reachability>>,
    node_id: InfoHash,
    local_addrs: PerFamily<Option<SocketAddr>>,
    network: u32,
    mode: NodeMode,
    pulse: Arc<Pulse>,
}

impl Dht {
    /// Binds the sockets, reads the state of the last run and starts the node. Values encrypted to `identity` are
    /// decrypted, and signed values are signed with it; its ids do not show in the id of the node.
    ///
    /// Waits for nothing but the state file. Cancel safe: no node is left behind.
    pub async fn start(
        net: Arc<dyn Net>,
        mut config: DhtConfig,
        identity: Option<Arc<Identity>>,
    ) -> Result<Self, StartError> {
        let memory = match &config.state_path {
            Some(path) => {
                let (path, longest) = (path.clone(), config.limits.state_file);
                net.offload(move || state::load(&path, longest)).await?
            }
            None => state::Memory::default(),
        };
        let sockets = Sockets::bind(&*net, &config, memory.ports)?;
        let local_addrs = sockets.addrs();

        let now = towline_net::now();
        let operations = config.limits.operations;
        config.node.ipv4 = local_addrs.v4.is_some();
        config.node.ipv6 = local_addrs.v6.is_some();
        // So that the engine refuses nothing that was admitted here: an operation needs a search for each family.
        let limits = &mut config.node.limits;
        limits.operations = limits.operations.max(operations);
        limits.searches = limits.searches.max(operations.saturating_mul(2));
        if let Some(state) = memory.state.as_ref().filter(|state| !state.id.is_zero()) {
            config.node.node_id = Some(state.id);
        }
        let (network, mode) = (config.node.network, config.node.mode);
        let mut node = Node::new(config.node, now, net.unix_time(), net.seed());
        if let Some(state) = &memory.state {
            node.import_state(now, state);
        }
        let node_id = node.id();
        let pulse = Arc::new(Pulse::default());
        let mut bootstrap = Bootstrap::new(config.limits.bootstrap_hosts, Arc::clone(&pulse));
        if !config.bootstrap.is_empty() {
            bootstrap.add(now, &*net, config.bootstrap);
        }

        let (request_sender, requests) = mpsc::channel(operations.saturating_mul(REQUESTS_PER_PLACE).max(1));
        let (control_sender, controls) = mpsc::channel(CONTROLS);
        let (status_sender, status) = watch::channel(node.status());
        let (reachability_sender, reachability) = watch::channel(node.reachability());
        let driver = Driver {
            pulse: Arc::clone(&pulse),
            net: Arc::clone(&net),
            node,
            sockets,
            pacer: Pacer::default(),
            operations: Operations::new(config.limits),
            bootstrap,
            requests,
            controls,
            status: status_sender,
            reachability: reachability_sender,
            changes: net.changes(),
            router: None,
            state_path: config.state_path,
        };
        tokio::spawn(driver.run());
        let counter = Counter::new(request_sender, operations);
        Ok(Self {
            net,
            identity,
            counter,
            controls: control_sender,
            status,
            reachability,
            node_id,
            local_addrs,
            network,
            mode,
            pulse,
        })
    }

    /// Looks up the values at `key` that match `query`; a selection in it is ignored. Values encrypted to us come
    /// decrypted, those encrypted to others are hidden.
    pub fn get(&self, key: InfoHash, query: Query) -> Get {
        let raw = self.get_raw(key, GetOptions { query, plain: false });
        Get::new(raw, self.opener())
    }

    /// Looks up the values at `key` as they are stored.
    pub fn get_raw(&self, key: InfoHash, options: GetOptions) -> RawGet {
        RawGet::new(self.counter.subscribe(|first| Start::Get { key, options, first }))
    }

    /// Asks for fields of the values at `key` instead of the values; ids, if `query` selects none.
    pub fn query(&self, key: InfoHash, query: Query) -> FieldQuery {
        FieldQuery::new(self.counter.subscribe(|first| Start::Query { key, query, first }))
    }

    /// Reports the values at `key` that match `query`, now and as they come, change and go. Values encrypted to us
    /// come decrypted, those encrypted to others are hidden.
    pub fn listen(&self, key: InfoHash, query: Query) -> Listening {
        Listening::new(self.listen_raw(key, query), self.opener())
    }

    /// Reports the values at `key` that match `query` as they are stored.
    pub fn listen_raw(&self, key: InfoHash, query: Query) -> RawListening {
        RawListening::new(self.counter.subscribe(|first| Start::Listen { key, query, first }))
    }

    /// Stores a value once, for the life time of its type. A value id of 0 becomes a random one.
    ///
    /// [`PutOptions::permanent`] has no effect here: see [`announce`](Self::announce).
    ///
    /// Dropping the future gives up what has not been sent yet; nodes that have the value keep it.
    pub async fn put(
        &self,
        key: InfoHash,
        value: Value,
        options: PutOptions,
    ) -> Result<PutOutcome, PutError> {
        self.store(key, value, PutOptions { permanent: false, ..options }).settled().await
    }

    /// Stores a value and keeps it alive until the returned guard is dropped. A value id of 0 becomes a random one.
    ///
    /// A newer put or announcement of the same id at the same key takes the place of this one.
    pub fn announce(&self, key: InfoHash, value: Value) -> Announcement {
        self.store(key, value, PutOptions { permanent: true, ..PutOptions::default() })
    }

    fn store(&self, key: InfoHash, mut value: Value, options: PutOptions) -> Announcement {
        if value.id == 0 {
            value.id = self.draw_value_id();
        }
        let (id, size) = (value.id, value.size());
        if size > Value::MAX_SIZE {
            return Announcement::impossible(id, PutError::TooLarge { size });
        }
        let (state, watched) = watch::channel(AnnouncementState::Pending);
        let started = self.counter.start(Start::Put { key, value, options, state });
        Announcement::new(id, started.map(|standing| (standing, watched)))
    }

    fn draw_value_id(&self) -> u64 {
        let mut bytes = [0; 8];
        self.net.fill_random(&mut bytes);
        u64::from_le_bytes(bytes).max(1)
    }

    fn opener(&self) -> Opener {
        Opener::new(Arc::clone(&self.net), self.identity.clone())
    }

    /// Adds hosts to start from and asks them at once: `host`, `host:port`, an address, or `[IPv6]:port`; without
    /// port, 4222 is meant. While the node is not connected, they are resolved and asked again after 10, 20,
    /// 40 s and so on up to a day. Waits only for room in a queue. Cancel safe: all are added or none.
    pub async fn bootstrap(&self, hosts: &[String]) -> Result<(), Closed> {
        self.control(Control::Bootstrap(hosts.to_vec())).await
    }

    /// Adds a node that is known from elsewhere. It is not asked first. Cancel safe.
    pub async fn insert_node(&self, id: InfoHash, addr: SocketAddr) -> Result<(), Closed> {
        self.control(Control::InsertNode { id, addr }).await
    }

    /// Tells the node that the network under it has changed, as far as the system does not show it by its
    /// interfaces (those are watched). Cancel safe.
    pub async fn connectivity_changed(&self) -> Result<(), Closed> {
        self.control(Control::ConnectivityChanged).await
    }

    /// Subscribes anew to all that is listened to: others may see us elsewhere than before. Cancel safe.
    pub(crate) async fn listen_anew(&self) -> Result<(), Closed> {
        self.control(Control::ListenAnew).await
    }

    /// Has everything of its family go through this socket, until it breaks or the network changes. Cancel safe.
    pub(crate) async fn detour(&self, socket: Box<dyn UdpSocket>) -> Result<(), Closed> {
        self.control(Control::Detour(socket)).await
    }

    /// A router says that what comes to its public address at our IPv4 port is passed on to us; or none does (any more).
    /// Cancel safe.
    pub(crate) async fn passed_on(&self, router: Option<IpAddr>) -> Result<(), Closed> {
        self.control(Control::PassedOn(router)).await
    }

    /// Our addresses as other nodes report them, most agreed upon first. Empty after a shutdown.
    pub async fn public_addresses(&self) -> Vec<IpAddr> {
        self.ask(Control::PublicAddresses).await.unwrap_or_default()
    }

    /// Counters since the start, and sizes of now.
    pub async fn stats(&self) -> Result<Stats, Closed> {
        self.ask(Control::Stats).await
    }

    /// Signs of life of the network.
    pub(crate) fn vitals(&self) -> Vitals {
        Vitals { reachability: self.reachability(), ..self.pulse.vitals(towline_net::now()) }
    }

    /// How well the node is connected: the better of its families.
    pub fn status(&self) -> Status {
        best(*self.status.borrow())
    }

    /// How well the node is connected over each family, as it changes.
    pub fn watch_status(&self) -> watch::Receiver<PerFamily<Status>> {
        self.status.clone()
    }

    /// Waits until a node of the network has answered us, over at least one family. Cancel safe.
    pub async fn connected(&self) -> Result<(), Closed> {
        let mut status = self.status.clone();
        let connected = status.wait_for(|status| best(*status) == Status::Connected).await;
        connected.map(drop).map_err(|_| Closed)
    }

    /// The id of the node.
    pub fn node_id(&self) -> InfoHash {
        self.node_id
    }

    /// The network id; 0 is the public network.
    pub fn network(&self) -> u32 {
        self.network
    }

    /// Whether the node serves others, as it was set up.
    pub fn mode(&self) -> NodeMode {
        self.mode
    }

    /// Whether others can reach the node over the public network, as far as it knows: in [`NodeMode::Automatic`] it
    /// serves them if so.
    pub fn reachability(&self) -> PerFamily<Reachability> {
        *self.reachability.borrow()
    }

    /// The addresses bound, with the real ports; `None` for a family that is not used.
    pub fn local_addrs(&self) -> PerFamily<Option<SocketAddr>> {
        self.local_addrs
    }

    /// The identity that values are signed with and decrypted for.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// Ends the node: operations end with [`GetError::Closed`] and the like, and its state is saved, if a file is
    /// configured. When this returns, the ports are free and the file is written. Further calls do nothing.
    ///
    /// Dropping the future does not stop the shutdown once it has begun.
    pub async fn shutdown(&self) -> Result<(), SaveError> {
        self.ask(Control::Shutdown).await.unwrap_or(Ok(()))
    }

    async fn control(&self, control: Control) -> Result<(), Closed> {
        self.controls.send(control).await.map_err(|_| Closed)
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Control) -> Result<T, Closed> {
        let (into, answer) = oneshot::channel();
        self.control(question(into)).await?;
        answer.await.map_err(|_| Closed)
    }
}

impl fmt::Debug for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dht")
            .field("node_id", &self.node_id)
            .field("local_addrs", &self.local_addrs)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
