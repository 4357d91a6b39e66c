//! UDP by tokio.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll, ready},
};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Type};
use tokio::io::ReadBuf;

use super::interfaces;
use crate::{Group, Received, UdpBind, UdpSocket};

#[derive(Debug)]
pub(super) struct Socket {
    socket: tokio::net::UdpSocket,
    local: SocketAddr,
}

impl Socket {
    pub(super) fn new(socket: socket2::Socket) -> io::Result<Self> {
        let socket = tokio::net::UdpSocket::from_std(socket.into())?;
        Ok(Self { local: socket.local_addr()?, socket })
    }
}

/// Binds a socket with what its options say.
pub(super) fn bind(options: &UdpBind) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(options.addr);
    let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if options.shared {
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
    }
    // The system has a ceiling of its own; less than asked for is no reason to fail.
    let _ = socket.set_recv_buffer_size(options.buffer);
    let _ = socket.set_send_buffer_size(options.buffer);
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
        multicast_v6(&socket, options)?;
    } else {
        multicast_v4(&socket, options)?;
    }
    socket.bind(&options.addr.into())?;
    for group in &options.groups {
        join(&socket, domain, *group)?;
    }
    Ok(socket)
}

fn multicast_v6(socket: &socket2::Socket, options: &UdpBind) -> io::Result<()> {
    socket.set_multicast_loop_v6(options.multicast_loop)?;
    socket.set_multicast_hops_v6(options.multicast_ttl.into())?;
    // Otherwise Linux delivers every group that any program of the host has joined. Old kernels cannot help it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_multicast_all_v6(false);
    options.multicast_interface.map_or(Ok(()), |index| socket.set_multicast_if_v6(index))
}

fn multicast_v4(socket: &socket2::Socket, options: &UdpBind) -> io::Result<()> {
    socket.set_multicast_loop_v4(options.multicast_loop)?;
    socket.set_multicast_ttl_v4(options.multicast_ttl.into())?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_multicast_all_v4(false);
    let Some(index) = options.multicast_interface else { return Ok(()) };
    // IPv4 names the interface by an address of it.
    let interface = interfaces::list()?.into_iter().find(|interface| interface.index == index);
    let addr = interface.and_then(|interface| {
        interface.addresses.iter().find_map(|own| match own.addr {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
    });
    let addr = addr.ok_or_else(|| {
        io::Error::new(io::ErrorKind::AddrNotAvailable, "the interface for multicast has no IPv4 address")
    })?;
    socket.set_multicast_if_v4(&addr)
}

fn join(socket: &socket2::Socket, domain: Domain, group: Group) -> io::Result<()> {
    match group.addr {
        IpAddr::V4(addr) if domain == Domain::IPV4 => {
            socket.join_multicast_v4_n(&addr, &InterfaceIndexOrAddress::Index(group.interface))
        }
        IpAddr::V6(addr) if domain == Domain::IPV6 => socket.join_multicast_v6(&addr, group.interface),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "group and socket differ in family")),
    }
}

impl UdpSocket for Socket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        let mut buf = ReadBuf::new(buf);
        loop {
            match ready!(self.socket.poll_recv_from(cx, &mut buf)) {
                Ok(from) => return Poll::Ready(Ok(Received { len: buf.filled().len(), from })),
                // Some systems report here that an earlier datagram of ours was refused.
                Err(error) if is_of_one_destination(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_send(&self, cx: &mut Context<'_>, payload: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        self.socket.poll_send_to(cx, payload, to).map_ok(drop)
    }

    fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        // Past tokio, which would refuse before its reactor has looked at a new socket.
        SockRef::from(&self.socket).send_to(payload, &to.into()).map(drop)
    }
}

pub(super) fn is_of_one_destination(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable)
}
