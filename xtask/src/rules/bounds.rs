//! Every queue has a bound and someone who pays: no unbounded channel exists, not even in a test.

use super::Violation;
use crate::source::Source;
use crate::tree::Tree;

/// Names that exist only for unbounded queues, in tokio, futures, flume, crossbeam and their like.
const NAMES: &[&str] =
    &["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "unbounded_async", "SegQueue"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree.packages.iter().flat_map(|package| &package.sources) {
        let mut lines = lines_of(source);
        lines.sort_unstable();
        lines.dedup();
        violations.extend(lines.into_iter().map(|line| Violation {
            path: source.path.clone(),
            line,
            rule: "unbounded-queue",
            found: source.line(line).trim().to_owned(),
            fix: "use a channel with a capacity, and decide what happens when it is full".to_owned(),
        }));
    }
    violations
}

fn lines_of(source: &Source) -> Vec<usize> {
    let mut lines: Vec<usize> =
        NAMES.iter().flat_map(|name| source.find(name)).map(|token| token.line).collect();
    // `flume::unbounded()`, `async_channel::unbounded::<T>()`, also imported under their short name.
    for path in &source.paths {
        let last = path.segments.last().is_some_and(|last| last == "unbounded");
        if last && path.segments.len() > 1 {
            lines.push(path.line);
        }
    }
    // `channel()` without an argument is the standard library's unbounded one; tokio's takes a capacity.
    let imports_std = source.paths.iter().any(|path| path.from_use && path.contains("std::sync::mpsc"));
    for (index, token) in source.tokens.iter().enumerate().filter(|(_, token)| token.text == "channel") {
        let qualified =
            index >= 2 && source.tokens[index - 1].text == "::" && source.tokens[index - 2].text == "mpsc";
        let mut rest = source.tokens[index + 1..].iter().map(|token| &*token.text).peekable();
        if rest.next_if_eq(&"::").is_some() {
            let mut depth = 0_usize;
            for text in rest.by_ref() {
                match text {
                    "<" => depth += 1,
                    ">" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
        let called_empty = rest.next() == Some("(") && rest.next() == Some(")");
        if called_empty && (qualified || imports_std) {
            lines.push(token.line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Package;

    fn broken(code: &str) -> Vec<usize> {
        let tree = Tree::sample(vec![Package::sample("towline", "", code)]);
        check(&tree).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn unbounded_queues_are_seen() {
        for code in [
            "let (a, b) = tokio::sync::mpsc::unbounded_channel();",
            "use tokio::sync::mpsc::{UnboundedSender as Sender};",
            "let (a, b) = std::sync::mpsc::channel();",
            "let (a, b) = mpsc::channel::<Vec<u8>>();",
            "use std::sync::mpsc::channel; fn f() { let (a, b) = channel(); }",
            "let (a, b) = flume::unbounded();",
            "use async_channel::{bounded, unbounded};",
            "let (a, b) = futures::channel::mpsc::unbounded::<u8>();",
            "#[cfg(test)] mod tests { fn f() { crossbeam_channel::unbounded(); } }",
        ] {
            assert_eq!(broken(code), [1], "{code}");
        }
    }

    #[test]
    fn queues_with_a_capacity_are_fine() {
        for code in [
            "let (a, b) = mpsc::channel(16);",
            "let (a, b) = tokio::sync::mpsc::channel::<Event>(limits.events);",
            "let c = self.channel(); // not mpsc::channel()",
            "let (a, b) = std::sync::mpsc::sync_channel(1);",
            "enum Range { unbounded }",
        ] {
            assert_eq!(broken(code), [0; 0], "{code}");
        }
    }
}
