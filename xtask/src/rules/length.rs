//! A file holds one idea; a production file beyond the limit must be split or stand on a list.

use super::Violation;
use crate::tree::Tree;

/// Lines of production code in one file; tests inside the file do not count.
const LIMIT: usize = 600;

/// `path: reason`, one a line.
const LIST: &str = "xtask/long-files.txt";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let list = tree.texts.iter().find(|text| text.path.as_os_str() == LIST);
    let mut violations = Vec::new();
    let mut excused: Vec<(usize, &str)> = Vec::new();
    for (index, line) in list.map(|list| &*list.text).unwrap_or_default().lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((path, reason)) if reason.trim().len() >= 10 => excused.push((index + 1, path.trim())),
            _ => violations.push(violation(index + 1, "an entry without a reason", "write `path: reason`")),
        }
    }
    let mut used = vec![false; excused.len()];
    for source in tree.packages.iter().flat_map(|package| &package.sources) {
        let lines = source.production_lines();
        if lines <= LIMIT {
            continue;
        }
        if let Some(entry) = excused.iter().position(|(_, path)| source.path.as_os_str() == *path) {
            used[entry] = true;
            continue;
        }
        violations.push(Violation {
            path: source.path.clone(),
            line: LIMIT + 1,
            rule: "length",
            found: format!("{lines} lines of production code, more than {LIMIT}"),
            fix: format!("split it by ideas, or add `{}: reason` to {LIST}", source.path.display()),
        });
    }
    for ((line, path), _) in excused.iter().zip(used).filter(|(_, used)| !used) {
        violations.push(violation(*line, &format!("`{path}` is no longer too long"), "remove the entry"));
    }
    violations
}

fn violation(line: usize, found: &str, fix: &str) -> Violation {
    Violation { path: LIST.into(), line, rule: "length", found: found.to_owned(), fix: fix.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Package, Text};

    fn broken(code: &str, list: &str) -> Vec<String> {
        let mut tree = Tree::sample(vec![Package::sample("towline-dht", "", code)]);
        tree.texts.push(Text { path: LIST.into(), text: list.to_owned() });
        check(&tree).into_iter().map(|violation| violation.found).collect()
    }

    #[test]
    fn long_files_need_a_reason() {
        let long = "fn f() {}\n".repeat(601);
        assert_eq!(broken(&long, ""), ["601 lines of production code, more than 600"]);
        assert_eq!(broken(&"fn f() {}\n".repeat(600), ""), [""; 0]);
        assert_eq!(broken(&long, "crates/dht/src/lib.rs: one table, cannot be cut\n"), [""; 0]);
        assert_eq!(broken(&long, "crates/dht/src/lib.rs:\n").len(), 2);
    }

    #[test]
    fn tests_do_not_count() {
        let code = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn g() {}\n".repeat(700));
        assert_eq!(broken(&code, ""), [""; 0]);
    }

    #[test]
    fn stale_entries_are_removed() {
        assert_eq!(
            broken("", "crates/dht/src/lib.rs: was long once\n"),
            ["`crates/dht/src/lib.rs` is no longer too long"]
        );
    }
}
