//! The relays of a node: which of them is asked, and who gets a share of what one gave.
//!
//! As long as nothing is known of them all are asked at once. The one that was fastest has a head start afterwards. Those that nobody
//! uses are checked now and then ([`checks`]).

mod checks;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, OnceCell};
use tokio::task::JoinSet;
use towline_net::{BoxFuture, Net};
use towline_turn::{Config, Failure, Family, Refusal, Relay as Relayed, ServerTransport};
use towline_turn_tokio::{AllocateError, Options, RelaySocket, Roots};

use super::memory::{Memory, Promise, ServerError, ServerKind, ServerReport};
use super::share::{Hub, RelayPort, lock};
use super::{Relay, RelayTransport};

/// Relays that count; further ones are not asked.
const MAX_RELAYS: usize = 16;
/// Relays, or addresses of one, that are asked at one time.
const AT_ONCE: usize = 4;
/// A relay that is known has so many times what it took the last time before others are asked, too,
const HEAD_START: u32 = 4;
/// and not less than this,
const LEAST_HEAD_START: Duration = Duration::from_millis(200);
/// and one address of a relay before the next.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Relays that are asked how they see this device where STUN servers are not reached.
const SPARES: usize = 2;
/// Longest wait for the addresses of a name.
const LOOK_UP: Duration = Duration::from_secs(5);

/// The relays, and what they gave.
#[derive(Debug)]
pub(super) struct Relays {
    net: Arc<dyn Net>,
    servers: Vec<Server>,
    /// Certificates that vouch for relays, beside those of the system; and both together, once they are needed.
    more_roots: Vec<Vec<u8>>,
    roots: OnceCell<Roots>,
    /// Somebody wanted an address.
    used: Notify,
    /// The network is not the one of before.
    changed: Notify,
    /// Distribute what comes. They end with the node.
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Server {
    relay: Relay,
    memory: Memory,
    /// Where it was found the last time.
    found: Mutex<Vec<SocketAddr>>,
    /// What it gave last. Who comes while it is asked waits for the same.
    current: tokio::sync::Mutex<Weak<Hub>>,
}

/// A share of what a relay gave.
pub(super) struct Granted {
    /// Which relay, among those configured.
    pub(super) server: usize,
    /// A socket for each address.
    pub(super) ports: Vec<RelayPort>,
    /// Ready when the addresses are gone.
    pub(super) over: BoxFuture<'static, ()>,
    /// As long as anybody uses it.
    pub(super) hub: Weak<Hub>,
}

/// No relay gave anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRelay {
    /// When one of them may be asked again, if there is one at all.
    pub(super) again: Option<Instant>,
}

impl Relays {
    pub(super) fn new(net: Arc<dyn Net>, relays: &[Relay], more_roots: Vec<Vec<u8>>) -> Self {
        let server = |relay: &Relay| Server {
            relay: relay.clone(),
            memory: Memory::new(relay.to_string(), ServerKind::Relay(relay.transport)),
            found: Mutex::new(relay.server.parse().into_iter().collect()),
            current: tokio::sync::Mutex::default(),
        };
        let servers = relays.iter().take(MAX_RELAYS).map(server).collect();
        let (used, changed) = (Notify::new(), Notify::new());
        Self { net, servers, more_roots, roots: OnceCell::new(), used, changed, tasks: Mutex::default() }
    }

    /// What is known of each.
    pub(super) fn reports(&self, now: Instant) -> impl Iterator<Item = ServerReport> {
        self.servers.iter().map(move |server| server.memory.report(now))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    /// Some of those that are spoken to on TCP, as far as it is known where they are: each is a STUN server, too, and its port one
    /// that the networks of its users let through.
    pub(super) fn on_tcp(&self) -> Vec<SocketAddr> {
        let on_tcp = self.servers.iter().filter(|server| server.relay.transport == RelayTransport::Tcp);
        let found = on_tcp.flat_map(|server| lock(&server.found).clone());
        found.take(SPARES).collect()
    }

    /// Whether it is worth waiting for them: not all failed the last time.
    pub(super) fn promising(&self, now: Instant) -> bool {
        self.servers.iter().any(|server| server.memory.promise(now) <= Promise::Unknown)
    }

    /// A share for the agent with this user name fragment, of what stands already or of something new; of none of those
    /// `without`.
    pub(super) fn share(
        self: Arc<Self>,
        ufrag: String,
        without: Vec<usize>,
    ) -> BoxFuture<'static, Result<Granted, NoRelay>> {
        Box::pin(async move {
            self.used.notify_one();
            let now = towline_net::now();
            let others = (0..self.servers.len()).filter(|server| !without.contains(server));
            let mut order: Vec<(Promise, usize)> =
                others.map(|server| (self.servers[server].memory.promise(now), server)).collect();
            order.sort_unstable();
            for &(_, server) in &order {
                if let Ok(current) = self.servers[server].current.try_lock()
                    && let Some(granted) = self.grant(server, &current, &ufrag)
                {
                    return Ok(granted);
                }
            }
            let tries = order
                .into_iter()
                .filter_map(|(promise, server)| Some((head_start(promise)?, self.ask(server, &ufrag))));
            match first_of(tries.collect()).await {
                Some(Ok(granted)) => Ok(granted),
                Some(Err(())) | None => Err(NoRelay { again: self.again(&without) }),
            }
        })
    }

    /// When one of them may be asked again.
    fn again(&self, without: &[usize]) -> Option<Instant> {
        let now = towline_net::now();
        let others = self.servers.iter().enumerate().filter(|(server, _)| !without.contains(server));
        let again = others.map(|(_, server)| match server.memory.promise(now) {
            Promise::Rests(until) => until,
            Promise::Good(_) | Promise::Unknown | Promise::Doubtful => now,
        });
        again.min()
    }

    async fn ask(self: &Arc<Self>, index: usize, ufrag: &str) -> Result<Granted, ()> {
        let server = &self.servers[index];
        let mut current = server.current.lock().await;
        if let Some(granted) = self.grant(index, &current, ufrag) {
            return Ok(granted);
        }
        let (socket, addresses) = self.fresh(server).await?;
        let hub = Hub::new(socket, addresses);
        *current = Arc::downgrade(&hub);
        self.grant(index, &current, ufrag).ok_or(())
    }

    /// An address that is shared with nobody, of the first relay that gives one.
    pub(super) async fn socket(&self) -> Option<RelaySocket> {
        self.used.notify_one();
        let now = towline_net::now();
        let mut order: Vec<(Promise, usize)> =
            self.servers.iter().map(|server| server.memory.promise(now)).zip(0..).collect();
        order.sort_unstable();
        let tries = order
            .into_iter()
            .filter_map(|(promise, server)| Some((head_start(promise)?, self.fresh(&self.servers[server]))));
        let (socket, _) = first_of(tries.collect()).await?.ok()?;
        Some(socket)
    }

    async fn fresh(&self, server: &Server) -> Result<(RelaySocket, Vec<SocketAddr>), ()> {
        let asked = towline_net::now();
        let asking = server.memory.asks(asked);
        let allocated = self.at_its_addresses(server, |at| self.allocate_at(&server.relay, at)).await;
        asking.ends();
        match allocated {
            Ok((socket, addresses)) => {
                let (now, mapped) = (towline_net::now(), socket.allocation().mapped);
                server.memory.answered(now, now - asked, mapped, addresses.clone());
                tracing::debug!(relay = %server.relay, ?addresses, took = ?(now - asked), "an address on a relay");
                Ok((socket, addresses))
            }
            Err(error) => {
                server.memory.failed(towline_net::now(), error);
                Err(())
            }
        }
    }

    fn grant(self: &Arc<Self>, server: usize, current: &Weak<Hub>, ufrag: &str) -> Option<Granted> {
        let hub = current.upgrade()?;
        let ports = Hub::ports(&hub, ufrag)?;
        let granted = Granted { server, ports, over: hub.over(), hub: current.clone() };
        if hub.begins() {
            let relays = Arc::downgrade(self);
            let mut tasks = lock(&self.tasks);
            while tasks.try_join_next().is_some() {}
            self.servers[server].memory.held();
            tasks.spawn(hub.distribute(move |lost| {
                let Some(relays) = relays.upgrade() else { return };
                let Server { relay, memory, .. } = &relays.servers[server];
                match lost {
                    Some(reason) => {
                        tracing::debug!(%relay, %reason, "the address on the relay is lost");
                        memory.lost(towline_net::now(), reason);
                    }
                    None => memory.given_back(),
                }
            }));
        }
        Some(granted)
    }

    /// The first success at the addresses of a relay.
    async fn at_its_addresses<T, F: Future<Output = Result<T, ServerError>>>(
        &self,
        server: &Server,
        attempt: impl Fn(SocketAddr) -> F,
    ) -> Result<T, ServerError> {
        let found = tokio::time::timeout(LOOK_UP, self.net.resolve(&server.relay.server)).await;
        let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let found = found.map_err(|error| ServerError::NotFound(error.kind()))?;
        lock(&server.found).clone_from(&found);
        let tries = alternating(found).into_iter().take(AT_ONCE);
        let tries = tries.map(|address| (NEXT_ADDRESS, attempt(address))).collect();
        first_of(tries).await.unwrap_or(Err(ServerError::NotFound(io::ErrorKind::NotFound)))
    }

    /// How a relay is asked at this address.
    async fn options(&self, relay: &Relay, server: SocketAddr) -> Result<Options, ServerError> {
        let transport = match relay.transport {
            RelayTransport::Udp => ServerTransport::Udp,
            RelayTransport::Tcp => ServerTransport::Tcp,
            RelayTransport::Tls => ServerTransport::Tls,
        };
        let credentials = Some(relay.credentials(self.net.unix_time()));
        let client = Config { credentials, relay: Relayed::UdpBoth, ..Config::new(server, transport) };
        let mut options = Options::new(client);
        if transport == ServerTransport::Tls {
            let roots = self.roots.get_or_init(|| self.load_roots()).await;
            options.tls = Some(roots.server(relay.host())?);
        }
        Ok(options)
    }

    async fn allocate_at(
        &self,
        relay: &Relay,
        server: SocketAddr,
    ) -> Result<(RelaySocket, Vec<SocketAddr>), ServerError> {
        let mut options = self.options(relay, server).await?;
        let mut allocated = RelaySocket::allocate(Arc::clone(&self.net), &options).await;
        // Not every server says by an attribute of its answer that it has addresses of one family only.
        let one_family = Failure::Refused(Refusal::AddressFamilyNotSupported);
        if matches!(&allocated, Err(AllocateError::Failed(reason)) if *reason == one_family) {
            options.client.relay = Relayed::Udp(Family::V4);
            allocated = RelaySocket::allocate(Arc::clone(&self.net), &options).await;
        }
        let socket = allocated.map_err(|error| {
            let wrong = matches!(error, AllocateError::Failed(Failure::WrongCredentials));
            let expired = relay.expires().is_some_and(|at| at <= self.net.unix_time());
            if wrong && expired { ServerError::Expired } else { error.into() }
        })?;
        let told = &socket.allocation().relayed;
        let (addresses, lies): (Vec<_>, Vec<_>) =
            told.iter().partition(|address| self.is_possible(server.ip(), address.ip()));
        match (addresses.is_empty(), lies.first()) {
            (true, Some(lie)) => Err(ServerError::ImpossibleAddress(*lie)),
            _ => Ok((socket, addresses)),
        }
    }

    async fn load_roots(&self) -> Roots {
        let (more, (tell, loaded)) = (self.more_roots.clone(), tokio::sync::oneshot::channel());
        self.net.offload_job(Box::new(move || {
            // Nobody waits any more when this fails.
            let _ = tell.send(Roots::of_the_system(&more));
        }));
        loaded.await.unwrap_or_default()
    }

    /// Whether a server at this address can relay at that one: peers are pointed at it, so it must not be an address that means
    /// something else where they are, nor one of this host.
    fn is_possible(&self, server: IpAddr, relayed: IpAddr) -> bool {
        let interfaces = self.net.interfaces().unwrap_or_default();
        let mut own = interfaces.iter().flat_map(|interface| &interface.addresses);
        let ours = own.any(|address| address.addr == relayed);
        scope(relayed) >= scope(server) && (!ours || relayed == server || scope(server) == Scope::Host)
    }

    /// The network has changed: finds out whether what they gave still stands, and who else is there.
    pub(super) fn check(&self) {
        self.changed.notify_one();
        for server in &self.servers {
            if let Ok(current) = server.current.try_lock()
                && let Some(hub) = current.upgrade()
            {
                hub.check(towline_net::now());
            }
        }
    }
}

/// How far an address means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Host,
    Link,
    Site,
    World,
}

fn scope(ip: IpAddr) -> Scope {
    match ip.to_canonical() {
        ip if ip.is_loopback() => Scope::Host,
        IpAddr::V4(ip) if ip.is_link_local() => Scope::Link,
        // RFC 6598 addresses are shared by the customers of one provider.
        IpAddr::V4(ip) if ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64) => {
            Scope::Site
        }
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Scope::Link,
        IpAddr::V6(ip) if ip.is_unique_local() => Scope::Site,
        _ => Scope::World,
    }
}

/// Addresses of both families by turns, beginning with that of the first.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    std::iter::from_fn(|| {
        let pair = [one.next(), other.next()];
        pair.iter().any(Option::is_some).then_some(pair)
    })
    .flat_map(|pair| pair.into_iter().flatten())
    .collect()
}

/// How long a relay of such a promise is asked alone; `None` if it is not asked.
fn head_start(promise: Promise) -> Option<Duration> {
    match promise {
        Promise::Good(took) => Some((HEAD_START * took).max(LEAST_HEAD_START)),
        Promise::Unknown | Promise::Doubtful => Some(Duration::ZERO),
        Promise::Rests(_) => None,
    }
}

/// The first success. Each try is alone for its time, and until those before it have failed; not more than [`AT_ONCE`] run.
/// Otherwise the last failure, if there was a try at all.
async fn first_of<T, E>(tries: Vec<(Duration, impl Future<Output = Result<T, E>>)>) -> Option<Result<T, E>> {
    let mut waiting = tries.into_iter();
    let mut running = FuturesUnordered::new();
    let mut alone_until: Option<Instant> = None;
    let mut last = None;
    loop {
        let now = towline_net::now();
        while running.len() < AT_ONCE && alone_until.is_none_or(|until| until <= now) {
            let Some((alone, next)) = waiting.next() else { break };
            running.push(next);
            alone_until = (alone > Duration::ZERO).then(|| now + alone);
        }
        let more = waiting.len() > 0 && running.len() < AT_ONCE;
        let pause = alone_until.filter(|_| more);
        tokio::select! {
            biased;
            outcome = running.next() => match outcome {
                Some(Ok(found)) => return Some(Ok(found)),
                Some(Err(error)) => {
                    last = Some(Err(error));
                    alone_until = None;
                }
                None if waiting.len() == 0 => return last,
                None => alone_until = None,
            },
            () = towline_net::sleep_until(pause.unwrap_or(now)), if pause.is_some() => alone_until = None,
        }
    }
}

#[cfg(test)]
mod tests;
