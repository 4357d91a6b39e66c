//! Transactions as stories, in both directions.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::time::{Duration, Instant};

use common::{
    CALLED, CALLER, called, called_config, caller, caller_config, carry, codes, events, plain, request,
    responses,
};
use towline_sip::{
    Endpoint, Event, HeaderName, Headers, Limits, Method, OutgoingRequest, OutgoingResponse, RequestError,
    RespondError, ServerId, Status,
};

fn hello() -> OutgoingRequest {
    OutgoingRequest::message("text/plain", "hello")
}

/// The one request that waits.
fn asked(endpoint: &mut Endpoint) -> ServerId {
    let [Event::Request { id, .. }] = events(endpoint)[..] else { panic!("one request") };
    id
}

#[test]
fn a_text_and_its_answer() {
    let now = Instant::now();
    let (mut alice, mut bob) = (caller(), called());
    let id = alice.request(now, hello()).unwrap();
    assert_eq!(alice.poll_timeout(), Some(now + Duration::from_secs(32)));
    let bytes = alice.poll_transmit().unwrap();
    let sent = request(&bytes);
    assert_eq!(sent.uri.to_string(), format!("sips:{CALLED}@10.77.0.3:58240;transport=tls"));
    let header = |name| sent.headers.get(&name).unwrap();
    assert!(header(HeaderName::Via).starts_with("SIP/2.0/TLS 10.77.0.2:51503;rport;branch=z9hG4bK"));
    assert!(header(HeaderName::Via).ends_with(";alias"));
    assert!(header(HeaderName::From).starts_with(&format!("\"a\" <sip:{CALLER}@ring.dht>;tag=")));
    assert_eq!(header(HeaderName::To), format!("<sips:{CALLED}@10.77.0.3>"));
    assert_eq!((header(HeaderName::MaxForwards), header(HeaderName::CSeq)), ("70", "1 MESSAGE"));
    assert_eq!(header(HeaderName::UserAgent), concat!("Towline ", env!("CARGO_PKG_VERSION")));
    bob.handle_data(now, &bytes).unwrap();
    let question = asked(&mut bob);
    bob.respond(now, question, Status::OK.into()).unwrap();
    assert_eq!(bob.respond(now, question, Status::OK.into()), Err(RespondError::NotAwaited));
    carry(now, &mut bob, &mut alice);
    let [Event::Response { id: answered, response }] = &events(&mut alice)[..] else { panic!("one answer") };
    assert_eq!((*answered, response.status), (id, Status::OK));
    assert_eq!((alice.transactions(), bob.transactions()), (0, 0));
    assert_eq!((alice.poll_timeout(), bob.poll_timeout()), (None, None));
}

#[test]
fn answers_find_their_requests_in_any_order() {
    let now = Instant::now();
    let (mut alice, mut bob) = (caller(), called());
    let sent: Vec<_> = (0..20).map(|_| alice.request(now, hello()).unwrap()).collect();
    carry(now, &mut alice, &mut bob);
    let mut asked: Vec<_> = events(&mut bob)
        .into_iter()
        .map(|event| if let Event::Request { id, .. } = event { id } else { panic!("{event:?}") })
        .collect();
    asked.reverse();
    for (n, id) in asked.into_iter().enumerate() {
        let status = Status::from_code(200 + n as u16).unwrap();
        bob.respond(now, id, status.into()).unwrap();
    }
    carry(now, &mut bob, &mut alice);
    for (n, event) in events(&mut alice).into_iter().enumerate() {
        let Event::Response { id, response } = event else { panic!("{event:?}") };
        assert_eq!((id, usize::from(response.status.code())), (sent[19 - n], 200 + n));
    }
}

#[test]
fn no_answer_within_32_seconds() {
    let now = Instant::now();
    let mut alice = caller();
    let first = alice.request(now, hello()).unwrap();
    let second = alice.request(now + Duration::from_secs(1), hello()).unwrap();
    let until = alice.poll_timeout().unwrap();
    assert_eq!(until, now + Duration::from_secs(32));
    alice.handle_timeout(now + Duration::from_millis(31_999));
    assert_eq!(alice.poll_event(), None);
    alice.handle_timeout(until);
    assert_eq!(events(&mut alice), [Event::TimedOut { id: first }]);
    alice.handle_timeout(alice.poll_timeout().unwrap());
    assert_eq!(events(&mut alice), [Event::TimedOut { id: second }]);
    assert_eq!(alice.poll_timeout(), None);
}

#[test]
fn an_answer_that_comes_too_late_or_to_nobody_is_dropped() {
    let now = Instant::now();
    let (mut alice, mut bob) = (caller(), called());
    alice.request(now, hello()).unwrap();
    carry(now, &mut alice, &mut bob);
    let id = asked(&mut bob);
    bob.respond(now, id, Status::OK.into()).unwrap();
    alice.handle_timeout(now + Duration::from_secs(32));
    events(&mut alice);
    carry(now, &mut bob, &mut alice);
    assert_eq!(alice.poll_event(), None);
    // One that passed through somebody else, and one without what it must have.
    alice.request(now, hello()).unwrap();
    let via = request(&alice.poll_transmit().unwrap()).headers.get(&HeaderName::Via).unwrap().to_owned();
    let end = "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 2 MESSAGE\r\nContent-Length: 0\r\n\r\n";
    for head in [
        format!("SIP/2.0 200 OK\r\nVia: {via}, SIP/2.0/TLS 10.0.0.9\r\n{end}"),
        format!("SIP/2.0 200 OK\r\n{end}"),
        format!("SIP/2.0 200 OK\r\nVia: {via}\r\nContent-Length: 0\r\n\r\n"),
        format!("SIP/2.0 200 OK\r\nVia: {via}\r\n{}", end.replace("2 MESSAGE", "2 INVITE")),
    ] {
        alice.handle_data(now, head.as_bytes()).unwrap();
        assert_eq!((alice.poll_event(), alice.transactions()), (None, 1), "{head}");
    }
    alice.handle_data(now, format!("SIP/2.0 202 Fine\r\nVia: {via}\r\n{end}").as_bytes()).unwrap();
    assert!(matches!(alice.poll_event(), Some(Event::Response { .. })));
}

#[test]
fn provisional_answers_do_not_end_the_wait() {
    let now = Instant::now();
    let (mut alice, mut bob) = (caller(), called());
    alice.request(now, hello()).unwrap();
    carry(now, &mut alice, &mut bob);
    let id = asked(&mut bob);
    bob.respond(now, id, Status::TRYING.into()).unwrap();
    carry(now, &mut bob, &mut alice);
    assert!(
        matches!(&events(&mut alice)[..], [Event::Response { response, .. }] if response.status == Status::TRYING)
    );
    assert_eq!(alice.poll_timeout(), Some(now + Duration::from_secs(32)), "timer F goes on");
    bob.respond(now, id, Status::FORBIDDEN.into()).unwrap();
    carry(now, &mut bob, &mut alice);
    assert!(
        matches!(&events(&mut alice)[..], [Event::Response { response, .. }] if response.status == Status::FORBIDDEN)
    );
}

#[test]
fn repetitions_get_the_last_answer() {
    let now = Instant::now();
    let mut bob = called();
    let invite = plain("INVITE", "");
    bob.handle_data(now, &invite).unwrap();
    let id = asked(&mut bob);
    bob.handle_data(now, &invite).unwrap();
    assert_eq!((bob.poll_event(), codes(&mut bob)), (None, vec![]), "nothing was said yet");
    bob.respond(now, id, Status::RINGING.into()).unwrap();
    bob.handle_data(now, &invite).unwrap();
    assert_eq!(codes(&mut bob), [180, 180]);
    bob.respond(now, id, Status::BUSY_HERE.into()).unwrap();
    bob.handle_data(now, &invite).unwrap();
    assert_eq!((bob.poll_event(), codes(&mut bob)), (None, vec![486, 486]));
    // The ACK carries the branch of the INVITE.
    let ack = String::from_utf8(plain("ACK", "")).unwrap().replace("z9hG4bK-ACK", "Z9hG4bK-invite");
    bob.handle_data(now, ack.as_bytes()).unwrap();
    assert_eq!((bob.transactions(), bob.poll_timeout()), (0, None));
    bob.handle_data(now, ack.as_bytes()).unwrap();
    assert_eq!((bob.poll_event(), bob.poll_transmit()), (None, None), "a late ACK says nothing");
}

#[test]
fn branches_of_old_clients_are_not_trusted() {
    let now = Instant::now();
    let mut bob = called();
    let old = |method: &str, call: &str| {
        let text = String::from_utf8(plain(method, "")).unwrap();
        text.replace(&format!("z9hG4bK-{method}"), "1").replace(&format!("c-{method}"), call)
    };
    for call in ["one", "two"] {
        bob.handle_data(now, old("INVITE", call).as_bytes()).unwrap();
        let id = asked(&mut bob);
        bob.respond(now, id, Status::DECLINE.into()).unwrap();
    }
    bob.handle_data(now, old("ACK", "two").as_bytes()).unwrap();
    assert_eq!(bob.transactions(), 1);
    bob.handle_data(now, old("ACK", "one").as_bytes()).unwrap();
    assert_eq!(bob.transactions(), 0);
}

#[test]
fn an_invite_that_nobody_decides() {
    let now = Instant::now();
    let mut bob = called();
    bob.handle_data(now, &plain("INVITE", "")).unwrap();
    let id = asked(&mut bob);
    let trying = bob.poll_timeout().unwrap();
    assert_eq!(trying, now + Duration::from_millis(200));
    bob.handle_timeout(trying);
    assert_eq!(codes(&mut bob), [100]);
    let ringing = bob.poll_timeout().unwrap();
    assert_eq!(ringing, now + Duration::from_mins(3));
    bob.handle_timeout(ringing);
    assert_eq!((codes(&mut bob), events(&mut bob)), (vec![480], vec![Event::Expired { id }]));
    // No ACK comes either.
    let ack = bob.poll_timeout().unwrap();
    assert_eq!(ack, ringing + Duration::from_secs(32));
    bob.handle_timeout(ack);
    assert_eq!((bob.transactions(), bob.poll_transmit(), bob.poll_event()), (0, None, None));
}

#[test]
fn a_text_that_nobody_decides_is_forgotten_with_its_sender() {
    let now = Instant::now();
    let mut bob = called();
    bob.handle_data(now, &plain("MESSAGE", "")).unwrap();
    let id = asked(&mut bob);
    let until = bob.poll_timeout().unwrap();
    assert_eq!(until, now + Duration::from_secs(32));
    bob.handle_timeout(until);
    assert_eq!((events(&mut bob), codes(&mut bob)), (vec![Event::Expired { id }], vec![]));
    assert_eq!(bob.respond(until, id, Status::OK.into()), Err(RespondError::NotAwaited));
}

#[test]
fn answers_of_the_endpoint_itself() {
    let now = Instant::now();
    let mut bob = called();
    let cases: &[(&str, &str, &[u16])] = &[
        ("OPTIONS", "", &[200]),
        ("SUBSCRIBE", "", &[405]),
        ("BYE", "", &[481]),
        ("INFO", "", &[481]),
        ("CANCEL", "", &[481]),
        ("ACK", "", &[]),
        ("MESSAGE", "Require: 100rel, replaces\r\n", &[420]),
        ("MESSAGE", "Content-Encoding: gzip\r\n", &[415]),
        ("INVITE", "Require: 100rel\r\n", &[420]),
    ];
    for (method, extra, expected) in cases {
        bob.handle_data(now, &plain(method, extra)).unwrap();
        let answers = responses(&mut bob);
        let codes: Vec<_> = answers.iter().map(|answer| answer.status.code()).collect();
        assert_eq!((&codes[..], bob.poll_event()), (*expected, None), "{method} {extra}");
        for answer in answers {
            assert_eq!(
                answer.headers.get(&HeaderName::Allow),
                Some("INVITE, ACK, BYE, CANCEL, INFO, OPTIONS, MESSAGE")
            );
            if answer.status == Status::BAD_EXTENSION && *method == "MESSAGE" {
                let named: Vec<_> = answer.headers.values(&HeaderName::Unsupported).collect();
                assert_eq!(named, ["100rel", "replaces"]);
            }
        }
    }
    assert_eq!(bob.transactions(), 1, "the refused INVITE awaits its ACK");
    let tel = String::from_utf8(plain("MESSAGE", "")).unwrap().replacen("sips:", "tel:", 1);
    bob.handle_data(now, tel.as_bytes()).unwrap();
    assert_eq!(codes(&mut bob), [416]);
    let encoded = plain("MESSAGE", "Content-Encoding: identity\r\n");
    bob.handle_data(now, &encoded).unwrap();
    assert_eq!(events(&mut bob).len(), 1);
}

#[test]
fn nobody_speaks_for_another_account() {
    let now = Instant::now();
    for method in ["MESSAGE", "INVITE", "OPTIONS", "SUBSCRIBE"] {
        for from in [
            format!("<sip:{CALLED}@ring.dht>"),
            "<sip:ring.dht>".to_owned(),
            "Anonymous <sip:anonymous@anonymous.invalid>".to_owned(),
            format!("<tel:{CALLER}>"),
            format!("<sip:{CALLER}x@ring.dht>"),
        ] {
            let text = String::from_utf8(plain(method, "")).unwrap();
            let forged = text.replace(&format!("<sip:{CALLER}@ring.dht>"), &from);
            let mut bob = called();
            bob.handle_data(now, forged.as_bytes()).unwrap();
            assert_eq!((codes(&mut bob), bob.poll_event()), (vec![403], None), "{method} {from}");
        }
    }
    // Hex digits have two cases.
    let text = String::from_utf8(plain("MESSAGE", "")).unwrap().replace(CALLER, &CALLER.to_uppercase());
    let mut bob = called();
    bob.handle_data(now, text.as_bytes()).unwrap();
    assert_eq!(events(&mut bob).len(), 1);
}

#[test]
fn broken_requests_get_400_if_they_can_get_anything() {
    let now = Instant::now();
    let base = String::from_utf8(plain("MESSAGE", "")).unwrap();
    let cases = [
        (base.replace("1 MESSAGE", "1 INVITE"), vec![400]),
        (base.replace("1 MESSAGE", "4294967296 MESSAGE"), vec![400]),
        (base.replace("1 MESSAGE", "x MESSAGE"), vec![400]),
        (base.replace(";tag=t", ";tag="), vec![400]),
        (base.replace("Call-ID: c-MESSAGE", "Call-ID: a b"), vec![400]),
        (base.replace("Call-ID: ", "X-ID: "), vec![]),
        (base.replace("Via: ", "X-Via: "), vec![]),
        (base.replace("From: ", "To: <sip:x@y>\r\nFrom: "), vec![400]),
        (base.replace("1 MESSAGE", "x MESSAGE").replacen("MESSAGE", "ACK", 1), vec![]),
    ];
    for (text, expected) in cases {
        let mut bob = called();
        bob.handle_data(now, text.as_bytes()).unwrap();
        assert_eq!((codes(&mut bob), bob.poll_event()), (expected, None), "{text}");
    }
}

#[test]
fn what_a_peer_can_have_under_way_is_bounded() {
    let now = Instant::now();
    let mut config = called_config();
    config.limits = Limits { server_transactions: 3, ..Limits::default() };
    let mut bob = Endpoint::new(config, [3; 32]);
    for n in 0..5 {
        let text =
            String::from_utf8(plain("MESSAGE", "")).unwrap().replace("z9hG4bK", &format!("z9hG4bK{n}"));
        bob.handle_data(now, text.as_bytes()).unwrap();
    }
    assert_eq!((codes(&mut bob), bob.transactions()), (vec![503, 503], 3));
    assert!(!bob.wants_data(), "events wait");
    let first = match &events(&mut bob)[..] {
        [Event::Request { id, .. }, ..] => *id,
        other => panic!("{other:?}"),
    };
    assert!(bob.wants_data());
    bob.respond(now, first, Status::OK.into()).unwrap();
    bob.handle_data(now, &plain("MESSAGE", "")).unwrap();
    assert_eq!(codes(&mut bob), [200], "there is room again");
}

#[test]
fn what_a_program_can_have_under_way_is_bounded() {
    let now = Instant::now();
    let mut config = caller_config();
    config.limits = Limits { client_transactions: 2, output: 3000, message_out: 2000, ..Limits::default() };
    let mut alice = Endpoint::new(config.clone(), [4; 32]);
    let message = |length| OutgoingRequest::message("application/octet-stream", vec![0; length]);
    let Err(RequestError::TooLong { length, max: 2000 }) = alice.request(now, message(2000)) else {
        panic!("it does not fit")
    };
    let room = 2000 - (length - 2000);
    assert!(alice.request(now, message(room + 1)).is_err());
    alice.request(now, message(room)).unwrap();
    assert_eq!(alice.queued(), 2000);
    alice.request(now, message(room)).unwrap();
    assert_eq!(alice.request(now, hello()), Err(RequestError::TooMany));
    config.limits.client_transactions = 10;
    let mut alice = Endpoint::new(config, [4; 32]);
    alice.request(now, message(room)).unwrap();
    alice.request(now, message(room)).unwrap();
    assert_eq!(alice.request(now, hello()), Err(RequestError::Full));
    assert!(!alice.wants_data());
    alice.poll_transmit().unwrap();
    assert!(alice.wants_data());
    alice.request(now, hello()).unwrap();
}

#[test]
fn programs_cannot_break_messages() {
    let now = Instant::now();
    let mut alice = caller();
    for method in [Method::Invite, Method::Ack, Method::Cancel, Method::Bye, Method::Info] {
        let request = OutgoingRequest::new(method.clone());
        assert_eq!(alice.request(now, request), Err(RequestError::NeedsDialog(method)));
    }
    for kind in ["", "text", "/", "text/", "text/plain\r\nX: y", "te xt/plain"] {
        let request = OutgoingRequest::message(kind, "x");
        assert_eq!(alice.request(now, request), Err(RequestError::ContentType), "{kind:?}");
    }
    let mut headers = Headers::new();
    assert!(headers.push(HeaderName::Subject, "a\r\nVia: b").is_err());
    headers.push(HeaderName::Via, "x").unwrap();
    let mut request = hello();
    request.headers = headers;
    assert_eq!(alice.request(now, request), Err(RequestError::Reserved(HeaderName::Via)));
    let mut request = hello();
    request.content_type = None;
    assert_eq!(alice.request(now, request), Err(RequestError::ContentType));
    assert_eq!((alice.transactions(), alice.queued()), (0, 0));

    let mut bob = called();
    bob.handle_data(now, &plain("INVITE", "")).unwrap();
    let id = asked(&mut bob);
    assert_eq!(bob.respond(now, id, Status::OK.into()), Err(RespondError::NeedsDialog));
    let mut long = OutgoingResponse::from(Status::BUSY_HERE);
    long.content_type = Some("text/plain".to_owned());
    long.body = vec![b'x'; 8000];
    assert!(matches!(bob.respond(now, id, long), Err(RespondError::TooLong { max: 8000, .. })));
    bob.respond(now, id, Status::BUSY_HERE.into()).unwrap();
}

#[test]
fn the_end_of_a_stream() {
    let now = Instant::now();
    let (mut alice, mut bob) = (caller(), called());
    let id = alice.request(now, hello()).unwrap();
    assert_eq!(alice.handle_end(), Ok(()));
    assert!(!alice.wants_data());
    assert_eq!(alice.request(now, hello()), Err(RequestError::Ended));
    alice.handle_timeout(now + Duration::from_secs(32));
    assert_eq!(alice.poll_event(), Some(Event::TimedOut { id }));
    let bytes = alice.poll_transmit().unwrap();
    bob.handle_data(now, &bytes[..bytes.len() - 1]).unwrap();
    assert!(bob.handle_end().is_err());
}

#[test]
fn the_same_seed_says_the_same() {
    let now = Instant::now();
    let speak = |seed| {
        let mut endpoint = Endpoint::new(caller_config(), [seed; 32]);
        for _ in 0..3 {
            endpoint.request(now, hello()).unwrap();
        }
        std::iter::from_fn(|| endpoint.poll_transmit()).collect::<Vec<_>>()
    };
    assert_eq!(speak(1), speak(1));
    assert_ne!(speak(1), speak(2));
}
