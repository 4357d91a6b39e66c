//! The task of a node: who is being dialled, who is being answered, what stands.

mod answering;
mod ending;
mod memory;
mod standing;
mod trickling;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use towline_identity::DeviceId;
use towline_mux::Pool;

use self::memory::Memory;
use self::trickling::Trickling;
use super::attempt::{self, Attempted, Replies};
use super::command::{Command, Reply};
use super::context::Context;
use super::known::Acquaintances;
use super::past::Past;
use super::progress::Progress;
use super::table::Table;
use super::underway::{AttemptKey, Dial, OriginKey, Outcome, Underway};
use crate::channel::IncomingChannel;
use crate::error::{CloseReason, ConnectError};
use crate::event::Event;
use crate::info::{ConnectionId, ConnectionInfo, Origin};
use crate::limits::Limits;
use crate::path::HostNow;
use crate::report::{Journal, Report};
use crate::signal::{MAX_ID, Signal, Treated};

/// Buffers of 16 KiB kept for further use, for all connections: 2 MiB, and as much in larger ones.
const POOLED_BUFFERS: usize = 128;

/// The state of the task.
pub(super) struct Actor {
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
    memory: Memory,
    known: Acquaintances,
    trickling: Trickling,
    past: Past,
    /// Buffers of all connections.
    pool: Pool,
}

impl Actor {
    pub(super) fn new(
        ctx: Arc<Context>,
        table: Arc<Table>,
        incoming: mpsc::Sender<IncomingChannel>,
        treated: Treated,
    ) -> Self {
        let limits = Arc::new(ctx.config.limits.clone());
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
            memory: Memory::new(treated),
            known: Acquaintances::default(),
            trickling: Trickling::default(),
            past: Past::default(),
            pool: Pool::new(POOLED_BUFFERS),
        }
    }

    /// Runs until the node is shut down or its last handle is gone.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut signals: mpsc::Receiver<Signal>,
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
                Some(signal) = signals.recv() => match signal {
                    Signal::Request(incoming) => self.handle_signal(incoming),
                    Signal::Later(device, later) => self.trickling.take(device, later),
                },
                () = changes.changed() => self.probe(),
                () = self.memory.due() => self.memory.save(&self.ctx),
                Some(_) = self.chores.join_next() => {}
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Dial { device, reply } => self.dial(device, reply),
            Command::Remember { known } => self.known.remember(known),
            Command::Recall { wanted, reply } => {
                let _ = reply.send(self.known.find(wanted).map(|known| known.chain.clone()));
            }
            Command::CloseWith { target, done } => self.close_with(target, done),
            Command::EnforcePolicy { done } => self.enforce_policy(done),
            Command::Report { device, reply } => {
                let _ = reply.send(self.report(device));
            }
            Command::Attempts { reply } => {
                let _ = reply.send(self.list_attempts());
            }
            Command::ConnectivityChanged => self.probe(),
            Command::Shutdown { .. } => unreachable!("handled by the loop"),
        }
    }

    /// Lets connections move after a change of the network, and finds out which have survived it.
    fn probe(&self) {
        self.ctx.means.check();
        let host = match HostNow::look(self.ctx.net.as_ref(), self.ctx.path.addresses) {
            Ok(host) => Arc::new(host),
            Err(error) => return tracing::debug!(%error, "the host's addresses are not known"),
        };
        for connection in self.table.all() {
            connection.network_changed(&host);
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
        self.start_dial(device, vec![reply]);
    }

    /// A peer that is no Towline may not stand a request of ours that crosses its own (`jamid.md` 1). While one of its
    /// requests is being answered, the dial waits for what becomes of that.
    fn start_dial(&mut self, device: DeviceId, waiters: Vec<Reply>) {
        let id = ConnectionId(self.rng.random_range(1..=MAX_ID));
        let (answer, answered) = oneshot::channel();
        let known = self.known.get(device).cloned();
        let first: Vec<Outcome> =
            self.answers_to(device).filter(|answer| answer.yields).map(Underway::outcome).collect();
        let yields = !first.is_empty();
        let (over, _) = watch::channel(());
        let stop = CancellationToken::new();
        let journal = Journal::new(device, id, Origin::Dialled, Arc::downgrade(&self.ctx));
        let progress = Arc::new(Progress::new(journal));
        let (ctx, seen, stopped) = (Arc::clone(&self.ctx), Arc::clone(&progress), stop.clone());
        let later = self.trickling.open((device, id, OriginKey::Dialled));
        let replies = Replies { answer: answered, later };
        let task = self.attempts.spawn(async move {
            join_all(first.into_iter().map(Outcome::failed)).await;
            let result = attempt::dial(ctx, id, device, known, replies, seen, stopped).await;
            ((device, id, OriginKey::Dialled), result)
        });
        let attempt = Underway { task, stop, progress, stranger: false, yields, over };
        self.dials.insert(device, Dial { id, waiters, answer: Some(answer), attempt });
    }

    /// Attempts of a device to connect to us.
    fn answers_to(&self, device: DeviceId) -> impl Iterator<Item = &Underway> {
        let all = (device, ConnectionId(0))..=(device, ConnectionId(u64::MAX));
        self.answers.range(all).map(|(_, answer)| answer)
    }

    /// Connections, if everything under way succeeds.
    fn connections_to_be(&self) -> usize {
        self.table.len() + self.dials.len() + self.answers.len()
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
        let over = match origin {
            OriginKey::Answered => self.answers.remove(&(device, id)).map(|answer| (Vec::new(), answer)),
            OriginKey::Dialled if self.dials.get(&device).is_some_and(|dial| dial.id == id) => {
                self.dials.remove(&device).map(|dial| (dial.waiters, dial.attempt))
            }
            OriginKey::Dialled => None,
        };
        match (over, result) {
            (Some((waiters, _)), Ok(attempted)) => {
                let connection = self.establish(attempted);
                for waiter in waiters {
                    let _ = waiter.send(Ok(connection.clone()));
                }
            }
            (Some((waiters, attempt)), Err(error)) => {
                let journal = Arc::clone(&attempt.progress.journal);
                journal.fail(towline_net::now(), error.clone());
                self.past.keep(device, journal);
                self.attempt_failed((device, id, origin), waiters, &error);
            }
            // It was to end, and had just succeeded.
            (None, Ok(mut attempted)) => {
                self.chores.spawn(async move { attempted.secured.carrier.end(&CloseReason::Here).await });
            }
            (None, Err(_)) => {}
        }
    }

    fn attempt_failed(
        &mut self,
        (device, id, origin): AttemptKey,
        waiters: Vec<Reply>,
        error: &ConnectError,
    ) {
        match error {
            ConnectError::NoAnswer { .. } => self.known.doubt(device),
            // What was found may be what was wrong.
            ConnectError::NotAdmitted | ConnectError::BadChain(_) | ConnectError::Revoked(_) => {
                self.known.forget(device);
            }
            _ => {}
        }
        let origin = Origin::from(origin);
        tracing::debug!(%device, %error, ?origin, "attempt failed");
        // The device may have reached us meanwhile.
        let outcome = self.table.preferred(device).ok_or_else(|| error.clone());
        for waiter in waiters {
            let _ = waiter.send(outcome.clone());
        }
        self.ctx.emit(match origin {
            Origin::Dialled => Event::ConnectFailed { connection: id, device, error: error.clone() },
            Origin::Answered => Event::IncomingFailed { device, error: error.clone() },
        });
    }

    /// The attempt that runs, or ran, in a task.
    fn attempt_of(&self, task: tokio::task::Id) -> Option<AttemptKey> {
        let dial = self.dials.iter().find(|(_, dial)| dial.attempt.task.id() == task);
        let answer = self.answers.iter().find(|(_, answer)| answer.task.id() == task);
        dial.map(|(device, dial)| (*device, dial.id, OriginKey::Dialled))
            .or_else(|| answer.map(|((device, id), _)| (*device, *id, OriginKey::Answered)))
    }

    /// What is known of an attempt at a device.
    fn report(&self, device: DeviceId) -> Option<Report> {
        let dial = self.dials.get(&device).map(|dial| &*dial.attempt.progress.journal);
        let answer = || self.answers_to(device).last().map(|answer| &*answer.progress.journal);
        let journal = dial.or_else(answer).or_else(|| self.past.of(device))?;
        Some(journal.report(towline_net::now(), None, Vec::new()))
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
}
