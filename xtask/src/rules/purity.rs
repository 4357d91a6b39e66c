//! Protocol crates get time, chance and bytes as arguments; they take nothing from the machine.

use super::Violation;
use crate::source::Source;
use crate::tree::{Package, Tree};

/// The crates that must stay sans-IO.
pub(crate) const PROTOCOL: &[&str] = &[
    "towline-identity",
    "towline-account",
    "towline-dht",
    "towline-ice",
    "towline-link",
    "towline-mux",
    "towline-nat",
    "towline-sip",
    "towline-tls",
    "towline-turn",
    "towline-channeler",
];

/// What is forbidden: a rule, the paths and the token patterns that break it, and what to do instead.
struct Ban {
    rule: &'static str,
    paths: &'static [&'static str],
    tokens: &'static [&'static str],
    fix: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        rule: "protocol-clock",
        paths: &["std::time::SystemTime", "SystemTime::now", "SystemTime::UNIX_EPOCH", "time::UNIX_EPOCH"],
        tokens: &["Instant::now", "SystemTime::now", ".elapsed("],
        fix: "take `now: Instant` (or seconds since the epoch) as an argument",
    },
    Ban {
        rule: "protocol-randomness",
        paths: &[
            "rand::rng",
            "rand::random",
            "rand::thread_rng",
            "rand::make_rng",
            "aws_lc_rs::rand",
            "aws_lc_rs::*",
            "std::collections::hash_map::RandomState",
            "std::hash::RandomState",
            "rustls::crypto::aws_lc_rs::default_provider",
        ],
        tokens: &[
            "thread_rng",
            "ThreadRng",
            "OsRng",
            "SysRng",
            "SystemRandom",
            "getrandom",
            "from_os_rng",
            "from_entropy",
            "RandomizedNonceKey",
        ],
        fix: "draw from a generator seeded by an argument (`StdRng::from_seed`)",
    },
    Ban {
        rule: "protocol-socket",
        paths: &[
            "std::net::*",
            "std::os::unix::net",
            "std::os::fd",
            "tokio",
            "mio",
            "socket2",
            "netdev",
            "quinn_udp",
        ],
        tokens: &["UdpSocket", "TcpStream", "TcpListener", "UnixStream", "UnixDatagram"],
        fix: "return bytes from `poll_transmit` and let the driver on the floor above send them",
    },
    Ban {
        rule: "protocol-thread",
        paths: &["std::thread", "thread::spawn", "thread::sleep", "rayon", "std::sync::mpsc"],
        tokens: &["thread_local !"],
        fix: "make it a step of the state machine; the driver decides where it runs",
    },
    Ban {
        rule: "protocol-async",
        paths: &[
            "std::future",
            "core::future",
            "std::task",
            "core::task",
            "futures",
            "futures_util",
            "async_trait",
        ],
        tokens: &["async fn", "async move", "async {", ".await", "impl Future", "dyn Future"],
        fix: "name the next timeout in `poll_timeout` and report through `poll_event`",
    },
    Ban {
        rule: "protocol-system",
        paths: &["std::fs", "std::os", "std::env", "std::process", "fs::File", "fs::read", "fs::write"],
        tokens: &[],
        fix: "take and return bytes; files and settings belong to the floors above",
    },
];

/// What a crate may do all the same, and why.
const EXEMPT: &[(&str, &str, &str)] = &[
    (
        "towline-identity",
        "protocol-randomness",
        "keys and certificate serials must come from the operating system",
    ),
    (
        "towline-identity",
        "protocol-system",
        "the certificate store lives on disk; it is the ground's one file access",
    ),
    ("towline-tls", "protocol-randomness", "the TLS library draws its own nonces and key shares"),
];

/// Packages that bring I/O or a runtime with them.
const FORBIDDEN_DEPENDENCIES: &[&str] = &[
    "async-channel",
    "async-std",
    "async-trait",
    "futures",
    "futures-util",
    "getrandom",
    "mio",
    "netdev",
    "polling",
    "quinn-udp",
    "rayon",
    "smol",
    "socket2",
    "tokio",
    "tokio-rustls",
    "tokio-util",
];

/// Features of `rand` that bring a source of chance outside the caller's control.
const FORBIDDEN_RAND_FEATURES: &[&str] = &["os_rng", "sys_rng", "thread_rng"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in tree.packages.iter().filter(|package| PROTOCOL.contains(&&*package.name)) {
        for source in &package.sources {
            check_source(package, source, &mut violations);
        }
        check_dependencies(package, &mut violations);
    }
    check_rand_features(tree, &mut violations);
    violations
}

fn check_source(package: &Package, source: &Source, violations: &mut Vec<Violation>) {
    for ban in BANS {
        if EXEMPT.iter().any(|(name, rule, _)| *name == package.name && *rule == ban.rule) {
            continue;
        }
        let by_token = ban.tokens.iter().flat_map(|pattern| {
            source.find(pattern).filter(|token| !token.in_test).map(move |token| (token.line, *pattern))
        });
        let by_path = ban.paths.iter().flat_map(|pattern| {
            let names = source.paths.iter().filter(|path| !path.in_test && names(&path.segments, pattern));
            names.map(move |path| (path.line, *pattern))
        });
        let mut found: Vec<(usize, &str)> = by_token.chain(by_path).collect();
        found.sort_unstable();
        found.dedup_by_key(|(line, _)| *line);
        violations.extend(found.into_iter().map(|(line, pattern)| Violation {
            path: source.path.clone(),
            line,
            rule: ban.rule,
            found: format!("`{}` names `{pattern}`", package.name),
            fix: ban.fix.to_owned(),
        }));
    }
}

/// A one-word pattern is the name of a crate and must come first; a longer one may stand anywhere.
fn names(segments: &[String], pattern: &str) -> bool {
    let wanted: Vec<&str> = pattern.split("::").collect();
    if wanted.len() == 1 {
        return segments.len() > 1 && segments[0] == pattern;
    }
    segments.windows(wanted.len()).any(|window| window.iter().zip(&wanted).all(|(a, b)| a == b))
}

fn check_dependencies(package: &Package, violations: &mut Vec<Violation>) {
    for dependency in package.dependencies("dependencies") {
        if FORBIDDEN_DEPENDENCIES.contains(&&*dependency) {
            violations.push(Violation {
                path: package.manifest_path(),
                line: package.manifest_line(&dependency),
                rule: "protocol-dependency",
                found: format!("`{}` depends on `{dependency}`", package.name),
                fix: "protocol crates do no I/O; move the driving part to `net` or `towline`".to_owned(),
            });
        }
    }
}

/// `rand` is declared once for all; its features decide whether protocol crates can reach the system's.
fn check_rand_features(tree: &Tree, violations: &mut Vec<Violation>) {
    let shared = tree
        .root_manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(|dependencies| dependencies.get("rand"));
    let own =
        tree.packages.iter().filter(|package| PROTOCOL.contains(&&*package.name)).filter_map(|package| {
            let rand = package.manifest.get("dependencies")?.get("rand")?;
            Some((package.manifest_path(), package.manifest_line("rand"), rand))
        });
    let declarations = shared.map(|rand| ("Cargo.toml".into(), 1, rand)).into_iter().chain(own);
    for (path, line, rand) in declarations {
        let inherits = rand.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        let without_defaults = rand.get("default-features").and_then(toml::Value::as_bool) == Some(false);
        let features = rand.get("features").and_then(toml::Value::as_array);
        let forbidden = features
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_str)
            .any(|feature| FORBIDDEN_RAND_FEATURES.contains(&feature));
        if forbidden || !(inherits || without_defaults) {
            violations.push(Violation {
                path,
                line,
                rule: "protocol-randomness",
                found: "`rand` is declared with its own source of randomness".to_owned(),
                fix: "use `rand.workspace = true`, without default features, `os_rng`, `sys_rng` or `thread_rng`"
                    .to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_broken(name: &str, manifest: &str, code: &str) -> Vec<(&'static str, usize)> {
        let tree = Tree::sample(vec![Package::sample(name, manifest, code)]);
        check(&tree).into_iter().map(|violation| (violation.rule, violation.line)).collect()
    }

    #[test]
    fn each_way_to_the_machine_is_seen() {
        let samples = [
            ("fn f() { let t = std::time::Instant::now(); }", "protocol-clock"),
            ("fn f(t: Instant) { t.elapsed(); }", "protocol-clock"),
            ("use std::time::{Duration, SystemTime};", "protocol-clock"),
            ("fn f() { rand::rng().random::<u8>(); }", "protocol-randomness"),
            ("use aws_lc_rs::{digest, rand};", "protocol-randomness"),
            ("fn f(m: HashMap<u8, u8, std::hash::RandomState>) {}", "protocol-randomness"),
            ("use std::net::{IpAddr, UdpSocket};", "protocol-socket"),
            ("fn f(s: net::TcpStream) {}", "protocol-socket"),
            ("fn f() { tokio::spawn(g()); }", "protocol-socket"),
            ("use std::thread; fn f() { thread::spawn(|| 1); }", "protocol-thread"),
            ("async fn f() {}", "protocol-async"),
            ("fn f() -> impl Future<Output = ()> { g() }", "protocol-async"),
            ("fn f() { g().await }", "protocol-async"),
            ("use std::task::Waker;", "protocol-async"),
            ("fn f() { std::env::var(NAME); }", "protocol-system"),
        ];
        for (code, rule) in samples {
            assert_eq!(rules_broken("towline-dht", "", code), [(rule, 1)], "{code}");
        }
    }

    #[test]
    fn time_and_addresses_as_values_are_fine() {
        let code = "use std::time::{Duration, Instant};\nuse std::net::{IpAddr, SocketAddr};\n\
                    /// Never calls `Instant::now()`.\nfn f(now: Instant, rng: &mut StdRng) -> &str { \"tokio::net\" }\n\
                    fn tokio() {} fn random() {}";
        assert_eq!(rules_broken("towline-mux", "[dependencies]\nrand.workspace = true\n", code), []);
    }

    #[test]
    fn tests_may_do_as_they_like_and_so_may_other_floors() {
        let code = "#[cfg(test)]\nmod tests { fn f() { std::time::Instant::now(); } }";
        assert_eq!(rules_broken("towline-ice", "[dev-dependencies]\ntokio = \"1\"\n", code), []);
        let code = "fn f() { std::time::Instant::now(); }";
        assert_eq!(rules_broken("towline-net", "[dependencies]\ntokio = \"1\"\n", code), []);
    }

    #[test]
    fn a_runtime_among_the_dependencies_is_seen() {
        let manifest = "[dependencies]\nbytes = \"1\"\ntokio.workspace = true\n";
        assert_eq!(rules_broken("towline-tls", manifest, ""), [("protocol-dependency", 5)]);
    }

    #[test]
    fn rand_with_a_system_source_is_seen() {
        let bad = [
            "rand = \"0.10\"",
            "rand = { version = \"0.10\", default-features = false, features = [\"sys_rng\"] }",
        ];
        for line in bad {
            let manifest = format!("[dependencies]\n{line}\n");
            assert_eq!(rules_broken("towline-dht", &manifest, ""), [("protocol-randomness", 4)], "{line}");
        }
    }

    #[test]
    fn exemptions_hold_only_where_they_are_listed() {
        let code = "use aws_lc_rs::rand::SystemRandom;";
        assert_eq!(rules_broken("towline-tls", "", code), []);
        assert_eq!(rules_broken("towline-ice", "", code), [("protocol-randomness", 1)]);
        for (name, rule, reason) in EXEMPT {
            assert!(PROTOCOL.contains(name) && BANS.iter().any(|ban| ban.rule == *rule) && reason.len() > 20);
        }
    }
}
