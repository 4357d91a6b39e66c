//! The task of a node: who is being dialled, who is being answered, what stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use towline_identity::{AccountId, Chain, DeviceId};
use towline_mux::{Mux, Pool};

use super::attempt::{self, Attempted, Progress};
use super::context::Context;
use super::table::{Table, superseded};
use crate::channel::IncomingChannel;
use crate::connection::Connection;
use crate::connection::channels::Setting;
use crate::connection::command::Line;
use crate::connection::flow::{SendShare, Sweep};
use crate::connection::handle::Shared;
use crate::connection::task::{Counters, Task};
use crate::dht::FoundCertificate;
use crate::error::{CloseReason, ConnectError};
use crate::event::Event;
use crate::info::{ConnectionId, ConnectionInfo, EstablishedInfo, Origin};
use crate::limits::Limits;
use crate::policy::ConnectionPolicy;
use crate::signal::{Incoming, MAX_ID, PeerRequest, Treated};

/// Commands to one connection that may wait, beside one for each half of a channel: a half that was cancelled while
/// it waited may keep a place, and must not keep it from others. What they hold is bounded by their channels.
const CONNECTION_QUEUE: usize = 1024 + 2 * 65_536;
/// Buffers of 16 KiB kept for further use, for all connections: 2 MiB.
const POOLED_BUFFERS: usize = 128;
/// Certificates remembered from earlier connections.
const KNOWN_CERTIFICATES: usize = 1024;

type Reply = oneshot::Sender<Result<Connection, ConnectError>>;

/// Whom [`Node::close_with`](crate::Node::close_with) means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// One device.
    Device(DeviceId),
    /// All devices of an account.
    Account(AccountId),
    /// One connection.
    Connection(ConnectionId),
}

impl From<DeviceId> for Target {
    fn from(device: DeviceId) -> Self {
        Self::Device(device)
    }
}

impl From<AccountId> for Target {
    fn from(account: AccountId) -> Self {
        Self::Account(account)
    }
}

impl From<ConnectionId> for Target {
    fn from(connection: ConnectionId) -> Self {
        Self::Connection(connection)
    }
}

/// What the handles ask of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Dial { device: DeviceId, reply: Reply },
    Remember { chain: Chain },
    CloseWith { target: Target, done: oneshot::Sender<()> },
    Attempts { reply: oneshot::Sender<Vec<ConnectionInfo>> },
    ConnectivityChanged,
    Shutdown { done: oneshot::Sender<()> },
}

#[derive(Debug)]
struct Dial {
    id: ConnectionId,
    waiters: Vec<Reply>,
    /// Where the answer goes; taken by the first one.
    answer: Option<oneshot::Sender<PeerRequest>>,
    attempt: Underway,
}

/// An attempt in its task.
#[derive(Debug)]
struct Underway {
    task: AbortHandle,
    progress: Arc<Progress>,
    /// Nothing was known of the device when it began.
    stranger: bool,
}

/// The key of an attempt: both sides may choose the same id.
type AttemptKey = (DeviceId, ConnectionId, OriginKey);
/// [`Origin`] with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OriginKey {
    Dialled,
    Answered,
}

/// The state of the task.
pub(crate) struct Actor {
    ctx: Arc<Context>,
    limits: Arc<Limits>,
    table: Arc<Table>,
    incoming: mpsc::Sender<IncomingChannel>,
    rng: StdRng,
    dials: BTreeMap<DeviceId, Dial>,
    answers: BTreeMap<(DeviceId, ConnectionId), Underway>,
    attempts: JoinSet<(AttemptKey, Result<Attempted, ConnectError>)>,
    connections: JoinSet<(DeviceId, ConnectionId, CloseReason)>,
    /// Refusals and the like under way; nobody waits for them.
    chores: JoinSet<()>,
    treated: Treated,
    known: BTreeMap<DeviceId, FoundCertificate>,
    /// Buffers of all connections.
    pool: Pool,
}

impl Actor {
    pub(crate) fn new(ctx: Arc<Context>, table: Arc<Table>, incoming: mpsc::Sender<IncomingChannel>) -> Self {
        let limits = Arc::new(ctx.config.limits.clone());
        let treated = Treated::new(limits.treated_requests);
        let rng = StdRng::from_seed(ctx.net.seed());
        Self {
            ctx,
            limits,
            table,
            incoming,
            rng,
            dials: BTreeMap::new(),
            answers: BTreeMap::new(),
            attempts: JoinSet::new(),
            connections: JoinSet::new(),
            chores: JoinSet::new(),
            treated,
            known: BTreeMap::new(),
            pool: Pool::new(POOLED_BUFFERS),
        }
    }

    /// Runs until the node is shut down or its last handle is gone.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut signals: mpsc::Receiver<Incoming>,
    ) {
        let mut changes = self.ctx.net.changes();
        loop {
            tokio::select! {
                biased;
                Some(done) = self.connections.join_next() => self.handle_closed(done),
                Some(done) = self.attempts.join_next() => self.handle_attempt(done),
                command = commands.recv() => match command {
                    Some(Command::Shutdown { done }) => {
                        // Whoever asks for anything from now on finds the node closed.
                        commands.close();
                        self.shutdown().await;
                        // The caller may have stopped waiting.
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                Some(incoming) = signals.recv() => self.handle_signal(incoming),
                () = changes.changed() => self.probe(),
                Some(_) = self.chores.join_next() => {}
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Dial { device, reply } => self.dial(device, reply),
            Command::Remember { chain } => self.remember(attempt::known_chain(chain)),
            Command::CloseWith { target, done } => self.close_with(target, done),
            Command::Attempts { reply } => {
                let _ = reply.send(self.list_attempts());
            }
            Command::ConnectivityChanged => self.probe(),
            Command::Shutdown { .. } => unreachable!("handled by the loop"),
        }
    }

    /// Finds out which connections have survived a change of the network.
    fn probe(&self) {
        for connection in self.table.all() {
            connection.probe();
        }
    }

    fn dial(&mut self, device: DeviceId, reply: Reply) {
        if let Some(connection) = self.table.preferred(device) {
            let _ = reply.send(Ok(connection));
            return;
        }
        if let Some(dial) = self.dials.get_mut(&device) {
            dial.waiters.retain(|waiter| !waiter.is_closed());
            if dial.waiters.len() < self.limits.waiters_per_dial {
                dial.waiters.push(reply);
            } else {
                let limit = self.limits.waiters_per_dial;
                let _ = reply.send(Err(ConnectError::Busy { what: "calls waiting for one device", limit }));
            }
            return;
        }
        for (what, count, limit) in [
            ("dials", self.dials.len(), self.limits.dials),
            ("connections", self.connections_to_be(), self.limits.connections),
        ] {
            if count >= limit {
                let _ = reply.send(Err(ConnectError::Busy { what, limit }));
                return;
            }
        }
        let id = ConnectionId(self.rng.random_range(1..=MAX_ID));
        let (answer, answered) = oneshot::channel();
        let known = self.known.get(&device).cloned();
        let ctx = Arc::clone(&self.ctx);
        let progress = Arc::new(Progress::default());
        let seen = Arc::clone(&progress);
        let task = self.attempts.spawn(async move {
            ((device, id, OriginKey::Dialled), attempt::dial(ctx, id, device, known, answered, seen).await)
        });
        let attempt = Underway { task, progress, stranger: false };
        self.dials.insert(device, Dial { id, waiters: vec![reply], answer: Some(answer), attempt });
    }

    /// Connections, if everything under way succeeds.
    fn connections_to_be(&self) -> usize {
        self.table.len() + self.dials.len() + self.answers.len()
    }

    fn handle_signal(&mut self, incoming: Incoming) {
        let device = incoming.sender.device_id();
        let request = &incoming.request;
        let now = towline_net::now();
        if device == self.ctx.device || self.treated.contains(device, request.id, request.is_answer) {
            return;
        }
        if request.is_answer {
            self.treated.insert(now, device, request.id, true);
            // Only the device that was asked may answer, once, and only while it is waited for.
            if let Some(dial) = self.dials.get_mut(&device)
                && dial.id.0 == request.id
                && let Some(answer) = dial.answer.take()
            {
                let _ = answer.send(incoming.request);
            } else {
                tracing::debug!(%device, id = request.id, "answer that nobody waits for");
            }
            return;
        }
        if matches!(self.ctx.config.policy, ConnectionPolicy::RefuseAll) {
            return;
        }
        let stranger = !self.known.contains_key(&device);
        let strangers = self.answers.values().filter(|underway| underway.stranger).count();
        let of_device =
            self.answers.range((device, ConnectionId(0))..=(device, ConnectionId(u64::MAX))).count();
        let full = self.answers.len() >= self.limits.answers
            || of_device >= self.limits.answers_per_device
            || (stranger && strangers >= self.limits.answers_to_strangers)
            || self.connections_to_be() >= self.limits.connections;
        if full {
            // One that is dropped is not treated: it may come again when there is room.
            if self.chores.len() < self.limits.answers {
                self.treated.insert(now, device, request.id, false);
                self.chores.spawn(attempt::refuse_busy(Arc::clone(&self.ctx), incoming));
            }
            return;
        }
        self.treated.insert(now, device, request.id, false);
        let id = ConnectionId(request.id);
        let known = self.known.get(&device).cloned();
        let ctx = Arc::clone(&self.ctx);
        let progress = Arc::new(Progress::default());
        let seen = Arc::clone(&progress);
        let task = self.attempts.spawn(async move {
            ((device, id, OriginKey::Answered), attempt::answer(ctx, incoming, known, seen).await)
        });
        self.answers.insert((device, id), Underway { task, progress, stranger });
    }

    fn handle_attempt(
        &mut self,
        done: Result<(AttemptKey, Result<Attempted, ConnectError>), tokio::task::JoinError>,
    ) {
        // An aborted attempt was taken off the lists by whoever aborted it, though it may have ended just before. One
        // that panicked, as a policy of the program may, is still there.
        let ((device, id, origin), result) = match done {
            Ok(ended) => ended,
            Err(error) => match self.attempt_of(error.id()) {
                Some(key) => (key, Err(ConnectError::Cancelled)),
                None => return,
            },
        };
        let waiters = match origin {
            OriginKey::Answered => self.answers.remove(&(device, id)).map(|_| Vec::new()),
            OriginKey::Dialled if self.dials.get(&device).is_some_and(|dial| dial.id == id) => {
                self.dials.remove(&device).map(|dial| dial.waiters)
            }
            OriginKey::Dialled => None,
        };
        let Some(waiters) = waiters else { return };
        match result {
            Ok(attempted) => {
                let connection = self.establish(attempted);
                for waiter in waiters {
                    let _ = waiter.send(Ok(connection.clone()));
                }
            }
            Err(error) => {
                // What was found may be what was wrong.
                self.known.remove(&device);
                let origin = match origin {
                    OriginKey::Dialled => Origin::Dialled,
                    OriginKey::Answered => Origin::Answered,
                };
                tracing::debug!(%device, %error, ?origin, "attempt failed");
                // The device may have reached us meanwhile.
                let outcome = self.table.preferred(device).ok_or_else(|| error.clone());
                for waiter in waiters {
                    let _ = waiter.send(outcome.clone());
                }
                self.ctx.emit(attempt::failed(id, device, origin, error));
            }
        }
    }

    /// The attempt that runs, or ran, in a task.
    fn attempt_of(&self, task: tokio::task::Id) -> Option<AttemptKey> {
        let dial = self.dials.iter().find(|(_, dial)| dial.attempt.task.id() == task);
        let answer = self.answers.iter().find(|(_, answer)| answer.task.id() == task);
        dial.map(|(device, dial)| (*device, dial.id, OriginKey::Dialled))
            .or_else(|| answer.map(|((device, id), _)| (*device, *id, OriginKey::Answered)))
    }

    /// Starts the task of a connection that stands and puts it on the table.
    fn establish(&mut self, attempted: Attempted) -> Connection {
        let Attempted { id, origin, secured, peer, found, path, timeline } = attempted;
        let device = peer.device;
        self.remember(found);
        let dialect = secured.dialect;
        let security = secured.security;
        let mux = Mux::new(dialect, secured.side, self.ctx.config.mux(), towline_net::now())
            .with_pool(self.pool.clone());
        let (sender, commands) = mpsc::channel(CONNECTION_QUEUE);
        let share = Arc::new(SendShare::new(self.limits.channel_send_buffer / 2));
        let line = Line { commands: sender, sweep: Arc::new(Sweep::default()), share };
        let peer = Arc::new(peer);
        let counters = Arc::new(Counters::default());
        let setting = Setting {
            connection: id,
            peer: Arc::clone(&peer),
            line: line.clone(),
            limits: Arc::clone(&self.limits),
            incoming: self.incoming.clone(),
            pool: self.pool.clone(),
        };
        let task = Task::new(secured.transport, mux, setting, commands, Arc::clone(&counters));
        self.connections.spawn(async move { (device, id, task.run(secured.plaintext).await) });

        let first = !self.table.knows(device);
        let info = EstablishedInfo {
            path: path.clone(),
            dialect,
            security,
            created: self.ctx.net.unix_time(),
            timeline,
            sent: 0,
            received: 0,
            channels: 0,
        };
        let connection = Connection { shared: Arc::new(Shared { id, peer, origin, info, counters, line }) };
        let all = self.table.insert(connection.clone());
        for other in all.iter().filter(|other| other.id() != id) {
            // An older connection that is dead is found out now, not when somebody needs it.
            other.probe();
        }
        for loser in superseded(&all) {
            // Only for a preferred one that lives: the device may have dialled because it lost that one.
            let (winner, loser) = (all[0].clone(), loser.clone());
            let bound = self.limits.close_timeout;
            self.chores.spawn(async move {
                if let Ok(Some(_)) = tokio::time::timeout(bound, winner.ping()).await {
                    loser.retire();
                }
            });
        }
        // Whoever waits for this device need not wait for its own dial any more.
        if let Some(dial) = self.dials.get_mut(&device) {
            for waiter in dial.waiters.drain(..) {
                let _ = waiter.send(Ok(all[0].clone()));
            }
        }
        self.ctx.emit(Event::Connected { connection: id, device, first, path, timeline });
        connection
    }

    fn handle_closed(&mut self, done: Result<(DeviceId, ConnectionId, CloseReason), tokio::task::JoinError>) {
        let Ok((device, connection, reason)) = done else {
            // A task that panicked says not which it was; its queue is closed.
            for connection in self.table.all().iter().filter(|connection| connection.is_closed()) {
                let (device, connection) = (connection.peer().device, connection.id());
                self.table.remove(device, connection);
                self.ctx.emit(Event::Disconnected { connection, device, reason: CloseReason::Internal });
            }
            return;
        };
        self.table.remove(device, connection);
        tracing::debug!(%device, %connection, %reason, "connection ended");
        self.ctx.emit(Event::Disconnected { connection, device, reason });
    }

    fn remember(&mut self, found: FoundCertificate) {
        let device = found.chain.device_id();
        if !self.known.contains_key(&device) && self.known.len() >= KNOWN_CERTIFICATES {
            // Any will do: it is looked up again when needed.
            self.known.pop_first();
        }
        self.known.insert(device, found);
    }

    fn close_with(&mut self, target: Target, done: oneshot::Sender<()>) {
        let dials: Vec<DeviceId> = self
            .dials
            .iter()
            .filter(|(device, dial)| matches(target, **device, dial.id, dial.attempt.progress.account()))
            .map(|(device, _)| *device)
            .collect();
        for device in dials {
            if let Some(dial) = self.dials.remove(&device) {
                dial.attempt.task.abort();
                for waiter in dial.waiters {
                    let _ = waiter.send(Err(ConnectError::Cancelled));
                }
            }
        }
        let answers: Vec<_> = self
            .answers
            .iter()
            .filter(|((device, id), answer)| matches(target, *device, *id, answer.progress.account()))
            .map(|(key, _)| *key)
            .collect();
        for key in answers {
            if let Some(answer) = self.answers.remove(&key) {
                answer.task.abort();
            }
        }
        let closing: Vec<Connection> = self
            .table
            .all()
            .into_iter()
            .filter(|connection| {
                let peer = connection.peer();
                matches(target, peer.device, connection.id(), Some(peer.account))
            })
            .collect();
        self.chores.spawn(async move {
            futures_util::future::join_all(closing.iter().map(Connection::close)).await;
            let _ = done.send(());
        });
    }

    fn list_attempts(&self) -> Vec<ConnectionInfo> {
        let info = |device: DeviceId, id, origin, progress: &Progress| ConnectionInfo {
            id,
            device,
            account: progress.account(),
            origin,
            state: progress.state(),
            established: None,
        };
        let dials = self
            .dials
            .iter()
            .map(|(device, dial)| info(*device, dial.id, Origin::Dialled, &dial.attempt.progress));
        let answers = self
            .answers
            .iter()
            .map(|((device, id), answer)| info(*device, *id, Origin::Answered, &answer.progress));
        dials.chain(answers).collect()
    }

    async fn shutdown(&mut self) {
        for (_, dial) in std::mem::take(&mut self.dials) {
            dial.attempt.task.abort();
            for waiter in dial.waiters {
                let _ = waiter.send(Err(ConnectError::NodeClosed));
            }
        }
        self.attempts.shutdown().await;
        self.chores.shutdown().await;
        let connections = self.table.all();
        let closing = futures_util::future::join_all(connections.iter().map(Connection::close));
        // Each connection bounds its own farewell; this bounds them all.
        let bound = self.limits.close_timeout + Duration::from_secs(2);
        let _ = tokio::time::timeout(bound, closing).await;
        while let Some(done) = self.connections.try_join_next() {
            self.handle_closed(done);
        }
        self.connections.shutdown().await;
    }
}

/// Whether a connection or an attempt is meant. The account of an attempt is unknown until its certificate was seen.
fn matches(target: Target, device: DeviceId, id: ConnectionId, account: Option<AccountId>) -> bool {
    match target {
        Target::Device(wanted) => wanted == device,
        Target::Connection(wanted) => wanted == id,
        Target::Account(wanted) => account == Some(wanted),
    }
}
