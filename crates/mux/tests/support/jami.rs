//! One end of the Jami dialect, fed by hand.

use std::time::Instant;

use towline_mux::{ChannelId, Config, Dialect, Event, Mux, Side};

pub struct Jami {
    pub mux: Mux,
    pub now: Instant,
}

impl Jami {
    pub fn new(side: Side) -> Self {
        Self::with(side, Config::default())
    }

    pub fn with(side: Side, config: Config) -> Self {
        let now = Instant::now();
        let mut jami = Self { mux: Mux::new(Dialect::Jami, side, config, now), now };
        assert_eq!(jami.sent(), "92cdffffc40481a17601", "the version goes first");
        jami
    }

    pub fn sent(&mut self) -> String {
        let (mut all, mut scratch) = (String::new(), Vec::new());
        while let Some(transmit) = self.mux.poll_transmit(self.now, &mut scratch) {
            all += &hex::encode(transmit.bytes);
        }
        all
    }

    pub fn feed(&mut self, hex: &str) {
        self.mux.handle_data(self.now, &hex::decode(hex.replace(' ', "")).unwrap()).unwrap();
    }

    pub fn event(&mut self) -> Option<Event> {
        self.mux.poll_event()
    }

    pub fn requested(&mut self) -> ChannelId {
        match self.event() {
            Some(Event::Requested { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    /// An open channel 1 requested by the peer (we are the server).
    pub fn with_channel() -> (Self, ChannelId) {
        let mut jami = Self::new(Side::TlsServer);
        jami.feed("9200c40793a378797a0100");
        let id = jami.requested();
        jami.mux.accept(jami.now, id).unwrap();
        assert_eq!(jami.sent(), "9200c40793a378797a0101");
        (jami, id)
    }
}
