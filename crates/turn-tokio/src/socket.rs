//! A relayed address, used as any other UDP socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use towline_net::{Net, Received, UdpSocket, now};
use towline_turn::{Allocation, Failure, HEADROOM, SendError};

use crate::shared::State;
use crate::task::Lease;
use crate::{AllocateError, Ended, Options};

/// A UDP socket at a relayed address: what is sent leaves from there, and what reaches it is received.
///
/// Peers that are sent something are permitted by that; their first datagrams wait for it. Who is to be heard
/// first is permitted by [`RelaySocket::permit`]. Peers that are sent more than a few datagrams get a channel.
/// The allocation is kept alive, and given back when this is dropped.
#[derive(Debug)]
pub struct RelaySocket {
    lease: Lease,
    allocation: Allocation,
    local: SocketAddr,
}

impl RelaySocket {
    /// Asks a server for a relayed address. Dropping the future gives it up.
    pub async fn allocate(net: Arc<dyn Net>, options: &Options) -> Result<Self, AllocateError> {
        let (lease, allocation) = Lease::begin(net, options).await?;
        let local = *allocation.relayed.first().ok_or(Failure::AllocationEnded)?;
        Ok(Self { lease, allocation, local })
    }

    /// What the server gave.
    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// Lets an address send to the relayed one, whatever the port. Returns when it can.
    pub async fn permit(&self, ip: IpAddr) -> Result<(), Failure> {
        {
            let mut state = self.lease.shared.lock();
            state.forgive(ip);
            if state.client.permit(now(), ip).is_err() {
                return Err(state.ended.unwrap_or(Ended::Closed).reason());
            }
        }
        self.lease.shared.work.notify_one();
        let decided = self.lease.shared.until(|state| match (state.ended, state.refusal(ip)) {
            (Some(ended), _) => Some(Err(ended.reason())),
            (None, Some(reason)) => Some(Err(reason)),
            (None, None) => state.client.passes(now(), SocketAddr::new(ip, 0)).is_ok().then_some(Ok(())),
        });
        decided.await
    }

    /// Why the server lets nothing pass to and from an address.
    pub fn refusal(&self, ip: IpAddr) -> Option<Failure> {
        self.lease.shared.lock().refusal(ip)
    }

    /// Lets an address lapse that was permitted.
    pub fn forget(&self, ip: IpAddr) {
        let mut state = self.lease.shared.lock();
        state.forgive(ip);
        state.client.forget(now(), ip);
    }

    /// Asks the server whether it still has the allocation; if not, [`RelaySocket::ended`] says so.
    pub fn check(&self) {
        self.lease.shared.lock().client.check(now());
        self.lease.shared.work.notify_one();
    }

    /// Waits until the relayed address is gone, and says why. Cancel safe.
    pub async fn ended(&self) -> Ended {
        self.lease.ended().await
    }

    /// Gives the address back, and waits until the server has heard of it; at most about 1.5 s.
    pub async fn close(self) {
        self.lease.close();
        self.lease.ended().await;
    }

    fn send(&self, cx: Option<&mut Context<'_>>, payload: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        let mut state = self.lease.shared.lock();
        if let Some(ended) = state.ended {
            return Poll::Ready(Err(gone(ended)));
        }
        if self.lease.socket.is_none() && state.out.len() + payload.len() + HEADROOM + 3 > state.out_limit {
            return match cx {
                None => Poll::Ready(Err(io::ErrorKind::WouldBlock.into())),
                Some(cx) => {
                    if !state.writers.iter().any(|writer| writer.will_wake(cx.waker())) {
                        state.writers.push(cx.waker().clone());
                    }
                    Poll::Pending
                }
            };
        }
        let mut packet = Vec::with_capacity(HEADROOM + payload.len() + 3);
        packet.resize(HEADROOM, 0);
        packet.extend_from_slice(payload);
        let start = match state.client.encode(now(), to, &mut packet) {
            Ok(start) => start,
            Err(SendError::NotPermitted) => {
                self.first(&mut state, payload, to);
                return Poll::Ready(Ok(()));
            }
            Err(SendError::TooLong(_)) => return Poll::Ready(Err(io::ErrorKind::InvalidInput.into())),
            // Lost, as the network might have lost it.
            Err(SendError::NoAllocation | SendError::Full) => return Poll::Ready(Ok(())),
        };
        if state.client.passes(now(), to) == Ok(false) && state.worth_a_channel(to) {
            // Without room for another one, indications go on.
            let _ = state.client.bind(now(), to);
            self.lease.shared.work.notify_one();
        }
        match &self.lease.socket {
            None => {
                state.out.extend_from_slice(&packet[start..]);
                self.lease.shared.work.notify_one();
                Poll::Ready(Ok(()))
            }
            Some(socket) => {
                let server = state.client.server();
                drop(state);
                match cx {
                    None => Poll::Ready(socket.try_send(&packet[start..], server)),
                    Some(cx) => socket.poll_send(cx, &packet[start..], server),
                }
            }
        }
    }

    // The first datagrams to a peer wait until it is permitted; those to one that was refused are lost.
    fn first(&self, state: &mut State, payload: &[u8], to: SocketAddr) {
        // Silence is no refusal: the way to the server may be back.
        if state.refusal(to.ip()) == Some(Failure::NoAnswer) {
            state.forgive(to.ip());
        }
        if state.refusal(to.ip()).is_none() && state.client.permit(now(), to.ip()).is_ok() {
            state.hold(to, payload);
            self.lease.shared.work.notify_one();
        }
    }
}

fn gone(ended: Ended) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, ended.reason())
}

impl UdpSocket for RelaySocket {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Received>> {
        let mut state = self.lease.shared.lock();
        if let Some((from, payload)) = state.inbox.read() {
            let len = payload.len().min(buf.len());
            buf[..len].copy_from_slice(&payload[..len]);
            return Poll::Ready(Ok(Received { len, from }));
        }
        if let Some(ended) = state.ended {
            return Poll::Ready(Err(gone(ended)));
        }
        state.inbox.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_send(&self, cx: &mut Context<'_>, payload: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        Poll::Ready(ready!(self.send(Some(cx), payload, to)))
    }

    fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        match self.send(None, payload, to) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
