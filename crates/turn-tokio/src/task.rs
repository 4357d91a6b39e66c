//! The task of an allocation: it alone reads from the server, and it keeps the client's time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use towline_net::{Net, UdpSocket, now, sleep_until};
use towline_turn::{Allocation, Client, Event, Input};

use crate::server_link::{Reach, ServerLink, Stream};
use crate::shared::{Ended, Shared, State};
use crate::{AllocateError, Options};

/// Longer datagrams do not exist.
const BUFFER: usize = 1 << 16;

/// Connections of peers that wait to be accepted.
const MAX_INCOMING: usize = 32;

/// Holds an allocation: it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reach: Reach,
    /// The socket to the server, if it is spoken to by datagrams.
    pub(crate) socket: Option<Arc<dyn UdpSocket>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.close();
    }
}

impl Lease {
    /// Begins an allocation and waits until it stands.
    pub(crate) async fn begin(
        net: Arc<dyn Net>,
        options: &Options,
    ) -> Result<(Self, Allocation), AllocateError> {
        let reach = Reach { net, transport: options.client.transport, tls: options.tls.clone() };
        let link = reach.link(options.client.server).await?;
        let client = Client::new(options.client.clone(), now(), reach.net.seed())?;
        let shared = Arc::new(Shared::new(client, options));
        let socket = match &link {
            ServerLink::Datagrams(socket) => Some(Arc::clone(socket)),
            ServerLink::Stream(_) => None,
        };
        tokio::spawn(run(Arc::clone(&shared), reach.clone(), link));
        let lease = Self { shared, reach, socket };
        let stands = lease.shared.until(|state| match (&state.allocation, state.ended) {
            (_, Some(ended)) => Some(Err(ended.reason())),
            (Some(allocation), None) => Some(Ok(allocation.clone())),
            (None, None) => None,
        });
        let allocation = stands.await?;
        Ok((lease, allocation))
    }

    /// Asks the task to give the allocation back.
    pub(crate) fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
    }

    pub(crate) async fn ended(&self) -> Ended {
        self.shared.until(|state| state.ended).await
    }
}

async fn run(shared: Arc<Shared>, reach: Reach, link: ServerLink) {
    match link {
        ServerLink::Datagrams(socket) => datagrams(&shared, &*socket).await,
        ServerLink::Stream(stream) => streams(&shared, &reach, stream).await,
    }
    shared.lock().end(Ended::Closed);
    shared.news.notify_waiters();
}

async fn datagrams(shared: &Shared, socket: &dyn UdpSocket) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let (timeout, ended) = {
            let mut state = shared.lock();
            // Redirects over UDP need nothing of us.
            let _ = settle(shared, &mut state);
            while let Some(packet) = state.client.poll_transmit() {
                // Lost, when it fails: requests are repeated. Waiting would take the waker of whoever waits to send.
                let _ = socket.try_send(&packet.bytes, packet.to);
            }
            (state.client.poll_timeout(), state.ended.is_some())
        };
        if ended {
            return;
        }
        tokio::select! {
            biased;
            received = socket.recv(&mut buffer) => {
                let Ok(received) = received else {
                    shared.lock().client.handle_stream_end();
                    continue;
                };
                let mut guard = shared.lock();
                let state = &mut *guard;
                match state.client.handle_datagram(now(), received.from, &buffer[..received.len]) {
                    Input::Data { from, payload } => state.inbox.receive(from, payload),
                    Input::Taken => {}
                    Input::Dropped(reason) => tracing::trace!(from = %received.from, %reason, "dropped"),
                }
            }
            () = shared.work.notified() => {}
            () = sleep(timeout) => shared.lock().client.handle_timeout(now()),
        }
    }
}

async fn streams(shared: &Shared, reach: &Reach, mut stream: Box<dyn Stream>) {
    loop {
        let Some((server, domain)) = one_stream(shared, stream).await else { return };
        match reach.stream(server, domain.as_deref()).await {
            Ok(next) => {
                stream = next;
                shared.lock().client.handle_connected(now());
            }
            Err(error) => {
                tracing::debug!(%server, %error, "the server that another one named is not there");
                let mut state = shared.lock();
                state.client.handle_stream_end();
                let _ = settle(shared, &mut state);
                return;
            }
        }
    }
}

type Elsewhere = (SocketAddr, Option<String>);

// Speaks on one stream until the client has ended, or wants another stream.
async fn one_stream(shared: &Shared, stream: Box<dyn Stream>) -> Option<Elsewhere> {
    let (mut input, mut output) = split(stream);
    let mut buffer = vec![0; BUFFER];
    let mut writing: Vec<u8> = Vec::new();
    let mut written = 0;
    // What was encrypted may still lie in the TLS session.
    let mut unflushed = false;
    loop {
        let timeout = {
            let mut state = shared.lock();
            if let Some(elsewhere) = settle(shared, &mut state) {
                return Some(elsewhere);
            }
            while let Some(packet) = state.client.poll_transmit() {
                state.out.extend_from_slice(&packet.bytes);
            }
            if written == writing.len() {
                writing.clear();
                written = 0;
                std::mem::swap(&mut writing, &mut state.out);
                state.wake_writers();
            }
            if state.ended.is_some() {
                return None;
            }
            state.client.poll_timeout()
        };
        tokio::select! {
            biased;
            pushed = push(&mut output, &writing[written..]), if written < writing.len() || unflushed => {
                match pushed {
                    Ok(0) if written < writing.len() => shared.lock().client.handle_stream_end(),
                    Ok(len) => {
                        unflushed = written < writing.len();
                        written += len;
                    }
                    Err(_) => shared.lock().client.handle_stream_end(),
                }
            }
            read = input.read(&mut buffer) => match read {
                Ok(len @ 1..) => take(&mut shared.lock(), &buffer[..len]),
                _ => shared.lock().client.handle_stream_end(),
            },
            () = shared.work.notified() => {}
            () = sleep(timeout) => shared.lock().client.handle_timeout(now()),
        }
    }
}

// Writes some of `bytes`; when there are none, everything written so far.
async fn push(output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() { output.flush().await.map(|()| 0) } else { output.write(bytes).await }
}

fn take(state: &mut State, mut bytes: &[u8]) {
    let State { client, inbox, .. } = state;
    while let Some(input) = client.handle_stream(now(), &mut bytes) {
        match input {
            Input::Data { from, payload } => inbox.receive(from, payload),
            Input::Taken => {}
            Input::Dropped(reason) => tracing::trace!(%reason, "dropped"),
        }
    }
}

async fn sleep(until: Option<std::time::Instant>) {
    match until {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

// Carries the client's events to those who wait for them. Returns where another stream is wanted.
fn settle(shared: &Shared, state: &mut State) -> Option<Elsewhere> {
    if state.closing {
        state.client.close(now());
    }
    let mut elsewhere = None;
    let mut news = false;
    while let Some(event) = state.client.poll_event() {
        news = true;
        match event {
            Event::Allocated(allocation) => state.allocation = Some(allocation),
            Event::Failed(reason) | Event::Lost(reason) => state.end(Ended::Lost(reason)),
            Event::Closed => state.end(Ended::Closed),
            Event::Reconnect { server, domain } => elsewhere = Some((server, domain)),
            Event::Permitted(ip) => {
                for (to, payload) in state.release(ip) {
                    // Lost, when it fails.
                    let _ = state.client.send(now(), to, &payload);
                }
            }
            Event::NotPermitted { ip, reason } => {
                state.release(ip);
                state.refuse(ip, reason);
            }
            Event::PeerConnection { incoming: true, connection } => {
                if state.connections.len() < MAX_INCOMING {
                    state.connections.push_back(connection);
                }
            }
            Event::PeerConnection { incoming: false, connection } => {
                if let Some(waiting) = state.dialling.remove(&connection.peer()) {
                    // Nobody waits any more when this fails.
                    let _ = waiting.send(Ok(connection));
                }
            }
            Event::NotConnected { peer, reason } => {
                if let Some(waiting) = state.dialling.remove(&peer) {
                    let _ = waiting.send(Err(reason));
                }
            }
            Event::Unreachable { peer, kind, code } => {
                tracing::debug!(%peer, kind, code, "ICMP at the relay");
            }
        }
    }
    if news {
        shared.news.notify_waiters();
    }
    elsewhere
}
