//! The links of a connection, and the connection ids that name them in each direction.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    ConnectionId, LinkId, LinkReport, LinkStatus, Placement, Route, Side,
    link::{Class, Link, Permit},
    reset::Reset,
};

/// Unused own ids after which no more are given out: the peer has left many link numbers out.
const MAX_UNUSED: usize = 32;
/// Own ids that the peer always has ahead of the highest link, half of them for links that it adds.
const AHEAD: u32 = 8;

/// A link and what the connection knows of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) link: Link,
    /// The peer wants it used only if there is no other.
    pub(super) backup: bool,
    /// This side wants that, as the peer heard or has yet to hear.
    pub(super) own_backup: bool,
    /// What the peer says when it knows nothing of this link any more.
    pub(super) reset: Option<Reset>,
    /// A packet that elicits an acknowledgement has to leave.
    pub(super) ping: bool,
    /// When it is forgotten: it is closed, and until then only what was on its way is still taken.
    pub(super) leaves: Option<Instant>,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By the link in this place.
    One(usize),
    /// By both.
    Two(usize, usize),
    /// Not now.
    Nowhere,
}

/// A connection id of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Theirs {
    pub(super) id: ConnectionId,
    /// What the peer says about it when it has forgotten it.
    pub(super) reset: Option<Reset>,
}

/// Who a connection id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The link in this place.
    Link(usize),
    /// A link that would be new.
    Unused(LinkId),
}

/// All links. A place is a small number that stays with a link until it is forgotten.
#[derive(Debug)]
pub(super) struct Links {
    entries: Vec<Option<Box<Entry>>>,
    /// Places in use.
    count: usize,
    /// Own ids that no link has yet.
    unused: BTreeMap<LinkId, ConnectionId>,
    /// One more than the highest link with an own id.
    issued: u32,
    /// The highest link that ever was.
    highest: u32,
    /// Ids of the peer that no link has yet.
    theirs: BTreeMap<LinkId, Theirs>,
    /// The next link that this side adds.
    next: u32,
    /// Since when all are closed.
    bare_since: Option<Instant>,
}

impl Links {
    /// Own ids of links 0, 1, 2 and so on; none of the peer's yet.
    pub(super) fn new(side: Side, ids: &[ConnectionId]) -> Self {
        let unused: BTreeMap<_, _> = (0..).map(LinkId).zip(ids.iter().copied()).collect();
        Self {
            entries: Vec::new(),
            count: 0,
            issued: unused.len() as u32,
            highest: 0,
            unused,
            theirs: BTreeMap::new(),
            next: if side == Side::Initiator { 2 } else { 1 },
            bare_since: None,
        }
    }

    // ---- ids

    /// The peer gave an id for a link. False if it has too many, or gave two for one.
    pub(super) fn on_id(&mut self, link: LinkId, id: Theirs) -> bool {
        if self.by_id(link).is_some() || self.is_past(link) {
            return true;
        }
        let known = *self.theirs.entry(link).or_insert(id);
        known == id && self.theirs.len() <= 2 * MAX_UNUSED
    }

    /// Whether a link with this number may have been before.
    fn is_past(&self, link: LinkId) -> bool {
        link.0 < self.issued && !self.unused.contains_key(&link)
    }

    /// The link for which the peer should get an id, if it is short of them.
    pub(super) fn wants_id(&self) -> Option<LinkId> {
        (self.issued <= self.highest.saturating_add(AHEAD) && self.unused.len() < MAX_UNUSED)
            .then_some(LinkId(self.issued))
    }

    /// Gives it out.
    pub(super) fn issue(&mut self, link: LinkId, id: ConnectionId) {
        self.unused.insert(link, id);
        self.issued = self.issued.max(link.0 + 1);
    }

    /// The own id of a link that was given out and is not used yet.
    pub(super) fn unused_id(&self, link: LinkId) -> Option<ConnectionId> {
        self.unused.get(&link).copied()
    }

    /// Whom an own id names.
    #[inline]
    pub(super) fn named(&self, id: ConnectionId) -> Option<Named> {
        let place = self
            .entries
            .iter()
            .position(|entry| entry.as_ref().is_some_and(|entry| entry.link.our_cid() == id));
        match place {
            Some(place) => Some(Named::Link(place)),
            None => self.unused.iter().find(|known| *known.1 == id).map(|known| Named::Unused(*known.0)),
        }
    }

    /// The next link that this side adds and its ids, own and the peer's, if there are any.
    pub(super) fn next_own(&mut self) -> Option<(LinkId, ConnectionId, Theirs)> {
        let link = LinkId(self.next);
        let own = *self.unused.get(&link)?;
        let theirs = self.theirs.remove(&link)?;
        self.unused.remove(&link);
        self.next += 2;
        Some((link, own, theirs))
    }

    /// The ids of a link that the peer adds.
    pub(super) fn take_ids(&mut self, link: LinkId) -> Option<(ConnectionId, Theirs)> {
        let theirs = *self.theirs.get(&link)?;
        let own = self.unused.remove(&link)?;
        self.theirs.remove(&link);
        self.highest = self.highest.max(link.0);
        Some((own, theirs))
    }

    // ---- places

    /// Puts a link in.
    pub(super) fn insert(&mut self, link: Link, reset: Option<Reset>) -> usize {
        self.highest = self.highest.max(link.id().0);
        self.bare_since = None;
        let entry = Some(Box::new(Entry {
            link,
            backup: false,
            own_backup: false,
            reset,
            ping: false,
            leaves: None,
        }));
        self.count += 1;
        match self.entries.iter().position(Option::is_none) {
            Some(place) => {
                self.entries[place] = entry;
                place
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        }
    }

    /// Forgets a link; gives its own id, and its reset.
    pub(super) fn remove(&mut self, place: usize) -> Option<(ConnectionId, Option<Reset>)> {
        let entry = self.entries[place].take()?;
        self.count -= 1;
        Some((entry.link.our_cid(), entry.reset))
    }

    /// Whether a packet that came by this route, with an id that is none here, proves that the peer knows nothing of one of
    /// the links any more.
    pub(super) fn is_reset(&self, route: Route, id: ConnectionId, packet: &[u8]) -> bool {
        self.iter().any(|(_, entry)| {
            entry.link.route().is_same(route)
                && entry.reset.is_some_and(|reset| reset.name() == id && reset.proves(packet))
        })
    }

    /// One more than the largest place.
    #[inline]
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }

    /// The link in a place.
    #[inline]
    pub(super) fn get(&mut self, place: usize) -> Option<&mut Entry> {
        self.entries.get_mut(place)?.as_deref_mut()
    }

    /// The link in a place that is known to be taken.
    #[inline]
    pub(super) fn at(&mut self, place: usize) -> &mut Link {
        &mut self.entries[place].as_mut().expect("a place that is named is taken").link
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate().filter_map(|(place, entry)| Some((place, entry.as_deref()?)))
    }

    /// The place of a link.
    #[inline]
    pub(super) fn by_id(&self, link: LinkId) -> Option<usize> {
        self.iter().find(|(_, entry)| entry.link.id() == link).map(|(place, _)| place)
    }

    /// No more data by the link in this place; it is forgotten at `until`. False if that was known.
    pub(super) fn leave(&mut self, now: Instant, place: usize, until: Instant) -> bool {
        let Some(entry) = self.get(place).filter(|entry| entry.leaves.is_none()) else { return false };
        entry.leaves = Some(until);
        if self.living() == 0 {
            self.bare_since = Some(now);
        }
        true
    }

    /// Since when all links are closed, if they are.
    pub(super) fn bare_since(&self) -> Option<Instant> {
        self.bare_since
    }

    /// Links that are not closed.
    pub(super) fn living(&self) -> usize {
        self.iter().filter(|(_, entry)| entry.leaves.is_none()).count()
    }

    /// Links that are not forgotten yet.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// What is known about a link.
    pub(super) fn report(&self, place: usize) -> Option<LinkReport> {
        self.entries.get(place)?.as_deref().map(Entry::report)
    }

    /// Round trip of the slowest link that data takes; of the best one, if none should.
    pub(super) fn rtt(&self) -> Duration {
        let of = |tiers: std::ops::Range<u8>| {
            self.iter()
                .filter(move |(_, entry)| tiers.contains(&entry.tier()))
                .map(|(_, entry)| entry.link.rtt())
        };
        of(0..1).max().or_else(|| of(1..4).min()).unwrap_or(Duration::from_millis(100))
    }

    /// Largest packet of the best link.
    pub(super) fn mtu(&self) -> u16 {
        self.iter().min_by_key(|(_, entry)| entry.tier()).map_or(1200, |(_, entry)| entry.link.mtu())
    }

    // ---- choice

    /// Whether any other link than that in this place could take over what it carries.
    pub(super) fn has_other(&self, place: usize) -> bool {
        self.iter().any(|(other, entry)| other != place && entry.tier() < 2)
    }

    /// The way of a packet of up to `mtu` bytes. `backlog`: bytes that wait behind it on its channel.
    #[inline]
    pub(super) fn choose(&mut self, now: Instant, placement: Placement, class: Class, backlog: u64) -> Way {
        if self.count == 1
            && let Some(place) = self.entries.iter().position(Option::is_some)
        {
            return if self.permits(now, place, class) { Way::One(place) } else { Way::Nowhere };
        }
        self.choose_among(now, placement, class, backlog)
    }

    fn choose_among(&mut self, now: Instant, placement: Placement, class: Class, backlog: u64) -> Way {
        if let Placement::Prefer(link) | Placement::Pin(link) = placement
            && let Some(place) = self.by_id(link)
            && let Some(entry) = self.get(place)
            && entry.leaves.is_none()
        {
            let works = entry.link.status() == LinkStatus::Active;
            if works || matches!(placement, Placement::Pin(_)) {
                return if self.permits(now, place, class) { Way::One(place) } else { Way::Nowhere };
            }
        }
        let Some(best) = self.iter().map(|(_, entry)| entry.tier()).min().filter(|tier| *tier < 4) else {
            return Way::Nowhere;
        };
        // A second copy may go where nothing else would.
        let twice = placement == Placement::Duplicate;
        let tier = if twice { best | 1 } else { best };
        let mut order: [(Duration, usize); 2] = [(Duration::MAX, usize::MAX); 2];
        for (place, entry) in self.iter().filter(|(_, entry)| entry.tier() <= tier) {
            let estimate = entry.link.estimate_delivery(now, u64::from(entry.link.mtu()));
            if estimate < order[0].0 {
                order = [(estimate, place), order[0]];
            } else if estimate < order[1].0 {
                order[1] = (estimate, place);
            }
        }
        let [(_, first), (_, second)] = order;
        if twice && second != usize::MAX {
            let (one, two) = (self.permits(now, first, class), self.permits(now, second, class));
            return match (one, two) {
                (true, true) => Way::Two(first, second),
                (true, false) => Way::One(first),
                (false, true) => Way::One(second),
                (false, false) => Way::Nowhere,
            };
        }
        if self.permits(now, first, class) {
            return Way::One(first);
        }
        // The fastest takes no more now. Another is worth it if it delivers before the fastest delivers all that waits.
        let wait = self.at(first).estimate_delivery(now, backlog);
        let mut better = None;
        for place in 0..self.entries.len() {
            let Some(entry) = self.entries[place].as_deref() else { continue };
            if place == first || entry.tier() > tier {
                continue;
            }
            let estimate = entry.link.estimate_delivery(now, u64::from(entry.link.mtu()));
            if estimate < wait
                && better.is_none_or(|(known, _)| estimate < known)
                && self.permits(now, place, class)
            {
                better = Some((estimate, place));
            }
        }
        better.map_or(Way::Nowhere, |(_, place)| Way::One(place))
    }

    /// Whether a full packet may leave by the link in this place.
    #[inline]
    pub(super) fn permits(&mut self, now: Instant, place: usize, class: Class) -> bool {
        let Some(entry) = self.entries[place].as_deref_mut() else { return false };
        // A probe that is due goes first, and takes data along.
        let class = if entry.link.probes_due() > 0 { Class::Probe } else { class };
        let bytes = u32::from(entry.link.mtu());
        entry.leaves.is_none() && entry.link.can_send(now, bytes, class) == Permit::Yes
    }

    /// The link that control messages take: the best that works, or any that might.
    pub(super) fn for_control(&self) -> Option<usize> {
        self.iter().min_by_key(|(_, entry)| (entry.tier(), entry.link.rtt())).map(|(place, _)| place)
    }

    /// The route is that of some living link.
    pub(super) fn has_route(&self, route: Route) -> bool {
        self.iter().any(|(_, entry)| entry.leaves.is_none() && entry.link.route().is_same(route))
    }
}

impl Entry {
    /// How good it is for data, whatever else there is: 0 and 1 work, 2 and 3 perhaps, others do not. The odd ones are backups.
    #[inline]
    pub(super) fn tier(&self) -> u8 {
        let backup = u8::from(self.backup);
        match self.link.status() {
            _ if self.leaves.is_some() => 6,
            LinkStatus::Active => backup,
            LinkStatus::Suspect => 2 + backup,
            LinkStatus::Validating | LinkStatus::Dead => 4,
            LinkStatus::Closed => 6,
        }
    }

    fn report(&self) -> LinkReport {
        let mut report = self.link.report();
        if self.leaves.is_some() {
            report.status = LinkStatus::Closed;
        }
        report
    }
}
