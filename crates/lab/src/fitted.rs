//! A host for a program whose UDP sockets are not just those of the lab.

use std::{fmt, io, net::SocketAddr, time::Duration};

use towline_net::{
    BoxFuture, Changes, Gateway, Interface, Net, TcpConnect, TcpListener, TcpStream, UdpBind, UdpSocket,
};

use crate::host::Host;

/// A [`Host`] but for its UDP sockets: [`Host::with_udp`].
pub struct Fitted<F> {
    host: Host,
    bind: F,
}

impl<F> fmt::Debug for Fitted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)
    }
}

impl Host {
    /// The same host for a program whose UDP sockets come from this function: one that counts those of the host, refuses
    /// them, or puts something around them.
    pub fn with_udp<F>(&self, bind: F) -> Fitted<F>
    where
        F: Fn(&Self, &UdpBind) -> io::Result<Box<dyn UdpSocket>> + Send + Sync + 'static,
    {
        Fitted { host: self.clone(), bind }
    }
}

impl<F> Net for Fitted<F>
where
    F: Fn(&Host, &UdpBind) -> io::Result<Box<dyn UdpSocket>> + Send + Sync + 'static,
{
    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        self.host.interfaces()
    }

    fn gateways(&self) -> io::Result<Vec<Gateway>> {
        self.host.gateways()
    }

    fn changes(&self) -> Changes {
        self.host.changes()
    }

    fn bind_udp(&self, options: &UdpBind) -> io::Result<Box<dyn UdpSocket>> {
        (self.bind)(&self.host, options)
    }

    fn listen_tcp(&self, addr: SocketAddr) -> io::Result<Box<dyn TcpListener>> {
        self.host.listen_tcp(addr)
    }

    fn connect_tcp(
        &self,
        to: SocketAddr,
        options: TcpConnect,
    ) -> BoxFuture<'static, io::Result<Box<dyn TcpStream>>> {
        self.host.connect_tcp(to, options)
    }

    fn resolve(&self, host_port: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        self.host.resolve(host_port)
    }

    fn unix_time(&self) -> Duration {
        self.host.unix_time()
    }

    fn fill_random(&self, out: &mut [u8]) {
        self.host.fill_random(out);
    }

    fn offload_job(&self, job: Box<dyn FnOnce() + Send>) {
        self.host.offload_job(job);
    }
}
