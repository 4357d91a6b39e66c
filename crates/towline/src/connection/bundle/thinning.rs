//! What a connection does without, once it has paths: an open port is a target, and each pair costs packets for as long as the
//! connection lives.
//!
//! * **Listeners** close when a direct TCP connection is selected; otherwise [`CHANCE`] after the connection began, or, while only
//!   a relay works, [`LONG_CHANCE`] after it. By then the peer has tried to connect for the last time. A port common to all stays
//!   open in any case, and may be the only one where a peer that has lost its connection gets in again.
//! * **TCP connections** besides the one selected go with it: one is enough, and another kind of path is the better reserve. Where
//!   another kind of path is selected all that are no links go after that time, once one of their kind is a link.
//! * **Pairs of datagrams**: after that time [`DIRECT`] of each family stay, and [`RELAYED`] by a relay. The second is the best of
//!   those that share least with the first, so that an interface may go; with relays, one with a relay at both ends, which is
//!   left when the devices can reach nothing but their servers.
//! * **What failed** is not tried again after that time, if there is a direct path.
//!
//! Both sides rank alike and so keep the same pairs; what is a link already stays in any case.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use towline_channeler::{LinkStatus, Route};
use towline_ice::{PairId, PairState, Transport};

use super::Bundle;
use super::wires::Path;
use crate::path::PathKind;

/// How long all pairs have a chance when a direct path works.
const CHANCE: Duration = Duration::from_secs(30);
/// The same while only a relay works.
const LONG_CHANCE: Duration = Duration::from_mins(2);
/// Direct paths of datagrams that stay, of each family.
const DIRECT: usize = 2;
/// Relayed ones.
const RELAYED: usize = 2;

/// Since when paths are looked for.
#[derive(Debug)]
pub(super) struct Thinning {
    since: Instant,
    /// When it is to be looked again; `None` when the time is over.
    due: Option<Instant>,
}

impl Thinning {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, due: Some(now + CHANCE) }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

impl Bundle {
    /// Looks again when the time has come.
    pub(super) fn handle_thinning(&mut self, now: Instant) {
        if self.thinning.due.is_some_and(|at| at <= now) {
            self.thin_out(now);
        }
    }

    /// Gives up what is not needed any more.
    pub(super) fn thin_out(&mut self, now: Instant) {
        let selected = self.wires.selected();
        let direct = selected.is_some_and(|(_, path)| !path.kind.is_relayed());
        let until = self.thinning.since + if direct { CHANCE } else { LONG_CHANCE };
        let over = now >= until;
        self.thinning.due = (!over).then_some(until);
        let Some((pair, path)) = selected else { return };
        let streams_too = path.kind == PathKind::DirectTcp;
        // What a restart may find is better than what it had, as long as there is hope.
        let outdated = path.generation < self.wires.generation;
        if !over && (outdated || !streams_too) {
            return;
        }
        self.wires.stop_listening();
        let kept = self.kept(pair, over, streams_too);
        for pair in self.wires.agent.report().pairs {
            let stream = matches!(pair.transport, Transport::Tcp(_));
            let spare = match pair.state {
                _ if stream && streams_too => true,
                PairState::Valid => over,
                _ => over && direct,
            };
            if spare && !kept.contains(&pair.id) {
                self.wires.agent.give_up(now, pair.id);
            }
        }
        self.wires.act();
    }

    /// The pairs that stay.
    fn kept(&self, selected: PairId, over: bool, streams_too: bool) -> Vec<PairId> {
        let links: Vec<Route> = self
            .inner
            .links()
            .filter(|report| report.status != LinkStatus::Closed)
            .map(|report| report.route)
            .collect();
        let used = self.wires.pairs().filter(|(_, path)| links.iter().any(|&link| path.is_of(link)));
        let used: Vec<(PairId, PathKind)> = used.map(|(pair, path)| (pair, path.kind)).collect();
        let mut kept: Vec<PairId> = used.iter().map(|(pair, _)| *pair).chain([selected]).collect();
        if !streams_too {
            // The first of its kind becomes a link with the next packets of the peer: it may be the way back from a relay.
            let is_first = |kind: PathKind| kind.is_tcp() && used.iter().all(|(_, other)| *other != kind);
            kept.extend(self.wires.pairs().filter(|(_, path)| is_first(path.kind)).map(|(pair, _)| pair));
        }
        let mut groups = BTreeMap::<_, Vec<(PairId, Path)>>::new();
        for (pair, path) in self.wires.pairs().filter(|(_, path)| over && !path.kind.is_tcp()) {
            groups.entry((path.kind, path.remote.is_ipv4())).or_default().push((pair, *path));
        }
        for ((kind, _), group) in groups {
            kept.extend(best(group, if kind.is_relayed() { RELAYED } else { DIRECT }));
        }
        kept
    }
}

/// The best path, and then those that share least with it.
fn best<T>(mut group: Vec<(T, Path)>, room: usize) -> impl Iterator<Item = T> {
    group.sort_by_key(|(_, path)| Reverse(path.priority));
    let first = group.first().map(|(_, path)| (path.local.ip(), path.remote.ip()));
    if let Some((local, remote)) = first {
        group[1..].sort_by_key(|(_, path)| {
            let shared = u8::from(path.local.ip() == local) + u8::from(path.remote.ip() == remote);
            (Reverse(path.relays), shared)
        });
    }
    group.into_iter().take(room).map(|(pair, _)| pair)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn the_second_path_shares_least_with_the_best() {
        let path = |local: &str, remote: &str, priority| {
            let (local, remote): (SocketAddr, SocketAddr) = (local.parse().unwrap(), remote.parse().unwrap());
            let route = Route::Datagram { socket: 0, local: Some(local.ip()), remote };
            (
                priority,
                Path { route, kind: PathKind::DirectUdp, relays: 0, generation: 0, local, remote, priority },
            )
        };
        let group = vec![
            path("10.0.0.1:1", "10.0.0.3:1", 7),
            path("10.0.0.2:1", "10.0.0.3:1", 5),
            path("10.0.0.1:1", "10.0.0.4:1", 6),
            path("10.0.0.2:1", "10.0.0.4:1", 4),
        ];
        let chosen = |room| best(group.clone(), room).collect::<Vec<_>>();
        assert_eq!(chosen(1), [7]);
        assert_eq!(chosen(2), [7, 4]);
        assert_eq!(chosen(5), [7, 4, 6, 5]);
        assert_eq!(best(Vec::<(u8, Path)>::new(), 2).next(), None);
        let mut relayed = group;
        for (priority, path) in &mut relayed {
            path.relays = if *priority == 6 { 2 } else { 1 };
        }
        assert_eq!(best(relayed, RELAYED).collect::<Vec<_>>(), [7, 6], "with a relay at both ends");
    }
}
