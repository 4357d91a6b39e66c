//! One connection as its tasks share it.

mod driver;
mod feed;
mod handle;
mod slot;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use towline_channeler::{
    Capabilities, ChannelId, Code, ConnectionError, ConnectionHandle, Event, LinkStatus, Reason, Route, Side,
    Transmit,
};

use self::feed::Feeds;
use self::slot::Waiters;
pub use self::{
    feed::{Events, News},
    handle::{Connection, Incoming, LinkError},
};
pub(crate) use self::{
    handle::Owner,
    slot::{Place, Slot, park},
};
use crate::{Wakes, endpoint, lock, socket::Socket, stream::Outlet, wakes::wake_last};

/// How long a connection whose handles were dropped may take to deliver what was finished.
const LINGER: Duration = Duration::from_secs(5);

/// Deadlines that lie closer together are one: timers have whole milliseconds.
const TICK: Duration = Duration::from_micros(500);

/// A connection as endpoint, driver, links and handles share it.
///
/// Who holds its lock may take that of the endpoint; the other way round is forbidden.
pub(crate) struct Shared {
    pub(crate) endpoint: Arc<endpoint::Shared>,
    pub(crate) number: ConnectionHandle,
    state: Mutex<State>,
    /// It is complete, it ended, or one of its links is another.
    pub(crate) changed: Notify,
    /// Packets came while somebody waits for the peer to allow something.
    pub(crate) progress: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("number", &self.number).finish_non_exhaustive()
    }
}

/// A channel of the peer that nobody has accepted yet.
pub(crate) struct Opened {
    pub(crate) channel: ChannelId,
    pub(crate) capabilities: Capabilities,
    pub(crate) label: Vec<u8>,
}

/// Packets that the system had no room for.
struct Held {
    transmit: Transmit,
    payload: Vec<u8>,
}

pub(crate) struct State {
    pub(crate) inner: towline_channeler::Connection,
    pub(crate) channels: BTreeMap<ChannelId, Slot>,
    pub(crate) incoming: VecDeque<Opened>,
    /// Those who wait for one.
    acceptors: Waiters,
    pub(crate) streams: BTreeMap<u32, Outlet>,
    pub(crate) connected: bool,
    pub(crate) error: Option<ConnectionError>,
    /// Waits for something that the peer must allow first.
    pub(crate) waiting: usize,
    pub(crate) feeds: Feeds,
    /// Bytes written to channels since the driver ran.
    pub(crate) unsent: usize,
    /// Channels whose writer waits until it has run, each once.
    unsent_writers: VecDeque<ChannelId>,
    /// Bytes read from channels since it ran.
    pub(crate) consumed: usize,
    driver: Option<Waker>,
    /// The driver was told to run and has not yet.
    kicked: bool,
    /// When the driver's timer fires.
    armed: Option<Instant>,
    /// One of the tasks sends what there is to send.
    sending: bool,
    /// Where packets are written.
    packets: Vec<u8>,
    /// In the order in which they are to go. What has the route of one of them waits behind it.
    held: VecDeque<Held>,
    /// A socket has room again for what is held.
    room: bool,
    sockets: Vec<Arc<Socket>>,
    /// The program has dropped all that it had of the connection; until then it may deliver.
    abandoned: Option<Instant>,
    offered: bool,
    gone: bool,
}

impl Shared {
    /// Makes a connection known to the tasks, and starts the one that drives it.
    pub(crate) fn spawn(
        endpoint: Arc<endpoint::Shared>,
        number: ConnectionHandle,
        inner: towline_channeler::Connection,
    ) -> Arc<Self> {
        let state = State {
            inner,
            channels: BTreeMap::new(),
            incoming: VecDeque::new(),
            acceptors: Waiters::default(),
            streams: BTreeMap::new(),
            connected: false,
            error: None,
            waiting: 0,
            feeds: Feeds::default(),
            unsent: 0,
            unsent_writers: VecDeque::new(),
            consumed: 0,
            driver: None,
            kicked: false,
            armed: None,
            sending: false,
            packets: Vec::new(),
            held: VecDeque::new(),
            room: false,
            sockets: Vec::new(),
            abandoned: None,
            offered: false,
            gone: false,
        };
        let shared = Arc::new(Self {
            endpoint,
            number,
            state: Mutex::new(state),
            changed: Notify::new(),
            progress: Notify::new(),
        });
        tokio::spawn(driver::Driver::new(Arc::clone(&shared)));
        shared
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Hands packets to the connection; [`flush`](Self::flush) must follow.
    pub(crate) fn handle<T>(&self, act: impl FnOnce(&mut towline_channeler::Connection) -> T) -> T {
        act(&mut self.lock().inner)
    }

    /// A socket that had no room has some again.
    pub(crate) fn on_room(&self) {
        let driver = {
            let mut state = self.lock();
            state.room = true;
            state.kick()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Does something and lets the driver see to what follows, when the tasks that are ready have run: what several of them do
    /// at the same time goes out together.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state, towline_net::now());
        let driver = state.kick();
        drop(state);
        if let Some(driver) = driver {
            wake_last(&driver);
        }
        result
    }

    pub(crate) fn network_changed(self: &Arc<Self>) {
        self.with(|state, now| state.inner.network_changed(now));
    }

    pub(crate) fn close(self: &Arc<Self>, code: Code, text: &str) {
        self.with(|state, now| state.inner.close(now, code, text));
    }

    pub(crate) fn socket_lost(self: &Arc<Self>, number: u16) {
        self.with(|state, now| {
            state.sockets.retain(|socket| socket.number != number);
            let over = |route: &Route| matches!(route, Route::Datagram { socket, .. } if *socket == number);
            state.held.retain(|held| !over(&held.transmit.route));
            let routes: Vec<_> = state.inner.links().map(|link| link.route).filter(over).collect();
            for route in routes {
                state.inner.link_lost(now, route);
            }
        });
    }

    /// The program has dropped its last handle.
    fn abandon(&self) {
        self.with(|state, now| {
            state.abandoned = Some(now + if state.connected { LINGER } else { Duration::ZERO });
            for opened in std::mem::take(&mut state.incoming) {
                state.refuse(now, opened.channel);
            }
        });
    }
}

impl State {
    /// Whom to wake so that the driver runs, if it will not anyhow.
    pub(crate) fn kick(&mut self) -> Option<Waker> {
        if std::mem::replace(&mut self.kicked, true) { None } else { self.driver.clone() }
    }

    /// The writer of this channel waits until the driver has run.
    pub(crate) fn queue_writer(&mut self, channel: ChannelId) {
        if let Some(slot) = self.channels.get_mut(&channel)
            && !std::mem::replace(&mut slot.queued, true)
        {
            self.unsent_writers.push_back(channel);
        }
    }

    /// Why nothing more happens on this channel, if that is so.
    pub(crate) fn ended(&self, channel: ChannelId) -> Option<Reason> {
        if self.error.is_some() {
            return Some(
                self.channels.get(&channel).and_then(|slot| slot.ended).unwrap_or(Reason::Connection),
            );
        }
        self.channels.get(&channel).map_or(Some(Reason::Connection), |slot| slot.ended)
    }

    /// This side ended a channel: its handles know at once.
    pub(crate) fn end(&mut self, channel: ChannelId, code: Code) {
        if let Some(slot) = self.channels.get_mut(&channel) {
            slot.ended.get_or_insert(Reason::Local(code));
        }
    }

    /// Who waits for news of this channel, or for a channel of the peer.
    fn waiters(&mut self, channel: Option<ChannelId>) -> Option<&mut Waiters> {
        match channel {
            Some(channel) => self.channels.get_mut(&channel).map(|slot| &mut slot.status),
            None => Some(&mut self.acceptors),
        }
    }

    /// The next channel that the peer opened, or arranges for this task to be woken.
    pub(crate) fn poll_opened(
        &mut self,
        place: &mut Place<'_>,
        cx: &Context<'_>,
    ) -> Poll<Result<Opened, ConnectionError>> {
        if let Some(opened) = self.incoming.pop_front() {
            if let Some(slot) = self.channels.get_mut(&opened.channel) {
                slot.halves = 2;
            }
            return Poll::Ready(Ok(opened));
        }
        if let Some(error) = &self.error {
            return Poll::Ready(Err(error.clone()));
        }
        place.watch(self, cx);
        Poll::Pending
    }

    fn refuse(&mut self, now: Instant, channel: ChannelId) {
        // It may have ended meanwhile.
        let _ = self.inner.refuse(now, channel, Code::REFUSED);
        self.channels.remove(&channel);
    }

    /// Whether the peer's direction of this channel was read to its end, whatever came after that.
    pub(crate) fn is_read(&self, channel: ChannelId) -> bool {
        self.channels.get(&channel).is_some_and(|slot| slot.finished || slot.ended == Some(Reason::Finished))
    }

    /// Takes in what the connection has to say.
    pub(crate) fn settle(&mut self, shared: &Shared, wakes: &mut Wakes) {
        while let Some(event) = self.inner.poll_event() {
            self.feeds.take(&event, wakes);
            self.on_event(shared, event, wakes);
        }
        while let Some(event) = self.inner.poll_endpoint_event() {
            self.gone |= self.inner.is_drained();
            shared.endpoint.tell(shared.number, event, self.gone);
        }
        if self.waiting > 0 {
            shared.progress.notify_waiters();
        }
    }

    fn on_event(&mut self, shared: &Shared, event: Event, wakes: &mut Wakes) {
        match event {
            Event::Connected => {
                self.connected = true;
                shared.changed.notify_waiters();
            }
            Event::Closed(error) => {
                self.error = Some(error);
                self.channels.values_mut().for_each(|slot| slot.wake_all(wakes));
                self.incoming.clear();
                shared.changed.notify_waiters();
                wakes.extend(self.acceptors.take());
                shared.progress.notify_waiters();
            }
            Event::Opened { channel, capabilities, label, priority: _ } => {
                if self.abandoned.is_some() {
                    return self.refuse(towline_net::now(), channel);
                }
                self.channels.insert(channel, Slot::default());
                self.incoming.push_back(Opened { channel, capabilities, label });
                wakes.extend(self.acceptors.take());
            }
            Event::Accepted(channel) => {
                if let Some(slot) = self.channels.get_mut(&channel) {
                    slot.accepted = true;
                    wakes.extend(slot.status.take());
                }
            }
            Event::Readable(channel) => {
                wakes.extend(self.channels.get_mut(&channel).and_then(|slot| slot.read.take()));
            }
            Event::Finished(channel) => {
                if let Some(slot) = self.channels.get_mut(&channel) {
                    slot.finished = true;
                    wakes.extend(slot.read.take());
                }
            }
            Event::Writable(channel) => {
                wakes.extend(self.channels.get_mut(&channel).and_then(|slot| slot.write.take()));
            }
            Event::Ended(channel, reason) => {
                if let Some(slot) = self.channels.get_mut(&channel) {
                    slot.ended = Some(reason);
                    slot.wake_all(wakes);
                    // Of an unaccepted channel there are no halves, but it may hold what came before its end.
                    let unaccepted = self.incoming.iter().any(|opened| opened.channel == channel);
                    if slot.halves == 0 && !unaccepted {
                        self.channels.remove(&channel);
                    }
                }
            }
            Event::Link(report) => {
                if let (LinkStatus::Closed, Route::Stream(number)) = (report.status, report.route) {
                    self.streams.get_mut(&number).into_iter().for_each(|outlet| outlet.close(wakes));
                }
                shared.changed.notify_waiters();
            }
            Event::WindowChanged { .. } | Event::Lost { .. } => {}
        }
    }

    /// Closes the connection if the program has gone and everything that it finished was delivered, or took too long.
    fn take_leave(&mut self, now: Instant) {
        let Some(until) = self.abandoned else { return };
        if self.error.is_none() && (self.channels.is_empty() || until <= now) {
            self.inner.close(now, Code::DONE, "");
        }
    }

    /// When the driver must run.
    fn deadline(&mut self) -> Option<Instant> {
        let leave = self.abandoned.filter(|_| self.error.is_none());
        self.inner.poll_timeout().into_iter().chain(leave).min()
    }

    /// A connection that a peer made is offered once.
    fn offer(&mut self) -> bool {
        let due = self.connected && self.error.is_none() && self.inner.side() == Side::Responder;
        due && !std::mem::replace(&mut self.offered, true)
    }
}

pub(crate) fn from_ecn(ecn: towline_net::Ecn) -> towline_channeler::Ecn {
    match ecn {
        towline_net::Ecn::Ect0 => towline_channeler::Ecn::Ect0,
        towline_net::Ecn::Ect1 => towline_channeler::Ecn::Ect1,
        towline_net::Ecn::Ce => towline_channeler::Ecn::Ce,
    }
}

pub(crate) fn to_ecn(ecn: towline_channeler::Ecn) -> towline_net::Ecn {
    match ecn {
        towline_channeler::Ecn::Ect0 => towline_net::Ecn::Ect0,
        towline_channeler::Ecn::Ect1 => towline_net::Ecn::Ect1,
        towline_channeler::Ecn::Ce => towline_net::Ecn::Ce,
    }
}
