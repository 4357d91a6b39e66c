//! One direction of a wire: what it does to packets.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};
use towline_channeler::Ecn;

/// Bytes of IPv4 and UDP headers before every datagram: they take their time on the wire, too.
pub const HEADERS: usize = 28;

/// Losses in bursts (Gilbert and Elliott): a good state without loss, a bad one in which all is lost.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// Chance per packet to fall into the bad state.
    pub begin: f64,
    /// Chance per packet to leave it: one by the mean length of a burst.
    pub end: f64,
}

impl Burst {
    /// This share of packets is lost, in bursts of `length` packets on average.
    pub fn of(share: f64, length: f64) -> Self {
        let end = 1.0 / length;
        Self { begin: end * share / (1.0 - share), end }
    }
}

/// Times in which nothing passes, of exponential length.
#[derive(Clone, Copy, Debug)]
pub struct Fades {
    /// Mean time from the end of one to the beginning of the next.
    pub every: Duration,
    /// Mean length of one.
    pub length: Duration,
}

/// Packets that are overtaken.
#[derive(Clone, Copy, Debug)]
pub struct Reorder {
    /// The share of them.
    pub share: f64,
    /// How much longer they take.
    pub by: Duration,
}

/// What one direction is like. `Default` is a wire that neither loses nor waits.
#[derive(Clone, Debug)]
pub struct Path {
    /// From one end to the other, without queues.
    pub delay: Duration,
    /// Up to so much more, without overtaking.
    pub jitter: Duration,
    /// Bytes per second, headers included; none: no limit.
    pub rate: Option<u64>,
    /// Bytes that wait for the wire before packets are dropped.
    pub queue: usize,
    /// Nothing waits: what exceeds the rate, and a bucket of `queue` bytes that fills at it, is dropped.
    pub policed: bool,
    /// Share of packets that vanish.
    pub loss: f64,
    /// Losses in bursts, beside the others.
    pub burst: Option<Burst>,
    /// Losses of all packets for short times, as radio has them.
    pub fades: Option<Fades>,
    /// Packets that are overtaken.
    pub reorder: Option<Reorder>,
    /// Share of packets that arrive twice.
    pub duplicate: f64,
    /// Share of packets with one bit turned over.
    pub corrupt: f64,
    /// Longest datagram that passes; a longer one vanishes.
    pub mtu: usize,
    /// Bytes in the queue above which packets are marked, where their sender understands marks.
    pub mark_above: Option<usize>,
    /// Datagrams within this range of lengths vanish.
    pub hole: Option<(usize, usize)>,
    /// What arrives comes in lumps, at multiples of this time: radios gather packets, and so do lazy acknowledgements.
    pub lumps: Duration,
    /// Whether anything passes.
    pub up: bool,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            queue: 1 << 20,
            policed: false,
            loss: 0.0,
            burst: None,
            fades: None,
            reorder: None,
            duplicate: 0.0,
            corrupt: 0.0,
            mtu: 1500,
            mark_above: None,
            hole: None,
            lumps: Duration::ZERO,
            up: true,
        }
    }
}

impl Path {
    /// Half of this round trip each way, no limit of rate.
    pub fn rtt(milliseconds: u64) -> Self {
        Self { delay: Duration::from_micros(milliseconds * 500), ..Self::default() }
    }

    /// So many megabits per second, with a queue of one product of bandwidth and this round trip, at least 20 packets.
    pub fn bottleneck(megabits: u64, rtt_milliseconds: u64) -> Self {
        let rate = megabits * 1_000_000 / 8;
        let product = usize::try_from(rate * rtt_milliseconds / 1000).unwrap();
        Self { rate: Some(rate), queue: product.max(30_000), ..Self::rtt(rtt_milliseconds) }
    }

    pub fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }
}

/// What was done to the packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: u64,
    pub bytes: u64,
    pub arrived: u64,
    /// By chance, by a hole, or because the wire was down.
    pub lost: u64,
    /// By a full queue.
    pub overflowed: u64,
    pub marked: u64,
}

/// One packet as it comes out at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    pub at: Instant,
    pub ecn: Option<Ecn>,
    /// The bit that is turned over.
    pub turned: Option<usize>,
}

/// One direction of a wire.
#[derive(Debug)]
pub struct Way {
    pub path: Path,
    pub tally: Tally,
    /// When the wire will have sent all that was given to it, by this way and those that it shares its queue with.
    free_at: Rc<Cell<Option<Instant>>>,
    began: Option<Instant>,
    last_arrival: Option<Instant>,
    in_burst: bool,
    /// When the next or present fade begins and ends.
    fade: Option<(Instant, Instant)>,
}

impl Way {
    pub fn new(path: Path) -> Self {
        Self {
            path,
            tally: Tally::default(),
            free_at: Rc::default(),
            began: None,
            last_arrival: None,
            in_burst: false,
            fade: None,
        }
    }

    fn fades(&mut self, now: Instant, rng: &mut StdRng) -> bool {
        let Some(fades) = self.path.fades else { return false };
        let mut random = |mean: Duration| mean.mul_f64(-f64::ln(1.0 - rng.random_range(0.0..1.0)));
        let (mut begin, mut end) = self.fade.unwrap_or((now, now));
        while now >= end {
            begin = end + random(fades.every);
            end = begin + random(fades.length);
        }
        self.fade = Some((begin, end));
        now >= begin
    }

    /// From now on both stand in one queue. The worlds they belong to must go through time together.
    pub fn share_queue(&mut self, other: &Self) {
        self.free_at = other.free_at.clone();
    }

    /// How long a packet that is sent now waits before it is on the wire.
    pub fn waiting(&self, now: Instant) -> Duration {
        self.free_at.get().map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// From now on it takes so many bytes per second. What waits already is sent at that rate, too.
    pub fn set_rate(&mut self, now: Instant, rate: u64) {
        let waiting = self.queued(now) as u64;
        self.path.rate = Some(rate);
        self.free_at.set(Some(now + Duration::from_nanos(waiting * 1_000_000_000 / rate)));
    }

    /// Bytes in the queue.
    pub fn queued(&self, now: Instant) -> usize {
        let waiting = self.waiting(now);
        self.path.rate.map_or(0, |rate| (waiting.as_nanos() * u128::from(rate) / 1_000_000_000) as usize)
    }

    /// What becomes of a datagram of this many bytes: it arrives not at all, once or twice.
    pub fn carry(
        &mut self,
        now: Instant,
        len: usize,
        ecn: Option<Ecn>,
        rng: &mut StdRng,
    ) -> [Option<Fate>; 2] {
        self.tally.sent += 1;
        self.tally.bytes += (len + HEADERS) as u64;
        let faded = self.fades(now, rng);
        let path = &self.path;
        self.in_burst = path.burst.is_some_and(|burst| {
            let chance = if self.in_burst { burst.end } else { burst.begin };
            self.in_burst ^ rng.random_bool(chance)
        });
        let hole = path.hole.is_some_and(|(from, to)| (from..=to).contains(&len));
        if !path.up || hole || len > path.mtu {
            self.tally.lost += 1;
            return [None, None];
        }
        let mut ecn = ecn;
        let mut at = now;
        if let Some(rate) = path.rate {
            let queued = self.queued(now);
            if queued + len + HEADERS > path.queue.max(len + HEADERS) {
                self.tally.overflowed += 1;
                return [None, None];
            }
            if ecn.is_some() && path.mark_above.is_some_and(|above| queued > above) {
                ecn = Some(Ecn::Ce);
                self.tally.marked += 1;
            }
            let took = Duration::from_nanos((len + HEADERS) as u64 * 1_000_000_000 / rate);
            let sent = self.free_at.get().map_or(now, |free| free.max(now)) + took;
            self.free_at.set(Some(sent));
            if !path.policed {
                at = sent;
            }
        }
        if self.in_burst || faded || rng.random_bool(path.loss) {
            self.tally.lost += 1;
            return [None, None];
        }
        at += path.delay;
        if !path.jitter.is_zero() {
            at += path.jitter.mul_f64(rng.random_range(0.0..1.0));
            at = at.max(self.last_arrival.unwrap_or(at));
            self.last_arrival = Some(at);
        }
        if let Some(reorder) = path.reorder
            && rng.random_bool(reorder.share)
        {
            at += reorder.by;
        }
        if !path.lumps.is_zero() {
            let began = *self.began.get_or_insert(now);
            let lumps = (at - began).as_nanos().div_ceil(path.lumps.as_nanos());
            at = began + path.lumps * u32::try_from(lumps).unwrap();
        }
        let turned = rng.random_bool(path.corrupt).then(|| rng.random_range(0..len * 8));
        self.tally.arrived += 1;
        let again = rng.random_bool(path.duplicate).then(|| Fate {
            at: at + Duration::from_micros(rng.random_range(1..20_000)),
            ecn,
            turned: None,
        });
        [Some(Fate { at, ecn, turned }), again]
    }
}
