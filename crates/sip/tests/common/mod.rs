//! What the stories share.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use towline_sip::{Config, Endpoint, Event, Limits, Message, Request, Response, StreamParser};

/// The two throw-away accounts of the captures, and their devices.
pub const CALLER: &str = "7f737dee8895927e7ad85cf3bd70b70c846ffd2a";
pub const CALLER_DEVICE: &str = "69f7135d3d7b0bf05582093438bf3e254ad7c007";
pub const CALLED: &str = "f9acf777d81f60a34b454b9756ed3f302095ac67";
pub const CALLED_DEVICE: &str = "a9c4d0a868fc3769717da5314b1c918b2bb34c3f";

pub fn end(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 77, 0, last), port))
}

pub fn caller_config() -> Config {
    let mut config = Config::new(CALLER, CALLER_DEVICE, CALLED, end(2, 51503), end(3, 58240));
    config.display = Some("a".to_owned());
    config
}

pub fn called_config() -> Config {
    Config::new(CALLED, CALLED_DEVICE, CALLER, end(3, 58240), end(2, 51503))
}

/// The side that speaks to the one of the captures that calls.
pub fn called() -> Endpoint {
    Endpoint::new(called_config(), [2; 32])
}

pub fn caller() -> Endpoint {
    Endpoint::new(caller_config(), [1; 32])
}

/// Reads exactly one message.
pub fn parse(bytes: &[u8]) -> Message {
    let mut parser = StreamParser::new(Limits::default());
    parser.push(bytes);
    let message = parser.next_message().unwrap().unwrap();
    parser.end().unwrap();
    message
}

pub fn request(bytes: &[u8]) -> Request {
    let Message::Request(request) = parse(bytes) else { panic!("a response") };
    request
}

pub fn response(bytes: &[u8]) -> Response {
    let Message::Response(response) = parse(bytes) else { panic!("a request") };
    response
}

/// The responses that wait to be sent.
pub fn responses(endpoint: &mut Endpoint) -> Vec<Response> {
    std::iter::from_fn(|| endpoint.poll_transmit()).map(|bytes| response(&bytes)).collect()
}

/// Their codes.
pub fn codes(endpoint: &mut Endpoint) -> Vec<u16> {
    responses(endpoint).iter().map(|response| response.status.code()).collect()
}

pub fn events(endpoint: &mut Endpoint) -> Vec<Event> {
    std::iter::from_fn(|| endpoint.poll_event()).collect()
}

/// Carries everything from one to the other.
pub fn carry(now: Instant, from: &mut Endpoint, to: &mut Endpoint) {
    while let Some(bytes) = from.poll_transmit() {
        to.handle_data(now, &bytes).unwrap();
    }
}

/// A request of the caller without a body, made by hand.
pub fn plain(method: &str, extra: &str) -> Vec<u8> {
    format!(
        "{method} sips:{CALLED}@10.77.0.3:58240;transport=tls SIP/2.0\r\n\
         Via: SIP/2.0/TLS 10.77.0.2:51503;rport;branch=z9hG4bK-{method};alias\r\n\
         From: <sip:{CALLER}@ring.dht>;tag=t\r\nTo: <sips:{CALLED}@10.77.0.3>\r\n\
         Call-ID: c-{method}\r\nCSeq: 1 {method}\r\n{extra}Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}
