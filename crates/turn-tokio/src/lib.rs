#![doc = include_str!("../README.md")]

mod certificate;
mod server;
mod server_link;
mod shared;
mod socket;
mod stream;
mod task;

use std::io;

pub use certificate::{CertificateError, server_tls};
pub use server::{RelayServer, ServerOptions};
pub use server_link::{Roots, Tls};
pub use shared::Ended;
pub use socket::RelaySocket;
pub use stream::{PeerStream, TcpRelay};
pub use towline_turn as proto;
use towline_turn::{ConfigError, Failure};

/// Why there is no relayed address.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AllocateError {
    /// What is asked for contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server, or a socket to speak to it, could not be had.
    #[error("the relay server cannot be reached: {0}")]
    Unreachable(io::ErrorKind),
    /// The server is not who it should be, or speaks no TLS.
    #[error("no TLS with the relay server: {0}")]
    Tls(rustls::Error),
    /// TLS is asked for without saying whom to trust.
    #[error("TLS to the relay server needs certificates to trust")]
    NoTrust,
    /// The server was reached and gave nothing.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// How to get a relayed address.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server, what is asked of it, and bounds.
    pub client: towline_turn::Config,
    /// Whom to trust, if the server is spoken to by TLS.
    pub tls: Option<Tls>,
    /// Received datagrams that wait to be read, in bytes; more are lost, as the network might have lost them. Default: 2 MiB.
    pub receive_queue: usize,
    /// Bytes that wait for a stream to the server before senders have to wait. Default: 256 KiB.
    pub send_queue: usize,
}

impl Options {
    /// The defaults.
    pub fn new(client: towline_turn::Config) -> Self {
        Self { client, tls: None, receive_queue: 2 << 20, send_queue: 256 << 10 }
    }
}
