//! What the program says: one value per event, a line of JSON for programs and a line of text for people.
//!
//! The names and fields are documented in the README of the crate and do not change their meaning.

mod account;
mod crowd;
mod lab;
mod matrix;
mod relay;
mod why;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use towline::dht::{PerFamily, Reachability};

use crate::text::{bytes, duration, printable, rate};

pub(crate) use lab::{LabEnd, LabEvent, LabGate, LabLine, LabPlace, LabPunch, LabReach, LabSample, LabSide};

pub(crate) use crowd::{LabCrowd, STEPS};
pub(crate) use matrix::{LabCell, LabMatrix, LabMiss, LabSpread};

pub(crate) use relay::RelayEvent;

pub(crate) use why::WhyEvent;

pub(crate) use account::{
    AccountEvent, AccountShown, Contact, Presence, PresentDevice, TextFailure, TextReceived,
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// `init` made an identity.
    Created { home: PathBuf, device: String, short_id: String, account: String, key_bits: usize, ms: f64 },
    /// Who this device is.
    Identity { device: String, short_id: String, account: String },
    /// `id --certificate`.
    Certificate { pem: String },
    /// A DHT node is ready.
    DhtNode { id: String, addresses: Vec<String> },
    /// What a DHT node has seen.
    DhtStats(DhtStats),
    /// `status` is done.
    Status(Box<Status>),
    /// The device can be dialled from now on.
    Registered,
    /// The device shows itself on the local network.
    AnnouncedOnLan,
    /// A device was seen on the local network.
    SeenOnLan { device: String },
    /// A connection moved on.
    Step { connection: String, device: String, step: String, ms: f64 },
    /// A connection stands.
    Connected(Box<Connected>),
    /// A device was not let in, or its attempt failed.
    TurnedAway { device: String, step: String, reason: String },
    /// A connection is gone.
    Disconnected { connection: String, device: String, reason: String },
    /// A channel stands.
    ChannelOpened { connection: String, name: String, device: String, opened_here: bool, ms: f64 },
    /// A channel was not wanted here.
    ChannelRefused { name: String, device: String, reason: String },
    /// A channel has ended.
    ChannelClosed { name: String, sent: u64, received: u64 },
    /// A channel to a service has ended before its time.
    ChannelBroken { name: String, device: String, sent: u64, received: u64, reason: String },
    /// `nc -l` is ready; `services` is null if any will do.
    Forwarding { services: Option<Vec<String>>, anyone: bool },
    /// 40 digits were looked up.
    Resolved { id: String, devices: Vec<String> },
    /// `cert` made a certificate.
    CertificateMade { name: String, certificate: PathBuf, key: PathBuf, key_bits: usize, ids: CertificateIds },
    /// `cert -a`.
    CertificateIds(CertificateIds),
    /// Something is not as the user may think.
    Warning { message: String },
    /// Somebody wants to send a file.
    FileOffered { name: String, bytes: u64, device: String, account: String },
    /// A file waits for the other side's user to decide.
    FileWaiting { name: String, device: String },
    /// A file begins to move.
    FileStarted { name: String, bytes: u64, device: String },
    /// A file is on its way; at most once a second.
    FileProgress { name: String, done: u64, bytes: u64 },
    /// A file was sent, and the other side has checked and kept it.
    FileSent { name: String, path: PathBuf, device: String, bytes: u64, ms: f64, blake3: String },
    /// A file was received, checked and kept.
    FileReceived { name: String, path: PathBuf, device: String, bytes: u64, ms: f64, blake3: String },
    /// A file was not moved.
    FileFailed { name: String, device: String, reason: String },
    /// A file was not wanted here.
    FileDeclined { name: String, device: String },
    /// A step of `demo`, with the seconds since its start.
    Demo { at: f64, what: String, text: String },
    /// The command failed; the last line.
    Error { exit: u8, kind: String, step: Option<String>, message: String },
    /// Something about accounts.
    #[serde(untagged)]
    About(AccountEvent),
    /// Something about a simulated network.
    #[serde(untagged)]
    Lab(LabEvent),
    /// Something at a relay.
    #[serde(untagged)]
    Relay(RelayEvent),
    /// How a device is reached.
    #[serde(untagged)]
    Why(WhyEvent),
}

impl From<LabEvent> for Event {
    fn from(event: LabEvent) -> Self {
        Self::Lab(event)
    }
}

impl From<AccountEvent> for Event {
    fn from(event: AccountEvent) -> Self {
        Self::About(event)
    }
}

/// The ids of a certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CertificateIds {
    /// Whether it signs others.
    pub(crate) authority: bool,
    pub(crate) long_id: String,
    pub(crate) short_id: String,
    /// The account it belongs to: whoever signed it.
    pub(crate) account: Option<String>,
}

/// A connection that stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connected {
    pub(crate) connection: String,
    pub(crate) device: String,
    pub(crate) account: Option<String>,
    pub(crate) dialled_here: bool,
    pub(crate) transport: String,
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) dialect: String,
    pub(crate) security: String,
    /// How long each step took.
    pub(crate) ms: StepTimes,
}

/// How long each step towards a connection took, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepTimes {
    pub(crate) certificate: f64,
    pub(crate) signalling: f64,
    pub(crate) path: f64,
    pub(crate) tls: f64,
    pub(crate) total: f64,
}

/// Whether other nodes of the DHT reach this one, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reached {
    pub(crate) ipv4: String,
    pub(crate) ipv6: String,
}

impl From<PerFamily<Reachability>> for Reached {
    fn from(reached: PerFamily<Reachability>) -> Self {
        Self { ipv4: reached.v4.to_string(), ipv6: reached.v6.to_string() }
    }
}

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IPv4: {}, IPv6: {}", self.ipv4, self.ipv6)
    }
}

/// What a DHT node has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DhtStats {
    pub(crate) good: usize,
    pub(crate) dubious: usize,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) malformed: u64,
    pub(crate) limited: u64,
    pub(crate) stored_values: usize,
    pub(crate) stored_bytes: usize,
    pub(crate) listeners: usize,
    pub(crate) reached: Reached,
    /// Whether these are the last figures before the end.
    pub(crate) last: bool,
}

/// What `status` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) home: PathBuf,
    pub(crate) device: String,
    pub(crate) short_id: String,
    pub(crate) account: String,
    /// Days until the first certificate of the chain expires; negative if one has.
    pub(crate) certificate_days: i64,
    pub(crate) allowed: Vec<String>,
    pub(crate) banned: Vec<String>,
    pub(crate) dht: DhtStatus,
    /// Whether others find the certificate of this device; `None` if that could not be asked.
    pub(crate) published: Option<bool>,
    /// Milliseconds that the lookup took.
    pub(crate) lookup_ms: Option<f64>,
    pub(crate) problems: Vec<Problem>,
}

/// How the DHT was met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DhtStatus {
    pub(crate) connected: bool,
    pub(crate) bootstrap: Vec<String>,
    pub(crate) ipv4: NodesSeen,
    pub(crate) ipv6: NodesSeen,
    /// Our addresses as others see them.
    pub(crate) public_addresses: Vec<String>,
}

/// DHT nodes of one family.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodesSeen {
    pub(crate) good: usize,
    pub(crate) dubious: usize,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) what: String,
    pub(crate) advice: String,
}

/// Where a line for people goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Standard output.
    Result,
    /// Error output, not with `-q`.
    Notice,
    /// Error output, with `-v`.
    Detail,
    /// Error output, always.
    Trouble,
}

impl Event {
    /// The line for people.
    pub(crate) fn text(&self) -> (Weight, String) {
        use Weight::{Detail, Notice, Result, Trouble};
        match self {
            Self::Created { home, device, short_id, account, key_bits, ms } => (
                Result,
                format!(
                    "Made an account and its first device (RSA-{key_bits}, {}) in {}\n{}",
                    from_ms(*ms),
                    home.display(),
                    ids(device, short_id, account)
                ),
            ),
            Self::Identity { device, short_id, account } => (Result, ids(device, short_id, account)),
            Self::Certificate { pem } => (Result, pem.trim_end().to_owned()),
            Self::DhtNode { id, addresses } => {
                (Result, format!("DHT node {id} on {}", addresses.join(" and ")))
            }
            Self::DhtStats(stats) => (Notice, stats.to_string()),
            Self::Status(status) => (Result, status.to_string()),
            Self::Registered => (Notice, "On the DHT: this device can be dialled now".to_owned()),
            Self::AnnouncedOnLan => {
                (Notice, "On the local network: devices there can dial this one now".to_owned())
            }
            Self::SeenOnLan { device } => (Detail, format!("On the local network: {device}")),
            Self::Step { device, step, .. } => (Detail, format!("Connecting with {device:.8}: {step}")),
            Self::Connected(connected) => (Notice, connected.to_string()),
            Self::TurnedAway { device, step, reason } => {
                // Whom we refuse is worth knowing; what others did not bring to an end is not.
                let weight = if step == "signalling" { Notice } else { Detail };
                (weight, format!("Not connected with {device} ({step}): {reason}"))
            }
            Self::Disconnected { device, reason, .. } => {
                (Detail, format!("Connection with {device:.8} ended: {reason}"))
            }
            Self::ChannelOpened { name, device, ms, opened_here, .. } => {
                let time = if *opened_here { format!(" in {}", from_ms(*ms)) } else { String::new() };
                (Detail, format!("Channel {} with {device:.8} opened{time}", printable(name)))
            }
            Self::ChannelRefused { name, device, reason } => {
                (Notice, format!("Refused channel {} of {device}: {reason}", printable(name)))
            }
            Self::ChannelClosed { name, sent, received } => (
                Notice,
                format!(
                    "Channel {} ended: {} sent, {} received",
                    printable(name),
                    bytes(*sent),
                    bytes(*received)
                ),
            ),
            Self::ChannelBroken { name, device, reason, .. } => {
                (Notice, format!("Channel {} of {device:.8} broke off: {reason}", printable(name)))
            }
            Self::Forwarding { services, anyone } => {
                let who = if *anyone { "Everybody" } else { "Those who are accepted" };
                let what = match services {
                    Some(services) => services.join(", "),
                    None => "every service that this computer reaches".to_owned(),
                };
                (Notice, format!("{who} may reach {what}"))
            }
            Self::Resolved { id, devices } => match &devices[..] {
                [one] => (Detail, format!("{id} is device {one}")),
                several => {
                    let list = several.join("\n  ");
                    (
                        Notice,
                        format!("{id} is an account with {} devices, trying all:\n  {list}", several.len()),
                    )
                }
            },
            Self::CertificateMade { name, certificate, key, key_bits, ids } => (
                Result,
                format!(
                    "Made {} (RSA-{key_bits}): {} and {}\n{ids}",
                    printable(name),
                    certificate.display(),
                    key.display()
                ),
            ),
            Self::CertificateIds(ids) => (Result, ids.to_string()),
            Self::Warning { message } => (Notice, format!("Note: {message}")),
            Self::FileOffered { name, bytes: size, device, .. } => {
                (Detail, format!("{device:.8} offers {} ({})", printable(name), bytes(*size)))
            }
            Self::FileWaiting { name, device } => {
                (Notice, format!("{}: waiting for {device:.8} to accept", printable(name)))
            }
            Self::FileStarted { name, bytes: size, device } => {
                (Notice, format!("{} ({}) with {device:.8} ...", printable(name), bytes(*size)))
            }
            Self::FileProgress { name, done, bytes: size } => {
                (Detail, format!("{}: {} of {}", printable(name), bytes(*done), bytes(*size)))
            }
            Self::FileSent { name, bytes: size, ms, .. } => {
                (Result, format!("Sent {} ({})", printable(name), amount(*size, *ms)))
            }
            Self::FileReceived { path, bytes: size, ms, device, .. } => {
                let path = printable(&path.to_string_lossy());
                (Result, format!("Received {path} ({}) from {device:.8}", amount(*size, *ms)))
            }
            Self::FileFailed { name, reason, .. } => {
                (Trouble, format!("{} was not transferred: {reason}", printable(name)))
            }
            Self::FileDeclined { name, .. } => (Notice, format!("Declined {}", printable(name))),
            Self::Demo { at, what, text } => (Result, format!("  {at:7.3} s  {what:<14}  {text}")),
            Self::Error { message, .. } => (Trouble, format!("towline: {message}")),
            Self::About(event) => event.text(),
            Self::Lab(event) => event.text(),
            Self::Relay(event) => event.text(),
            Self::Why(event) => event.text(),
        }
    }
}

fn from_ms(ms: f64) -> String {
    duration(Duration::from_secs_f64(ms.max(0.0) / 1e3))
}

fn amount(size: u64, ms: f64) -> String {
    let time = Duration::from_secs_f64(ms.max(0.0) / 1e3);
    let amount = format!("{} in {}", bytes(size), duration(time));
    // A small file shows how long a round trip is, and not how fast the way.
    if size < 1 << 20 { amount } else { format!("{amount}, {}", rate(size, time)) }
}

fn ids(device: &str, short_id: &str, account: &str) -> String {
    format!("device    {device}\nshort id  {short_id}\naccount   {account}")
}

impl std::fmt::Display for CertificateIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (long, short) = (&self.long_id, &self.short_id);
        if self.authority {
            return write!(f, "account   {short}  (short id: whose devices it signed)\nlong id   {long}");
        }
        writeln!(f, "device    {long}  (long id: dial this)")?;
        write!(f, "short id  {short}  (dhtnet-crtmgr prints it as \"Public key id\")")?;
        match &self.account {
            Some(account) => write!(f, "\naccount   {account}  (short id of the CA that signed it)"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let device = &self.device;
        let (transport, remote, security) = (&self.transport, &self.remote, &self.security);
        write!(f, "Connected with {device:.8} over {transport} with {remote}, {security}, ")?;
        let ms = &self.ms;
        write!(f, "in {}", from_ms(ms.total))
    }
}

impl std::fmt::Display for DhtStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} good and {} dubious nodes; {} packets in, {} out, {} malformed, {} over limits; {} values ({}), {} \
             listeners; reached over {}",
            self.good,
            self.dubious,
            self.received,
            self.sent,
            self.malformed,
            self.limited,
            self.stored_values,
            bytes(self.stored_bytes as u64),
            self.listeners,
            self.reached
        )
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", ids(&self.device, &self.short_id, &self.account))?;
        writeln!(f, "home      {}", self.home.display())?;
        writeln!(f, "valid     for {} days more", self.certificate_days)?;
        writeln!(
            f,
            "known     the own account, {} more allowed, {} banned",
            self.allowed.len(),
            self.banned.len()
        )?;
        let dht = &self.dht;
        let through = if dht.bootstrap.is_empty() { "nobody".to_owned() } else { dht.bootstrap.join(", ") };
        if dht.connected {
            let nodes = |seen: NodesSeen| format!("{} good, {} dubious", seen.good, seen.dubious);
            writeln!(f, "DHT       joined through {through}")?;
            writeln!(f, "nodes     IPv4: {}; IPv6: {}", nodes(dht.ipv4), nodes(dht.ipv6))?;
        } else {
            writeln!(f, "DHT       not reached through {through}")?;
        }
        if !dht.public_addresses.is_empty() {
            writeln!(f, "seen as   {}", dht.public_addresses.join(", "))?;
        }
        let published = match self.published {
            Some(true) => "its certificate is on the DHT: it can be dialled",
            Some(false) => "its certificate is not on the DHT: it cannot be dialled now",
            None => "unknown",
        };
        write!(f, "findable  {published}")?;
        for Problem { what, advice } in &self.problems {
            write!(f, "\n\n! {what}\n  {advice}")?;
        }
        Ok(())
    }
}
