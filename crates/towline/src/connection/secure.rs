//! The TLS handshake over a selected path.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use towline_ice::Role;
use towline_identity::DeviceId;
use towline_mux::Mux;
use towline_tls::Config;

use super::carrier::Carrier;
use super::session::Session;
use super::transport::{ReadOutcome, Transport, TransportError};
use crate::error::{ConnectError, Step};
use crate::path::Selected;

/// Plaintext a peer may send before this side has seen the end of the handshake.
const MAX_EARLY_PLAINTEXT: usize = 256 * 1024;

/// What is left to a handshake that is to stop.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// A connection that is established.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) carrier: Carrier,
    pub(crate) dialect: towline_mux::Dialect,
    /// Version, suite and group, for people.
    pub(crate) security: String,
}

/// Performs the handshake with `device`, whose key is the only one accepted. The live ICE role decides who is
/// client (`connection.md` 1.3). `stop` ends it properly: the peer may hold the session for established already.
pub(crate) async fn secure(
    selected: Selected,
    config: &Config,
    mux: towline_mux::Config,
    device: DeviceId,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<Secured, ConnectError> {
    let (session, side) = match selected.role {
        Role::Controlling => (towline_tls::Session::client(config, device), towline_mux::Side::TlsClient),
        Role::Controlled => (towline_tls::Session::server(config, device), towline_mux::Side::TlsServer),
    };
    let mut transport = Transport::new(selected, session.map_err(ConnectError::Tls)?);
    let mut plaintext = Vec::new();
    // Only an established session can be closed properly, so a handshake that is to stop may come to its end first.
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let shaken = tokio::select! {
        biased;
        shaken = tokio::time::timeout(limit, handshake(&mut transport, &mut plaintext)) => shaken,
        () = stopped => Ok(Ok(())),
    };
    if stop.is_cancelled() {
        transport.say_goodbye().await;
        return Err(ConnectError::Cancelled);
    }
    match shaken {
        Ok(Ok(())) => {
            let summary = transport.session().summary().expect("an established session has a summary");
            let dialect = match summary.dialect {
                towline_tls::Dialect::Native => towline_mux::Dialect::Native,
                towline_tls::Dialect::Jami => towline_mux::Dialect::Jami,
            };
            let security = summary.to_string();
            if dialect == towline_mux::Dialect::Native {
                transport.close_losers();
            }
            let mux = Mux::new(dialect, side, mux, towline_net::now());
            let carrier = Carrier::Session(Box::new(Session::new(transport, mux, plaintext)));
            Ok(Secured { carrier, dialect, security })
        }
        Ok(Err(TransportError::Tls(error))) => {
            // The peer should learn why; it is not waited for.
            transport.flush_session();
            let _ =
                tokio::time::timeout(Duration::from_secs(1), poll_fn(|cx| transport.poll_write(cx))).await;
            Err(ConnectError::Tls(error))
        }
        Ok(Err(TransportError::Io(kind))) => Err(ConnectError::TlsTransport(kind)),
        Ok(Err(TransportError::Truncated)) => {
            Err(ConnectError::TlsTransport(std::io::ErrorKind::UnexpectedEof))
        }
        Err(_) => Err(ConnectError::TimedOut { step: Step::Tls, waited: limit }),
    }
}

async fn handshake(transport: &mut Transport, plaintext: &mut Vec<u8>) -> Result<(), TransportError> {
    transport.handle_leftovers(&mut |bytes| plaintext.extend_from_slice(bytes))?;
    poll_fn(|cx| {
        loop {
            // A peer that does not take our last flight could otherwise go on sending until the time is up.
            if plaintext.len() > MAX_EARLY_PLAINTEXT {
                return Poll::Ready(Err(TransportError::Tls(towline_tls::TlsError::Misbehaved)));
            }
            transport.flush_session();
            let flushed = transport.poll_write(cx)?.is_ready();
            if transport.session().is_established() && flushed {
                return Poll::Ready(Ok(()));
            }
            match transport.poll_read(cx, &mut |bytes| plaintext.extend_from_slice(bytes)) {
                Poll::Ready(Ok(ReadOutcome::Progress)) => {}
                // Who has said all it wanted may take its leave right behind the handshake.
                Poll::Ready(Ok(ReadOutcome::Closed)) if transport.session().is_established() => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(ReadOutcome::Closed)) => return Poll::Ready(Err(TransportError::Truncated)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests;
