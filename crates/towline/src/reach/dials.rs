//! Connections to STUN servers, from the very ports that peers are to connect to.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;
use towline_ice::gather::{Gatherer, QuestionId};
use towline_net::{BoxFuture, Net, TcpConnect, TcpStream};

/// Answers are short.
const BUFFER: usize = 2048;
/// Longest wait for a server to take a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Dials {
    net: Arc<dyn Net>,
    lines: BTreeMap<QuestionId, Line>,
}

enum Line {
    Connecting(BoxFuture<'static, io::Result<Box<dyn TcpStream>>>),
    Open { io: Box<dyn TcpStream>, unsent: Vec<u8> },
}

/// What became of a connection.
enum Step {
    Connected(Box<dyn TcpStream>),
    NotConnected,
    Read(usize),
    Closed,
}

impl Dials {
    pub(super) fn new(net: Arc<dyn Net>) -> Self {
        Self { net, lines: BTreeMap::new() }
    }

    /// Whether there is no connection, and none is being opened.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn connect(&mut self, question: QuestionId, local: SocketAddr, remote: SocketAddr) {
        let connecting = self.net.connect_tcp(remote, TcpConnect { local: Some(local), timeout: CONNECT });
        self.lines.insert(question, Line::Connecting(connecting));
    }

    pub(super) fn write(&mut self, question: QuestionId, payload: &[u8]) {
        if let Some(Line::Open { unsent, .. }) = self.lines.get_mut(&question) {
            unsent.extend_from_slice(payload);
        }
    }

    pub(super) fn close(&mut self, question: QuestionId) {
        self.lines.remove(&question);
    }

    /// Moves every connection on, and tells `gatherer`. True if anything happened.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant, gatherer: &mut Gatherer) -> bool {
        let questions: Vec<QuestionId> = self.lines.keys().copied().collect();
        let (mut moved, mut buffer) = (false, [0; BUFFER]);
        for question in questions {
            let Some(line) = self.lines.get_mut(&question) else { continue };
            let Poll::Ready(step) = line.poll(cx, &mut buffer) else { continue };
            moved = true;
            match step {
                Step::Connected(io) => {
                    *line = Line::Open { io, unsent: Vec::new() };
                    gatherer.handle_tcp_connected(now, question);
                }
                Step::NotConnected => {
                    self.lines.remove(&question);
                    gatherer.handle_tcp_failed(now, question);
                }
                Step::Read(len) => gatherer.handle_tcp_bytes(now, question, &buffer[..len]),
                Step::Closed => {
                    self.lines.remove(&question);
                    gatherer.handle_tcp_closed(now, question);
                }
            }
        }
        moved
    }
}

impl Line {
    fn poll(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Step> {
        match self {
            Self::Connecting(connecting) => connecting.as_mut().poll(cx).map(|connected| match connected {
                Ok(io) => Step::Connected(io),
                Err(_) => Step::NotConnected,
            }),
            Self::Open { io, unsent } => {
                while !unsent.is_empty() {
                    match Pin::new(&mut **io).poll_write(cx, unsent) {
                        Poll::Ready(Ok(written @ 1..)) => drop(unsent.drain(..written)),
                        Poll::Ready(_) => return Poll::Ready(Step::Closed),
                        Poll::Pending => break,
                    }
                }
                let mut read = ReadBuf::new(buffer);
                Pin::new(&mut **io).poll_read(cx, &mut read).map(|outcome| {
                    match (outcome, read.filled().len()) {
                        (Ok(()), len @ 1..) => Step::Read(len),
                        _ => Step::Closed,
                    }
                })
            }
        }
    }
}
