//! TCP by tokio.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpSocket,
};

use crate::{TcpConnect, TcpListener, TcpStream};

/// Connections the system completes before we accept them. A flood beyond it is refused by the system.
const BACKLOG: i32 = 1024;

/// Sent data may stay unacknowledged for this long; the system's own limit is about a quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// An attempt to get an acknowledgement is answered within this time by whoever is there.
const ANSWER_TIME: Duration = Duration::from_secs(4);

/// An idle connection is probed after 20 s, then every 5 s: a dead peer is noticed within the user timeout.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(5));

/// So much is taken beyond what the peer has let us send, and no more: what a program finds urgent is written behind
/// 128 KiB at most, not behind a send buffer of megabytes. That is eight records of TLS, and one portion of output of a
/// connection.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 * 1024;

fn new_socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A port in TIME_WAIT can be taken again. On Windows the option means theft of ports that are in use.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Lets sockets of the same user that ask for it, too, have the same port: whoever connects from the port of a listener.
#[cfg(unix)]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// There is nothing like it: such an attempt fails.
#[cfg(not(unix))]
fn share_port(_: &Socket) -> io::Result<()> {
    Ok(())
}

fn configure(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    bound_unsent(socket)?;
    set_user_timeout(socket, Some(USER_TIMEOUT))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bound_unsent(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// Other systems keep smaller buffers, or have the option where it cannot be reached without `unsafe`.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bound_unsent(_: &SockRef<'_>) -> io::Result<()> {
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_user_timeout(socket: &SockRef<'_>, timeout: Option<Duration>) -> io::Result<()> {
    socket.set_tcp_user_timeout(timeout)
}

/// Other systems have no such option, and their own limit holds.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_user_timeout(_: &SockRef<'_>, _: Option<Duration>) -> io::Result<()> {
    Ok(())
}

/// A read of less than this is acknowledged at once: it may be all of a message, and a peer that leaves Nagle's algorithm
/// on, as Jami's daemon does, holds the next one back until the last has been acknowledged, which the system likes to
/// put off for 40 ms. Larger ones are part of a flow, whose acknowledgements the system knows to space.
const SHORT: usize = 4 * 1024;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn acknowledge(stream: &tokio::net::TcpStream) {
    // It fails only on a connection that is over, which the next call reports better.
    let _ = SockRef::from(stream).set_tcp_quickack(true);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn acknowledge(_: &tokio::net::TcpStream) {}

/// What the system knows of a connection; `None` where it does not say.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[expect(unsafe_code, reason = "TCP_INFO has no safe form")]
fn health(stream: &tokio::net::TcpStream) -> Option<Health> {
    use std::os::fd::AsRawFd;
    // The beginning of `struct tcp_info`: eight single bytes, then numbers of 32 bits (linux/tcp.h).
    let mut info = [0_u32; 15];
    let mut len = libc::socklen_t::try_from(size_of_val(&info)).expect("sixty fits");
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the descriptor is open as long as `stream` is borrowed; `info` is writable for `len` bytes, of which the
    // system fills as many as it has, and every pattern of bits is a number.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), level, option, info.as_mut_ptr().cast(), &raw mut len)
    };
    (result == 0 && usize::try_from(len) == Ok(size_of_val(&info))).then(|| Health {
        unacked: info[6],
        silent: Duration::from_millis(info[14].into()),
        repeat: Duration::from_micros(info[2].into()),
    })
}

/// Other systems keep their own limit while a write waits.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn health(_: &tokio::net::TcpStream) -> Option<Health> {
    None
}

#[derive(Debug)]
pub(super) struct Listener {
    listener: tokio::net::TcpListener,
    local: SocketAddr,
}

impl Listener {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(addr)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        // Only now: a second listener on the port is refused as ever.
        share_port(&socket)?;
        let listener = tokio::net::TcpListener::from_std(socket.into())?;
        Ok(Self { local: listener.local_addr()?, listener })
    }
}

impl TcpListener for Listener {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn TcpStream>>> {
        let (stream, peer) = ready!(self.listener.poll_accept(cx))?;
        Poll::Ready(Stream::new(stream, peer).map(|stream| Box::new(stream) as Box<dyn TcpStream>))
    }
}

pub(super) async fn connect(to: SocketAddr, options: TcpConnect) -> io::Result<Box<dyn TcpStream>> {
    let socket = new_socket(to)?;
    if let Some(local) = options.local {
        share_port(&socket)?;
        socket.bind(&local.into())?;
    }
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(to);
    let stream = tokio::time::timeout(options.timeout, connecting).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, "the other side did not answer the attempt to connect")
    })??;
    Ok(Box::new(Stream::new(stream, to)?))
}

/// Which limit the system has for data that is not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// The user timeout.
    Short,
    /// Its own; a write waits since this moment.
    Long(Instant),
}

/// How a connection is doing for whom a write waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Health {
    /// Segments that were sent and not acknowledged: none, if the peer has closed its window and says so.
    unacked: u32,
    /// Time since the peer acknowledged anything, whether it was news or not.
    silent: Duration,
    /// The wait between the last attempt to get an acknowledgement and the next. It grows to two minutes, also towards a
    /// peer that answers each attempt without taking anything.
    repeat: Duration,
}

impl Health {
    /// Whether nobody is there any more, if a write has waited for so long.
    fn is_dead(self, waited: Duration) -> bool {
        let attempts_fail = self.silent >= self.repeat + ANSWER_TIME;
        self.unacked > 0 && waited >= USER_TIMEOUT && self.silent >= USER_TIMEOUT && attempts_fail
    }
}

#[derive(Debug)]
struct Stream {
    inner: tokio::net::TcpStream,
    patience: Patience,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Stream {
    fn new(stream: tokio::net::TcpStream, peer: SocketAddr) -> io::Result<Self> {
        configure(&SockRef::from(&stream))?;
        Ok(Self { local: stream.local_addr()?, inner: stream, patience: Patience::Short, peer })
    }

    /// Linux also gives up on a peer that acknowledges everything but has closed its window for longer than the user
    /// timeout. To be slow is not to be dead, so while a write waits the timeout is lifted, and whether anybody is there
    /// is judged here, each time that the write is tried again.
    fn written<T>(&mut self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match (&outcome, self.patience) {
            (Poll::Pending, Patience::Short) => self.set_patience(Patience::Long(Instant::now()), None),
            (Poll::Ready(_), Patience::Long(_)) => self.set_patience(Patience::Short, Some(USER_TIMEOUT)),
            (Poll::Pending, Patience::Long(since)) => {
                let waited = since.elapsed();
                if waited >= USER_TIMEOUT && health(&self.inner).is_some_and(|health| health.is_dead(waited))
                {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            (Poll::Ready(_), Patience::Short) => {}
        }
        outcome
    }

    fn set_patience(&mut self, patience: Patience, timeout: Option<Duration>) {
        self.patience = patience;
        // It fails only on a connection that is over, which the next call reports better.
        let _ = set_user_timeout(&SockRef::from(&self.inner), timeout);
    }
}

impl TcpStream for Stream {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buf);
        if outcome.is_ready() && (1..SHORT).contains(&(buf.filled().len() - before)) {
            acknowledge(&self.inner);
        }
        outcome
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, data);
        self.written(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.written(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
#[expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
mod tests {
    use std::{future::poll_fn, net::Ipv4Addr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Both ends, as they are behind the trait.
    async fn pair() -> (Stream, Stream) {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connecting = tokio::net::TcpStream::connect(listener.local);
        let (ours, theirs) = tokio::join!(connecting, listener.listener.accept());
        let (theirs, peer) = theirs.unwrap();
        (Stream::new(ours.unwrap(), listener.local).unwrap(), Stream::new(theirs, peer).unwrap())
    }

    #[tokio::test]
    async fn sockets_are_configured() {
        let (ours, theirs) = pair().await;
        for stream in [&ours, &theirs] {
            let socket = SockRef::from(&stream.inner);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(20));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
        }
        let listener = new_socket("[::1]:0".parse().unwrap()).unwrap();
        assert!(listener.only_v6().unwrap() && listener.reuse_address().unwrap());
    }

    #[tokio::test]
    async fn connections_may_be_opened_from_the_port_of_a_listener() {
        let bind = |port| Listener::bind(SocketAddr::new("127.0.0.1".parse().unwrap(), port));
        let (ours, servers) = (bind(0).unwrap(), [bind(0).unwrap(), bind(0).unwrap()]);
        let options = TcpConnect { local: Some(ours.local), timeout: Duration::from_secs(10) };
        let mut open = Vec::new();
        for server in &servers {
            open.push(connect(server.local, options).await.unwrap());
            let (_, seen) = server.listener.accept().await.unwrap();
            assert_eq!(seen, ours.local);
        }
        // It goes on to listen there, alone.
        let asked = tokio::net::TcpStream::connect(ours.local);
        let (asked, taken) = tokio::join!(asked, ours.listener.accept());
        assert_eq!(asked.unwrap().local_addr().unwrap(), taken.unwrap().1);
        assert_eq!(bind(ours.local.port()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn little_is_taken_that_cannot_be_sent() {
        let (mut ours, theirs) = pair().await;
        // A peer with a small window that reads nothing.
        SockRef::from(&theirs.inner).set_recv_buffer_size(16 * 1024).unwrap();
        SockRef::from(&ours.inner).set_send_buffer_size(8 << 20).unwrap();
        let chunk = vec![0; 16 * 1024];
        let written = poll_fn(|cx| {
            let mut written = 0;
            loop {
                match Pin::new(&mut ours).poll_write(cx, &chunk) {
                    Poll::Ready(len) => written += len.unwrap(),
                    Poll::Pending => return Poll::Ready(written),
                }
            }
        });
        let written = written.await;
        assert!((UNSENT as usize..UNSENT as usize * 2).contains(&written), "{written} bytes taken");
    }

    #[test]
    fn dead_is_who_neither_reads_nor_acknowledges() {
        let repeated = |unacked, silent, repeat| {
            let [silent, repeat] = [silent, repeat].map(Duration::from_secs);
            Health { unacked, silent, repeat }
        };
        let health = |unacked, silent| repeated(unacked, silent, 25);
        let waited = Duration::from_mins(1);
        assert!(health(3, 31).is_dead(waited));
        assert!(!repeated(3, 110, 120).is_dead(waited), "it answered the last attempt");
        assert!(repeated(3, 125, 120).is_dead(waited));
        assert!(!health(0, 100).is_dead(waited), "its window is closed, and it said so");
        assert!(!health(3, 29).is_dead(waited), "it acknowledges");
        assert!(!health(3, 100).is_dead(Duration::from_secs(29)), "there was nothing to acknowledge before");
    }

    #[tokio::test]
    async fn the_system_tells_how_a_connection_is_doing() {
        let (mut ours, mut theirs) = pair().await;
        ours.write_all(b"hello").await.unwrap();
        theirs.read_exact(&mut [0; 5]).await.unwrap();
        let health = health(&ours.inner).unwrap();
        assert!(health.unacked <= 1 && health.silent < Duration::from_secs(5), "{health:?}");
        assert!((Duration::from_millis(1)..Duration::from_secs(5)).contains(&health.repeat), "{health:?}");
    }

    #[tokio::test]
    async fn a_slow_reader_is_not_timed_out() {
        let (mut ours, mut theirs) = pair().await;
        let chunk = vec![0; 1 << 20];
        let mut written = 0;
        let timeout = |stream: &Stream| SockRef::from(&stream.inner).tcp_user_timeout().unwrap();
        let full = poll_fn(|cx| {
            loop {
                match Pin::new(&mut ours).poll_write(cx, &chunk) {
                    Poll::Ready(len) => written += len.unwrap(),
                    Poll::Pending => return Poll::Ready(()),
                }
            }
        });
        full.await;
        assert_eq!(timeout(&ours), None);
        let read = async {
            let mut buf = vec![0; written];
            theirs.read_exact(&mut buf).await.unwrap();
        };
        let (len, ()) = tokio::join!(ours.write(b"x"), read);
        assert_eq!(len.unwrap(), 1);
        assert_eq!(timeout(&ours), Some(USER_TIMEOUT));
    }
}
