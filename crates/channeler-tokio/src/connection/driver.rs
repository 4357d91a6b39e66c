//! The task that drives a connection, and how any task sends what there is to send.

use std::{
    pin::Pin,
    sync::{Arc, MutexGuard},
    task::{Context, Poll},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};
use towline_channeler::{Route, Transmit};

use super::{Connection, Held, Shared, State, TICK};
use crate::{Wakes, endpoint::burst, socket::Socket, wakes::wake_last};

/// Batches that a task sends before others get their turn: at most 64 KiB each.
const BATCHES: usize = 16;

/// The most bytes that a system takes for one batch of datagrams.
const BATCH: usize = 65_000;

/// Writers that are let go on at once.
const WRITERS: usize = 8;

/// Times that the driver looks again before it lets others run.
const ROUNDS: usize = 8;

/// Runs when a timer is due, when the program did something, and when a socket has room again.
pub(super) struct Driver {
    shared: Arc<Shared>,
    sleep: Pin<Box<Sleep>>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, sleep: Box::pin(sleep_until(towline_net::now().into())) }
    }

    /// Waits for this moment. Whether it has come.
    fn wait(&mut self, cx: &mut Context<'_>, state: &mut State, at: Instant) -> bool {
        // A timer that fires too early is set anew then, which is cheaper than to set it with every packet.
        if state.armed.is_none_or(|armed| at + TICK < armed) {
            self.sleep.as_mut().reset(at.into());
            state.armed = Some(at);
        }
        let fired = self.sleep.as_mut().poll(cx).is_ready();
        if fired {
            state.armed = None;
        }
        fired
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let shared = Arc::clone(&this.shared);
        let mut wakes = Wakes::default();
        let mut state = shared.lock();
        state.kicked = false;
        super::slot::park(&mut state.driver, cx);
        (state.unsent, state.consumed) = (0, 0);
        // Not all of them at once, or most would find that others were faster.
        for _ in 0..WRITERS.min(state.unsent_writers.len()) {
            let Some(channel) = state.unsent_writers.pop_front() else { break };
            let Some(slot) = state.channels.get_mut(&channel) else { continue };
            slot.queued = false;
            wakes.extend(slot.write.take());
        }
        if !state.unsent_writers.is_empty() {
            wakes.extend(state.kick());
        }
        let mut rounds = 0;
        let outcome = loop {
            let now = towline_net::now();
            if state.inner.poll_timeout().is_some_and(|at| at <= now) {
                state.inner.handle_timeout(now);
            }
            state.take_leave(now);
            state = shared.transmit(state, &mut wakes);
            if state.gone {
                break Poll::Ready(());
            }
            let Some(at) = state.deadline() else {
                break Poll::Pending;
            };
            if at > now && !this.wait(cx, &mut state, at) {
                break Poll::Pending;
            }
            rounds += 1;
            if rounds == ROUNDS {
                state.kicked = true;
                cx.waker().wake_by_ref();
                break Poll::Pending;
            }
        };
        if outcome.is_ready() {
            state.streams.values_mut().for_each(|outlet| outlet.close(&mut wakes));
        }
        shared.finish(state, wakes);
        outcome
    }
}

impl Shared {
    /// Takes in what the connection has to say, and sends what it has to send.
    pub(crate) fn flush(self: &Arc<Self>) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.settle(self, &mut wakes);
        let gathers = state.inner.may_gather(towline_net::now());
        if !gathers {
            state = self.transmit(state, &mut wakes);
        }
        let next = state.inner.poll_timeout();
        let sooner = next.is_some_and(|next| state.armed.is_none_or(|armed| next + TICK < armed));
        let driver = if gathers || sooner { state.kick() } else { None };
        self.finish(state, wakes);
        driver.iter().for_each(wake_last);
    }

    /// What must be done without the lock.
    fn finish(self: &Arc<Self>, mut state: MutexGuard<'_, State>, mut wakes: Wakes) {
        let offer = state.offer();
        drop(state);
        wakes.wake();
        if offer && let Err((connection, code)) = self.endpoint.offer(Connection::owner(Arc::clone(self))) {
            connection.close(code, "");
        }
    }

    /// Sends until there is nothing to send, or for one turn. Only one task does so at a time, or packets would overtake one
    /// another; the others find their work done. The lock is not held while the system works.
    pub(super) fn transmit<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        wakes: &mut Wakes,
    ) -> MutexGuard<'a, State> {
        state.settle(self, wakes);
        if std::mem::replace(&mut state.sending, true) {
            return state;
        }
        let mut segments = BATCH / self.endpoint.max_mtu;
        if let Some(least) = state.sockets.iter().map(|socket| socket.io.max_segments()).min() {
            segments = segments.min(least).max(1);
        }
        for batch in 0.. {
            if batch == BATCHES {
                wakes.extend(state.kick());
                break;
            }
            while std::mem::take(&mut state.room) {
                state = self.send_held(state);
            }
            let now = towline_net::now();
            let mut packets = std::mem::take(&mut state.packets);
            packets.clear();
            let Some(transmit) = state.inner.poll_transmit(now, segments, &mut packets) else {
                state.packets = packets;
                break;
            };
            match transmit.route {
                Route::Stream(number) => {
                    state.leave_for_stream(now, number, &mut packets, wakes);
                    state.packets = packets;
                }
                // A link may have moved here, or begun anew, while packets of another wait.
                Route::Datagram { .. } if state.holds(transmit.route) => state.hold(transmit, packets),
                Route::Datagram { socket, .. } => match state.socket(self, socket) {
                    None => {
                        state.inner.link_lost(now, transmit.route);
                        state.packets = packets;
                    }
                    Some(socket) => {
                        drop(state);
                        wakes.wake();
                        let sent = socket.send(self, &burst(&transmit, &packets));
                        state = self.lock();
                        if sent {
                            state.packets = packets;
                        } else {
                            state.hold(transmit, packets);
                        }
                    }
                },
            }
        }
        state.sending = false;
        state.settle(self, wakes);
        state
    }

    /// Tries again what there was no room for: for each route in order, and no further than there is room. Only for the task that
    /// sends.
    fn send_held<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let mut refused = Vec::new();
        for _ in 0..state.held.len() {
            let Some(Held { transmit, payload }) = state.held.pop_front() else { break };
            let Route::Datagram { socket, .. } = transmit.route else { continue };
            let Some(socket) = state.socket(self, socket) else { continue };
            if refused.contains(&transmit.route) {
                state.held.push_back(Held { transmit, payload });
                continue;
            }
            drop(state);
            let sent = socket.send(self, &burst(&transmit, &payload));
            state = self.lock();
            if !sent {
                refused.push(transmit.route);
                state.held.push_back(Held { transmit, payload });
            } else if !state.holds(transmit.route) {
                state.inner.set_ready(transmit.route, true);
            }
        }
        state
    }
}

impl State {
    /// A socket by its number, as it was found before.
    fn socket(&mut self, shared: &Shared, number: u16) -> Option<Arc<Socket>> {
        if let Some(known) = self.sockets.iter().find(|known| known.number == number) {
            return Some(Arc::clone(known));
        }
        let socket = shared.endpoint.socket(number)?;
        self.sockets.push(Arc::clone(&socket));
        Some(socket)
    }

    /// Whether packets for this route wait.
    fn holds(&self, route: Route) -> bool {
        self.held.iter().any(|held| held.transmit.route == route)
    }

    /// Keeps packets until there is room, and asks for no more of that route.
    fn hold(&mut self, transmit: Transmit, payload: Vec<u8>) {
        self.inner.set_ready(transmit.route, false);
        self.held.push_back(Held { transmit, payload });
    }
}
