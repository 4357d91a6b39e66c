//! The sockets that are open for punching, and the probes that leave from them and from that of the session.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use towline_ice::Disposition;
use towline_net::{BoxFuture, Net};

use super::socket::Socket;
use super::wires::Wires;
use crate::path::datagram_socket;

/// Sockets that are given up again when the system has no more: whatever else the program does needs some, too.
const SPARE: usize = 16;

/// Something came to a socket.
struct Arrival {
    local: SocketAddr,
    remote: SocketAddr,
    bytes: Vec<u8>,
}

/// What came at once to the socket of this number; nothing, if it is of no more use.
type Listening = BoxFuture<'static, (usize, Vec<Arrival>)>;

/// Sockets of which one will be a path, or none.
#[derive(Default)]
pub(super) struct Openings {
    sockets: BTreeMap<usize, Arc<Socket>>,
    listening: FuturesUnordered<Listening>,
    /// No more are to be had.
    exhausted: bool,
}

impl Openings {
    /// Opens the socket of this number. An error if the system has no more; then some are closed again.
    fn open(&mut self, net: &dyn Net, number: usize, ip: IpAddr) -> io::Result<()> {
        let io = match net.bind_udp(&datagram_socket(ip)) {
            Ok(io) => io,
            Err(error) => {
                self.exhausted = true;
                let kept = self.sockets.len().saturating_sub(SPARE).max(1);
                while self.sockets.len() > kept {
                    self.sockets.pop_last();
                }
                // Those that wait on a socket keep it.
                self.listening = self.sockets.iter().map(|(at, socket)| listen(*at, socket)).collect();
                return Err(error);
            }
        };
        let socket = Arc::new(Socket::new(io));
        self.listening.push(listen(number, &socket));
        self.sockets.insert(number, socket);
        Ok(())
    }

    fn len(&self) -> usize {
        self.sockets.len()
    }

    /// What came to one of them.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Vec<Arrival>)> {
        match self.listening.poll_next_unpin(cx) {
            Poll::Ready(Some(arrived)) => Poll::Ready(arrived),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Goes on waiting for what comes to that socket.
    fn listen_on(&mut self, number: usize) {
        if let Some(socket) = self.sockets.get(&number) {
            self.listening.push(listen(number, socket));
        }
    }

    /// Takes a socket out to which nobody listens.
    fn take(&mut self, number: usize) -> Option<Socket> {
        Arc::into_inner(self.sockets.remove(&number)?)
    }

    fn close(&mut self) {
        if !self.sockets.is_empty() || self.exhausted {
            *self = Self::default();
        }
    }
}

fn listen(number: usize, socket: &Arc<Socket>) -> Listening {
    let socket = Arc::clone(socket);
    Box::pin(async move {
        let arrivals = poll_fn(|cx| {
            let mut arrivals = Vec::new();
            let received = socket.poll_receive(cx, |datagram| {
                let bytes = datagram.bytes.to_vec();
                arrivals.push(Arrival { local: datagram.local, remote: datagram.remote, bytes });
            });
            received.map(|_| arrivals)
        });
        (number, arrivals.await)
    })
}

impl Wires {
    /// Sends the probes that are due and takes over the sockets that the peer has found. True if there was anything.
    pub(super) fn punch(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let role = self.agent.role();
        let Self { outward, paths, .. } = self;
        let Some(punching) = &mut outward.punching else { return false };
        let mut direct = paths.values().filter(|path| !path.kind.is_relayed()).peekable();
        if direct.peek().is_some() {
            punching.succeed(direct.map(|path| path.remote));
        }
        punching.advance(now, role, || self.net.seed());
        if !punching.is_under_way() {
            self.openings.close();
            return false;
        }
        let moved = self.take_over(cx, now);
        self.send_probes(now);
        moved
    }

    fn send_probes(&mut self, now: Instant) {
        let Self { agent, net, sockets, outward, openings, .. } = self;
        let Some(punching) = &mut outward.punching else { return };
        let own = punching.base().and_then(|base| sockets.sending_from(base));
        let Some(own) = own.and_then(|own| sockets.get(own)) else { return };
        let wanted = punching.wants();
        while let Some(probe) = punching.poll_probe(now) {
            let Some(packet) = agent.probe() else { return };
            if wanted == 0 {
                own.send_check(&packet, probe.remote);
                continue;
            }
            if !openings.sockets.contains_key(&probe.socket) && !openings.exhausted {
                match openings.open(net.as_ref(), probe.socket, own.local().ip()) {
                    Ok(()) => punching.opened(openings.len()),
                    Err(error) => punching.run_short(openings.len(), &error),
                }
            }
            if let Some(socket) = openings.sockets.get(&probe.socket) {
                socket.send_check(&packet, probe.remote);
            }
        }
    }

    /// A socket that a check of the peer has come to becomes one of the session.
    fn take_over(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        while let Poll::Ready((number, arrivals)) = self.openings.poll_next(cx) {
            if arrivals.is_empty() {
                // It failed.
                self.openings.take(number);
                continue;
            }
            let mut adopted = false;
            for Arrival { local, remote, bytes } in arrivals {
                let disposition = self.agent.adopt(now, local, remote, &bytes);
                tracing::trace!(%local, %remote, ?disposition, "a probe came");
                adopted |= disposition == Disposition::Consumed;
            }
            if !adopted {
                self.openings.listen_on(number);
            } else if let Some(socket) = self.openings.take(number) {
                self.sockets.add(socket);
                self.note_life();
                moved = true;
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use towline_ice::punch::PunchConfig;
    use towline_net::Os;

    use super::*;

    #[tokio::test]
    async fn the_system_opens_as_many_as_are_wanted_and_closes_them() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let wanted = PunchConfig::default().max_sockets;
        let mut openings = Openings::default();
        for number in 0..wanted {
            openings.open(&Os, number, ip).unwrap();
        }
        let ports: Vec<SocketAddr> = openings.sockets.values().map(|socket| socket.local()).collect();
        assert_eq!((openings.len(), wanted), (256, 256));

        let peer = UdpSocket::bind((ip, 0)).unwrap();
        for hit in [200, 7, 200] {
            peer.send_to(b"here", ports[hit]).unwrap();
            let (number, arrivals) = poll_fn(|cx| openings.poll_next(cx)).await;
            assert_eq!(number, hit);
            assert_eq!(arrivals.len(), 1);
            assert_eq!((arrivals[0].local, arrivals[0].bytes.as_slice()), (ports[hit], b"here".as_slice()));
            openings.listen_on(number);
        }
        peer.send_to(b"again", ports[9]).unwrap();
        let (number, _) = poll_fn(|cx| openings.poll_next(cx)).await;
        let kept = openings.take(number).unwrap();
        openings.close();
        assert_eq!((kept.local(), openings.len()), (ports[9], 0));
        for port in ports {
            // Whoever closed it has given it back.
            assert_eq!(UdpSocket::bind(port).is_ok(), port != kept.local(), "{port}");
        }
    }
}
