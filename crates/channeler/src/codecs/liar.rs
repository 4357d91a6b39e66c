//! A whole endpoint with a peer that has the keys and says what it likes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Capabilities, ChannelId, Code, Config, Connection, ConnectionHandle, Endpoint, EndpointConfig, Event,
    Handled, KeyOnly, OpenOptions, Peer, Priority, Resend, Route, StaticKey,
};

/// Calls of `handle_timeout` after which time must have gone on.
const MOST_TIMEOUTS: usize = 1000;
/// Packets that one thing may cause.
const MOST_PACKETS: usize = 5000;

/// A side and what belongs to it.
struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Box<Connection>)>,
    /// From where it sends, as the other side sees it.
    route: Route,
}

impl End {
    fn new(number: u8) -> Self {
        let anyone = Arc::new(KeyOnly::anyone());
        let mut config = EndpointConfig::new(StaticKey::from_bytes([number; 32]), anyone.clone(), anyone);
        // Small bounds are reached soon.
        config.config = Arc::new(Config {
            initial_window: 4096,
            max_window: 16_384,
            receive_budget: 65_536,
            send_buffer: 16_384,
            max_messages: 16,
            max_message: 8192,
            max_channels: 16,
            max_links: 3,
            ..Config::default()
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + u16::from(number)));
        Self {
            endpoint: Endpoint::new(config, [number; 32]),
            connection: None,
            route: Route::datagram(address),
        }
    }

    fn receive(&mut self, now: Instant, route: Route, mut packet: Vec<u8>, answers: &mut Vec<Vec<u8>>) {
        let mut out = Vec::new();
        match self.endpoint.handle(now, 0, route, &mut packet, &mut out) {
            Handled::Dropped => {}
            Handled::Respond(_) => answers.push(out),
            Handled::New(handle, mut connection) => {
                connection.handle(now, route, None, &mut packet);
                if self.connection.is_none() {
                    self.connection = Some((handle, connection));
                }
            }
            Handled::To(handle) => {
                if let Some((own, connection)) = &mut self.connection
                    && *own == handle
                {
                    connection.handle(now, route, None, &mut packet);
                }
            }
        }
    }

    /// Lets time go on to `now`, and collects what is sent.
    fn drive(&mut self, now: Instant, out: &mut Vec<Vec<u8>>, mut heard: impl FnMut(&mut Connection, Event)) {
        let Some((handle, connection)) = &mut self.connection else { return };
        for count in 0.. {
            assert!(count < MOST_TIMEOUTS, "a timer that stays due");
            if connection.poll_timeout().is_none_or(|timeout| timeout > now) {
                break;
            }
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll_event() {
            heard(connection, event);
        }
        while let Some(event) = connection.poll_endpoint_event() {
            self.endpoint.on_event(*handle, event);
        }
        let mut buf = Vec::new();
        for count in 0.. {
            assert!(count < MOST_PACKETS, "it never stops talking");
            buf.clear();
            if connection.poll_transmit(now, 1, &mut buf).is_none() {
                break;
            }
            out.push(buf.clone());
        }
    }
}

/// What the program of the honest side does when it hears something: it takes everything, and answers a little.
fn answer(now: Instant, connection: &mut Connection, event: &Event) {
    let mut buf = [0; 8192];
    match event {
        Event::Opened { channel, .. } => {
            // It may have ended already.
            let _ = connection.accept(now, *channel);
            let _ = connection.write(now, *channel, b"welcome");
        }
        Event::Readable(channel) => {
            while let Ok(crate::Read::Data(_)) = connection.read(now, *channel, &mut buf) {}
        }
        Event::Finished(channel) => {
            let _ = connection.finish(now, *channel);
        }
        _ => {}
    }
}

/// Plays the input against an honest endpoint. Each piece of it, behind its length in 16 bits, begins with what it is: packets of the liar on a channel that the next byte chooses, bare
/// datagrams from the peer's or from a stranger's address, or something that the honest program does. Between pieces milliseconds pass.
///
/// # Panics
///
/// If the endpoint stays due, never stops sending, or holds more than its bounds allow.
pub fn check_liar(start: Instant, input: &[u8]) {
    let mut now = start;
    let (mut liar, mut honest) = (End::new(1), End::new(2));
    let peer = Peer::Key(StaticKey::from_bytes([2; 32]).public());
    let (handle, connection) =
        liar.endpoint.connect(now, 0, peer, honest.route).expect("the endpoint is empty");
    liar.connection = Some((handle, Box::new(connection)));
    for _ in 0..4 {
        exchange(&mut now, &mut liar, &mut honest);
    }
    let mut rest = input;
    for _ in 0..200 {
        let Some((length, more)) = rest.split_first_chunk() else { break };
        let Some((piece, more)) = more.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            break;
        };
        rest = more;
        let [what, choice, body @ ..] = piece else { continue };
        let channel = match choice {
            0..=31 => ChannelId(u32::from(*choice)),
            32..=63 => ChannelId::CONTROL,
            other => ChannelId(u32::from(*other) << 23 | 1),
        };
        let mut answers = Vec::new();
        let mut question = body.len();
        match what % 8 {
            0..=3 => {
                let forged = liar
                    .connection
                    .as_mut()
                    .and_then(|(_, liar)| liar.forge(now, channel, body.get(..1400).unwrap_or(body)));
                if let Some(packet) = forged {
                    question = packet.len();
                    honest.receive(now, liar.route, packet, &mut answers);
                }
            }
            4 => honest.receive(now, liar.route, body.to_vec(), &mut answers),
            5 => {
                let stranger = SocketAddr::from((Ipv4Addr::LOCALHOST, 2000 + u16::from(*choice)));
                honest.receive(now, Route::datagram(stranger), body.to_vec(), &mut answers);
            }
            6 => act(now, &mut honest, channel, *choice, body),
            _ => now += Duration::from_millis(u64::from(*choice) * u64::from(*choice)),
        }
        assert!(answers.iter().all(|answer| answer.len() <= question), "an answer longer than the question");
        exchange(&mut now, &mut liar, &mut honest);
    }
}

/// Something that the honest program does.
fn act(now: Instant, honest: &mut End, channel: ChannelId, choice: u8, body: &[u8]) {
    let Some((_, connection)) = &mut honest.connection else { return };
    let resend = [Resend::No, Resend::Tries(2), Resend::Until(Duration::from_millis(50)), Resend::Forever];
    // All of it may be refused: the peer may have ended what this is about.
    match choice % 8 {
        0 => {
            let capabilities = Capabilities {
                ordered: choice & 8 != 0,
                resend: resend[usize::from(choice >> 4) % 4],
                close_on_loss: choice & 64 != 0,
            };
            let options = OpenOptions { capabilities, label: body.into(), ..OpenOptions::default() };
            let _ = connection.open(now, options);
        }
        1..=3 => drop(connection.write(now, channel, body)),
        4 => drop(connection.finish(now, channel)),
        5 => drop(connection.reset(now, channel, Code(u64::from(choice)))),
        6 => drop(connection.stop(now, channel, Code(u64::from(choice)))),
        _ => drop(connection.set_priority(channel, Priority(choice))),
    }
}

/// What both have to say is heard by the other, twice; then 10 ms have passed.
fn exchange(now: &mut Instant, liar: &mut End, honest: &mut End) {
    for _ in 0..2 {
        let (mut to_honest, mut to_liar) = (Vec::new(), Vec::new());
        liar.drive(*now, &mut to_honest, |_, _| {});
        honest.drive(*now, &mut to_liar, |connection, event| answer(*now, connection, &event));
        for packet in to_honest {
            honest.receive(*now, liar.route, packet, &mut to_liar);
        }
        let route = honest.route;
        for packet in to_liar {
            liar.receive(*now, route, packet, &mut Vec::new());
        }
        *now += Duration::from_millis(5);
    }
}
