//! A TCP connection of a peer, carried by a stream of its own to the server (RFC 6062 sections 4.3 to 4.5).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use towline_ice::stun::{Class, Encoder, Framed, Message, Splitter, TransactionId};

use super::answer::{answers, not_understood};
use super::event::{BadAnswer, Failure};
use crate::auth::Auth;
use crate::credentials::Credentials;
use crate::refusal::Refusal;
use crate::wire::{attribute, method};

/// What a data connection takes over from its allocation.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) server: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) id: u32,
    pub(super) auth: Option<Auth>,
    pub(super) credentials: Option<Credentials>,
    pub(super) patience: Duration,
    pub(super) stale_nonces: u8,
    pub(super) max_message: usize,
}

/// Ties a new stream to the server to the connection of a peer.
///
/// The driver opens a stream to [`server`](Self::server), in the way in which the client speaks to it, sends what
/// [`poll_transmit`](Self::poll_transmit) returns and gives what comes to [`handle_stream`](Self::handle_stream) until
/// that says [`Progress::Open`]. From there on the stream carries the bytes of the peer, both ways, as they are. It ends
/// when the allocation does.
#[derive(Debug)]
pub struct DataConnection {
    dial: Dial,
    rng: StdRng,
    splitter: Splitter,
    state: State,
    out: Option<Bytes>,
}

#[derive(Debug)]
enum State {
    Binding { id: TransactionId, stale: u8, deadline: Instant },
    Open,
    Failed(Failure),
}

/// How far a data connection has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress<'i> {
    /// More has to come from the server; poll for what to send.
    Pending,
    /// It stands. These bytes are the first ones of the peer.
    Open(&'i [u8]),
}

/// The stream does not lead to the peer: end it.
pub type DataConnectionError = Failure;

impl DataConnection {
    pub(super) fn new(dial: Dial, now: Instant, seed: [u8; 32]) -> Self {
        let splitter = Splitter::with_limit(dial.max_message);
        let deadline = now + dial.patience + Duration::from_secs(5);
        let mut connection =
            Self { dial, rng: StdRng::from_seed(seed), splitter, state: State::Open, out: None };
        connection.bind(0, deadline);
        connection
    }

    /// The server to open a stream to.
    pub fn server(&self) -> SocketAddr {
        self.dial.server
    }

    /// Who is at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.dial.peer
    }

    /// The next bytes to send on the stream.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.take()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Binding { deadline, .. } => Some(deadline),
            State::Open | State::Failed(_) => None,
        }
    }

    /// Fails when the server has been silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), DataConnectionError> {
        match self.state {
            State::Binding { deadline, .. } if deadline <= now => self.fail(Failure::NoAnswer),
            State::Failed(reason) => Err(reason),
            _ => Ok(()),
        }
    }

    /// Bytes came from the stream.
    pub fn handle_stream<'i>(&mut self, mut input: &'i [u8]) -> Result<Progress<'i>, DataConnectionError> {
        loop {
            match self.state {
                State::Open => return Ok(Progress::Open(input)),
                State::Failed(reason) => return Err(reason),
                State::Binding { id, stale, deadline } => {
                    let framed = match self.splitter.split(&mut input) {
                        Ok(Some(framed)) => framed,
                        Ok(None) => return Ok(Progress::Pending),
                        Err(error) => return self.fail(Failure::Stream(error)),
                    };
                    match bound(&self.dial, framed, id, stale) {
                        Ok(Next::Wait) => {}
                        Ok(Next::Open) => self.state = State::Open,
                        Ok(Next::Again(auth, stale)) => {
                            self.dial.auth = Some(auth);
                            self.bind(stale, deadline);
                        }
                        Err(reason) => return self.fail(reason),
                    }
                }
            }
        }
    }

    fn fail<T>(&mut self, reason: Failure) -> Result<T, Failure> {
        self.state = State::Failed(reason);
        self.out = None;
        Err(reason)
    }

    fn bind(&mut self, stale: u8, deadline: Instant) {
        let mut bytes = [0; 12];
        self.rng.fill_bytes(&mut bytes);
        let id = TransactionId(bytes);
        let request = Encoder::new(Class::Request, method::CONNECTION_BIND, id)
            .attribute(attribute::CONNECTION_ID, &self.dial.id.to_be_bytes());
        self.out = Some(match &self.dial.auth {
            Some(auth) => auth.seal(request),
            None => request.finish(None),
        });
        self.state = State::Binding { id, stale, deadline };
    }
}

enum Next {
    Wait,
    Open,
    Again(Auth, u8),
}

// What a message on the stream means while the answer to `id` is awaited.
fn bound(dial: &Dial, framed: Framed<'_>, id: TransactionId, stale: u8) -> Result<Next, Failure> {
    let Framed::Stun(packet) = framed else { return Ok(Next::Wait) };
    let message = match Message::decode(packet) {
        Ok(message) if answers(&message, method::CONNECTION_BIND, id) => message,
        _ => return Ok(Next::Wait),
    };
    if let Some(kind) = not_understood(&message) {
        return Err(BadAnswer::UnknownAttribute(kind).into());
    }
    let proven = dial.auth.as_ref().is_none_or(|auth| auth.verify(&message).is_ok());
    if message.class == Class::Success {
        return if proven { Ok(Next::Open) } else { Err(Failure::Forged) };
    }
    let refusal = Refusal::of(&message).ok_or(BadAnswer::NoCode)?;
    let again = match refusal {
        Refusal::Unauthenticated if dial.auth.is_none() => stale,
        Refusal::Unauthenticated => return Err(Failure::WrongCredentials),
        Refusal::StaleNonce if stale >= dial.stale_nonces => return Err(Failure::StaleNonces),
        Refusal::StaleNonce => stale + 1,
        // This stream is used for nothing else, so nothing is lost by believing it.
        other if proven => return Err(Failure::Refused(other)),
        other => return Err(Failure::Unproven(other)),
    };
    let credentials = dial.credentials.as_ref().ok_or(Failure::CredentialsRequired)?;
    Ok(Next::Again(Auth::answer(&message, credentials, dial.auth.as_ref())?, again))
}
