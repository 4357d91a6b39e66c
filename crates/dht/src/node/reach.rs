//! Whether others can reach this node, by evidence, and so whether it serves them or only asks (`dht.md` 1.1, 2.2).
//!
//! A node that others cannot reach does harm if they remember it: they store values on it, listen at it and name it
//! on, and whoever is sent there waits in vain. It says so by the client flag, and nobody remembers it. The evidence:
//!
//! * Others see us at an address of this host: there is no NAT on the way, and we count as reachable, until it turns
//!   out that in a network of many nobody comes: then a firewall is there. It is looked into again, ever more rarely.
//! * Others see us at the address of a router that says it passes on what comes to our port: the same holds. If the
//!   router has a NAT before it, others see us elsewhere; if it does not keep its word, nobody comes.
//! * Others see us at another address: a NAT is there, and we only ask.
//! * Somebody comes whom we have not sent anything for long: whatever is there, it lets strangers in.
//!
//! What holds towards the public network need not hold towards the neighbours: who shares a private network with us
//! reaches us in it, and a NAT on the way out changes nothing. So both are judged apart, for each family.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::address::Prefix;
use super::config::Mode;
use super::family::Family;
use crate::reported::ReportedAddresses;

/// NATs and firewalls let answers in for this long, at most: whoever comes later comes by himself.
const CONTACT_TIME: Duration = Duration::from_mins(10);
/// Strangers come at least this often to a node of a large network that they can reach.
const STRANGER_TIME: Duration = Duration::from_mins(20);
/// After this, a node that no stranger reached gives itself another chance; each time it waits twice as long.
const SHUT_TIME: Duration = Duration::from_hours(1);
/// It doubles at most so often: up to 32 hours.
const MAX_DOUBLINGS: u32 = 5;
/// Contacts are looked through for old ones at most this often: it walks them all.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Depth of the routing table from which on the network counts as large: some 256 nodes, of which we know a part.
const LARGE_DEPTH: u32 = 5;

/// Whether others can reach this node over the public network, as far as is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reachability {
    /// Nothing tells.
    #[default]
    Unknown,
    /// Others see it at an address that this host does not have: behind a NAT.
    Translated,
    /// It, or a router that passes on what comes, has the address that others see, and yet nobody comes by himself: behind
    /// a firewall.
    Shut,
    /// It has the address that others see, or a router that passes on what comes.
    Presumed,
    /// Somebody came by himself.
    Proved,
}

impl Reachability {
    /// Whether others should remember a node of which this is known.
    pub const fn is_reachable(self) -> bool {
        matches!(self, Self::Presumed | Self::Proved)
    }
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "nobody has told",
            Self::Translated => "behind a NAT",
            Self::Shut => "behind a firewall",
            Self::Presumed => "nothing known to be in the way",
            Self::Proved => "strangers come",
        })
    }
}

/// Who is asking, or asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sphere {
    /// Somebody at a private, shared or local address.
    Neighbour,
    /// Somebody at a public address.
    World,
}

impl Sphere {
    fn of(ip: IpAddr) -> Self {
        if Prefix::of(ip).is_some() { Self::World } else { Self::Neighbour }
    }
}

/// What is known of the way from a sphere to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Unknown,
    Translated,
    Presumed { since: Instant },
    Proved { at: Instant },
    Shut { until: Instant },
}

#[derive(Debug)]
struct Road {
    way: Way,
    /// How often it turned out to be shut, in a row.
    shut: u32,
}

impl Road {
    const fn new() -> Self {
        Self { way: Way::Unknown, shut: 0 }
    }

    /// Others see us at an address of ours, or elsewhere.
    fn seen(&mut self, own: bool, now: Instant) {
        match (self.way, own) {
            (Way::Unknown | Way::Translated, true) => self.way = Way::Presumed { since: now },
            (Way::Unknown | Way::Presumed { .. } | Way::Shut { .. }, false) => self.way = Way::Translated,
            _ => {}
        }
    }

    fn stranger_came(&mut self, now: Instant) {
        *self = Self { way: Way::Proved { at: now }, shut: 0 };
    }

    /// Time has passed. Only where there are many nodes does it mean something that none of them came. `own` is whether
    /// others see us at an address of ours, if that is known.
    fn age(&mut self, own: Option<bool>, large: bool, now: Instant) {
        let past = |at: Instant| now.saturating_duration_since(at) >= STRANGER_TIME;
        match self.way {
            Way::Proved { at } if large && past(at) => {
                self.way = match own {
                    Some(true) => Way::Presumed { since: now },
                    Some(false) => Way::Translated,
                    None => Way::Unknown,
                };
            }
            Way::Presumed { since } if large && past(since) => {
                let pause = SHUT_TIME * (1 << self.shut.min(MAX_DOUBLINGS));
                self.way = Way::Shut { until: now + pause };
                self.shut = self.shut.saturating_add(1);
            }
            Way::Shut { until } if until <= now => self.way = Way::Presumed { since: now },
            _ => {}
        }
    }

    fn reachability(&self) -> Reachability {
        match self.way {
            Way::Unknown => Reachability::Unknown,
            Way::Translated => Reachability::Translated,
            Way::Presumed { .. } => Reachability::Presumed,
            Way::Proved { .. } => Reachability::Proved,
            Way::Shut { .. } => Reachability::Shut,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reach {
    mode: Mode,
    /// Addresses of this host, and of a router that passes on what comes, sorted; unknown until told.
    own: Option<Vec<IpAddr>>,
    roads: BTreeMap<(Family, Sphere), Road>,
    contacts: Contacts,
}

impl Reach {
    pub(super) fn new(mode: Mode, contacts: usize) -> Self {
        let all = Family::ALL.into_iter().flat_map(|family| {
            [Sphere::Neighbour, Sphere::World].map(|sphere| ((family, sphere), Road::new()))
        });
        Self { mode, own: None, roads: all.collect(), contacts: Contacts::new(contacts) }
    }

    fn road(&mut self, ip: IpAddr) -> &mut Road {
        self.roads.entry((Family::of_ip(ip), Sphere::of(ip))).or_insert(Road::new())
    }

    /// Whether this node says to `to` that it only asks. Neighbours reach us as long as nothing says otherwise.
    pub(super) fn is_client_to(&self, to: &SocketAddr) -> bool {
        match self.mode {
            Mode::Client => true,
            Mode::Full => false,
            Mode::Automatic => {
                let sphere = Sphere::of(to.ip());
                let known = self.towards(Family::of(to), sphere);
                !known.is_reachable() && (known, sphere) != (Reachability::Unknown, Sphere::Neighbour)
            }
        }
    }

    fn towards(&self, family: Family, sphere: Sphere) -> Reachability {
        self.roads.get(&(family, sphere)).map(Road::reachability).unwrap_or_default()
    }

    /// What is known of the way from the public network.
    pub(super) fn reachability(&self, family: Family) -> Reachability {
        self.towards(family, Sphere::World)
    }

    /// Something goes to `ip`: what comes from there within [`CONTACT_TIME`] proves nothing.
    pub(super) fn contact(&mut self, ip: IpAddr, now: Instant) {
        self.contacts.note(ip, now);
    }

    /// A request came from `ip`. Who is on this host, or behind the same NAT or firewall, says nothing of those outside.
    pub(super) fn came(&mut self, ip: IpAddr, reported: &ReportedAddresses, now: Instant) {
        // A NAT may have several addresses.
        let inside = self.is_own(ip) || self.is_beside(ip) || reported.count(|_, seen| seen == ip) > 0;
        if !inside && self.contacts.is_stranger(ip, now) {
            self.road(ip).stranger_came(now);
        }
        self.contacts.note(ip, now);
    }

    /// Somebody at `voter` said where he sees us; the most say counts.
    pub(super) fn seen(&mut self, voter: IpAddr, reported: &ReportedAddresses, now: Instant) {
        if let Some(own) = self.is_seen_here(Family::of_ip(voter), Sphere::of(voter), reported) {
            self.road(voter).seen(own, now);
        }
    }

    /// Whether most of a sphere see us at an address of this host; nothing, as long as nobody said anything, or our
    /// addresses are not known.
    fn is_seen_here(&self, family: Family, sphere: Sphere, reported: &ReportedAddresses) -> Option<bool> {
        self.own.as_ref()?;
        let votes = |own: bool| {
            reported.count(|voter, seen| {
                Family::of_ip(seen) == family && Sphere::of(voter) == sphere && self.is_own(seen) == own
            })
        };
        let (own, other) = (votes(true), votes(false));
        (own + other > 0).then_some(own > other)
    }

    /// Whether `ip` is in our part of the public IPv6 network: all of a site are, with one firewall before them. A /24 of
    /// IPv4 is shared by many.
    fn is_beside(&self, ip: IpAddr) -> bool {
        let Some(network) = Prefix::of(ip).filter(|_| ip.is_ipv6()) else { return false };
        self.own.iter().flatten().any(|own| Prefix::of(*own) == Some(network))
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.own.as_ref().is_some_and(|own| own.binary_search(&ip).is_ok())
    }

    /// This host has these addresses now.
    pub(super) fn set_own(&mut self, mut own: Vec<IpAddr>, reported: &ReportedAddresses, now: Instant) {
        own.sort_unstable();
        self.own = Some(own);
        let keys: Vec<(Family, Sphere)> = self.roads.keys().copied().collect();
        for (family, sphere) in keys {
            if let Some(own) = self.is_seen_here(family, sphere, reported)
                && let Some(road) = self.roads.get_mut(&(family, sphere))
            {
                road.seen(own, now);
            }
        }
    }

    /// Time has passed; the routing table of the family is that deep.
    pub(super) fn age(&mut self, family: Family, depth: u32, reported: &ReportedAddresses, now: Instant) {
        let own = self.is_seen_here(family, Sphere::World, reported);
        let large = depth >= LARGE_DEPTH && !self.contacts.is_blind(now);
        if let Some(road) = self.roads.get_mut(&(family, Sphere::World)) {
            road.age(own, large, now);
        }
    }

    /// We are somewhere else: nothing is known. What was sent from the last place may still be answered here.
    pub(super) fn reset(&mut self) {
        for road in self.roads.values_mut() {
            *road = Road::new();
        }
    }
}

/// When something last went to hosts, or came from them. Bounded; what does not fit makes it blind for a while rather
/// than wrong.
#[derive(Debug)]
struct Contacts {
    last: BTreeMap<IpAddr, Instant>,
    limit: usize,
    swept: Option<Instant>,
    blind_until: Option<Instant>,
}

impl Contacts {
    const fn new(limit: usize) -> Self {
        Self { last: BTreeMap::new(), limit, swept: None, blind_until: None }
    }

    fn note(&mut self, ip: IpAddr, now: Instant) {
        if self.last.len() >= self.limit && !self.last.contains_key(&ip) {
            if self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_PAUSE) {
                self.swept = Some(now);
                self.last.retain(|_, at| now.saturating_duration_since(*at) < CONTACT_TIME);
            }
            if self.last.len() >= self.limit {
                self.blind_until = Some(now + CONTACT_TIME);
                return;
            }
        }
        self.last.insert(ip, now);
    }

    fn is_blind(&self, now: Instant) -> bool {
        self.blind_until.is_some_and(|until| now < until)
    }

    fn is_stranger(&self, ip: IpAddr, now: Instant) -> bool {
        !self.is_blind(now)
            && self.last.get(&ip).is_none_or(|at| now.saturating_duration_since(*at) >= CONTACT_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "45.0.0.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(ip(text), 4222)
    }

    struct Story {
        reach: Reach,
        reported: ReportedAddresses,
        now: Instant,
    }

    impl Story {
        fn new(own: &[&str]) -> Self {
            let (now, reported) = (Instant::now(), ReportedAddresses::new());
            let mut reach = Reach::new(Mode::Automatic, 8);
            reach.set_own(own.iter().map(|text| ip(text)).collect(), &reported, now);
            Self { reach, reported, now }
        }

        fn seen(&mut self, voter: &str, seen: &str) {
            self.reach.contact(ip(voter), self.now);
            self.reported.report(ip(voter), ip(seen));
            self.reach.seen(ip(voter), &self.reported, self.now);
        }

        fn came(&mut self, from: &str) {
            self.reach.came(ip(from), &self.reported, self.now);
        }

        fn age(&mut self, time: Duration, depth: u32) {
            self.now += time;
            self.reach.age(Family::V4, depth, &self.reported, self.now);
        }

        fn known(&self) -> Reachability {
            self.reach.reachability(Family::V4)
        }
    }

    #[test]
    fn an_address_of_its_own_makes_a_node_serve_the_world() {
        let mut story = Story::new(&[HERE]);
        assert!(story.reach.is_client_to(&at("8.8.8.8")), "nothing is known yet");
        story.seen("8.8.8.8", HERE);
        assert_eq!(story.known(), Reachability::Presumed);
        assert!(!story.reach.is_client_to(&at("8.8.8.8")));
        assert!(story.reach.is_client_to(&at("2001:db8::1")), "that says nothing of the other family");
        story.seen("9.9.9.9", "45.6.6.6");
        story.seen("9.9.8.9", "45.6.6.6");
        assert_eq!(story.known(), Reachability::Translated, "most see us elsewhere");
        story.reach.reset();
        assert_eq!(story.known(), Reachability::Unknown);
    }

    #[test]
    fn behind_a_nat_a_node_serves_its_neighbours() {
        let mut story = Story::new(&["192.168.1.5"]);
        assert!(!story.reach.is_client_to(&at("192.168.1.6")), "before they said anything");
        story.seen("8.8.8.8", HERE);
        story.seen("192.168.1.6", "192.168.1.5");
        assert_eq!(story.known(), Reachability::Translated);
        assert!(story.reach.is_client_to(&at("8.8.8.8")) && !story.reach.is_client_to(&at("192.168.1.6")));
        assert!(!story.reach.is_client_to(&at("127.0.0.1")));
    }

    #[test]
    fn a_router_that_passes_on_what_comes_counts_if_others_see_it() {
        for (router, known) in [(HERE, Reachability::Presumed), ("45.9.9.9", Reachability::Translated)] {
            let mut story = Story::new(&["192.168.1.5", router]);
            story.seen("8.8.8.8", HERE);
            assert_eq!(story.known(), known, "{router}");
        }
        let mut story = Story::new(&["192.168.1.5", HERE]);
        story.seen("8.8.8.8", HERE);
        story.came(HERE);
        assert_eq!(story.known(), Reachability::Presumed, "whoever is behind it proves nothing");
        // It does not keep its word, and then does not give it any more.
        story.age(STRANGER_TIME, LARGE_DEPTH);
        assert_eq!(story.known(), Reachability::Shut);
        story.reach.set_own(vec![ip("192.168.1.5")], &story.reported, story.now);
        assert_eq!(story.known(), Reachability::Translated);
    }

    #[test]
    fn a_nat_before_the_neighbours_is_noticed_too() {
        let mut story = Story::new(&["192.168.1.5"]);
        story.seen("10.0.0.1", "10.0.0.7");
        assert!(story.reach.is_client_to(&at("10.0.0.1")));
    }

    #[test]
    fn who_is_on_this_host_does_not_speak_for_the_world() {
        let mut story = Story::new(&["192.168.1.5", "2001:db8::5"]);
        story.seen("::1", "::1");
        story.seen("127.0.0.1", "127.0.0.1");
        story.reach.set_own(vec![ip("2001:db8::5")], &story.reported, story.now);
        for family in Family::ALL {
            assert_eq!(story.reach.reachability(family), Reachability::Unknown);
        }
    }

    #[test]
    fn only_strangers_prove_something() {
        let mut story = Story::new(&["192.168.1.5"]);
        story.seen("8.8.8.8", HERE);
        story.came("8.8.8.8");
        story.came(HERE);
        story.came("192.168.1.5");
        assert_eq!(story.known(), Reachability::Translated, "asked, behind the same NAT, on the same host");
        story.now += CONTACT_TIME.mul_f64(0.99);
        story.came("8.8.8.8");
        assert_eq!(story.known(), Reachability::Translated, "a NAT may still let answers in");
        story.came("9.9.9.9");
        assert_eq!(story.known(), Reachability::Proved);
        story.seen("8.8.8.8", HERE);
        story.seen("7.7.7.7", HERE);
        assert_eq!(story.known(), Reachability::Proved, "the NAT lets them in");
    }

    #[test]
    fn who_is_behind_the_same_firewall_proves_nothing() {
        let mut story = Story::new(&["192.168.1.5", "2001:db8:1:2::5"]);
        story.came("2001:db8:1:2::77");
        story.came("2001:db8:1:3::77");
        assert_eq!(story.reach.reachability(Family::V6), Reachability::Unknown, "of the same site");
        story.came("2001:db8:2:2::77");
        assert_eq!(story.reach.reachability(Family::V6), Reachability::Proved);
        // A NAT with two addresses.
        for (voter, seen) in [("8.8.8.8", HERE), ("9.9.9.9", HERE), ("7.7.7.7", "45.0.0.2")] {
            story.seen(voter, seen);
        }
        story.came("45.0.0.2");
        assert_eq!(story.known(), Reachability::Translated);
    }

    #[test]
    fn who_came_long_ago_is_a_stranger_again() {
        let mut story = Story::new(&["192.168.1.5"]);
        story.seen("8.8.8.8", HERE);
        story.now += CONTACT_TIME;
        story.came("8.8.8.8");
        assert_eq!(story.known(), Reachability::Proved);
    }

    #[test]
    fn a_firewall_shows_by_nobody_coming_where_there_are_many() {
        let mut story = Story::new(&[HERE]);
        story.seen("8.8.8.8", HERE);
        story.age(STRANGER_TIME, LARGE_DEPTH - 1);
        assert_eq!(story.known(), Reachability::Presumed, "in a small network that says nothing");
        story.age(Duration::ZERO, LARGE_DEPTH);
        assert_eq!(story.known(), Reachability::Shut);
        assert!(story.reach.is_client_to(&at("8.8.8.8")));
        story.seen("8.8.8.8", HERE);
        assert_eq!(story.known(), Reachability::Shut, "that was known");
        for doubling in 0..MAX_DOUBLINGS + 2 {
            let pause = SHUT_TIME * (1 << doubling.min(MAX_DOUBLINGS));
            story.age(pause.mul_f64(0.5), LARGE_DEPTH);
            assert_eq!(story.known(), Reachability::Shut);
            story.age(pause.mul_f64(0.5), LARGE_DEPTH);
            assert_eq!(story.known(), Reachability::Presumed, "another chance");
            story.age(STRANGER_TIME, LARGE_DEPTH);
        }
        story.came("9.9.9.9");
        assert_eq!(story.known(), Reachability::Proved);
        story.age(STRANGER_TIME, LARGE_DEPTH - 1);
        assert_eq!(story.known(), Reachability::Proved);
        story.age(Duration::ZERO, LARGE_DEPTH);
        assert_eq!(story.known(), Reachability::Presumed, "one step at a time");
    }

    #[test]
    fn a_door_in_a_nat_that_closes_is_noticed() {
        let mut story = Story::new(&["192.168.1.5"]);
        story.seen("8.8.8.8", HERE);
        story.came("9.9.9.9");
        story.age(STRANGER_TIME, LARGE_DEPTH);
        assert_eq!(story.known(), Reachability::Translated);
    }

    #[test]
    fn who_does_not_know_its_addresses_suspects_no_nat() {
        let (now, reported) = (Instant::now(), ReportedAddresses::new());
        let mut story = Story { reach: Reach::new(Mode::Automatic, 8), reported, now };
        story.seen("8.8.8.8", HERE);
        story.came("9.9.9.9");
        assert_eq!(story.known(), Reachability::Proved);
        story.age(STRANGER_TIME, LARGE_DEPTH);
        assert_eq!(story.known(), Reachability::Unknown);
    }

    #[test]
    fn who_cannot_remember_whom_he_asked_believes_nobody_for_a_while() {
        let mut story = Story::new(&["192.168.1.5"]);
        for host in 0..9 {
            story.reach.contact(ip(&format!("8.8.8.{host}")), story.now);
        }
        assert_eq!(story.reach.contacts.last.len(), 8);
        story.came("9.9.9.9");
        assert_eq!(story.known(), Reachability::Unknown);
        story.seen("8.8.8.0", HERE);
        story.reach.set_own(vec![ip(HERE)], &story.reported, story.now);
        story.now += STRANGER_TIME;
        story.reach.contacts.blind_until = Some(story.now + CONTACT_TIME);
        story.age(Duration::ZERO, LARGE_DEPTH);
        assert_eq!(story.known(), Reachability::Presumed, "who sees nobody does not judge");
        story.now += CONTACT_TIME;
        story.came("9.9.9.9");
        assert_eq!(story.known(), Reachability::Proved);
    }

    #[test]
    fn a_flood_blinds_no_longer_than_it_lasts() {
        let mut story = Story::new(&["192.168.1.5"]);
        for host in 0..9 {
            story.reach.contact(ip(&format!("8.8.8.{host}")), story.now);
        }
        // Afterwards there are as many as fit.
        for host in 0..10 {
            story.now += Duration::from_mins(2);
            story.reach.contact(ip(&format!("7.7.7.{host}")), story.now);
        }
        story.came("9.9.9.9");
        assert_eq!(story.known(), Reachability::Proved);
    }

    #[test]
    fn a_mode_that_is_set_needs_no_evidence() {
        for (mode, client) in [(Mode::Client, true), (Mode::Full, false)] {
            let mut reach = Reach::new(mode, 8);
            for host in ["8.8.8.8", "127.0.0.1"] {
                assert_eq!(reach.is_client_to(&at(host)), client);
            }
            reach.came(ip("9.9.9.9"), &ReportedAddresses::new(), Instant::now());
            assert_eq!(reach.is_client_to(&at("8.8.8.8")), client);
            assert_eq!(reach.reachability(Family::V4), Reachability::Proved, "it is told nevertheless");
        }
    }
}
