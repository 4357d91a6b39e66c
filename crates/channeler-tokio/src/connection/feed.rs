//! News of a connection, for those who want to know.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use towline_channeler::{ChannelId, Event, LinkId, LinkReport, LinkStatus};

use super::{Owner, slot::park};
use crate::Wakes;

/// News that are kept for a reader who does not read. Beyond, the oldest are forgotten.
const KEPT: usize = 1024;

/// Something that happened to a connection. From [`Events::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// What may be sent on a channel now.
    Window {
        /// The channel.
        channel: ChannelId,
        /// Packets of the size of its link; messages, if fewer, on a message channel.
        packets: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Messages of a channel were given up.
    Lost {
        /// The channel.
        channel: ChannelId,
        /// How many, since this was told last.
        messages: u64,
        /// Whether they were ours.
        sent: bool,
    },
    /// What is known about a link.
    Link(LinkReport),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Window(ChannelId),
    Lost(ChannelId, bool),
    Link(LinkId),
}

/// A subscription to the news of a connection, from [`Connection::events`](crate::Connection::events).
///
/// Of windows and links only the latest state is kept, and losses are added up: a slow reader misses nothing that still
/// matters, and costs no memory to speak of. It does not keep the connection open.
pub struct Events {
    shared: std::sync::Weak<super::Shared>,
    id: u64,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn new(owner: &Arc<Owner>) -> Self {
        let mut state = owner.shared().lock();
        let now: Vec<_> = state.inner.links().collect();
        let id = state.feeds.add(now);
        Self { shared: Arc::downgrade(owner.shared()), id }
    }

    /// The next news; `None` when the connection has ended and all were told. At first, each link is. Cancel safe.
    pub async fn next(&mut self) -> Option<News> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next), to be polled.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<News>> {
        let Some(shared) = self.shared.upgrade() else { return Poll::Ready(None) };
        let mut state = shared.lock();
        let ended = state.error.is_some();
        let Some(feed) = state.feeds.0.get_mut(&self.id) else { return Poll::Ready(None) };
        match feed.pop() {
            Some(news) => Poll::Ready(Some(news)),
            None if ended => Poll::Ready(None),
            None => {
                park(&mut feed.waker, cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lock().feeds.0.remove(&self.id);
        }
    }
}

/// All subscriptions of a connection.
#[derive(Debug, Default)]
pub(crate) struct Feeds(BTreeMap<u64, Feed>);

#[derive(Debug, Default)]
struct Feed {
    order: VecDeque<Key>,
    latest: BTreeMap<Key, News>,
    waker: Option<Waker>,
}

impl Feeds {
    fn add(&mut self, links: Vec<LinkReport>) -> u64 {
        let id = self.0.last_key_value().map_or(0, |(id, _)| id + 1);
        let mut feed = Feed::default();
        for link in links {
            feed.push(Key::Link(link.link), News::Link(link));
        }
        self.0.insert(id, feed);
        id
    }

    /// Tells everybody what happened, if it is news.
    pub(super) fn take(&mut self, event: &Event, wakes: &mut Wakes) {
        if self.0.is_empty() {
            return;
        }
        let (key, news) = match *event {
            Event::WindowChanged { channel, packets, bytes } => {
                (Key::Window(channel), News::Window { channel, packets, bytes })
            }
            Event::Lost { channel, messages, sent } => {
                (Key::Lost(channel, sent), News::Lost { channel, messages, sent })
            }
            Event::Link(report) => (Key::Link(report.link), News::Link(report)),
            Event::Closed(_) => {
                return wakes.extend(self.0.values_mut().filter_map(|feed| feed.waker.take()));
            }
            _ => return,
        };
        for feed in self.0.values_mut() {
            feed.push(key, news.clone());
            wakes.extend(feed.waker.take());
        }
    }
}

impl Feed {
    fn push(&mut self, key: Key, news: News) {
        match (self.latest.get_mut(&key), news) {
            (Some(News::Lost { messages: before, .. }), News::Lost { messages, .. }) => *before += messages,
            // The end of a link is told, whatever came before it.
            (Some(before), news) => *before = news,
            (None, news) => {
                if self.order.len() == KEPT
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.latest.remove(&oldest);
                }
                self.order.push_back(key);
                self.latest.insert(key, news);
            }
        }
    }

    fn pop(&mut self) -> Option<News> {
        self.latest.remove(&self.order.pop_front()?)
    }
}

impl News {
    /// Whether it says that a link has gone.
    pub fn is_end_of_link(&self) -> bool {
        matches!(self, Self::Link(LinkReport { status: LinkStatus::Closed, .. }))
    }
}
