//! Links over byte streams.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::Semaphore,
    time::timeout,
};
use towline_channeler::Route;
use towline_net::TcpListener;

use crate::{
    Wakes,
    connection::{self, State},
    endpoint,
};

/// Read at once, at first and when the stream turns out to have more.
const READ: (usize, usize) = (32 << 10, 256 << 10);

/// Written packets wait for the stream to take them; beyond this, no more are made.
const WAITING: usize = 64 << 10;

/// Streams of peers that have not said yet which connection they are for. Further ones are dropped.
const STRANGERS: usize = 256;

/// How long a stranger may take to say so, and with how many packets.
const PATIENCE: (Duration, usize) = (Duration::from_secs(10), 8);

/// Times that a stream is read and written before other tasks get their turn.
const ROUNDS: usize = 16;

/// A stream of bytes that keeps order and loses nothing: TCP, TLS over it, a relayed connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// What a connection has to send on a stream, until the stream's task takes it.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    packets: Vec<u8>,
    task: Option<Waker>,
    /// The connection was told to make no more.
    full: bool,
    /// The link is gone: the stream ends when everything is written.
    closing: bool,
}

impl Outlet {
    pub(crate) fn close(&mut self, wakes: &mut Wakes) {
        self.closing = true;
        wakes.extend(self.task.take());
    }
}

impl State {
    /// Leaves packets for the task of a stream. The buffer is swapped for an empty one where that saves copying.
    pub(crate) fn leave_for_stream(
        &mut self,
        now: Instant,
        number: u32,
        packets: &mut Vec<u8>,
        wakes: &mut Wakes,
    ) {
        let Some(outlet) = self.streams.get_mut(&number) else {
            self.inner.link_lost(now, Route::Stream(number));
            return;
        };
        if outlet.packets.is_empty() {
            std::mem::swap(&mut outlet.packets, packets);
        } else {
            outlet.packets.extend_from_slice(packets);
        }
        if outlet.packets.len() >= WAITING {
            outlet.full = true;
            self.inner.set_ready(Route::Stream(number), false);
        }
        wakes.extend(outlet.task.take());
    }
}

/// A stream with what was read from it and not yet understood.
pub(crate) struct Framed {
    io: Box<dyn ByteStream>,
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl fmt::Debug for Framed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed").field("unread", &(self.end - self.start)).finish_non_exhaustive()
    }
}

impl Framed {
    pub(crate) fn new(io: Box<dyn ByteStream>) -> Self {
        Self { io, buf: vec![0; READ.0], start: 0, end: 0 }
    }

    /// Whether there is a whole packet.
    fn has_packet(&self) -> bool {
        let unread = &self.buf[self.start..self.end];
        let length = unread.split_first_chunk();
        length.is_some_and(|(length, rest)| rest.len() >= usize::from(u16::from_be_bytes(*length)))
    }

    /// The next packet that is there whole, without its length.
    fn packet(&mut self) -> Option<&mut [u8]> {
        let unread = &self.buf[self.start..self.end];
        let (length, rest) = unread.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes(*length));
        if rest.len() < len {
            return None;
        }
        let from = self.start + length.len();
        self.start = from + len;
        Some(&mut self.buf[from..from + len])
    }

    /// Reads more. Fails with `UnexpectedEof` at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.buf.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        // What is there of a packet is less than half of this, or there is room for a whole one.
        if self.end * 2 > self.buf.len() && self.buf.len() < READ.1 {
            self.buf.resize(READ.1, 0);
        }
        let mut buf = ReadBuf::new(&mut self.buf[self.end..]);
        ready!(Pin::new(&mut *self.io).poll_read(cx, &mut buf))?;
        let (len, full) = (buf.filled().len(), buf.remaining() == 0);
        self.end += len;
        if full && self.buf.len() < READ.1 {
            self.buf.resize(READ.1, 0);
        }
        if len == 0 { Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())) } else { Poll::Ready(Ok(())) }
    }
}

/// Gives a connection a stream, by this number of its endpoint.
pub(crate) fn attach(connection: &Arc<connection::Shared>, number: u32, framed: Framed) {
    connection.lock().streams.insert(number, Outlet::default());
    start(connection, number, framed);
}

fn start(connection: &Arc<connection::Shared>, number: u32, framed: Framed) {
    let connection = Arc::clone(connection);
    tokio::spawn(Task { connection, number, framed, writing: Vec::new(), written: 0 });
}

/// Takes a stream away again; what waits for it is written first.
pub(crate) fn detach(connection: &connection::Shared, number: u32) {
    let mut wakes = Wakes::default();
    connection.lock().streams.get_mut(&number).into_iter().for_each(|outlet| outlet.close(&mut wakes));
    wakes.wake();
}

/// Reads and writes a stream of a connection.
struct Task {
    connection: Arc<connection::Shared>,
    number: u32,
    framed: Framed,
    writing: Vec<u8>,
    written: usize,
}

impl Task {
    /// Takes what there is to write. Whether the stream is to end when there is nothing.
    fn collect(&mut self, cx: &Context<'_>) -> bool {
        let mut state = self.connection.lock();
        let Some(outlet) = state.streams.get_mut(&self.number) else { return true };
        self.writing.clear();
        self.written = 0;
        std::mem::swap(&mut self.writing, &mut outlet.packets);
        let closing = outlet.closing && self.writing.is_empty();
        if self.writing.is_empty() {
            connection::park(&mut outlet.task, cx);
        }
        let full = std::mem::take(&mut outlet.full);
        if full {
            state.inner.set_ready(Route::Stream(self.number), true);
        }
        drop(state);
        if full {
            self.connection.flush();
        }
        closing
    }

    /// Writes what there is, until the stream takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.writing.len() {
            let rest = &self.writing[self.written..];
            match ready!(Pin::new(&mut *self.framed.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.written += len,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands over the packets that are there.
    fn take(&mut self) {
        let (now, route) = (towline_net::now(), Route::Stream(self.number));
        let framed = &mut self.framed;
        self.connection.handle(|inner| {
            while let Some(packet) = framed.packet() {
                inner.handle(now, route, None, packet);
            }
        });
        self.connection.flush();
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS {
            let mut idle = true;
            if self.written == self.writing.len() && self.collect(cx) {
                ready!(Pin::new(&mut *self.framed.io).poll_shutdown(cx))?;
                return Poll::Ready(Ok(()));
            }
            if self.written < self.writing.len() {
                if let Poll::Ready(done) = self.poll_write(cx) {
                    done?;
                    // There may be more by now.
                    idle = false;
                }
                // Streams that gather what they are given, such as TLS, must be told that this is all.
            } else if let Poll::Ready(flushed) = Pin::new(&mut *self.framed.io).poll_flush(cx) {
                flushed?;
            }
            if let Poll::Ready(filled) = self.framed.poll_fill(cx) {
                filled?;
                self.take();
                idle = false;
            }
            if idle {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let ended = ready!(this.poll_run(cx));
        if let Err(error) = ended {
            tracing::debug!(%error, number = this.number, "a stream ended");
        }
        let route = Route::Stream(this.number);
        this.connection.with(|state, now| {
            state.streams.remove(&this.number);
            state.inner.link_lost(now, route);
        });
        Poll::Ready(())
    }
}

/// Serves every stream that a listener accepts.
pub(crate) async fn listen(endpoint: Arc<endpoint::Shared>, mut listener: Box<dyn TcpListener>) {
    loop {
        match listener.accept().await {
            Ok(stream) => serve(&endpoint, Box::new(stream)),
            Err(error) => {
                tracing::debug!(%error, "a stream was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Finds out which connection a stream is for, and gives it to that.
pub(crate) fn serve(endpoint: &Arc<endpoint::Shared>, io: Box<dyn ByteStream>) {
    let Ok(place) = Arc::clone(&endpoint.strangers).try_acquire_owned() else {
        tracing::debug!("a stream was dropped: too many that nobody knows");
        return;
    };
    let endpoint = Arc::clone(endpoint);
    tokio::spawn(async move {
        let known = timeout(PATIENCE.0, identify(&endpoint, Framed::new(io))).await;
        drop(place);
        match known {
            Ok(Ok(Some((connection, number, framed)))) => start(&connection, number, framed),
            Ok(Ok(None)) => tracing::debug!("a stream was for nobody"),
            Ok(Err(error)) => tracing::debug!(%error, "a stream ended before anybody knew it"),
            Err(_) => tracing::debug!("a stream did not say in time whom it is for"),
        }
    });
}

type Identified = Option<(Arc<connection::Shared>, u32, Framed)>;

async fn identify(endpoint: &Arc<endpoint::Shared>, mut framed: Framed) -> io::Result<Identified> {
    let number = endpoint.next_stream();
    let route = Route::Stream(number);
    let mut answer = Vec::new();
    for _ in 0..PATIENCE.1 {
        let packet = loop {
            // The borrow of a packet that is returned cannot be told from that of one that is not.
            if framed.has_packet() {
                break framed.packet().expect("it is there");
            }
            std::future::poll_fn(|cx| framed.poll_fill(cx)).await?;
        };
        if let Some(connection) = endpoint.identify(route, packet, &mut answer) {
            let known = connection.handle_first(number, packet);
            connection.flush();
            return Ok(known.then_some((connection, number, framed)));
        }
        framed.io.write_all(&answer).await?;
    }
    Ok(None)
}

impl connection::Shared {
    /// Takes the first packet of a stream. Whether the stream is one of its links now.
    fn handle_first(&self, number: u32, packet: &mut [u8]) -> bool {
        let route = Route::Stream(number);
        let mut state = self.lock();
        state.streams.insert(number, Outlet::default());
        state.inner.handle(towline_net::now(), route, None, packet);
        let known = !state.connected || state.inner.links().any(|link| link.route == route);
        if !known {
            state.streams.remove(&number);
        }
        known
    }
}

/// How many strangers an endpoint bears.
pub(crate) fn strangers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(STRANGERS))
}
