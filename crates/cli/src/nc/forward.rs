//! One channel joined to one TCP connection.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf as FromService, WriteHalf as ToService};
use tokio::time::timeout;
use towline::{Channel, Code, ConnectionId, IncomingChannel, Node, ReadHalf, WriteHalf};

use super::listener::refuse;
use super::service::{Host, Service};
use crate::event::Event;
use crate::output::Output;

/// Longest wait for one address of a service.
const ONE_ADDRESS: Duration = Duration::from_secs(5);
/// Longest wait for all addresses of a service, its name included; shorter than a peer waits for the channel.
const ALL_ADDRESSES: Duration = Duration::from_secs(15);
/// How long the two ends of what is already over may take.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Bytes read from a service at once: four frames of the native dialect.
const PIECE: usize = 64 * 1024;
/// What a channel is reset with if the connection to the service breaks off.
const SERVICE_BROKE_OFF: u32 = 258;

/// Connects to the service and passes on what comes, until both directions have ended.
pub(super) async fn forward(node: Node, incoming: IncomingChannel, service: Service, output: Output) {
    let connected = match timeout(ALL_ADDRESSES, connect(&service)).await {
        Ok(connected) => connected,
        Err(_) => Err(ErrorKind::TimedOut.into()),
    };
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) => return unreachable(incoming, &service, &error, &output).await,
    };
    let name = incoming.name().to_owned();
    let device = incoming.peer().device.to_string();
    let channel = match incoming.accept().await {
        Ok(channel) => channel,
        Err(error) => return tracing::warn!(%error, "a channel was gone before it was accepted"),
    };
    let connection = channel.connection();
    output.say(&Event::ChannelOpened {
        connection: connection.to_string(),
        name: name.clone(),
        device: device.clone(),
        opened_here: false,
        ms: 0.0,
    });
    let passed = Passed::default();
    let result = tokio::select! {
        biased;
        result = pass(channel, stream, &passed) => result,
        () = gone(&node, connection) => Err("its connection is gone".to_owned()),
    };
    let (sent, received) = (passed.to_peer.into_inner(), passed.to_service.into_inner());
    output.say(&match result {
        Ok(()) => Event::ChannelClosed { name, sent, received },
        Err(reason) => Event::ChannelBroken { name, device, sent, received, reason },
    });
}

/// Says that there is no service.
async fn unreachable(incoming: IncomingChannel, service: &Service, error: &io::Error, output: &Output) {
    let why = format!("cannot connect to {service}: {}", error.kind());
    if incoming.capabilities().reasons {
        return refuse(incoming, Code::Declined, &why, output).await;
    }
    // dnc's client waits for ever if it is refused, and ends if its channel does; dnc's server does the same.
    output.say(&Event::ChannelRefused {
        name: incoming.name().to_owned(),
        device: incoming.peer().device.to_string(),
        reason: why,
    });
    if let Ok(mut channel) = incoming.accept().await {
        // The peer may be gone already, which is as good.
        let _ = channel.shutdown().await;
    }
}

/// Connects to the first address that answers.
async fn connect(service: &Service) -> io::Result<TcpStream> {
    let port = service.port.get();
    let addresses = match &service.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
        Host::Name(name) => tokio::net::lookup_host((&**name, port)).await?.collect(),
    };
    let mut failure = io::Error::from(ErrorKind::NotFound);
    for address in addresses {
        match timeout(ONE_ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let socket = SockRef::from(&stream);
                // Whatever ends this connection other than properly, the end of this process included, is a reset to
                // the service, so that it does not take a part for the whole.
                socket.set_linger(Some(Duration::ZERO))?;
                socket.set_keepalive(true)?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// Ready some time after the connection under the channel is gone: what came before that may still have to go to a
/// slow service.
async fn gone(node: &Node, connection: ConnectionId) {
    use tokio::sync::broadcast::error::RecvError;
    let mut events = node.events();
    while node.established().iter().any(|open| open.info().id == connection) {
        if let Err(RecvError::Closed) = events.recv().await {
            break;
        }
    }
    tokio::time::sleep(LAST_WORDS).await;
}

/// Bytes that were passed on.
#[derive(Debug, Default)]
struct Passed {
    to_peer: AtomicU64,
    to_service: AtomicU64,
}

/// Why a direction ended before its end.
#[derive(Debug)]
enum Fault {
    /// The service reset its connection.
    Service(io::Error),
    /// The peer gave up, or does not read any more.
    Channel(io::Error),
}

/// Moves bytes both ways until both directions have ended. An end in one direction is passed on as such.
///
/// In Jami's dialect the end of a channel is that of both directions. What the peer had sent before still reaches the
/// service, followed by its end; what the service answers then is of no use to anybody.
async fn pass(channel: Channel, mut stream: TcpStream, passed: &Passed) -> Result<(), String> {
    let half_close = channel.capabilities().half_close;
    let (mut reader, mut writer) = channel.split();
    let (from_service, to_service) = stream.split();
    let up = upstream(&mut reader, to_service, &passed.to_service);
    let down = downstream(from_service, &mut writer, half_close, &passed.to_peer);
    let result = if half_close {
        tokio::try_join!(up, down).map(|((), ())| ())
    } else {
        tokio::pin!(up, down);
        tokio::select! {
            biased;
            ended = &mut up => match ended {
                Ok(()) => timeout(LAST_WORDS, down).await.unwrap_or(Ok(())),
                Err(fault) => Err(fault),
            },
            ended = &mut down => match ended {
                Ok(()) => up.await,
                Err(fault) => Err(fault),
            },
        }
    };
    match result {
        // No longer a reset.
        Ok(()) => SockRef::from(&stream).set_linger(None).map_err(|error| error.to_string()),
        Err(Fault::Channel(error)) => Err(error.to_string()),
        Err(Fault::Service(error)) => {
            Channel::unsplit(reader, writer).reset(SERVICE_BROKE_OFF).await;
            Err(format!("the service broke off: {error}"))
        }
    }
}

/// From the peer to the service.
async fn upstream(
    reader: &mut ReadHalf,
    mut service: ToService<'_>,
    passed: &AtomicU64,
) -> Result<(), Fault> {
    while let Some(bytes) = reader.next_bytes().await.map_err(Fault::Channel)? {
        if service.write_all(&bytes).await.is_err() {
            // It takes no more, but what it said before is still to be read; whether it broke off shows there.
            return Ok(());
        }
        passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    // It may have closed meanwhile, which shows in the other direction.
    let _ = service.shutdown().await;
    Ok(())
}

/// From the service to the peer.
async fn downstream(
    mut service: FromService<'_>,
    writer: &mut WriteHalf,
    half_close: bool,
    passed: &AtomicU64,
) -> Result<(), Fault> {
    let mut buffer = vec![0; PIECE];
    let mut heard = true;
    loop {
        let length = service.read(&mut buffer).await.map_err(Fault::Service)?;
        if length == 0 {
            break;
        }
        if !heard {
            continue;
        }
        match writer.write_all(&buffer[..length]).await {
            Ok(()) => drop(passed.fetch_add(length as u64, Ordering::Relaxed)),
            // The peer has ended the channel, and with it this direction: the service may finish its work.
            Err(_) if !half_close => heard = false,
            Err(error) => return Err(Fault::Channel(error)),
        }
    }
    if heard {
        writer.shutdown().await.or_else(|error| if half_close { Err(Fault::Channel(error)) } else { Ok(()) })
    } else {
        Ok(())
    }
}
