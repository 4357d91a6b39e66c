//! Listening sockets.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    task::{Context, Poll, Waker},
};

use towline_net::{TcpListener, TcpStream};

use super::{Stream, stream::crashed};
use crate::{node::NodeId, shared::World};

/// A listening socket, as the host keeps it.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) id: u64,
    /// Connections that are open and wait to be accepted.
    pub(crate) open: VecDeque<u64>,
    /// Those, and the half-open ones.
    pub(crate) waiting: usize,
    pub(crate) waker: Option<Waker>,
}

impl Backlog {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, open: VecDeque::new(), waiting: 0, waker: None }
    }
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) world: World,
    pub(crate) node: NodeId,
    pub(crate) id: u64,
    pub(crate) local: SocketAddr,
}

impl TcpListener for Listener {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn TcpStream>>> {
        let accepted = self.world.with(|state| {
            let backlog = state.backlog(self.node, self.local, self.id).ok_or_else(crashed)?;
            match backlog.open.pop_front() {
                Some(id) => {
                    backlog.waiting -= 1;
                    Ok(Some((id, state.accept(self.node, id))))
                }
                None => {
                    backlog.waker = Some(cx.waker().clone());
                    Ok(None)
                }
            }
        });
        match accepted {
            Ok(Some((id, (local, peer)))) => {
                let stream = Stream::new(self.world.clone(), self.node, id, local, peer);
                Poll::Ready(Ok(Box::new(stream)))
            }
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.world.with(|state| state.close_listener(self.node, self.local, self.id));
    }
}
