//! Where the next keys come from.

use std::fmt;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::key::Key;
use crate::TlsError;
use crate::connection::Connection;

/// What the TLS library keeps of a connection in order to derive keys.
pub(super) enum Secrets {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Secrets {
    /// Ends the library's part in the records. Gives the keys to receive and to send with, with their numbers so far.
    pub(super) fn extract(connection: Connection) -> Result<(Self, Key, Key), TlsError> {
        let (keys, secrets) = match connection {
            Connection::Client(connection) => {
                let (keys, connection) = connection.dangerous_into_kernel_connection()?;
                (keys, Self::Client(connection))
            }
            Connection::Server(connection) => {
                let (keys, connection) = connection.dangerous_into_kernel_connection()?;
                (keys, Self::Server(connection))
            }
        };
        Ok((secrets, Key::new(keys.rx)?, Key::new(keys.tx)?))
    }

    pub(super) fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }

    /// The next key to receive with (RFC 8446 7.2).
    pub(super) fn next_incoming(&mut self) -> Result<Key, TlsError> {
        Key::new(match self {
            Self::Client(connection) => connection.update_rx_secret()?,
            Self::Server(connection) => connection.update_rx_secret()?,
        })
    }

    /// The next key to send with.
    pub(super) fn next_outgoing(&mut self) -> Result<Key, TlsError> {
        Key::new(match self {
            Self::Client(connection) => connection.update_tx_secret()?,
            Self::Server(connection) => connection.update_tx_secret()?,
        })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_client() { "Client" } else { "Server" })
    }
}
