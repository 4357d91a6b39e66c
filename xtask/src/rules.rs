//! The rules of the house, each in a file of its own with samples that break it.

mod bounds;
mod determinism;
mod faults;
mod floors;
mod length;
mod purity;
mod words;

use std::fmt;
use std::path::PathBuf;

use crate::tree::Tree;

/// A place where the tree breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) path: PathBuf,
    pub(crate) line: usize,
    /// Stable name of the rule.
    pub(crate) rule: &'static str,
    pub(crate) found: String,
    pub(crate) fix: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: [{}] {}\n    fix: {}",
            self.path.display(),
            self.line,
            self.rule,
            self.found,
            self.fix
        )
    }
}

/// A rule: a name for the reader and a function over the tree.
pub(crate) type Rule = (&'static str, fn(&Tree) -> Vec<Violation>);

/// All rules, in the order in which they report.
pub(crate) const RULES: &[Rule] = &[
    ("protocol crates keep out of the operating system", purity::check),
    ("crates depend only downwards", floors::check),
    ("every package takes the lints of the workspace", floors::check_lints),
    ("files hold one idea", length::check),
    ("no queue without a bound", bounds::check),
    ("the same seed gives the same run", determinism::check),
    ("nothing unfinished, nothing private", words::check),
    ("ARCHITECTURE.md names every crate", words::check_map),
    ("every known fault has tests", faults::check),
];
