//! A host of the lab whose UDP sockets are counted, and of which it may have only so many.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use towline::net::{
    BoxFuture, Changes, Interface, Net, Received, TcpConnect, TcpListener, TcpStream, UdpBind, UdpSocket,
};
use towline_lab::Host;

/// What the system says when a program has too many files open (EMFILE).
const TOO_MANY: i32 = 24;

/// UDP sockets that are open, and how many there have been at once.
#[derive(Debug, Default)]
pub struct Count {
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Count {
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Counted {
    host: Host,
    limit: usize,
    pub sockets: Arc<Count>,
}

impl Counted {
    pub fn new(host: &Host, limit: usize) -> Self {
        Self { host: host.clone(), limit, sockets: Arc::default() }
    }
}

#[derive(Debug)]
struct Socket {
    io: Box<dyn UdpSocket>,
    count: Arc<Count>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.count.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl UdpSocket for Socket {
    fn local_addr(&self) -> SocketAddr {
        self.io.local_addr()
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        self.io.poll_recv(cx, buf)
    }

    fn poll_send(&self, cx: &mut Context<'_>, payload: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        self.io.poll_send(cx, payload, to)
    }

    fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        self.io.try_send(payload, to)
    }
}

impl Net for Counted {
    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        self.host.interfaces()
    }

    fn changes(&self) -> Changes {
        self.host.changes()
    }

    fn bind_udp(&self, options: &UdpBind) -> io::Result<Box<dyn UdpSocket>> {
        if self.sockets.open() >= self.limit {
            return Err(io::Error::from_raw_os_error(TOO_MANY));
        }
        let socket = Socket { io: self.host.bind_udp(options)?, count: Arc::clone(&self.sockets) };
        let open = self.sockets.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.sockets.most.fetch_max(open, Ordering::Relaxed);
        Ok(Box::new(socket))
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
