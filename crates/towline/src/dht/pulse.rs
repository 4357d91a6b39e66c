//! Signs of life of the network, as the DHT's sockets see it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use towline_dht::node::{PerFamily, Reachability};

/// Names remembered that could not be resolved.
const MAX_NAMES: usize = 8;
/// A name that takes longer than this to be resolved is as good as unknown.
const LOOK_UP: Duration = Duration::from_millis(1500);
/// Hosts told apart of those that do not answer.
const MAX_NODES: usize = 8;
/// Several nodes are asked at once, and again after a second: who does not answer for so long cannot.
pub(crate) const SILENCE: Duration = Duration::from_millis(1200);

/// See the module. Shared by the task of the DHT and its handles.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    beats: Mutex<Beats>,
}

#[derive(Debug, Default)]
struct Beats {
    heard: bool,
    /// Whom datagrams went to since one came, and when the first of them did.
    asked: BTreeMap<IpAddr, Instant>,
    /// What the system said when one was to be sent; forgotten when one came.
    rejected: Option<io::ErrorKind>,
    unknown: BTreeSet<String>,
    /// Names that are being looked up, and since when.
    asking: BTreeMap<String, Instant>,
}

/// The signs at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// A datagram has come, ever.
    pub(crate) heard: bool,
    /// For so long datagrams were sent and none came.
    pub(crate) silence: Duration,
    /// So many hosts have been asked in vain for [`SILENCE`], at least.
    pub(crate) silent: usize,
    /// The system does not send them.
    pub(crate) rejected: Option<io::ErrorKind>,
    /// Names of hosts to join through that are not resolved.
    pub(crate) unknown: Vec<String>,
    /// Whether nodes reach us.
    pub(crate) reachability: PerFamily<Reachability>,
}

impl Pulse {
    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn heard(&self) {
        let mut beats = self.beats();
        (beats.heard, beats.rejected) = (true, None);
        beats.asked.clear();
    }

    pub(super) fn sent(&self, now: Instant, to: SocketAddr, error: Option<io::ErrorKind>) {
        let mut beats = self.beats();
        if beats.asked.len() < MAX_NODES {
            beats.asked.entry(to.ip()).or_insert(now);
        }
        if let Some(kind) = error {
            beats.rejected = Some(kind);
        }
    }

    pub(super) fn resolving(&self, now: Instant, name: &str) {
        let mut beats = self.beats();
        if beats.asking.len() < MAX_NAMES {
            beats.asking.entry(name.to_owned()).or_insert(now);
        }
    }

    pub(super) fn resolved(&self, name: &str, found: bool) {
        let mut beats = self.beats();
        beats.asking.remove(name);
        if found {
            beats.unknown.remove(name);
        } else if beats.unknown.len() < MAX_NAMES {
            beats.unknown.insert(name.to_owned());
        }
    }

    /// The network is another one.
    pub(super) fn forget(&self) {
        let mut beats = self.beats();
        beats.rejected = None;
        beats.asked.clear();
    }

    pub(crate) fn vitals(&self, now: Instant) -> Vitals {
        let beats = self.beats();
        let waited = || beats.asked.values().map(|since| now.saturating_duration_since(*since));
        let slow = beats.asking.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= LOOK_UP);
        let unknown: BTreeSet<String> =
            slow.map(|(name, _)| name.clone()).chain(beats.unknown.iter().cloned()).collect();
        Vitals {
            heard: beats.heard,
            silence: waited().max().unwrap_or_default(),
            silent: waited().filter(|waited| *waited >= SILENCE).count(),
            rejected: beats.rejected,
            unknown: unknown.into_iter().collect(),
            reachability: PerFamily::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_first_datagram_that_was_not_answered() {
        let (pulse, start) = (Pulse::default(), towline_net::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pulse.vitals(at(9)), Vitals::default());
        let node = |host: u8| SocketAddr::from(([192, 0, 2, host], 4222));
        pulse.sent(at(1), node(1), None);
        pulse.sent(at(2), node(2), Some(io::ErrorKind::NetworkUnreachable));
        pulse.sent(at(3), node(1), None);
        assert_eq!(pulse.vitals(at(3)).silent, 1, "the other has time to answer");
        let vitals = pulse.vitals(at(4));
        assert_eq!((vitals.heard, vitals.silence, vitals.silent), (false, Duration::from_secs(3), 2));
        assert_eq!(vitals.rejected, Some(io::ErrorKind::NetworkUnreachable));
        pulse.heard();
        assert_eq!(pulse.vitals(at(9)), Vitals { heard: true, ..Vitals::default() });
        for number in 0..2 * MAX_NAMES {
            pulse.resolved(&format!("{number:02}"), false);
        }
        pulse.resolved("00", true);
        pulse.resolving(at(9), "slow");
        assert_eq!(pulse.vitals(at(9)).unknown.len(), MAX_NAMES - 1);
        assert_eq!(pulse.vitals(at(11)).unknown.len(), MAX_NAMES);
        pulse.resolved("slow", true);
        assert_eq!(pulse.vitals(at(11)).unknown.len(), MAX_NAMES - 1);
    }
}
