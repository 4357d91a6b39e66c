//! The way to the server: a UDP socket, or a stream with or without TLS.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use towline_net::{Net, TcpConnect, UdpBind, UdpSocket};
use towline_turn::ServerTransport;

use crate::AllocateError;

/// How long TLS may take to stand, on either side.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Whom to trust as a server, and the name that its certificate must have.
#[derive(Clone)]
pub struct Tls {
    /// Roots and versions.
    pub config: Arc<rustls::ClientConfig>,
    /// The name, or the address.
    pub name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Certificates that vouch for servers.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    config: Option<Arc<rustls::ClientConfig>>,
}

impl Roots {
    /// Those that the system trusts (on Linux the bundle of the distribution, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name), and
    /// more, in DER. Reads files. What is no certificate is left out.
    pub fn of_the_system(more: &[Vec<u8>]) -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "certificates of the system");
        }
        let more = more.iter().map(|der| CertificateDer::from(der.clone()));
        let mut roots = rustls::RootCertStore::empty();
        let (taken, left) = roots.add_parsable_certificates(found.certs.into_iter().chain(more));
        tracing::debug!(taken, left, "certificates that vouch for relays");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let config = builder.with_safe_default_protocol_versions().ok();
        Self {
            config: config.map(|config| Arc::new(config.with_root_certificates(roots).with_no_client_auth())),
        }
    }

    /// For a server of this name or address.
    pub fn server(&self, host: &str) -> Result<Tls, AllocateError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| AllocateError::NoTrust)?;
        let config = self.config.clone().ok_or(AllocateError::NoTrust)?;
        Ok(Tls { config, name })
    }
}

/// Both directions of bytes to a server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug> Stream for T {}

#[derive(Debug)]
pub(crate) enum ServerLink {
    Datagrams(Arc<dyn UdpSocket>),
    Stream(Box<dyn Stream>),
}

/// What is needed to reach a server.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) transport: ServerTransport,
    pub(crate) tls: Option<Tls>,
}

impl Reach {
    pub(crate) async fn link(&self, server: SocketAddr) -> Result<ServerLink, AllocateError> {
        if self.transport.is_stream() {
            return Ok(ServerLink::Stream(self.stream(server, None).await?));
        }
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = self.net.bind_udp(&UdpBind::new(any)).map_err(|error| unreachable(&error))?;
        Ok(ServerLink::Datagrams(socket.into()))
    }

    /// A stream to a server; `domain` is the name that another server gave for it.
    pub(crate) async fn stream(
        &self,
        server: SocketAddr,
        domain: Option<&str>,
    ) -> Result<Box<dyn Stream>, AllocateError> {
        let tcp =
            self.net.connect_tcp(server, TcpConnect::default()).await.map_err(|error| unreachable(&error))?;
        if self.transport != ServerTransport::Tls {
            return Ok(Box::new(tcp));
        }
        let tls = self.tls.as_ref().ok_or(AllocateError::NoTrust)?;
        let given = domain.and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let connected = connector.connect(given.unwrap_or_else(|| tls.name.clone()), tcp);
        match tokio::time::timeout(HANDSHAKE, connected).await {
            Ok(stream) => Ok(Box::new(stream.map_err(tls_error)?)),
            Err(_) => Err(AllocateError::Unreachable(io::ErrorKind::TimedOut)),
        }
    }
}

fn unreachable(error: &io::Error) -> AllocateError {
    AllocateError::Unreachable(error.kind())
}

fn tls_error(error: io::Error) -> AllocateError {
    let kind = error.kind();
    match error.into_inner().and_then(|inner| inner.downcast::<rustls::Error>().ok()) {
        Some(error) => AllocateError::Tls(*error),
        None => AllocateError::Unreachable(kind),
    }
}
