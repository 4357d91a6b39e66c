//! Before the first words to a peer: how the sockets of an attempt are seen from outside, as far as that is known soon.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use towline_ice::punch::Party;
use towline_ice::{Candidate, CandidateKind, TcpType, Transport};
use towline_net::UdpSocket;
use towline_portmap::Transport as Mapped;

use super::Gathered;
use crate::alarm::is_past;
use crate::reach::{Base, Finding, Means, Outside};

/// Answers of STUN servers are short.
const BUFFER: usize = 2048;

/// The addresses that are to be reached from outside.
pub(crate) fn bases<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Vec<Base> {
    let base = |candidate: &Candidate| {
        let transport = match candidate.transport {
            Transport::Udp => Mapped::Udp,
            Transport::Tcp(TcpType::Passive) => Mapped::Tcp,
            Transport::Tcp(_) => return None,
        };
        (candidate.kind == CandidateKind::Host).then_some(Base { transport, address: candidate.address })
    };
    candidates.filter_map(base).collect()
}

impl Gathered {
    /// Begins to ask how the sockets are seen from outside.
    pub(crate) fn look_outside(&mut self, means: &Arc<Means>) {
        let description = self.description();
        let udp = self.datagrams.iter().flat_map(|(_, candidates)| candidates);
        let bases = bases(udp.chain(&description.candidates));
        self.outside = Some(means.begin(&bases, description.credentials.ufrag()));
        self.means = Some(Arc::clone(means));
    }

    /// Waits at most so long for answers; later ones follow. What is found belongs to the first words.
    pub(crate) async fn hear_outside(&mut self, wait: Duration) {
        let Some(mut outside) = self.outside.take() else { return };
        let timer = tokio::time::sleep_until(towline_net::now().into());
        tokio::pin!(timer);
        let looked = poll_fn(|cx| {
            loop {
                let moved = self.ask_outside(cx, &mut outside, timer.as_mut());
                while let Some(finding) = outside.poll_finding() {
                    self.take(finding);
                }
                if !outside.is_promising(towline_net::now()) {
                    return Poll::Ready(());
                }
                if !moved {
                    return Poll::Pending;
                }
            }
        });
        let _ = tokio::time::timeout(wait, looked).await;
        self.outside = Some(outside);
    }

    /// Goes on asking while something else is waited for. What is found meanwhile is kept for whoever looks next.
    pub(crate) async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> T {
        let Some(mut outside) = self.outside.take() else { return other.await };
        let timer = tokio::time::sleep_until(towline_net::now().into());
        tokio::pin!(timer, other);
        let output = poll_fn(|cx| {
            if let Poll::Ready(output) = other.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            while self.ask_outside(cx, &mut outside, timer.as_mut()) {}
            Poll::Pending
        });
        let output = output.await;
        self.outside = Some(outside);
        output
    }

    /// Sends and takes what is there, and what is due. True if there was anything.
    fn ask_outside(
        &mut self,
        cx: &mut Context<'_>,
        outside: &mut Outside,
        timer: Pin<&mut tokio::time::Sleep>,
    ) -> bool {
        let mut moved = self.exchange(cx, outside);
        if outside.poll_timeout().is_some_and(|at| is_past(timer, cx, at)) {
            outside.handle_timeout(towline_net::now());
            moved = true;
        }
        moved
    }

    /// Whether more candidates may follow those that are known.
    pub(crate) fn expects_more(&self) -> bool {
        self.outside.as_ref().is_some_and(|outside| !outside.is_done())
    }

    /// The NAT that we are behind, if that is known already.
    pub(crate) fn party(&self) -> Option<Party> {
        self.outside.as_ref()?.seen().map(|seen| seen.party)
    }

    /// Sends questions and takes answers. Nobody else knows the sockets yet.
    fn exchange(&mut self, cx: &mut Context<'_>, outside: &mut Outside) -> bool {
        let mut moved = outside.poll(cx);
        while let Some(ask) = outside.poll_ask() {
            moved = true;
            let of_socket = |candidates: &[Candidate]| candidates.iter().any(|own| own.address == ask.local);
            if let Some((socket, _)) = self.datagrams.iter().find(|(_, candidates)| of_socket(candidates)) {
                // Lost, as the network might have lost it.
                let _ = socket.try_send(&ask.payload, ask.remote);
            }
        }
        let mut buf = [0; BUFFER];
        for (socket, _) in &self.datagrams {
            while let Poll::Ready(Ok(received)) = socket.poll_recv(cx, &mut buf) {
                moved = true;
                outside.handle(towline_net::now(), socket.local_addr(), received.from, &buf[..received.len]);
            }
        }
        moved
    }

    fn take(&mut self, finding: Finding) {
        match finding {
            Finding::Candidate(candidate) => {
                let of_socket =
                    |candidates: &[Candidate]| candidates.iter().any(|own| own.address == candidate.base);
                let udp = candidate.transport == Transport::Udp;
                match self.datagrams.iter_mut().find(|(_, candidates)| udp && of_socket(candidates)) {
                    Some((_, candidates)) => candidates.push(candidate),
                    None => self.mapped.push(candidate),
                }
            }
            Finding::Relay(port) => {
                let candidate = Candidate::relayed(Transport::Udp, port.local_addr(), 0);
                self.datagrams.push((Box::new(port), vec![candidate]));
            }
            Finding::RelayLost(local) => self.datagrams.retain(|(socket, _)| socket.local_addr() != local),
        }
    }
}
