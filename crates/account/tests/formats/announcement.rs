use towline_account::DeviceAnnouncement;
use towline_account::announcement::{self, AnnouncementError};
use towline_dht::value::SignatureError;
use towline_dht::{Value, types};
use towline_identity::{AccountId, Identity};

use crate::{ALICE, BOB, damaged};

/// Put by a daemon of 2023.
const JAMI: &[u8] = include_bytes!("../vectors/announcement.bin");
const ACCOUNT: &str = "7663316506b99ee6e12e6c77bd9f1a1b6d792c53";
const SHORT_ID: &str = "3ca5b8fd8886396a5c214a3f97608303e9dccde3";
const LONG_ID: &str = "b833b072f8dd7d622e85fa9c2cb59c0a8142b8ece050104d57a81d653088cfe8";

fn id_of(account: &Identity) -> AccountId {
    account.short_id().into()
}

#[test]
fn jamis_is_read_and_written_again() {
    let value = Value::unpack(JAMI).unwrap();
    assert_eq!(value.pack(), JAMI);
    let account = ACCOUNT.parse().unwrap();
    let read = DeviceAnnouncement::read(&value, account).unwrap();
    assert_eq!(read.device.to_string(), SHORT_ID);
    assert_eq!(read.device_id().unwrap().to_string(), LONG_ID);
    assert_eq!(announcement::key(account).to_string(), ACCOUNT);
    // What it says, said by us: the same payload, byte for byte.
    let ours = DeviceAnnouncement::sign(&ALICE.account, read.key.as_ref().unwrap());
    assert_eq!(ours.data(), value.data());
    assert_eq!((ours.id, ours.seq(), ours.priority, ours.value_type()), (0, 0, 0, 0));
}

#[test]
fn ours_is_read() {
    let device = ALICE.device.chain().public_key();
    let value = Value::unpack(&DeviceAnnouncement::sign(&ALICE.account, device).pack()).unwrap();
    let read = DeviceAnnouncement::read(&value, id_of(&ALICE.account)).unwrap();
    assert_eq!(read, DeviceAnnouncement { device: device.short_id(), key: Some(device.clone()) });
    assert_eq!(read.device_id(), Some(ALICE.device.device_id()));
}

#[test]
fn each_rule_is_checked() {
    let account = id_of(&ALICE.account);
    let device = ALICE.device.chain().public_key();
    let read = |value: &Value| DeviceAnnouncement::read(value, account).unwrap_err();
    let signed = |value_type, data: &[u8]| {
        let mut value = Value::new(1, value_type, data);
        value.sign(ALICE.account.key(), 0).unwrap();
        value
    };
    let good = DeviceAnnouncement::sign(&ALICE.account, device);

    assert_eq!(
        DeviceAnnouncement::read(&good, id_of(&BOB.account)),
        Err(AnnouncementError::Owner(account)),
        "found at another account's key"
    );
    let forged = DeviceAnnouncement::sign(&BOB.account, device);
    assert_eq!(read(&forged), AnnouncementError::Owner(id_of(&BOB.account)));
    let by_the_device = DeviceAnnouncement::sign(&ALICE.device, device);
    assert_eq!(read(&by_the_device), AnnouncementError::Owner(ALICE.device.short_id().into()));

    let mut changed = good.pack();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let changed = Value::unpack(&changed).unwrap();
    assert_eq!(read(&changed), AnnouncementError::Signature(SignatureError::False));
    let unsigned = Value::new(1, types::USER_DATA, good.data());
    assert_eq!(read(&unsigned), AnnouncementError::Signature(SignatureError::NoOwner));
    let sealed = good.encrypt_for(device, ALICE.account.key(), 0).unwrap();
    assert_eq!(read(&sealed), AnnouncementError::Signature(SignatureError::Encrypted));
    assert_eq!(read(&signed(types::TRUST_REQUEST, good.data())), AnnouncementError::Type(4));

    let short_id = device.short_id();
    let bobs = BOB.device.chain().public_key();
    let with_key = |spki: &[u8]| {
        let len = (spki.len() as u16).to_be_bytes();
        let parts: [&[u8]; 6] = [b"\x82\xa3dev\xc4\x14", short_id.as_bytes(), b"\xa2pk", &[0xc5], &len, spki];
        signed(0, &parts.concat())
    };
    assert_eq!(
        read(&with_key(bobs.spki_der())),
        AnnouncementError::OtherKey { device: short_id, key: bobs.short_id() }
    );
    assert!(matches!(read(&with_key(b"no key")), AnnouncementError::Key(_)));

    for bad in [
        &b""[..],
        b"\xc0",
        b"\x80",
        b"\x81\xa3dev\xc4\x13...................",
        b"\x81\xa3dev\xd9\x14....................",
        b"\x81\xa3dev\xc4\xff",
        b"\xdf\xff\xff\xff\xff\xa3dev",
        &[0x91; 5000],
    ] {
        assert_eq!(read(&signed(0, bad)), AnnouncementError::Malformed, "{bad:?}");
    }
    let future = [b"\x82\xa3new\x93\x01\x02\x03\xa3dev\xc4\x14", &short_id.as_bytes()[..]].concat();
    let old = DeviceAnnouncement::read(&signed(0, &future), account).unwrap();
    assert_eq!(old, DeviceAnnouncement { device: short_id, key: None });
    assert_eq!(old.device_id(), None);
}

#[test]
fn damage_is_found() {
    let account = ACCOUNT.parse().unwrap();
    let whole = DeviceAnnouncement::read(&Value::unpack(JAMI).unwrap(), account).unwrap();
    for end in 0..JAMI.len() {
        assert!(Value::unpack(&JAMI[..end]).is_err());
    }
    for bytes in damaged(JAMI, 2000) {
        // Damage outside of what is signed, as in the id, does not matter.
        if let Ok(value) = Value::unpack(&bytes)
            && let Ok(read) = DeviceAnnouncement::read(&value, account)
        {
            assert_eq!(read, whole);
        }
    }
}
