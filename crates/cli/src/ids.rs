//! Ids as users type them and as other programs print them.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::str::FromStr;

use towline::account::contacts::Contacts;
use towline::identity::{Chain, IdError, MAX_CHAIN_LEN};
use towline::{AccountId, DeviceId, Peer, ShortId};

use crate::failure::Failure;

/// A device or an account: who may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerId {
    /// One device.
    Device(DeviceId),
    /// Every device of an account, or the device with this short id.
    Short(AccountId),
}

impl PeerId {
    /// Whether `peer` is meant.
    pub(crate) fn names(&self, peer: &Peer) -> bool {
        match self {
            Self::Device(id) => peer.device == *id,
            Self::Short(id) => peer.account == *id || AccountId::from(peer.chain.short_id()) == *id,
        }
    }
}

impl FromStr for PeerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match Named::read(text)? {
            Named::Long(id) => Self::Device(id),
            Named::Short(id) => Self::Short(AccountId(id.0)),
            Named::Chain(chain) if chain.leaf().is_ca() => Self::Short(chain.short_id().into()),
            Named::Chain(chain) => Self::Device(chain.device_id()),
        })
    }
}

/// An account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Account(pub(crate) AccountId);

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Named::read(text)? {
            Named::Short(id) => Ok(Self(id.into())),
            Named::Chain(chain) if chain.leaf().is_ca() => Ok(Self(chain.short_id().into())),
            Named::Chain(chain) => chain.account_id().map(Self).ok_or_else(|| {
                "the certificate does not tell its account: take a file with the whole chain, or the 40 digits".to_owned()
            }),
            Named::Long(id) => Err(format!(
                "{id} is a device; an account has 40 digits (`towline id` and `towline status` show them)"
            )),
        }
    }
}

/// An account, or the name of a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contact {
    /// By its id.
    Account(AccountId),
    /// By what it is called here.
    Named {
        /// The name.
        name: String,
        /// Why it is no id.
        error: String,
    },
}

impl Contact {
    /// The account, given the contacts there are.
    pub(crate) fn resolve(&self, contacts: &Contacts) -> Result<AccountId, Failure> {
        let (name, error) = match self {
            Self::Account(id) => return Ok(*id),
            Self::Named { name, error } => (name, error),
        };
        let called = |contact: &towline::account::contacts::Contact| contact.name.as_ref() == Some(name);
        let mut found = contacts.active().filter(|(_, contact)| called(contact)).map(|(id, _)| id);
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => {
                Err(Failure::Usage(format!("no contact is called {name:?}, and it is no id: {error}")))
            }
            // Names come from cards that the contacts have written.
            (Some(_), Some(_)) => Err(Failure::Usage(format!(
                "several contacts are called {name:?}: say which by its 40 digits (`towline contact list`)"
            ))),
        }
    }
}

impl FromStr for Contact {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Account>() {
            Ok(account) => Ok(Self::Account(account.0)),
            Err(error) if text.starts_with('@') || text.is_empty() => Err(error),
            Err(error) => Ok(Self::Named { name: text.to_owned(), error }),
        }
    }
}

/// A device to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remote {
    /// By its long id.
    Device(DeviceId),
    /// By 40 digits: the short id of a device, or an account of which any device will do. Which of them it is, the DHT
    /// knows.
    Short(ShortId),
    /// By its certificate, which then need not be looked for.
    Certificate(Chain),
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match Named::read(text)? {
            Named::Long(id) => Self::Device(id),
            Named::Short(id) => Self::Short(id),
            Named::Chain(chain) if chain.leaf().is_ca() => Self::Short(chain.short_id()),
            // Nobody can be told by it which account the device belongs to, but whom to look for.
            Named::Chain(chain) if chain.account().is_none() => Self::Device(chain.device_id()),
            Named::Chain(chain) => Self::Certificate(chain),
        })
    }
}

/// What a text names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Long(DeviceId),
    Short(ShortId),
    Chain(Chain),
}

impl Named {
    /// Reads an id, text that contains one, a certificate, or `@` and the name of a file with any of them.
    fn read(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('@') else { return Self::from_text(text) };
        let mut content = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_CHAIN_LEN as u64 + 1).read_to_end(&mut content))
            .map_err(|error| format!("cannot read {path}: {error}"))?;
        if content.len() > MAX_CHAIN_LEN {
            return Err(format!("{path} is longer than any file with an id or a certificate"));
        }
        let named = match std::str::from_utf8(&content) {
            Ok(text) => Self::from_text(text),
            // DER, or nothing at all.
            Err(_) => Self::from_certificates(&content),
        };
        named.map_err(|error| format!("{path}: {error}"))
    }

    fn from_certificates(packed: &[u8]) -> Result<Self, String> {
        let chain = Chain::unpack(packed).map_err(|error| format!("no id, and no certificate: {error}"))?;
        chain.verify_links().map_err(|error| format!("the certificates do not hold: {error}"))?;
        Ok(Self::Chain(chain))
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.contains("-----BEGIN CERTIFICATE-----") {
            return Self::from_certificates(text.as_bytes());
        }
        let text = text.trim();
        match text.len() {
            64 => return text.parse().map(Self::Long).map_err(|error: IdError| error.to_string()),
            40 => return text.parse().map(Self::Short).map_err(|error: IdError| error.to_string()),
            _ => {}
        }
        // A line that another program printed, such as `Public key id: …`, or a URI.
        let digits = |length| {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric());
            let words = words.filter(move |word| word.len() == length);
            words.filter(|word| word.bytes().all(|digit| digit.is_ascii_hexdigit())).collect::<BTreeSet<_>>()
        };
        // Programs that print both kinds mean the same device by them.
        for (ids, kind) in [(digits(64), "long"), (digits(40), "short")] {
            let Some(first) = ids.first() else { continue };
            if ids.len() > 1 {
                let ids = Vec::from_iter(ids).join(", ");
                return Err(format!("there is more than one {kind} id in it; give one of them: {ids}"));
            }
            return Self::from_text(first);
        }
        Err(format!(
            "an id is 64 hexadecimal digits (a device) or 40 (an account or a short id), or @FILE with an id or a \
             certificate in it; this has {} characters",
            text.chars().count()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(byte: u8) -> Remote {
        Remote::Short(ShortId([byte; 20]))
    }

    #[test]
    fn devices_and_accounts_are_told_apart_by_length() {
        assert_eq!("ab".repeat(32).parse(), Ok(PeerId::Device(DeviceId([0xab; 32]))));
        assert_eq!(format!(" {}\n", "ab".repeat(20)).parse(), Ok(PeerId::Short(AccountId([0xab; 20]))));
        assert_eq!("AB".repeat(32).parse(), Ok(Remote::Device(DeviceId([0xab; 32]))));
        assert_eq!("ab".repeat(20).parse(), Ok(short(0xab)));
    }

    #[test]
    fn what_other_programs_print() {
        let id = "ab".repeat(20);
        for text in [
            format!("Public key id: {id}\n"),
            format!("Loaded identity: {id}"),
            format!("Generated certificate in \"/etc/dhtnet/id\": id-server {id}"),
            format!("dnc/{id}"),
            format!("jami:{id}"),
            format!("device    {}\nshort id  {id}\naccount   {}", "cd".repeat(32), "ef".repeat(20)),
            format!(r#"{{"event":"identity","device":"{}","short_id":"{id}"}}"#, "cd".repeat(32)),
        ] {
            let expected =
                if text.contains("cd") { Remote::Device(DeviceId([0xcd; 32])) } else { short(0xab) };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let two = format!("CA {id}\ndevice {}", "cd".repeat(20));
        assert!(two.parse::<Remote>().unwrap_err().contains("more than one short id"));
    }

    #[test]
    fn contacts_go_by_their_names() {
        let mut contacts = Contacts::default();
        for (number, name) in [(1, "Ben"), (2, "Anna"), (3, "Anna")] {
            let id = AccountId([number; 20]);
            contacts.add(1_800_000_000, AccountId([9; 20]), id, "").unwrap();
            contacts.set_name(id, Some(name.to_owned())).unwrap();
        }
        let resolve = |text: &str| text.parse::<Contact>().unwrap().resolve(&contacts);
        assert_eq!(resolve("Ben").unwrap(), AccountId([1; 20]));
        assert_eq!(resolve(&"07".repeat(20)).unwrap(), AccountId([7; 20]));
        for (wrong, why) in [("Anna", "several contacts"), ("ben", "no contact is called")] {
            let error = resolve(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!("@/nowhere".parse::<Contact>().is_err());
    }

    #[test]
    fn errors_name_the_rule() {
        assert!("".parse::<PeerId>().unwrap_err().contains("this has 0 characters"));
        assert!("zz".repeat(32).parse::<PeerId>().unwrap_err().contains("character 0 ('z')"));
        assert!("hello".parse::<Remote>().unwrap_err().contains("this has 5 characters"));
        assert!("é".repeat(20).parse::<Remote>().unwrap_err().contains("character 0 ('é')"));
        assert!("@/nowhere".parse::<Remote>().unwrap_err().contains("cannot read /nowhere"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        assert!(broken.parse::<Remote>().unwrap_err().contains("no certificate"));
    }

    #[test]
    fn certificates_in_files() {
        use towline::identity::{GenerateOptions, Hierarchy, KeySize};
        let options = GenerateOptions { key_size: KeySize::Rsa2048, ..GenerateOptions::new(1_700_000_000) };
        let made = Hierarchy::generate(&options).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            format!("@{}", path.display())
        };
        let (device, account) = (made.device.chain(), made.account.chain());
        let chain = file("chain", device.pack().as_bytes());
        assert_eq!(chain.parse(), Ok(Remote::Certificate(device.clone())));
        assert_eq!(chain.parse(), Ok(PeerId::Device(device.device_id())));
        let authority = file("account", account.pack().as_bytes());
        assert_eq!(authority.parse(), Ok(Remote::Short(account.short_id())));
        assert_eq!(authority.parse(), Ok(PeerId::Short(account.short_id().into())));
        // Alone it names the device, and has to be completed from elsewhere.
        let alone = file("leaf", device.leaf().der());
        assert_eq!(alone.parse(), Ok(Remote::Device(device.device_id())));
        let mixed = file("mixed", (device.leaf().to_pem() + &made.authority.chain().pack()).as_bytes());
        assert!(mixed.parse::<Remote>().unwrap_err().contains("do not hold"));
        let garbage = file("garbage", &[0xff; 100]);
        assert!(garbage.parse::<Remote>().unwrap_err().contains("no certificate"));
        let huge = file("huge", &vec![b'a'; 1 << 20]);
        assert!(huge.parse::<Remote>().unwrap_err().contains("longer"));
    }
}
