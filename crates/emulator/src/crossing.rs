//! A router, the line between it and the outside, and what is on its way. No devices, no clock.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use rand::{SeedableRng as _, rngs::StdRng};
use towline_link::{Direction, Link, Load};
use towline_nat::Way;

use crate::router::{Fate, Router};

/// Bytes that may be on their way in one direction; more are lost. A gigabit per second for half a second.
const UNDERWAY: usize = 64 << 20;
/// What a packet counts beside its bytes.
const ENTRY: usize = 128;

/// Where a packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Inside,
    Outside,
}

/// What becomes of a packet at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It leaves there.
    Leave(Side),
    /// It is lost, and this leaves there.
    Answer(Side, Vec<u8>),
    /// It is on its way.
    Wait,
    /// It is lost.
    Lost,
}

/// What leaves after its time on the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) side: Side,
    pub(crate) packet: Vec<u8>,
    /// Whether it is what somebody sent, and not an answer of the router.
    pub(crate) carried: bool,
}

#[derive(Debug)]
pub(crate) struct Crossing {
    pub(crate) router: Router,
    up: Direction,
    down: Direction,
    chance: StdRng,
    /// What came from inside, and what came from outside: each is the business of one thread, so that the order stays.
    from_inside: Underway,
    from_outside: Underway,
    /// Packets that came and did not go on.
    lost: u64,
}

impl Crossing {
    /// With a line that carries everything at once.
    pub(crate) fn new(router: Router) -> Self {
        let bare = || Direction::new(Link { mtu: usize::MAX, ..Link::delay(Duration::ZERO) });
        Self {
            router,
            up: bare(),
            down: bare(),
            chance: StdRng::from_seed([0; 32]),
            from_inside: Underway::default(),
            from_outside: Underway::default(),
            lost: 0,
        }
    }

    pub(crate) fn set_line(&mut self, up: Link, down: Link, seed: [u8; 32]) {
        self.up.set_link(up);
        self.down.set_link(down);
        self.chance = StdRng::from_seed(seed);
    }

    pub(crate) fn set_outage(&mut self, out: bool) {
        self.up.set_outage(out);
        self.down.set_outage(out);
    }

    /// Packets that were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    fn underway(&mut self, way: Way) -> &mut Underway {
        match way {
            Way::Out => &mut self.from_inside,
            Way::In => &mut self.from_outside,
        }
    }

    /// A packet comes. It may be changed.
    pub(crate) fn take(&mut self, now: Duration, way: Way, packet: &mut [u8]) -> Step {
        let step = match way {
            Way::Out => match self.router.pass(now, way, packet) {
                Fate::Forward => self.climb(now, way, packet, true),
                Fate::Turn => Step::Leave(Side::Inside),
                Fate::Drop(_) => Step::Lost,
                Fate::Answer(_, answer) => Step::Answer(Side::Inside, answer),
            },
            Way::In => match self.descend(now, packet) {
                Some(at) if at <= now && self.from_outside.is_empty() => self.arrive(now, packet),
                Some(at) => self.from_outside.push(at, Stage::Arriving, packet),
                None => Step::Lost,
            },
        };
        self.note(&step);
        step
    }

    fn note(&mut self, step: &Step) {
        self.lost += u64::from(matches!(step, Step::Lost | Step::Answer(..)));
    }

    /// A packet, or what the router says itself, sets out for the outside.
    fn climb(&mut self, now: Duration, way: Way, packet: &[u8], carried: bool) -> Step {
        let Ok(at) = self.up.send(now, &Load::packet(packet.len()), &mut self.chance) else {
            return Step::Lost;
        };
        let again = self.up.repeats(&mut self.chance);
        let underway = self.underway(way);
        let stage = Stage::Leaving { carried };
        let step = if at <= now && underway.is_empty() {
            Step::Leave(Side::Outside)
        } else {
            underway.push(at, stage, packet)
        };
        if again {
            underway.push(at, stage, packet);
        }
        step
    }

    /// A packet from outside comes to the line, and arrives then.
    fn descend(&mut self, now: Duration, packet: &[u8]) -> Option<Duration> {
        let at = self.down.send(now, &Load::packet(packet.len()), &mut self.chance).ok()?;
        if self.down.repeats(&mut self.chance) {
            self.from_outside.push(at, Stage::Arriving, packet);
        }
        Some(at)
    }

    /// A packet from outside has come to the router.
    fn arrive(&mut self, now: Duration, packet: &mut [u8]) -> Step {
        match self.router.pass(now, Way::In, packet) {
            Fate::Forward => Step::Leave(Side::Inside),
            Fate::Turn => self.climb(now, Way::In, packet, true),
            Fate::Drop(_) => Step::Lost,
            Fate::Answer(_, answer) => match self.climb(now, Way::In, &answer, false) {
                Step::Leave(side) => Step::Answer(side, answer),
                // The packet is lost, however its answer fares.
                _ => Step::Lost,
            },
        }
    }

    /// The next packet that leaves by now, of those that this direction brought.
    pub(crate) fn due(&mut self, now: Duration, way: Way) -> Option<Due> {
        while let Some(entry) = self.underway(way).pop(now) {
            let Entry { stage, mut packet, .. } = entry;
            let Stage::Leaving { carried } = stage else {
                let step = self.arrive(now, &mut packet);
                self.note(&step);
                match step {
                    Step::Leave(side) => return Some(Due { side, packet, carried: true }),
                    Step::Answer(side, packet) => return Some(Due { side, packet, carried: false }),
                    Step::Wait | Step::Lost => continue,
                }
            };
            return Some(Due { side: Side::Outside, packet, carried });
        }
        match way {
            Way::Out => None,
            Way::In => self.due_late(now),
        }
    }

    /// What the router says late, if it leaves at once.
    fn due_late(&mut self, now: Duration) -> Option<Due> {
        while let Some(packet) = self.router.late(now) {
            if self.climb(now, Way::In, &packet, false) == Step::Leave(Side::Outside) {
                return Some(Due { side: Side::Outside, packet, carried: false });
            }
        }
        None
    }

    /// When [`due`](Self::due) has something.
    pub(crate) fn poll_timeout(&self, way: Way) -> Option<Duration> {
        match way {
            Way::Out => self.from_inside.next(),
            Way::In => self.from_outside.next().into_iter().chain(self.router.poll_timeout()).min(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To the outside.
    Leaving { carried: bool },
    /// To the router.
    Arriving,
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    number: u64,
    stage: Stage,
    packet: Vec<u8>,
}

/// Packets on the line, by the time of their arrival, then by that of their setting out.
#[derive(Debug, Default)]
struct Underway {
    heap: BinaryHeap<Entry>,
    number: u64,
    bytes: usize,
}

impl Underway {
    fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn push(&mut self, at: Duration, stage: Stage, packet: &[u8]) -> Step {
        if self.bytes >= UNDERWAY {
            return Step::Lost;
        }
        self.bytes += packet.len() + ENTRY;
        self.number += 1;
        self.heap.push(Entry { at, number: self.number, stage, packet: packet.to_vec() });
        Step::Wait
    }

    fn pop(&mut self, now: Duration) -> Option<Entry> {
        self.heap.peek().filter(|entry| entry.at <= now)?;
        let entry = self.heap.pop()?;
        self.bytes -= entry.packet.len() + ENTRY;
        Some(entry)
    }

    fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|entry| entry.at)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap has its greatest entry first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use towline_link::Burst;
    use towline_nat::{Config, Refusal, Rules};

    use super::*;
    use crate::ip::{
        self, Content,
        tests::{datagram, end, segment},
    };

    const MS: Duration = Duration::from_millis(1);
    const SYN: u8 = 0x02;

    fn crossing(config: Config) -> Crossing {
        let outside = "203.0.113.1".parse().expect("an address");
        Crossing::new(Router::new(Some(config), None, &[outside], [7; 32]))
    }

    fn with_line(link: &Link) -> Crossing {
        let mut crossing = crossing(Config::full_cone());
        crossing.set_line(link.clone(), link.clone(), [1; 32]);
        crossing
    }

    fn ends(packet: &[u8]) -> (String, String) {
        let Some(Content::Packet(header) | Content::Error(header)) = ip::read(packet) else { panic!("none") };
        (header.from.to_string(), header.to.to_string())
    }

    /// From where a datagram of the inside comes, to the outside.
    fn mapped(crossing: &mut Crossing, now: Duration) -> String {
        let mut packet = datagram();
        assert_eq!(crossing.take(now, Way::Out, &mut packet), Step::Wait);
        let at = crossing.poll_timeout(Way::Out).expect("it is on its way");
        ends(&crossing.due(at, Way::Out).expect("it arrives").packet).0
    }

    fn knock(source: u16, to: &str) -> Vec<u8> {
        let mut packet = segment(SYN);
        ip::rewrite(&mut packet, end(&format!("198.51.100.1:{source}")), end(to));
        packet
    }

    #[test]
    fn without_a_line_everything_leaves_at_once() {
        let mut crossing = crossing(Config::full_cone());
        let mut packet = datagram();
        assert_eq!(crossing.take(MS, Way::Out, &mut packet), Step::Leave(Side::Outside));
        let (from, to) = ends(&packet);
        ip::rewrite(&mut packet, end(&to), end(&from));
        assert_eq!(crossing.take(MS, Way::In, &mut packet), Step::Leave(Side::Inside));
        assert_eq!(ends(&packet).1, "192.168.1.10:5000");
        assert_eq!(crossing.lost(), 0);
    }

    #[test]
    fn a_packet_is_at_the_other_end_after_its_time() {
        let mut crossing = with_line(&Link::delay(20 * MS));
        let mut packet = datagram();
        assert_eq!(crossing.take(MS, Way::Out, &mut packet), Step::Wait);
        assert_eq!(crossing.due(20 * MS, Way::Out), None);
        assert_eq!(crossing.poll_timeout(Way::Out), Some(21 * MS));
        let mut packet = crossing.due(21 * MS, Way::Out).expect("now").packet;
        let (from, to) = ends(&packet);
        ip::rewrite(&mut packet, end(&to), end(&from));
        // The router sees it when it arrives, and not before: a restart meanwhile has made it a stranger.
        for restarted in [false, true] {
            let start = if restarted { 100 * MS } else { 30 * MS };
            assert_eq!(crossing.take(start, Way::In, &mut packet.clone()), Step::Wait);
            if restarted {
                crossing.router.nat().expect("there is one").forget(start);
            }
            assert_eq!(crossing.poll_timeout(Way::In), Some(start + 20 * MS));
            let came = crossing.due(start + 20 * MS, Way::In);
            assert_eq!(came.is_none(), restarted);
            assert!(came.is_none_or(|due| due.side == Side::Inside && due.carried));
        }
        assert_eq!(crossing.lost(), 1);
    }

    #[test]
    fn what_the_router_says_goes_by_the_line_and_is_nobodys_packet() {
        let config = Config { unsolicited: Refusal::Reset, ..Config::port_restricted_cone() };
        let mut crossing = crossing(config);
        let mut packet = knock(80, "203.0.113.1:9");
        let Step::Answer(Side::Outside, answer) = crossing.take(MS, Way::In, &mut packet) else {
            panic!("a reset")
        };
        assert_eq!(ends(&answer), ("203.0.113.1:9".to_owned(), "198.51.100.1:80".to_owned()));
        crossing.set_line(Link::delay(5 * MS), Link::delay(3 * MS), [1; 32]);
        assert_eq!(crossing.take(10 * MS, Way::In, &mut knock(80, "203.0.113.1:9")), Step::Wait);
        assert_eq!(crossing.due(17 * MS, Way::In), None, "the reset sets out as soon as the other has come");
        let due = crossing.due(22 * MS, Way::In).expect("there and back");
        assert_eq!((due.side, due.carried), (Side::Outside, false));
        assert_eq!(crossing.lost(), 2, "what was refused");
    }

    #[test]
    fn late_refusals_are_all_told_when_more_came_than_there_is_room_for() {
        let mut config = Config { unsolicited: Refusal::Late(20 * MS), ..Config::port_restricted_cone() };
        config.limits.waiting = 2;
        let mut crossing = crossing(config);
        for (at, source) in [(1, 80), (2, 80), (3, 81), (4, 82)] {
            assert_eq!(crossing.take(at * MS, Way::In, &mut knock(source, "203.0.113.1:9")), Step::Lost);
        }
        assert_eq!(crossing.poll_timeout(Way::In), Some(21 * MS));
        let told: Vec<_> =
            std::iter::from_fn(|| crossing.due(30 * MS, Way::In)).map(|due| ends(&due.packet).0).collect();
        assert_eq!(told, ["198.51.100.1:80", "198.51.100.1:81"]);
        assert_eq!(crossing.poll_timeout(Way::In), None);
    }

    #[test]
    fn outages_and_rules_switch_while_it_runs() {
        let mut crossing = with_line(&Link::delay(MS));
        let mut at = Duration::ZERO;
        let mut passes = |crossing: &mut Crossing| {
            at += 10 * MS;
            [datagram(), segment(SYN)].map(|mut packet| {
                crossing.take(at, Way::Out, &mut packet);
                crossing.due(at + MS, Way::Out).is_some()
            })
        };
        assert_eq!(passes(&mut crossing), [true, true]);
        crossing.router.set_rules(Rules { udp: false, ..Rules::open() });
        assert_eq!(passes(&mut crossing), [false, true]);
        crossing.router.set_rules(Rules { tcp_ports: Some(Vec::new()), ..Rules::open() });
        assert_eq!(passes(&mut crossing), [true, false]);
        crossing.set_outage(true);
        assert_eq!(passes(&mut crossing), [false, false]);
        crossing.set_outage(false);
        crossing.router.set_rules(Rules::open());
        assert_eq!(passes(&mut crossing), [true, true]);
    }

    #[test]
    fn a_hole_takes_long_packets_only() {
        let mut crossing = with_line(&Link { mtu: 40, ..Link::delay(MS) });
        mapped(&mut crossing, Duration::ZERO);
        assert_eq!(crossing.take(MS, Way::Out, &mut segment(0x10)), Step::Lost, "42 bytes");
    }

    #[test]
    fn the_same_seed_gives_the_same_line() {
        let line = Link {
            jitter: 30 * MS,
            reorder: true,
            loss: 0.1,
            burst: Some(Burst { begins: 0.02, length: 4.0 }),
            duplicate: 0.1,
            rate: Some(100_000),
            ..Link::delay(10 * MS)
        };
        let run = |seed| {
            let mut crossing = crossing(Config::full_cone());
            crossing.set_line(line.clone(), line.clone(), [seed; 32]);
            let mut came = Vec::new();
            for at in 0..500_u32 {
                let mut packet = datagram();
                // Which of them it is.
                packet[4..6].copy_from_slice(&(at as u16).to_be_bytes());
                crossing.take(at * MS, Way::Out, &mut packet);
                while let Some(due) = crossing.due(at * MS, Way::Out) {
                    came.push((at, u16::from_be_bytes([due.packet[4], due.packet[5]])));
                }
            }
            (came, crossing.lost())
        };
        let (came, lost) = run(1);
        assert!((40..110).contains(&lost), "{lost}");
        let steps = || came.windows(2).map(|pair| i32::from(pair[1].1) - i32::from(pair[0].1));
        assert!(steps().any(|step| step == 0) && steps().any(|step| step < 0), "twice, and overtaken");
        assert_eq!((came.clone(), lost), run(1));
        assert_ne!((came, lost), run(2));
    }

    #[test]
    fn no_more_is_underway_than_there_is_room_for() {
        let mut crossing = with_line(&Link::delay(Duration::from_mins(1)));
        let mut long = datagram();
        long.resize(1500, 0);
        let room = UNDERWAY / (long.len() + ENTRY) + 1;
        for at in 0..room + 10 {
            let step = crossing.take(MS, Way::Out, &mut long.clone());
            assert_eq!(step, if at < room { Step::Wait } else { Step::Lost });
        }
        let came = std::iter::from_fn(|| crossing.due(Duration::from_secs(61), Way::Out)).count();
        assert_eq!((came, crossing.lost()), (room, 10));
        assert_eq!((crossing.from_inside.bytes, crossing.from_inside.next()), (0, None));
    }
}
