//! The table of faults names tests that exist, and leaves no fault out.

use super::Violation;
use crate::tree::Tree;

/// The table.
const TABLE: &str = "crates/towline/tests/faults.md";
/// Faults in the list that it answers to.
const FAULTS: usize = 32;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(table) = tree.texts.iter().find(|text| text.path.as_os_str() == TABLE) else {
        return vec![violation(1, "the table of faults is missing".to_owned(), "write it")];
    };
    let mut violations = Vec::new();
    let mut numbers = Vec::new();
    for (index, line) in table.text.lines().enumerate() {
        numbers.extend(number_of(line));
        for named in named_tests(line).filter(|(path, name)| !exists(tree, path, name)) {
            let found = format!("there is no test `{}.rs::{}`", named.0, named.1);
            violations.push(violation(index + 1, found, "name the test that has taken its place"));
        }
    }
    if numbers != (1..=FAULTS).collect::<Vec<_>>() {
        let found = format!("faults 1 to {FAULTS} do not each have one row, in order");
        violations.push(violation(1, found, "write the missing row"));
    }
    violations
}

/// The number in the first cell of a row.
fn number_of(line: &str) -> Option<usize> {
    line.strip_prefix("| ")?.split_once(" |")?.0.parse().ok()
}

/// What stands in a line as `` `file.rs::name` ``.
fn named_tests(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter_map(|quoted| quoted.split_once(".rs::"))
}

fn exists(tree: &Tree, path: &str, name: &str) -> bool {
    let wanted = format!("crates/{path}.rs");
    let file = tree.texts.iter().find(|text| text.path.as_os_str() == &*wanted);
    file.is_some_and(|file| {
        let mut lines = file.text.lines().map(str::trim);
        let mut marked = false;
        lines.any(|line| {
            let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if declared.and_then(|rest| rest.split_once('(')).is_some_and(|(it, _)| it == name) {
                return marked;
            }
            // Other attributes and comments may stand between.
            marked = line.starts_with("#[test]")
                || line.starts_with("#[tokio::test")
                || (marked && (line.starts_with('#') || line.starts_with("//")));
            false
        })
    })
}

fn violation(line: usize, found: String, fix: &str) -> Violation {
    Violation { path: TABLE.into(), line, rule: "faults", found, fix: fix.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Text;

    fn broken(table: &str, code: &str) -> Vec<(usize, String)> {
        let mut tree = Tree::sample(Vec::new());
        tree.texts.push(Text { path: TABLE.into(), text: table.to_owned() });
        tree.texts.push(Text { path: "crates/mux/tests/faults.rs".into(), text: code.to_owned() });
        check(&tree).into_iter().map(|violation| (violation.line, violation.found)).collect()
    }

    fn table(tests: &str) -> String {
        let rows: Vec<String> =
            (1..=FAULTS).map(|number| format!("| {number} | a fault | {tests} |")).collect();
        rows.join("\n")
    }

    #[test]
    fn tests_that_exist_are_found() {
        let table = table("`mux/tests/faults.rs::one` `mux/tests/faults.rs::two`, and `Some::Path`");
        let code = "#[test]\nfn one() {}\n#[tokio::test]\n#[expect(x)]\nasync fn two() {}\n";
        assert_eq!(broken(&table, code), []);
    }

    #[test]
    fn what_is_no_test_or_is_nowhere_is_named() {
        let code = "#[test]\nfn other() {}\nfn one() {}\n";
        let found = broken(&table("`mux/tests/faults.rs::one`"), code);
        assert_eq!(found.len(), FAULTS);
        assert_eq!(found[3], (4, "there is no test `mux/tests/faults.rs::one`".to_owned()));
        assert_eq!(broken(&table("`ice/tests/faults.rs::other`"), code).len(), FAULTS);
    }

    #[test]
    fn every_fault_has_a_row() {
        let missing = table("nothing").replace("| 7 |", "| seven |");
        assert_eq!(broken(&missing, "").len(), 1);
        assert_eq!(broken("", "").len(), 1);
        assert_eq!(check(&Tree::sample(Vec::new())).len(), 1);
    }
}
