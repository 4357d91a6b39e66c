//! A UDP socket of a connection: packets of the transport, with STUN between them.

use std::cell::RefCell;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use towline_channeler::{Ecn, Transmit};
use towline_net::{Arrival, Burst, UdpSocket};

/// Length of a receive buffer: the most that a system joins.
const BUFFER: usize = 1 << 16;
/// Receive buffers.
const BUFFERS: usize = 4;

thread_local! {
    /// Where datagrams are received. One for all connections that run in a thread, as they come and go by turns.
    static MEMORY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Box<dyn UdpSocket>,
    local: SocketAddr,
}

/// A datagram that came.
pub(super) struct Datagram<'a> {
    /// Our address, as exactly as it is known.
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) ecn: Option<Ecn>,
    pub(super) bytes: &'a mut [u8],
}

impl Socket {
    pub(crate) fn new(io: Box<dyn UdpSocket>) -> Self {
        let local = io.local_addr();
        Self { io, local }
    }

    /// The address that it is bound to.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Receives once, and hands each datagram to `take`. Pending when nothing is there; false if the socket is of no more use.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Datagram<'_>),
    ) -> Poll<bool> {
        MEMORY.with_borrow_mut(|memory| {
            memory.resize(BUFFER * BUFFERS, 0);
            let mut arrivals = [Arrival::none(); BUFFERS];
            let mut chunks = memory.chunks_mut(BUFFER);
            let mut bufs: [_; BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let filled = match self.io.poll_recv_batch(cx, &mut bufs, &mut arrivals) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(filled)) => filled,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, local = %self.local, "a UDP socket failed");
                    return Poll::Ready(false);
                }
            };
            for (arrival, buf) in arrivals.iter().zip(memory.chunks_mut(BUFFER)).take(filled) {
                let ip = arrival.to.unwrap_or(self.local.ip());
                let local = SocketAddr::new(ip, self.local.port());
                for bytes in arrival.datagrams(buf) {
                    let ecn = arrival.ecn.map(from_net);
                    take(Datagram { local, remote: arrival.from, ecn, bytes });
                }
            }
            Poll::Ready(true)
        })
    }

    /// Sends what the transport has prepared. False if there is no room; the task is woken when there is.
    pub(super) fn send(
        &self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        from: Option<IpAddr>,
        to: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let ecn = transmit.ecn.map(to_net);
        let burst = Burst { payload, segment: transmit.segment, to, from, ecn };
        match self.io.poll_send_batch(cx, &burst) {
            Poll::Pending => false,
            Poll::Ready(sent) => {
                if let Err(error) = sent {
                    // Lost, as the network might have lost it.
                    tracing::trace!(%error, %to, "datagrams not sent");
                }
                true
            }
        }
    }

    /// Sends one datagram of the ICE agent, which repeats what is lost.
    pub(super) fn send_check(&self, payload: &[u8], to: SocketAddr) {
        if let Err(error) = self.io.try_send(payload, to) {
            tracing::trace!(%error, %to, "check not sent");
        }
    }

    /// How many datagrams it does well to be given at once.
    pub(super) fn max_segments(&self) -> usize {
        self.io.max_segments()
    }
}

fn from_net(ecn: towline_net::Ecn) -> Ecn {
    match ecn {
        towline_net::Ecn::Ect0 => Ecn::Ect0,
        towline_net::Ecn::Ect1 => Ecn::Ect1,
        towline_net::Ecn::Ce => Ecn::Ce,
    }
}

fn to_net(ecn: Ecn) -> towline_net::Ecn {
    match ecn {
        Ecn::Ect0 => towline_net::Ecn::Ect0,
        Ecn::Ect1 => towline_net::Ecn::Ect1,
        Ecn::Ce => towline_net::Ecn::Ce,
    }
}
