//! A report as text for people, of a screen or two.

use std::fmt;
use std::time::Duration;

use towline_ice::{CandidateKind, PairError, PairState, Transport};

use super::{CandidateReport, PairReport, Report};
use crate::dht::PerFamily;
use crate::info::{ConnectionState, Origin};

/// Pairs that are shown one by one; those that were not tried are counted.
const PAIRS: usize = 24;
/// Candidates of one side that are shown.
const CANDIDATES: usize = 16;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.error.is_some() {
            self.show_causes(f)?;
            self.show_outcome(f)?;
        } else {
            self.show_outcome(f)?;
            self.show_causes(f)?;
        }
        writeln!(f, "\nSteps")?;
        for step in &self.steps {
            writeln!(f, "  {:>9}  {:<12} took {}", Time(step.at), step.step.to_string(), Time(step.took))?;
        }
        show_candidates(f, "\nCandidates here", &self.here, true)?;
        writeln!(f, "  as servers see this device: {}", self.nat)?;
        for server in &self.servers {
            writeln!(f, "  {}", server.text)?;
        }
        let PerFamily { v4, v6 } = self.reachability;
        writeln!(f, "  as nodes of the DHT reach this device: IPv4: {v4}; IPv6: {v6}")?;
        show_candidates(f, "\nCandidates there", &self.there, false)?;
        if let Some(punch) = &self.punch {
            writeln!(f, "\nPunching\n  {punch}")?;
        }
        self.show_pairs(f)?;
        if !self.links.is_empty() {
            writeln!(f, "\nPaths")?;
        }
        for link in &self.links {
            writeln!(f, "  {}, round trip {}: {}", link.path, Time(link.rtt), link.purpose)?;
        }
        Ok(())
    }
}

impl Report {
    fn show_outcome(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = match self.origin {
            Origin::Dialled => "dialled here",
            Origin::Answered => "dialled there",
        };
        write!(f, "Device {}, {asked}: ", self.device)?;
        match (&self.error, self.state) {
            (Some(error), _) => writeln!(f, "failed after {}\n  {error}", Time(self.elapsed)),
            (None, ConnectionState::Established) => writeln!(f, "connected"),
            (None, _) => writeln!(f, "under way for {}", Time(self.elapsed)),
        }
    }

    fn show_causes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, cause) in self.causes.iter().enumerate() {
            let word = match number {
                0 if self.error.is_some() => "Cause",
                0 if self.is_relayed() => "Not direct",
                0 if self.state == ConnectionState::Established => "Note",
                0 => "So far",
                _ => "Also",
            };
            writeln!(f, "{word} ({}): {cause}.\n  {}", cause.side(), cause.advice())?;
        }
        Ok(())
    }

    fn show_pairs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pairs.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nPairs")?;
        let idle = |pair: &&PairReport| {
            matches!(pair.state, PairState::Waiting | PairState::Failed(PairError::NotTried))
        };
        let tried: Vec<_> = self.pairs.iter().filter(|pair| !idle(pair)).collect();
        for pair in tried.iter().take(PAIRS) {
            writeln!(f, "  {pair}")?;
        }
        let rest = self.pairs.len() - tried.len().min(PAIRS);
        if rest > 0 {
            let refused = self.failed(true, PairError::Refused);
            writeln!(f, "  and {rest} more, of {} in all ({refused} TCP refused)", self.pairs.len())?;
        }
        Ok(())
    }
}

fn show_candidates(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    candidates: &[CandidateReport],
    ours: bool,
) -> fmt::Result {
    if candidates.is_empty() {
        return writeln!(f, "{title}: none yet");
    }
    writeln!(f, "{title}")?;
    for candidate in candidates.iter().take(CANDIDATES) {
        write!(f, "  {:>9}  {:<6}", Time(candidate.at), candidate.kind.as_str())?;
        write!(f, " {:<12} {}", candidate.transport.to_string(), candidate.address)?;
        for (number, server) in candidate.told_by.iter().enumerate() {
            write!(f, "{} {server}", if number == 0 { ", told by" } else { " and" })?;
        }
        if candidate.kind == CandidateKind::ServerReflexive && candidate.told_by.is_empty() && ours {
            f.write_str(", mapped by the router or foretold")?;
        }
        writeln!(f)?;
    }
    match candidates.len().saturating_sub(CANDIDATES) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}

impl fmt::Display for PairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if matches!(self.transport, Transport::Tcp(_)) { "tcp" } else { "udp" };
        let (own, its) = (self.kind.as_str(), self.remote_kind.as_str());
        write!(f, "{:>9}  {protocol} {} ({own}) to {} ({its}): ", Time(self.since), self.local, self.remote)?;
        match self.state {
            PairState::Waiting => f.write_str("waits for its turn")?,
            PairState::Connecting => f.write_str("connecting")?,
            PairState::Retrying => f.write_str("refused, tried again")?,
            PairState::Checking => f.write_str("no answer yet")?,
            PairState::Valid => f.write_str("works")?,
            PairState::Failed(error) => write!(f, "{error}")?,
        }
        if let Some(rtt) = self.rtt {
            write!(f, ", round trip {}", Time(rtt))?;
        }
        write!(f, "; {} checks sent, {} received", self.sent, self.received)
    }
}

/// Milliseconds, or seconds.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.0 < Duration::from_secs(10) {
            format!("{:.1} ms", self.0.as_secs_f64() * 1000.0)
        } else {
            format!("{:.1} s", self.0.as_secs_f64())
        };
        f.pad(&text)
    }
}
