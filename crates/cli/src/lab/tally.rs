//! What many dials come to.

use std::collections::BTreeMap;
use std::time::Duration;

use towline::PathKind;

use super::trial::Meeting;
use crate::event::LabSpread;
use crate::text::milliseconds;

/// When words had gone there and back, and when a direct path carried data.
pub(super) fn times(meetings: &[&Meeting]) -> (Option<LabSpread>, Option<LabSpread>) {
    let connected = meetings.iter().filter_map(|meeting| meeting.connected.as_ref().ok().copied());
    let direct = meetings.iter().filter_map(|meeting| meeting.direct);
    (LabSpread::of(connected.collect()), LabSpread::of(direct.collect()))
}

/// What carried data at the end, and how often.
pub(super) fn kinds(meetings: &[&Meeting]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for kind in meetings.iter().filter_map(|meeting| meeting.last) {
        *kinds.entry(word(kind).to_owned()).or_default() += 1;
    }
    kinds
}

/// A kind of path in a few letters.
pub(super) fn word(kind: PathKind) -> &'static str {
    match (kind.is_tcp(), kind.is_relayed()) {
        (true, false) => "tcp",
        (false, false) => "udp",
        (true, true) => "relayed tcp",
        (false, true) => "relayed udp",
    }
}

impl LabSpread {
    /// `None` if there is nothing to be told.
    pub(super) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        // The smallest time that this share of all does not exceed.
        let at = |percent: usize| {
            milliseconds(times[(times.len() * percent).div_ceil(100).clamp(1, last + 1) - 1])
        };
        Some(Self { count: times.len(), p50_ms: at(50), p95_ms: at(95), p99_ms: at(99) })
    }
}
