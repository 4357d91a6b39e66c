//! Which paths are links of the transport, and what each is for.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use towline_channeler::{AddLinkError, LinkReport, LinkStatus, Route, Side};
use towline_ice::{PairError, Preference};

use super::Bundle;
use super::wires::{News, Path};
use crate::info::LinkInfo;
use crate::path::{PathKind, Use};
use crate::report::View;

/// Round trips that a peer gets to answer after one of its paths is gone, and the least of time: a lost question is repeated.
const PATIENCE: u32 = 12;
const LEAST_PATIENCE: Duration = Duration::from_millis(400);

/// What the connection wants of its links.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Something changed that matters for what links are for.
    pub(super) changed: bool,
    /// A path should become a link, and the peer has not given out an id for it yet.
    waiting: bool,
    /// None of them works at the moment.
    pub(super) silent: bool,
}

impl Bundle {
    /// Takes in what was found out about paths.
    pub(super) fn tend_links(&mut self, now: Instant) {
        loop {
            while let Some(news) = self.wires.poll_news() {
                self.take_news(now, news);
            }
            if std::mem::take(&mut self.links.waiting) {
                self.add_links(now);
            }
            if std::mem::take(&mut self.links.changed) {
                self.assign(now);
                let silent = self.best().is_none();
                self.links.waiting |= silent && !self.links.silent;
                self.links.silent = silent;
                self.thin_out(now);
            } else if self.wires.outward.has_lost() && self.lives_elsewhere() {
                // It was kept for want of anything better.
                self.wires.bury_lost_relays(now);
            } else {
                return;
            }
        }
    }

    fn take_news(&mut self, now: Instant, news: News) {
        self.links.changed = true;
        match news {
            News::Selected => {}
            News::Works => self.links.waiting = true,
            News::PeerMoves => self.inner.network_changed(now),
            News::Lost(route, reason) => {
                self.links.waiting = true;
                // It may be closed already: who wrote to it was told first.
                let was_link = self.inner.links().any(|report| report.route == route);
                self.inner.link_lost(now, route);
                if was_link && reason == PairError::Closed {
                    self.doubt(now);
                }
            }
        }
    }

    /// The peer has ended a path, as when it is gone. Whoever is left on another is asked, and has little time to answer.
    fn doubt(&mut self, now: Instant) {
        let living = |report: &LinkReport| report.status == LinkStatus::Active;
        if let Some(rtt) = self.inner.links().filter(living).map(|report| report.rtt).max() {
            let patience = (PATIENCE * rtt).max(LEAST_PATIENCE).min(self.bounds.probe_timeout);
            self.probe_within(now, patience, false);
        } else {
            self.on_doubt(now);
        }
    }

    /// Whether a link works that is not on a relay that is lost.
    fn lives_elsewhere(&self) -> bool {
        let works = |report: &LinkReport| report.status == LinkStatus::Active;
        let mut paths = self.inner.links().filter(works).filter_map(|report| self.path(report.route));
        paths.any(|path| !self.wires.outward.is_lost(path.local))
    }

    /// A link has another status.
    pub(super) fn on_link(&mut self, now: Instant, report: &LinkReport) {
        tracing::debug!(link = %report.link, route = ?report.route, status = ?report.status, "link");
        let silent = matches!(report.status, LinkStatus::Suspect | LinkStatus::Dead);
        if silent && self.kind(report.route).is_some_and(PathKind::is_relayed) {
            self.wires.outward.doubt(now);
        }
        self.links.changed = true;
        self.links.waiting = true;
    }

    /// Makes the best path of each kind a link, if there is none of that kind that lives, or only of before a restart. While no
    /// link works it is all of them that are tried: those of one kind often share what is broken. One side does, for paths are
    /// the same seen from both; and whoever meets with silence, for a side that only receives learns of it late.
    fn add_links(&mut self, now: Instant) {
        let silent = self.best().is_none();
        if self.inner.side() != Side::Initiator && !silent {
            return;
        }
        let living = |report: &LinkReport| !matches!(report.status, LinkStatus::Closed | LinkStatus::Dead);
        let stands = |path: &&Path| !self.wires.outward.is_lost(path.local);
        let linked = self.inner.links().filter(living).filter_map(|report| self.path(report.route));
        let mut covered: Vec<Path> = linked.filter(stands).copied().collect();
        let mut paths: Vec<Path> = self.wires.paths().filter(stands).copied().collect();
        paths.sort_by_key(|path| Reverse(path.generation));
        for path in paths {
            let covers = |other: &Path| other.kind == path.kind && other.generation >= path.generation;
            if !silent && covered.iter().any(covers) {
                continue;
            }
            match self.inner.add_link(now, path.route) {
                Ok(link) => {
                    tracing::debug!(%link, kind = ?path.kind, "link added");
                    covered.push(path);
                }
                // It comes with the next packets.
                Err(AddLinkError::NoId) => self.links.waiting = true,
                Err(_) => {}
            }
        }
    }

    /// Tells the peer which links are for data, and which are kept in reserve; one of before a restart goes when there is
    /// another of its kind.
    fn assign(&mut self, now: Instant) {
        let (best, preference) = (self.best(), self.preference());
        let works = |report: &LinkReport| report.status == LinkStatus::Active;
        let path = |report: LinkReport| Some((report, *self.path(report.route)?));
        let links: Vec<(LinkReport, Path)> = self.inner.links().filter_map(path).collect();
        for (report, path) in &links {
            // The peer does not know yet that one is silent, and would answer on it.
            let silent = matches!(report.status, LinkStatus::Suspect | LinkStatus::Dead);
            let worse = |best: PathKind| best.rank(preference) < path.kind.rank(preference);
            let reserve = best.is_some_and(|best| silent || worse(best));
            self.inner.set_available(report.link, !reserve);
            let supersedes = |(other, of): &(LinkReport, Path)| {
                works(other) && of.kind == path.kind && of.generation > path.generation
            };
            if report.status != LinkStatus::Closed && links.iter().any(supersedes) {
                self.inner.close_link(now, report.link);
            }
        }
    }

    /// The best kind of path that works.
    fn best(&self) -> Option<PathKind> {
        let works = |report: &LinkReport| report.status == LinkStatus::Active;
        let kinds = self.inner.links().filter(works).filter_map(|report| self.kind(report.route));
        kinds.min_by_key(|kind| kind.rank(self.preference()))
    }

    /// How both sides rank paths.
    pub(super) fn preference(&self) -> Preference {
        self.wires.agent.preference()
    }

    /// The peer wants datagrams to carry data wherever they work.
    pub(super) fn heed_udp_first(&mut self, now: Instant) {
        if self.preference() == Preference::UdpFirst {
            // It costs the peer three bytes to say so.
            return;
        }
        self.wires.agent.prefer(now, Preference::UdpFirst);
        self.wires.act();
        self.links.changed = true;
    }

    fn kind(&self, route: Route) -> Option<PathKind> {
        self.path(route).map(|path| path.kind)
    }

    /// The path that a link takes, the newest if a restart found it again.
    fn path(&self, route: Route) -> Option<&Path> {
        let of_route = self.wires.paths().filter(|path| path.is_of(route));
        of_route.max_by_key(|path| (path.generation, path.route == route))
    }

    /// What the agent sees.
    pub(crate) fn view(&self) -> View {
        self.wires.view()
    }

    /// The links as plain values.
    pub(crate) fn link_list(&self) -> Vec<LinkInfo> {
        let (best, preference) = (self.best(), self.preference());
        let info = |report: LinkReport| {
            let path = self.path(report.route)?;
            let works = report.status == LinkStatus::Active;
            Some(LinkInfo {
                path: path.info(),
                kind: path.kind,
                purpose: Use::of(path.kind, works, best, preference),
                rtt: report.rtt,
                rate: report.rate,
                sent: report.bytes_sent,
                received: report.bytes_received,
            })
        };
        let living = |report: &LinkReport| report.status != LinkStatus::Closed;
        self.inner.links().filter(living).filter_map(info).collect()
    }
}
