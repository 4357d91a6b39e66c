//! UDP by many datagrams at once: GSO, GRO, ECN and addresses through `quinn-udp`.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket as Tokio};

use super::udp::is_of_one_destination;
use crate::{Arrival, Burst, Ecn, Received, UdpSocket};

/// A socket that never fragments.
#[derive(Debug)]
pub(super) struct Socket {
    io: Tokio,
    state: UdpSocketState,
    local: SocketAddr,
    /// What was joined to a datagram that somebody asked for alone.
    rest: Mutex<Rest>,
}

/// Datagrams of one sender that were received and not yet asked for.
#[derive(Debug)]
struct Rest {
    buf: Box<[u8]>,
    start: usize,
    arrival: Arrival,
}

impl Socket {
    pub(super) fn new(socket: socket2::Socket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let io = Tokio::from_std(socket.into())?;
        let rest = Mutex::new(Rest { buf: Box::default(), start: 0, arrival: Arrival::none() });
        Ok(Self { local: io.local_addr()?, io, state, rest })
    }

    fn recv(&self, bufs: &mut [IoSliceMut<'_>], arrivals: &mut [Arrival]) -> io::Result<usize> {
        let room = bufs.len().min(arrivals.len()).min(BATCH_SIZE);
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let count = self.state.recv((&self.io).into(), &mut bufs[..room], &mut metas[..room])?;
        for (arrival, meta) in arrivals.iter_mut().zip(&metas[..count]) {
            *arrival = Arrival {
                len: meta.len,
                segment: meta.stride.max(1),
                from: meta.addr,
                to: meta.dst_ip,
                ecn: meta.ecn.map(from_codepoint),
            };
        }
        Ok(count)
    }

    /// Sends past the reactor of tokio.
    fn send(&self, burst: &Burst<'_>) -> io::Result<()> {
        let transmit = Transmit {
            destination: burst.to,
            ecn: burst.ecn.map(to_codepoint),
            contents: burst.payload,
            segment_size: burst.segment,
            src_ip: burst.from,
        };
        let outcome = self.state.try_send((&self.io).into(), &transmit);
        match (outcome, burst.segment) {
            // A network card that cannot cut: noticed at the first attempt, after which nothing is left to it.
            (Err(error), Some(segment))
                if error.kind() != io::ErrorKind::WouldBlock && self.state.max_gso_segments() == 1 =>
            {
                for payload in burst.payload.chunks(segment.max(1)) {
                    self.send(&Burst { payload, segment: None, ..*burst })?;
                }
                Ok(())
            }
            (outcome, _) => outcome,
        }
    }
}

impl UdpSocket for Socket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let Rest { buf: received, start, arrival } = &mut *rest;
        if *start >= arrival.len {
            if received.is_empty() {
                *received = vec![0; 1 << 16].into();
            }
            // Also after an error there is nothing left.
            (*start, arrival.len) = (0, 0);
            let mut bufs = [IoSliceMut::new(received)];
            let came = self.poll_recv_batch(cx, &mut bufs, std::slice::from_mut(arrival));
            if !matches!(came, Poll::Ready(Ok(_))) {
                // Whoever asks next may do so in batches, or never.
                *received = Box::default();
            }
            ready!(came)?;
        }
        let datagram = &received[*start..arrival.len.min(*start + arrival.segment)];
        let len = datagram.len().min(buf.len());
        buf[..len].copy_from_slice(&datagram[..len]);
        *start += arrival.segment;
        Poll::Ready(Ok(Received { len, from: arrival.from }))
    }

    fn poll_send(&self, cx: &mut Context<'_>, payload: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        self.poll_send_batch(cx, &Burst { payload, segment: None, to, from: None, ecn: None })
    }

    fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        // Past tokio, which would refuse before its reactor has looked at a new socket.
        self.send(&Burst { payload, segment: None, to, from: None, ecn: None })
    }

    fn poll_recv_batch(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        arrivals: &mut [Arrival],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.io.try_io(Interest::READABLE, || self.recv(bufs, arrivals)) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.io.poll_recv_ready(cx))?;
                }
                Err(error) if is_of_one_destination(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_send_batch(&self, cx: &mut Context<'_>, burst: &Burst<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.io.try_io(Interest::WRITABLE, || self.send(burst)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.io.poll_send_ready(cx))?;
                }
                Err(error) => {
                    // Too long for the interface, no way there, or refused earlier: all the same as lost on the way.
                    tracing::trace!(%error, to = %burst.to, "datagrams not sent");
                    return Poll::Ready(Ok(()));
                }
                Ok(()) => return Poll::Ready(Ok(())),
            }
        }
    }

    fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }
}

fn from_codepoint(ecn: EcnCodepoint) -> Ecn {
    match ecn {
        EcnCodepoint::Ect0 => Ecn::Ect0,
        EcnCodepoint::Ect1 => Ecn::Ect1,
        EcnCodepoint::Ce => Ecn::Ce,
    }
}

fn to_codepoint(ecn: Ecn) -> EcnCodepoint {
    match ecn {
        Ecn::Ect0 => EcnCodepoint::Ect0,
        Ecn::Ect1 => EcnCodepoint::Ect1,
        Ecn::Ce => EcnCodepoint::Ce,
    }
}
