//! A host of the lab whose UDP sockets are counted, and of which it may have only so many.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use towline::net::{Net, Received, UdpSocket};
use towline_lab::Host;

/// What the system says when a program has too many files open (EMFILE).
const TOO_MANY: i32 = 24;

/// UDP sockets that are open, and how many there have been at once.
#[derive(Debug, Default)]
pub struct Counted {
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Counted {
    /// A host that may have only so many, and their count.
    pub fn on(host: &Host, limit: usize) -> (Arc<impl Net + use<>>, Arc<Self>) {
        let count = Arc::<Self>::default();
        let sockets = Arc::clone(&count);
        let net = host.with_udp(move |host, options| {
            if sockets.open() >= limit {
                return Err(io::Error::from_raw_os_error(TOO_MANY));
            }
            let socket = Socket { io: host.bind_udp(options)?, count: Arc::clone(&sockets) };
            let open = sockets.open.fetch_add(1, Ordering::Relaxed) + 1;
            sockets.most.fetch_max(open, Ordering::Relaxed);
            Ok(Box::new(socket))
        });
        (Arc::new(net), count)
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Socket {
    io: Box<dyn UdpSocket>,
    count: Arc<Counted>,
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
