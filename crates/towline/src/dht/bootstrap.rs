//! Finding the first nodes: the hosts to start from, resolved again and again until one answers (`dht.md` 2.6).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use towline_net::{BoxFuture, Net};

use super::config::DhtConfig;
use super::pulse::Pulse;

/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_hours(24);

/// Addresses remembered as given to the engine.
const GIVEN: usize = 1024;

type Resolved = (String, io::Result<Vec<SocketAddr>>);

/// The hosts to start from.
pub(super) struct Bootstrap {
    hosts: Vec<String>,
    limit: usize,
    resolving: FuturesUnordered<BoxFuture<'static, Resolved>>,
    /// Addresses the engine has; it repeats them by itself.
    given: BTreeSet<SocketAddr>,
    retry: Option<Retry>,
    pulse: Arc<Pulse>,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Bootstrap {
    pub(super) fn new(limit: usize, pulse: Arc<Pulse>) -> Self {
        Self {
            hosts: Vec::new(),
            limit,
            resolving: FuturesUnordered::new(),
            given: BTreeSet::new(),
            retry: None,
            pulse,
        }
    }

    /// Adds hosts and tries them now.
    pub(super) fn add(&mut self, now: Instant, net: &dyn Net, hosts: Vec<String>) {
        // What is asked for by hand is tried at once, even if it was tried before.
        self.given.clear();
        for host in hosts {
            let host = with_port(&host);
            if !self.hosts.contains(&host) {
                if self.hosts.len() >= self.limit {
                    tracing::warn!(host, "too many bootstrap hosts");
                    continue;
                }
                self.hosts.push(host.clone());
            }
            self.resolve(now, net, host);
        }
        self.retry.get_or_insert(Retry { at: now + FIRST_PAUSE, pause: FIRST_PAUSE });
    }

    fn resolve(&mut self, now: Instant, net: &dyn Net, host: String) {
        self.pulse.resolving(now, &host);
        let found = net.resolve(&host);
        self.resolving.push(Box::pin(async move {
            let found = found.await;
            (host, found)
        }));
    }

    /// Whether names are being resolved, so that nodes may be known soon.
    pub(super) fn is_resolving(&self) -> bool {
        !self.resolving.is_empty()
    }

    /// Waits for the addresses of a host; for ever if none is being resolved. Cancel safe.
    pub(super) async fn resolved(&mut self) -> Vec<SocketAddr> {
        let Some((host, found)) = self.resolving.next().await else { std::future::pending().await };
        self.pulse.resolved(&host, found.is_ok());
        match found {
            Ok(addresses) => {
                tracing::debug!(host, ?addresses, "bootstrap host resolved");
                addresses
            }
            Err(error) => {
                tracing::warn!(host, %error, "bootstrap host not resolved");
                Vec::new()
            }
        }
    }

    /// Those of the addresses that the engine does not have yet, to be given to it.
    pub(super) fn fresh(&mut self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if self.given.len() > GIVEN {
            self.given.clear();
        }
        addresses.retain(|addr| self.given.insert(*addr));
        addresses
    }

    /// When to try again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry.filter(|_| !self.hosts.is_empty()).map(|retry| retry.at)
    }

    /// Tries all hosts again if it is time.
    pub(super) fn handle_timeout(&mut self, now: Instant, net: &dyn Net) {
        let Some(retry) = &mut self.retry else { return };
        if now < retry.at {
            return;
        }
        retry.pause = (retry.pause * 2).min(LAST_PAUSE);
        retry.at = now + retry.pause;
        // Names still being resolved from the last time will have their answer.
        if self.resolving.is_empty() {
            for host in self.hosts.clone() {
                self.resolve(now, net, host);
            }
        }
    }

    /// We are connected: no more attempts.
    pub(super) fn connected(&mut self) {
        self.retry = None;
    }

    /// We are not connected (any more), or the network is another: attempts begin afresh, with one now.
    pub(super) fn disconnected(&mut self, now: Instant) {
        self.given.clear();
        self.retry = Some(Retry { at: now, pause: FIRST_PAUSE / 2 });
    }
}

impl std::fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bootstrap")
            .field("hosts", &self.hosts)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// `host` as `host:port`, with the usual port where it names none.
fn with_port(host: &str) -> String {
    let host = host.trim();
    let port = DhtConfig::DEFAULT_PORT;
    if host.parse::<SocketAddr>().is_ok() {
        return host.to_owned();
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return SocketAddr::new(ip, port).to_string();
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_is_added_where_none_is_named() {
        assert_eq!(with_port("bootstrap.example.net"), "bootstrap.example.net:4222");
        assert_eq!(with_port(" bootstrap.example.net:9"), "bootstrap.example.net:9");
        assert_eq!(with_port("192.0.2.1"), "192.0.2.1:4222");
        assert_eq!(with_port("192.0.2.1:9"), "192.0.2.1:9");
        assert_eq!(with_port("2001:db8::1"), "[2001:db8::1]:4222");
        assert_eq!(with_port("[2001:db8::1]"), "[2001:db8::1]:4222");
        assert_eq!(with_port("[2001:db8::1]:9"), "[2001:db8::1]:9");
    }
}
