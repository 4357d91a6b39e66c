//! A router that answers, by one of the protocols: how a port is had of it and given back.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline_net::{Net, TcpConnect};

use crate::{
    exchange::ask,
    natpmp::{self, NatPmpError},
    pcp::{self, PcpError},
    request::{Found, Protocol, Transport, is_plausible},
    upnp::{self, DescriptionError, HttpError, SoapError},
};

/// Longest time for one HTTP request.
const HTTP: Duration = Duration::from_secs(4);
/// Other external ports that are tried when the wanted one is taken.
const OTHERS: u16 = 4;
/// Lifetimes that routers grant are taken for at most this long, in seconds: a day.
const LONGEST: u32 = 24 * 60 * 60;
/// And for at least this long, in seconds, so that no router makes us ask all the time.
const SHORTEST: u32 = 60;

/// Why a router that was found did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// It does not answer.
    #[error("it does not answer")]
    Silent,
    /// It cannot be talked to.
    #[error("it cannot be reached: {0}")]
    Io(io::ErrorKind),
    /// PCP.
    #[error(transparent)]
    Pcp(#[from] PcpError),
    /// NAT-PMP.
    #[error(transparent)]
    NatPmp(#[from] NatPmpError),
    /// UPnP: the transport.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// UPnP: the description of the router.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// UPnP: the action.
    #[error(transparent)]
    Soap(#[from] SoapError),
    /// The external address that it tells is none, or the port 0.
    #[error("it says that {0} is its external address")]
    Implausible(SocketAddr),
}

impl From<io::Error> for ServiceError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// What is asked of a service.
#[derive(Debug, Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) transport: Transport,
    pub(crate) internal: u16,
    /// The port that is wished for.
    pub(crate) external: u16,
    pub(crate) nonce: pcp::Nonce,
    /// Seconds.
    pub(crate) lifetime: u32,
    pub(crate) description: &'a str,
}

/// What was granted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant {
    pub(crate) external: SocketAddr,
    /// `None`: until it is released.
    pub(crate) lifetime: Option<Duration>,
}

impl Grant {
    fn new(external: SocketAddr, lifetime: u32) -> Result<Self, ServiceError> {
        if !is_plausible(external.ip()) || external.port() == 0 {
            return Err(ServiceError::Implausible(external));
        }
        let lifetime = Duration::from_secs(lifetime.clamp(SHORTEST, LONGEST).into());
        Ok(Self { external, lifetime: Some(lifetime) })
    }
}

/// A router and the way to ask it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its address.
    pub(crate) router: IpAddr,
    /// Ours, as it sees it.
    pub(crate) local: Ipv4Addr,
    pub(crate) way: Way,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    Pcp,
    NatPmp,
    Upnp(upnp::Service),
}

impl Service {
    pub(crate) fn found(&self) -> Found {
        let protocol = match self.way {
            Way::Pcp => Protocol::Pcp,
            Way::NatPmp => Protocol::NatPmp,
            Way::Upnp(_) => Protocol::Upnp,
        };
        Found { protocol, router: self.router }
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::new(self.router, natpmp::PORT)
    }

    /// Makes a mapping or renews it. Cancel safe, except that the router may have made it.
    pub(crate) async fn map(&self, net: &dyn Net, asked: &Asked<'_>) -> Result<Grant, ServiceError> {
        match &self.way {
            Way::Pcp => self.map_by_pcp(net, asked).await,
            Way::NatPmp => self.map_by_natpmp(net, asked).await,
            Way::Upnp(service) => self.map_by_upnp(net, service, asked).await,
        }
    }

    /// Gives a mapping back.
    pub(crate) async fn release(&self, net: &dyn Net, asked: &Asked<'_>) -> Result<(), ServiceError> {
        match &self.way {
            Way::Pcp => {
                let released = Asked { lifetime: 0, ..asked.clone() };
                self.ask_pcp(net, &released).await.map(drop)
            }
            Way::NatPmp => {
                let released = Asked { lifetime: 0, external: 0, ..asked.clone() };
                self.ask_natpmp(net, natpmp_map(&released)).await.map(drop)
            }
            Way::Upnp(service) => {
                let action = upnp::Action::Delete { transport: asked.transport, external: asked.external };
                call(net, service, action).await.map(drop)
            }
        }
    }

    async fn ask_pcp(&self, net: &dyn Net, asked: &Asked<'_>) -> Result<pcp::Answer, ServiceError> {
        let &Asked { transport, internal, external, nonce, lifetime, .. } = asked;
        let request = pcp::Request::Map { nonce, transport, internal, external, lifetime };
        let (local, question) = (self.local.into(), request.encode(self.local.into()));
        let answer =
            ask(net, local, self.server(), &question, |datagram| request.is_answered_by(datagram)).await?;
        Ok(pcp::Answer::decode(request, &answer.ok_or(ServiceError::Silent)?)?)
    }

    async fn map_by_pcp(&self, net: &dyn Net, asked: &Asked<'_>) -> Result<Grant, ServiceError> {
        match self.ask_pcp(net, asked).await? {
            pcp::Answer::Mapped { external, port, lifetime, .. } => {
                Grant::new(SocketAddr::new(external, port), lifetime)
            }
            pcp::Answer::Here { .. } => Err(PcpError::Malformed.into()),
        }
    }

    async fn ask_natpmp(
        &self,
        net: &dyn Net,
        request: natpmp::Request,
    ) -> Result<natpmp::Answer, ServiceError> {
        let question = request.encode();
        let fits = |datagram: &[u8]| request.is_answered_by(datagram);
        let answer = ask(net, self.local.into(), self.server(), &question, fits).await?;
        Ok(natpmp::Answer::decode(request, &answer.ok_or(ServiceError::Silent)?)?)
    }

    async fn map_by_natpmp(&self, net: &dyn Net, asked: &Asked<'_>) -> Result<Grant, ServiceError> {
        let (address, mapped) = tokio::try_join!(
            self.ask_natpmp(net, natpmp::Request::Address),
            self.ask_natpmp(net, natpmp_map(asked))
        )?;
        match (address, mapped) {
            (
                natpmp::Answer::Address { external: ip, .. },
                natpmp::Answer::Mapped { external, lifetime, .. },
            ) => Grant::new(SocketAddr::new(ip.into(), external), lifetime),
            _ => Err(NatPmpError::Malformed.into()),
        }
    }

    async fn map_by_upnp(
        &self,
        net: &dyn Net,
        service: &upnp::Service,
        asked: &Asked<'_>,
    ) -> Result<Grant, ServiceError> {
        let told = call(net, service, upnp::Action::ExternalAddress).await?;
        let upnp::Outcome::Address(external) = told else { return Err(SoapError::Malformed.into()) };
        let mut lease = asked.lifetime;
        let mut any = service.version() >= 2;
        let mut others = 0;
        loop {
            let (transport, internal, description) =
                (asked.transport, (self.local, asked.internal), asked.description);
            // Other ports far from the first, each a different one for each asker.
            let step = u16::from_be_bytes([asked.nonce[0], asked.nonce[1]]) | 1;
            let wanted = match others {
                0 => asked.external,
                _ => asked.external.wrapping_add(step.wrapping_mul(others)).max(1024),
            };
            let action = if any {
                upnp::Action::AddAny { transport, external: wanted, internal, lease, description }
            } else {
                upnp::Action::Add { transport, external: wanted, internal, lease, description }
            };
            match call(net, service, action).await {
                Ok(upnp::Outcome::Port(port)) => {
                    let grant = Grant::new(SocketAddr::new(external, port), lease)?;
                    return Ok(if lease == 0 { Grant { lifetime: None, ..grant } } else { grant });
                }
                Ok(_) => return Err(SoapError::Malformed.into()),
                Err(ServiceError::Soap(SoapError::Fault(fault))) if any && fault.is_unknown_action() => {
                    any = false;
                }
                Err(ServiceError::Soap(SoapError::Fault(fault))) if lease != 0 && fault.wants_permanent() => {
                    lease = 0;
                }
                Err(ServiceError::Soap(SoapError::Fault(fault)))
                    if others < OTHERS && fault.is_conflict() =>
                {
                    others += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn natpmp_map(asked: &Asked<'_>) -> natpmp::Request {
    let &Asked { transport, internal, external, lifetime, .. } = asked;
    natpmp::Request::Map { transport, internal, external, lifetime }
}

async fn call(
    net: &dyn Net,
    service: &upnp::Service,
    action: upnp::Action<'_>,
) -> Result<upnp::Outcome, ServiceError> {
    let at = &service.control;
    let request = upnp::post(at, &action.header(&service.kind), &action.body(&service.kind));
    let response = exchange(net, at, &request).await?;
    match response.status {
        // A refusal comes with 500 and is told apart by its content.
        200 | 500 => Ok(action.read(&response.body)?),
        other => Err(HttpError::Status(other).into()),
    }
}

/// Fetches the description of a router.
pub(crate) async fn describe(net: &dyn Net, at: &upnp::Location) -> Result<upnp::Description, ServiceError> {
    let response = exchange(net, at, &upnp::get(at)).await?;
    match response.status {
        200 => Ok(upnp::Description::parse(&response.body, at)?),
        other => Err(HttpError::Status(other).into()),
    }
}

async fn exchange(
    net: &dyn Net,
    at: &upnp::Location,
    request: &[u8],
) -> Result<upnp::Response, ServiceError> {
    let exchange = async {
        let mut stream =
            net.connect_tcp(at.server, TcpConnect { timeout: HTTP, ..TcpConnect::default() }).await?;
        stream.write_all(request).await?;
        let mut reader = upnp::Reader::default();
        let mut buffer = vec![0; 8192];
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(reader.finish()?);
            }
            if let Some(response) = reader.push(&buffer[..read])? {
                return Ok(response);
            }
        }
    };
    tokio::time::timeout(HTTP, exchange).await.unwrap_or(Err(ServiceError::Silent))
}

/// Whether a router speaks PCP, or NAT-PMP.
pub(crate) async fn probe(
    net: &dyn Net,
    router: IpAddr,
    local: Ipv4Addr,
    protocol: Protocol,
) -> Option<Service> {
    let service = |way| Some(Service { router, local, way });
    let server = SocketAddr::new(router, natpmp::PORT);
    match protocol {
        Protocol::Pcp => {
            let request = pcp::Request::Announce;
            let question = request.encode(local.into());
            let answer =
                ask(net, local.into(), server, &question, |datagram| request.is_answered_by(datagram)).await;
            // A refusal of this request is an answer of a router that speaks PCP all the same.
            match pcp::Answer::decode(request, &answer.ok()??) {
                Err(PcpError::UnsupportedVersion | PcpError::Malformed) => None,
                _ => service(Way::Pcp),
            }
        }
        Protocol::NatPmp => {
            let request = natpmp::Request::Address;
            let fits = |datagram: &[u8]| request.is_answered_by(datagram);
            let answer = ask(net, local.into(), server, &request.encode(), fits).await;
            match natpmp::Answer::decode(request, &answer.ok()??) {
                Err(NatPmpError::UnsupportedVersion | NatPmpError::Malformed) => None,
                _ => service(Way::NatPmp),
            }
        }
        Protocol::Upnp => None,
    }
}
