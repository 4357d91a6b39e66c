//! Configuration files of dnc, read as they are.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::service::{Host, Service};
use crate::failure::Failure;

/// Longest file that is read, in bytes. That of dnc has two thousand.
const MAX_FILE: u64 = 64 * 1024;
/// Services that a file may name.
const MAX_SERVICES: usize = 1024;
/// Unknown keys that are reported by name.
const NAMED: usize = 8;

/// What a file says. A key without a value, or with an empty one, is as good as none, as for dnc.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bootstrap: Option<String>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) ip: Option<String>,
    pub(super) port: Option<String>,
    pub(super) anonymous: bool,
    pub(super) verbose: bool,
    pub(super) services: Vec<Service>,
    /// Keys of features that do not exist here yet.
    pub(super) unused: Vec<&'static str>,
    /// Keys that mean nothing to us.
    pub(super) unknown: Vec<String>,
}

/// The file as it is written. Every value is text first: what counts as a number or a truth is decided below, and no
/// password loses its leading zeros.
#[derive(Default, Deserialize)]
struct Raw {
    bootstrap: Option<String>,
    turn_host: Option<String>,
    turn_user: Option<String>,
    turn_pass: Option<String>,
    turn_realm: Option<String>,
    certificate: Option<String>,
    #[serde(rename = "privateKey")]
    private_key: Option<String>,
    ip: Option<String>,
    port: Option<String>,
    anonymous: Option<String>,
    verbose: Option<String>,
    enable_upnp: Option<String>,
    authorized_services: Option<Vec<RawService>>,
    #[serde(flatten)]
    unknown: Unknown,
}

/// The keys of a map, whatever is behind them.
#[derive(Default)]
struct Unknown(Vec<String>);

impl<'de> Deserialize<'de> for Unknown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Unknown;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unknown, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Unknown(keys))
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

#[derive(Deserialize)]
struct RawService {
    ip: String,
    port: String,
}

impl File {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::Local(format!("the configuration {}: {why}", path.display()))
        };
        let mut text = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text))
            .map_err(|error| failed(&error))?;
        if text.len() as u64 > MAX_FILE {
            return Err(failed(&format_args!("longer than {MAX_FILE} bytes")));
        }
        let text = String::from_utf8(text).map_err(|_| failed(&"not UTF-8 text"))?;
        Self::parse(&text).map_err(|error| failed(&error))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let raw: Option<Raw> =
            serde_saphyr::from_str_with_options(text, options()).map_err(|error| error.to_string())?;
        let raw = raw.unwrap_or_default();
        let services = raw.authorized_services.unwrap_or_default();
        if services.len() > MAX_SERVICES {
            return Err(format!("more than {MAX_SERVICES} authorized_services"));
        }
        let unused = [
            ("turn_host", given(raw.turn_host).is_some()),
            ("turn_user", given(raw.turn_user).is_some()),
            ("turn_pass", given(raw.turn_pass).is_some()),
            ("turn_realm", given(raw.turn_realm).is_some()),
            ("enable_upnp", truth("enable_upnp", raw.enable_upnp)?),
        ];
        Ok(Self {
            bootstrap: given(raw.bootstrap),
            certificate: given(raw.certificate).map(PathBuf::from),
            private_key: given(raw.private_key).map(PathBuf::from),
            ip: given(raw.ip),
            port: given(raw.port),
            anonymous: truth("anonymous", raw.anonymous)?,
            verbose: truth("verbose", raw.verbose)?,
            services: services.iter().map(service).collect::<Result<_, _>>()?,
            unused: unused.into_iter().filter_map(|(key, used)| used.then_some(key)).collect(),
            unknown: raw.unknown.0,
        })
    }

    /// The keys that mean nothing to us, for people.
    pub(super) fn unknown_keys(&self) -> Option<String> {
        let more = self.unknown.len().saturating_sub(NAMED);
        let named = self.unknown.iter().take(NAMED).map(|key| crate::text::printable(key));
        let named = named.collect::<Vec<_>>().join(", ");
        match (named.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(named),
            (false, more) => Some(format!("{named} and {more} more")),
        }
    }
}

/// No file of dnc comes near these bounds; what does is an attack on the parser.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 16 * 1024,
            max_nodes: 8 * 1024,
            max_depth: 16,
            max_aliases: 64,
            max_anchors: 64,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 1024,
            max_replay_stack_depth: 4,
        },
        // The lines around an error may hold a password.
        with_snippet: false,
    }
}

fn given(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

/// The words for true and false of YAML 1.1, which dnc reads with or without quotes.
fn truth(key: &str, value: Option<String>) -> Result<bool, String> {
    match given(value).map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("true" | "yes" | "on" | "y") => Ok(true),
        None | Some("false" | "no" | "off" | "n") => Ok(false),
        Some(_) => Err(format!("{key} is neither true nor false")),
    }
}

fn service(raw: &RawService) -> Result<Service, String> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| format!("authorized_services: {what}: {error}");
    let host: Host = raw.ip.parse().map_err(|error| wrong(&format!("{:?}", raw.ip), &error))?;
    let port = raw.port.trim().parse().map_err(|_| wrong(&format!("{:?}", raw.port), &"not a port"))?;
    Ok(Service { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(file: &File) -> Vec<String> {
        file.services.iter().map(Service::to_string).collect()
    }

    /// All keys of the sample that comes with dnc, and the forms in which its reader takes values.
    #[test]
    fn files_of_dnc() {
        let file = File::parse(
            "# a comment\nbootstrap: \"bootstrap.sfl.io\"\nturn_host: \"turn.sfl.io\"\nturn_user: \"sfl\"\n\
             turn_pass: 007\nturn_realm: \"sfl\"\nverbose: false\nenable_upnp: true\n\
             #certificate: \"/etc/dhtnet/id/id-server.crt\"\n#privateKey: \"/etc/dhtnet/id/id-server.pem\"\n\
             ip: \"127.0.0.1\"\nport: 22\nanonymous: true\n\
             authorized_services:\n  - ip: \"127.0.0.1\"\n    port: 22\n  # - ip: \"127.0.0.1\"\n  #   port: 80\n",
        )
        .unwrap();
        assert_eq!(file.bootstrap.as_deref(), Some("bootstrap.sfl.io"));
        assert_eq!((file.ip.as_deref(), file.port.as_deref()), (Some("127.0.0.1"), Some("22")));
        assert!(file.anonymous && !file.verbose && file.certificate.is_none());
        assert_eq!(services(&file), ["127.0.0.1:22"]);
        assert_eq!(file.unused, ["turn_host", "turn_user", "turn_pass", "turn_realm", "enable_upnp"]);
        assert_eq!(file.unknown_keys(), None);

        let file = File::parse(
            "certificate: /a b/c.crt\nprivateKey: c.pem\nip: ::1\nport: \"22\"\nanonymous: Yes\nverbose: 'on'\n\
             authorized_services: [{ip: ::1, port: 80}, {ip: example.org, port: '443'}]\nturn_host: \"\"\n\
             bootstrap:\nenable_upnp: no\n",
        )
        .unwrap();
        assert_eq!(file.certificate, Some("/a b/c.crt".into()));
        assert_eq!(file.private_key, Some("c.pem".into()));
        assert_eq!((file.ip.as_deref(), file.bootstrap.as_deref()), (Some("::1"), None));
        assert!(file.anonymous && file.verbose);
        assert_eq!(services(&file), ["[::1]:80", "example.org:443"]);
        assert_eq!(file.unused, [""; 0]);
    }

    #[test]
    fn nothing_is_a_file_that_says_nothing() {
        for empty in ["", "\n", "# only a comment\n", "---\n", "{}", "authorized_services:\nport: ~\n"] {
            assert_eq!(File::parse(empty), Ok(File::default()), "{empty:?}");
        }
    }

    #[test]
    fn unknown_keys_are_told() {
        let file = File::parse("configuration_file: x\nip: a\nbinary: [1, {b: 2}]\n").unwrap();
        assert_eq!(file.unknown_keys().as_deref(), Some("configuration_file, binary"));
        let many = (0..20).map(|number| format!("key{number:02}: 1\n")).collect::<Vec<_>>().concat();
        assert!(File::parse(&many).unwrap().unknown_keys().unwrap().ends_with("and 12 more"));
    }

    #[test]
    fn garbage_is_refused() {
        for wrong in [
            "just text",
            "- a\n- list",
            "a: [1",
            "ip: [a]\n",
            "ip: a\nip: b\n",
            "anonymous: perhaps",
            "authorized_services: yes",
            "authorized_services: [22]",
            "authorized_services: [{ip: 127.0.0.1}]",
            "authorized_services: [{ip: 127.0.0.1, port: 0}]",
            "authorized_services: [{ip: 127.0.0.1, port: 65536}]",
            "authorized_services: [{ip: 'a b', port: 1}]",
            "ip: a\n---\nip: b\n",
            "\u{0}",
        ] {
            assert!(File::parse(wrong).is_err(), "{wrong:?}: {:?}", File::parse(wrong));
        }
    }

    #[test]
    fn errors_do_not_show_passwords() {
        let error = File::parse("turn_pass: secret\nip: [\n").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ('b'..='i').zip('a'..) {
            laughs.extend(
                format!("{this}: &{this} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n")
                    .chars(),
            );
        }
        let nested = "[".repeat(10_000) + &"]".repeat(10_000);
        let services = "- {ip: a, port: 1}\n".repeat(2000);
        let services = format!("s: &s\n{services}authorized_services: *s\n");
        let began = std::time::Instant::now();
        for bomb in [laughs, nested, services, "&a [*a]".to_owned(), "x: &a {<<: *a}".to_owned()] {
            assert!(File::parse(&bomb).is_err(), "{bomb:.40}");
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
    }

    /// Whatever a file holds, it is read or refused, and soon.
    #[test]
    fn anything_may_be_in_a_file() {
        const SAMPLE: &str = "bootstrap: \"a\"\nip: &x \"127.0.0.1\"\nport: 22\nanonymous: true\nother: {a: [1, *x]}\n\
                              authorized_services:\n  - ip: *x\n    port: 22\n  - <<: {ip: b}\n    port: 1 # no\n";
        const PIECES: [&str; 16] = [
            "\n",
            "  ",
            ": ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            "&x ",
            "*x",
            "\"",
            "'",
            "|\n",
            "---\n",
            "\u{feff}",
            "!!binary ",
        ];
        let mut read = 0;
        let mut chance = blake3::Hasher::new().finalize_xof();
        for _ in 0..5_000 {
            let mut text = SAMPLE.to_owned();
            let mut changes = [0; 12];
            chance.fill(&mut changes);
            for change in changes.chunks(3) {
                let at = usize::from(change[0]) * text.len() / 256;
                let end = (at + usize::from(change[1] % 4)).min(text.len());
                if text.is_char_boundary(at) && text.is_char_boundary(end) {
                    text.replace_range(at..end, PIECES[usize::from(change[2]) % PIECES.len()]);
                }
            }
            read += u32::from(File::parse(&text).is_ok());
        }
        // Some of them are good, so that more than the first line of the reader is tried.
        assert!(read > 10, "{read}");
    }
}
