//! Pings, round trips, and whether the peer is still there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::{KeepAlive, PingId};

/// Pings that may wait for an answer at once.
const MAX_PINGS: usize = 64;

#[derive(Debug)]
pub(crate) struct Liveness {
    keep_alive: Option<KeepAlive>,
    probe_timeout: Duration,
    /// When the last byte came.
    heard: Instant,
    /// When the keep-alive ping was sent that nothing was heard since.
    asked: Option<Instant>,
    /// The newest probe, and when the peer is dead without an answer to it.
    probe: Option<(PingId, Instant)>,
    dead: bool,
    next: u64,
    pings: VecDeque<Ping>,
    rtt: Option<Duration>,
    floor: Floor,
    /// When the round trip was last asked for.
    measured: Option<Instant>,
}

#[derive(Debug)]
struct Ping {
    id: PingId,
    /// `None` until it leaves.
    sent: Option<Instant>,
    /// The application asked for it.
    told: bool,
}

/// The shortest round trip of the last quarter to half minute.
#[derive(Debug)]
struct Floor {
    since: Instant,
    current: Option<Duration>,
    previous: Option<Duration>,
}

impl Floor {
    const PERIOD: Duration = Duration::from_secs(15);

    fn new(now: Instant) -> Self {
        Self { since: now, current: None, previous: None }
    }

    fn add(&mut self, now: Instant, sample: Duration) {
        if now.saturating_duration_since(self.since) >= Self::PERIOD {
            self.since = now;
            self.previous = self.current.take();
        }
        self.current = Some(self.current.map_or(sample, |current| current.min(sample)));
    }

    fn get(&self) -> Option<Duration> {
        self.current.into_iter().chain(self.previous).min()
    }
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Send a keep-alive ping.
    Ask,
    Dead,
}

/// The answer to a ping.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: PingId,
    pub(crate) rtt: Duration,
    /// To be reported.
    pub(crate) told: bool,
}

impl Liveness {
    pub(crate) fn new(keep_alive: Option<KeepAlive>, probe_timeout: Duration, now: Instant) -> Self {
        Self {
            keep_alive,
            probe_timeout,
            heard: now,
            asked: None,
            probe: None,
            dead: false,
            next: 0,
            pings: VecDeque::new(),
            rtt: None,
            floor: Floor::new(now),
            measured: None,
        }
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// The round trip without the queues that our own data makes.
    pub(crate) fn rtt_floor(&self) -> Option<Duration> {
        self.floor.get()
    }

    /// Whether the round trip should be measured again: about every second while data flows.
    pub(crate) fn is_stale(&self, now: Instant) -> bool {
        self.measured.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(1))
    }

    /// Registers a ping that is about to be queued; `None` if too many are outstanding.
    pub(crate) fn ping(&mut self, now: Instant, told: bool) -> Option<PingId> {
        if self.pings.len() >= MAX_PINGS {
            return None;
        }
        let id = PingId(self.next);
        self.next += 1;
        self.measured = Some(now);
        self.pings.push_back(Ping { id, sent: None, told });
        Some(id)
    }

    pub(crate) fn probe(&mut self, now: Instant, id: PingId) {
        self.probe = Some((id, now + self.probe_timeout));
    }

    /// The oldest ping that has not left leaves now.
    pub(crate) fn ping_left(&mut self, now: Instant) {
        if let Some(ping) = self.pings.iter_mut().find(|ping| ping.sent.is_none()) {
            ping.sent = Some(now);
        }
    }

    /// An answer came, to the ping with `nonce`, or where answers carry none to the oldest. `None` if nobody
    /// asked.
    pub(crate) fn pong(&mut self, now: Instant, nonce: Option<u64>) -> Option<Answer> {
        let at = match nonce {
            Some(nonce) => self.pings.iter().position(|ping| ping.id.0 == nonce)?,
            None => 0,
        };
        let sent = self.pings.get(at)?.sent?;
        let ping = self.pings.remove(at)?;
        let sample = now.saturating_duration_since(sent);
        self.floor.add(now, sample);
        // A shorter round trip is believed at once, a longer one may be a queue.
        self.rtt = Some(match self.rtt {
            Some(smooth) if smooth < sample => (smooth * 7 + sample) / 8,
            _ => sample,
        });
        if self.probe.is_some_and(|(probe, _)| probe.0 <= ping.id.0) {
            self.probe = None;
        }
        Some(Answer { id: ping.id, rtt: sample, told: ping.told })
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.dead {
            return None;
        }
        let keep_alive = self.keep_alive.map(|keep| match self.asked {
            Some(asked) => asked + keep.timeout,
            None => self.heard + keep.interval,
        });
        [self.probe.map(|(_, at)| at), keep_alive].into_iter().flatten().min()
    }

    /// What is due at `now`. While we do not read (`deaf`), or cannot ask (`mute`), silence proves nothing.
    pub(crate) fn due(&mut self, now: Instant, deaf: bool, mute: bool) -> Due {
        if self.dead {
            return Due::Nothing;
        }
        if let Some((_, at)) = &mut self.probe
            && *at <= now
        {
            if !deaf {
                self.dead = true;
                return Due::Dead;
            }
            *at = now + self.probe_timeout;
        }
        let Some(keep) = self.keep_alive else { return Due::Nothing };
        if deaf || mute {
            self.heard(now.max(self.heard));
            return Due::Nothing;
        }
        match self.asked {
            Some(asked) if asked + keep.timeout <= now => {
                self.dead = true;
                Due::Dead
            }
            None if self.heard + keep.interval <= now => {
                self.asked = Some(now);
                Due::Ask
            }
            _ => Due::Nothing,
        }
    }
}
