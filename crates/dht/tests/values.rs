//! Values, queries, payloads, state file and discovery against what the reference wrote.
#![allow(clippy::unwrap_used, reason = "in a test, a failure is to be loud")]

mod common;

use std::sync::Arc;

use common::{bytes, key, load};
use serde_json::Value as Json;
use towline_dht::discovery::Packet;
use towline_dht::persist::State;
use towline_dht::types::{
    self, DhtMessage, IceCandidates, ImMessage, IpServiceAnnouncement, Payload, TrustRequest,
};
use towline_dht::value::{Content, OpenError, SealError, SignatureError};
use towline_dht::{InfoHash, Query, Value, WireError};
use towline_identity::{Chain, PublicKey};

fn vectors() -> Json {
    load(include_str!("vectors/values.json"))
}

fn vector(name: &str) -> Json {
    let vectors = vectors();
    vectors["values"].as_array().unwrap().iter().find(|it| it["name"] == name).expect("a vector").clone()
}

fn value(name: &str) -> Value {
    Value::unpack(&bytes(&vector(name)["packed"])).unwrap()
}

#[test]
fn packed_signed_and_encrypted_bytes() {
    for vector in vectors()["values"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let packed = bytes(&vector["packed"]);
        let value = Value::unpack(&packed).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(value.pack(), packed, "{name}");
        assert_eq!(value.packed_size(), packed.len(), "{name}");
        assert_eq!(Value::unpack(&value.pack()).as_ref(), Ok(&value));
        if vector["to_sign"].is_string() {
            assert_eq!(value.to_sign().unwrap(), bytes(&vector["to_sign"]), "{name}");
            assert_eq!(value.to_encrypt().unwrap(), bytes(&vector["to_encrypt"]), "{name}");
        }
        if vector["signature"].is_string() {
            assert_eq!(value.check_signature(), Ok(()), "{name}");
            assert_eq!(value.ownership().unwrap().signature, bytes(&vector["signature"]));
            let mut unsigned = value.clone();
            let recipient = value.ownership().unwrap().recipient;
            if recipient.is_none() {
                unsigned.sign(&key(vector["signer"].as_str().unwrap()), value.seq()).unwrap();
                assert_eq!(unsigned, value, "signatures are deterministic");
            }
        }
    }
}

#[test]
fn what_the_reference_encrypted() {
    for (outer, inner, recipient) in
        [("enc", "enc_inner", "bob"), ("enc_ice_rsa4096", "enc_ice_inner", "carol")]
    {
        assert_eq!(value(outer).decrypt(&key(recipient)), Ok(value(inner)));
        assert_eq!(value(outer).decrypt(&key("alice")), Err(OpenError::Decryption));
    }
}

#[test]
fn encrypting_and_its_faults() {
    let (alice, bob, carol) = (key("alice"), key("bob"), key("carol"));
    let plain = Value::new(7, types::ICE_CANDIDATES, *b"candidates").with_user_type("x/y");
    let sealed = plain.encrypt_for(bob.public(), &alice, 3).unwrap();
    assert!(sealed.is_encrypted() && sealed.owner().is_none() && sealed.data().is_empty());
    let opened = Value::unpack(&sealed.pack()).unwrap().decrypt(&bob).unwrap();
    assert_eq!((opened.data(), opened.user_type(), opened.seq()), (&b"candidates"[..], "x/y", 3));
    assert_eq!(opened.owner(), Some(alice.public()));
    assert_eq!(sealed.decrypt(&carol), Err(OpenError::Decryption));
    assert_eq!(sealed.encrypt_for(bob.public(), &alice, 3), Err(SealError::Encrypted));
    assert_eq!(opened.decrypt(&bob), Err(OpenError::NotEncrypted));
    assert_eq!(sealed.check_signature(), Err(SignatureError::Encrypted));
    // Carol encrypts to bob what alice signed for carol.
    let forward = |value: &Value| {
        let cypher = bob.public().encrypt(&value.to_encrypt().unwrap()).unwrap();
        Value { content: Content::Encrypted(cypher), ..value.clone() }
    };
    let for_carol = plain.encrypt_for(carol.public(), &alice, 0).unwrap().decrypt(&carol).unwrap();
    assert_eq!(forward(&for_carol).decrypt(&bob), Err(OpenError::Recipient));
    let mut for_nobody = plain.clone();
    for_nobody.sign(&alice, 0).unwrap();
    assert_eq!(forward(&for_nobody).decrypt(&bob), Err(OpenError::Recipient));
    let unsigned = OpenError::Signature(SignatureError::NoOwner);
    assert_eq!(forward(&plain).decrypt(&bob), Err(unsigned));
    // Cut to its RSA block, the cypher opens to the key of the rest. That is no value.
    let Content::Encrypted(cypher) = &sealed.content else { panic!("encrypted") };
    let block = 2048 / 8;
    assert_eq!(bob.decrypt(&cypher[..block]).unwrap().len(), 32);
    let cut = |len: usize| Value { content: Content::Encrypted(cypher[..len].to_vec()), ..sealed.clone() };
    assert!(matches!(cut(block).decrypt(&bob), Err(OpenError::Content(_))));
    for len in [0, block - 1, block + 1, cypher.len() - 1] {
        assert_eq!(cut(len).decrypt(&bob), Err(OpenError::Decryption), "{len}");
    }
}

#[test]
fn false_signatures() {
    let mut value = value("signed");
    value.id += 1;
    assert_eq!(value.check_signature(), Ok(()), "the id is not signed");
    let Content::Plain(body) = &mut value.content else { panic!("plain") };
    body.ownership.as_mut().unwrap().seq += 1;
    assert_eq!(value.check_signature(), Err(SignatureError::False));
    let Content::Plain(body) = &mut value.content else { panic!("plain") };
    body.ownership.as_mut().unwrap().signature.clear();
    assert_eq!(value.check_signature(), Err(SignatureError::Empty));
    assert!(!value.is_signed() && value.owner().is_some());
    assert_eq!(Value::new(1, 0, []).check_signature(), Err(SignatureError::NoOwner));
}

#[test]
fn values_in_other_forms() {
    let read = |hex: &str| Value::unpack(&hex::decode(hex).unwrap());
    let plain = Value::new(5, 0, *b"hi");
    assert_eq!(
        plain.pack(),
        hex::decode("82a2696405a364617481a4626f647982a47479706500a464617461c4026869").unwrap()
    );
    // Other order, wide integers, data as str and as array, members unknown at every level, not even strings.
    for hex in [
        "83a364617482a4626f647983a464617461a26869a474797065cd0000a17891c0a17a80a26964d30000000000000005c3c2",
        "82a2696405a364617481a4626f647982a47479706500a464617461926869",
        // `seq` and `to` of any type without owner.
        "82a2696405a364617481a4626f647984a47479706500a464617461c4026869a373657180a2746fc0",
    ] {
        let value = read(hex).unwrap();
        assert_eq!(value, plain);
        assert_eq!(value.pack(), plain.pack(), "forwarding makes it canonical");
    }
    assert_eq!(read("81a2696405"), Err(WireError::Missing("dat")));
    assert_eq!(read("81a364617481a4626f647982a47479706500a464617461c400"), Err(WireError::Missing("id")));
    assert_eq!(read("82a2696405a364617480"), Err(WireError::Missing("body")));
    assert_eq!(read("82a2696405a364617481a4626f647981a47479706500"), Err(WireError::Missing("data")));
    assert_eq!(read("82a2696405a364617481a4626f647981a464617461c400"), Err(WireError::Missing("type")));
    assert_eq!(read("82a26964ffa3646174c400"), Err(WireError::Type("id")));
    // An owner needs a sequence number, a signature and a key.
    let owned = |body: &str, tail: &str| read(&format!("82a2696405a3646174{tail}a4626f6479{body}"));
    let rest = "a47479706500a464617461c400";
    assert_eq!(owned(&format!("83a56f776e6572c40100{rest}"), "81"), Err(WireError::Missing("seq")));
    assert_eq!(owned(&format!("84a56f776e6572c40100a373657100{rest}"), "81"), Err(WireError::Missing("sig")));
    let nobody = format!("84a56f776e6572c40100a373657100{rest}");
    assert_eq!(owned(&nobody, "82a3736967c40101"), Err(WireError::OwnerKey));
    // Without a proof nobody is the owner, however the emptiness is written.
    for empty in ["c400", "a0", "90"] {
        assert_eq!(owned(&nobody, &format!("82a3736967{empty}")), Err(WireError::EmptySignature));
    }
    // Without an owner a signature means nothing.
    assert!(read("82a2696405a364617482a3736967c400a4626f647982a47479706500a464617461c400").is_ok());
}

#[test]
fn same_content() {
    let signed = value("signed");
    let mut other = signed.clone();
    other.priority = 3;
    assert!(signed.same_content(&other));
    let Content::Plain(body) = &mut other.content else { panic!("plain") };
    body.ownership.as_mut().unwrap().seq = 9;
    assert!(signed.same_content(&other), "the sequence number is not compared");
    let Content::Plain(body) = &mut other.content else { panic!("plain") };
    body.ownership = None;
    assert!(!signed.same_content(&other) && !other.same_content(&signed));
    assert!(value("enc").same_content(&value("enc")));
    assert!(!value("enc").same_content(&value("enc_ice_rsa4096")));
    assert!(!value("enc").same_content(&signed));
}

#[test]
fn queries() {
    let vectors = vectors();
    for (name, vector) in vectors["queries"].as_object().unwrap() {
        let packed = bytes(&vector["hex"]);
        let query = Query::decode(&packed).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(query.encode(), packed, "{name}");
        assert_eq!(query.to_string().parse(), Ok(query), "{name}");
    }
    let read = |hex: &str| Query::decode(&hex::decode(hex).unwrap());
    assert_eq!(read("82a17390a1779182a16604a17605"), Err(WireError::UnknownField(4)));
    assert_eq!(read("82a1739106a17790"), Err(WireError::UnknownField(6)));
    assert_eq!(read("81a17390"), Err(WireError::Missing("w")));
    assert_eq!(read("81a17790"), Err(WireError::Missing("s")));
    assert_eq!(read(&format!("82a173dc0041{}a17790", "01".repeat(65))), Err(WireError::TooMany("s")));
}

#[test]
fn queries_match_fields() {
    let [signed, plain, sealed] = ["signed", "plain", "enc"].map(value);
    let owner = signed.owner_id().unwrap();
    assert_eq!(
        owner.to_string(),
        load(include_str!("vectors/crypto.json"))["keys"]["alice"]["id_sha1"].as_str().unwrap()
    );
    let matches = |text: &str| {
        let query: Query = text.parse().unwrap();
        [&signed, &plain, &sealed].map(|value| query.matches(value))
    };
    assert_eq!(matches(""), [true; 3]);
    assert_eq!(matches("WHERE id=42"), [true, false, false]);
    assert_eq!(matches(&format!("WHERE owner_pk={owner}")), [true, false, false]);
    assert_eq!(matches("WHERE user_type=text/plain,value_type=0"), [true, false, false]);
    assert_eq!(matches("WHERE value_type=65536"), [false; 3]);
    assert_eq!(matches(&format!("WHERE owner_pk={}", InfoHash::ZERO)), [false, true, true]);
    let rows = Query::select([towline_dht::Field::Owner, towline_dht::Field::Id]).rows([&signed, &sealed]);
    assert_eq!(rows.fields, [towline_dht::Field::Id, towline_dht::Field::Owner]);
    assert_eq!(rows.rows[0][1].owner(), Some(owner));
    assert_eq!(rows.rows[1][1].owner(), None);
}

/// Reads the payload of a vector, checks it, writes it again.
fn payload<P: Payload + PartialEq + std::fmt::Debug>(name: &str, expected: &P) {
    let value = value(name);
    assert_eq!(value.value_type(), P::TYPE);
    assert_eq!(P::decode(value.data()).as_ref(), Ok(expected), "{name}");
    assert_eq!(expected.to_value(1), value, "{name}");
    for len in 0..value.data().len() {
        assert!(P::decode(&value.data()[..len]).is_err(), "{name} cut at {len}");
    }
}

#[test]
fn payloads() {
    payload("type1_DhtMessage", &DhtMessage { service: "svc".into(), data: vec![1, 2, 3] });
    payload("type2_IpService_v4", &IpServiceAnnouncement { address: "192.0.2.1:5060".parse().unwrap() });
    payload("type2_IpService_v6", &IpServiceAnnouncement { address: "[2001:db8::1]:5060".parse().unwrap() });
    let message = ImMessage {
        id: 7,
        message: "hi".into(),
        date: 0x6553_f100,
        status: 0,
        datatype: "text/plain".into(),
        metadata: [("k".to_owned(), "v".to_owned())].into(),
    };
    payload("type3_ImMessage", &message);
    let request = TrustRequest {
        service: "service".into(),
        conversation_id: "conv123".into(),
        payload: vec![9, 8, 7],
        confirm: false,
        invited_ms: None,
    };
    payload("type4_TrustRequest", &request);
    let request = TrustRequest { invited_ms: Some(1_700_000_000_000), confirm: true, ..request };
    assert_eq!(TrustRequest::decode(&request.encode()), Ok(request));
    payload("type5_IceCandidates", &IceCandidates { id: 0x0102_0304_0506_0708, data: vec![1, 2, 3] });
}

#[test]
fn certificates() {
    for name in ["type8_cert_selfsigned", "type8_cert_chain"] {
        let value = value(name);
        let chain = types::decode_certificate(value.data()).unwrap();
        assert_eq!(types::certificate_value(&chain), value, "{name}");
        assert_eq!(types::certificate_of(&value, &chain.device_id()), Some(chain.clone()));
        assert_eq!(types::certificate_of(&value, &[0; 32].into()), None);
        // PEM without the bin and DER without the bin are read too; DER in a bin is not.
        assert_eq!(types::decode_certificate(chain.pack().as_bytes()).as_ref(), Ok(&chain));
        let der = chain.leaf().der();
        assert_eq!(types::decode_certificate(der).unwrap().device_id(), chain.device_id());
        let mut boxed = vec![0xc5];
        boxed.extend((der.len() as u16).to_be_bytes());
        boxed.extend(der);
        assert!(types::decode_certificate(&boxed).is_err());
    }
    let certificates = load(include_str!("vectors/certificates.json"));
    for certificate in certificates["certificates"].as_array().unwrap() {
        let chain = Chain::unpack(certificate["pem"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(types::decode_certificate(&types::certificate_payload(&chain)), Ok(chain));
    }
}

#[test]
fn derived_keys() {
    let crypto = load(include_str!("vectors/crypto.json"));
    for (name, key) in crypto["keys"].as_object().unwrap() {
        let public = PublicKey::from_spki_der(&bytes(&key["spki_der"])).unwrap();
        let is =
            |id: InfoHash, field: &str| assert_eq!(id.to_string(), key[field].as_str().unwrap(), "{name}");
        is(public.short_id().into(), "id_sha1");
        is(InfoHash::of_certificate(&public.device_id()), "cert_dht_key_ge_3_5");
        is(InfoHash::of_certificate_legacy(&public.short_id()), "cert_dht_key_legacy");
        is(InfoHash::of_identified_node(&public.short_id()), "node_id");
    }
}

#[test]
fn state_file() {
    let file = bytes(&load(include_str!("vectors/persist.json"))["hex"]);
    let state = State::decode(&file).unwrap();
    assert_eq!(state.id.to_string(), "977edba64dea8038f5c68648e6dd18f1d0a09e38");
    assert_eq!(state.nodes[0].address, "127.0.0.1:17062".parse().unwrap());
    assert_eq!(state.values.len(), 2);
    assert_eq!(state.values[0].key, InfoHash([0xab; 20]));
    assert_eq!(state.values[0].value.data(), b"persisted");
    assert_eq!((state.values[0].created, state.values[0].expires), (None, None));

    let mut newer = state.clone();
    let mut another = newer.values[0].clone();
    another.value = Arc::new(value("signed"));
    newer.values.insert(1, another);
    for (i, stored) in newer.values.iter_mut().enumerate() {
        // The second is beyond 32 bits, the third before the epoch.
        stored.created = Some([1_800_000_000, 1 << 33, -5][i]);
        stored.expires = stored.created.map(|created| created + 600);
        stored.storer = (i != 0).then(|| "[2001:db8::1]:4222".parse().unwrap());
    }
    assert_eq!(State::decode(&newer.encode()), Ok(newer.clone()));
    assert_eq!(State::decode(&State::default().encode()), Ok(State::default()));

    for len in 0..file.len() {
        assert!(State::decode(&file[..len]).is_err(), "cut at {len}");
    }
    assert_eq!(State::decode(&[0x80]), Err(WireError::Missing("v")));
    assert_eq!(State::decode(&[0x81, 0xa1, b'v', 2]), Err(WireError::Range("v")));
    // One bad node and one bad value do not cost the others.
    let mut damaged = newer.encode();
    let port = damaged.windows(2).position(|window| window == [2, 0]).unwrap();
    damaged[port] = 77;
    let state = State::decode(&damaged).unwrap();
    assert_eq!((state.nodes.len(), state.values.len()), (0, 3));
}

#[test]
fn timestamps_with_nanoseconds() {
    let plain = Value::new(1, 0, *b"x").pack();
    let mut blob = vec![0x91, 0x94, 0xd7, 0xff];
    blob.extend(((123_u64 << 34) + 1_800_000_000).to_be_bytes());
    blob.extend(&plain);
    blob.extend([0xc4, 0, 0xd6, 0xff]);
    blob.extend(1_800_000_600_u32.to_be_bytes());
    let mut file = hex::decode("82a17601a676616c7565739192c414").unwrap();
    file.extend([5; 20]);
    file.extend([0xc4, blob.len() as u8]);
    file.extend(blob);
    let state = State::decode(&file).unwrap();
    assert_eq!(state.values[0].created, Some(1_800_000_000));
    assert_eq!(state.values[0].expires, Some(1_800_000_600));
    assert_eq!(state.values[0].storer, None);
}

#[test]
fn discovery_packets() {
    for packet in load(include_str!("vectors/discovery.json"))["packets"].as_array().unwrap() {
        let datagram = bytes(&packet["hex"]);
        let packet = Packet::decode(&datagram).unwrap();
        assert_eq!(packet.encode(), datagram);
    }
}
