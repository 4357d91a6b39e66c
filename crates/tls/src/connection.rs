//! The TLS library's two connection types behind one, driven without buffers of their own: for handshakes, and for the
//! records of TLS 1.2.

use std::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, Error};

use crate::TlsError;

/// Plaintext in one record.
pub(crate) const MAX_FRAGMENT_LEN: usize = 16 * 1024;

/// What a record adds to its plaintext at most: header, explicit nonce (TLS 1.2), tag.
pub(crate) const RECORD_OVERHEAD: usize = 5 + 8 + 16;

/// Room for what may precede data or be the whole of a message: a key update, or an alert.
pub(crate) const CONTROL_LEN: usize = 64;

pub(crate) enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What to do when the library lets us write.
pub(crate) enum Intent<'a> {
    /// Nothing: only take in what came.
    Listen,
    /// Encrypt this.
    Seal { plaintext: &'a [u8], out: &'a mut [u8] },
    /// Say farewell.
    Close { out: &'a mut [u8] },
}

/// How far one step came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to do at once.
    Again,
    /// The peer said farewell; there is more to do at once.
    PeerClosed,
    /// The intent was carried out; so many bytes were written.
    Done(usize),
    /// Nothing happens before the peer says something.
    Idle,
    /// Both sides said farewell.
    Closed,
}

impl Connection {
    /// Takes one step. Gives how many bytes of `input` are used up, even with an error.
    pub(crate) fn step(
        &mut self,
        input: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
        outgoing: &mut Vec<u8>,
        intent: &mut Intent<'_>,
    ) -> (usize, Result<Step, TlsError>) {
        match self {
            Self::Client(connection) => take(connection.process_tls_records(input), sink, outgoing, intent),
            Self::Server(connection) => take(connection.process_tls_records(input), sink, outgoing, intent),
        }
    }

    pub(crate) fn state(&self) -> &CommonState {
        match self {
            Self::Client(connection) => connection,
            Self::Server(connection) => connection,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(_) => "Server",
        })
    }
}

fn take<D>(
    status: UnbufferedStatus<'_, '_, D>,
    sink: &mut dyn FnMut(&[u8]),
    outgoing: &mut Vec<u8>,
    intent: &mut Intent<'_>,
) -> (usize, Result<Step, TlsError>) {
    let mut used = status.discard;
    let step = match status.state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    used += record.discard;
                    sink(record.payload);
                }
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let start = outgoing.len();
            match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => {
                    outgoing.resize(start + size.required_size, 0);
                    data.encode(&mut outgoing[start..]).map(|_| Step::Again).map_err(|_| TlsError::Library)
                }
                Ok(_) | Err(EncodeError::AlreadyEncoded) => Ok(Step::Again),
            }
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(traffic)) => write(traffic, intent),
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(ConnectionState::Closed) => Ok(Step::Closed),
        // Early data is not accepted, so only BlockedHandshake gets here.
        Ok(_) => Ok(Step::Idle),
    };
    (used, step)
}

fn write<D>(mut traffic: WriteTraffic<'_, D>, intent: &mut Intent<'_>) -> Result<Step, TlsError> {
    let written = match intent {
        Intent::Listen => return Ok(Step::Idle),
        Intent::Seal { plaintext, out } => traffic.encrypt(plaintext, out),
        Intent::Close { out } => traffic.queue_close_notify(out),
    };
    written.map(Step::Done).map_err(|error| match error {
        EncryptError::EncryptExhausted => TlsError::Exhausted,
        EncryptError::InsufficientSize(_) => Error::General("room was left for it".to_owned()).into(),
    })
}
