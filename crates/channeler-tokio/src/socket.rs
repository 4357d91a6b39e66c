//! A UDP socket of an endpoint: what it receives is sorted, and who finds it full waits here.

use std::{
    fmt,
    future::poll_fn,
    io::IoSliceMut,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use towline_net::{Arrival, Burst, UdpSocket};

use crate::{connection, lock};

/// Length of a receive buffer: the most that a system joins.
const BUFFER: usize = 1 << 16;

/// Receive buffers while single datagrams come. Those that are never filled take no memory but their addresses.
const MANY: usize = 32;

/// Receive buffers while they come joined: what is received at once stays in the caches until it is read.
const FEW: usize = 4;

/// Bytes received before other tasks get their turn.
const TURN: usize = 256 << 10;

pub(crate) struct Socket {
    /// The number that it has in routes.
    pub(crate) number: u16,
    pub(crate) io: Box<dyn UdpSocket>,
    /// Whether it receives on several addresses, so that it matters by which a peer came.
    pub(crate) any: bool,
    /// Connections that wait until it takes datagrams again.
    blocked: Mutex<Vec<Arc<connection::Shared>>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("number", &self.number).field("io", &self.io).finish_non_exhaustive()
    }
}

impl Socket {
    pub(crate) fn new(number: u16, io: Box<dyn UdpSocket>) -> Self {
        let any = io.local_addr().ip().is_unspecified();
        Self { number, io, any, blocked: Mutex::default() }
    }

    /// Sends, or says that there is no room: then the connection is told when there is.
    pub(crate) fn send(self: &Arc<Self>, connection: &Arc<connection::Shared>, burst: &Burst<'_>) -> bool {
        let waker = Waker::from(Arc::clone(self));
        let cx = &mut Context::from_waker(&waker);
        if self.attempt(cx, burst) {
            return true;
        }
        // First the name in the list, then another attempt: so no wake-up can be missed.
        let mut blocked = lock(&self.blocked);
        if !blocked.iter().any(|known| Arc::ptr_eq(known, connection)) {
            blocked.push(Arc::clone(connection));
        }
        drop(blocked);
        self.attempt(cx, burst)
    }

    /// Sends if there is room.
    pub(crate) fn try_send(self: &Arc<Self>, burst: &Burst<'_>) {
        // A socket may know one task only that waits for room: it must be the one that wakes those who do.
        let waker = Waker::from(Arc::clone(self));
        self.attempt(&mut Context::from_waker(&waker), burst);
    }

    fn attempt(&self, cx: &mut Context<'_>, burst: &Burst<'_>) -> bool {
        match self.io.poll_send_batch(cx, burst) {
            Poll::Pending => false,
            Poll::Ready(sent) => {
                if let Err(error) = sent {
                    tracing::trace!(%error, to = %burst.to, "datagrams not sent");
                }
                true
            }
        }
    }
}

impl Wake for Socket {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting = std::mem::take(&mut *lock(&self.blocked));
        for connection in waiting {
            connection.on_room();
        }
    }
}

/// Receives from a socket until it fails, and hands on what came in one buffer at a time.
pub(crate) async fn receive(
    socket: &Socket,
    mut take: impl FnMut(&mut [(Arrival, &mut [u8])]),
) -> std::io::Error {
    let mut memory = vec![0; BUFFER * MANY];
    let mut arrivals = [Arrival::none(); MANY];
    let mut wanted = MANY;
    let mut turn = 0;
    loop {
        let received = poll_fn(|cx| {
            let mut chunks = memory.chunks_mut(BUFFER);
            let mut bufs: [_; MANY] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            socket.io.poll_recv_batch(cx, &mut bufs[..wanted], &mut arrivals[..wanted])
        });
        let filled = match received.await {
            Ok(filled) => filled,
            Err(error) => return error,
        };
        let mut chunks = memory.chunks_mut(BUFFER);
        let mut batch: [(Arrival, &mut [u8]); MANY] =
            std::array::from_fn(|at| (arrivals[at], chunks.next().unwrap_or_default()));
        take(&mut batch[..filled]);
        let bytes: usize = arrivals[..filled].iter().map(|arrival| arrival.len).sum();
        wanted = if bytes / filled > BUFFER / 8 { FEW } else { MANY };
        turn += bytes.max(filled * 512);
        if turn >= TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}
