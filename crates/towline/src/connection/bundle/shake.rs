//! The handshake of the channeler transport, over the path that both sides agreed on first.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use towline_channeler::{
    Certified, CertifiedPeers, Connection, ConnectionError, Ecn, Endpoint, EndpointConfig, EndpointLimits,
    Event, Handled, Peer, PeerIdentity, Refused, Route, StaticKey, Trust,
};
use towline_ice::Role;
use towline_identity::{Chain, DeviceId};

use super::wires::{First, Wires};
use super::{Bounds, Bundle};
use crate::alarm::is_past;
use crate::connection::carrier::Carrier;
use crate::connection::secure::{GRACE, Secured};
use crate::error::{CloseReason, ConnectError, Step};

/// Packets of the peer that begin nothing, after which it is given up.
const MAX_STRAY: usize = 16;
/// How long a peer may take to take a refusal.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Who we are in a handshake, and who the peer is to be.
pub(crate) struct Introduction {
    pub(crate) key: StaticKey,
    pub(crate) credentials: Certified,
    /// The peer's static key, as its device told it in signalling.
    pub(crate) peer: [u8; 32],
    pub(crate) device: DeviceId,
    /// The peer's certificates as they are known so far.
    pub(crate) known: Chain,
    pub(crate) transport: towline_channeler::Config,
    pub(crate) bounds: Bounds,
    /// Seconds since 1970.
    pub(crate) unix_time: i64,
    pub(crate) seed: [u8; 32],
}

/// The handshake with the device that is introduced. Who is controlling in ICE begins it. `stop` ends it properly: the
/// peer may hold the connection for established already.
pub(crate) async fn shake(
    wires: Box<Wires>,
    first: &First,
    introduction: Introduction,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<Secured, ConnectError> {
    let bounds = introduction.bounds.clone();
    let mut shaking = Box::new(Shaking::new(wires, first, introduction)?);
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let shaken = tokio::select! {
        biased;
        shaken = tokio::time::timeout(limit, poll_fn(|cx| shaking.poll(cx))) => shaken,
        () = stopped => Ok(Err(ConnectError::Cancelled)),
    };
    match shaken {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            shaking.say_last_words().await;
            return Err(if stop.is_cancelled() { ConnectError::Cancelled } else { error });
        }
        Err(_) => return Err(ConnectError::TimedOut { step: Step::Tls, waited: limit }),
    }
    let Shaking { inner: Some(inner), wires, .. } = *shaking else {
        unreachable!("a handshake that is complete is that of a connection")
    };
    let bundle = Bundle::new(towline_net::now(), inner, wires, bounds);
    let mut secured = Secured {
        carrier: Carrier::Bundle(Box::new(bundle)),
        dialect: towline_mux::Dialect::Native,
        security: SECURITY.to_owned(),
    };
    if stop.is_cancelled() {
        secured.carrier.end(&CloseReason::Here).await;
        return Err(ConnectError::Cancelled);
    }
    Ok(secured)
}

/// Admits a device, and has its certificates in common with whoever knows them already: they are larger than all else that a
/// connection keeps of its peer.
#[derive(Debug)]
struct Acquainted {
    peers: CertifiedPeers,
    known: Chain,
}

impl Trust for Acquainted {
    fn admit(&self, static_key: &[u8; 32], payload: &[u8], unix_time: i64) -> Result<PeerIdentity, Refused> {
        let mut peer = self.peers.admit(static_key, payload, unix_time)?;
        if peer.chain.as_ref() == Some(&self.known) {
            peer.chain = Some(self.known.clone());
        }
        Ok(peer)
    }
}

/// What protects every connection of this transport: the suite is ours to choose, and is always the default.
const SECURITY: &str = "channeler 1, X25519 + ML-KEM-768, AES-256-GCM";

/// A handshake under way.
struct Shaking {
    endpoint: Endpoint,
    /// `None` until the peer has begun.
    inner: Option<Connection>,
    wires: Box<Wires>,
    unix_time: i64,
    stray: usize,
    /// The path of the handshake.
    first: Route,
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl Shaking {
    fn new(wires: Box<Wires>, first: &First, introduction: Introduction) -> Result<Self, ConnectError> {
        let Introduction { key, credentials, peer, device, known, transport, unix_time, seed, .. } =
            introduction;
        let now = towline_net::now();
        // Dates are not looked at, as with TLS: a device is known by its key, and clocks are often wrong.
        let peers =
            CertifiedPeers::new(
                move |chain, _| {
                    if chain.device_id() == device { Ok(()) } else { Err(Refused::WrongDevice) }
                },
            );
        let trust = Acquainted { peers, known };
        let config = EndpointConfig {
            config: Arc::new(transport),
            limits: EndpointLimits { connections: 1, half_open: 1, ..EndpointLimits::default() },
            ..EndpointConfig::new(key, Arc::new(credentials), Arc::new(trust))
        };
        let mut endpoint = Endpoint::new(config, seed);
        let inner = match first.role {
            Role::Controlling => {
                let begun = endpoint.connect(now, unix_time, Peer::Key(peer), first.path.route);
                let refused = |error| match error {
                    towline_channeler::ConnectError::Handshake(error) => ConnectError::Handshake(error),
                    towline_channeler::ConnectError::TooMany => {
                        unreachable!("it is the first of its endpoint")
                    }
                };
                Some(begun.map_err(refused)?.1)
            }
            Role::Controlled => None,
        };
        let timer = Box::pin(tokio::time::sleep_until(now.into()));
        Ok(Self { endpoint, inner, wires, unix_time, stray: 0, first: first.path.route, timer })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        loop {
            let now = towline_net::now();
            let Self { endpoint, inner, wires, unix_time, stray, first, timer } = self;
            let mut answer = Vec::new();
            let mut take = |route: Route, ecn: Option<Ecn>, packet: &mut [u8]| match inner {
                Some(inner) => inner.handle(now, route, ecn, packet),
                None => match endpoint.handle(now, *unix_time, route, packet, &mut answer) {
                    Handled::New(_, begun) => inner.insert(*begun).handle(now, route, ecn, packet),
                    _ => *stray += 1,
                },
            };
            let mut moved = wires.poll_packets(cx, now, &mut take);
            if wires.poll_timeout().is_some_and(|at| at <= now) {
                wires.handle_timeout(now);
                moved = true;
            }
            if let Some(inner) = inner {
                if inner.poll_timeout().is_some_and(|at| at <= now) {
                    inner.handle_timeout(now);
                }
                let mut connected = false;
                while let Some(event) = inner.poll_event() {
                    match event {
                        Event::Connected => {
                            connected = true;
                            break;
                        }
                        Event::Closed(error) => return Poll::Ready(Err(failure(error))),
                        _ => {}
                    }
                }
                wires.fill(cx, now, inner);
                if connected {
                    return Poll::Ready(Ok(()));
                }
            }
            moved |= wires.poll_streams(cx);
            // Behind all that sets timers, as what was just sent does.
            let timeouts = [wires.poll_timeout(), inner.as_mut().and_then(Connection::poll_timeout)];
            if let Some(at) = timeouts.into_iter().flatten().min() {
                moved |= is_past(timer.as_mut(), cx, at);
            }
            if !wires.has(*first) {
                let kind = match wires.failure() {
                    Some(CloseReason::Transport(kind)) => kind,
                    _ => std::io::ErrorKind::UnexpectedEof,
                };
                return Poll::Ready(Err(ConnectError::TlsTransport(kind)));
            }
            if *stray > MAX_STRAY {
                let malformed = towline_channeler::HandshakeError::Malformed;
                return Poll::Ready(Err(ConnectError::Handshake(malformed)));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// The peer should learn why; it is not waited for.
    async fn say_last_words(&mut self) {
        let said = poll_fn(|cx| {
            if let Some(inner) = &mut self.inner {
                self.wires.fill(cx, towline_net::now(), inner);
            }
            self.wires.poll_streams(cx);
            if self.wires.unsent() == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout(LAST_WORDS, said).await;
    }
}

fn failure(error: ConnectionError) -> ConnectError {
    match error {
        ConnectionError::Handshake(error) => ConnectError::Handshake(error),
        ConnectionError::NoAnswer => ConnectError::Handshake(towline_channeler::HandshakeError::TimedOut),
        ConnectionError::ClosedByPeer { .. } => {
            ConnectError::TlsTransport(std::io::ErrorKind::ConnectionAborted)
        }
        _ => ConnectError::TlsTransport(std::io::ErrorKind::InvalidData),
    }
}
