use std::io::{Read, Write};

use data_encoding::BASE64;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use towline_account::archive::{ArchiveError, MAX_ARCHIVE_JSON_LEN, MAX_ARCHIVE_LEN};
use towline_account::contacts::Contact;
use towline_account::{Archive, VCard};
use towline_identity::{
    AccountId, Certificate, ChainError, Identity, LinkError, PrivateKey, PrivateKeyError, open_with_password,
};

use crate::{ALICE, BOB, NOW, damaged};

/// What a daemon of 2023 keeps of a new account.
const NEW: &[u8] = include_bytes!("../vectors/new.gz");
/// What it exports of one that has a contact, has banned somebody, and has a conversation. The password is `secret`.
const WITH_SECRET: &[u8] = include_bytes!("../vectors/exported-with-secret.gz");
/// What it exports of one that has revoked three devices.
const WITH_REVOCATIONS: &[u8] = include_bytes!("../vectors/exported-with-revocations.gz");

fn id(identity: &Identity) -> AccountId {
    identity.short_id().into()
}

fn unzip(file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzDecoder::new(file).read_to_end(&mut out).unwrap();
    out
}

fn zip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn alice() -> Archive {
    Archive::new(ALICE.account.clone(), Some(ALICE.authority.key().clone()))
}

fn alice_json() -> Value {
    serde_json::from_slice(&unzip(&alice().seal(None).unwrap())).unwrap()
}

fn open_json(json: &Value) -> Result<Archive, ArchiveError> {
    Archive::open(&zip(json.to_string().as_bytes()), None)
}

#[test]
fn a_new_account_of_jami() {
    let archive = Archive::open(NEW, None).unwrap();
    assert_eq!(id(&archive.account).to_string(), "bee08a379791623246471446a9b9c66e4289bb41");
    assert_eq!(archive.account.chain().certificates().len(), 2);
    assert_eq!(
        archive.authority_key.as_ref().map(PrivateKey::public),
        archive.account.chain().account().map(Certificate::public_key)
    );
    assert_eq!((archive.contacts.iter().count(), &archive.revocations), (0, &None));
    assert_eq!(archive.members().collect::<Vec<_>>(), ["ethKey"]);
    // Byte for byte what the daemon wrote, apart from how it was compressed.
    assert_eq!(unzip(&archive.seal(None).unwrap()), unzip(NEW));
    // The account signs devices.
    let device = archive.account.issue_device_certificate(
        BOB.device.key().public(),
        "x",
        towline_identity::Validity::ten_years_from(NOW),
    );
    assert_eq!(device.unwrap().verify_links(), Ok(()));
}

#[test]
fn revocations_of_jami() {
    let archive = Archive::open(WITH_REVOCATIONS, Some("")).unwrap();
    let list = archive.revocations.as_ref().unwrap();
    assert_eq!(list.serials().len(), 3);
    assert_eq!(list.verify_issued_by(archive.account.chain().leaf()), Ok(()));
    assert_eq!(archive.text("Account.displayName").as_deref(), Some("a"));
    assert_eq!(unzip(&archive.seal(None).unwrap()), unzip(WITH_REVOCATIONS));
}

#[test]
fn a_password_of_jami() {
    assert_eq!(Archive::open(WITH_SECRET, None).unwrap_err(), ArchiveError::PasswordNeeded);
    assert_eq!(Archive::open(WITH_SECRET, Some("")).unwrap_err(), ArchiveError::PasswordNeeded);
    assert_eq!(Archive::open(WITH_SECRET, Some("Secret")).unwrap_err(), ArchiveError::Password);
    let archive = Archive::open(WITH_SECRET, Some("secret")).unwrap();
    assert_eq!(id(&archive.account).to_string(), "3b22bdabee1b437343cedebc05de968e2d5bf7c7");

    let friend: AccountId = "bee08a379791623246471446a9b9c66e4289bb41".parse().unwrap();
    let contact = archive.contacts.get(friend).unwrap();
    assert!(contact.is_active() && contact.confirmed && !contact.banned, "{contact:?}");
    assert_eq!(contact.conversation_id.len(), 40);
    let banned: AccountId = "00112233445566778899aabbccddeeff00112233".parse().unwrap();
    let contact = archive.contacts.get(banned).unwrap();
    assert!(contact.banned && !contact.is_active(), "{contact:?}");
    let conversations: Value = serde_json::from_str(archive.member("conversations").unwrap()).unwrap();
    assert!(conversations[&archive.contacts.get(friend).unwrap().conversation_id]["members"].is_array());

    // Back under another password: salt and nonce are new, what is inside is the same.
    let sealed = archive.seal(Some("pässword")).unwrap();
    let inside = |file: &[u8], password| {
        let mut out = Vec::new();
        let opened = open_with_password(file, password).unwrap();
        ZlibDecoder::new(&opened[..]).read_to_end(&mut out).unwrap();
        out
    };
    let (theirs, ours) = (inside(WITH_SECRET, "secret"), inside(&sealed, "pässword"));
    assert_eq!(String::from_utf8(ours), String::from_utf8(theirs));
}

#[test]
fn ours_is_read() {
    let mut archive = alice();
    let mut friend = Contact::default();
    (friend.added, friend.confirmed, friend.name) = (NOW, true, Some("Bob".into()));
    assert!(archive.contacts.restore(id(&BOB.account), friend.clone()));
    archive.revocations =
        Some(ALICE.account.revoke(None, &[ALICE.device.chain().leaf().clone()], NOW).unwrap());
    assert!(archive.set_text("Account.displayName", "Ali\"ce"));
    assert!(!archive.set_text("ringAccountKey", "x"));
    let file = archive.seal(None).unwrap();
    // The password of a file that has none does not matter.
    for password in [None, Some(""), Some("secret")] {
        let read = Archive::open(&file, password).unwrap();
        assert_eq!(read.account.chain(), ALICE.account.chain());
        assert_eq!(read.account.key().to_pkcs8_der(), ALICE.account.key().to_pkcs8_der());
        assert_eq!(read.authority_key.as_ref().unwrap().public(), ALICE.authority.key().public());
        assert_eq!(read.revocations, archive.revocations);
        assert_eq!(read.contacts.get(id(&BOB.account)), Some(&friend));
        assert_eq!(read.text("Account.displayName").as_deref(), Some("Ali\"ce"));
        assert_eq!(read.seal(None), Ok(file.clone()), "equal contents are equal files");
    }
    let mut read = Archive::open(&file, None).unwrap();
    assert!(read.remove("Account.displayName") && !read.remove("Account.displayName"));
    assert_eq!(read.members().count(), 0);
    assert!(!format!("{read:?}").contains("PRIVATE"));
}

#[test]
fn members_may_be_empty_or_unknown() {
    let mut json = alice_json();
    json["ringCaKey"] = json!("");
    json["ringAccountCRL"] = Value::Null;
    json["ringAccountContacts"] = Value::Null;
    json["new"] = json!({"deep": [1, 2.50, {"x": null}]});
    let archive = open_json(&json).unwrap();
    assert!(archive.authority_key.is_none() && archive.revocations.is_none());
    assert_eq!(archive.member("new"), Some(r#"{"deep":[1,2.5,{"x":null}]}"#));
    assert_eq!(archive.text("new"), None);
    // A number that no float holds stays what it was.
    let huge = json.to_string().replace("2.5", "1234567890123456789012345678901234567890.10");
    let archive = Archive::open(&zip(huge.as_bytes()), None).unwrap();
    let again = unzip(&archive.seal(None).unwrap());
    assert!(String::from_utf8(again).unwrap().contains("1234567890123456789012345678901234567890.10"));
    // Keys in DER, as old programs had them, and a list in PEM.
    let list = ALICE.account.revoke(None, &[], NOW).unwrap();
    json["ringAccountKey"] = json!(BASE64.encode(&ALICE.account.key().to_pkcs8_der()));
    json["ringAccountCRL"] = json!(BASE64.encode(list.to_pem().as_bytes()));
    assert_eq!(open_json(&json).unwrap().revocations, Some(list));
}

#[test]
fn bad_archives_are_refused_by_name() {
    let refused = |member: &str, value: Value| {
        let mut json = alice_json();
        json[member] = value;
        open_json(&json).unwrap_err()
    };
    let bob: Value = {
        let archive = Archive::new(BOB.account.clone(), Some(BOB.authority.key().clone()));
        serde_json::from_slice(&unzip(&archive.seal(None).unwrap())).unwrap()
    };
    assert_eq!(refused("ringAccountKey", json!("")), ArchiveError::Missing("ringAccountKey"));
    assert_eq!(refused("ringAccountKey", json!(7)), ArchiveError::Member("ringAccountKey"));
    assert_eq!(refused("ringAccountKey", json!("?")), ArchiveError::Member("ringAccountKey"));
    let key = |error| ArchiveError::Key { member: "ringAccountKey", error };
    assert_eq!(refused("ringAccountKey", json!("AAAA")), key(PrivateKeyError::NotRsa));
    let broken_pem = BASE64.encode(b"-----BEGIN \xff");
    assert_eq!(refused("ringAccountKey", json!(broken_pem)), key(PrivateKeyError::Pem));
    assert!(matches!(refused("ringAccountKey", bob["ringAccountKey"].clone()), ArchiveError::Mismatch(_)));
    assert!(matches!(refused("ringAccountCert", bob["ringAccountCert"].clone()), ArchiveError::Mismatch(_)));
    assert_eq!(refused("ringAccountCert", json!("")), ArchiveError::Missing("ringAccountCert"));
    assert!(matches!(refused("ringAccountCert", json!("AAAA")), ArchiveError::Chain(_)));
    let mixed = [ALICE.account.chain().leaf().to_pem(), BOB.authority.chain().pack()].concat();
    assert_eq!(
        refused("ringAccountCert", json!(BASE64.encode(mixed.as_bytes()))),
        ArchiveError::Chain(ChainError::Link { index: 0, error: LinkError::Issuer })
    );
    assert_eq!(refused("ringCaKey", bob["ringCaKey"].clone()), ArchiveError::OtherAuthority);
    let list = BOB.account.revoke(None, &[], NOW).unwrap();
    assert_eq!(refused("ringAccountCRL", json!(BASE64.encode(list.der()))), ArchiveError::OtherRevocations);
    assert!(matches!(refused("ringAccountCRL", json!("AAAA")), ArchiveError::Revocations(_)));
    for contacts in [json!([]), json!({"x": {"added": 1}}), json!({(BOB.account.short_id().to_string()): 7})]
    {
        assert_eq!(refused("ringAccountContacts", contacts), ArchiveError::Member("ringAccountContacts"));
    }
    let crowd: serde_json::Map<_, _> =
        (0..5000).map(|n| (format!("{n:040x}"), json!({"added": 1}))).collect();
    assert_eq!(refused("ringAccountContacts", Value::Object(crowd)), ArchiveError::TooManyContacts);
    let device = Archive::new(ALICE.device.clone(), None).seal(None).unwrap();
    assert_eq!(Archive::open(&device, None).unwrap_err(), ArchiveError::NotAuthority);
}

#[test]
fn other_files_are_refused() {
    let refused = |file: &[u8]| Archive::open(file, None).unwrap_err();
    assert_eq!(refused(b""), ArchiveError::PasswordNeeded);
    assert_eq!(refused(&VCard::named("x").build().unwrap().into_bytes()), ArchiveError::PasswordNeeded);
    assert_eq!(Archive::open(b"short", Some("x")).unwrap_err(), ArchiveError::Password);
    for json in ["", "7", "[]", "{", r#"{"a":1}x"#] {
        assert_eq!(refused(&zip(json.as_bytes())), ArchiveError::Json, "{json}");
    }
    assert_eq!(refused(&zip(b"{}")), ArchiveError::Missing("ringAccountKey"));
    let deep = ["{\"a\":", &"[".repeat(100_000)].concat();
    assert_eq!(refused(&zip(deep.as_bytes())), ArchiveError::Json);
    let followed = [NEW, b"x"].concat();
    assert_eq!(refused(&followed), ArchiveError::Packed);
    assert_eq!(refused(&[NEW, NEW].concat()), ArchiveError::Packed);
    assert_eq!(refused(&vec![0x1f; MAX_ARCHIVE_LEN + 1]), ArchiveError::TooLong(MAX_ARCHIVE_LEN + 1));
}

/// A thousandth of what it unpacks to: an archive of the greatest length would unpack to 4 GiB.
#[test]
fn bombs_do_not_go_off() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..16 {
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 100_000);
    assert_eq!(Archive::open(&bomb, None).unwrap_err(), ArchiveError::TooMuch);
    // The same under a password, and in the compression that has no place there.
    let sealed = towline_identity::seal_with_password(&bomb, "x").unwrap();
    assert_eq!(Archive::open(&sealed, Some("x")).unwrap_err(), ArchiveError::TooMuch);
    let mut archive = alice();
    archive.set_text("x", &" ".repeat(MAX_ARCHIVE_JSON_LEN));
    assert_eq!(archive.seal(None), Err(ArchiveError::TooMuch));
}

#[test]
fn truncation_and_damage_are_found() {
    for end in (0..NEW.len()).step_by(101).chain(NEW.len() - 20..NEW.len()) {
        let expected = if end < 2 { ArchiveError::PasswordNeeded } else { ArchiveError::Packed };
        assert_eq!(Archive::open(&NEW[..end], None).unwrap_err(), expected, "{end}");
    }
    for file in damaged(NEW, 300) {
        // Name, time and the like in the header do not matter.
        if let Ok(archive) = Archive::open(&file, None) {
            assert_eq!(unzip(&archive.seal(None).unwrap()), unzip(NEW));
        }
    }
    let mut sealed = alice().seal(Some("x")).unwrap();
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    assert_eq!(Archive::open(&sealed, Some("x")).unwrap_err(), ArchiveError::Password);
}
