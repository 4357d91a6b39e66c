//! Channels by name: which part of a program gets a channel that another device asks for, and who may ask.
//!
//! ```no_run
//! # async fn example(node: towline::Node) -> Result<(), Box<dyn std::error::Error>> {
//! use towline::{Admit, Pattern, PeerKind, Router};
//!
//! let own = node.account();
//! let router = Router::new(move |peer| {
//!     if peer.account == own { PeerKind::OwnDevice } else { PeerKind::Stranger }
//! });
//! let mut files = router.serve(Pattern::prefix("file://"), Admit::OWN, 16)?;
//! tokio::spawn(async move { router.run(&node).await });
//! while let Some(incoming) = files.next().await {
//!     println!("{} wants {}", incoming.peer().device, incoming.name());
//!     let _channel = incoming.accept().await?;
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use towline_mux::Code;

pub use towline_account::PeerKind;

use crate::channel::IncomingChannel;
use crate::node::Node;
use crate::policy::Peer;

/// Which channel names a route is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// This name only.
    Exact(Box<str>),
    /// All names that begin so, this one included.
    Prefix(Box<str>),
}

impl Pattern {
    /// This name only.
    pub fn exact(name: impl Into<Box<str>>) -> Self {
        Self::Exact(name.into())
    }

    /// All names that begin so. The empty prefix is for whatever nothing else is for.
    pub fn prefix(start: impl Into<Box<str>>) -> Self {
        Self::Prefix(start.into())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{:?}", &**name),
            Self::Prefix(start) => write!(f, "{:?} and what begins so", &**start),
        }
    }
}

/// Whose channels a route takes. Who is banned is admitted nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Admit {
    /// Devices of accounts that are neither ours nor a contact.
    pub strangers: bool,
    /// Devices of contacts.
    pub contacts: bool,
    /// Devices of our own account.
    pub own: bool,
}

impl Admit {
    /// Devices of our own account.
    pub const OWN: Self = Self { strangers: false, contacts: false, own: true };
    /// Devices of our own account and of contacts.
    pub const CONTACTS: Self = Self { strangers: false, contacts: true, own: true };
    /// Everybody who may connect at all, except who is banned. Strangers can be anybody.
    pub const EVERYBODY: Self = Self { strangers: true, contacts: true, own: true };

    /// Whether a device of this kind is admitted.
    pub fn admits(self, kind: PeerKind) -> bool {
        match kind {
            PeerKind::Banned => false,
            PeerKind::Stranger => self.strangers,
            PeerKind::Contact => self.contacts,
            PeerKind::OwnDevice => self.own,
        }
    }
}

/// [`Admit::CONTACTS`]: nothing is for strangers unless that is said.
impl Default for Admit {
    fn default() -> Self {
        Self::CONTACTS
    }
}

/// Another route is for the same names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another route takes {0}")]
pub struct Overlap(pub Pattern);

/// Hands the channels that other devices ask for to the parts of a program that serve them. Clones are the same router.
///
/// A name goes to the route with the longest pattern that fits; an exact one counts as longer than a prefix of the same
/// length. Names for which there is no route, and devices that it does not admit, are refused at once, without a word
/// on which of the two it was.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

struct Inner {
    kind_of: Box<dyn Fn(&Peer) -> PeerKind + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    exact: BTreeMap<Box<str>, Entry>,
    prefixes: BTreeMap<Box<str>, Entry>,
    /// Calls of [`Router::run`] under way.
    running: usize,
}

#[derive(Debug)]
struct Entry {
    admit: Admit,
    to: mpsc::Sender<IncomingChannel>,
}

impl State {
    fn entries(&mut self, pattern: &Pattern) -> (&mut BTreeMap<Box<str>, Entry>, Box<str>) {
        match pattern {
            Pattern::Exact(name) => (&mut self.exact, name.clone()),
            Pattern::Prefix(start) => (&mut self.prefixes, start.clone()),
        }
    }

    fn route(&self, name: &str) -> Option<&Entry> {
        if let Some(entry) = self.exact.get(name) {
            return Some(entry);
        }
        // The shorter prefixes of a name come before it in the order of texts, mixed with others.
        let ends = (0..=name.len()).rev().filter(|end| name.is_char_boundary(*end));
        ends.map(|end| &name[..end]).find_map(|start| self.prefixes.get(start))
    }
}

impl Router {
    /// A router without routes. `kind_of` tells what a device is to us; it is asked for every channel, so that a change
    /// counts from the next one on, and must not block.
    pub fn new(kind_of: impl Fn(&Peer) -> PeerKind + Send + Sync + 'static) -> Self {
        Self { inner: Arc::new(Inner { kind_of: Box::new(kind_of), state: Mutex::default() }) }
    }

    /// From now on, channels with these names go to the returned route, if their device is admitted; as long as `queue`
    /// of them wait there, further ones are refused.
    ///
    /// When the route is dropped, its names are refused until they are served again.
    pub fn serve(&self, pattern: Pattern, admit: Admit, queue: usize) -> Result<Route, Overlap> {
        let (to, channels) = mpsc::channel(queue.max(1));
        let mut state = self.inner.state();
        let (entries, key) = state.entries(&pattern);
        if entries.get(&key).is_some_and(|entry| !entry.to.is_closed()) {
            return Err(Overlap(pattern));
        }
        entries.insert(key, Entry { admit, to });
        drop(state);
        Ok(Route { channels, pattern, router: self.clone() })
    }

    /// Takes all channels that other devices ask `node` for, until it is shut down; then the routes end, too, unless the
    /// router still runs for another node. Nobody else gets anything out of [`Node::incoming`] meanwhile.
    ///
    /// Cancel safe.
    pub async fn run(&self, node: &Node) {
        let running = Running::new(&self.inner);
        while let Some(incoming) = node.incoming().await {
            self.hand_out(incoming);
        }
        running.node_ended();
    }

    /// Hands one channel to the route it is for, or refuses it. For programs that take some channels themselves.
    pub fn hand_out(&self, incoming: IncomingChannel) {
        // Foreign code, so not under the lock.
        let kind = (self.inner.kind_of)(incoming.peer());
        let target = {
            let state = self.inner.state();
            let entry = state.route(incoming.name()).filter(|entry| entry.admit.admits(kind));
            entry.map(|entry| entry.to.clone())
        };
        let refused = match target {
            Some(to) => match to.try_send(incoming) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(incoming)) => (incoming, Code::TooManyPending),
                Err(mpsc::error::TrySendError::Closed(incoming)) => (incoming, Code::Declined),
            },
            None => (incoming, Code::Declined),
        };
        let (incoming, code) = refused;
        tracing::debug!(device = %incoming.peer().device, name = incoming.name(), ?kind, %code, "channel refused");
        incoming.refuse_at_once(code);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("state", &*self.inner.state()).finish_non_exhaustive()
    }
}

/// Counts the nodes that a router runs for.
struct Running<'a>(&'a Inner);

impl<'a> Running<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.state().running += 1;
        Self(inner)
    }

    /// Nothing will come from that node any more. The routes of the last one end.
    fn node_ended(self) {
        let mut state = self.0.state();
        if state.running == 1 {
            state.exact.clear();
            state.prefixes.clear();
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
    }
}

/// The channels of one pattern. See [`Router::serve`].
#[derive(Debug)]
#[must_use = "dropping it refuses the channels"]
pub struct Route {
    channels: mpsc::Receiver<IncomingChannel>,
    pattern: Pattern,
    router: Router,
}

impl Route {
    /// The next channel, which is still to be accepted. `None` when the node was shut down. Cancel safe.
    pub async fn next(&mut self) -> Option<IncomingChannel> {
        self.channels.recv().await
    }

    /// What it is for.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Ends the route so that its names go to the route with the next shorter pattern. Channels that wait in it are
    /// refused.
    pub fn withdraw(mut self) {
        self.channels.close();
        let mut state = self.router.inner.state();
        let (entries, key) = state.entries(&self.pattern);
        // Another route may have taken the place since: its queue is open.
        if entries.get(&key).is_some_and(|entry| entry.to.is_closed()) {
            entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        Router::new(|_| PeerKind::Stranger)
    }

    fn routed(router: &Router, name: &str) -> Option<bool> {
        router.inner.state().route(name).map(|entry| entry.admit.strangers)
    }

    #[test]
    fn the_longest_pattern_wins() {
        let router = router();
        let serve = |pattern, admit| router.serve(pattern, admit, 1).unwrap();
        let _all = serve(Pattern::prefix("nc://"), Admit::OWN);
        let _host = serve(Pattern::prefix("nc://host:22"), Admit::EVERYBODY);
        let _exact = serve(Pattern::exact("nc://host:22"), Admit::OWN);
        let _accents = serve(Pattern::prefix("né"), Admit::EVERYBODY);
        for (name, route) in [
            ("nc://", Some(false)),
            ("nc://other", Some(false)),
            ("nc://host:2", Some(false)),
            ("nc://host:22", Some(false)),
            ("nc://host:222", Some(true)),
            ("nc:/", None),
            ("", None),
            ("sip", None),
            ("né", Some(true)),
            ("néé", Some(true)),
            ("n\u{301}", None),
        ] {
            assert_eq!(routed(&router, name), route, "{name}");
        }
        let _rest = serve(Pattern::prefix(""), Admit::EVERYBODY);
        assert_eq!((routed(&router, ""), routed(&router, "sip")), (Some(true), Some(true)));
    }

    #[test]
    fn a_pattern_is_served_once_at_a_time() {
        let router = router();
        let sip = router.serve(Pattern::exact("sip"), Admit::OWN, 1).unwrap();
        let again = || router.serve(Pattern::exact("sip"), Admit::EVERYBODY, 1);
        assert_eq!(again().unwrap_err(), Overlap(Pattern::exact("sip")));
        let prefix = router.serve(Pattern::prefix("sip"), Admit::EVERYBODY, 1).unwrap();
        assert_eq!(prefix.pattern(), &Pattern::prefix("sip"));
        drop(sip);
        // Not the prefix: the name is refused until it is served again.
        assert_eq!(routed(&router, "sip"), Some(false));
        let sip = again().unwrap();
        assert_eq!(routed(&router, "sip"), Some(true));
        prefix.withdraw();
        assert_eq!(routed(&router, "sip-like"), None);
        sip.withdraw();
        assert_eq!(routed(&router, "sip"), None);
    }

    #[test]
    fn who_is_admitted_where() {
        use PeerKind::{Banned, Contact, OwnDevice, Stranger};
        for (admit, kinds) in [
            (Admit::OWN, &[OwnDevice][..]),
            (Admit::default(), &[Contact, OwnDevice]),
            (Admit::EVERYBODY, &[Stranger, Contact, OwnDevice]),
        ] {
            let admitted: Vec<_> = [Banned, Stranger, Contact, OwnDevice]
                .into_iter()
                .filter(|kind| admit.admits(*kind))
                .collect();
            assert_eq!(admitted, kinds);
        }
    }
}
