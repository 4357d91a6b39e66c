//! One TLS session.

use std::fmt;
use std::mem;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{CipherSuite, HandshakeKind, NamedGroup, ProtocolVersion};
use towline_identity::{Chain, DeviceId};

use crate::config::{Config, Dialect, NATIVE_ALPN};
use crate::connection::{CONTROL_LEN, Connection, Intent, MAX_FRAGMENT_LEN, RECORD_OVERHEAD, Step};
use crate::error::TlsError;
use crate::hello;
use crate::verify::PinnedPeer;

/// Header of a record: type, version, length.
const RECORD_HEADER_LEN: usize = 5;

/// Most bytes that follow a record's header (RFC 5246 6.2.3; TLS 1.3 allows fewer).
const MAX_RECORD_BODY_LEN: usize = MAX_FRAGMENT_LEN + 2048;

/// Version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Cipher of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-256-GCM with SHA-384.
    Aes256Gcm,
    /// ChaCha20-Poly1305 with SHA-256.
    ChaCha20Poly1305,
}

/// Group of the key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// NIST P-384.
    Secp384r1,
    /// X25519.
    X25519,
}

/// What two peers agreed upon, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandshakeSummary {
    /// Version of TLS.
    pub version: Version,
    /// Cipher of the records.
    pub suite: Suite,
    /// Group of the key exchange.
    pub group: Group,
    /// Whether the client's first key share was not to the server's liking, which costs a round trip.
    pub retried: bool,
    /// What is spoken above.
    pub dialect: Dialect,
    /// Bytes of the peer's handshake.
    pub peer_handshake_len: usize,
}

impl fmt::Display for HandshakeSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.version {
            Version::Tls12 => "TLS 1.2",
            Version::Tls13 => "TLS 1.3",
        };
        let suite = match self.suite {
            Suite::Aes256Gcm => "AES-256-GCM",
            Suite::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        };
        let group = match self.group {
            Group::Secp384r1 => "P-384",
            Group::X25519 => "X25519",
        };
        let retried = if self.retried { ", retried" } else { "" };
        write!(f, "{version}, {suite}, {group}{retried}")
    }
}

/// Whether one direction still carries data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Open,
    Closed,
}

#[derive(Debug)]
enum State {
    /// A server that has not seen all of the ClientHello.
    AwaitingHello(Config),
    Handshaking(Connection),
    Established(Connection, HandshakeSummary),
    Failed(TlsError),
}

/// One TLS session, as bytes in and bytes out.
///
/// Feed what comes to [`receive`](Self::receive), send what [`poll_transmit`](Self::poll_transmit),
/// [`send`](Self::send) and [`close`](Self::close) give, in that order.
#[derive(Debug)]
pub struct Session {
    state: State,
    peer: Arc<PinnedPeer>,
    incoming: Half,
    outgoing: Half,
    /// Handshake messages and alerts that wait to be sent.
    pending: Vec<u8>,
    /// Input that is kept: records of an unfinished handshake message, then a part of a record.
    held: Vec<u8>,
    /// Where in `held` that last record begins.
    record_start: usize,
    /// Bytes of the peer's handshake so far.
    handshake_len: usize,
    max_handshake_len: usize,
}

impl Session {
    /// The client's side, with a ClientHello ready to be sent. In Jami's crossed roles, that is who answers.
    pub fn client(config: &Config, peer: DeviceId) -> Result<Self, TlsError> {
        let peer = Arc::new(PinnedPeer::new(peer, config.options().expiry.clone()));
        // Neither sent (there is no SNI) nor checked (the key is).
        let name = ServerName::try_from("device.invalid").expect("a valid name");
        let connection = UnbufferedClientConnection::new(config.client(peer.clone()), name)?;
        let mut session =
            Self::new(config, peer, State::Handshaking(Connection::Client(Box::new(connection))));
        session.drive(&mut [], &mut |_| {})?;
        Ok(session)
    }

    /// The server's side. In Jami's crossed roles, that is who asked for the connection.
    pub fn server(config: &Config, peer: DeviceId) -> Result<Self, TlsError> {
        let peer = Arc::new(PinnedPeer::new(peer, config.options().expiry.clone()));
        Ok(Self::new(config, peer, State::AwaitingHello(config.clone())))
    }

    fn new(config: &Config, peer: Arc<PinnedPeer>, state: State) -> Self {
        Self {
            state,
            peer,
            incoming: Half::Open,
            outgoing: Half::Open,
            pending: Vec::new(),
            held: Vec::new(),
            record_start: 0,
            handshake_len: 0,
            max_handshake_len: config.options().max_handshake_len,
        }
    }

    /// Takes in what came from the peer, and gives each piece of plaintext to `on_plaintext`, in order.
    ///
    /// Records are decrypted in place. Says how many bytes of `input` are used up; the rest, less than one record, must
    /// stand at the front of the next call's input, unchanged. After an error the session is over.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        on_plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, TlsError> {
        let mut used = 0;
        loop {
            if let State::Failed(error) = &self.state {
                return Err(error.clone());
            }
            if self.incoming == Half::Closed {
                // Nothing counts after the farewell.
                return Ok(input.len());
            }
            let rest = &mut input[used..];
            if self.is_established() && self.held.is_empty() {
                return self.receive_in_place(rest, on_plaintext).map(|more| used + more);
            }
            let taken = self.hold_record(rest);
            used += taken.map_err(|error| self.fail(error))?;
            if !self.holds_whole_record() {
                return Ok(used);
            }
            self.process_held(on_plaintext)?;
        }
    }

    fn receive_in_place(
        &mut self,
        input: &mut [u8],
        on_plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, TlsError> {
        let used = self.drive(input, on_plaintext)?;
        let rest = &input[used..];
        // Whole records that the library does not let go of are pieces of a handshake message.
        if self.incoming == Half::Open
            && record_len(rest).map_err(|e| self.fail(e))?.is_some_and(|n| n <= rest.len())
        {
            self.held.extend_from_slice(rest);
            self.record_start = whole_records(rest);
            if self.held.len() > self.max_handshake_len {
                return Err(self.fail(TlsError::HandshakeTooLong { limit: self.max_handshake_len }));
            }
            return Ok(input.len());
        }
        Ok(used)
    }

    /// Moves bytes from `input` to `held`, up to the end of one record.
    fn hold_record(&mut self, input: &[u8]) -> Result<usize, TlsError> {
        let limit = self.max_handshake_len;
        let mut taken = 0;
        // First the header, then what it announces.
        for _ in 0..2 {
            let have = self.held.len() - self.record_start;
            let want = record_len(&self.held[self.record_start..])?.unwrap_or(RECORD_HEADER_LEN);
            let more = want.saturating_sub(have).min(input.len() - taken);
            self.held.extend_from_slice(&input[taken..taken + more]);
            taken += more;
        }
        record_len(&self.held[self.record_start..])?;
        if !self.is_established() {
            self.handshake_len += taken;
        }
        if self.handshake_len > limit || self.held.len() > limit {
            return Err(TlsError::HandshakeTooLong { limit });
        }
        Ok(taken)
    }

    fn holds_whole_record(&self) -> bool {
        let record = &self.held[self.record_start..];
        matches!(record_len(record), Ok(Some(len)) if len == record.len())
    }

    fn process_held(&mut self, on_plaintext: &mut dyn FnMut(&[u8])) -> Result<(), TlsError> {
        if let State::AwaitingHello(config) = &self.state {
            let Some(native) = hello::offers(&self.held, NATIVE_ALPN) else {
                self.record_start = self.held.len();
                return Ok(());
            };
            let connection = UnbufferedServerConnection::new(config.server(self.peer.clone(), native));
            let connection = connection.map_err(|error| self.fail(error.into()))?;
            self.state = State::Handshaking(Connection::Server(Box::new(connection)));
        }
        let mut held = mem::take(&mut self.held);
        let used = self.drive(&mut held, on_plaintext)?;
        held.drain(..used);
        self.held = held;
        self.record_start = self.held.len();
        Ok(())
    }

    /// Lets the library work until it waits for the peer. Gives the bytes of `input` that are used up.
    fn drive(&mut self, input: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> Result<usize, TlsError> {
        let (State::Handshaking(connection) | State::Established(connection, _)) = &mut self.state else {
            return Ok(0);
        };
        let mut used = 0;
        let error = loop {
            let (more, step) =
                connection.step(&mut input[used..], sink, &mut self.pending, &mut Intent::Listen);
            used += more;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.incoming = Half::Closed,
                Ok(Step::Idle | Step::Closed | Step::Done(_)) => break None,
                Err(error) => break Some(error),
            }
        };
        match error {
            None => {
                self.note_establishment();
                Ok(used)
            }
            Some(error) => {
                // What the library has left to say is why it gives up. It must not look at the input again.
                while connection.state().wants_write() {
                    let input = &mut input[used..];
                    used += connection.step(input, &mut |_| {}, &mut self.pending, &mut Intent::Listen).0;
                }
                Err(self.fail(error))
            }
        }
    }

    fn note_establishment(&mut self) {
        let State::Handshaking(connection) = &self.state else { return };
        let Some(summary) = summary(connection, self.handshake_len) else { return };
        let placeholder = State::Failed(TlsError::Library);
        if let State::Handshaking(connection) = mem::replace(&mut self.state, placeholder) {
            self.state = State::Established(connection, summary);
        }
    }

    fn fail(&mut self, error: TlsError) -> TlsError {
        self.state = State::Failed(error.clone());
        self.held = Vec::new();
        error
    }

    /// Tells that the transport ended. Fine if the peer said farewell; else data may be missing.
    pub fn receive_eof(&mut self) -> Result<(), TlsError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        match self.incoming {
            Half::Closed => Ok(()),
            Half::Open => Err(self.fail(TlsError::Truncated)),
        }
    }

    /// Appends to `out` what must be sent now: handshake messages, key updates, alerts. Whether there was any.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let any = !self.pending.is_empty();
        out.append(&mut self.pending);
        any
    }

    /// Most bytes that [`Session::seal`] writes for this many bytes of plaintext.
    pub fn sealed_len(&self, plaintext_len: usize) -> usize {
        let records = plaintext_len.div_ceil(MAX_FRAGMENT_LEN);
        self.pending.len() + plaintext_len + records * RECORD_OVERHEAD + CONTROL_LEN
    }

    /// Encrypts `plaintext` and appends the records to `out`, after whatever [`Session::poll_transmit`]
    /// held. Works as long as this side did not close, even if the peer did.
    pub fn send(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let start = out.len();
        out.resize(start + self.sealed_len(plaintext.len()), 0);
        let written = self.seal(plaintext, &mut out[start..]);
        out.truncate(start + *written.as_ref().unwrap_or(&0));
        written.map(|_| ())
    }

    /// Like [`Session::send`], into a buffer of at least [`Session::sealed_len`] bytes. Gives how many
    /// were written.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        self.may_send()?;
        assert!(out.len() >= self.sealed_len(plaintext.len()), "the buffer is as long as documented");
        let start = self.take_pending(out);
        if plaintext.is_empty() {
            return Ok(start);
        }
        self.write(&mut Intent::Seal { plaintext, out: &mut out[start..] }).map(|written| start + written)
    }

    /// Says farewell: appends a close_notify to `out`. Nothing can be sent afterwards; what the peer still
    /// sends can be received. In a handshake, and after a failure, it only ends the session.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let established = self.may_send().is_ok();
        self.outgoing = Half::Closed;
        out.append(&mut self.pending);
        if established {
            let mut alert = [0; CONTROL_LEN];
            // A failure here is one of worn-out keys; the transport's end has to say it then.
            let written = self.write(&mut Intent::Close { out: &mut alert }).unwrap_or(0);
            out.extend_from_slice(&alert[..written]);
        }
    }

    fn may_send(&self) -> Result<(), TlsError> {
        match (&self.state, self.outgoing) {
            (State::Failed(error), _) => Err(error.clone()),
            (_, Half::Closed) => Err(TlsError::Closed),
            (State::Established(..), Half::Open) => Ok(()),
            (_, Half::Open) => Err(TlsError::NotEstablished),
        }
    }

    fn take_pending(&mut self, out: &mut [u8]) -> usize {
        let len = self.pending.len();
        out[..len].copy_from_slice(&self.pending);
        self.pending.clear();
        len
    }

    /// Carries out the intent. The library took in all it can, so that at most it notes first that the peer closed; but
    /// it wants to see what it still holds on to.
    fn write(&mut self, intent: &mut Intent<'_>) -> Result<usize, TlsError> {
        let State::Established(connection, _) = &mut self.state else { return Err(TlsError::NotEstablished) };
        let result = loop {
            let (used, step) = connection.step(&mut self.held, &mut |_| {}, &mut self.pending, intent);
            self.held.drain(..used);
            self.record_start -= used;
            match step {
                Ok(Step::Done(written)) => break Ok(written),
                Ok(Step::Again | Step::PeerClosed) => {}
                Ok(Step::Idle | Step::Closed) => return Err(TlsError::Closed),
                Err(error) => break Err(error),
            }
        };
        result.map_err(|error| self.fail(error))
    }

    /// Whether data can be sent. A client gets here before its server accepted it: a refusal comes as
    /// [`TlsError::PeerAlert`] later.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(..))
    }

    /// Whether the peer said farewell: all that it sent was received.
    pub fn peer_closed(&self) -> bool {
        self.incoming == Half::Closed
    }

    /// Why the session failed, if it did.
    pub fn error(&self) -> Option<&TlsError> {
        match &self.state {
            State::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The chain that the peer presented, once the session is established. Its leaf is the key that was asked for, and
    /// its links hold up to its own top; whether anybody knows that top is the caller's question.
    pub fn peer_chain(&self) -> Option<&Chain> {
        if self.is_established() { self.peer.chain() } else { None }
    }

    /// What was agreed upon, once the session is established.
    pub fn summary(&self) -> Option<&HandshakeSummary> {
        match &self.state {
            State::Established(_, summary) => Some(summary),
            _ => None,
        }
    }

    /// What is spoken above, once the session is established.
    pub fn dialect(&self) -> Option<Dialect> {
        self.summary().map(|summary| summary.dialect)
    }
}

/// What the connection agreed upon, if its handshake is done.
fn summary(connection: &Connection, peer_handshake_len: usize) -> Option<HandshakeSummary> {
    let state = connection.state();
    if state.is_handshaking() {
        return None;
    }
    let version = match state.protocol_version()? {
        ProtocolVersion::TLSv1_3 => Version::Tls13,
        _ => Version::Tls12,
    };
    let suite = match state.negotiated_cipher_suite()?.suite() {
        CipherSuite::TLS13_AES_256_GCM_SHA384 | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => {
            Suite::Aes256Gcm
        }
        _ => Suite::ChaCha20Poly1305,
    };
    let group = match state.negotiated_key_exchange_group()?.name() {
        NamedGroup::secp384r1 => Group::Secp384r1,
        _ => Group::X25519,
    };
    let retried = state.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
    let native = state.alpn_protocol() == Some(NATIVE_ALPN);
    let dialect = if native { Dialect::Native } else { Dialect::Jami };
    Some(HandshakeSummary { version, suite, group, retried, dialect, peer_handshake_len })
}

/// Length of the record that begins here, header included; None if the header is not all here.
fn record_len(bytes: &[u8]) -> Result<Option<usize>, TlsError> {
    // change_cipher_spec, alert, handshake, application data; version 3.x.
    if bytes.first().is_some_and(|kind| !(20..=23).contains(kind)) || bytes.get(1).is_some_and(|v| *v != 3) {
        return Err(TlsError::Garbage);
    }
    let Some(header) = bytes.first_chunk::<RECORD_HEADER_LEN>() else { return Ok(None) };
    let body = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if body > MAX_RECORD_BODY_LEN { Err(TlsError::Garbage) } else { Ok(Some(RECORD_HEADER_LEN + body)) }
}

/// How many bytes at the front are whole records.
fn whole_records(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Ok(Some(len)) = record_len(&bytes[end..])
        && end + len <= bytes.len()
    {
        end += len;
    }
    end
}
