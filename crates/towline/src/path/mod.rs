//! From two sets of candidates to one path: drives an ICE agent over the network until a pair is selected.
//!
//! A connection on TLS runs over the one TCP pair that is selected, as Jami's do: [`Negotiation`] finds it. One on the channeler
//! transport runs over all pairs that work, of TCP and of UDP, and goes on looking for as long as it lives: that is
//! `connection/bundle/wires.rs`.

mod kind;
mod looking;
mod negotiation;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use towline_ice::{
    Agent, Candidate, ConnectError, Description, FailureReport, Preference, Role, SharedTargets, StreamId,
    Transport, host_candidates,
};
use towline_net::{Net, TcpListener, TcpStream, UdpBind, UdpSocket};

use crate::reach::{Means, Outside};
use crate::report::{Journal, View};

pub use kind::{PathKind, Use};
pub(crate) use looking::bases;
pub(crate) use negotiation::Negotiation;

/// Which of this host's addresses are offered to peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostAddresses {
    /// All but loopback; loopback only if there is nothing else.
    #[default]
    Routable,
    /// Loopback only: for programs that must not be reachable from outside.
    Loopback,
}

/// What a path is looked for with.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathOptions {
    pub(crate) addresses: HostAddresses,
    pub(crate) ice: towline_ice::Config,
    /// What goes where nobody answers, of all attempts of the node.
    pub(crate) targets: SharedTargets,
}

/// The sockets and candidates of one attempt, before the peer's are known.
pub(crate) struct Gathered {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) agent: Agent,
    pub(crate) listeners: Vec<Box<dyn TcpListener>>,
    /// UDP sockets, one for each family, and their candidates. The agent gets them once the peer is known to take part:
    /// Jami peers see TCP only.
    pub(crate) datagrams: Vec<(Box<dyn UdpSocket>, Vec<Candidate>)>,
    /// Further candidates of TCP, as others see them; these too are for Towlines only.
    pub(crate) mapped: Vec<Candidate>,
    /// What goes on asking how these sockets are seen from outside.
    pub(crate) outside: Option<Outside>,
    /// What that can be begun again with.
    pub(crate) means: Option<Arc<Means>>,
}

/// A selected path, ready to be secured.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) stream: Box<dyn TcpStream>,
    pub(crate) id: StreamId,
    /// Stays with the connection: keeps it alive and answers late checks.
    pub(crate) agent: Agent,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// The live role; decides the TLS role (`connection.md` 1.3).
    pub(crate) role: Role,
    /// The payloads of frames with application bytes that came before the path was selected.
    pub(crate) early: Vec<bytes::BytesMut>,
    /// Framed bytes read and not looked at yet.
    pub(crate) unread: bytes::BytesMut,
    /// Framed bytes not written yet.
    pub(crate) unsent: Vec<u8>,
    /// The other connections that are open, to be closed with this one: Jami's daemon keeps its ends of them among
    /// those it waits on, and once one is closed it naps for half a second before each read of the selected one.
    pub(crate) losers: Vec<Box<dyn TcpStream>>,
}

impl Gathered {
    /// Opens listening sockets, with `udp` for datagrams, too, and gathers host candidates. Does not wait for anything.
    pub(crate) fn new(net: Arc<dyn Net>, options: &PathOptions, role: Role, udp: bool) -> io::Result<Self> {
        let now = towline_net::now();
        // Among TCP pairs alone, as with Jami peers, it makes no difference.
        let preference = match options.ice.preference {
            Preference::UdpFirst => Preference::UdpFirst,
            _ => Preference::TcpFirst,
        };
        let ice = towline_ice::Config { preference, ..options.ice.clone() };
        let mut agent = Agent::new(ice, role, now, net.seed());
        agent.share_targets(options.targets.clone());
        let addresses = addresses(net.as_ref(), options.addresses)?;
        let (mut listeners, mut datagrams) = (Vec::new(), Vec::new());
        let mut last_error = None;
        for v4 in [true, false] {
            let family: Vec<IpAddr> = addresses.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect();
            if family.is_empty() {
                continue;
            }
            // A listener on every address of the family, so that one port serves all candidates; a single address,
            // as with loopback, is bound by itself.
            let bind = match (family.as_slice(), v4) {
                ([only], _) => *only,
                (_, true) => Ipv4Addr::UNSPECIFIED.into(),
                (_, false) => Ipv6Addr::UNSPECIFIED.into(),
            };
            // Without it there is a path less; the connection may do without.
            if udp && let Ok(socket) = net.bind_udp(&datagram_socket(bind)) {
                let port = socket.local_addr().port();
                datagrams.push((socket, host_candidates(&family, None, Some(port))));
            }
            let listener = match net.listen_tcp(SocketAddr::new(bind, 0)) {
                Ok(listener) => listener,
                // A family that cannot listen may still connect, and the other one may do both.
                Err(error) => {
                    last_error = Some(error);
                    continue;
                }
            };
            let port = listener.local_addr().port();
            for candidate in host_candidates(&family, Some(port), None) {
                debug_assert!(matches!(candidate.transport, Transport::Tcp(_)));
                agent.add_local(now, candidate);
            }
            listeners.push(listener);
        }
        match (listeners.is_empty(), last_error) {
            (true, Some(error)) => Err(error),
            (true, None) => {
                Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no usable interface address"))
            }
            (false, _) => {
                let (mapped, outside, means) = (Vec::new(), None, None);
                Ok(Self { net, agent, listeners, datagrams, mapped, outside, means })
            }
        }
    }

    /// Our credentials and candidates as the peer gets them.
    pub(crate) fn description(&self) -> Description {
        self.agent.local_description()
    }

    /// How things look before the peer is known.
    pub(crate) fn view(&self) -> View {
        let mut ice = self.agent.report();
        let more = self.datagrams.iter().flat_map(|(_, candidates)| candidates).chain(&self.mapped);
        ice.local.extend(more.cloned());
        View { ice, nat: self.outside.as_ref().and_then(Outside::nat), punch: None }
    }

    /// Our further candidates as a Towline gets them, in the same form; nothing if there are none.
    pub(crate) fn datagram_description(&self) -> Option<Description> {
        let candidates: Vec<_> = self
            .datagrams
            .iter()
            .flat_map(|(_, candidates)| candidates)
            .chain(&self.mapped)
            .cloned()
            .collect();
        (!candidates.is_empty()).then(|| Description { candidates, ..self.description() })
    }

    /// Looks for a path to `remote`. Dropping the future closes every socket.
    pub(crate) async fn negotiate(
        self,
        remote: Description,
        journal: &Arc<Journal>,
        limit: Duration,
    ) -> Result<Selected, NegotiationError> {
        let negotiation = Negotiation::new(self, remote, Arc::clone(journal));
        match tokio::time::timeout(limit, negotiation).await {
            Ok(Ok(selected)) => Ok(selected),
            Ok(Err(report)) => Err(NegotiationError::Failed(report)),
            Err(_) => Err(NegotiationError::TimedOut),
        }
    }
}

/// Why there is no path.
#[derive(Debug)]
pub(crate) enum NegotiationError {
    /// Every pair failed.
    Failed(FailureReport),
    /// It took too long.
    TimedOut,
}

/// A socket for a transport that finds the longest datagram itself.
pub(crate) fn datagram_socket(ip: IpAddr) -> UdpBind {
    UdpBind { dont_fragment: true, ..UdpBind::new(SocketAddr::new(ip, 0)) }
}

/// Why a TCP connection did not come to be, in the words of the agent.
pub(crate) fn connect_error(kind: io::ErrorKind) -> ConnectError {
    match kind {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => ConnectError::Reset,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::PermissionDenied => ConnectError::Unreachable,
        io::ErrorKind::TimedOut => ConnectError::TimedOut,
        _ => ConnectError::Other,
    }
}

/// The addresses of the host at one time.
#[derive(Debug, Default)]
pub(crate) struct HostNow {
    /// Those to offer.
    pub(crate) offered: Vec<IpAddr>,
    /// All of them.
    pub(crate) all: Vec<IpAddr>,
}

impl HostNow {
    pub(crate) fn look(net: &dyn Net, which: HostAddresses) -> io::Result<Self> {
        let interfaces = net.interfaces()?.into_iter().filter(|interface| interface.up);
        let all = interfaces.flat_map(|interface| interface.addresses).map(|address| address.addr).collect();
        let mut offered = addresses(net, which)?;
        // Loopback stands in where there is nothing else; for a connection that knows better it is no way.
        offered.retain(|ip| which == HostAddresses::Loopback || !ip.is_loopback());
        Ok(Self { offered, all })
    }
}

/// The host's addresses to offer, IPv4 first, in the order of the interfaces.
fn addresses(net: &dyn Net, which: HostAddresses) -> io::Result<Vec<IpAddr>> {
    let (mut routable, mut loopback) = (Vec::new(), Vec::new());
    for interface in net.interfaces()?.into_iter().filter(|interface| interface.up) {
        for address in interface.addresses {
            let ip = address.addr;
            let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if ip.is_loopback() {
                loopback.push(ip);
            } else if !link_local {
                // A link-local address means nothing without its scope, which the text format cannot carry.
                routable.push(ip);
            }
        }
    }
    let mut chosen = match which {
        HostAddresses::Loopback => loopback,
        HostAddresses::Routable if routable.is_empty() => loopback,
        HostAddresses::Routable => routable,
    };
    chosen.sort_by_key(|ip| !ip.is_ipv4());
    chosen.dedup();
    Ok(chosen)
}
