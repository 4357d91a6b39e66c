//! What the program says about accounts, contacts and texts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Weight, from_ms, ids};
use crate::text::{number, printable};

/// Something about accounts that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum AccountEvent {
    /// `account add-device` made a home directory.
    DeviceAdded { home: PathBuf, device: String, short_id: String, account: String, name: String, ms: f64 },
    /// `account import` made this computer a device of an account.
    Imported { home: PathBuf, device: String, short_id: String, account: String, contacts: usize, ms: f64 },
    /// `account export` wrote a file.
    Exported { path: PathBuf, account: String, encrypted: bool, contacts: usize },
    /// `account revoke` made a revocation list; `published_on` counts DHT nodes.
    DeviceRevoked { account: String, device: String, short_id: String, list: PathBuf, published_on: usize },
    /// `account show`.
    Account(Box<AccountShown>),
    /// What an account is to this one: listed, or after a change.
    Contact(Contact),
    /// A device is banned, or not any more.
    BannedDevice { device: String, banned: bool },
    /// A request, or a `confirmation` of one, lies at so many devices.
    RequestSent { account: String, confirmation: bool, devices: usize },
    /// An account asks to become a contact.
    ContactRequest { account: String, device: String, name: String, received: i64 },
    /// A contact has accepted.
    ContactConfirmed { account: String, name: String },
    /// This device can be found by its account.
    Announced,
    /// Who of an account is online.
    Presence(Presence),
    /// A device of the own account was never seen before.
    OwnDevice { short_id: String, device: Option<String> },
    /// An account revoked devices; `this_device` if this one is among them.
    Revocation { account: String, devices: Vec<String>, this_device: bool },
    /// A text came.
    Text(TextReceived),
    /// A message of another kind than a text came: for programs only.
    Message { account: String, device: String, content_type: String, bytes: usize },
    /// A text was taken by devices of its receiver.
    TextSent { account: String, message_id: String, devices: Vec<String>, failed: Vec<TextFailure>, ms: f64 },
    /// A text reached nobody.
    TextFailed { account: String, reason: String },
}

/// What `account show` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AccountShown {
    pub(crate) home: PathBuf,
    pub(crate) device: String,
    pub(crate) short_id: String,
    pub(crate) account: String,
    /// What contacts shall call it.
    pub(crate) display_name: String,
    /// `none`, `open` or `encrypted`.
    pub(crate) account_key: String,
    /// Whether others can find this device by its account.
    pub(crate) receipt: bool,
    /// Short ids of other devices that were seen.
    pub(crate) own_devices: Vec<String>,
    /// Certificates of devices of this account that were revoked.
    pub(crate) revoked: usize,
    pub(crate) contacts: usize,
    pub(crate) requests: usize,
    pub(crate) banned: usize,
}

/// What an account is to this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub(crate) account: String,
    /// What it is called here.
    pub(crate) name: String,
    /// `confirmed`, `asked` (it has not answered), `banned`, or `none`.
    pub(crate) state: String,
    /// Since when it is a contact, Unix seconds; 0 if it never was.
    pub(crate) added: i64,
}

/// Who of an account is online.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Presence {
    pub(crate) account: String,
    pub(crate) name: String,
    /// `offline`, `announced` or `connected`.
    pub(crate) state: String,
    pub(crate) devices: Vec<PresentDevice>,
}

/// A device that is online.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PresentDevice {
    pub(crate) short_id: String,
    /// Its long id, once that is known.
    pub(crate) device: Option<String>,
    pub(crate) state: String,
}

/// A text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TextReceived {
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) device: String,
    pub(crate) content_type: String,
    pub(crate) text: String,
    pub(crate) message_id: Option<String>,
}

/// A device that did not take a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TextFailure {
    pub(crate) device: String,
    pub(crate) reason: String,
}

/// An account as people read it: by name, if there is one.
fn called(name: &str, account: &str) -> String {
    if name.is_empty() { account.to_owned() } else { format!("{} ({account:.8})", printable(name)) }
}

impl AccountEvent {
    /// The line for people.
    pub(super) fn text(&self) -> (Weight, String) {
        use Weight::{Detail, Notice, Result, Trouble};
        match self {
            Self::DeviceAdded { home, device, short_id, account, name, ms } => (
                Result,
                format!(
                    "Made the device {} ({}) in {}\n{}",
                    printable(name),
                    from_ms(*ms),
                    home.display(),
                    ids(device, short_id, account)
                ),
            ),
            Self::Imported { home, device, short_id, account, contacts, ms } => (
                Result,
                format!(
                    "This is a device of the account now ({}), with {}, in {}\n{}",
                    from_ms(*ms),
                    number(*contacts, "contact", "contacts"),
                    home.display(),
                    ids(device, short_id, account)
                ),
            ),
            Self::Exported { path, encrypted, contacts, .. } => {
                let how = if *encrypted { "encrypted" } else { "NOT encrypted" };
                let contacts = number(*contacts, "contact", "contacts");
                (Result, format!("Wrote {} ({how}, {contacts})", path.display()))
            }
            Self::DeviceRevoked { device, published_on, list, .. } => {
                let published = match published_on {
                    0 => "not published yet; `towline online` does that".to_owned(),
                    nodes => format!("published on {}", number(*nodes, "DHT node", "DHT nodes")),
                };
                (Result, format!("Revoked {device}\nThe list is in {}, {published}", list.display()))
            }
            Self::Account(account) => (Result, account.to_string()),
            Self::Contact(contact) => (Result, contact.to_string()),
            Self::BannedDevice { device, banned } => {
                (Result, format!("{device}  {}", if *banned { "banned" } else { "not banned" }))
            }
            Self::RequestSent { account, confirmation, devices } => {
                let what = if *confirmation { "The answer" } else { "The request" };
                (Notice, format!("{what} lies at {} of {account}", number(*devices, "device", "devices")))
            }
            Self::ContactRequest { account, name, .. } => {
                let name = if name.is_empty() { String::new() } else { format!("  {}", printable(name)) };
                (Result, format!("{account}  wants to be a contact{name}"))
            }
            Self::ContactConfirmed { account, name } => {
                (Result, format!("{} is a contact now: it has accepted", called(name, account)))
            }
            Self::Announced => (Notice, "Announced: contacts see this device online".to_owned()),
            Self::Presence(presence) => (Result, presence.to_string()),
            Self::OwnDevice { short_id, .. } => {
                (Notice, format!("A device of this account that was never seen before: {short_id}"))
            }
            Self::Revocation { this_device: true, .. } => {
                (Trouble, "This device is revoked by its account: contacts refuse it".to_owned())
            }
            Self::Revocation { account, devices, .. } => {
                (Notice, format!("Account {account} revoked {}", devices.join(", ")))
            }
            Self::Text(text) => (Result, text.to_string()),
            Self::Message { account, content_type, bytes, .. } => {
                (Detail, format!("{account}: {bytes} bytes of {}", printable(content_type)))
            }
            Self::TextSent { account, devices, failed, ms, .. } => {
                let mut line = format!(
                    "{account}: taken by {} in {}",
                    number(devices.len(), "device", "devices"),
                    from_ms(*ms)
                );
                for TextFailure { device, reason } in failed {
                    line.extend(["\n  not by ", device, ": ", reason]);
                }
                (if failed.is_empty() { Detail } else { Notice }, line)
            }
            Self::TextFailed { reason, .. } => (Trouble, format!("Not sent: {reason}")),
        }
    }
}

impl std::fmt::Display for AccountShown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "home      {}", self.home.display())?;
        writeln!(f, "{}", ids(&self.device, &self.short_id, &self.account))?;
        if !self.display_name.is_empty() {
            writeln!(f, "name      {}", printable(&self.display_name))?;
        }
        let key = match &*self.account_key {
            "open" => "here",
            "encrypted" => "here, under a password",
            _ => "not here: this device cannot add or revoke devices",
        };
        writeln!(f, "key       {key}")?;
        if !self.receipt {
            writeln!(f, "receipt   missing: contacts do not see this device online")?;
        }
        for device in &self.own_devices {
            writeln!(f, "device    {device} (short id), seen as another one of this account")?;
        }
        write!(
            f,
            "{}, {}, {} banned, {} revoked",
            number(self.contacts, "contact", "contacts"),
            number(self.requests, "request", "requests"),
            self.banned,
            number(self.revoked, "device", "devices")
        )
    }
}

impl std::fmt::Display for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &*self.state {
            "confirmed" => "contact",
            "asked" => "asked, has not answered",
            "banned" => "banned",
            _ => "no contact",
        };
        write!(f, "{}  {state}", self.account)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, "  {}", printable(&self.name)) }
    }
}

impl std::fmt::Display for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &*self.state {
            "offline" => "offline",
            "connected" => "online, connected",
            _ => "online",
        };
        write!(f, "{}  {state}", called(&self.name, &self.account))?;
        for device in &self.devices {
            let id = device.device.as_deref().unwrap_or(&device.short_id);
            write!(f, "\n  {id}{}", if device.state == "connected" { "  connected" } else { "" })?;
        }
        Ok(())
    }
}

impl std::fmt::Display for TextReceived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", called(&self.name, &self.account), printable(&self.text))
    }
}
