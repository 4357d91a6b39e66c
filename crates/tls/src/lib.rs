//! Sans-IO TLS sessions between two devices that know each other's key (`spec/connection.md` 5).
//!
//! Both sides present their certificate chains, and each accepts one key only: that of the [`DeviceId`] it
//! was told. There is no public PKI here, no host name, no resumption and no early data. TLS 1.3 is what happens; TLS
//! 1.2 is offered too, because it makes the client send the signalling suite 0x00FF, without which
//! GnuTLS-based peers hang up.
//!
//! The handshake is the TLS library's. The records of an established TLS 1.3 session are protected here, since there is no
//! cheaper way: received ones are decrypted where they lie in the caller's buffer, sent ones encrypted in the caller's
//! buffer, and neither allocates. `examples/record_cost.rs` compares the cost with that of the AEAD alone.
//!
//! ```
//! # use towline_identity::{GenerateOptions, Identity, KeySize};
//! # use towline_tls::{Config, Options, Session};
//! # let generate = || {
//! #     let options = GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(1_800_000_000) };
//! #     Identity::generate(&options)
//! # };
//! let (alice, bob) = (generate()?, generate()?);
//! let mut client = Session::client(&Config::new(&alice, Options::default())?, bob.device_id())?;
//! let mut server = Session::server(&Config::new(&bob, Options::default())?, alice.device_id())?;
//!
//! let mut wire = Vec::new();
//! let mut nothing = |_: &[u8]| unreachable!("no data yet");
//! while !(client.is_established() && server.is_established()) {
//!     client.poll_transmit(&mut wire);
//!     server.receive(&mut wire, &mut nothing)?;
//!     wire.clear();
//!     server.poll_transmit(&mut wire);
//!     client.receive(&mut wire, &mut nothing)?;
//!     wire.clear();
//! }
//! client.send(b"hello", &mut wire)?;
//! let mut received = Vec::new();
//! server.receive(&mut wire, &mut |plaintext| received.extend_from_slice(plaintext))?;
//! assert_eq!(received, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`DeviceId`]: towline_identity::DeviceId

mod config;
mod connection;
mod error;
mod framing;
mod hello;
mod record;
mod session;
mod summary;
mod verify;

pub use config::{Clock, Config, ConfigError, Dialect, Expiry, NATIVE_ALPN, Options};
pub use error::{Incompatibility, TlsError};
pub use session::Session;
pub use summary::{Group, HandshakeSummary, Suite, Version};
