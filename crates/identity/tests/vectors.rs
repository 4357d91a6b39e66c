//! Bytes that OpenDHT made, in both directions.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::Value;
use towline_identity::{
    Certificate, Chain, ChainError, Curve, DeviceId, EncryptError, KeyKind, LinkError, PrivateKey,
    PrivateKeyError, PublicKey, ShortId, VerifyError, open_with_password, seal_with_password, stretch_key,
    stretched_hash,
};

fn crypto() -> Value {
    serde_json::from_str(include_str!("vectors/crypto.json")).unwrap()
}

fn certificates() -> Value {
    serde_json::from_str(include_str!("vectors/certificates.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

fn key(name: &str) -> PrivateKey {
    PrivateKey::from_pkcs8_pem(text(&crypto()["keys"][name]["private_pkcs8_pem"]), None).unwrap()
}

#[test]
fn keys_and_ids() {
    for (name, vector) in crypto()["keys"].as_object().unwrap() {
        let public = PublicKey::from_spki_der(&bytes(&vector["spki_der"])).unwrap();
        assert_eq!(public.short_id().to_string(), text(&vector["id_sha1"]));
        assert_eq!(public.device_id().to_string(), text(&vector["long_id_sha256"]));
        let pem = text(&vector["private_pkcs8_pem"]);
        if name == "ec" {
            assert_eq!(public.kind(), KeyKind::Ec(Curve::P384));
            assert_eq!(PrivateKey::from_pkcs8_pem(pem, None).unwrap_err(), PrivateKeyError::NotRsa);
            continue;
        }
        let private = PrivateKey::from_pkcs8_pem(pem, None).unwrap();
        assert_eq!(*private.public(), public);
        assert_eq!(private.public().spki_der(), bytes(&vector["spki_der"]));
        let again = PrivateKey::from_pkcs8_der(&private.to_pkcs8_der()).unwrap();
        assert_eq!(*again.public(), public);
        assert_eq!(private.to_pkcs8_pem(None).trim(), pem.trim(), "the very bytes");
    }
}

#[test]
fn signatures() {
    let vectors = crypto();
    let message = bytes(&vectors["sign"]["message"]);
    let signature = bytes(&vectors["sign"]["rsa_alice_signature"]);
    let alice = key("alice");
    assert_eq!(alice.sign(&message), signature, "signatures are deterministic");
    assert_eq!(alice.public().verify(&message, &signature), Ok(()));
    assert_eq!(alice.public().verify(b"another", &signature), Err(VerifyError::False));
    assert_eq!(alice.public().verify(&message, &[]), Err(VerifyError::False));
    assert_eq!(key("bob").public().verify(&message, &signature), Err(VerifyError::False));
    let ec = PublicKey::from_spki_der(&bytes(&vectors["keys"]["ec"]["spki_der"])).unwrap();
    let signature = bytes(&vectors["sign"]["ec_signature_ecdsa_sha512"]);
    assert_eq!(ec.verify(&message, &signature), Err(VerifyError::NotRsa));
    assert_eq!(ec.encrypt(b"x"), Err(EncryptError::NotRsa));
}

#[test]
fn encryption() {
    let vectors = crypto();
    let bob = key("bob");
    let cipher = bytes(&vectors["rsa_only"]["cypher_for_bob"]);
    assert_eq!(bob.decrypt(&cipher).unwrap(), bytes(&vectors["rsa_only"]["plain"]));
    for (name, len) in [("245_bytes_of_0x41", 245), ("246_bytes_of_0x41", 246)] {
        let cipher = bytes(&vectors["rsa_limit"][name]);
        assert_eq!(bob.decrypt(&cipher).unwrap(), vec![0x41; len]);
        let ours = bob.public().encrypt(&vec![0x41; len]).unwrap();
        assert_eq!(ours.len(), cipher.len());
        assert_eq!(bob.decrypt(&ours).unwrap(), vec![0x41; len]);
        assert!(key("alice").decrypt(&ours).is_err());
    }
    let carol = key("carol");
    for len in [0, 1, 501, 502, 60_000] {
        let plain = vec![7; len];
        assert_eq!(carol.decrypt(&carol.public().encrypt(&plain).unwrap()).unwrap(), plain);
    }
}

#[test]
fn damaged_ciphertext_is_one_error() {
    let bob = key("bob");
    let cipher = bob.public().encrypt(&[1; 400]).unwrap();
    // Cut to exactly the RSA block it is a message of its own: the AES key. The format cannot tell.
    for len in (0..cipher.len()).filter(|len| *len != 256) {
        assert!(bob.decrypt(&cipher[..len]).is_err(), "cut to {len}");
    }
    for index in (0..cipher.len()).step_by(13) {
        let mut damaged = cipher.clone();
        damaged[index] ^= 1;
        assert!(bob.decrypt(&damaged).is_err(), "byte {index}");
    }
}

#[test]
fn passwords() {
    let vectors = crypto();
    let stretch = &vectors["stretch"];
    let (password, salt) = (text(&stretch["password"]), bytes(&stretch["salt"]));
    for (name, len) in [("len20_sha1", 20), ("len32_sha256", 32), ("len64_sha512", 64)] {
        assert_eq!(**stretch_key(password, &salt, len).unwrap(), bytes(&stretch[name]));
    }
    assert!(stretch_key(password, &[1; 7], 32).is_err());
    let blob = &vectors["password_blob"];
    let (password, plain) = (text(&blob["password"]), bytes(&blob["plain"]));
    assert_eq!(**open_with_password(&bytes(&blob["out"]), password).unwrap(), plain);
    assert!(open_with_password(&bytes(&blob["out"]), "wrong").is_err());
    assert!(open_with_password(&[0; 43], password).is_err());
    let ours = seal_with_password(&plain, password).unwrap();
    assert_eq!(ours.len(), bytes(&blob["out"]).len());
    assert_eq!(**open_with_password(&ours, password).unwrap(), plain);
}

#[test]
fn hashes() {
    let vectors = crypto();
    let input = bytes(&vectors["hash"]["input"]);
    for (name, len) in [("len20", 20), ("len24", 24), ("len32", 32), ("len64", 64)] {
        assert_eq!(stretched_hash(&input, len), bytes(&vectors["hash"][name]));
    }
    assert_eq!(ShortId::of_spki(b"foo").to_string(), text(&vectors["infohash"]["\"foo\""]));
}

#[test]
fn encrypted_private_key() {
    let vectors = crypto();
    let vector = &vectors["encrypted_private_key"];
    let (pem, password) = (text(&vector["pem"]), text(&vector["password"]));
    let carol = PrivateKey::from_pkcs8_pem(pem, Some(password)).unwrap();
    assert_eq!(carol.public(), key("carol").public());
    let surrounded = format!("a note\n{pem}\nand another\n");
    assert!(PrivateKey::from_pkcs8_pem(&surrounded, Some(password)).is_ok());
    assert_eq!(PrivateKey::from_pkcs8_pem(pem, None).unwrap_err(), PrivateKeyError::PasswordNeeded);
    assert_eq!(PrivateKey::from_pkcs8_pem(pem, Some("no")).unwrap_err(), PrivateKeyError::Password);
    let ours = carol.to_pkcs8_pem(Some(password));
    assert_eq!(
        PrivateKey::from_pkcs8_pem(&ours, Some(password)).unwrap().public(),
        carol.public(),
        "what we write we read"
    );
}

/// Unix time of `2026-11-21 07:41:07`.
fn unix(text: &str) -> i64 {
    let number: Vec<i64> = text.split(['-', ' ', ':']).map(|part| part.parse().unwrap()).collect();
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut days: i64 = (1970..number[0]).map(|year| 365 + i64::from(leap(year))).sum();
    days += months[..number[1] as usize - 1].iter().sum::<i64>();
    days += i64::from(leap(number[0]) && number[1] > 2) + number[2] - 1;
    days * 86_400 + number[3] * 3600 + number[4] * 60 + number[5]
}

fn check_facts(certificate: &Certificate, facts: &Value) {
    let name = |name: &towline_identity::Name| {
        format!("UID={},CN={}", name.uid.as_ref().unwrap(), name.common.as_ref().unwrap())
    };
    assert_eq!(name(certificate.subject()), text(&facts["subject"]));
    assert_eq!(name(certificate.issuer()), text(&facts["issuer"]));
    assert_eq!(certificate.validity().not_before, unix(text(&facts["not_before"])));
    assert_eq!(certificate.validity().not_after, unix(text(&facts["not_after"])));
    let serial = i64::from_be_bytes(certificate.serial().try_into().unwrap());
    let sign = if serial < 0 { "-" } else { "" };
    assert_eq!(format!("{sign}{:#x}", serial.unsigned_abs()), text(&facts["serial"]));
    let kind = match certificate.public_key().kind() {
        KeyKind::Rsa { bits } => format!("RSAPublicKey {bits}"),
        KeyKind::Ec(Curve::P384) => "ECPublicKey 384".to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind, text(&facts["key"]));
    let is_ca = facts["extensions"].as_array().unwrap().iter().any(|e| e["oid"] == "2.5.29.19");
    assert_eq!(certificate.is_ca(), is_ca);
}

#[test]
fn opendht_certificates() {
    for vector in certificates()["certificates"].as_array().unwrap() {
        let pem = text(&vector["pem"]);
        let chain = Chain::unpack(pem.as_bytes()).unwrap();
        let facts = vector["parsed"].as_array().unwrap();
        assert_eq!(chain.certificates().len(), facts.len(), "{}", vector["name"]);
        for (certificate, facts) in chain.certificates().iter().zip(facts) {
            check_facts(certificate, facts);
        }
        assert_eq!(chain.verify_links(), Ok(()), "{}", vector["name"]);
        let top = chain.top();
        assert_eq!(top.verify_issued_by(top), Ok(()), "the root of {}", vector["name"]);
        assert_eq!(chain.pack().trim(), pem.trim(), "packed again, the very text");
        let der: Vec<u8> = chain.certificates().iter().flat_map(|c| c.der().to_vec()).collect();
        assert_eq!(Chain::unpack(&der), Ok(chain.clone()), "DER one after the other");
        let in_msgpack = [b"\xc5\x01\x02", pem.as_bytes()].concat();
        assert_eq!(Chain::unpack(&in_msgpack), Ok(chain.clone()), "PEM after a msgpack header");
        if vector["name"] != "from_csr" {
            assert_eq!(chain.leaf().subject().short_id(), Some(chain.short_id()));
        }
        assert_eq!(chain.device_id(), DeviceId::of_spki(chain.public_key().spki_der()));
        assert_eq!(chain.account_id(), chain.account().map(|a| a.short_id().into()));
        assert_eq!(chain.verify_validity(unix("2026-11-22 00:00:00")), Ok(()));
        assert_eq!(chain.verify_validity(unix("2040-01-01 00:00:00")), Err(ChainError::Expired { index: 0 }));
        assert_eq!(chain.verify_validity(0), Err(ChainError::NotYetValid { index: 0 }));
    }
}

#[test]
fn chains_that_do_not_hold() {
    let vectors = certificates();
    let chain = |name: &str| {
        let all = vectors["certificates"].as_array().unwrap();
        let vector = all.iter().find(|v| v["name"] == name).unwrap();
        Chain::unpack(text(&vector["pem"]).as_bytes()).unwrap()
    };
    let (alone, pair) = (chain("selfsigned_rsa2048"), chain("from_csr"));
    let stranger = Chain::new([pair.leaf().clone(), alone.leaf().clone()]).unwrap();
    assert_eq!(stranger.verify_links(), Err(ChainError::Link { index: 0, error: LinkError::Issuer }));
    let not_ca = pair.leaf().verify_issued_by(pair.leaf());
    assert_eq!(not_ca, Err(LinkError::Issuer));
    assert_eq!(pair.leaf().verify_signed_by(alone.public_key()), Err(LinkError::Signature));
    let ec = chain("ec_ca");
    assert_eq!(pair.leaf().verify_signed_by(ec.public_key()), Err(LinkError::Algorithm));
    let mut der = pair.leaf().der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let damaged = Certificate::from_der(&der).unwrap();
    assert_eq!(damaged.verify_issued_by(pair.top()), Err(LinkError::Signature));
}
