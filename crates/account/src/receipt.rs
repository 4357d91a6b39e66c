//! What the account's key signed for a device, kept by the device (`spec/files-and-calls.md` 1.1).
//!
//! The account's key is seldom at hand, so it signs once, when the device is added: the announcement, and a JSON text
//! with the announcement in it, so that the device can tell later that nobody gave it another's.

use data_encoding::BASE64;
use serde::Deserialize;
use towline_dht::{Value, WireError};
use towline_identity::{AccountId, Chain, Identity, PublicKey, ShortId};

use crate::announcement::{AnnouncementError, DeviceAnnouncement};

/// Longest receipt that is read, in bytes. One of RSA-4096 keys has about 3,100.
pub const MAX_RECEIPT_LEN: usize = 64 * 1024;

/// The receipt of a device. Equality is that of the texts and signatures.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// The JSON, as it was signed.
    text: String,
    signature: Vec<u8>,
    account: AccountId,
    device: ShortId,
    announcement: Value,
}

/// Why a text is not a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Longer than any receipt in use.
    #[error("a receipt of {0} bytes is longer than the {MAX_RECEIPT_LEN} allowed")]
    TooLong(usize),
    /// The text form has no second line, or that is not base64.
    #[error("no line with the signature in base64 after the receipt")]
    Signature,
    /// Not JSON, or not with the members `id`, `dev` and `announce`.
    #[error("not JSON with the members `id`, `dev` and `announce`")]
    Json,
    /// `id` or `dev` is no id.
    #[error("a member that should be an id is none")]
    Id,
    /// `announce` is not base64.
    #[error("the announcement is not base64")]
    Base64,
    /// `announce` is not a packed value.
    #[error("announcement: {0}")]
    Announcement(WireError),
}

/// Why a receipt is not that of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptMismatch {
    /// The chain has no account.
    #[error("the device belongs to no account")]
    NoAccount,
    /// The receipt is of another account.
    #[error("the receipt is of account {0}")]
    Account(AccountId),
    /// The receipt is of another device.
    #[error("the receipt is of device {0}")]
    Device(ShortId),
    /// The account did not sign the receipt.
    #[error("the account did not sign the receipt")]
    Signature,
    /// The announcement inside is not the account's.
    #[error("announcement: {0}")]
    Announcement(AnnouncementError),
    /// The announcement inside is of another device.
    #[error("the announcement is of device {0}")]
    AnnouncedDevice(ShortId),
}

#[derive(Deserialize)]
struct Members {
    id: String,
    dev: String,
    announce: String,
}

impl Receipt {
    /// Makes the receipt of `device` with the key of its `account`.
    ///
    /// Jami's receipts also have a member `eth`, the address of a key for other purposes; nothing asks for it, and it is
    /// left out.
    pub fn make(account: &Identity, device: &PublicKey) -> Self {
        let announcement = DeviceAnnouncement::sign(account, device);
        let (id, dev) = (account.short_id(), device.short_id());
        let announce = BASE64.encode(&announcement.pack());
        let text = format!(r#"{{"id":"{id}","dev":"{dev}","announce":"{announce}"}}"#);
        let signature = account.key().sign(text.as_bytes());
        Self { text, signature, account: id.into(), device: dev, announcement }
    }

    /// Puts a receipt together from the two parts that Jami keeps: the JSON and its signature.
    pub fn from_parts(text: &str, signature: &[u8]) -> Result<Self, ReceiptError> {
        let len = text.len().saturating_add(signature.len());
        if len > MAX_RECEIPT_LEN {
            return Err(ReceiptError::TooLong(len));
        }
        let members: Members = serde_json::from_str(text).map_err(|_| ReceiptError::Json)?;
        let account = members.id.parse().map_err(|_| ReceiptError::Id)?;
        let device = members.dev.parse().map_err(|_| ReceiptError::Id)?;
        let announce = BASE64.decode(members.announce.as_bytes()).map_err(|_| ReceiptError::Base64)?;
        let announcement = Value::unpack(&announce).map_err(ReceiptError::Announcement)?;
        Ok(Self { text: text.to_owned(), signature: signature.to_vec(), account, device, announcement })
    }

    /// Reads what [`Receipt::to_text`] wrote.
    pub fn from_text(text: &str) -> Result<Self, ReceiptError> {
        // The signature makes the text longer by a third of its own length.
        if text.len() > MAX_RECEIPT_LEN {
            return Err(ReceiptError::TooLong(text.len()));
        }
        let text = text.trim_ascii_end();
        let (text, signature) = text.rsplit_once('\n').ok_or(ReceiptError::Signature)?;
        let signature = BASE64.decode(signature.as_bytes()).map_err(|_| ReceiptError::Signature)?;
        Self::from_parts(text, &signature)
    }

    /// The text form: the JSON, and on the last line its signature in base64.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n", self.text, BASE64.encode(&self.signature))
    }

    /// The JSON, as the account's key signed it. Jami keeps it as `ringAccountReceipt`.
    pub fn json(&self) -> &str {
        &self.text
    }

    /// The signature over the JSON. Jami keeps it as `ringAccountReceiptSignature`.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Whose device it is.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Which device it is.
    pub fn device(&self) -> ShortId {
        self.device
    }

    /// The announcement of the device, to be put at the [`crate::announcement::key`] of the account. Its id is usually 0;
    /// give it a random one.
    pub fn announcement(&self) -> &Value {
        &self.announcement
    }

    /// Checks that this is the receipt of the device whose chain this is: ids, the account's signature, and the
    /// announcement inside.
    pub fn verify(&self, chain: &Chain) -> Result<(), ReceiptMismatch> {
        let account = chain.account().ok_or(ReceiptMismatch::NoAccount)?;
        if self.account != account.short_id().into() {
            return Err(ReceiptMismatch::Account(self.account));
        }
        if self.device != chain.short_id() {
            return Err(ReceiptMismatch::Device(self.device));
        }
        account
            .public_key()
            .verify(self.text.as_bytes(), &self.signature)
            .map_err(|_| ReceiptMismatch::Signature)?;
        let announced = DeviceAnnouncement::read(&self.announcement, self.account)
            .map_err(ReceiptMismatch::Announcement)?;
        if announced.device != self.device {
            return Err(ReceiptMismatch::AnnouncedDevice(announced.device));
        }
        Ok(())
    }
}
