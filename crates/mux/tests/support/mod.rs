//! Two muxes and the wire between them, in virtual time.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

pub mod jami;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use towline_mux::{ChannelId, Chunk, Config, Dialect, Event, Mux, OpenOptions, Side};

pub struct End {
    pub mux: Mux,
    pub events: VecDeque<Event>,
    scratch: Vec<u8>,
    /// Everything sent, for tests that look at bytes.
    pub sent: Vec<u8>,
    /// What is on its way to this end, with the time of arrival.
    pub inbound: VecDeque<(Instant, Vec<u8>)>,
}

pub struct Pair {
    pub now: Instant,
    pub delay: Duration,
    pub client: End,
    pub server: End,
}

impl End {
    fn new(dialect: Dialect, side: Side, config: Config, now: Instant) -> Self {
        Self {
            mux: Mux::new(dialect, side, config, now),
            events: VecDeque::new(),
            scratch: Vec::new(),
            sent: Vec::new(),
            inbound: VecDeque::new(),
        }
    }

    /// Next plaintext, checked against the promised size.
    pub fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let bytes = self.mux.poll_transmit(now, &mut self.scratch)?.to_vec();
        assert!(!bytes.is_empty() && bytes.len() <= 16_384, "{} bytes", bytes.len());
        self.sent.extend_from_slice(&bytes);
        Some(bytes)
    }

    pub fn collect(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.mux.poll_event()));
    }

    pub fn event(&mut self) -> Option<Event> {
        self.collect();
        self.events.pop_front()
    }

    pub fn write(&mut self, id: ChannelId, bytes: &[u8]) {
        self.mux.write(id, Chunk::copy_from(bytes)).expect("there is room");
    }

    /// Reads and consumes everything there is.
    pub fn read(&mut self, now: Instant, id: ChannelId) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = self.mux.read(id) {
            self.mux.consumed(now, id, bytes.len() as u64);
            all.extend_from_slice(&bytes);
        }
        all
    }

    /// The id of a channel the peer requests, which must be the next event.
    pub fn requested(&mut self) -> ChannelId {
        match self.event() {
            Some(Event::Requested { id, .. }) => id,
            other => panic!("expected a request, got {other:?}"),
        }
    }
}

impl Pair {
    pub fn new(dialect: Dialect) -> Self {
        Self::with(dialect, Config::default(), Config::default())
    }

    pub fn with(dialect: Dialect, client: Config, server: Config) -> Self {
        let now = Instant::now();
        Self {
            now,
            delay: Duration::from_millis(10),
            client: End::new(dialect, Side::TlsClient, client, now),
            server: End::new(dialect, Side::TlsServer, server, now),
        }
    }

    /// Puts what both ends have to send on the wire; says whether there was anything.
    pub fn send(&mut self) -> bool {
        let mut any = false;
        for (from, to) in [(&mut self.client, &mut self.server)] {
            while let Some(bytes) = from.transmit(self.now) {
                to.inbound.push_back((self.now + self.delay, bytes));
                any = true;
            }
            while let Some(bytes) = to.transmit(self.now) {
                from.inbound.push_back((self.now + self.delay, bytes));
                any = true;
            }
        }
        any
    }

    /// Delivers what is due, while the ends want it; says whether anything was.
    pub fn deliver(&mut self) -> bool {
        let mut any = false;
        for end in [&mut self.client, &mut self.server] {
            while end.mux.wants_data() && end.inbound.front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, bytes) = end.inbound.pop_front().unwrap();
                end.mux.handle_data(self.now, &bytes).unwrap();
                any = true;
            }
            end.collect();
        }
        any
    }

    /// Lets everything that is under way arrive.
    pub fn settle(&mut self) {
        loop {
            let sent = self.send();
            let delivered = self.deliver();
            if sent || delivered {
                continue;
            }
            let wanting = [&self.client, &self.server].into_iter().filter(|end| end.mux.wants_data());
            match wanting.filter_map(|end| end.inbound.front().map(|(at, _)| *at)).min() {
                Some(at) => self.now = self.now.max(at),
                None => return,
            }
        }
    }

    /// A channel requested by the client and accepted by the server.
    pub fn channel(&mut self, name: &str) -> (ChannelId, ChannelId) {
        self.channel_with(name, OpenOptions::default())
    }

    pub fn channel_with(&mut self, name: &str, options: OpenOptions) -> (ChannelId, ChannelId) {
        let ours = self.client.mux.open(self.now, name, options).unwrap();
        self.settle();
        let theirs = self.server.requested();
        self.server.mux.accept(self.now, theirs).unwrap();
        self.settle();
        assert_eq!(self.client.event(), Some(Event::Accepted { id: ours }));
        (ours, theirs)
    }
}
