//! A connection that moves: its addresses change, or its paths fall silent, and both sides find new ones without losing it.
//!
//! A restart (RFC 8445 section 9) has a number, its round. Who restarts goes on to the next round and tells its description; who
//! hears of a later round than its own restarts, too, and answers with a description of the same round. If both begin at once they
//! begin the same round, and each takes the other's description for the answer. What comes of an earlier round is of no use any
//! more.
//!
//! Descriptions travel on the connection, and where nothing of it works by the DHT, as the first ones did. Old paths are used until
//! new ones work.

use std::time::{Duration, Instant};

use towline_ice::{Credentials, Description, Trickle};

use super::Bundle;
use super::control::Message;
use super::thinning::Thinning;
use crate::connection::carrier::Event;
use crate::error::CloseReason;
use crate::path::HostNow;
use crate::signal::Further;
use crate::tokens::Tokens;

/// Silence of all links after which others are looked for. They have missed a timeout already, which knows of queues on the way.
const GRACE: Duration = Duration::from_secs(1);
/// What came in so many portions was a flow; it is made sure that it has ended, and not its path, after this silence.
const FLOW: u32 = 32;
const LULL: Duration = Duration::from_secs(1);
/// The shortest time between two restarts that this side begins; while nothing works it doubles with each, up to
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// How long the peer may take to answer a restart over the connection before it is told by the DHT, too.
const ANSWER: Duration = Duration::from_secs(2);
/// Restarts of the peer that are followed at once, and after which pause another.
const FOLLOWED: u32 = 16;
const FOLLOWED_PAUSE: Duration = Duration::from_secs(5);
/// A peer that has ended a path and answers on no other has moved or is gone. It has this long to come back.
const DOUBT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Moves {
    round: u32,
    /// The peer's description of this round is known.
    met: bool,
    /// Restarts of the peer.
    followed: Tokens,
    /// How long a connection without a working path lives.
    limit: Duration,
    /// When the last restart began, of whichever side.
    last: Option<Instant>,
    /// When this side begins the next.
    due: Option<Instant>,
    /// When the peer is told by the DHT, too, if it has not answered.
    by_dht: Option<Instant>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Something works.
    Steady,
    /// Nothing answers since then.
    Silent(Instant),
    /// New paths are looked for, until then. This many restarts were begun for it, and then comes the next.
    Adrift { until: Instant, tries: u32, again: Option<Instant> },
}

/// The peer restarts too often.
#[derive(Debug)]
struct TooMany;

impl Moves {
    pub(super) fn new(now: Instant, limit: Duration) -> Self {
        Self {
            round: 0,
            met: true,
            followed: Tokens::new(FOLLOWED, FOLLOWED_PAUSE, now),
            limit,
            last: None,
            due: None,
            by_dht: None,
            state: State::Steady,
        }
    }

    pub(super) fn is_adrift(&self) -> bool {
        matches!(self.state, State::Adrift { .. })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Steady => None,
            State::Silent(since) => Some(since + GRACE),
            State::Adrift { until, again, .. } => Some(again.map_or(until, |again| again.min(until))),
        };
        [state, self.due, self.by_dht].into_iter().flatten().min()
    }

    /// A restart is to begin as soon as may be.
    fn restart_soon(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| last + PAUSE).max(now);
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    fn drift(&mut self, now: Instant, limit: Duration) {
        if !self.is_adrift() {
            tracing::debug!("no path works: looking for others");
            self.state = State::Adrift { until: now + limit, tries: 0, again: None };
            self.restart_soon(now);
        }
    }
}

impl Bundle {
    /// The host's addresses may have changed.
    pub(crate) fn network_changed(&mut self, now: Instant, host: &HostNow) {
        let change = self.wires.rebind(now, host);
        self.inner.network_changed(now);
        if change == super::wires::Change::default() {
            return;
        }
        // The peer is heard again from where we are now.
        (self.heard, self.asked, self.probe) = (now, false, None);
        self.tend_links(now);
        if self.wires.paths().next().is_none() {
            self.moves.drift(now, self.moves.limit);
        }
        self.moves.restart_soon(now);
    }

    /// When a flow that has come to an end is looked into. Who only receives has nothing on its way that would be missed: a path
    /// that broke looks to it like a peer that has said all.
    pub(super) fn lull(&self) -> Option<Instant> {
        (self.came >= FLOW && !self.links.silent).then(|| self.heard + LULL)
    }

    /// Asks for a sign of life that nobody waits for. It has a number as all have: an answer to it that is still under way
    /// answers no question that is asked later.
    pub(super) fn look_in(&mut self) {
        if self.control.say(&Message::Ping(self.next_ping)) {
            self.next_ping += 1;
        }
    }

    /// Nobody answered the question whether the peer that ended a path is still there.
    pub(super) fn on_doubt(&mut self, now: Instant) {
        let limit = if self.moves.last.is_some_and(|last| now < last + self.moves.limit) {
            self.moves.limit
        } else {
            DOUBT
        };
        self.moves.drift(now, limit);
    }

    /// Looks after a connection whose paths do not work, and after restarts. True if anything was done.
    pub(super) fn tend_moves(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(trickle) = self.wires.outward.poll_untold() {
            moved = true;
            if self.links.silent {
                self.wires.outward.tell_by_dht(trickle.clone().into());
            }
            self.say_candidates(trickle);
        }
        while let Some((round, description)) = self.wires.outward.poll_restart() {
            moved = true;
            // Too many are as if nobody had said anything: the DHT may hold what was said before.
            let _ = self.on_restart(now, round, description, true);
        }
        match self.moves.state {
            _ if !self.links.silent => self.moves.state = State::Steady,
            State::Steady => self.moves.state = State::Silent(now),
            State::Silent(since) if now >= since + GRACE => self.moves.drift(now, self.moves.limit),
            State::Adrift { until, .. } if now >= until => {
                self.moves.state = State::Silent(now);
                self.moves.due = None;
                self.events.push_back(Event::Dead);
                moved = true;
            }
            State::Silent(_) | State::Adrift { .. } => {}
        }
        let again = if let State::Adrift { again, .. } = self.moves.state { again } else { None };
        if [self.moves.due, again].into_iter().flatten().any(|at| at <= now) {
            self.begin_restart(now);
            moved = true;
        }
        if self.moves.by_dht.is_some_and(|at| at <= now) {
            self.moves.by_dht = None;
            if !self.moves.met {
                self.tell_by_dht();
            }
        }
        moved
    }

    fn begin_restart(&mut self, now: Instant) {
        self.moves.due = None;
        if let State::Adrift { tries, again, .. } = &mut self.moves.state {
            *again = Some(now + LONGEST_PAUSE.min(PAUSE * (2 << (*tries).min(8))));
            *tries += 1;
            self.wires.outward.doubt(now);
        }
        // Without an address there is nothing to say; one that comes is told at once.
        let Some(round) = self.moves.round.checked_add(1).filter(|_| self.wires.has_address()) else {
            return;
        };
        self.enter(now, round);
        self.tell(now);
    }

    fn enter(&mut self, now: Instant, round: u32) {
        (self.moves.round, self.moves.met, self.moves.last) = (round, false, Some(now));
        self.wires.restart(now);
        self.thinning = Thinning::new(now);
    }

    /// The peer's description of a round.
    fn on_restart(
        &mut self,
        now: Instant,
        round: u32,
        description: Description,
        by_dht: bool,
    ) -> Result<(), TooMany> {
        if round < self.moves.round || round == 0 {
            return Ok(());
        }
        if round > self.moves.round {
            if !self.moves.followed.take(now) {
                return Err(TooMany);
            }
            self.enter(now, round);
            self.tell(now);
            if by_dht && !self.links.silent {
                self.tell_by_dht();
            }
            // It would not say so if all was well.
            self.inner.network_changed(now);
        } else if self.moves.met && self.wires.agent.is_restart(&description) {
            return Ok(());
        }
        self.moves.met = true;
        self.wires.take_restart(now, description);
        Ok(())
    }

    /// Tells the peer our description of this round.
    fn tell(&mut self, now: Instant) {
        let Description { credentials, candidates } = self.wires.agent.local_description();
        let ufrag = credentials.ufrag().to_owned();
        self.control.say(&Message::Restart { round: self.moves.round, credentials });
        self.say_candidates(Trickle { ufrag, candidates, end: false });
        if self.links.silent || self.moves.is_adrift() {
            self.tell_by_dht();
        } else {
            self.moves.by_dht = Some(now + ANSWER);
        }
    }

    fn tell_by_dht(&self) {
        let description = self.wires.agent.local_description();
        self.wires.outward.tell_by_dht(Further::restart(self.moves.round, description));
    }

    fn say_candidates(&mut self, trickle: Trickle) {
        let Trickle { ufrag, candidates, end } = trickle;
        for candidate in candidates {
            let one = Trickle { ufrag: ufrag.clone(), candidates: vec![candidate], end: false };
            self.control.say(&Message::Candidates(one));
        }
        if end {
            self.control.say(&Message::Candidates(Trickle { ufrag, candidates: Vec::new(), end }));
        }
    }

    /// A restart that the peer told on the connection.
    pub(super) fn heed_restart(&mut self, now: Instant, round: u32, credentials: Credentials) {
        let description = Description { credentials, candidates: Vec::new() };
        if self.on_restart(now, round, description, false).is_err() {
            self.fault = Some(CloseReason::TooManyRestarts);
        }
    }
}
