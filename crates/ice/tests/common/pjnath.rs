//! A peer that behaves on the wire as pjnath does (spec 4.5 to 4.8): one connect per 50 ms, triggered checks that repeat
//! a transaction, nomination after 400 ms, a spare connection just before it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use towline_ice::framing::{self, Decoder, PayloadKind};
use towline_ice::stun::{BINDING, Class, Encoder, Message, RoleClaim, TransactionId};
use towline_ice::{Candidate, ConnectError, Description, TcpType, Transport};

use super::{Conn, Host, Out, ms};

/// What a version does with the connections that lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Leaves them open and idle.
    V2_12,
    /// Closes them, and accepts no more.
    V2_13,
}

struct Link {
    opened: bool,
    remote: SocketAddr,
    decoder: Decoder,
    request: Option<Vec<u8>>,
    valid: bool,
    nominated: bool,
}

pub struct Pjnath {
    pub version: Version,
    pub master: bool,
    /// As controlling side, whether a connection of its own is nominated rather than one of the peer.
    pub prefer_opened: bool,
    pub candidates: Vec<Candidate>,
    pub complete: Option<(Instant, Conn)>,
    pub data: Vec<u8>,
    pub indications: usize,
    pub requests: usize,
    pub to_send: VecDeque<Vec<u8>>,
    pub closed: Vec<Conn>,
    pub failed_connects: usize,
    ufrag: String,
    password: String,
    remote: Option<Description>,
    pending: VecDeque<SocketAddr>,
    tick: Option<Instant>,
    open_connects: usize,
    nominate_at: Option<Instant>,
    nominating: Option<Conn>,
    keepalive: Option<Instant>,
    links: BTreeMap<Conn, Link>,
    transactions: u8,
    dialled: Vec<SocketAddr>,
    out: Vec<Out>,
}

impl Pjnath {
    pub fn new(master: bool, version: Version, listen: SocketAddr) -> Self {
        Self {
            version,
            master,
            prefer_opened: false,
            candidates: vec![
                Candidate::host(Transport::Tcp(TcpType::Passive), listen, 0),
                Candidate::host(Transport::Tcp(TcpType::Active), listen, 1),
            ],
            complete: None,
            data: Vec::new(),
            indications: 0,
            requests: 0,
            to_send: VecDeque::new(),
            closed: Vec::new(),
            failed_connects: 0,
            ufrag: "13e86381".into(),
            password: "1a2b3c4d5e6f708192a3b4c5".into(),
            remote: None,
            pending: VecDeque::new(),
            tick: None,
            open_connects: 0,
            nominate_at: None,
            nominating: None,
            keepalive: None,
            links: BTreeMap::new(),
            transactions: 0,
            dialled: Vec::new(),
            out: Vec::new(),
        }
    }

    pub fn blob(&self) -> String {
        let mut blob = format!("{}\n{}\n", self.ufrag, self.password);
        for candidate in &self.candidates {
            blob += &(towline_ice::blob::to_line(candidate) + "\n");
        }
        blob
    }

    pub fn start(&mut self, now: Instant, blob: &str) {
        let remote = Description::from_blob(blob.as_bytes()).unwrap().description;
        let passive = |c: &&Candidate| c.transport == Transport::Tcp(TcpType::Passive);
        self.pending = remote.candidates.iter().filter(passive).map(|c| c.address).collect();
        self.remote = Some(remote);
        self.tick = Some(now);
    }

    /// One TLS record, so to say.
    pub fn send(&mut self, bytes: &[u8]) {
        let (_, conn) = self.complete.expect("complete");
        self.write(conn, bytes);
    }

    fn write(&mut self, conn: Conn, payload: &[u8]) {
        self.out.push(Out::Write { conn, bytes: framing::frame(payload).unwrap().to_vec() });
    }

    fn request(&mut self, nominate: bool) -> Option<Vec<u8>> {
        let remote = &self.remote.as_ref()?.credentials;
        self.transactions += 1;
        let claim = if self.master { RoleClaim::Controlling(42) } else { RoleClaim::Controlled(42) };
        let mut encoder = Encoder::new(Class::Request, BINDING, TransactionId([self.transactions; 12]))
            .priority(1_862_270_719);
        if nominate {
            encoder = encoder.use_candidate();
        }
        let name = format!("{}:{}", remote.ufrag(), self.ufrag);
        let encoder = encoder.role(claim).software("pjnath-2.12.1\0\0\0").username(name.as_bytes());
        Some(encoder.finish(Some(remote.password().as_bytes())).to_vec())
    }

    /// A check on a connection; a second one repeats the transaction.
    fn check(&mut self, conn: Conn) {
        let packet = match &self.links[&conn].request {
            Some(packet) => packet.clone(),
            None => match self.request(false) {
                Some(packet) => packet,
                None => return,
            },
        };
        self.links.get_mut(&conn).unwrap().request = Some(packet.clone());
        self.write(conn, &packet);
    }

    fn frame(&mut self, now: Instant, conn: Conn, frame: &[u8]) {
        if framing::classify(frame) == PayloadKind::Data {
            // From any connection, as the original takes it.
            self.data.extend_from_slice(frame);
            return;
        }
        let message = Message::decode(frame).expect("a peer sends valid STUN");
        assert!(message.fingerprint, "every message of a session has a FINGERPRINT");
        match message.class {
            Class::Indication => {
                assert_eq!(frame.len(), 28, "a keep-alive has a FINGERPRINT only");
                self.indications += 1;
            }
            Class::Request => {
                self.requests += 1;
                let (own, theirs) = message
                    .username
                    .map(|n| std::str::from_utf8(n).unwrap())
                    .unwrap()
                    .split_once(':')
                    .unwrap();
                assert_eq!(own, self.ufrag);
                if let Some(remote) = &self.remote {
                    assert_eq!(theirs, remote.credentials.ufrag());
                }
                message.verify_integrity(self.password.as_bytes()).unwrap();
                assert!(message.priority.is_some_and(|p| p >> 24 == 110));
                assert!(
                    matches!(
                        (self.master, message.role),
                        (true, Some(RoleClaim::Controlled(_))) | (false, Some(RoleClaim::Controlling(_)))
                    ),
                    "the roles are settled beforehand"
                );
                let remote = self.links[&conn].remote;
                let answer =
                    Encoder::new(Class::Success, BINDING, message.transaction).mapped_address(remote);
                let answer = answer.software("pjnath-2.12.1\0\0\0").finish(Some(self.password.as_bytes()));
                self.write(conn, &answer);
                if message.use_candidate {
                    assert!(!self.master, "only the controlling side nominates");
                    self.links.get_mut(&conn).unwrap().nominated = true;
                }
                if self.complete.is_none() {
                    self.check(conn);
                    self.follow(now, conn);
                }
            }
            Class::Success => {
                let remote = self.remote.as_ref().unwrap();
                message.verify_integrity(remote.credentials.password().as_bytes()).unwrap();
                assert!(message.mapped_address.is_some());
                self.links.get_mut(&conn).unwrap().valid = true;
                if self.nominating == Some(conn) {
                    self.finish(now, conn);
                } else if self.master && self.nominating.is_none() && self.nominate_at.is_none() {
                    let open = self.open_connects > 0
                        || !self.pending.is_empty()
                        || self.links.values().any(|l| !l.valid);
                    self.nominate_at = Some(now + if open { ms(400) } else { ms(50) });
                }
                self.follow(now, conn);
            }
            Class::Error => panic!("an error response: {:?}", message.error),
        }
    }

    fn follow(&mut self, now: Instant, conn: Conn) {
        let link = &self.links[&conn];
        if !self.master && link.nominated && link.valid && self.complete.is_none() {
            self.finish(now, conn);
        }
    }

    fn finish(&mut self, now: Instant, conn: Conn) {
        self.complete = Some((now, conn));
        self.tick = None;
        self.pending.clear();
        self.keepalive = Some(now + Duration::from_secs(22));
        if self.version == Version::V2_13 {
            let nominated = self.links[&conn].remote;
            let others: Vec<_> =
                self.links.iter().filter(|(_, l)| l.remote != nominated).map(|(c, _)| *c).collect();
            for other in others {
                self.links.remove(&other);
                self.out.push(Out::Close { conn: other });
            }
        }
        while let Some(bytes) = self.to_send.pop_front() {
            self.write(conn, &bytes);
        }
    }

    fn nominate(&mut self) {
        let valid =
            |opened: bool| self.links.iter().find(|(_, l)| l.valid && l.opened == opened).map(|(c, _)| *c);
        let Some(conn) = valid(self.prefer_opened).or_else(|| valid(!self.prefer_opened)) else { return };
        if self.links[&conn].opened {
            // The spare connection of spec 4.8.
            self.dial(self.links[&conn].remote);
        }
        self.nominating = Some(conn);
        let packet = self.request(true).unwrap();
        self.write(conn, &packet);
    }

    fn dial(&mut self, remote: SocketAddr) {
        let mut local = self.candidates[0].address;
        local.set_port(0);
        self.open_connects += 1;
        self.out.push(Out::Connect { key: self.dialled.len() as u32, local, remote });
        self.dialled.push(remote);
    }

    fn link(opened: bool, remote: SocketAddr) -> Link {
        Link { opened, remote, decoder: Decoder::new(), request: None, valid: false, nominated: false }
    }
}

impl Host for Pjnath {
    fn udp(&mut self, _: Instant, _: SocketAddr, _: SocketAddr, _: &[u8]) {
        panic!("Jami sessions have no UDP");
    }

    fn accepted(&mut self, _: Instant, conn: Conn, _: SocketAddr, remote: SocketAddr) -> bool {
        if self.version == Version::V2_13 && self.complete.is_some() {
            return false;
        }
        self.links.insert(conn, Self::link(false, remote));
        true
    }

    fn connected(&mut self, _: Instant, key: u32, conn: Conn, _: SocketAddr) {
        self.open_connects -= 1;
        let spare = self.nominating.is_some() || self.complete.is_some();
        self.links.insert(conn, Self::link(true, self.dialled[key as usize]));
        if !spare {
            self.check(conn);
        }
    }

    fn connect_failed(&mut self, _: Instant, _: u32, _: ConnectError) {
        self.open_connects -= 1;
        self.failed_connects += 1;
    }

    fn closed(&mut self, _: Instant, conn: Conn) {
        self.links.remove(&conn);
        self.closed.push(conn);
    }

    fn bytes(&mut self, now: Instant, conn: Conn, mut bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let mut frames = Vec::new();
        while let Some(frame) = link.decoder.decode(&mut bytes).unwrap() {
            frames.push(frame.to_vec());
        }
        for frame in frames {
            if self.links.contains_key(&conn) {
                self.frame(now, conn, &frame);
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        [self.tick, self.nominate_at, self.keepalive].into_iter().flatten().min()
    }

    fn timeout(&mut self, now: Instant) {
        if self.tick.is_some_and(|at| at <= now) {
            match self.pending.pop_front() {
                Some(remote) => self.dial(remote),
                None => self.tick = None,
            }
            self.tick = self.tick.map(|at| at + ms(50));
        }
        if self.nominate_at.is_some_and(|at| at <= now) {
            self.nominate_at = None;
            self.nominate();
        }
        if self.keepalive.is_some_and(|at| at <= now) {
            self.keepalive = Some(now + Duration::from_secs(22));
            let conn = self.complete.unwrap().1;
            let packet = Encoder::new(Class::Indication, BINDING, TransactionId([7; 12])).finish(None);
            self.write(conn, &packet);
        }
    }

    fn drain(&mut self, _: Instant, out: &mut Vec<Out>) {
        out.append(&mut self.out);
    }
}
