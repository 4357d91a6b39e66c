//! The task of a connection: commands in, events out, bytes through. It owns what carries the channels.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use towline_mux::Reason;

use super::carrier::{Carrier, Event, Filled, PingId};
use super::channels::{Channels, Setting};
use super::command::Command;
use super::flow::{SendShare, Sweep};
use crate::error::CloseReason;

/// Commands handled before bytes are moved again.
const COMMANDS_PER_ROUND: usize = 256;

/// Counters others may look at.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) channels: AtomicUsize,
    /// One of the two sides takes no new channels.
    pub(crate) leaving: AtomicBool,
    /// No path works at the moment, and others are looked for.
    pub(crate) adrift: AtomicBool,
    /// Why the connection has ended, once it has.
    pub(crate) ended: OnceLock<CloseReason>,
}

/// How the connection is to end, once that is decided.
#[derive(Debug)]
enum Ending {
    /// It goes on.
    Open,
    /// No new channels; ends when the last is gone.
    Retiring,
    /// What the channels have written is still sent, as far as the peer takes it before the deadline.
    Draining { say: Reason, reason: CloseReason, deadline: Instant },
    /// The farewell is queued; ends when it is written, or at the deadline.
    Flushing { reason: CloseReason, deadline: Instant },
}

/// A connection at work.
pub(crate) struct Task {
    carrier: Carrier,
    channels: Channels,
    commands: mpsc::Receiver<Command>,
    sweep: Arc<Sweep>,
    share: Arc<SendShare>,
    counters: Arc<Counters>,
    pings: Vec<(PingId, oneshot::Sender<Duration>)>,
    timer: Pin<Box<Sleep>>,
    ending: Ending,
    close_timeout: Duration,
    /// Why the peer said it leaves.
    peer_leaves: Option<Reason>,
}

impl Task {
    pub(crate) fn new(
        carrier: Carrier,
        setting: Setting,
        commands: mpsc::Receiver<Command>,
        counters: Arc<Counters>,
    ) -> Self {
        let close_timeout = setting.limits.close_timeout;
        Self {
            carrier,
            sweep: Arc::clone(&setting.line.sweep),
            share: Arc::clone(&setting.line.share),
            channels: Channels::new(setting),
            commands,
            counters,
            pings: Vec::new(),
            timer: Box::pin(tokio::time::sleep_until(towline_net::now().into())),
            ending: Ending::Open,
            close_timeout,
            peer_leaves: None,
        }
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(mut self) -> CloseReason {
        let reason = match self.carrier.begin(towline_net::now()) {
            Ok(()) => poll_fn(|cx| self.poll(cx)).await,
            Err(reason) => reason,
        };
        let _ = self.counters.ended.set(reason.clone());
        self.channels.close(&mut self.carrier, towline_net::now(), &reason);
        self.counters.channels.store(0, Ordering::Relaxed);
        self.carrier.end(&reason).await;
        reason
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            let now = towline_net::now();
            let mut again = self.poll_commands(cx, now);
            if self.sweep.poll(cx.waker()) {
                self.sweep(now);
            }
            match self.poll_receive(cx, now) {
                Ok(more) => again |= more,
                Err(reason) => return Poll::Ready(reason),
            }
            if let Err(reason) = self.handle_events(now) {
                return Poll::Ready(reason);
            }
            match self.poll_send(cx, now) {
                Ok(wrote) => again |= !self.is_flushing() && self.carrier.is_unsettled(wrote),
                Err(reason) => return Poll::Ready(reason),
            }
            match self.ended(now) {
                Ended::No => {}
                Ended::Moved => again = true,
                Ended::Yes(reason) => return Poll::Ready(reason),
            }
            // Behind all that sets timers.
            again |= self.poll_timers(cx, now);
            if !again {
                return Poll::Pending;
            }
        }
    }

    /// True if there may be more.
    fn poll_commands(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        for _ in 0..COMMANDS_PER_ROUND {
            match self.commands.poll_recv(cx) {
                Poll::Ready(Some(command)) => self.handle_command(command, now),
                // The channels hold a sender as well, so this is the node going down.
                Poll::Ready(None) => {
                    self.begin_close(Reason::from(towline_mux::Code::GoingAway), CloseReason::Here, now);
                    return false;
                }
                Poll::Pending => return false,
            }
        }
        true
    }

    /// Handles drops that found no room in the queue and requests given up, behind the commands that were in it.
    fn sweep(&mut self, now: Instant) {
        let dropped = self.channels.sweep();
        for _ in 0..self.commands.len() {
            let Ok(command) = self.commands.try_recv() else { break };
            self.handle_command(command, now);
        }
        for (id, half) in dropped {
            self.channels.dropped(&mut self.carrier, now, id, half);
        }
        self.channels.withdraw_abandoned(&mut self.carrier, now);
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        let Self { carrier, channels, .. } = self;
        match command {
            Command::Open { name, options, reply } => channels.open(carrier, now, &name, options, reply),
            Command::Accept { id } => channels.accept(carrier, now, id),
            Command::Refuse { id, reason } => channels.refuse(carrier, now, id, &reason),
            Command::Write { id, chunk } => channels.write(carrier, now, id, chunk),
            Command::Finish { id } => channels.finish(carrier, now, id),
            Command::Consumed { id, bytes } => channels.consumed(carrier, now, id, bytes),
            Command::Reset { id, reason } => channels.reset(carrier, now, id, &reason),
            Command::SetPriority { id, priority } => carrier.set_priority(id, priority),
            Command::Dropped { id, half } => channels.dropped(carrier, now, id, half),
            Command::List { reply } => {
                let _ = reply.send(carrier.list());
            }
            Command::Links { reply } => {
                let _ = reply.send(carrier.links());
            }
            Command::View { reply } => {
                let _ = reply.send(carrier.view());
            }
            Command::Ping { reply } => {
                // Where it cannot be sent the reply is dropped, which the caller sees.
                if let Some(id) = carrier.ping(now) {
                    self.pings.push((id, reply));
                }
            }
            Command::NetworkChanged { host } => carrier.network_changed(now, &host),
            Command::Probe => carrier.probe(now),
            Command::Retire => {
                if matches!(self.ending, Ending::Open) {
                    carrier.go_away(now, Reason::from(towline_mux::Code::GoingAway));
                    self.counters.leaving.store(true, Ordering::Release);
                    self.ending = Ending::Retiring;
                }
            }
            Command::Close { reason } => self.begin_close(reason, CloseReason::Here, now),
            Command::Dismiss { reason } => self.dismiss(reason, now),
        }
    }

    fn begin_close(&mut self, say: Reason, reason: CloseReason, now: Instant) {
        if matches!(self.ending, Ending::Open | Ending::Retiring) {
            self.carrier.go_away(now, say.clone());
            self.counters.leaving.store(true, Ordering::Release);
            self.ending = Ending::Draining { say, reason, deadline: now + self.close_timeout };
        }
    }

    /// Nothing is read any more.
    fn is_flushing(&self) -> bool {
        matches!(self.ending, Ending::Flushing { .. })
    }

    /// Without a farewell to the channels: the peer gets nothing more than the end.
    fn dismiss(&mut self, reason: CloseReason, now: Instant) {
        if !self.is_flushing() {
            self.counters.leaving.store(true, Ordering::Release);
            self.carrier.close(now, &Reason::new(towline_mux::Code::Declined, "not admitted any more"));
            self.ending = Ending::Flushing { reason, deadline: now + self.close_timeout };
        }
    }

    /// Reads, if there is room for what comes. True if there may be more to do.
    fn poll_receive(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        if self.is_flushing() {
            return Ok(false);
        }
        let end = match self.carrier.poll_receive(cx, now) {
            Ok(moved) => return Ok(moved),
            Err(CloseReason::Fault(fault)) => return Err(CloseReason::Fault(fault)),
            Err(end) => end,
        };
        self.handle_events(now)?;
        Err(match (end, self.peer_leaves.take()) {
            (CloseReason::Peer, Some(reason)) => CloseReason::GoAway(reason),
            (end, _) => end,
        })
    }

    /// Does what is due, or waits for the next that will be. True if there was anything.
    fn poll_timers(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let deadline = match &self.ending {
            Ending::Draining { deadline, .. } | Ending::Flushing { deadline, .. } => Some(*deadline),
            Ending::Open | Ending::Retiring => None,
        };
        let due = self.carrier.poll_timeout();
        let next = [due, self.channels.poll_timeout(), deadline];
        let Some(next) = next.into_iter().flatten().min() else { return false };
        if next > now {
            // One that is set for a moment before is left so: while data flows the next moment moves on with every packet.
            if next < self.timer.deadline().into_std() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(next.into());
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return false;
            }
        }
        if due.is_some_and(|at| at <= now) {
            self.carrier.handle_timeout(now);
        }
        self.channels.handle_timeout(&mut self.carrier, now);
        // A deadline that has passed is seen by `ended`.
        deadline.is_none_or(|at| at > now)
    }

    /// Drains the events. True if there was any; an error if one of them is the end.
    fn handle_events(&mut self, now: Instant) -> Result<bool, CloseReason> {
        let mut any = false;
        while let Some(event) = self.carrier.poll_event(now) {
            any = true;
            match event {
                Event::Pong { id, rtt } => {
                    if let Some(at) = self.pings.iter().position(|(ping, _)| *ping == id) {
                        let _ = self.pings.swap_remove(at).1.send(rtt);
                    }
                }
                Event::GoAway { reason } => {
                    self.counters.leaving.store(true, Ordering::Release);
                    self.peer_leaves = Some(reason);
                    // So that it knows when the last request of ours has come.
                    self.carrier.go_away(now, Reason::from(towline_mux::Code::GoingAway));
                }
                Event::Dead => return Err(CloseReason::Dead),
                other => self.channels.handle_event(&mut self.carrier, now, other),
            }
        }
        Ok(any)
    }

    /// Writes what there is to write, portion by portion. True if anything was written.
    fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        let mut moved = false;
        loop {
            // When all is said there may be room for what the channels have parked.
            while self.carrier.fill(cx, now)? == Filled::All && self.handle_events(now)? {}
            if self.carrier.unsent() == 0 {
                break;
            }
            match self.carrier.poll_write(cx) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(failure)) => return Err(self.last_words(cx, now, failure)),
                Poll::Pending => break,
            }
            // Room again: writers that wait for it go on.
            self.handle_events(now)?;
        }
        self.carrier.settle();
        Ok(moved)
    }

    /// A peer that has closed takes nothing any more, but what it said before is here and worth reading. Returns its
    /// reason, if it gave one, or else `failure`.
    fn last_words(&mut self, cx: &mut Context<'_>, now: Instant, failure: CloseReason) -> CloseReason {
        loop {
            match self.poll_receive(cx, now) {
                Ok(true) => {}
                Ok(false) => return self.handle_events(now).err().unwrap_or(failure),
                Err(reason @ (CloseReason::Peer | CloseReason::GoAway(_))) => return reason,
                Err(_) => return failure,
            }
        }
    }

    /// Whether the connection is to end now, and takes the next step towards it.
    fn ended(&mut self, now: Instant) -> Ended {
        self.publish();
        let unsent = self.carrier.unsent();
        match &mut self.ending {
            Ending::Retiring
                // Before the peer has said so, too, requests of its may be under way.
                if self.peer_leaves.is_some()
                    && self.carrier.has_heard_all()
                    && self.channels.is_empty()
                    && !self.carrier.has_channels()
                    && unsent == 0 =>
            {
                Ended::Yes(CloseReason::Replaced)
            }
            Ending::Draining { say, reason, deadline } => {
                if *deadline > now && (self.carrier.owes() || unsent > 0 || self.channels.has_parked()) {
                    return Ended::No;
                }
                self.carrier.close(now, say);
                self.ending = Ending::Flushing { reason: reason.clone(), deadline: *deadline };
                Ended::Moved
            }
            Ending::Flushing { reason, deadline } if unsent == 0 || *deadline <= now => {
                Ended::Yes(reason.clone())
            }
            Ending::Open | Ending::Retiring | Ending::Flushing { .. } => Ended::No,
        }
    }

    fn publish(&self) {
        let (sent, received) = self.channels.totals();
        self.counters.sent.store(sent, Ordering::Relaxed);
        self.counters.received.store(received, Ordering::Relaxed);
        self.counters.adrift.store(self.carrier.is_adrift(), Ordering::Relaxed);
        let channels = self.channels.len();
        if self.counters.channels.swap(channels, Ordering::Relaxed) != channels {
            self.share.set_channels(channels);
        }
    }
}

/// See [`Task::ended`].
enum Ended {
    No,
    Moved,
    Yes(CloseReason),
}
