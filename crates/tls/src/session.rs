//! One TLS session.

use std::mem;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use towline_identity::{Chain, DeviceId};

use crate::config::{Config, Dialect, NATIVE_ALPN};
use crate::connection::{CONTROL_LEN, Connection, Intent, MAX_FRAGMENT_LEN, RECORD_OVERHEAD, Step};
use crate::error::TlsError;
use crate::framing::{RECORD_HEADER_LEN, record_len, whole_records};
use crate::hello;
use crate::record::{self, Alert, Fault, Opened, Traffic};
use crate::summary::{HandshakeSummary, Version, summary};
use crate::verify::PinnedPeer;

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
    Established(Records, HandshakeSummary),
    Failed(TlsError),
}

/// Who protects the records of an established session.
#[derive(Debug)]
enum Records {
    /// The library: of TLS 1.2, which only strangers to Towline and Jami speak.
    Tls12(Connection),
    /// We.
    Tls13(Box<Traffic>),
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
    /// Established, TLS 1.3 decrypts each record where it lies in `input`, and nothing is copied or allocated; records of
    /// TLS 1.2 are copied. Says how many bytes of `input` are used up; the rest, less than one record, must
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
            match &self.state {
                State::Established(Records::Tls13(_), _) => {
                    return self.receive_tls13(rest, on_plaintext).map(|more| used + more);
                }
                State::Established(Records::Tls12(_), _) if self.held.is_empty() => {
                    return self.receive_tls12(rest, on_plaintext).map(|more| used + more);
                }
                _ => {}
            }
            let taken = self.hold_record(rest);
            used += taken.map_err(|error| self.fail(error))?;
            if !self.holds_whole_record() {
                return Ok(used);
            }
            self.process_held(on_plaintext)?;
        }
    }

    fn receive_tls13(
        &mut self,
        input: &mut [u8],
        on_plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, TlsError> {
        let State::Established(Records::Tls13(traffic), _) = &mut self.state else { return Ok(0) };
        let mut used = 0;
        let fault = loop {
            let len = match record::record_len(&input[used..]) {
                Ok(Some(len)) if len <= input.len() - used => len,
                Ok(_) => return Ok(used),
                Err(fault) => break fault,
            };
            match traffic.open(&mut input[used..used + len]) {
                Ok(Opened::Data(plaintext)) => on_plaintext(plaintext),
                Ok(Opened::Control) => {}
                Ok(Opened::Farewell) => {
                    self.incoming = Half::Closed;
                    // Nothing counts after it.
                    return Ok(input.len());
                }
                Err(fault) => break fault,
            }
            used += len;
        };
        Err(self.give_up(fault))
    }

    /// Ends the session, and tells the peer why if it does not know.
    fn give_up(&mut self, Fault { error, alert }: Fault) -> TlsError {
        if let State::Established(Records::Tls13(traffic), _) = &mut self.state
            && let (Some(alert), Half::Open) = (alert, self.outgoing)
        {
            // If even this cannot be sealed, the transport's end has to say it.
            let _ = traffic.append_alert(alert, &mut self.pending);
        }
        self.fail(error)
    }

    fn receive_tls12(
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
        if let State::Established(Records::Tls13(_), _) = self.state {
            if !held.is_empty() {
                // A message that began behind the end of the handshake, under its keys: the library refuses it, too.
                return Err(self.give_up(Fault::misbehaved(Alert::UnexpectedMessage)));
            }
            held = Vec::new();
        }
        self.held = held;
        self.record_start = self.held.len();
        Ok(())
    }

    /// Lets the library work until it waits for the peer. Gives the bytes of `input` that are used up.
    fn drive(&mut self, input: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> Result<usize, TlsError> {
        let (State::Handshaking(connection) | State::Established(Records::Tls12(connection), _)) =
            &mut self.state
        else {
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
            None => self.note_establishment().map(|()| used),
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

    fn note_establishment(&mut self) -> Result<(), TlsError> {
        let state = mem::replace(&mut self.state, State::Failed(TlsError::Library));
        let State::Handshaking(connection) = state else {
            self.state = state;
            return Ok(());
        };
        let Some(summary) = summary(&connection, self.handshake_len) else {
            self.state = State::Handshaking(connection);
            return Ok(());
        };
        let records = match summary.version {
            Version::Tls12 => Records::Tls12(connection),
            // All that it had to send was taken.
            Version::Tls13 => {
                Records::Tls13(Box::new(Traffic::new(connection).map_err(|error| self.fail(error))?))
            }
        };
        self.state = State::Established(records, summary);
        Ok(())
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
        let start = out.len();
        append_all(&mut self.pending, out);
        if let State::Established(Records::Tls13(traffic), _) = &mut self.state
            && self.outgoing == Half::Open
            && let Err(error) = traffic.append_owed(out)
        {
            self.fail(error);
        }
        out.len() > start
    }

    /// Most bytes that [`Session::seal`] writes for this many bytes of plaintext.
    pub fn sealed_len(&self, plaintext_len: usize) -> usize {
        self.pending.len()
            + match &self.state {
                State::Established(Records::Tls13(traffic), _) => traffic.sealed_len(plaintext_len),
                _ => {
                    let records = plaintext_len.div_ceil(MAX_FRAGMENT_LEN);
                    plaintext_len + records * RECORD_OVERHEAD + CONTROL_LEN
                }
            }
    }

    /// Encrypts `plaintext` and appends the records to `out`, after whatever [`Session::poll_transmit`]
    /// held. Works as long as this side did not close, even if the peer did.
    ///
    /// TLS 1.3 copies the plaintext once, to where it is encrypted in place; [`Session::seal`] saves even that.
    pub fn send(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.may_send()?;
        if let State::Established(Records::Tls13(traffic), _) = &mut self.state {
            append_all(&mut self.pending, out);
            return traffic.append(plaintext, out).map_err(|error| self.fail(error));
        }
        let start = out.len();
        out.resize(start + self.sealed_len(plaintext.len()), 0);
        let written = self.seal(plaintext, &mut out[start..]);
        out.truncate(start + *written.as_ref().unwrap_or(&0));
        written.map(|_| ())
    }

    /// Like [`Session::send`], into a buffer of at least [`Session::sealed_len`] bytes. Gives how many
    /// were written. TLS 1.3 encrypts straight from `plaintext` into `out`.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        self.may_send()?;
        assert!(out.len() >= self.sealed_len(plaintext.len()), "the buffer is as long as documented");
        let start = self.put_pending(out);
        let out = &mut out[start..];
        let written = match &mut self.state {
            State::Established(Records::Tls13(traffic), _) => {
                traffic.seal(plaintext, out).map_err(|error| self.fail(error))?
            }
            _ if plaintext.is_empty() => 0,
            _ => self.write_tls12(&mut Intent::Seal { plaintext, out })?,
        };
        Ok(start + written)
    }

    /// Says farewell: appends a close_notify to `out`. Nothing can be sent afterwards; what the peer still
    /// sends can be received. In a handshake, and after a failure, it only ends the session.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let established = self.may_send().is_ok();
        self.outgoing = Half::Closed;
        append_all(&mut self.pending, out);
        if !established {
            return;
        }
        // A failure here is one of worn-out keys; the transport's end has to say it then.
        if let State::Established(Records::Tls13(traffic), _) = &mut self.state {
            let _ = traffic.append_alert(Alert::CloseNotify, out);
        } else {
            let mut alert = [0; CONTROL_LEN];
            let written = self.write_tls12(&mut Intent::Close { out: &mut alert }).unwrap_or(0);
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

    /// Moves what waits to the front of a slice. Gives how many bytes that were.
    fn put_pending(&mut self, out: &mut [u8]) -> usize {
        let pending = mem::take(&mut self.pending);
        out[..pending.len()].copy_from_slice(&pending);
        pending.len()
    }

    /// Has the library carry out the intent. It took in all it can, so that at most it notes first that the peer closed; but
    /// it wants to see what it still holds on to.
    fn write_tls12(&mut self, intent: &mut Intent<'_>) -> Result<usize, TlsError> {
        let State::Established(Records::Tls12(connection), _) = &mut self.state else {
            return Err(TlsError::NotEstablished);
        };
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

/// Moves what waits to the end of `out`. Its memory is given back: behind a handshake, little will wait again.
fn append_all(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    out.extend_from_slice(&mem::take(pending));
}

#[cfg(test)]
mod tests;
