//! A peer written by hand, packet by packet, against one agent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use towline_ice::framing;
use towline_ice::stun::{BINDING, Class, Encoder, Message, RoleClaim, TransactionId};
use towline_ice::{
    Action, Agent, Candidate, CloseReason, Config, Credentials, Description, Disposition, Event, Role,
    StreamId, TcpType, Transport,
};

pub const LOCAL: &str = "10.0.0.1:5000";
pub const PEER: &str = "10.0.0.2";

pub struct Script {
    pub agent: Agent,
    pub now: Instant,
    pub events: Vec<Event>,
    /// Frames sent on streams, without their length.
    pub frames: Vec<(StreamId, Vec<u8>)>,
    pub datagrams: Vec<(SocketAddr, Vec<u8>)>,
    pub connects: Vec<(StreamId, SocketAddr)>,
    pub closed: Vec<(StreamId, CloseReason)>,
    transaction: u8,
}

/// What a request says.
#[derive(Clone)]
pub struct Request {
    pub method: u16,
    pub use_candidate: bool,
    pub priority: Option<u32>,
    pub role: RoleClaim,
    pub username: String,
    pub password: String,
    pub extra: Vec<u16>,
}

impl Script {
    /// An agent with a TCP and a UDP candidate.
    pub fn new(role: Role, config: Config) -> Self {
        let now = Instant::now();
        let mut agent = Agent::new(config, role, now, [3; 32]);
        agent.add_local(now, Candidate::host(Transport::Tcp(TcpType::Passive), LOCAL.parse().unwrap(), 0));
        agent.add_local(now, Candidate::host(Transport::Tcp(TcpType::Active), LOCAL.parse().unwrap(), 1));
        agent.add_local(now, Candidate::host(Transport::Udp, LOCAL.parse().unwrap(), 2));
        Self {
            agent,
            now,
            events: Vec::new(),
            frames: Vec::new(),
            datagrams: Vec::new(),
            connects: Vec::new(),
            closed: Vec::new(),
            transaction: 0,
        }
    }

    pub fn credentials() -> Credentials {
        Credentials::parse("peer", "secret-of-the-peer").unwrap()
    }

    pub fn set_remote(&mut self, candidates: Vec<Candidate>) {
        self.agent.set_remote(self.now, Description { credentials: Self::credentials(), candidates });
        self.drain();
    }

    pub fn drain(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::SendUdp { remote, payload, .. } => self.datagrams.push((remote, payload.to_vec())),
                Action::Connect { stream, remote, .. } => self.connects.push((stream, remote)),
                Action::SendFrame { stream, payload } => {
                    self.frames.push((stream, payload[framing::HEADER_LEN..].to_vec()));
                }
                Action::CloseStream { stream, reason } => self.closed.push((stream, reason)),
            }
        }
        while let Some(event) = self.agent.poll_event() {
            self.events.push(event);
        }
    }

    /// Time passes, and timers fire when they are due.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.agent.poll_timeout().filter(|&at| at <= end) {
            assert!(at >= self.now, "a timer is overdue");
            self.now = at;
            self.agent.handle_timeout(at);
            self.drain();
        }
        self.now = end;
    }

    pub fn accept(&mut self, remote: &str) -> StreamId {
        self.agent.handle_tcp_accepted(self.now, LOCAL.parse().unwrap(), remote.parse().unwrap()).unwrap()
    }

    pub fn frame(&mut self, stream: StreamId, frame: &[u8]) -> Disposition {
        let disposition = self.agent.handle_tcp_frame(self.now, stream, frame);
        self.drain();
        disposition
    }

    pub fn udp(&mut self, remote: &str, packet: &[u8]) -> Disposition {
        let disposition =
            self.agent.handle_udp(self.now, LOCAL.parse().unwrap(), remote.parse().unwrap(), packet);
        self.drain();
        disposition
    }

    /// A check as the peer should send it.
    pub fn good(&self) -> Request {
        let ours = self.agent.local_description().credentials;
        Request {
            method: BINDING,
            use_candidate: false,
            priority: Some(1_862_270_975),
            role: match self.agent.role() {
                Role::Controlling => RoleClaim::Controlled(7),
                Role::Controlled => RoleClaim::Controlling(7),
            },
            username: format!("{}:peer", ours.ufrag()),
            password: ours.password().to_owned(),
            extra: Vec::new(),
        }
    }

    pub fn encode(&mut self, request: &Request) -> Vec<u8> {
        self.transaction += 1;
        let mut encoder = Encoder::new(Class::Request, request.method, TransactionId([self.transaction; 12]));
        if let Some(priority) = request.priority {
            encoder = encoder.priority(priority);
        }
        if request.use_candidate {
            encoder = encoder.use_candidate();
        }
        encoder = encoder.role(request.role).username(request.username.as_bytes());
        let mut packet = encoder.finish(None).to_vec();
        // Attributes no encoder would write go in by hand.
        packet.truncate(packet.len() - 8);
        for kind in &request.extra {
            packet.extend_from_slice(&kind.to_be_bytes());
            packet.extend_from_slice(&[0, 0]);
        }
        seal(packet, request.password.as_bytes())
    }

    pub fn check(&mut self, use_candidate: bool) -> Vec<u8> {
        let request = Request { use_candidate, ..self.good() };
        self.encode(&request)
    }

    /// Answers the last check the agent sent on a stream.
    pub fn success(&mut self, stream: StreamId) -> Vec<u8> {
        let is_request = |f: &[u8]| Message::decode(f).unwrap().class == Class::Request;
        let (_, request) =
            self.frames.iter().rfind(|(s, f)| *s == stream && is_request(f)).expect("a check was sent");
        answer(request, Self::credentials().password())
    }

    /// Answers of the agent on a stream.
    pub fn answers(&self, stream: StreamId) -> Vec<(Class, Option<u16>)> {
        let decoded =
            self.frames.iter().filter(|(s, _)| *s == stream).map(|(_, f)| Message::decode(f).unwrap());
        decoded.filter(|m| m.class != Class::Request).map(|m| (m.class, m.error.map(|e| e.code))).collect()
    }

    pub fn selected_stream(&self) -> Option<StreamId> {
        match self.agent.selected()? {
            towline_ice::SelectedPath::Tcp { stream, .. } => Some(stream),
            towline_ice::SelectedPath::Udp { .. } => None,
        }
    }
}

pub fn answer(request: &[u8], password: &str) -> Vec<u8> {
    let transaction = Message::decode(request).unwrap().transaction;
    let answer = Encoder::new(Class::Success, BINDING, transaction).mapped_address(LOCAL.parse().unwrap());
    answer.finish(Some(password.as_bytes())).to_vec()
}

/// MESSAGE-INTEGRITY and FINGERPRINT, computed independently of the encoder.
fn seal(mut packet: Vec<u8>, key: &[u8]) -> Vec<u8> {
    use aws_lc_rs::hmac;
    let length = |packet: &mut Vec<u8>, more: usize| {
        let length = u16::try_from(packet.len() - 20 + more).unwrap();
        packet[2..4].copy_from_slice(&length.to_be_bytes());
    };
    length(&mut packet, 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let code = hmac::sign(&key, &packet);
    packet.extend_from_slice(&[0, 8, 0, 20]);
    packet.extend_from_slice(code.as_ref());
    length(&mut packet, 8);
    let crc = crc32fast::hash(&packet) ^ 0x5354_554e;
    packet.extend_from_slice(&[0x80, 0x28, 0, 4]);
    packet.extend_from_slice(&crc.to_be_bytes());
    packet
}
