//! How long each step took, ours beside the daemon's own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// The times of one run. What is said here is printed at once, and as a table at the end.
#[derive(Debug)]
pub struct Steps {
    begun: Instant,
    columns: Vec<&'static str>,
    rows: Vec<(String, BTreeMap<&'static str, Duration>)>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { begun: Instant::now(), columns: Vec::new(), rows: Vec::new() }
    }
}

impl Steps {
    /// Says what is happening.
    #[expect(clippy::print_stdout, reason = "the story of the test is what a person runs this for")]
    pub fn say(&self, what: impl fmt::Display) {
        println!("{:>7.3} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// `what` took until now, between the two that `column` names.
    pub fn took(&mut self, column: &'static str, what: &str, since: Instant) {
        self.record(column, what, since.elapsed());
    }

    /// `what` took so long, between the two that `column` names.
    pub fn record(&mut self, column: &'static str, what: &str, took: Duration) {
        self.say(format_args!("{column}: {what}: {} ms", took.as_millis()));
        if !self.columns.contains(&column) {
            self.columns.push(column);
        }
        let row = match self.rows.iter_mut().find(|(name, _)| name == what) {
            Some((_, row)) => row,
            None => {
                self.rows.push((what.to_owned(), BTreeMap::new()));
                &mut self.rows.last_mut().expect("pushed just now").1
            }
        };
        row.insert(column, took);
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44}", "ms")?;
        for column in &self.columns {
            write!(f, " {column:>16}")?;
        }
        for (what, row) in &self.rows {
            write!(f, "\n{what:<44}")?;
            for column in &self.columns {
                let time =
                    row.get(column).map_or_else(|| "-".to_owned(), |time| time.as_millis().to_string());
                write!(f, " {time:>16}")?;
            }
        }
        writeln!(f)
    }
}
