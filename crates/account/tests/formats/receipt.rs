use data_encoding::BASE64;
use towline_account::Receipt;
use towline_account::announcement::{AnnouncementError, DeviceAnnouncement};
use towline_account::receipt::{MAX_RECEIPT_LEN, ReceiptError, ReceiptMismatch};
use towline_identity::Chain;

use crate::{ALICE, BOB, damaged};

/// Kept by a daemon of 2023: the JSON, its signature, and the chain of the device.
const JSON: &str = include_str!("../vectors/receipt.json");
const SIGNATURE: &[u8] = include_bytes!("../vectors/receipt.sig");
const DEVICE: &[u8] = include_bytes!("../vectors/receipt-device.pem");

#[test]
fn jamis_is_read() {
    let receipt = Receipt::from_parts(JSON, SIGNATURE).unwrap();
    let chain = Chain::unpack(DEVICE).unwrap();
    assert_eq!(receipt.verify(&chain), Ok(()));
    assert_eq!(Some(receipt.account()), chain.account_id());
    assert_eq!(receipt.device(), chain.short_id());
    let announced = DeviceAnnouncement::read(receipt.announcement(), receipt.account()).unwrap();
    assert_eq!(announced.key.as_ref(), Some(chain.public_key()));
    assert_eq!(receipt.announcement().id, 0);
    let again = Receipt::from_text(&receipt.to_text()).unwrap();
    assert_eq!(again, receipt);
    assert_eq!((again.json(), again.signature()), (JSON, SIGNATURE));
}

#[test]
fn ours_is_read() {
    let receipt = Receipt::make(&ALICE.account, ALICE.device.chain().public_key());
    assert_eq!(receipt.verify(ALICE.device.chain()), Ok(()));
    assert_eq!(Receipt::from_text(&receipt.to_text()).as_ref(), Ok(&receipt));
    assert_eq!(Receipt::from_parts(receipt.json(), receipt.signature()).as_ref(), Ok(&receipt));
    let members: serde_json::Value = serde_json::from_str(receipt.json()).unwrap();
    assert_eq!(members["id"], ALICE.account.short_id().to_string());
    assert_eq!(members["dev"], ALICE.device.short_id().to_string());
    let announce = BASE64.decode(members["announce"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(announce, receipt.announcement().pack());
}

#[test]
fn it_counts_for_one_device_of_one_account() {
    let device = ALICE.device.chain();
    let receipt = Receipt::make(&ALICE.account, device.public_key());
    let alices: towline_identity::AccountId = ALICE.account.short_id().into();
    assert_eq!(receipt.verify(BOB.device.chain()), Err(ReceiptMismatch::Account(alices)));
    let alone = Chain::new([device.leaf().clone()]).unwrap();
    assert_eq!(receipt.verify(&alone), Err(ReceiptMismatch::NoAccount));
    let other = Receipt::make(&ALICE.account, BOB.device.chain().public_key());
    assert_eq!(other.verify(device), Err(ReceiptMismatch::Device(BOB.device.short_id())));

    let unsigned = Receipt::from_parts(receipt.json(), b"").unwrap();
    assert_eq!(unsigned.verify(device), Err(ReceiptMismatch::Signature));
    let spaced = receipt.json().replace(',', ", ");
    let spaced = Receipt::from_parts(&spaced, receipt.signature()).unwrap();
    assert_eq!(spaced.verify(device), Err(ReceiptMismatch::Signature), "the text is signed, not its meaning");

    // An account that signs nonsense: the announcement of another device, or of another account.
    let sign = |announcement: &Receipt| {
        let announce = |receipt: &Receipt| BASE64.encode(&receipt.announcement().pack());
        let json = receipt.json().replace(&announce(&receipt), &announce(announcement));
        Receipt::from_parts(&json, &ALICE.account.key().sign(json.as_bytes())).unwrap()
    };
    let bobs = BOB.device.short_id();
    assert_eq!(sign(&other).verify(device), Err(ReceiptMismatch::AnnouncedDevice(bobs)));
    let foreign = Receipt::make(&BOB.account, device.public_key());
    let owner = BOB.account.short_id().into();
    assert_eq!(
        sign(&foreign).verify(device),
        Err(ReceiptMismatch::Announcement(AnnouncementError::Owner(owner)))
    );
}

#[test]
fn bad_texts_are_refused_by_name() {
    let read = |json: &str| Receipt::from_parts(json, b"").unwrap_err();
    assert_eq!(read(""), ReceiptError::Json);
    assert_eq!(read("[]"), ReceiptError::Json);
    assert_eq!(read(r#"{"id":"","dev":""}"#), ReceiptError::Json);
    assert_eq!(read(r#"{"id":7,"dev":"","announce":""}"#), ReceiptError::Json);
    assert_eq!(read(r#"{"id":"","dev":"","announce":""}"#), ReceiptError::Id);
    let id = ALICE.account.short_id();
    let with = |announce: &str| read(&format!(r#"{{"id":"{id}","dev":"{id}","announce":"{announce}"}}"#));
    assert_eq!(with("*"), ReceiptError::Base64);
    assert!(matches!(with(""), ReceiptError::Announcement(_)));
    assert!(matches!(with("gqJpZAA="), ReceiptError::Announcement(_)));
    assert_eq!(read(&"[".repeat(50_000)), ReceiptError::Json);
    assert_eq!(read(&" ".repeat(MAX_RECEIPT_LEN + 1)), ReceiptError::TooLong(MAX_RECEIPT_LEN + 1));
    assert_eq!(Receipt::from_text(""), Err(ReceiptError::Signature));
    assert_eq!(Receipt::from_text("{}"), Err(ReceiptError::Signature));
    assert_eq!(Receipt::from_text("{}\n*"), Err(ReceiptError::Signature));
    let long = "\n".repeat(MAX_RECEIPT_LEN + 1);
    assert_eq!(Receipt::from_text(&long), Err(ReceiptError::TooLong(MAX_RECEIPT_LEN + 1)));
}

#[test]
fn damage_is_found() {
    let chain = Chain::unpack(DEVICE).unwrap();
    let whole = Receipt::from_parts(JSON, SIGNATURE).unwrap().to_text();
    for bytes in damaged(whole.as_bytes(), 300) {
        if bytes.trim_ascii_end() == whole.trim_ascii_end().as_bytes() {
            continue;
        }
        if let Ok(text) = String::from_utf8(bytes)
            && let Ok(receipt) = Receipt::from_text(&text)
        {
            assert!(receipt.verify(&chain).is_err());
        }
    }
}
