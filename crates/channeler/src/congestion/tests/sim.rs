//! One bottleneck with a queue in virtual time, and flows through it that do what a link does.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::congestion::{AckSample, Control, Pacer, RateStamp, RateTracker, RttEstimator};

pub(super) const MTU: u64 = 1452;
pub(super) const MBIT: u64 = 125_000;

/// The way that all flows take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Bytes per second.
    pub(super) rate: u64,
    pub(super) rtt: Duration,
    /// Bytes that wait at most.
    pub(super) buffer: u64,
    /// Bytes in the queue beyond which packets are marked.
    pub(super) mark: Option<u64>,
    /// Packets of a million that are lost by chance: after the bottleneck, so that they took their part of it.
    pub(super) loss: u64,
    /// Packets that one acknowledgement is for.
    pub(super) ack_every: usize,
}

impl Path {
    /// With a buffer of `percent` of bandwidth times round trip.
    pub(super) fn new(mbits: u64, rtt_ms: u64, percent: u64) -> Self {
        let rate = mbits * MBIT;
        Self {
            rate,
            rtt: Duration::from_millis(rtt_ms),
            buffer: (rate * rtt_ms / 1000 * percent / 100).max(4 * MTU),
            mark: None,
            loss: 0,
            ack_every: 2,
        }
    }

    pub(super) fn loss(self, percent: u64) -> Self {
        Self { loss: percent * 10_000, ..self }
    }
}

/// What a flow has to send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Bulk,
    /// Bytes per second, a packet's worth at a time.
    Steady(u64),
    /// Everything in these milliseconds of each ten seconds.
    Bursts(u64),
}

struct Sent {
    at: Instant,
    stamp: RateStamp,
}

pub(super) struct Flow {
    pub(super) control: Box<dyn Control>,
    pub(super) source: Source,
    start: Instant,
    stop: Option<Instant>,
    rtt: RttEstimator,
    tracker: RateTracker,
    pacer: Pacer,
    sent: VecDeque<Option<Sent>>,
    /// Number of the first packet in `sent`.
    base: u64,
    largest_acked: Option<u64>,
    in_flight: u64,
    produced: u64,
    wake: Option<Instant>,
    probe_at: Option<Instant>,
    lossy_at: Option<Instant>,
    arrivals: VecDeque<(Instant, u64, bool)>,
    received: Vec<(u64, bool)>,
    ack_due: Option<Instant>,
    acks: VecDeque<Ack>,
    last_arrival: Instant,
    last_sent: Instant,
    /// Bytes acknowledged, and declared lost.
    pub(super) acked: u64,
    pub(super) lost: u64,
}

struct Ack {
    arrives: Instant,
    /// How long it was held back after the last packet came.
    delay: Duration,
    /// Numbers, and whether they were marked.
    packets: Vec<(u64, bool)>,
}

struct Packet {
    flow: usize,
    number: u64,
    marked: bool,
}

/// Sums over the queue since they were last taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queue {
    packets: u64,
    sum: Duration,
    pub(super) longest: Duration,
    pub(super) dropped: u64,
}

impl Queue {
    pub(super) fn average(&self) -> Duration {
        Duration::from_nanos((self.sum.as_nanos() / u128::from(self.packets.max(1))) as u64)
    }

    /// Per thousand packets.
    pub(super) fn drop_rate(&self) -> u64 {
        self.dropped * 1000 / (self.packets + self.dropped).max(1)
    }
}

pub(super) struct World {
    began: Instant,
    now: Instant,
    pub(super) path: Path,
    queue: VecDeque<Packet>,
    served: Option<Instant>,
    pub(super) flows: Vec<Flow>,
    random: u64,
    pub(super) seen: Queue,
}

impl World {
    pub(super) fn new(path: Path, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            began: now,
            now,
            path,
            queue: VecDeque::new(),
            served: None,
            flows: Vec::new(),
            random: seed,
            seen: Queue::default(),
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn add(&mut self, control: impl Control + 'static, source: Source, start: Duration) -> usize {
        let start = self.began + start;
        self.flows.push(Flow {
            control: Box::new(control),
            source,
            start,
            stop: None,
            rtt: RttEstimator::new(),
            tracker: RateTracker::new(start),
            pacer: Pacer::new(start),
            sent: VecDeque::new(),
            base: 0,
            largest_acked: None,
            in_flight: 0,
            produced: 0,
            wake: Some(start),
            probe_at: None,
            lossy_at: None,
            arrivals: VecDeque::new(),
            received: Vec::new(),
            ack_due: None,
            acks: VecDeque::new(),
            last_arrival: start,
            last_sent: start,
            acked: 0,
            lost: 0,
        });
        self.flows.len() - 1
    }

    pub(super) fn stop(&mut self, flow: usize, at: Duration) {
        self.flows[flow].stop = Some(self.began + at);
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Runs until `end` and tells what each flow had acknowledged meanwhile, in percent of the path's present rate.
    pub(super) fn run(&mut self, end: Duration) -> Vec<u64> {
        let from = self.now;
        let before: Vec<u64> = self.flows.iter().map(|flow| flow.acked).collect();
        self.seen = Queue::default();
        let end = self.began + end;
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
        let most = u128::from(self.path.rate) * (end - from).as_millis() / 1000;
        let share = |(flow, before): (&Flow, u64)| (u128::from(flow.acked - before) * 100 / most) as u64;
        self.flows.iter().zip(before).map(share).collect()
    }

    fn next_event(&self) -> Option<Instant> {
        let flows = self.flows.iter().flat_map(|flow| {
            let arrival = flow.arrivals.front().map(|&(at, ..)| at);
            let ack = flow.acks.front().map(|ack| ack.arrives);
            [arrival, ack, flow.ack_due, flow.wake, flow.probe_at, flow.lossy_at]
        });
        flows.chain([self.served]).flatten().min()
    }

    fn step(&mut self) {
        if self.served.is_some_and(|at| at <= self.now) {
            self.serve();
        }
        for index in 0..self.flows.len() {
            let (now, rtt, every) = (self.now, self.path.rtt, self.path.ack_every);
            let flow = &mut self.flows[index];
            flow.receive(now, rtt, every);
            let mut active = false;
            while let Some(ack) = flow.acks.pop_front_if(|ack| ack.arrives <= now) {
                flow.on_ack(now, ack.delay, &ack.packets);
                active = true;
            }
            if flow.lossy_at.is_some_and(|at| at <= now) {
                flow.detect_losses(now);
                active = true;
            }
            let probe = flow.probe_at.is_some_and(|at| at <= now);
            if active || probe || flow.wake.is_some_and(|at| at <= now) {
                self.send(index, probe);
            }
        }
    }

    fn serve(&mut self) {
        let packet = self.queue.pop_front().expect("it is served");
        if self.random() % 1_000_000 >= self.path.loss {
            let at = self.now + self.path.rtt / 2;
            self.flows[packet.flow].arrivals.push_back((at, packet.number, packet.marked));
        }
        self.served = (!self.queue.is_empty()).then(|| self.now + self.serving());
    }

    fn serving(&self) -> Duration {
        Duration::from_nanos(MTU * 1_000_000_000 / self.path.rate)
    }

    fn send(&mut self, index: usize, mut probe: bool) {
        let now = self.now;
        loop {
            let flow = &mut self.flows[index];
            if !flow.may_send(now, probe) {
                break;
            }
            probe = false;
            let number = flow.on_sent(now);
            let waiting = self.queue.len() as u64 * MTU;
            if waiting + MTU > self.path.buffer {
                self.seen.dropped += 1;
                continue;
            }
            let delay = self.serving() * self.queue.len() as u32;
            self.seen.packets += 1;
            self.seen.sum += delay;
            self.seen.longest = self.seen.longest.max(delay);
            let marked = self.path.mark.is_some_and(|mark| waiting > mark);
            self.queue.push_back(Packet { flow: index, number, marked });
            if self.served.is_none() {
                self.served = Some(now + self.serving());
            }
        }
    }
}

impl Flow {
    /// What a steady source did not write before now it does not write later.
    pub(super) fn restart_source(&mut self) {
        if let Source::Steady(rate) = self.source {
            let passed = self.last_sent - self.start;
            self.produced = (u128::from(rate) * passed.as_nanos() / 1_000_000_000) as u64;
        }
    }

    /// Whether a packet leaves now; if not, when to ask again.
    fn may_send(&mut self, now: Instant, probe: bool) -> bool {
        self.wake = None;
        if now < self.start {
            self.wake = Some(self.start);
            return false;
        }
        if self.stop.is_some_and(|at| now >= at) {
            return false;
        }
        if probe {
            return true;
        }
        if self.in_flight + MTU > self.control.window() {
            return false;
        }
        let elapsed = now - self.start;
        let (ready, again) = match self.source {
            Source::Bulk => (true, now),
            Source::Steady(rate) => {
                let due = self.start + Duration::from_nanos((self.produced + MTU) * 1_000_000_000 / rate);
                (due <= now, due)
            }
            Source::Bursts(ms) => {
                let into = elapsed.as_millis() as u64 % 10_000;
                (into < ms, now + Duration::from_millis(10_000 - into))
            }
        };
        if !ready {
            self.tracker.app_limited(self.in_flight);
            self.wake = Some(again);
            return false;
        }
        if let Some(rate) = self.control.pacing_rate()
            && let Err(again) = self.pacer.allow(now, MTU, rate, MTU as u16)
        {
            self.wake = Some(again);
            return false;
        }
        true
    }

    fn on_sent(&mut self, now: Instant) -> u64 {
        let stamp = self.tracker.on_sent(now, MTU, self.in_flight);
        self.in_flight += MTU;
        self.produced += MTU;
        self.pacer.on_sent(MTU);
        self.control.on_sent(now, MTU, self.in_flight, self.tracker.is_app_limited());
        self.sent.push_back(Some(Sent { at: now, stamp }));
        self.last_sent = now;
        self.probe_at = Some(now + self.rtt.pto_base() + Duration::from_millis(25));
        self.base + self.sent.len() as u64 - 1
    }

    fn receive(&mut self, now: Instant, rtt: Duration, every: usize) {
        let mut now_due = false;
        while let Some(&(at, number, marked)) = self.arrivals.front()
            && at <= now
        {
            self.arrivals.pop_front();
            self.last_arrival = now;
            self.received.push((number, marked));
            self.ack_due.get_or_insert(now + Duration::from_millis(10));
            if self.received.len() >= every {
                now_due = true;
            }
        }
        if now_due || self.ack_due.is_some_and(|at| at <= now) {
            self.ack_due = None;
            let delay = now - self.last_arrival;
            let packets = std::mem::take(&mut self.received);
            self.acks.push_back(Ack { arrives: now + rtt / 2, delay, packets });
        }
    }

    fn on_ack(&mut self, now: Instant, delay: Duration, packets: &[(u64, bool)]) {
        let prior_in_flight = self.in_flight;
        let mut acked = 0;
        let mut marks = 0;
        let mut newest = None;
        for &(number, marked) in packets {
            marks += u64::from(marked);
            let Some(sent) = number.checked_sub(self.base).and_then(|at| self.sent[at as usize].take())
            else {
                continue;
            };
            acked += MTU;
            self.tracker.on_acked(now, sent.at, MTU, &sent.stamp);
            newest = newest.max(Some((number, sent.at)));
        }
        let Some((number, largest_sent)) = newest else { return };
        self.in_flight -= acked;
        self.acked += acked;
        if self.largest_acked.is_none_or(|largest| number > largest) {
            self.largest_acked = Some(number);
            self.rtt.update(now, now - largest_sent, delay);
        }
        self.detect_losses(now);
        self.control.on_ack(&AckSample {
            now,
            acked,
            in_flight: self.in_flight,
            prior_in_flight,
            rtt: &self.rtt,
            rate: self.tracker.sample(now),
            delivered: self.tracker.delivered(),
            largest_sent,
            ecn_ce: marks,
        });
        self.probe_at =
            (self.in_flight > 0).then(|| self.last_sent + self.rtt.pto_base() + Duration::from_millis(25));
    }

    fn detect_losses(&mut self, now: Instant) {
        self.lossy_at = None;
        let Some(largest) = self.largest_acked else { return };
        let mut lost = 0;
        let mut at = 0;
        while self.base + at < largest {
            if let Some(sent) = &self.sent[at as usize] {
                let due = sent.at + self.rtt.loss_delay();
                if self.base + at + 3 > largest && due > now {
                    self.lossy_at = Some(due);
                    break;
                }
                self.tracker.on_lost(sent.at, MTU, &sent.stamp);
                self.sent[at as usize] = None;
                lost += MTU;
            }
            at += 1;
        }
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.base += 1;
        }
        self.in_flight -= lost;
        self.lost += lost;
        if let Some(loss) = self.tracker.loss(now, self.in_flight, false) {
            self.control.on_loss(&loss);
        }
    }
}
