//! A node for the time of one command.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinSet};
use towline::discovery::DiscoveryMode;
use towline::identity::Identity;
use towline::{
    Config, ConnectError, Connection, ConnectionInfo, ConnectionState, DeviceId, Dialect, Event as NodeEvent,
    Node, Origin, PathTransport, PeerKind, Report, StartError,
};
use towline_account::announcement;

use crate::event::{AccountEvent, Connected, Event, StepTimes};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::known::Known;
use crate::output::Output;
use crate::text::milliseconds;

/// How long the farewell to peers and to the DHT may take.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Priority of the announcement on the DHT, which is not high so that it wakes no phones.
const ANNOUNCEMENT_PRIORITY: u32 = 1;

/// A running node, whose events are shown.
#[derive(Debug)]
pub(crate) struct Session {
    node: Node,
    /// The longest wait for the DHT before dialling.
    patience: Duration,
    watch: AbortHandle,
    known: Option<Arc<Known>>,
    /// What is done beside, until this is dropped: following what becomes known of others, being announced.
    beside: JoinSet<()>,
}

/// What this device is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To be dialled.
    Reachable,
    /// To dial.
    Dialling,
}

impl Session {
    /// Starts the node.
    pub(crate) async fn start(
        identity: Identity,
        config: Config,
        role: Role,
        output: &Output,
    ) -> Result<Self, Failure> {
        let patience = config.limits.certificate_timeout;
        let discovery = config.discovery.mode;
        let node = Node::start(Arc::new(towline::net::Os), config, identity)
            .await
            .map_err(|error| start_failure(&error))?;
        Ok(Self::of_node(node, patience, discovery, role, output))
    }

    /// Shows the events of a node that runs.
    pub(crate) fn of_node(
        node: Node,
        patience: Duration,
        discovery: DiscoveryMode,
        role: Role,
        output: &Output,
    ) -> Self {
        if role == Role::Reachable {
            output.say(&identity_event(node.identity()));
            if discovery == DiscoveryMode::Full {
                output.say(&Event::AnnouncedOnLan);
            }
        }
        let events = node.events();
        let watch = tokio::spawn(show_events(node.clone(), events, role, output.clone())).abort_handle();
        Self { node, patience, watch, known: None, beside: JoinSet::new() }
    }

    /// Goes by what is known of others; a device that is there to be dialled is announced, so that others find it by its
    /// account.
    pub(crate) fn knowing(mut self, known: Option<Arc<Known>>, role: Role, output: &Output) -> Self {
        let Some(known) = known else { return self };
        self.beside.spawn(Arc::clone(&known).follow(self.node.clone()));
        if let Some(receipt) = known.receipt().filter(|_| role == Role::Reachable) {
            let mut value = receipt.announcement().clone();
            value.id = 0;
            value.priority = ANNOUNCEMENT_PRIORITY;
            let announcement = self.node.dht().announce(announcement::key(self.node.account()), value);
            let output = output.clone();
            self.beside.spawn(async move {
                match announcement.announced().await {
                    Ok(_) => output.say(&AccountEvent::Announced.into()),
                    Err(error) => tracing::warn!(%error, "this device could not be announced"),
                }
                // It ends when it is dropped.
                std::future::pending::<()>().await;
                drop(announcement);
            });
        }
        self.known = Some(known);
        self
    }

    /// Shows nothing more.
    pub(crate) fn stop_showing(&self) {
        self.watch.abort();
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Connects to a device.
    pub(crate) async fn dial(&self, device: DeviceId) -> Result<Connection, Failure> {
        if device == self.node.device() {
            return Err(Failure::connecting(&ConnectError::OwnDevice(device), None));
        }
        self.joined().await?;
        // Not after the dial: nothing is had with it, not even that.
        let dialled = match self.is_banned(device).await {
            Ok(true) => return Err(banned(device)),
            Ok(false) => self.node.dial(device).await,
            Err(error) => Err(error),
        };
        match dialled {
            Ok(connection) => Ok(connection),
            Err(error) => Err(self.explain(device, &error).await),
        }
    }

    /// Whether a device is banned here. Its certificate is looked for, if anybody is.
    pub(crate) async fn is_banned(&self, device: DeviceId) -> Result<bool, ConnectError> {
        let Some(known) = self.known.as_ref().filter(|known| known.bans_somebody()) else { return Ok(false) };
        Ok(known.kind_of(&self.node.find(device).await?) == PeerKind::Banned)
    }

    /// Waits for the DHT.
    pub(crate) async fn joined(&self) -> Result<(), Failure> {
        match tokio::time::timeout(self.patience, self.node.dht().connected()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::Unreachable {
                step: "dht".to_owned(),
                message: format!(
                    "cannot reach the device: no answer from the DHT within {:?}\n  {NO_DHT}",
                    self.patience
                ),
            }),
        }
    }

    /// The longest wait for the DHT, and for what is looked up there.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// What a failure to connect means, and what may help.
    pub(crate) async fn explain(&self, device: DeviceId, error: &ConnectError) -> Failure {
        // That of the attempt which failed so, and not of another one since.
        let report = self.node.report(device).await.filter(|report| report.error.as_ref() == Some(error));
        let cause = report.as_ref().and_then(Report::cause);
        Failure::connecting(error, cause)
    }

    /// Runs the work of the command and ends the node, also when the program is interrupted.
    pub(crate) async fn run<T>(
        mut self,
        interrupt: &Interrupt,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let result = interrupt.stops(work(&self)).await;
        self.beside.shutdown().await;
        if tokio::time::timeout(SHUTDOWN, self.node.shutdown()).await.is_err() {
            tracing::warn!("the node did not end in time");
        }
        self.stop_showing();
        result
    }
}

const NO_DHT: &str = "No node of the DHT answers: check the network and --bootstrap; on a local network without \
                      internet, use --lan on both sides.";

/// Nothing is had with a device that is banned.
pub(crate) fn banned(device: DeviceId) -> Failure {
    Failure::Usage(format!(
        "{device} is banned here: see `towline contact unban`, and the file `trust` of the home directory"
    ))
}

/// Who this device is.
pub(crate) fn identity_event(identity: &Identity) -> Event {
    Event::Identity {
        device: identity.device_id().to_string(),
        short_id: identity.short_id().to_string(),
        account: identity.account_id().map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// Why a node was not started, for the user.
pub(crate) fn start_failure(error: &StartError) -> Failure {
    match error {
        StartError::NoAccount | StartError::Tls(_) | StartError::Listen(_) => {
            Failure::Local(error.to_string())
        }
        _ => Failure::Internal(error.to_string()),
    }
}

/// Shows what happens in the node, until it is gone.
async fn show_events(node: Node, mut events: Receiver<NodeEvent>, role: Role, output: Output) {
    // Asked for, and not only listened for: the event may have been before anybody listened.
    let registered = node.registered();
    tokio::pin!(registered);
    let mut awaited = role == Role::Reachable;
    loop {
        let event = tokio::select! {
            biased;
            () = &mut registered, if awaited => {
                awaited = false;
                Some(Event::Registered)
            }
            event = events.recv() => match event {
                Ok(event) => shown(&node, event),
                Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => return,
            },
        };
        if let Some(event) = event {
            output.say(&event);
        }
    }
}

fn shown(node: &Node, event: NodeEvent) -> Option<Event> {
    Some(match event {
        NodeEvent::SeenOnLan { device } => Event::SeenOnLan { device: device.to_string() },
        NodeEvent::Progress { connection, device, state, elapsed } => Event::Step {
            connection: connection.to_string(),
            device: device.to_string(),
            step: state_name(state).to_owned(),
            ms: milliseconds(elapsed),
        },
        NodeEvent::Connected { connection, .. } => {
            let info = node.established().iter().map(Connection::info).find(|info| info.id == connection)?;
            Event::Connected(Box::new(connected(info)?))
        }
        NodeEvent::IncomingFailed { device, error } => Event::TurnedAway {
            device: device.to_string(),
            step: error.step().to_string(),
            reason: error.to_string(),
        },
        NodeEvent::Disconnected { connection, device, reason } => Event::Disconnected {
            connection: connection.to_string(),
            device: device.to_string(),
            reason: reason.to_string(),
        },
        // What we dial ourselves reports its failure to the caller.
        _ => return None,
    })
}

fn connected(info: ConnectionInfo) -> Option<Connected> {
    let established = info.established?;
    let transport = match established.path.transport {
        PathTransport::Tcp => "TCP",
        PathTransport::Udp => "UDP",
        _ => return None,
    };
    let times = established.timeline;
    Some(Connected {
        connection: info.id.to_string(),
        device: info.device.to_string(),
        account: info.account.map(|account| account.to_string()),
        dialled_here: info.origin == Origin::Dialled,
        transport: transport.to_owned(),
        local: established.path.local.to_string(),
        remote: established.path.remote.to_string(),
        dialect: match established.dialect {
            Dialect::Native => "native",
            Dialect::Jami => "jami",
        }
        .to_owned(),
        security: established.security,
        ms: StepTimes {
            certificate: milliseconds(times.certificate),
            signalling: milliseconds(times.signalling),
            path: milliseconds(times.path),
            tls: milliseconds(times.tls),
            total: milliseconds(times.total()),
        },
    })
}

fn state_name(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::Signalling => "signalling",
        ConnectionState::Path => "path",
        ConnectionState::Securing => "tls",
        ConnectionState::Established => "established",
    }
}
