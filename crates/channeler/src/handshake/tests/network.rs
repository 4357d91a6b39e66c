//! Two handshakes and a network between them, in virtual time.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ChannelId, ConnectionId, LinkId, Route, Side, Suite,
    crypto::{ChannelOpen, ChannelSeal, Opener, Sealer},
    handshake::{
        Cookies, Credentials, Established, Handshake, HandshakeError, KeyOnly, Peer, PeerIdentity, Progress,
        Settings, StaticKey, Trust,
    },
    wire::{
        handshake::{parse, put_packet},
        header::Header,
    },
};

pub(super) const DELAY: Duration = Duration::from_millis(20);
pub(super) const KEYS: [[u8; 32]; 2] = [[0xA1; 32], [0xB2; 32]];

pub(super) fn key(side: Side) -> StaticKey {
    StaticKey::from_bytes(KEYS[side as usize])
}

/// Credentials of any size that prove nothing.
pub(super) struct Blob(pub(super) usize);

impl Credentials for Blob {
    fn payload(&self) -> Arc<[u8]> {
        vec![0xC3; self.0].into()
    }
}

pub(super) fn settings(side: Side) -> Settings {
    Settings {
        key: key(side),
        credentials: Arc::new(KeyOnly::anyone()),
        trust: Arc::new(KeyOnly::anyone()),
        shared_secret: None,
        suite: Suite::Aes256Gcm,
        timeout: Duration::from_secs(10),
        unix_time: 1_800_000_000,
        reliable: false,
        parameters: format!("parameters of the {side:?}").into_bytes(),
    }
}

/// What the network does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Deliver,
    Lose,
    Duplicate,
    /// Arrives this much later.
    Delay(Duration),
    /// One byte is changed, and the checksum made right again.
    Forge(usize),
}

/// What one side came to.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) at: Duration,
    pub(super) peer: PeerIdentity,
    pub(super) parameters: Vec<u8>,
    pub(super) peer_cid: ConnectionId,
    sealer: Sealer,
    opener: Opener,
    confirmed: bool,
}

pub(super) struct End {
    pub(super) handshake: Option<Handshake>,
    pub(super) done: Option<Done>,
    pub(super) error: Option<(Duration, HandshakeError)>,
    pub(super) sent: usize,
    received: usize,
    pub(super) packets: usize,
}

enum Parcel {
    Handshake(Vec<u8>),
    /// A protected packet; its packet number is the one given.
    Data(u64, Vec<u8>),
}

pub(super) struct Network {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    responder: Settings,
    queue: BTreeMap<(Instant, u64), (Side, Parcel)>,
    serial: u64,
    /// Handshake packets sent so far, both ways.
    pub(super) count: usize,
    /// If set, the responder asks for cookies.
    pub(super) cookies: Option<Cookies>,
    pub(super) retries: usize,
    next_data: Instant,
    /// Every handshake packet, as it was sent.
    pub(super) record: Vec<(Side, Vec<u8>)>,
}

pub(super) const CIDS: [ConnectionId; 2] = [ConnectionId([0xAA; 8]), ConnectionId([0xBB; 8])];

impl Network {
    pub(super) fn new(peer: Peer, initiator: Settings, responder: Settings) -> Self {
        let start = Instant::now();
        let handshake = Handshake::initiator(start, initiator, peer, CIDS[0], [1; 32]).unwrap();
        let end = |handshake| End { handshake, done: None, error: None, sent: 0, received: 0, packets: 0 };
        Self {
            start,
            now: start,
            ends: [end(Some(handshake)), end(None)],
            responder,
            queue: BTreeMap::new(),
            serial: 0,
            count: 0,
            cookies: None,
            retries: 0,
            next_data: start,
            record: Vec::new(),
        }
    }

    pub(super) fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    /// Runs until nothing more happens, or 20 s passed. `fate` is asked about each handshake packet, by its number.
    pub(super) fn run(&mut self, mut fate: impl FnMut(usize, Side, &[u8]) -> Fate) {
        loop {
            for side in [Side::Initiator, Side::Responder] {
                self.transmit(side, &mut fate);
            }
            let timers = self.ends.iter().filter_map(|end| end.handshake.as_ref()?.poll_timeout());
            let data = self.unconfirmed().then_some(self.next_data);
            let next =
                self.queue.keys().next().map(|(at, _)| *at).into_iter().chain(timers).chain(data).min();
            let Some(next) = next.filter(|next| *next < self.start + Duration::from_secs(20)) else { return };
            self.now = self.now.max(next);
            self.timeouts();
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (to, parcel) = entry.remove();
                self.deliver(to, &parcel);
            }
        }
    }

    fn unconfirmed(&self) -> bool {
        self.ends.iter().any(|end| end.done.is_some()) && self.ends.iter().any(|end| end.handshake.is_some())
    }

    fn timeouts(&mut self) {
        let passed = self.now - self.start;
        for end in &mut self.ends {
            if let Some(Err(error)) =
                end.handshake.as_mut().map(|handshake| handshake.handle_timeout(self.now))
            {
                end.error = Some((passed, error));
                end.handshake = None;
            }
        }
        if self.unconfirmed() && self.next_data <= self.now {
            self.next_data = self.now + Duration::from_millis(300);
            self.send_data(Side::Initiator);
            self.send_data(Side::Responder);
        }
    }

    /// As a connection does that has just been established.
    fn send_data(&mut self, side: Side) {
        let Some(done) = &self.ends[side as usize].done else { return };
        let header = Header {
            phase: false,
            spin: false,
            pn: self.serial,
            channel: ChannelId::CONTROL,
            cid: done.peer_cid,
        };
        let mut packet = header.encode().to_vec();
        packet.extend_from_slice(b"PING");
        let mut keys = ChannelSeal::new(ChannelId::CONTROL);
        done.sealer.seal(self.now, &mut keys, LinkId(0), self.serial, &mut packet, 0, &[]).unwrap();
        self.post(self.now + DELAY, side.peer(), Parcel::Data(self.serial, packet));
    }

    fn post(&mut self, at: Instant, to: Side, parcel: Parcel) {
        self.serial += 1;
        self.queue.insert((at, self.serial), (to, parcel));
    }

    fn transmit(&mut self, side: Side, fate: &mut impl FnMut(usize, Side, &[u8]) -> Fate) {
        loop {
            let mut packet = Vec::new();
            let end = &mut self.ends[side as usize];
            let Some(handshake) = &mut end.handshake else { return };
            if !handshake.poll_transmit(self.now, 1200, &mut packet) {
                return;
            }
            assert!(packet.len() <= 1200);
            end.sent += packet.len();
            end.packets += 1;
            self.record.push((side, packet.clone()));
            let fate = fate(self.count, side, &packet);
            self.count += 1;
            let at = self.now + DELAY;
            match fate {
                Fate::Deliver => self.post(at, side.peer(), Parcel::Handshake(packet)),
                Fate::Lose => {}
                Fate::Duplicate => {
                    self.post(at, side.peer(), Parcel::Handshake(packet.clone()));
                    self.post(at, side.peer(), Parcel::Handshake(packet));
                }
                Fate::Delay(more) => self.post(at + more, side.peer(), Parcel::Handshake(packet)),
                Fate::Forge(byte) => self.post(at, side.peer(), Parcel::Handshake(forge(&packet, byte))),
            }
        }
    }

    /// Lets somebody else send a handshake packet.
    pub(super) fn inject(&mut self, at: Instant, to: Side, packet: Vec<u8>) {
        self.post(at, to, Parcel::Handshake(packet));
    }

    fn deliver(&mut self, to: Side, parcel: &Parcel) {
        match parcel {
            Parcel::Handshake(packet) => self.deliver_handshake(to, packet),
            Parcel::Data(pn, packet) => {
                let end = &mut self.ends[to as usize];
                let Some(done) = &mut end.done else { return };
                let mut packet = packet.clone();
                let header = done.opener.unprotect(&mut packet).expect("a data packet");
                assert_eq!(header.cid, CIDS[to as usize]);
                let mut keys = ChannelOpen::new(header.channel);
                let length =
                    done.opener.open(self.now, &mut keys, LinkId(0), *pn, header.phase, &mut packet, None);
                assert_eq!(length, Ok(4), "both have the same secrets");
                done.confirmed = true;
                end.handshake = None;
            }
        }
    }

    fn deliver_handshake(&mut self, to: Side, bytes: &[u8]) {
        let Ok(packet) = parse(bytes) else { return };
        let route = Route::datagram("192.0.2.1:4000".parse().unwrap());
        let true_sender =
            self.record.iter().find(|(side, _)| *side == Side::Initiator).map(|(_, packet)| &packet[4..20]);
        if to == Side::Responder && true_sender != Some(&packet.sender[..]) {
            // To an endpoint, another sender is another handshake.
            let settings = self.responder.clone();
            let mut stray = Handshake::responder(self.now, settings, CIDS[1], &packet, false, [2; 32]);
            assert!(matches!(stray.handle(self.now, &packet, bytes.len()), Ok(Progress::More)));
            return;
        }
        let end = &mut self.ends[to as usize];
        if to == Side::Responder && end.handshake.is_none() && end.done.is_none() && end.error.is_none() {
            if !Cookies::may_begin(&packet, route, bytes.len()) {
                return;
            }
            let mut validated = false;
            if let Some(cookies) = &self.cookies {
                validated = cookies.check(self.now, route, &packet);
                if !validated {
                    let mut answer = Vec::new();
                    assert!(cookies.retry(self.now, route, &packet, &mut answer));
                    assert!(answer.len() < bytes.len());
                    self.retries += 1;
                    self.post(self.now + DELAY, Side::Initiator, Parcel::Handshake(answer));
                    return;
                }
            }
            let settings = self.responder.clone();
            end.handshake =
                Some(Handshake::responder(self.now, settings, CIDS[1], &packet, validated, [2; 32]));
        }
        end.received += bytes.len();
        let Some(handshake) = &mut end.handshake else { return };
        match handshake.handle(self.now, &packet, bytes.len()) {
            Ok(Progress::More) => {}
            Ok(Progress::Complete(established)) => self.complete(to, *established),
            Err(error) => {
                end.error = Some((self.now - self.start, error));
                end.handshake = None;
            }
        }
    }

    fn complete(&mut self, side: Side, established: Established) {
        let Established { secrets, peer, parameters, peer_cid, confirmed, rtt: _ } = established;
        let (sealer, opener) = secrets.split(side);
        let at = self.now - self.start;
        let end = &mut self.ends[side as usize];
        assert!(end.done.is_none(), "complete once");
        end.done = Some(Done { at, peer, parameters, peer_cid, sealer, opener, confirmed });
        if confirmed {
            end.handshake = None;
        }
        if side == Side::Initiator || confirmed {
            self.send_data(side);
        }
    }

    /// Both sides are done, with each other, and both know it.
    pub(super) fn assert_connected(&self, what: &str) {
        for side in [Side::Initiator, Side::Responder] {
            let end = self.end(side);
            assert_eq!(end.error, None, "{what}: {side:?}");
            let done = end.done.as_ref().unwrap_or_else(|| panic!("{what}: the {side:?} is not done"));
            assert!(done.confirmed, "{what}: {side:?}");
            assert_eq!(done.peer.static_key, key(side.peer()).public(), "{what}");
            assert_eq!(done.parameters, settings(side.peer()).parameters, "{what}");
            assert_eq!(done.peer_cid, CIDS[side.peer() as usize], "{what}");
        }
    }

    pub(super) fn error(&self, side: Side) -> Option<&HandshakeError> {
        self.end(side).error.as_ref().map(|(_, error)| error)
    }
}

/// The packet with a byte changed before the checksum, which is made right again.
pub(super) fn forge(packet: &[u8], byte: usize) -> Vec<u8> {
    let mut changed = packet.to_vec();
    let covered = changed.len() - 4;
    changed[byte % covered] ^= 0x15;
    let checksum = crc32c::crc32c(&changed[..covered]);
    changed[covered..].copy_from_slice(&checksum.to_be_bytes());
    changed
}

/// A packet of somebody else.
pub(super) fn packet(sender: &[u8; 16], recipient: &[u8; 16], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(put_packet(&mut out, sender, recipient, payload, 1200));
    out
}

/// Admits nobody, or only some.
pub(super) struct Strict(pub(super) fn(&[u8]) -> Result<(), crate::Refused>);

impl Trust for Strict {
    fn admit(&self, key: &[u8; 32], payload: &[u8], _unix_time: i64) -> Result<PeerIdentity, crate::Refused> {
        (self.0)(payload).map(|()| PeerIdentity::of_key(*key))
    }
}
