//! Crafted input for a responder: the "required" column of the recorded cases.

use std::time::Instant;

use serde_json::Value;
use towline_channeler::v0::{
    Counters, DEFAULT_CHANNEL, Endpoint, Event, Message, Messages, PROTOCOL, Packet,
};

use crate::support::{A, B, address_of, events, list, responder, sent, text, vectors};

/// What a responder made of the frames of a case.
struct Outcome {
    /// Ids that were granted, by answer.
    answers: Vec<Vec<u32>>,
    events: Vec<Event>,
    counters: Counters,
    data: Vec<Vec<u8>>,
}

fn play(case: &Value) -> Outcome {
    let now = Instant::now();
    let mut b = responder(now, 1);
    let mut answers = Vec::new();
    for frame in list(case, "frames") {
        let frame = hex::decode(frame.as_str().expect("a text")).expect("hexadecimal");
        b.handle(now, address_of(A), &frame);
        let sent = sent(&mut b, now);
        assert!(sent.len() <= 1, "at most one answer");
        for (to, answer) in sent {
            assert_eq!(to, address_of(A));
            assert!(answer.len() <= frame.len(), "{} for {}", answer.len(), frame.len());
            answers.push(grants(&frame, &answer));
        }
    }
    let events = events(&mut b);
    let data = read_all(&mut b, &events);
    Outcome { answers, events, counters: b.counters(), data }
}

/// The ids of an answer, whose first cookies and halves are those of the question.
fn grants(question: &[u8], answer: &[u8]) -> Vec<u32> {
    let question = Packet::parse(PROTOCOL, question).expect("else not answered");
    let mut asked = Messages::new(question.payload).filter_map(|message| match message {
        Ok(Message::New { half, cookie }) => Some((half, cookie)),
        _ => None,
    });
    let packet = Packet::parse(PROTOCOL, answer).expect("well formed");
    assert_eq!((packet.sender, packet.recipient, packet.channel), (B, A, DEFAULT_CHANNEL));
    Messages::new(packet.payload)
        .map(|message| {
            let Ok(Message::Acknowledge { id, cookie1, .. }) = message else { panic!("{message:?}") };
            assert_eq!(asked.next(), Some((id as u16, cookie1)));
            id
        })
        .collect()
}

fn read_all(endpoint: &mut Endpoint, events: &[Event]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for event in events {
        if let Event::Readable(channel) = event {
            let mut buffer = [0; 2000];
            while let Ok(len) = endpoint.read(*channel, &mut buffer) {
                all.push(buffer[..len].to_vec());
            }
        }
    }
    all
}

#[test]
fn every_recorded_case_ends_as_required() {
    let file = vectors("responder_behaviour");
    let cases = list(&file, "cases");
    assert_eq!(cases.len(), 18);
    for case in cases {
        let name = text(case, "name");
        let Outcome { answers, events, counters, data } = play(case);
        let received = list(case, "frames").len() as u64;
        let silent = Counters { received, ..Counters::default() };
        let opened = |events: &[Event]| matches!(events, [Event::Opened { capabilities: 0, .. }]);
        match name {
            "new_is_stateless" => {
                assert_eq!(answers.len(), 1);
                assert_eq!(answers[0].len(), 1);
                assert!(events.is_empty());
                assert_eq!(counters, silent);
            }
            "finalize_without_new" | "finalize_twice" => {
                assert!(answers.is_empty() && opened(&events), "{name}: {events:?}");
                assert_eq!(counters, silent);
            }
            "finalize_bad_cookie" => {
                assert!(answers.is_empty() && events.is_empty());
                assert_eq!(counters, Counters { bad_cookie: 1, ..silent });
            }
            "finalize_then_data" => {
                assert!(answers.is_empty() && opened(&events[..1]) && events.len() == 2);
                assert_eq!(data, [b"hi"]);
            }
            "data_unknown_channel" => {
                assert!(answers.is_empty() && events.is_empty());
                assert_eq!(counters, Counters { unknown_channel: 1, ..silent });
            }
            "finalize_and_data_one_packet_default_channel" => {
                assert!(answers.is_empty() && opened(&events), "{events:?}");
                assert_eq!(counters, Counters { out_of_place: 1, ..silent });
            }
            "bad_checksum" | "payload_size_too_big" | "short_packet_size_field" => {
                assert!(answers.is_empty() && events.is_empty());
                assert_eq!(counters, Counters { malformed: 1, ..silent }, "{name}");
            }
            "foreign_proto" | "foreign_recipient" | "foreign_sender" => {
                assert!(answers.is_empty() && events.is_empty());
                assert_eq!(counters, Counters { foreign: 1, ..silent }, "{name}");
            }
            "default_half_new" => {
                assert!(answers.is_empty() && events.is_empty());
                assert_eq!(counters, Counters { out_of_place: 1, ..silent });
            }
            "new_and_finalize_bundled" => {
                assert_eq!(answers.len(), 1);
                assert!(opened(&events), "{events:?}");
            }
            "unknown_type_stops_parsing" => {
                assert!(answers.is_empty() && events.is_empty());
                assert_eq!(counters, silent);
            }
            "eight_new_in_one_packet" => {
                assert_eq!(answers.len(), 1);
                // As many as fit into what is not longer than the question.
                assert_eq!(answers[0].len(), 4);
                assert_eq!(counters, Counters { refused: 4, ..silent });
            }
            "flags_ignored" => {
                assert!(answers.is_empty() && events.is_empty());
                assert_eq!(counters, Counters { encrypted: 1, ..silent });
            }
            other => panic!("what is required of {other}?"),
        }
    }
}
