//! What others say of themselves on the DHT and in requests, and what lies on disk of an account.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use towline_account::contacts::Contacts;
use towline_account::vcard::VCardError;
use towline_account::{Archive, DeviceAnnouncement, Receipt, VCard, revocation};
use towline_dht::Value;

/// Keys of announcements and of the JSON files.
pub(super) const WORDS: &[&[u8]] = &[
    b"\xa3dev",
    b"\xa3pk",
    b"\xc4\x14",
    b"\xc5",
    b"\"id\":\"",
    b"\"dev\":\"",
    b"\"announce\":\"",
    b"\"added\":",
    b"\"removed\":",
    b"\"confirmed\":",
    b"\"banned\":",
    b"\"conversationId\":\"",
    b"\"ringCaKey\":\"",
    b"\"ringAccountKey\":\"",
    b"\"ringAccountCert\":\"",
    b"\"ringAccountCRL\":\"",
    b"\"ringAccountContacts\":{",
    b"\"dring:",
    b"null",
    b"true",
    b"-1",
    b"1e400",
    b"18446744073709551616",
    b"\\u0000",
    b"\\ud800",
    b"[[[[[[[[",
    b"{\"\":{\"\":{\"\":",
];

/// Lines of cards.
pub(super) const CARD_WORDS: &[&[u8]] = &[
    b"BEGIN:VCARD\r\n",
    b"END:VCARD\r\n",
    b"VERSION:2.1\n",
    b"VERSION:3.0\n",
    b"FN:",
    b"UID:",
    b"item1.FN;CHARSET=UTF-8:",
    b"PHOTO;ENCODING=BASE64;TYPE=PNG:",
    b"PHOTO;ENCODING=b;TYPE=JPEG:",
    b"iVBORw0KGgo=",
    b"\r\n ",
    b"\n\t",
    b"\\n",
    b"\\,",
    b";",
    b"\"",
    "\u{feff}".as_bytes(),
];

/// A value at the key of the account that owns it.
pub(super) fn announcement(input: &[u8]) {
    let Ok(value) = Value::unpack(input) else { return };
    let Some(owner) = value.owner() else { return };
    if let Ok(announcement) = DeviceAnnouncement::read(&value, owner.short_id().into()) {
        assert!(announcement.device_id().is_none_or(|_| announcement.key.is_some()));
    }
}

/// A receipt on disk: what was read is written, and read to the same again.
pub(super) fn receipt(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(receipt) = Receipt::from_text(text) {
        let again = Receipt::from_text(&receipt.to_text()).expect("our own text is read");
        assert_eq!((again.json(), again.signature()), (receipt.json(), receipt.signature()));
        assert_eq!((again.account(), again.device()), (receipt.account(), receipt.device()));
    }
}

/// An archive without a password: the file itself, or what is packed in it.
pub(super) fn archive(input: &[u8]) {
    let file = if input.starts_with(&[0x1f, 0x8b]) {
        input.to_vec()
    } else {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(input).expect("writing to memory succeeds");
        encoder.finish().expect("writing to memory succeeds")
    };
    let Ok(archive) = Archive::open(&file, None) else { return };
    // What is too large to be written was nearly too large to be read.
    let Ok(sealed) = archive.seal(None) else { return };
    let again = Archive::open(&sealed, None).expect("our own archive is read");
    assert_eq!(again.contacts, archive.contacts);
    assert!(again.members().eq(archive.members()));
    assert_eq!(again.account.short_id(), archive.account.short_id());
}

/// Contacts on disk.
pub(super) fn contacts(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(contacts) = Contacts::from_json(text) {
        let again = Contacts::from_json(&contacts.to_json()).expect("our own text is read");
        assert_eq!(again.to_json(), contacts.to_json());
    }
}

/// A revocation list as a value of the DHT.
pub(super) fn revocation_value(input: &[u8]) {
    let Ok(value) = Value::unpack(input) else { return };
    if let Ok(list) = revocation::read(&value) {
        let again = revocation::read(&revocation::value(&list)).expect("our own value is read");
        assert_eq!(again.der(), list.der());
    }
}

/// The card in a request of a stranger. What we write of it reads to what we write again.
pub(super) fn card(input: &[u8]) {
    let Ok(card) = VCard::parse(input) else { return };
    match card.build() {
        Ok(text) => {
            let again = VCard::parse(text.as_bytes()).expect("our own card is read");
            assert_eq!(again.build().as_deref(), Ok(&*text));
            assert_eq!(again.photo, card.photo);
        }
        // What was read has names and pictures that may be written, though their new form may be longer.
        Err(error) => assert!(matches!(error, VCardError::TooLong(_) | VCardError::Format), "{error}"),
    }
}
