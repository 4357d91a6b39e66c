//! What one attempt, and the connection it becomes, has of relays: a share of one at first, of another when that one is in doubt,
//! and of something new when one is lost.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use towline_net::{BoxFuture, UdpSocket};

use super::outside::Finding;
use super::relay::{Granted, NoRelay, Relays};
use super::share::Hub;

/// Relays that one connection uses at one time.
const MOST: usize = 2;
/// The first relay has so long to bring about a path before another is asked, too.
const SECOND: Duration = Duration::from_millis(1500);
/// Relays that have all failed are not asked again before this.
const LEAST_PAUSE: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Relaying {
    relays: Arc<Relays>,
    ufrag: String,
    asking: Option<BoxFuture<'static, Result<Granted, NoRelay>>>,
    shares: Vec<Share>,
    /// The first answer has come.
    settled: bool,
    /// When relays are asked again.
    again: Option<Instant>,
    /// When the first one is in doubt, unless there is a path before.
    second: Option<Instant>,
}

/// A share that stands.
struct Share {
    server: usize,
    addresses: Vec<SocketAddr>,
    over: BoxFuture<'static, ()>,
    hub: Weak<Hub>,
}

impl Relaying {
    pub(super) fn new(relays: Arc<Relays>, ufrag: &str) -> Self {
        let mut relaying = Self {
            relays,
            ufrag: ufrag.to_owned(),
            asking: None,
            shares: Vec::new(),
            settled: false,
            again: None,
            second: None,
        };
        relaying.ask();
        relaying
    }

    /// The first answer has come, whatever it was.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// The first answer may well come soon.
    pub(super) fn is_promising(&self, now: Instant) -> bool {
        !self.settled && self.relays.promising(now)
    }

    fn ask(&mut self) {
        self.again = None;
        let held = self.shares.iter().map(|share| share.server).collect();
        self.asking = Some(Arc::clone(&self.relays).share(self.ufrag.clone(), held));
    }

    /// Takes in what came. True if there was anything.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, findings: &mut VecDeque<Finding>) -> bool {
        let mut moved = false;
        while let Some(lost) =
            self.shares.iter_mut().position(|share| share.over.as_mut().poll(cx).is_ready())
        {
            moved = true;
            let share = self.shares.swap_remove(lost);
            findings.extend(share.addresses.into_iter().map(Finding::RelayLost));
            if self.asking.is_none() {
                self.ask();
            }
        }
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(answer) = asking.as_mut().poll(cx)
        {
            let now = towline_net::now();
            (moved, self.asking) = (true, None);
            let first = !std::mem::replace(&mut self.settled, true);
            match answer {
                Ok(Granted { server, ports, over, hub }) => {
                    let addresses = ports.iter().map(UdpSocket::local_addr).collect();
                    findings.extend(ports.into_iter().map(Finding::Relay));
                    self.shares.push(Share { server, addresses, over, hub });
                    self.second = (first && self.relays.count() > 1).then(|| now + SECOND);
                    // What was given may be over by now.
                    return self.poll(cx, findings) || moved;
                }
                // Without any, for as long as the connection lasts.
                Err(NoRelay { again: Some(at) }) if self.shares.is_empty() => {
                    self.again = Some(at.max(now + LEAST_PAUSE));
                }
                Err(NoRelay { .. }) => {}
            }
        }
        moved
    }

    /// A path by a relay seems to be dead, or there is none: asks whether what we have still stands, and another relay.
    pub(super) fn doubt(&mut self, now: Instant) {
        for hub in self.shares.iter().filter_map(|share| share.hub.upgrade()) {
            hub.check(now);
        }
        let others = self.shares.len() < self.relays.count().min(MOST);
        if others && self.asking.is_none() && self.again.is_none() {
            self.ask();
        }
    }

    /// The agent was restarted.
    pub(super) fn rename(&mut self, ufrag: &str) {
        let before = std::mem::replace(&mut self.ufrag, ufrag.to_owned());
        for hub in self.shares.iter().filter_map(|share| share.hub.upgrade()) {
            hub.rename(&before, ufrag);
        }
        if self.asking.is_some() {
            self.ask();
        }
    }

    /// There is a path.
    pub(super) fn works(&mut self) {
        self.second = None;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.again.into_iter().chain(self.second).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.second.is_some_and(|at| at <= now) {
            self.second = None;
            self.doubt(now);
        }
        if self.again.is_some_and(|at| at <= now) {
            self.ask();
        }
    }
}
