//! What channeler itself costs: two endpoints in one thread, handing packets to each other in memory. No sockets, no waiting; time is
//! virtual. What is printed is CPU time of both ends together.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use towline_channeler::{
    Capabilities, ChannelId, Config, Connection, ConnectionHandle, Endpoint, EndpointConfig, Event, Handled,
    KeyOnly, OpenOptions, Peer, Read, ReadError, Route, StaticKey, WriteError,
};

/// Costs of the transport alone.
#[derive(Parser)]
struct Options {
    /// MiB to carry in each run.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Channels that share them.
    #[arg(long, default_value_t = 1)]
    channels: u32,
    /// Packets on a stream instead of datagrams.
    #[arg(long)]
    stream: bool,
    /// Messages of this many bytes on channels without order and repair, instead of streams.
    #[arg(long)]
    messages: Option<usize>,
    /// Runs.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Datagrams per batch.
    #[arg(long, default_value_t = 44)]
    segments: usize,
}

struct End {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    route: Route,
}

impl End {
    fn endpoint(byte: u8) -> Endpoint {
        let anyone = Arc::new(KeyOnly::anyone());
        let mut config = EndpointConfig::new(StaticKey::from_bytes([byte; 32]), anyone.clone(), anyone);
        config.config = Arc::new(Config::default());
        Endpoint::new(config, [byte; 32])
    }

    fn settle(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_event() {
            self.endpoint.on_event(self.handle, event);
        }
    }
}

/// Hands over everything that one end has to send. Gives the bytes.
fn carry(now: Instant, from: &mut End, to: &mut End, segments: usize, buf: &mut Vec<u8>) -> usize {
    let mut total = 0;
    loop {
        buf.clear();
        let Some(transmit) = from.connection.poll_transmit(now, segments, buf) else { break };
        total += buf.len();
        if transmit.route.is_stream() {
            let mut rest = &mut buf[..];
            while let Some((len, behind)) = rest.split_first_chunk_mut::<2>() {
                let (packet, next) = behind.split_at_mut(u16::from_be_bytes(*len).into());
                to.connection.handle(now, to.route, None, packet);
                rest = next;
            }
        } else {
            let segment = transmit.segment.unwrap_or(buf.len());
            for packet in buf.chunks_mut(segment) {
                to.connection.handle(now, to.route, None, packet);
            }
        }
    }
    from.settle();
    to.settle();
    total
}

fn connect(now: Instant, stream: bool, buf: &mut Vec<u8>) -> Result<(End, End)> {
    let routes = if stream {
        [Route::Stream(1), Route::Stream(2)]
    } else {
        [1, 2].map(|host| Route::datagram(SocketAddr::new(Ipv4Addr::new(10, 0, 0, host).into(), 1)))
    };
    let mut client = End::endpoint(1);
    let mut server = End::endpoint(2);
    let peer = Peer::Key(StaticKey::from_bytes([2; 32]).public());
    let (handle, connection) = client.connect(now, 0, peer, routes[0])?;
    let mut client = End { endpoint: client, handle, connection, route: routes[0] };
    let mut made = None;
    while let Some(transmit) = {
        buf.clear();
        client.connection.poll_transmit(now, 1, buf)
    } {
        let packet = if transmit.route.is_stream() { &mut buf[2..] } else { &mut buf[..] };
        match server.handle(now, 0, routes[1], packet, &mut Vec::new()) {
            Handled::New(handle, mut connection) => {
                connection.handle(now, routes[1], None, packet);
                made = Some((handle, *connection));
            }
            Handled::To(_) => {
                made.as_mut().context("new before known")?.1.handle(now, routes[1], None, packet);
            }
            other => bail!("{other:?}"),
        }
    }
    let (handle, connection) = made.context("no connection")?;
    let mut server = End { endpoint: server, handle, connection, route: routes[1] };
    for _ in 0..4 {
        carry(now, &mut server, &mut client, 1, buf);
        carry(now, &mut client, &mut server, 1, buf);
    }
    let connected = |end: &mut End| {
        std::iter::from_fn(|| end.connection.poll_event()).any(|event| event == Event::Connected)
    };
    if !connected(&mut client) || !connected(&mut server) {
        bail!("not connected");
    }
    Ok((client, server))
}

fn read_all(now: Instant, end: &mut End, channel: ChannelId, into: &mut [u8]) -> Result<u64> {
    let mut total = 0;
    loop {
        match end.connection.read(now, channel, into) {
            Ok(Read::Data(len)) => total += len as u64,
            Ok(Read::Finished) | Err(ReadError::Blocked) => return Ok(total),
            Err(error) => return Err(error.into()),
        }
    }
}

fn run(options: &Options) -> Result<(Duration, Instant, Instant)> {
    let mut buf = Vec::with_capacity(1 << 17);
    let began = Instant::now();
    let mut now = began;
    let (mut client, mut server) = connect(now, options.stream, &mut buf)?;
    let total = options.mib << 20;
    let capabilities =
        if options.messages.is_some() { Capabilities::datagram() } else { Capabilities::stream() };
    let chunk = vec![7; options.messages.unwrap_or(64 << 10)];
    let mut into = vec![0; 1 << 20];
    let channels = (0..options.channels)
        .map(|_| client.connection.open(now, OpenOptions { capabilities, ..OpenOptions::default() }))
        .collect::<Result<Vec<_>, _>>()?;
    let each = total / u64::from(options.channels);
    let mut left = vec![each; channels.len()];
    let mut ready: Vec<usize> = (0..channels.len()).collect();
    let mut received = 0;
    let cpu = cpu_time()?;
    while received < each * u64::from(options.channels) {
        while let Some(&index) = ready.last() {
            let len = left[index].min(chunk.len() as u64) as usize;
            if len == 0 {
                ready.pop();
                continue;
            }
            match client.connection.write(now, channels[index], &chunk[..len]) {
                Ok(taken) => left[index] -= taken as u64,
                Err(WriteError::Blocked) => {
                    ready.pop();
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut moved = carry(now, &mut client, &mut server, options.segments, &mut buf);
        while let Some(event) = server.connection.poll_event() {
            if let Event::Readable(channel) = event {
                received += read_all(now, &mut server, channel, &mut into)?;
            }
        }
        moved += carry(now, &mut server, &mut client, options.segments, &mut buf);
        while let Some(event) = client.connection.poll_event() {
            match event {
                Event::Writable(channel) => {
                    ready.push(channels.iter().position(|known| *known == channel).context("known")?);
                }
                Event::Closed(error) => return Err(error.into()),
                _ => {}
            }
        }
        now += Duration::from_micros(100);
        if moved == 0 {
            let next =
                client.connection.poll_timeout().into_iter().chain(server.connection.poll_timeout()).min();
            now = now.max(next.context("nothing to wait for")?);
        }
        for end in [&mut client, &mut server] {
            if end.connection.poll_timeout().is_some_and(|at| at <= now) {
                end.connection.handle_timeout(now);
            }
        }
    }
    let used = cpu_time()?.checked_sub(cpu).context("time runs forward")?;
    let stats = client.connection.stats();
    println!(
        "  {} packets, {} lost, {} back",
        stats.packets_sent,
        stats.packets_lost,
        server.connection.stats().packets_sent
    );
    Ok((used, began, now))
}

fn cpu_time() -> Result<Duration> {
    towline_benches::cpu_time()
}

fn main() -> Result<()> {
    let options = Options::parse();
    for _ in 0..options.runs {
        let (used, began, now) = run(&options)?;
        let gib = options.mib as f64 / 1024.0;
        println!(
            "{:.3} CPU s/GiB both ends, {:.2} Gbit per CPU-second, {:.0} ms of virtual time",
            used.as_secs_f64() / gib,
            8.0 * 1.073_741_824 * gib / used.as_secs_f64(),
            (now - began).as_secs_f64() * 1e3
        );
    }
    Ok(())
}
