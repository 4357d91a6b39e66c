//! The whole stack replays from a seed: no clock, socket or order that the simulation does not hold.

use super::Violation;
use super::purity::PROTOCOL;
use crate::source::Source;
use crate::tree::Tree;

/// Crates that run unchanged in the simulated network, and the simulation itself.
const SIMULATED: &[&str] = &["towline-lab", "towline-files", "towline-calls", "towline"];

/// The one door to the operating system.
const NET: &str = "towline-net";

/// Comment that excuses a map without order: `// order-free: reason`.
const EXCUSE: &str = "order-free";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in &tree.packages {
        let name = &*package.name;
        for source in &package.sources {
            let mut report = |rule, lines: Vec<usize>, fix: &str| {
                let mut lines = lines;
                lines.sort_unstable();
                lines.dedup();
                violations.extend(lines.into_iter().map(|line| Violation {
                    path: source.path.clone(),
                    line,
                    rule,
                    found: source.line(line).trim().to_owned(),
                    fix: fix.to_owned(),
                }));
            };
            if SIMULATED.contains(&name) {
                report("clock", clocks(source), "ask the network trait for the time, it may be virtual");
                report("socket", sockets(source), "go through the network trait of `towline-net`");
            }
            if SIMULATED.contains(&name) || name == NET {
                report("select-order", unbiased_selects(source), "start the `select!` with `biased;`");
            }
            if SIMULATED.contains(&name) || PROTOCOL.contains(&name) {
                report(
                    "map-order",
                    unordered_maps(source),
                    "use `BTreeMap`/`BTreeSet`, or say on the import `// order-free: reason`",
                );
            }
        }
    }
    violations
}

/// The simulation pauses tokio's clock, so `tokio::time` is virtual there; the standard library's is not.
fn clocks(source: &Source) -> Vec<usize> {
    let virtual_instant =
        source.paths.iter().any(|path| path.from_use && path.contains("tokio::time::Instant"));
    let production = source.paths.iter().filter(|path| !path.in_test && !path.from_use);
    let real = production.filter(|path| {
        let real_instant = path.contains("Instant::now")
            && !path.contains("tokio::time::Instant")
            && (!virtual_instant || path.contains("std::time::Instant"));
        real_instant || path.contains("SystemTime::now") || path.contains("thread::sleep")
    });
    real.map(|path| path.line).collect()
}

fn sockets(source: &Source) -> Vec<usize> {
    let forbidden = [
        "std::net::UdpSocket",
        "std::net::TcpStream",
        "std::net::TcpListener",
        "std::net::*",
        "std::os::unix::net",
        "tokio::net",
        "socket2",
    ];
    let production = source.paths.iter().filter(|path| !path.in_test);
    production.filter(|path| forbidden.iter().any(|f| path.contains(f))).map(|path| path.line).collect()
}

/// `select!` polls its branches in random order unless it is told not to.
fn unbiased_selects(source: &Source) -> Vec<usize> {
    let texts = source.tokens.windows(4).filter(|window| !window[0].in_test);
    let selects = texts.filter(|window| window[0].text == "select" && window[1].text == "!");
    selects.filter(|window| window[3].text != "biased").map(|window| window[0].line).collect()
}

fn unordered_maps(source: &Source) -> Vec<usize> {
    let production = source.paths.iter().filter(|path| !path.in_test);
    let maps = production.filter(|path| {
        let imported =
            path.segments.iter().any(|s| matches!(&**s, "HashMap" | "HashSet" | "hash_map" | "hash_set"));
        imported && (path.from_use || path.contains("collections")) || path.contains("std::collections::*")
    });
    maps.map(|path| path.line).filter(|line| !source.is_excused(*line, EXCUSE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Package;

    fn broken(name: &str, code: &str) -> Vec<(&'static str, usize)> {
        let tree = Tree::sample(vec![Package::sample(name, "", code)]);
        check(&tree).into_iter().map(|violation| (violation.rule, violation.line)).collect()
    }

    #[test]
    fn clocks_and_sockets_belong_to_net() {
        assert_eq!(broken("towline", "use std::time::Instant; fn f() { Instant::now(); }"), [("clock", 1)]);
        assert_eq!(broken("towline-lab", "fn f() { std::time::SystemTime::now(); }"), [("clock", 1)]);
        let mixed = "use tokio::time::Instant; fn f() { std::time::Instant::now(); }";
        assert_eq!(broken("towline-lab", mixed), [("clock", 1)]);
        let paused =
            "use tokio::time::{sleep, Instant};\nfn f() { Instant::now(); tokio::time::Instant::now(); }";
        assert_eq!(broken("towline-lab", paused), []);
        assert_eq!(broken("towline", "use tokio::net::UdpSocket;"), [("socket", 1)]);
        assert_eq!(broken("towline-lab", "fn f() { std::net::TcpStream::connect(a); }"), [("socket", 1)]);
        assert_eq!(broken("towline-net", "use tokio::net::UdpSocket; fn f() { Instant::now(); }"), []);
        assert_eq!(broken("towline", "use std::net::SocketAddr; use towline_net::TcpStream;"), []);
        assert_eq!(broken("towline", "#[cfg(test)] mod tests { fn f() { Instant::now(); } }"), []);
    }

    #[test]
    fn selects_are_biased() {
        assert_eq!(broken("towline", "tokio::select! {\n  a = f() => {}\n}"), [("select-order", 1)]);
        assert_eq!(broken("towline-net", "select! { a = f() => {} }"), [("select-order", 1)]);
        assert_eq!(broken("towline", "tokio::select! {\n  biased;\n  a = f() => {}\n}"), []);
    }

    #[test]
    fn maps_without_order_need_a_reason() {
        assert_eq!(broken("towline-dht", "use std::collections::{BTreeMap, HashMap};"), [("map-order", 1)]);
        assert_eq!(broken("towline", "fn f(s: std::collections::HashSet<u8>) {}"), [("map-order", 1)]);
        assert_eq!(broken("towline-mux", "use std::collections::hash_map::Entry;"), [("map-order", 1)]);
        assert_eq!(broken("towline-mux", "use std::collections::*;"), [("map-order", 1)]);
        let excused = "// order-free: only ever looked up by key\nuse std::collections::HashMap;";
        assert_eq!(broken("towline-ice", excused), []);
        assert_eq!(
            broken("towline-ice", "// order-free:\nuse std::collections::HashMap;"),
            [("map-order", 2)]
        );
        assert_eq!(broken("towline-cli", "use std::collections::HashMap;"), []);
    }
}
