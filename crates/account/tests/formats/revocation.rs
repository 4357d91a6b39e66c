use towline_account::revocation::{self, RevocationValueError};
use towline_account::{Archive, DeviceAnnouncement};
use towline_dht::{Value, types};
use towline_identity::{RevocationListError, Revocations};

use crate::{ALICE, BOB, NOW, damaged};

/// Put by a daemon of 2023 after it had revoked a device.
const JAMI: &[u8] = include_bytes!("../vectors/revocation-value.bin");
/// The account that put it.
const ACCOUNT: &[u8] = include_bytes!("../vectors/exported-with-secret.gz");

#[test]
fn jamis_is_read_and_written_again() {
    let found = Value::unpack(JAMI).unwrap();
    assert_eq!(found.pack(), JAMI);
    let list = revocation::read(&found).unwrap();
    let account = Archive::open(ACCOUNT, Some("secret")).unwrap().account;
    assert_eq!(list.verify_issued_by(account.chain().leaf()), Ok(()));
    assert_eq!(list.serials().len(), 1);
    let mut ours = revocation::value(&list);
    assert_eq!(ours.id, 0);
    ours.id = found.id;
    assert_eq!(ours.pack(), JAMI);
    assert_eq!(revocation::key(account.short_id().into()).as_bytes(), account.short_id().as_bytes());
    assert!(DeviceAnnouncement::read(&found, account.short_id().into()).is_err());
}

#[test]
fn ours_travels() {
    let device = ALICE.device.chain();
    let list = ALICE.account.revoke(None, &[device.leaf().clone()], NOW).unwrap();
    let value = Value::unpack(&revocation::value(&list).pack()).unwrap();
    let read = revocation::read(&value).unwrap();
    assert_eq!(read, list);
    let mut known = Revocations::new();
    assert_eq!(known.insert(read, device.account().unwrap()), Ok(true));
    assert!(known.check(device).is_err());
    assert!(known.check(BOB.device.chain()).is_ok());
}

#[test]
fn other_values_are_refused_by_name() {
    let read = |value: &Value| revocation::read(value).unwrap_err();
    let device = ALICE.device.chain().public_key();
    let announcement = DeviceAnnouncement::sign(&ALICE.account, device);
    assert_eq!(read(&announcement), RevocationValueError::Malformed);
    let sealed = announcement.encrypt_for(device, ALICE.account.key(), 0).unwrap();
    assert_eq!(read(&sealed), RevocationValueError::Type);
    assert_eq!(read(&Value::new(1, types::DHT_MESSAGE, *b"\xc4\0")), RevocationValueError::Type);
    let data = |data: &[u8]| read(&Value::new(1, types::USER_DATA, data));
    assert_eq!(data(b""), RevocationValueError::Malformed);
    assert_eq!(data(b"\xc6\xff\xff\xff\xff"), RevocationValueError::Malformed);
    assert_eq!(data(b"\x30\x03\x02\x01\x01"), RevocationValueError::Malformed, "DER without its wrapping");
    assert_eq!(data(b"\xc4\x01."), RevocationValueError::List(RevocationListError::Malformed));
}

#[test]
fn damage_is_found() {
    let whole = revocation::read(&Value::unpack(JAMI).unwrap()).unwrap();
    let account = Archive::open(ACCOUNT, Some("secret")).unwrap().account;
    for bytes in damaged(JAMI, 2000) {
        if let Ok(value) = Value::unpack(&bytes)
            && let Ok(list) = revocation::read(&value)
            && list.signed_part() != whole.signed_part()
        {
            assert!(list.verify_issued_by(account.chain().leaf()).is_err());
        }
    }
}
