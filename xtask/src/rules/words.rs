//! What the tree must not say: unfinished work without an issue, paths of one machine, hosts of registries;
//! and what ARCHITECTURE.md must say.

use std::path::Path;

use super::Violation;
use crate::tree::Tree;

/// Marks of unfinished work; fine when an issue follows, as in `TODO(#12)`.
const MARKS: &[&str] = &["TODO", "FIXME", "XXX"];

/// Calls and attributes that leave something out.
const GAPS: &[&str] = &["todo!", "unimplemented!", "#[ignore"];

/// Places that exist on one machine only.
const MACHINE_PATHS: &[&str] = &["/work/", "/root/", "/home/", "/Users/"];

/// Package registries: the clients know their hosts.
const REGISTRY_HOSTS: &[&str] = &[
    "crates.io",
    "deb.debian.org",
    "files.pythonhosted.org",
    "proxy.golang.org",
    "pypi.org",
    "registry.npmjs.org",
];

/// Files that carry such words by their nature: this one, and what a tool writes.
const EXEMPT: &[&str] = &["xtask/src/rules/words.rs", "LICENSE-APACHE", "LICENSE-MIT"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for text in tree.texts.iter().filter(|text| !is_exempt(&text.path)) {
        for (index, line) in text.text.lines().enumerate() {
            let mut report = |found: String, fix: &str| {
                violations.push(Violation {
                    path: text.path.clone(),
                    line: index + 1,
                    rule: "words",
                    found,
                    fix: fix.to_owned(),
                });
            };
            for mark in MARKS.iter().filter(|mark| has_open_mark(line, mark)) {
                report(format!("`{mark}` without an issue"), "finish it, or write `TODO(#issue)`");
            }
            for path in MACHINE_PATHS.iter().filter(|path| has_machine_path(line, path)) {
                report(format!("the machine path `{path}`"), "use a path relative to the workspace");
            }
            for host in REGISTRY_HOSTS.iter().filter(|host| line.contains(**host)) {
                report(format!("the registry host `{host}`"), "name the package, the client knows the host");
            }
        }
    }
    for source in tree.packages.iter().flat_map(|package| &package.sources) {
        for (gap, token) in GAPS.iter().flat_map(|gap| source.find(gap).map(move |token| (gap, token))) {
            violations.push(Violation {
                path: source.path.clone(),
                line: token.line,
                rule: "words",
                found: format!("`{gap}`"),
                fix: "write the missing part, or leave it out of the tree".to_owned(),
            });
        }
    }
    violations
}

/// Vectors, corpora and kept seeds are data and not text.
fn is_exempt(path: &Path) -> bool {
    EXEMPT.iter().any(|exempt| path.as_os_str() == *exempt)
        || path.file_name().is_some_and(|name| name == "Cargo.lock")
        || path.components().any(|part| {
            matches!(part.as_os_str().to_str(), Some("vectors" | "corpus" | "proptest-regressions"))
        })
}

fn has_open_mark(line: &str, mark: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(mark).any(|(at, _)| {
        let after = &line[at + mark.len()..];
        !line[..at].ends_with(is_word) && !after.starts_with(is_word) && !after.starts_with("(#")
    })
}

/// `target/work/x` and `https://host/home/x` are no machine paths.
fn has_machine_path(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}".contains(c)))
}

pub(super) fn check_map(tree: &Tree) -> Vec<Violation> {
    let Some(map) = tree.texts.iter().find(|text| text.path.as_os_str() == "ARCHITECTURE.md") else {
        return Vec::new();
    };
    let is_named = |dir: &str| {
        map.text.match_indices(dir).any(|(at, _)| {
            !map.text[at + dir.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_')
        })
    };
    let missing = tree.packages.iter().filter(|package| !package.dir.to_str().is_some_and(is_named));
    missing
        .map(|package| Violation {
            path: map.path.clone(),
            line: 1,
            rule: "map",
            found: format!("`{}` is not on the map", package.dir.display()),
            fix: "say in ARCHITECTURE.md what it is and on which floor it stands".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Package, Text};

    fn broken(code: &str) -> Vec<String> {
        let tree = Tree::sample(vec![Package::sample("towline", "", code)]);
        check(&tree).into_iter().map(|violation| violation.found).collect()
    }

    #[test]
    fn unfinished_work_is_seen() {
        assert_eq!(broken("// TODO: write this"), ["`TODO` without an issue"]);
        assert_eq!(broken("/* FIXME */"), ["`FIXME` without an issue"]);
        assert_eq!(broken("fn f() { todo!() }"), ["`todo!`"]);
        assert_eq!(broken("fn f() { unimplemented!(\"later\") }"), ["`unimplemented!`"]);
        assert_eq!(broken("#[test] #[ignore = \"slow\"] fn f() {}"), ["`#[ignore`"]);
    }

    #[test]
    fn places_and_hosts_are_seen() {
        assert_eq!(broken("const P: &str = \"/root/x\";"), ["the machine path `/root/`"]);
        assert_eq!(broken("// see /work/notes"), ["the machine path `/work/`"]);
        assert_eq!(broken("// from https://crates.io/x"), ["the registry host `crates.io`"]);
    }

    #[test]
    fn harmless_text_is_not() {
        for code in [
            "// TODO(#12): the relay",
            "let name = mktemp(\"aXXX\"); const TODOS: u8 = 1;",
            "// todo lists are fine, and ignore too",
            "// files under target/work/ are build products",
        ] {
            assert_eq!(broken(code), [""; 0], "{code}");
        }
    }

    #[test]
    fn every_crate_is_on_the_map() {
        let mut tree = Tree::sample(vec![
            Package::sample("towline-dht", "", ""),
            Package::sample("towline-mux", "", ""),
        ]);
        assert_eq!(check_map(&tree).len(), 0, "without the file there is nothing to compare");
        let text = "`crates/mux` carries channels. crates/dht-tools is another.".to_owned();
        tree.texts.push(Text { path: "ARCHITECTURE.md".into(), text });
        let found: Vec<String> = check_map(&tree).into_iter().map(|violation| violation.found).collect();
        assert_eq!(found, ["`crates/dht` is not on the map"]);
    }
}
