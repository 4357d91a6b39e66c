//! The node: this device, running.

mod actor;
mod asking;
mod attempt;
mod command;
pub(crate) mod context;
mod doorway;
mod known;
mod leading;
mod passport;
mod past;
mod progress;
mod table;
mod target;
mod underway;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Mutex, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use towline_ice::SharedTargets;
use towline_identity::{AccountId, Chain, DeviceId, Identity, PublicKey};
use towline_mux::{OpenOptions, Priority};
use towline_net::Net;

pub use target::Target;

use actor::Actor;
use command::Command;
use context::Context;
use table::Table;

use crate::channel::{Channel, IncomingChannel};
use crate::config::Config;
use crate::connection::Connection;
use crate::dht::Dht;
use crate::discovery::Discovery;
use crate::eras::{DeviceIds, Eras};
use crate::error::{ChannelError, CloseReason, ConnectError, StartError};
use crate::event::Event;
use crate::info::ConnectionInfo;
use crate::path::PathOptions;
use crate::reach::{Means, listen};
use crate::report::Report;
use crate::signal::{Signalling, Treated};

/// Commands waiting for the node's task.
const COMMAND_QUEUE: usize = 1024;
/// Times a request is made again after its connection was lost: the peer's program may have seen it.
const MAX_LOST: usize = 1;
/// Times a request is made again that the peer's program did not get to see, as one side was leaving the connection;
/// two devices that dial each other at once leave one of two.
const MAX_PASSED_OVER: usize = 3;
/// Events kept for a slow listener; it is told how many it missed.
const EVENT_QUEUE: usize = 1024;

/// This device, running: reachable by its key, and able to reach others by theirs. Cheap to clone.
///
/// The node ends with [`shutdown`](Self::shutdown), or abruptly when its last clone is dropped.
///
/// ```no_run
/// # async fn example(identity: towline::identity::Identity, device: towline::DeviceId) -> Result<(), Box<dyn std::error::Error>> {
/// use tokio::io::AsyncWriteExt as _;
///
/// let node = towline::Node::start(std::sync::Arc::new(towline::net::Os), towline::Config::internet(), identity).await?;
/// let mut channel = node.connect(device, "hello").await?;
/// channel.write_all(b"hello, device").await?;
/// channel.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "ConnectionManager")]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ctx: Arc<Context>,
    identity: Arc<Identity>,
    table: Arc<Table>,
    commands: mpsc::Sender<Command>,
    incoming: Mutex<mpsc::Receiver<IncomingChannel>>,
    discovery: Discovery,
    /// The node's tasks end with it.
    tasks: std::sync::Mutex<JoinSet<()>>,
}

/// How to connect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// How the channel's data is scheduled against that of others.
    pub priority: Priority,
    /// Use an open connection or fail with [`ConnectError::NotConnected`]; never dial.
    #[doc(alias = "noNewSocket")]
    pub existing_only: bool,
    /// Do not wait for the peer's program to accept; see [`Connection::open_with`].
    pub early: bool,
}

impl Node {
    /// Starts a node with `identity` on `net`. Ready as soon as its sockets are open; it becomes reachable once it
    /// has met the DHT, which [`Event::Registered`] tells and [`Node::registered`] waits for.
    pub async fn start(net: Arc<dyn Net>, config: Config, identity: Identity) -> Result<Self, StartError> {
        let identity = Arc::new(identity);
        let account = identity.account_id().ok_or(StartError::NoAccount)?;
        let options =
            towline_tls::Options { native_dialect: config.native_dialect, ..towline_tls::Options::default() };
        let tls = towline_tls::Config::new(&identity, options)?;
        let listeners = listen(net.as_ref(), &config.reach.tcp_ports, config.addresses)?;
        let dht = Dht::start(Arc::clone(&net), config.dht.clone(), Some(Arc::clone(&identity))).await?;
        let treated = Treated::load(&net, &config).await;
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let mut tasks = JoinSet::new();

        let discovery =
            Discovery::start(Arc::clone(&net), config.discovery.clone(), &dht, Some(identity.device_id()))
                .map_err(StartError::Discovery)?;
        let (signalling, signals) = Signalling::start(&dht, &identity, config.eras, &mut tasks);
        let (registered, registration) = watch::channel(false);
        tasks.spawn(register(dht.clone(), config.eras, events.clone(), registered));
        tasks.spawn(watch_lan(discovery.clone(), events.clone()));

        let path = PathOptions {
            addresses: config.addresses,
            ice: config.ice.clone(),
            targets: SharedTargets::new(config.limits.targets),
        };
        let incoming_queue = config.limits.incoming_queue.max(1);
        let means = Arc::new(Means::start(&net, &config.reach, listeners, &mut tasks));
        if let Some(mapper) = means.mapper() {
            tasks.spawn(doorway::keep(mapper.clone(), dht.clone()));
        }
        let ctx = Arc::new(Context {
            net,
            dht,
            signalling,
            tls,
            passports: passport::Passports::new(Arc::clone(&identity)),
            config,
            path,
            means,
            device: identity.device_id(),
            account,
            events,
            registration,
            enforced: AtomicU64::new(0),
        });
        // Who has nowhere to begin from is not to be led there.
        if !ctx.config.dht.bootstrap.is_empty() && !ctx.config.reach.relays.is_empty() {
            tasks.spawn(leading::lead(Arc::clone(&ctx)));
        }
        let table = Arc::new(Table::new(ctx.device));
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (offers, incoming) = mpsc::channel(incoming_queue);
        let actor = Actor::new(Arc::clone(&ctx), Arc::clone(&table), offers, treated);
        tasks.spawn(actor.run(command_queue, signals));
        Ok(Self {
            inner: Arc::new(Inner {
                ctx,
                identity,
                table,
                commands,
                incoming: Mutex::new(incoming),
                discovery,
                tasks: std::sync::Mutex::new(tasks),
            }),
        })
    }

    /// This device's id: what others dial.
    pub fn device(&self) -> DeviceId {
        self.inner.ctx.device
    }

    /// The account this device belongs to.
    pub fn account(&self) -> AccountId {
        self.inner.ctx.account
    }

    /// The identity the node runs with.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// What it reaches the world through.
    pub(crate) fn net(&self) -> &Arc<dyn Net> {
        &self.inner.ctx.net
    }

    /// The DHT node inside.
    pub fn dht(&self) -> &Dht {
        &self.inner.ctx.dht
    }

    /// Devices seen on the local network.
    pub fn discovery(&self) -> &Discovery {
        &self.inner.discovery
    }

    /// Opens a channel named `name` to `device`, dialling it if there is no connection yet. Ready when the program on
    /// the other side has accepted.
    ///
    /// Calls at the same time share one connection. If the connection is lost before the request is answered, it is
    /// made once more on another one.
    ///
    /// Cancel safe: dropping the future gives up the channel, not the connection.
    #[doc(alias = "connectDevice")]
    pub async fn connect(&self, device: DeviceId, name: &str) -> Result<Channel, ConnectError> {
        self.connect_with(device, name, ConnectOptions::default()).await
    }

    /// [`connect`](Self::connect) with options.
    pub async fn connect_with(
        &self,
        device: DeviceId,
        name: &str,
        options: ConnectOptions,
    ) -> Result<Channel, ConnectError> {
        let max = self.inner.ctx.config.limits.channel_name;
        if name.is_empty() || name.len() > max {
            return Err(ConnectError::BadName { len: name.len(), max });
        }
        let open = OpenOptions { priority: options.priority, early: options.early };
        let (mut lost, mut passed_over) = (0, 0);
        loop {
            let connection = if options.existing_only {
                self.connection(device).ok_or(ConnectError::NotConnected)?
            } else {
                self.dial(device).await?
            };
            let error = match connection.open_with(name, open).await {
                Ok(channel) => return Ok(channel),
                Err(error) => error,
            };
            match &error {
                ChannelError::Connection(CloseReason::Here) => {
                    let closed = self.inner.commands.is_closed();
                    return Err(if closed { ConnectError::NodeClosed } else { ConnectError::Cancelled });
                }
                error if error.connection_lost() => lost += 1,
                error if error.not_considered() => passed_over += 1,
                _ => return Err(ConnectError::Channel(error)),
            }
            if options.existing_only || lost > MAX_LOST || passed_over > MAX_PASSED_OVER {
                return Err(ConnectError::Channel(error));
            }
            tracing::debug!(%device, name, %error, "the connection went away under the request, trying another");
        }
    }

    /// A connection to `device`, dialling it if there is none. Cancel safe.
    pub async fn dial(&self, device: DeviceId) -> Result<Connection, ConnectError> {
        if device == self.device() {
            return Err(ConnectError::OwnDevice(device));
        }
        if let Some(connection) = self.connection(device) {
            return Ok(connection);
        }
        let (reply, connection) = oneshot::channel();
        self.command(Command::Dial { device, reply }).await?;
        connection.await.map_err(|_| ConnectError::NodeClosed)?
    }

    /// The open connection to `device`, if there is one; the preferred, if there are several.
    pub fn connection(&self, device: DeviceId) -> Option<Connection> {
        self.inner.table.preferred(device)
    }

    /// The next channel another device asks for, on any connection. `None` when the node is shut down.
    ///
    /// Requests wait in a bounded queue; when it is full, further ones are refused. Several tasks may wait here.
    ///
    /// Cancel safe.
    #[doc(alias = "onChannelRequest")]
    pub async fn incoming(&self) -> Option<IncomingChannel> {
        self.inner.incoming.lock().await.recv().await
    }

    /// Connections and attempts at one.
    #[doc(alias = "getConnectionList")]
    pub async fn connections(&self) -> Vec<ConnectionInfo> {
        let mut list: Vec<_> = self.inner.table.all().iter().map(Connection::info).collect();
        let (reply, attempts) = oneshot::channel();
        if self.inner.commands.send(Command::Attempts { reply }).await.is_ok() {
            list.extend(attempts.await.unwrap_or_default());
        }
        list
    }

    /// All that is known of the way to a device: of the connection to it, or else of the attempt that is under way, as far as that has
    /// come, or else of the last one that failed. `None` if there was none lately.
    ///
    /// The [causes](Report::causes) of a failure show here within seconds, long before [`dial`](Self::dial) gives up.
    pub async fn report(&self, device: DeviceId) -> Option<Report> {
        if let Some(connection) = self.connection(device) {
            return Some(connection.report().await);
        }
        let (reply, report) = oneshot::channel();
        self.inner.commands.send(Command::Report { device, reply }).await.ok()?;
        let attempt = report.await.ok().flatten();
        // One that all paths have failed takes no channels, and has something to tell all the same.
        match self.inner.table.first(device) {
            Some(connection) if attempt.as_ref().is_none_or(|attempt| attempt.error.is_some()) => {
                Some(connection.report().await)
            }
            _ => attempt,
        }
    }

    /// Handles to the established connections.
    #[doc(alias = "activeSockets")]
    pub fn established(&self) -> Vec<Connection> {
        self.inner.table.all()
    }

    /// Gives the node a certificate chain, so that its device can be dialled without looking it up.
    ///
    /// A chain does not tell at which kind of key the device listens ([`Eras`]). Until that is known, from a connection or
    /// from a lookup, a request to it goes to both.
    pub async fn remember(&self, chain: Chain) {
        let _ = self.inner.commands.send(Command::Remember { known: chain.into() }).await;
    }

    /// The certificate chain of a device that one of its ids or both are known of: what the node remembers, or else
    /// what it finds on the DHT and then remembers. So a device that is known by 40 digits only can be dialled, and one of
    /// the old era that is known by both ids:
    ///
    /// ```no_run
    /// # async fn example(node: towline::Node, id: towline::ShortId) -> Result<(), towline::ConnectError> {
    /// let device = node.find(id).await?.device_id();
    /// let channel = node.connect(device, "hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Devices since OpenDHT 3.7.2 cannot be found by their short id. A chain that this node's policy admits is preferred,
    /// if there are several. Cancel safe.
    pub async fn find(&self, device: impl Into<DeviceIds>) -> Result<Chain, ConnectError> {
        self.seek(device.into(), |_| true).await
    }

    /// [`find`](Self::find) for whoever wrote to us unasked: remembered if the policy admits it. Strangers would
    /// otherwise push others out of the memory, and be no strangers any more.
    pub(crate) async fn find_writer(&self, writer: &PublicKey) -> Result<Chain, ConnectError> {
        self.seek(DeviceIds::from(writer), |chain| self.inner.ctx.admits_chain(chain)).await
    }

    /// The chain of whoever wrote to us, if it is remembered: nothing is looked up.
    pub(crate) async fn recall_writer(&self, writer: &PublicKey) -> Option<Chain> {
        self.recall(DeviceIds::from(writer)).await.ok().flatten()
    }

    async fn recall(&self, wanted: DeviceIds) -> Result<Option<Chain>, ConnectError> {
        let (reply, known) = oneshot::channel();
        self.command(Command::Recall { wanted, reply }).await?;
        let known = known.await.map_err(|_| ConnectError::NodeClosed)?;
        Ok(known.filter(|chain| self.inner.ctx.peer(chain).is_ok()))
    }

    async fn seek(
        &self,
        wanted: DeviceIds,
        memorable: impl Fn(&Chain) -> bool,
    ) -> Result<Chain, ConnectError> {
        if let Some(chain) = self.recall(wanted).await? {
            return Ok(chain);
        }
        let ctx = &self.inner.ctx;
        let found = attempt::find_certificate(ctx, wanted, |chain| ctx.admits_chain(chain)).await?;
        ctx.peer(&found.chain)?;
        let chain = found.chain.clone();
        if memorable(&chain) {
            self.command(Command::Remember { known: found.into() }).await?;
        }
        Ok(chain)
    }

    async fn command(&self, command: Command) -> Result<(), ConnectError> {
        self.inner.commands.send(command).await.map_err(|_| ConnectError::NodeClosed)
    }

    /// Ends the connections whose peer may not be connected any more: those of devices that
    /// [`Config::revocations`](crate::Config::revocations) has revoked, whoever dialled, and those of devices that
    /// [`Config::policy`](crate::Config::policy) does not admit any more. Ready when they have ended, with
    /// [`CloseReason::Revoked`] or [`CloseReason::NotAdmitted`]; channels lose what was not sent yet. Attempts under way
    /// are judged at their end.
    ///
    /// To be called after a change of either. A connection to a device that was not admitted when this side dialled it was
    /// the program's wish; only [`close_with`](Self::close_with) ends it.
    pub async fn enforce_policy(&self) {
        let (done, enforced) = oneshot::channel();
        if self.command(Command::EnforcePolicy { done }).await.is_ok() {
            let _ = enforced.await;
        }
    }

    /// Closes the connections to a device or an account, and gives up attempts at them. Ready when they are closed.
    #[doc(alias = "closeConnectionsWith")]
    pub async fn close_with(&self, target: impl Into<Target>) {
        let (done, closed) = oneshot::channel();
        let command = Command::CloseWith { target: target.into(), done };
        if self.inner.commands.send(command).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// To be called when the host's network changed: probes every connection and wakes the DHT. The node notices
    /// changes of interface addresses by itself.
    #[doc(alias = "connectivityChanged")]
    pub async fn connectivity_changed(&self) {
        // A DHT that was shut down needs no waking.
        let _ = self.inner.ctx.dht.connectivity_changed().await;
        let _ = self.inner.commands.send(Command::ConnectivityChanged).await;
    }

    /// What happens from now on. A listener that lags behind is told how many events it missed.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.ctx.events.subscribe()
    }

    /// Ready when this device can be dialled: its certificate is published and it listens. Cancel safe.
    pub async fn registered(&self) {
        self.inner.ctx.registered().await;
    }

    /// Whether the node was shut down.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.commands.is_closed()
    }

    /// Ready when the node was shut down. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.inner.commands.closed().await;
    }

    /// Closes all connections properly, gives ports of routers back, leaves the DHT and saves its state.
    pub async fn shutdown(&self) {
        let (done, finished) = oneshot::channel();
        if self.inner.commands.send(Command::Shutdown { done }).await.is_ok() {
            let _ = finished.await;
        }
        let mut tasks = {
            let mut tasks = self.inner.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
        let ((), left) = tokio::join!(self.inner.ctx.means.close(), self.inner.ctx.dht.shutdown());
        if let Err(error) = left {
            tracing::warn!(%error, "the state of the DHT node was not saved");
        }
    }
}

/// Publishes the certificate for as long as the node runs.
async fn register(dht: Dht, eras: Eras, events: broadcast::Sender<Event>, registered: watch::Sender<bool>) {
    let announcement = dht.publish_certificate_for(eras);
    match announcement.announced().await {
        Ok(_) => {
            registered.send_replace(true);
            let _ = events.send(Event::Registered);
        }
        Err(error) => tracing::warn!(%error, "the certificate could not be published"),
    }
    // The announcement ends when it is dropped, which the end of the node's tasks does.
    std::future::pending::<()>().await;
    drop(announcement);
}

/// Passes on what is seen on the local network.
async fn watch_lan(discovery: Discovery, events: broadcast::Sender<Event>) {
    let mut seen = discovery.events();
    while let Some(peer) = seen.next().await {
        let _ = events.send(Event::SeenOnLan { device: peer.device });
    }
}
