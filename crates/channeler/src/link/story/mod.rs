//! Two links with a scripted network between them: each end is a connection reduced to a list of things to send.

mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{Arrival, Class, Content, Link, LinkTimeout, Outcome, Permit};
use crate::{
    Config, ConnectionId, Ecn, LinkId, LinkStatus, Route, Side,
    wire::message::{Message, Messages},
};

pub(super) const MS: Duration = Duration::from_millis(1);
const HEADER: u32 = 32;

#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) pn: u64,
    pub(super) bytes: u32,
    pub(super) eliciting: bool,
    pub(super) ecn: Option<Ecn>,
    item: Option<u64>,
    ack: Vec<u8>,
    challenge: Option<[u8; 8]>,
    response: Option<[u8; 8]>,
    from: Route,
}

/// What becomes of a packet.
pub(super) enum Fate {
    Arrives,
    Lost,
    Late(Duration),
    Twice(Duration),
}

pub(super) type Script = Box<dyn FnMut(Duration, Side, &mut Packet) -> Fate>;

pub(super) struct End {
    pub(super) link: Link,
    /// Items to send; repairs go first.
    pub(super) queue: VecDeque<u64>,
    pub(super) next_item: u64,
    pub(super) arrived: BTreeMap<u64, Duration>,
    pub(super) acked: BTreeSet<u64>,
    pub(super) lost: u64,
    pub(super) spurious: u64,
    pub(super) sent: u64,
    pub(super) acks: u64,
    pub(super) timeouts: Vec<(Duration, LinkTimeout)>,
    pub(super) statuses: Vec<(Duration, LinkStatus)>,
    /// Bytes of an item's packet; the MTU if it is less.
    pub(super) size: u32,
    /// Whether it gives way to everything.
    pub(super) background: bool,
    outcome: Outcome,
    /// Address that its packets carry.
    pub(super) address: Route,
}

pub(super) struct Story {
    start: Instant,
    pub(super) now: Instant,
    /// The initiator, who sends items, and the responder.
    pub(super) ends: [End; 2],
    /// One way.
    pub(super) delay: Duration,
    pub(super) script: Script,
    wire: BTreeMap<(Instant, u64), (usize, Packet)>,
    counter: u64,
}

pub(super) fn route(host: u8, port: u16) -> Route {
    Route::datagram(([192, 0, 2, host], port).into())
}

fn end(side: Side, route: Route, address: Route, config: &Config, now: Instant) -> End {
    let id = ConnectionId([side as u8; 8]);
    End {
        link: Link::new(LinkId(0), route, side, id, id, config, now, [side as u8 + 1; 32]),
        queue: VecDeque::new(),
        next_item: 0,
        arrived: BTreeMap::new(),
        acked: BTreeSet::new(),
        lost: 0,
        spurious: 0,
        sent: 0,
        acks: 0,
        timeouts: Vec::new(),
        statuses: Vec::new(),
        size: u32::MAX,
        background: false,
        outcome: Outcome::default(),
        address,
    }
}

impl Story {
    /// A round trip of 30 ms, both ends validated and knowing it.
    pub(super) fn new(config: &Config) -> Self {
        let mut story = Self::unvalidated(config);
        for end in &mut story.ends {
            end.link.set_validated();
            end.link.set_rtt(story.now, 2 * story.delay);
        }
        story
    }

    pub(super) fn unvalidated(config: &Config) -> Self {
        let now = Instant::now();
        let (a, b) = (route(1, 1000), route(2, 2000));
        Self::between(config, now, a, b)
    }

    pub(super) fn streams(config: &Config) -> Self {
        let mut story = Self::between(config, Instant::now(), Route::Stream(1), Route::Stream(1));
        for end in &mut story.ends {
            end.link.set_validated();
        }
        story
    }

    fn between(config: &Config, now: Instant, a: Route, b: Route) -> Self {
        Self {
            start: now,
            now,
            ends: [end(Side::Initiator, b, a, config, now), end(Side::Responder, a, b, config, now)],
            delay: 15 * MS,
            script: Box::new(|_, _, _| Fate::Arrives),
            wire: BTreeMap::new(),
            counter: 0,
        }
    }

    pub(super) fn at(&self) -> Duration {
        self.now - self.start
    }

    /// The program of the initiator writes so many items.
    pub(super) fn write(&mut self, items: u64) {
        let end = &mut self.ends[0];
        end.queue.extend(end.next_item..end.next_item + items);
        end.next_item += items;
    }

    /// Until then.
    pub(super) fn run(&mut self, until: Duration) {
        let until = self.start + until;
        let mut idle = 0;
        loop {
            self.drive(0);
            self.drive(1);
            let timer = self.ends.iter().filter_map(|end| end.link.poll_timeout()).min();
            let next = self.wire.keys().next().map(|(at, _)| *at).into_iter().chain(timer).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            idle = if next > self.now { 0 } else { idle + 1 };
            assert!(idle < 10_000, "time stands still");
            self.now = self.now.max(next);
            while let Some(entry) = self.wire.first_entry()
                && entry.key().0 <= self.now
            {
                let (to, packet) = entry.remove();
                self.arrive(to, &packet);
            }
        }
        self.now = until;
    }

    /// Until everything is acknowledged; gives the time that it took.
    pub(super) fn finish(&mut self, within: Duration) -> Duration {
        let start = self.at();
        while self.ends[0].acked.len() < self.ends[0].next_item as usize {
            assert!(
                self.at().saturating_sub(start) < within,
                "{} of {} acknowledged",
                self.ends[0].acked.len(),
                self.ends[0].next_item
            );
            self.run(self.at() + MS);
        }
        assert_eq!(self.ends[1].arrived.len(), self.ends[0].next_item as usize);
        self.at().saturating_sub(start)
    }

    fn arrive(&mut self, to: usize, packet: &Packet) {
        let (now, at) = (self.now, self.at());
        let end = &mut self.ends[to];
        if !end.link.is_stream() && end.address.remote().is_none() {
            return;
        }
        let newest = end.link.is_newest(packet.pn);
        let arrival = end.link.on_packet(now, packet.pn, packet.eliciting, packet.ecn, packet.bytes as usize);
        if arrival == Arrival::Duplicate {
            return;
        }
        if newest && packet.from != end.link.route() {
            end.link.on_moved(now, packet.from);
        }
        if let Some(item) = packet.item {
            end.arrived.entry(item).or_insert(at);
        }
        if let Some(bytes) = packet.challenge {
            end.link.on_challenge(bytes);
        }
        if let Some(bytes) = packet.response {
            end.link.on_response(bytes, &mut end.outcome);
        }
        for message in Messages(&packet.ack) {
            let Ok(Message::Ack(ack)) = message else { panic!("{message:?}") };
            end.link.on_ack(now, &ack, true, &mut end.outcome).unwrap();
        }
        end.digest(at);
    }

    fn drive(&mut self, from: usize) {
        let (now, at) = (self.now, self.at());
        let end = &mut self.ends[from];
        if let Some(timeout) = end.link.on_timeout(now, &mut end.outcome) {
            end.timeouts.push((at, timeout));
            end.digest(at);
            if timeout == LinkTimeout::KeepAlive {
                self.send(from, None, true, Content::EMPTY, 0, None, None);
            }
            return self.drive(from);
        }
        let mtu = u32::from(end.link.mtu());
        if let Some(challenge) = end.link.challenge_due()
            && end.link.can_send(now, 1200, Class::Probe) == Permit::Yes
        {
            end.link.on_challenge_sent(now);
            self.send(from, None, true, Content::EMPTY, 1200, Some(challenge), None);
            return self.drive(from);
        }
        if let Some(response) = end.link.response_due()
            && end.link.can_send(now, 1200, Class::Probe) == Permit::Yes
        {
            end.link.on_response_sent();
            self.send(from, None, true, Content::EMPTY, 1200, None, Some(response));
            return self.drive(from);
        }
        for probe in 0..end.link.probes_due() {
            let end = &mut self.ends[from];
            let oldest = end.link.unacked().nth(usize::from(probe)).map(|content| content.start);
            let item = end.queue.pop_front().or(oldest);
            let content =
                item.map_or(Content::EMPTY, |item| Content { channel: 1, start: item, ..Content::EMPTY });
            let bytes = if item.is_some() { mtu.min(end.size) } else { 0 };
            self.send(from, item, true, content, bytes, None, None);
        }
        let end = &mut self.ends[from];
        if let Some(size) = end.link.mtu_probe(now)
            && end.link.can_send(now, u32::from(size), Class::Probe) == Permit::Yes
        {
            let content = Content { mtu_probe: true, ..Content::EMPTY };
            self.send(from, None, true, content, u32::from(size), None, None);
        }
        loop {
            let end = &mut self.ends[from];
            let bytes = end.size.min(u32::from(end.link.mtu()));
            if end.queue.is_empty() {
                end.link.on_idle();
                break;
            }
            let background = end.background;
            let class = if background { Class::Background } else { Class::Normal };
            if end.link.can_send(now, bytes, class) != Permit::Yes {
                break;
            }
            let item = end.queue.pop_front().unwrap();
            let content = Content { channel: 1, start: item, background, ..Content::EMPTY };
            self.send(from, Some(item), true, content, bytes, None, None);
        }
        let end = &mut self.ends[from];
        if end.link.ack_wanted(now) && end.link.can_send(now, 60, Class::Ack) == Permit::Yes {
            end.acks += 1;
            self.send(from, None, false, Content::EMPTY, 0, None, None);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a packet of a test")]
    fn send(
        &mut self,
        from: usize,
        item: Option<u64>,
        eliciting: bool,
        content: Content,
        bytes: u32,
        challenge: Option<[u8; 8]>,
        response: Option<[u8; 8]>,
    ) {
        let (now, at) = (self.now, self.at());
        let end = &mut self.ends[from];
        let mut ack = Vec::new();
        let mut eliciting = eliciting;
        if end.link.ack_pending() {
            assert!(end.link.write_ack(now, &mut ack, 400, LinkId(0)));
            eliciting |= end.link.ack_wants_ack();
        }
        let bytes = bytes.max(HEADER + ack.len() as u32 + 8);
        let pn = end.link.next_pn();
        let ecn = end.link.ecn();
        end.link.on_sent(now, bytes, eliciting, content);
        end.sent += 1;
        let mut packet =
            Packet { pn, bytes, eliciting, ecn, item, ack, challenge, response, from: end.address };
        let side = [Side::Initiator, Side::Responder][from];
        let fate = (self.script)(at, side, &mut packet);
        let arrival = now + self.delay;
        let mut put = |at: Instant, packet: Packet| {
            self.counter += 1;
            self.wire.insert((at, self.counter), (1 - from, packet));
        };
        match fate {
            Fate::Lost => {}
            Fate::Arrives => put(arrival, packet),
            Fate::Late(late) => put(arrival + late, packet),
            Fate::Twice(late) => {
                put(arrival + late, packet.clone());
                put(arrival, packet);
            }
        }
    }
}

impl End {
    /// Takes what happened out of the outcome, as a connection does.
    fn digest(&mut self, at: Duration) {
        for content in &self.outcome.acked {
            self.acked.insert(content.start);
        }
        for content in &self.outcome.lost {
            self.lost += 1;
            if !self.acked.contains(&content.start) {
                self.queue.push_front(content.start);
            }
        }
        self.spurious += u64::from(self.outcome.spurious);
        let acked = &self.acked;
        if self.outcome.spurious > 0 {
            self.queue.retain(|item| !acked.contains(item));
        }
        if self.outcome.status_changed {
            self.statuses.push((at, self.link.status()));
        }
        self.outcome.clear();
    }
}
