mod transmit;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    constant_time,
    hkdf::{HKDF_SHA256, Prk},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use zeroize::Zeroizing;

use self::transmit::MAX_TIMEOUT;
use super::{
    Credentials, Established, HandshakeError, Peer, PeerIdentity, Progress, Refused, StaticKey, Trust,
    assembly::Assembly,
    flight::Flight,
    hybrid,
    message::{self, COOKIE_LEN, Message},
    noise::{Noise, Pattern, Split, Unauthentic},
    payload::{self, About, Answer},
};
use crate::{
    ConnectionId, PeerId, Side, Suite,
    crypto::{self, ConnectionSecrets},
    wire::handshake::HandshakePacket,
};

/// First probe timeout, as long as nothing is known about the way.
const FIRST_TIMEOUT: Duration = Duration::from_millis(333);
/// How long a fragment is waited for before the peer is told what is missing.
const REPORT_DELAY: Duration = Duration::from_millis(25);
/// How long, after an answer of somebody else, the right one is still waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a refusal is repeated.
const REFUSAL_TIME: Duration = Duration::from_millis(1500);

const PROLOGUE: &[u8] = b"channeler/1.17";
const REFUSAL: &[u8] = b"channeler v1 refusal";

/// What a side brings to a handshake.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Its key.
    pub key: StaticKey,
    /// What it shows.
    pub credentials: Arc<dyn Credentials>,
    /// Whom it admits.
    pub trust: Arc<dyn Trust>,
    /// What both must know besides.
    pub shared_secret: Option<[u8; 32]>,
    /// The cipher; the initiator's counts.
    pub suite: Suite,
    /// How long it may take.
    pub timeout: Duration,
    /// Seconds since 1970.
    pub unix_time: i64,
    /// Whether it goes over a stream: nothing is padded, repeated or limited.
    pub reliable: bool,
    /// Transport parameters.
    pub parameters: Vec<u8>,
}

/// One handshake, either side of it.
pub(crate) struct Handshake {
    settings: Settings,
    rng: StdRng,
    state: State,
    side: Side,
    started: Instant,
    deadline: Option<Instant>,
    /// What ends it at the deadline.
    verdict: HandshakeError,
    /// Own connection id and attempt.
    own: [u8; 16],
    /// What the peer is called in packets.
    peer: [u8; 16],
    incoming: Assembly,
    outgoing: Option<Flight>,
    cookie: Option<[u8; COOKIE_LEN]>,
    /// What is said about the incoming message: when, if something is missing then.
    report: Option<Instant>,
    validated: bool,
    received: u64,
    sent: u64,
    timeout: Duration,
    timer: Option<Instant>,
    last_sent: Option<Instant>,
    repeated: bool,
    rtt: Option<Duration>,
}

enum State {
    /// The initiator waits for the answer.
    Dialling { noise: Box<Noise>, kem: hybrid::KeyPair, peer: Peer },
    /// The responder waits for the first message.
    Listening,
    /// The responder waits for the third message of `XX`.
    Answered(Box<Noise>),
    /// Both know all they need. With `XX`, the initiator's third message may still be refused: with the proof that is here.
    Done(Option<Zeroizing<[u8; 32]>>),
    /// The peer was refused; it is being told.
    Refusing,
}

/// What became of a whole message.
enum Outcome {
    Forged,
    Progress(Progress),
}

impl From<Unauthentic> for Outcome {
    fn from(_: Unauthentic) -> Self {
        Self::Forged
    }
}

impl Handshake {
    /// Dials `peer`. `own` is the connection id that the peer is to use; all chance comes from `seed`, which is used for nothing else.
    pub(crate) fn initiator(
        now: Instant,
        settings: Settings,
        peer: Peer,
        own: ConnectionId,
        seed: [u8; 32],
    ) -> Result<Self, HandshakeError> {
        let mut rng = StdRng::from_seed(seed);
        let own = name(own, rng.random());
        let (pattern, known, recipient) = match peer {
            Peer::Key(key) => (Pattern::Ik, Some(key), PeerId::of_static(&key)),
            Peer::Id(id) => (Pattern::Xx, None, id),
            Peer::Trusted => (Pattern::Xx, None, PeerId::default()),
        };
        let prologue = [PROLOGUE, &own].concat();
        let mut noise =
            Noise::new(pattern, settings.suite, Side::Initiator, settings.key.clone(), known, &prologue);
        let kem = hybrid::KeyPair::generate(&mut rng);
        let mut hello = kem.public().to_vec();
        let credentials = settings.credentials.payload();
        if pattern == Pattern::Ik {
            About { parameters: &settings.parameters, credentials: &credentials }.put(&mut hello);
        }
        let mut message = Vec::new();
        payload::put_choice(&mut message, pattern, settings.suite);
        noise.write(&hello, &mut rng, &mut message).map_err(|_| HandshakeError::WeakKey)?;
        let flight = Flight::new(0, message);
        let state = State::Dialling { noise: Box::new(noise), kem, peer };
        Ok(Self { outgoing: Some(flight), ..Self::new(now, settings, rng, state, own, recipient.0) })
    }

    /// Is dialled. `first` is a packet with a fragment of the first message, and is then to be given to [`Self::handle`]. `validated`: its address
    /// was proved by a cookie.
    pub(crate) fn responder(
        now: Instant,
        settings: Settings,
        own: ConnectionId,
        first: &HandshakePacket<'_>,
        validated: bool,
        seed: [u8; 32],
    ) -> Self {
        let own = name(own, attempt(&first.sender));
        let rng = StdRng::from_seed(seed);
        Self { validated, ..Self::new(now, settings, rng, State::Listening, own, first.sender) }
    }

    fn new(
        now: Instant,
        settings: Settings,
        rng: StdRng,
        state: State,
        own: [u8; 16],
        peer: [u8; 16],
    ) -> Self {
        Self {
            side: if matches!(state, State::Listening) { Side::Responder } else { Side::Initiator },
            deadline: Some(now + settings.timeout),
            settings,
            rng,
            state,
            started: now,
            verdict: HandshakeError::TimedOut,
            own,
            peer,
            incoming: Assembly::default(),
            outgoing: None,
            cookie: None,
            report: None,
            validated: false,
            received: 0,
            sent: 0,
            timeout: FIRST_TIMEOUT,
            timer: None,
            last_sent: None,
            repeated: false,
            rtt: None,
        }
    }

    /// Takes a packet that came by the route of this handshake, in a datagram of `size` bytes. What is not authentic changes nothing that matters.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        packet: &HandshakePacket<'_>,
        size: usize,
    ) -> Result<Progress, HandshakeError> {
        let mut progress = Progress::More;
        if !self.is_for_this(packet) {
            return Ok(progress);
        }
        self.received += size as u64;
        for message in message::parse(packet.payload) {
            match message {
                Message::Fragment { message, total, offset, bytes } => {
                    let news = self.on_fragment(now, packet, message, total, (offset, bytes))?;
                    if matches!(news, Progress::Complete(_)) {
                        progress = news;
                    }
                }
                Message::Received { message, ranges } => {
                    if let Some(flight) = self.outgoing.as_mut().filter(|flight| flight.message() == message)
                    {
                        flight.on_received(ranges);
                        self.on_reaction(now);
                    }
                }
                Message::Retry(cookie) => self.on_retry(cookie),
                Message::Cookie(_) => {}
            }
        }
        Ok(progress)
    }

    fn is_for_this(&mut self, packet: &HandshakePacket<'_>) -> bool {
        if attempt(&packet.sender) != attempt(&self.own) {
            return false;
        }
        match self.side {
            // Before it has authenticated, the peer's connection id may be anything.
            Side::Initiator => {
                let settled = !matches!(self.state, State::Dialling { .. });
                packet.recipient == self.own && (!settled || packet.sender == self.peer)
            }
            Side::Responder => {
                let echoed = packet.recipient == self.own;
                self.validated |= echoed;
                let named = packet.recipient == self.settings.key.id().0 || packet.recipient == [0; 16];
                packet.sender == self.peer && (echoed || named)
            }
        }
    }

    /// The message that is waited for.
    fn expected(&self) -> Option<u8> {
        match &self.state {
            State::Listening => Some(0),
            State::Dialling { .. } => Some(1),
            State::Answered(_) => Some(2),
            State::Done(Some(_)) => Some(3),
            State::Done(None) | State::Refusing => None,
        }
    }

    fn on_fragment(
        &mut self,
        now: Instant,
        packet: &HandshakePacket<'_>,
        message: u8,
        total: u32,
        (offset, bytes): (u32, &[u8]),
    ) -> Result<Progress, HandshakeError> {
        if self.expected() != Some(message) {
            if self.expected().is_none_or(|expected| message < expected) && offset == 0 {
                self.on_repetition(now);
            }
            return Ok(Progress::More);
        }
        self.on_reaction(now);
        if matches!(self.state, State::Dialling { .. }) {
            self.peer = packet.sender;
        }
        let Some(whole) = self.incoming.insert(total, offset, bytes).map(<[u8]>::to_vec) else {
            self.plan_report(now);
            return Ok(Progress::More);
        };
        self.incoming.clear();
        match self.on_message(now, &whole)? {
            Outcome::Progress(progress) => {
                self.report = None;
                Ok(progress)
            }
            Outcome::Forged => {
                self.report = (!self.settings.reliable).then_some(now);
                Ok(Progress::More)
            }
        }
    }

    /// The peer reacted to what was sent.
    fn on_reaction(&mut self, now: Instant) {
        if self.rtt.is_none() && !self.repeated {
            self.rtt = self.last_sent.map(|sent| now.saturating_duration_since(sent));
        }
    }

    /// The peer repeats a message that was understood: what it got as the answer was lost.
    fn on_repetition(&mut self, now: Instant) {
        let quiet = self.last_sent.is_none_or(|sent| now.saturating_duration_since(sent) >= self.timeout / 4);
        if let Some(flight) = self.outgoing.as_mut().filter(|flight| quiet && !flight.is_pending()) {
            flight.repeat();
            self.repeated = true;
        }
    }

    /// Part of a message is there: if the rest does not come, the peer must know.
    fn plan_report(&mut self, now: Instant) {
        if self.settings.reliable {
            return;
        }
        // The peer may be at the end of what it is allowed to send to an address that proved nothing.
        let starved = self.side == Side::Initiator && self.received + 1200 > self.sent;
        self.report = Some(if starved { now } else { now + REPORT_DELAY });
    }

    fn on_retry(&mut self, cookie: &[u8; COOKIE_LEN]) {
        if !matches!(self.state, State::Dialling { .. }) || self.cookie.as_ref() == Some(cookie) {
            return;
        }
        // Anybody may have said so: at once only the first time, later ones wait for the timer.
        if self.cookie.replace(*cookie).is_none()
            && let Some(flight) = &mut self.outgoing
        {
            flight.repeat();
        }
    }

    fn on_message(&mut self, now: Instant, message: &[u8]) -> Result<Outcome, HandshakeError> {
        match &self.state {
            State::Listening => self.on_hello(now, message),
            State::Dialling { .. } => self.on_answer(now, message),
            State::Answered(_) => Ok(self.on_last(now, message)),
            State::Done(Some(key)) => match message.split_first() {
                Some((code, proof))
                    if constant_time::verify_slices_are_equal(&refusal(key, *code), proof).is_ok() =>
                {
                    Err(HandshakeError::RefusedByPeer(Refused::from_code(*code)))
                }
                _ => Ok(Outcome::Forged),
            },
            State::Done(None) | State::Refusing => Ok(Outcome::Forged),
        }
    }

    /// The responder reads the first message.
    fn on_hello(&mut self, now: Instant, message: &[u8]) -> Result<Outcome, HandshakeError> {
        let Some((pattern, suite, message)) = payload::choice(message) else {
            return Ok(Outcome::Forged);
        };
        let prologue = [PROLOGUE, &self.peer].concat();
        let key = self.settings.key.clone();
        let mut noise = Noise::new(pattern, suite, Side::Responder, key, None, &prologue);
        let Ok(hello) = noise.read(message) else { return Ok(Outcome::Forged) };
        // With IK, the message is authentic from here on.
        let malformed = || match pattern {
            Pattern::Ik => Err(HandshakeError::Malformed),
            Pattern::Xx => Ok(Outcome::Forged),
        };
        let Some((encapsulation_key, about)) = payload::hello(&hello) else { return malformed() };
        let secret = self.settings.shared_secret.as_ref();
        let Some((ciphertext, psk)) = hybrid::encapsulate(encapsulation_key, secret, &mut self.rng) else {
            return malformed();
        };
        noise.set_psk(psk);
        let peer = match pattern {
            Pattern::Xx => None,
            Pattern::Ik => {
                let Some(about) = About::parse(about) else { return malformed() };
                let admitted = self.admit(now, &noise, &about);
                Some(admitted.map(|peer| (peer, about.parameters.to_vec())))
            }
        };
        let credentials = self.settings.credentials.payload();
        let about = About { parameters: &self.settings.parameters, credentials: &credentials };
        let answer = match &peer {
            Some(Err(reason)) => Answer::Refused(*reason),
            _ => Answer::Accepted(connection_id(&self.own), about),
        };
        let (mut plain, mut message) = (Vec::new(), ciphertext.to_vec());
        answer.put(&mut plain);
        if noise.write(&plain, &mut self.rng, &mut message).is_err() {
            return malformed();
        }
        self.send(Flight::new(1, message));
        let progress = match peer {
            None => {
                self.state = State::Answered(Box::new(noise));
                Progress::More
            }
            Some(Err(reason)) => self.refuse(now, reason),
            Some(Ok((peer, parameters))) => {
                self.state = State::Done(None);
                self.complete(&noise, suite, peer, parameters, false)
            }
        };
        Ok(Outcome::Progress(progress))
    }

    /// The initiator reads the second message.
    fn on_answer(&mut self, now: Instant, message: &[u8]) -> Result<Outcome, HandshakeError> {
        let State::Dialling { noise, kem, peer } = &self.state else { return Ok(Outcome::Forged) };
        let Some((ciphertext, message)) = message.split_first_chunk() else { return Ok(Outcome::Forged) };
        let (peer, mut noise) = (*peer, (**noise).clone());
        noise.set_psk(kem.open(ciphertext, self.settings.shared_secret.as_ref()));
        let Ok(answer) = noise.read(message) else { return Ok(Outcome::Forged) };
        let is_known = matches!(peer, Peer::Key(_));
        match self.judge(now, &noise, peer, &answer) {
            Ok((identity, parameters, id)) => {
                self.peer = name(id, attempt(&self.own));
                let suite = self.settings.suite;
                if is_known {
                    self.outgoing = None;
                    self.state = State::Done(None);
                    self.deadline = None;
                    return Ok(Outcome::Progress(self.complete(&noise, suite, identity, parameters, true)));
                }
                let credentials = self.settings.credentials.payload();
                let (mut plain, mut message) = (Vec::new(), Vec::new());
                About { parameters: &self.settings.parameters, credentials: &credentials }.put(&mut plain);
                if noise.write(&plain, &mut self.rng, &mut message).is_err() {
                    return Ok(Outcome::Forged);
                }
                self.send(Flight::new(2, message));
                self.state = State::Done(noise.split().as_ref().map(refusal_key));
                Ok(Outcome::Progress(self.complete(&noise, suite, identity, parameters, false)))
            }
            Err(error) if is_known => Err(error),
            Err(error) => {
                // Somebody answered properly, and it may be somebody in between: the right one can still be faster than the patience.
                self.verdict = error;
                self.deadline = self.deadline.map(|deadline| deadline.min(now + PATIENCE));
                Ok(Outcome::Forged)
            }
        }
    }

    /// Whether the author of an authentic answer is the one who was dialled, and willing.
    fn judge(
        &self,
        now: Instant,
        noise: &Noise,
        peer: Peer,
        answer: &[u8],
    ) -> Result<(PeerIdentity, Vec<u8>, ConnectionId), HandshakeError> {
        let key = noise.peer_static().ok_or(HandshakeError::Malformed)?;
        if matches!(peer, Peer::Id(id) if id != PeerId::of_static(&key)) {
            return Err(HandshakeError::WrongPeer);
        }
        match Answer::parse(answer).ok_or(HandshakeError::Malformed)? {
            Answer::Refused(reason) => Err(HandshakeError::RefusedByPeer(reason)),
            Answer::Accepted(id, about) => {
                let identity = self.admit(now, noise, &about).map_err(HandshakeError::NotAdmitted)?;
                Ok((identity, about.parameters.to_vec(), id))
            }
        }
    }

    /// The responder reads the third message of `XX`.
    fn on_last(&mut self, now: Instant, message: &[u8]) -> Outcome {
        let State::Answered(noise) = &mut self.state else { return Outcome::Forged };
        let Ok(plain) = noise.read(message) else { return Outcome::Forged };
        let noise = noise.clone();
        let about = About::parse(&plain);
        let admitted =
            about.as_ref().ok_or(Refused::Malformed).and_then(|about| self.admit(now, &noise, about));
        match (admitted, about) {
            (Ok(peer), Some(about)) => {
                self.outgoing = None;
                self.state = State::Done(None);
                self.deadline = None;
                let suite = noise.suite();
                Outcome::Progress(self.complete(&noise, suite, peer, about.parameters.to_vec(), true))
            }
            (Ok(_), None) => Outcome::Forged,
            (Err(reason), _) => {
                if let Some(split) = noise.split() {
                    let code = reason.code();
                    let proof = refusal(&refusal_key(&split), code);
                    self.send(Flight::new(3, [&[code][..], &proof].concat()));
                }
                Outcome::Progress(self.refuse(now, reason))
            }
        }
    }

    fn admit(&self, now: Instant, noise: &Noise, about: &About<'_>) -> Result<PeerIdentity, Refused> {
        let key = noise.peer_static().ok_or(Refused::Malformed)?;
        let passed = now.saturating_duration_since(self.started).as_secs();
        let unix_time = self.settings.unix_time.saturating_add_unsigned(passed);
        self.settings.trust.admit(&key, about.credentials, unix_time)
    }

    fn refuse(&mut self, now: Instant, reason: Refused) -> Progress {
        self.state = State::Refusing;
        self.verdict = HandshakeError::NotAdmitted(reason);
        self.deadline = Some(now + REFUSAL_TIME);
        Progress::More
    }

    fn complete(
        &self,
        noise: &Noise,
        suite: Suite,
        peer: PeerIdentity,
        parameters: Vec<u8>,
        confirmed: bool,
    ) -> Progress {
        let split = noise.split().expect("the last message was written or read");
        let secrets = ConnectionSecrets::new(suite, &split.initiator, &split.responder, &split.hash);
        let peer_cid = connection_id(&self.peer);
        Progress::Complete(Box::new(Established {
            secrets,
            peer,
            parameters,
            peer_cid,
            confirmed,
            rtt: self.rtt,
        }))
    }

    fn send(&mut self, flight: Flight) {
        self.outgoing = Some(flight);
        self.timer = None;
        self.timeout = self.rtt.map_or(FIRST_TIMEOUT, |rtt| (3 * rtt).clamp(FIRST_TIMEOUT / 3, MAX_TIMEOUT));
        self.repeated = false;
        self.last_sent = None;
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Dialling { .. } => "dialling",
            State::Listening => "listening",
            State::Answered(_) => "answered",
            State::Done(_) => "done",
            State::Refusing => "refusing",
        };
        f.debug_struct("Handshake").field("side", &self.side).field("state", &state).finish_non_exhaustive()
    }
}

fn name(id: ConnectionId, attempt: [u8; 8]) -> [u8; 16] {
    let mut name = [0; 16];
    name[..8].copy_from_slice(&id.0);
    name[8..].copy_from_slice(&attempt);
    name
}

fn attempt(name: &[u8; 16]) -> [u8; 8] {
    *name.last_chunk().expect("eight of sixteen bytes")
}

fn connection_id(name: &[u8; 16]) -> ConnectionId {
    ConnectionId(*name.first_chunk().expect("eight of sixteen bytes"))
}

fn refusal_key(split: &Split) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let secret = Prk::new_less_safe(HKDF_SHA256, &*split.responder);
    crypto::expand(&secret, &[REFUSAL, &split.hash], &mut *key);
    key
}

fn refusal(key: &[u8; 32], code: u8) -> [u8; 16] {
    let mut proof = [0; 16];
    crypto::expand(&Prk::new_less_safe(HKDF_SHA256, key), &[&[code]], &mut proof);
    proof
}
