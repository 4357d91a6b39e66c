//! The one task that owns the engine and its sockets.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use towline_dht::node::{Node, PerFamily, Reachability, Status, Transmit};
use towline_net::{BoxFuture, Changes, Net};

use super::bootstrap::Bootstrap;
use super::error::SaveError;
use super::operations::Operations;
use super::pacing::Pacer;
use super::pulse::Pulse;
use super::request::{Control, Request, operation_of};
use super::sockets::{Broken, Sockets};
use super::state;

/// Longest UDP payload.
const MAX_DATAGRAM: usize = 65_535;
/// Datagrams, or requests, taken in before what follows from them is sent.
const BATCH: usize = 64;
/// How often the state is saved and the wall clock read.
const UPKEEP_PERIOD: Duration = Duration::from_mins(10);
/// A socket that broke and could not be bound again at once is tried again after this.
const REPAIR_PERIOD: Duration = Duration::from_secs(1);

/// Everything the task owns.
pub(super) struct Driver {
    pub(super) net: Arc<dyn Net>,
    pub(super) node: Node,
    pub(super) sockets: Sockets,
    pub(super) pacer: Pacer,
    pub(super) operations: Operations,
    pub(super) bootstrap: Bootstrap,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) controls: mpsc::Receiver<Control>,
    pub(super) status: watch::Sender<PerFamily<Status>>,
    pub(super) reachability: watch::Sender<PerFamily<Reachability>>,
    pub(super) changes: Changes,
    /// The public address of a router that passes on what comes to our port.
    pub(super) router: Option<IpAddr>,
    pub(super) state_path: Option<PathBuf>,
    pub(super) pulse: Arc<Pulse>,
}

/// Deadlines of the task itself.
struct Chores {
    upkeep: Instant,
    repair: Option<Instant>,
    saving: Option<BoxFuture<'static, Result<(), SaveError>>>,
}

/// Why the task ends.
enum Ending {
    /// Nobody holds a handle any more.
    Abandoned,
    /// Somebody asked for it, and wants to know how it went.
    Asked(oneshot::Sender<Result<(), SaveError>>),
}

impl Driver {
    pub(super) async fn run(mut self) {
        let ending = self.serve().await;
        // Handles learn at once that nothing more will come.
        self.requests.close();
        self.controls.close();
        drop(self.operations);
        self.status.send_replace(PerFamily::default());
        let saved = match &self.state_path {
            Some(path) => {
                let state = self.node.export_state(towline_net::now());
                let (path, ports) = (path.clone(), self.sockets.ports());
                self.net.offload(move || state::save(&path, &state, ports)).await
            }
            None => Ok(()),
        };
        if let Err(error) = &saved {
            tracing::warn!(%error, "the state of the DHT was not saved");
        }
        // The ports are free before anybody hears of the end.
        drop(self.sockets);
        if let Ending::Asked(done) = ending {
            // Whoever asked may not wait for the answer.
            let _ = done.send(saved);
        }
    }

    async fn serve(&mut self) -> Ending {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut incoming = Vec::with_capacity(BATCH);
        let mut chores = Chores { upkeep: towline_net::now() + UPKEEP_PERIOD, repair: None, saving: None };
        self.tell_addresses(towline_net::now());
        loop {
            let now = towline_net::now();
            // Before anything else, or a flood of datagrams would stop the clock.
            self.handle_timeouts(now, &mut chores);
            if self.operations.is_holding() && self.may_start() {
                self.operations.release(now, &mut self.node);
            }
            self.drain(now);
            let wake = self.wake_at(&chores);
            // What is rare comes first, so that what can flood does not keep it waiting; what programs ask comes
            // before what strangers send.
            tokio::select! {
                biased;
                Some(control) = self.controls.recv() => {
                    if let Some(done) = self.handle_control(towline_net::now(), control) {
                        // A save that has begun must not come after the last one.
                        if let Some(saving) = chores.saving {
                            let _ = saving.await;
                        }
                        return Ending::Asked(done);
                    }
                }
                addresses = self.bootstrap.resolved() => {
                    let addresses = self.bootstrap.fresh(addresses);
                    if !addresses.is_empty() {
                        self.node.bootstrap(towline_net::now(), &addresses);
                    }
                }
                () = self.changes.changed() => self.connectivity_changed(towline_net::now()),
                saved = finished(&mut chores.saving) => {
                    chores.saving = None;
                    if let Err(error) = saved {
                        tracing::warn!(%error, "the state of the DHT was not saved");
                    }
                }
                taken = self.requests.recv_many(&mut incoming, BATCH) => {
                    if taken == 0 {
                        return Ending::Abandoned;
                    }
                    let now = towline_net::now();
                    let may_start = self.may_start();
                    for request in incoming.drain(..) {
                        self.operations.handle_request(now, &mut self.node, request, may_start);
                    }
                }
                received = self.sockets.recv(&mut buffer) => {
                    let now = towline_net::now();
                    let mut next = Some(received);
                    for _ in 0..BATCH {
                        match next {
                            Some(Ok(received)) => {
                                if !self.sockets.is_led() {
                                    self.pulse.heard();
                                }
                                self.node.handle_datagram(now, received.from, &buffer[..received.len]);
                                // At once: a few requests for much would overflow the queue.
                                self.drain(now);
                            }
                            Some(Err((family, Broken::Socket(error)))) => {
                                tracing::warn!(%family, %error, "the UDP socket broke");
                                chores.repair = Some(now);
                            }
                            Some(Err((family, Broken::Detour(error)))) => {
                                tracing::debug!(%family, %error, "the DHT is not led by a relay any more");
                                self.leave(now);
                            }
                            None => break,
                        }
                        next = self.sockets.try_recv(&mut buffer);
                    }
                }
                () = towline_net::sleep_until(wake) => {}
            }
        }
    }

    /// When there is something to do though nothing comes in.
    fn wake_at(&self, chores: &Chores) -> Instant {
        let others = [
            self.node.poll_timeout(),
            self.pacer.poll_timeout(),
            self.bootstrap.poll_timeout(),
            self.operations.poll_timeout(),
            chores.repair,
        ];
        others.into_iter().flatten().fold(chores.upkeep, Instant::min)
    }

    fn handle_timeouts(&mut self, now: Instant, chores: &mut Chores) {
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
        }
        for transmit in self.pacer.take_due(now) {
            self.send(now, &transmit);
        }
        self.bootstrap.handle_timeout(now, &*self.net);
        self.operations.handle_timeout(now, &mut self.node);
        if chores.repair.is_some_and(|at| at <= now) {
            chores.repair = (!self.sockets.repair(&*self.net)).then(|| now + REPAIR_PERIOD);
        }
        if chores.upkeep <= now {
            chores.upkeep = now + UPKEEP_PERIOD;
            self.node.set_wall_clock(now, self.net.unix_time());
            self.tell_addresses(now);
            if let (Some(path), None) = (&self.state_path, &chores.saving) {
                let (state, path, ports) = (self.node.export_state(now), path.clone(), self.sockets.ports());
                chores.saving = Some(self.net.offload(move || state::save(&path, &state, ports)).boxed());
            }
        }
    }

    /// Takes out of the engine what it has to say and to send.
    fn drain(&mut self, now: Instant) {
        loop {
            while let Some(transmit) = self.node.poll_transmit() {
                if let Some(transmit) = self.pacer.admit(now, transmit) {
                    self.send(now, &transmit);
                }
            }
            let Some(event) = self.node.poll_event() else { break };
            match operation_of(&event) {
                Some(op) => self.operations.handle_event(now, &mut self.node, op, event),
                None => self.publish_status(now),
            }
        }
        self.publish_reachability();
    }

    fn send(&mut self, now: Instant, transmit: &Transmit) {
        let sent = self.sockets.send(&transmit.payload, transmit.to);
        // What goes by a relay says nothing about the network here.
        if !self.sockets.is_led() {
            self.pulse.sent(now, transmit.to, sent.as_ref().err().map(io::Error::kind));
        }
        if let Err(error) = sent {
            self.node.handle_send_error(now, transmit.to, error.kind());
        }
    }

    /// The addresses of this host are those of the node, and that of its router may be, unless a relay stands between.
    fn tell_addresses(&mut self, now: Instant) {
        let (interfaces, router) =
            if self.sockets.is_led() { (Ok(Vec::new()), None) } else { (self.net.interfaces(), self.router) };
        // To have none is to be behind a NAT: that is not known of who cannot look.
        let Ok(interfaces) = interfaces else { return };
        let addresses = interfaces.iter().flat_map(|interface| &interface.addresses);
        self.node.set_local_addresses(now, addresses.map(|address| address.addr).chain(router));
    }

    fn publish_reachability(&self) {
        let known = self.node.reachability();
        self.reachability.send_if_modified(|before| std::mem::replace(before, known) != known);
    }

    fn publish_status(&mut self, now: Instant) {
        let status = self.node.status();
        let before = self.status.send_replace(status);
        let connected = |status: PerFamily<Status>| best(status) == Status::Connected;
        if connected(status) && !connected(before) {
            self.bootstrap.connected();
            self.operations.connected(now);
        } else if connected(before) && !connected(status) {
            self.bootstrap.disconnected(now);
        }
    }

    fn connectivity_changed(&mut self, now: Instant) {
        tracing::debug!("the network changed");
        // What the last network let through says nothing about this one.
        self.sockets.straight();
        self.pulse.forget();
        self.leave(now);
    }

    /// The node is somewhere else from now on.
    fn leave(&mut self, now: Instant) {
        self.tell_addresses(now);
        self.node.set_wall_clock(now, self.net.unix_time());
        self.node.connectivity_changed(now);
        self.bootstrap.disconnected(now);
    }

    /// Whether the engine knows of something that may lead to nodes. While a name that will do so is still being
    /// resolved, it does not, and would fail whatever is started.
    fn may_start(&self) -> bool {
        !self.bootstrap.is_resolving() || best(self.node.status()) > Status::Disconnected
    }

    /// Does what a handle asks of the node; returns whom to tell of the end, if it asks for that.
    fn handle_control(
        &mut self,
        now: Instant,
        control: Control,
    ) -> Option<oneshot::Sender<Result<(), SaveError>>> {
        // Whoever asks may not wait for the answer.
        match control {
            Control::Bootstrap(hosts) => {
                self.bootstrap.add(now, &*self.net, hosts);
                if best(self.node.status()) == Status::Connected {
                    self.bootstrap.connected();
                }
            }
            Control::InsertNode { id, addr } => self.node.insert_node(now, id, addr),
            Control::Detour(socket) => {
                tracing::debug!(by = %socket.local_addr(), "the DHT is led by a relay");
                self.sockets.detour(socket);
                self.leave(now);
            }
            Control::PassedOn(router) => {
                tracing::debug!(?router, "the router passes on what comes for the DHT");
                self.router = router;
                self.tell_addresses(now);
            }
            Control::ConnectivityChanged => self.connectivity_changed(now),
            Control::ListenAnew => self.node.listen_anew(now),
            Control::PublicAddresses(answer) => {
                let _ = answer.send(self.node.public_addresses());
            }
            Control::Stats(answer) => {
                let _ = answer.send(self.node.stats(now));
            }
            Control::Shutdown(done) => return Some(done),
        }
        None
    }
}

/// The better of the two families.
pub(super) fn best(status: PerFamily<Status>) -> Status {
    status.v4.max(status.v6)
}

/// The result of work that may be under way; never, if none is. Cancel safe.
async fn finished<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
