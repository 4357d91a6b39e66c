//! Rust source as the rules see it: tokens without comments and literals, each knowing its line and
//! whether it belongs to a test, and every path that a `use` declaration or an expression names.
//!
//! This is a scanner and not a parser: it needs no dependency, takes milliseconds for the whole tree, and
//! never fails on code that does not compile yet.

use std::path::{Path, PathBuf};

/// One token of code: an identifier, a number, `::`, or one punctuation character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Inside an item under `#[cfg(test)]`, or in a file that only tests compile.
    pub(crate) in_test: bool,
}

/// A path such as `std::net::UdpSocket`, taken from a `use` declaration or from an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodePath {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) in_test: bool,
    pub(crate) from_use: bool,
}

impl CodePath {
    /// Whether `pattern` (as in `std::net::*`) occurs in the path, segment by segment.
    pub(crate) fn contains(&self, pattern: &str) -> bool {
        let wanted: Vec<&str> = pattern.split("::").collect();
        self.segments.windows(wanted.len()).any(|window| window.iter().zip(&wanted).all(|(a, b)| a == b))
    }
}

/// One source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the root of the workspace.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) paths: Vec<CodePath>,
    /// Files that exist only for tests, because a `#[cfg(test)] mod name;` names them.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    pub(crate) fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let mut tokens = tokenise(&mask(&text));
        let test_modules = mark_tests(&mut tokens);
        if is_test_file(&path) {
            mark(&mut tokens);
        }
        let paths = collect_paths(&tokens);
        Self { path, text, tokens, paths, test_modules }
    }

    /// Declares the whole file to be test code.
    pub(crate) fn mark_as_test(&mut self) {
        mark(&mut self.tokens);
        for path in &mut self.paths {
            path.in_test = true;
        }
    }

    /// Lines of the file that are not inside a test.
    pub(crate) fn production_lines(&self) -> usize {
        let total = self.text.lines().count();
        let mut test_lines = vec![false; total + 2];
        let mut open: Option<usize> = None;
        for token in &self.tokens {
            match (token.in_test, open) {
                (true, None) => open = Some(token.line),
                (false, Some(start)) => {
                    test_lines[start..token.line].fill(true);
                    open = None;
                }
                _ => {}
            }
        }
        if let Some(start) = open {
            test_lines[start..=total].fill(true);
        }
        total - test_lines[1..=total].iter().filter(|test| **test).count()
    }

    /// Finds every place where the tokens of `pattern` follow each other.
    pub(crate) fn find<'a>(&'a self, pattern: &str) -> impl Iterator<Item = &'a Token> + use<'a> {
        let wanted: Vec<String> = tokenise(pattern).into_iter().map(|token| token.text).collect();
        let width = wanted.len();
        self.tokens
            .windows(width)
            .filter(move |window| window.iter().zip(&wanted).all(|(a, b)| a.text == *b))
            .map(|window| &window[0])
    }

    /// The text of a line, counted from 1; empty beyond the end.
    pub(crate) fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default()
    }

    /// Whether the line, or the block of comments right above it, carries `marker: some reason`.
    pub(crate) fn is_excused(&self, number: usize, marker: &str) -> bool {
        let gives_reason = |line: &str| {
            line.split_once("//")
                .and_then(|(_, comment)| comment.split_once(marker))
                .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
                .is_some_and(|reason| reason.trim().len() >= 10)
        };
        if gives_reason(self.line(number)) {
            return true;
        }
        (1..number)
            .rev()
            .map(|above| self.line(above))
            .take_while(|line| line.trim_start().starts_with("//"))
            .any(gives_reason)
    }
}

/// Integration tests, benchmarks and examples are not production code.
pub(crate) fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches" | "examples")))
}

/// Replaces comments and the insides of literals by spaces; newlines stay, so lines keep their numbers.
fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out: Vec<char> = chars.clone();
    let mut at = 0;
    let mut previous_is_word = false;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(&chars, at),
            '"' => string_end(&chars, at + 1),
            'r' | 'b' | 'c' if !previous_is_word => match literal_prefix(&chars, at) {
                Some(end) => end,
                None => at,
            },
            '\'' => char_literal_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end > at {
            for (slot, original) in out[at..end].iter_mut().zip(&chars[at..end]) {
                *slot = if *original == '\n' { '\n' } else { ' ' };
            }
            at = end;
            previous_is_word = false;
        } else {
            previous_is_word = chars[at].is_alphanumeric() || chars[at] == '_';
            at += 1;
        }
    }
    out.into_iter().collect()
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |offset| at + offset)
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of a literal that starts with `r`, `b`, `br`, `c` or `cr`; none when it is an identifier.
fn literal_prefix(chars: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    let mut raw = false;
    while let Some(c) = chars.get(at).filter(|c| matches!(c, 'r' | 'b' | 'c')) {
        raw |= *c == 'r';
        at += 1;
        if at - start > 2 {
            return None;
        }
    }
    if chars.get(at) == Some(&'\'') && chars[start] == 'b' && at == start + 1 {
        return char_literal_end(chars, at);
    }
    let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + hashes) != Some(&'"') || (hashes > 0 && !raw) {
        return None;
    }
    if !raw {
        return Some(string_end(chars, at + 1));
    }
    let mut at = at + hashes + 1;
    while at < chars.len() {
        if chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(chars.len())
}

/// The end of a character literal; none when the quote starts a lifetime or a label.
fn char_literal_end(chars: &[char], start: usize) -> Option<usize> {
    if chars.get(start + 1) == Some(&'\\') {
        let close = chars[start + 3..].iter().take(10).position(|c| *c == '\'')?;
        return Some(start + 3 + close + 1);
    }
    (chars.get(start + 2) == Some(&'\'')).then_some(start + 3)
}

/// Splits masked code into tokens.
fn tokenise(masked: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, text) in masked.split('\n').enumerate() {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(Token { text: rest[..length].to_owned(), line: index + 1, in_test: false });
            }
            rest = &rest[length..];
        }
    }
    tokens
}

/// Marks the items under `#[cfg(test)]` and returns the names of the modules that live in files of their own.
fn mark_tests(tokens: &mut [Token]) -> Vec<String> {
    let mut modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !is_test_attribute(&tokens[at..]) {
            at += 1;
            continue;
        }
        let start = at;
        while tokens.get(at).is_some_and(|token| token.text == "#") {
            at = skip_group(tokens, at + 1);
        }
        while let Some(token) = tokens.get(at) {
            match token.text.as_str() {
                ";" | "{" => break,
                "(" | "[" => at = skip_group(tokens, at),
                "mod" if tokens.get(at + 2).is_some_and(|after| after.text == ";") => {
                    modules.push(tokens[at + 1].text.clone());
                    at += 2;
                }
                _ => at += 1,
            }
        }
        at = skip_group(tokens, at);
        let end = at.min(tokens.len());
        mark(&mut tokens[start..end]);
    }
    modules
}

fn mark(tokens: &mut [Token]) {
    for token in tokens {
        token.in_test = true;
    }
}

fn is_test_attribute(tokens: &[Token]) -> bool {
    let starts = |pattern: &[&str]| {
        tokens.len() >= pattern.len()
            && pattern.iter().zip(tokens).all(|(wanted, token)| token.text == *wanted)
    };
    starts(&["#", "[", "cfg", "(", "test", ")", "]"])
        || starts(&["#", "[", "cfg", "(", "all", "(", "test"])
        || starts(&["#", "[", "test", "]"])
}

/// The index behind the group that opens at `at`, or behind the single token there.
fn skip_group(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return offset + 1;
        }
    }
    tokens.len()
}

fn is_word(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Every path of the file; the trees of `use` declarations are written out.
fn collect_paths(tokens: &[Token]) -> Vec<CodePath> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text == "use" {
            at = expand_use(tokens, at + 1, &[], &mut paths);
        } else if is_word(&tokens[at]) {
            let (line, in_test) = (tokens[at].line, tokens[at].in_test);
            let mut segments = vec![tokens[at].text.clone()];
            while tokens.get(at + 1).is_some_and(|token| token.text == "::")
                && tokens.get(at + 2).is_some_and(is_word)
            {
                at += 2;
                segments.push(tokens[at].text.clone());
            }
            at += 1;
            paths.push(CodePath { segments, line, in_test, from_use: false });
        } else {
            at += 1;
        }
    }
    paths
}

/// Writes out one tree of a `use` declaration; returns the index behind it.
fn expand_use(tokens: &[Token], start: usize, prefix: &[String], paths: &mut Vec<CodePath>) -> usize {
    let mut segments = prefix.to_vec();
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = expand_use(tokens, at, &segments, paths);
                    if tokens.get(at).is_some_and(|token| token.text == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "as" => at += 2,
            "<" => return at + 1, // `impl Trait + use<'a>`: captures, not a path
            text if text == "*" || is_word(token) => {
                segments.push(text.to_owned());
                at += 1;
            }
            _ => break,
        }
    }
    let from = start.min(tokens.len().saturating_sub(1));
    if segments.len() > prefix.len() {
        if segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        paths.push(CodePath {
            segments,
            line: tokens[from].line,
            in_test: tokens[from].in_test,
            from_use: true,
        });
    }
    at.max(start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Source::new("src/x.rs", text).tokens.into_iter().map(|token| token.text).collect()
    }

    fn used(text: &str) -> Vec<String> {
        let source = Source::new("src/x.rs", text);
        source.paths.into_iter().filter(|path| path.from_use).map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" r#\"i \" j\"# b\"k\" br##\"l\"# m\"## 'n' '\\'' '\\u{41}' b'o' p";
        assert_eq!(words(text), ["a", "e", "p"]);
    }

    #[test]
    fn lifetimes_and_raw_identifiers_stay() {
        assert_eq!(
            words("&'a str; r#type; bright"),
            ["&", "'", "a", "str", ";", "r", "#", "type", ";", "bright"]
        );
    }

    #[test]
    fn lines_keep_their_numbers_across_strings() {
        let source = Source::new("src/x.rs", "\"one\ntwo\"\n/* three\n*/ four");
        assert_eq!(source.tokens[0].line, 4);
    }

    #[test]
    fn use_trees_are_written_out() {
        let text = "use std::{net::{UdpSocket as Udp, self}, time::*}; pub(crate) use a::b;";
        assert_eq!(used(text), ["std::net::UdpSocket", "std::net", "std::time::*", "a::b"]);
    }

    #[test]
    fn captures_are_not_imports() {
        assert!(used("fn f() -> impl Iterator + use<'a, T> { std::iter::empty() }").is_empty());
    }

    #[test]
    fn test_items_are_marked_and_others_are_not() {
        let source = Source::new(
            "src/x.rs",
            "fn a() {}\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests {\n fn b() { [1;2]; }\n}\nfn c() {}\n#[cfg(not(test))]\nfn d() {}",
        );
        let production: Vec<&str> = source
            .tokens
            .iter()
            .filter(|t| !t.in_test && t.text.len() == 1 && is_word(t))
            .map(|t| &*t.text)
            .collect();
        assert_eq!(production, ["a", "c", "d"]);
        assert_eq!(source.production_lines(), 4);
    }

    #[test]
    fn test_modules_in_their_own_file_are_named() {
        let source = Source::new("src/x.rs", "mod a;\n#[cfg(test)]\nmod tests;\nfn b() {}");
        assert_eq!(source.test_modules, ["tests"]);
        assert!(!source.tokens.last().expect("there are tokens").in_test);
    }

    #[test]
    fn patterns_match_tokens_and_not_parts_of_words() {
        let source = Source::new("src/x.rs", "Instant :: now(); MyInstant::now(); Instant::nowhere();");
        assert_eq!(source.find("Instant::now").count(), 1);
    }

    #[test]
    fn an_excuse_needs_a_reason() {
        let source = Source::new(
            "src/x.rs",
            "a // order-free: only ever looked up by key\n// order-free: a set that is never iterated\n// (see above)\nb\n\nc // order-free:\nd",
        );
        assert!(source.is_excused(1, "order-free"));
        assert!(source.is_excused(4, "order-free"));
        assert!(!source.is_excused(6, "order-free"));
        assert!(!source.is_excused(7, "order-free"));
    }
}
