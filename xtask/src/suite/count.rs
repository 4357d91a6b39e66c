//! Reading how many tests a runner ran from the lines it closed with.

use std::fmt;
use std::ops::Add;

/// Tests, or checks that count as one test each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl Count {
    /// A step that either holds or not.
    pub(super) fn of_check(success: bool) -> Self {
        Self { passed: usize::from(success), failed: usize::from(!success), skipped: 0 }
    }

    /// `Summary [ 1.2s] 7/9 tests run: 5 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
    pub(super) fn of_nextest(lines: &[String]) -> Self {
        let summaries = lines.iter().filter_map(|line| {
            let (head, counts) = line.split_once(" run: ")?;
            head.contains("Summary [").then_some(counts)
        });
        summaries.fold(Self::default(), |sum, counts| sum + Self::of_parts(counts.split(',')))
    }

    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s`
    pub(super) fn of_libtest(lines: &[String]) -> Self {
        let results = lines.iter().filter_map(|line| line.split_once("test result: ")?.1.split_once(". "));
        results.fold(Self::default(), |sum, (_, counts)| sum + Self::of_parts(counts.split(';')))
    }

    /// `12 passed, 0 failed`
    pub(super) fn of_plain(lines: &[String]) -> Self {
        let last = lines.iter().rev().find(|line| line.contains(" passed, ") && line.contains(" failed"));
        last.map(|line| Self::of_parts(line.split(','))).unwrap_or_default()
    }

    fn of_parts<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut count = Self::default();
        for part in parts {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what.split('(').next().unwrap_or_default().trim() {
                "passed" => count.passed += number,
                "failed" | "timed out" | "exec failed" => count.failed += number,
                "ignored" => count.skipped += number,
                _ => {}
            }
        }
        count
    }

    /// The exit code has the last word: a runner that failed without a failed test did not build.
    pub(super) fn or_check(self, success: bool) -> Self {
        if !success && self.failed == 0 { self + Self::of_check(false) } else { self }
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Drops the escape sequences `ESC [ .. m`.
pub(super) fn without_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(without_colours).collect()
    }

    #[test]
    fn nextest_is_read() {
        let text = "PASS [ 0.1s] a 3 passed\n\u{1b}[32;1m     Summary\u{1b}[0m [   1.2s] \u{1b}[1m7/9\u{1b}[0m tests run: 5 passed (1 slow), 1 failed, 1 timed out, 2 skipped";
        assert_eq!(Count::of_nextest(&lines(text)), Count { passed: 5, failed: 2, skipped: 0 });
        let one = "     Summary [   0.005s] 1 test run: 1 passed, 0 skipped";
        assert_eq!(Count::of_nextest(&lines(one)), Count { passed: 1, failed: 0, skipped: 0 });
        assert_eq!(Count::of_nextest(&lines("error: 3 tests run: 3 passed")), Count::default());
    }

    #[test]
    fn libtest_is_summed() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.20s";
        assert_eq!(Count::of_libtest(&lines(text)), Count { passed: 4, failed: 2, skipped: 1 });
    }

    #[test]
    fn the_last_plain_line_counts() {
        let text = "1 passed, 1 failed\n12 passed, 0 failed\nnothing failed";
        assert_eq!(Count::of_plain(&lines(text)), Count { passed: 12, failed: 0, skipped: 0 });
    }

    #[test]
    fn a_failure_without_a_failed_test_is_one() {
        assert_eq!(Count::default().or_check(false), Count { passed: 0, failed: 1, skipped: 0 });
        assert_eq!(Count::of_check(true).or_check(true).to_string(), "1 passed, 0 failed");
        let count = Count { passed: 1, failed: 2, skipped: 3 };
        assert_eq!(count.or_check(false).to_string(), "1 passed, 2 failed, 3 skipped");
    }
}
