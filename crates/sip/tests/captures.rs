//! What two unmodified daemons sent each other (20230206, throw-away accounts), byte for byte.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::Instant;

use common::{CALLED, CALLED_DEVICE, CALLER, CALLER_DEVICE, called, events, parse, request, response};
use towline_sip::{Event, HeaderName, Message, Method, Status, Uri};

macro_rules! vectors {
    ($($name:literal),* $(,)?) => {
        const VECTORS: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("vectors/", $name, ".sip")))),*];
    };
}

vectors!(
    "ack",
    "bye",
    "cancel",
    "cancel-ok",
    "info-in-call",
    "invite",
    "invite-busy",
    "invite-cancelled",
    "invite-ok",
    "invite-ringing",
    "invite-terminated",
    "invite-trying",
    "message-composing",
    "message-displayed",
    "message-in-call",
    "message-in-call-answer",
    "message-ok",
    "message-other-type",
    "message-text",
);

fn vector(name: &str) -> &'static [u8] {
    VECTORS.iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn everything_is_read_and_written_as_it_was() {
    for (name, bytes) in VECTORS {
        let message = parse(bytes);
        message_has_essentials(name, &message);
        let written = match &message {
            Message::Request(request) => request.to_bytes(),
            Message::Response(response) => response.to_bytes(),
        };
        // The daemon pads its Content-Length.
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (before, after) = text.split_once("Content-Length:").unwrap();
        let expected = format!("{before}Content-Length: {}", after.trim_start());
        assert_eq!(String::from_utf8(written).unwrap(), expected, "{name}");
    }
}

fn message_has_essentials(name: &str, message: &Message) {
    let essentials = match message {
        Message::Request(request) => request.essentials(),
        Message::Response(response) => response.essentials(),
    }
    .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(essentials.via.transport, "TLS", "{name}");
    assert!(essentials.via.branch().unwrap().starts_with("z9hG4bKPj"), "{name}");
    assert!(essentials.from.tag().is_some(), "{name}");
    // The value of Via and the addresses are written as they were read.
    for value in message.headers().values(&HeaderName::Via) {
        assert_eq!(essentials.via.to_string(), value, "{name}");
    }
    assert_eq!(essentials.from.to_string(), message.headers().get(&HeaderName::From).unwrap(), "{name}");
    assert_eq!(essentials.to.to_string(), message.headers().get(&HeaderName::To).unwrap(), "{name}");
}

#[test]
fn a_text_has_these_parts() {
    let text = request(vector("message-text"));
    assert_eq!((&text.method, text.content_type()), (&Method::Message, Some("text/plain")));
    assert_eq!(text.body, b"after long");
    let Uri::Sip(uri) = &text.uri else { panic!("{}", text.uri) };
    assert_eq!(
        (uri.secure, uri.user.as_deref(), &*uri.host, uri.port),
        (true, Some(CALLED), "10.77.0.3", Some(58240))
    );
    assert_eq!(uri.parameter("transport"), Some("tls"));
    let essentials = text.essentials().unwrap();
    let from = essentials.from.uri.as_sip().unwrap();
    assert_eq!((from.secure, from.user.as_deref(), &*from.host), (false, Some(CALLER), "ring.dht"));
    assert_eq!(essentials.from.display.as_deref(), Some("a"));
    assert_eq!(essentials.to.uri.as_sip().unwrap().user.as_deref(), Some(CALLED));
    assert_eq!((essentials.to.tag(), essentials.cseq.method), (None, Method::Message));
    assert_eq!(text.headers.get(&HeaderName::MessageId), Some("001c26ff7c8fe54a"));
    assert_eq!(text.headers.get(&HeaderName::UserAgent), Some("Jami Daemon 13.7.0 (linux)"));
    assert_eq!(text.headers.get(&HeaderName::Contact), None);
}

#[test]
fn a_call_has_these_parts() {
    let call = request(vector("invite"));
    let Uri::Sip(uri) = &call.uri else { panic!("{}", call.uri) };
    assert_eq!((&uri.user, &*uri.host), (&None, "10.77.0.3"));
    assert_eq!(call.content_type(), Some("application/sdp"));
    assert!(call.headers.get(&HeaderName::Contact).unwrap().contains(CALLER_DEVICE));
    let allowed: Vec<_> = call.headers.values(&HeaderName::Allow).collect();
    assert_eq!((allowed.len(), allowed[0], allowed[11]), (12, "SUBSCRIBE", "PUBLISH"));
    let busy = response(vector("invite-busy"));
    assert_eq!((busy.status, &*busy.reason), (Status::BUSY_HERE, "Busy Here"));
    let ringing = response(vector("invite-ringing"));
    assert!(ringing.headers.get(&HeaderName::Contact).unwrap().contains(CALLED_DEVICE));
}

#[test]
fn a_call_of_the_daemon_is_refused_and_its_ack_taken() {
    let now = Instant::now();
    let mut endpoint = called();
    endpoint.handle_data(now, vector("invite")).unwrap();
    let [Event::Request { id, request }] = &events(&mut endpoint)[..] else { panic!("one request") };
    assert_eq!(request.method, Method::Invite);
    endpoint.respond(now, *id, Status::DECLINE.into()).unwrap();
    let declined = response(&endpoint.poll_transmit().unwrap());
    assert_eq!(declined.status, Status::DECLINE);
    let essentials = declined.essentials().unwrap();
    assert_eq!(essentials.via.branch(), request.essentials().unwrap().via.branch());
    assert!(essentials.to.tag().is_some());
    assert_eq!(endpoint.transactions(), 1);
    endpoint.handle_data(now, vector("ack")).unwrap();
    assert_eq!((endpoint.transactions(), endpoint.poll_timeout()), (0, None));
    assert_eq!((endpoint.poll_transmit(), endpoint.poll_event()), (None, None));
}

#[test]
fn a_call_that_the_daemon_cancels() {
    let now = Instant::now();
    let mut endpoint = called();
    endpoint.handle_data(now, vector("invite-cancelled")).unwrap();
    let [Event::Request { id, .. }] = events(&mut endpoint)[..] else { panic!("one request") };
    endpoint.handle_data(now, vector("cancel")).unwrap();
    let answers = common::responses(&mut endpoint);
    assert_eq!((answers[0].status, answers[1].status), (Status::OK, Status::REQUEST_TERMINATED));
    assert_eq!(answers.len(), 2);
    let tags: Vec<_> =
        answers.iter().map(|answer| answer.essentials().unwrap().to.tag().unwrap().to_owned()).collect();
    assert_eq!(tags[0], tags[1]);
    assert_eq!(answers[0].essentials().unwrap().cseq.method, Method::Cancel);
    assert_eq!(answers[1].essentials().unwrap().cseq.method, Method::Invite);
    assert_eq!(events(&mut endpoint), [Event::Cancelled { id }]);
    assert!(endpoint.respond(now, id, Status::DECLINE.into()).is_err());
}

#[test]
fn what_belongs_to_a_call_finds_none() {
    let now = Instant::now();
    for name in ["bye", "info-in-call", "message-in-call"] {
        let mut endpoint = called();
        endpoint.handle_data(now, vector(name)).unwrap();
        assert_eq!(common::codes(&mut endpoint), [481], "{name}");
        assert_eq!((endpoint.poll_event(), endpoint.transactions()), (None, 0), "{name}");
    }
}

#[test]
fn texts_of_each_type_are_events() {
    let now = Instant::now();
    let mut endpoint = called();
    let mut types = Vec::new();
    for name in ["message-text", "message-composing", "message-displayed", "message-other-type"] {
        // The ones of an earlier connection have other ports, which mean nothing.
        endpoint.handle_data(now, vector(name)).unwrap();
        let [Event::Request { id, request }] = &events(&mut endpoint)[..] else { panic!("{name}") };
        types.push(request.content_type().unwrap().to_owned());
        endpoint.respond(now, *id, Status::OK.into()).unwrap();
        let answer = common::responses(&mut endpoint).remove(0);
        assert_eq!(answer.headers.get(&HeaderName::Contact), None, "RFC 3428 7: no Contact in the answer");
        let (asked, answered) = (request.essentials().unwrap(), answer.essentials().unwrap());
        assert_eq!((asked.via, asked.call_id, asked.cseq), (answered.via, answered.call_id, answered.cseq));
    }
    assert_eq!(
        types,
        ["text/plain", "application/im-iscomposing+xml", "message/imdn+xml", "application/x-thing+json"]
    );
    assert_eq!(endpoint.transactions(), 0);
}
