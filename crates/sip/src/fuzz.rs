//! An entrance for fuzzers and property tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::{Config, Endpoint, Event, Limits, Message, Method, OutgoingRequest, Status, StreamParser};

/// Reads `stream` as one piece and byte by byte, which must come to the same; writes what was read and reads that
/// again; and gives it to an endpoint with requests of its own under way, whose program answers some requests and
/// forgets others. Time begins at `now`.
///
/// # Panics
///
/// When one of that does not hold, or memory is not bounded as [`Limits`] promises; that, and any other panic, is a find.
pub fn fuzz(now: Instant, stream: &[u8]) {
    read(stream);
    converse(now, stream);
}

fn read(stream: &[u8]) {
    let mut whole = StreamParser::new(Limits::default());
    whole.push(stream);
    let mut bytewise = StreamParser::new(Limits::default());
    let mut bytes = stream.iter();
    loop {
        let result = whole.next_message();
        let same = loop {
            match (bytewise.next_message(), bytes.as_slice().first()) {
                (Ok(None), Some(byte)) => {
                    bytewise.push(&[*byte]);
                    bytes.next();
                }
                (other, _) => break other,
            }
        };
        assert_eq!(same, result, "it does not matter how a stream is cut");
        let Ok(Some(message)) = result else { return };
        again(&message);
    }
}

/// What is written is read as it was.
fn again(message: &Message) {
    let bytes = match message {
        Message::Request(request) => request.to_bytes(),
        Message::Response(response) => response.to_bytes(),
    };
    let mut parser =
        StreamParser::new(Limits { head: usize::MAX, message_in: usize::MAX, ..Limits::default() });
    parser.push(&bytes);
    assert_eq!(parser.next_message().as_ref(), Ok(&Some(message.clone())));
}

fn converse(mut now: Instant, stream: &[u8]) {
    let end = |last| SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 5061));
    let mut config = Config::new("a".repeat(40), "d".repeat(40), "b".repeat(40), end(1), end(2));
    config.limits =
        Limits { server_transactions: 4, client_transactions: 4, output: 16 << 10, ..config.limits };
    let limits = config.limits.clone();
    let mut endpoint = Endpoint::new(config, [7; 32]);
    let _ = endpoint.request(now, OutgoingRequest::message("text/plain", "hello"));
    for piece in stream.chunks(1000) {
        while endpoint.poll_transmit().is_some() {}
        if endpoint.handle_data(now, piece).is_err() {
            break;
        }
        while let Some(event) = endpoint.poll_event() {
            if let Event::Request { id, request } = event {
                match request.method {
                    Method::Invite if request.body.len() % 3 == 0 => {
                        let _ = endpoint.respond(now, id, Status::RINGING.into());
                    }
                    Method::Invite => {
                        let _ = endpoint.respond(now, id, Status::DECLINE.into());
                    }
                    _ if request.body.len() % 5 != 0 => {
                        let _ = endpoint.respond(now, id, Status::OK.into());
                    }
                    _ => {}
                }
            }
        }
        // Each byte is repeated in an answer at most once, and a message has at least a hundred.
        assert!(endpoint.queued() <= (limits.message_in + 1000) * 8, "queues {}", endpoint.queued());
        assert!(endpoint.transactions() <= limits.server_transactions + limits.client_transactions);
        now += Duration::from_secs(1);
        if endpoint.poll_timeout().is_some_and(|timeout| timeout <= now) {
            endpoint.handle_timeout(now);
            assert!(endpoint.poll_timeout().is_none_or(|timeout| timeout > now), "time moves on");
        }
    }
}
