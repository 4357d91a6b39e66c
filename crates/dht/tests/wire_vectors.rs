//! Every captured datagram decodes, and comes out byte for byte the same when written again.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]

mod common;

use common::{bytes, load};
use serde_json::Value as Json;
use towline_dht::fragment::{Assembler, AssemblerLimits, datagrams};
use towline_dht::{Body, Message, Request, ValueItem, WireError};

/// Datagrams whose form is one we read but never write.
const OTHER_FORM: [&str; 6] = [
    "ping-tid-bin4",
    "ping-tid-str4",
    // `h` left out or an id of zero: we never ask such things.
    "put-no-hash",
    "get-no-hash",
    "listen-no-hash",
    // `w:[30]`, a macOS number.
    "o2-find w30",
];

fn check(name: &str, packet: &Json) {
    let datagram = bytes(&packet["hex"]);
    let agent = packet["decoded"]["v"].as_str().unwrap_or_default();
    let from_probe = packet["dir"].as_str() == Some("probe->node");
    let decoded = Message::decode(&datagram);
    match name {
        "unknown-query" => return assert_eq!(decoded, Err(WireError::UnknownRequest)),
        // Three bytes are no transaction id; the reference reads beyond them.
        "ping-tid-bin3" if from_probe => return assert_eq!(decoded, Err(WireError::Range("t"))),
        _ => {}
    }
    let message = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = message.encode_as(agent);
    if OTHER_FORM.contains(&name) && from_probe {
        assert_eq!(Message::decode(&written).as_ref(), Ok(&message), "{name}");
    } else {
        assert_eq!(hex::encode(written), hex::encode(datagram), "{name}");
    }
}

#[test]
fn wire() {
    for text in [include_str!("vectors/wire-2.4.12.json"), include_str!("vectors/wire-4.4.2.json")] {
        let vectors = load(text);
        let packets = vectors["packets"].as_array().unwrap();
        assert!(packets.len() > 20);
        for packet in packets {
            check(packet["name"].as_str().unwrap(), packet);
        }
    }
}

#[test]
fn flows() {
    for text in [include_str!("vectors/flows-2.4.12.json"), include_str!("vectors/flows-4.4.2.json")] {
        for flow in load(text)["flows"].as_array().unwrap() {
            for packet in flow["packets"].as_array().unwrap() {
                check(flow["step"].as_str().unwrap(), packet);
            }
        }
    }
    for packet in load(include_str!("vectors/flow-permanent-refresh.json"))["packets"].as_array().unwrap() {
        check("flow-permanent-refresh", packet);
    }
}

/// Puts the fragments of the flows together, and takes the whole apart into the same datagrams.
#[test]
fn fragments_of_the_flows() {
    let mut complete = 0;
    for text in [include_str!("vectors/flows-2.4.12.json"), include_str!("vectors/flows-4.4.2.json")] {
        for flow in load(text)["flows"].as_array().unwrap() {
            complete += reassemble(flow["packets"].as_array().unwrap());
        }
    }
    let wire = load(include_str!("vectors/wire-2.4.12.json"));
    let fragmented = wire["packets"].as_array().unwrap().iter();
    let fragmented: Vec<_> = fragmented.filter(|it| it["group"] == "fragmentation").cloned().collect();
    assert_eq!(reassemble(&fragmented), 2);
    assert!(complete >= 5, "{complete}");
}

fn reassemble(packets: &[Json]) -> usize {
    let now = std::time::Instant::now();
    let mut assembler = Assembler::new(AssemblerLimits::default());
    let mut complete = 0;
    for packet in packets {
        let port =
            packet["src"].as_u64().or(packet["dir"].as_str().map(|it| it.len() as u64)).unwrap() as u16;
        let source = ([127, 0, 0, 1], port).into();
        let message = Message::decode(&bytes(&packet["hex"])).unwrap();
        let again = message.encode();
        let whole = match message.body {
            // The parts carry no user agent: they must be written as they were read.
            Body::Parts(_) if again != bytes(&packet["hex"]) => panic!("{packet}"),
            Body::Parts(parts) => assembler.handle_parts(now, source, message.transaction, parts).unwrap(),
            _ => {
                let announced = message.values().iter().any(|it| matches!(it, ValueItem::Announced(_)));
                let whole = assembler.handle_message(now, source, message).unwrap();
                assert_eq!(whole.is_none(), announced);
                continue;
            }
        };
        let Some(whole) = whole else { continue };
        assert!(whole.values().iter().all(|item| item.inline().is_some()));
        complete += 1;
        // Ours are shorter, and make up the same.
        let mut ours = Assembler::new(AssemblerLimits::default());
        let mut made = None;
        for datagram in datagrams(&whole) {
            let message = Message::decode(&datagram).unwrap();
            made = match message.body {
                Body::Parts(parts) => ours.handle_parts(now, source, message.transaction, parts).unwrap(),
                _ => ours.handle_message(now, source, message).unwrap(),
            };
        }
        assert_eq!(made.unwrap(), whole);
    }
    assert_eq!(assembler.poll_timeout(), None, "no session is left");
    complete
}

#[test]
fn liberties_of_the_spec() {
    let read = |hex: &str| Message::decode(&hex::decode(hex).unwrap());
    // No `y`, no `v`, trailing bytes, an unknown member, a number for a key, order reversed.
    let id = "22".repeat(20);
    let message = read(&format!(
        "85a17402077ba17891c0a171a470696e67a16182a26964c414{id}a17a9390c3cb3ff0000000000000deadbeef"
    ))
    .unwrap();
    assert_eq!(message.transaction, 2);
    assert!(matches!(message.body, Body::Request { request: Request::Ping, .. }));
    // A known key of the wrong type spoils the datagram: `s` as a number, an id as a string, an id too short.
    for (tail, error) in
        [("a17301", WireError::Type("s")), ("a16e80", WireError::Type("n")), ("a17601", WireError::Type("v"))]
    {
        let bytes = format!("84a17402a171a470696e67a16181a26964c414{id}{tail}");
        assert_eq!(read(&bytes), Err(error));
    }
    assert_eq!(read(&format!("83a17402a171a470696e67a16181a26964b4{id}")), Err(WireError::Type("id")));
    assert_eq!(read("83a17402a171a470696e67a16181a26964c40101"), Err(WireError::Range("id")));
    assert_eq!(
        read(&format!("83a17402a171a470696e67a16181a26964c414{}", "00".repeat(20))),
        Err(WireError::Missing("id"))
    );
    assert_eq!(read("83a17402a171a470696e67a16101"), Err(WireError::Type("a")));
    // A bare error is one without a sender.
    let error = read("83a16592cd0191a0a17405a179a165").unwrap();
    assert_eq!(error.body, Body::Error { sender: None, code: 401, text: String::new() });
}
