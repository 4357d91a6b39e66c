//! The memory of treated requests on disk: a line for each, `device id time`, the time in seconds since the Unix epoch.
//!
//! It is a help and not a record: what cannot be read is skipped, and a file that cannot be written is reported and done
//! without.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use towline_net::Net;

use super::treated::{REMEMBERED, Treated};
use crate::config::Config;
use crate::file::replace;

/// Bytes of the longest line: 64 and 14 hex digits, 20 digits, and what separates them.
const LONGEST_LINE: usize = 64 + 14 + 20 + 3;

impl Treated {
    /// The memory of an earlier run, as far as there is one.
    pub(crate) async fn load(net: &Arc<dyn Net>, config: &Config) -> Self {
        let mut treated = Self::new(config.limits.treated_requests, config.limits.treated_per_sender);
        let Some(path) = config.treated_path.clone() else { return treated };
        let longest = treated.capacity().saturating_mul(LONGEST_LINE);
        match net.offload(move || read(&path, longest)).await {
            Ok(content) => treated.decode(&content, towline_net::now(), net.unix_time()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the memory of treated requests could not be read"),
        }
        treated
    }

    /// The content of the file.
    pub(crate) fn encode(&self, now: Instant, unix: Duration) -> String {
        let mut text = String::new();
        for (seen, sender, id) in self.requests() {
            let at = unix.saturating_sub(now.saturating_duration_since(seen)).as_secs();
            writeln!(text, "{sender} {id:x} {at}").expect("writing to memory never fails");
        }
        text
    }

    /// Takes up what was written. What is too old, or no such line, is left out; a time that is yet to come was written by
    /// a clock that was wrong, then or now, and counts as just past.
    fn decode(&mut self, content: &[u8], now: Instant, unix: Duration) {
        for line in content.split(|byte| *byte == b'\n') {
            let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
            let (Some(sender), Some(id), Some(at), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let (Ok(sender), Ok(id), Ok(at)) = (sender.parse(), u64::from_str_radix(id, 16), at.parse())
            else {
                continue;
            };
            let age = unix.saturating_sub(Duration::from_secs(at));
            if age < REMEMBERED {
                // Where the clock does not reach back that far, it is remembered for longer.
                self.insert(now.checked_sub(age).unwrap_or(now), sender, id, false);
            }
        }
    }
}

fn read(path: &Path, longest: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(longest as u64).read_to_end(&mut content)?;
    Ok(content)
}

/// Writes the file.
pub(crate) fn save(path: &Path, content: &str) {
    if let Err(error) = replace(path, content.as_bytes()) {
        tracing::warn!(%error, "the memory of treated requests could not be written");
    }
}

#[cfg(test)]
mod tests {
    use towline_identity::DeviceId;

    use super::*;

    const NOW: Duration = Duration::from_hours(500_000);

    fn restarted(content: &[u8], later: Duration) -> Treated {
        let mut treated = Treated::new(100, 100);
        treated.decode(content, Instant::now() + Duration::from_hours(1), NOW + later);
        treated
    }

    #[test]
    fn a_restart_forgets_no_request() {
        let now = Instant::now();
        let (alice, bob) = (DeviceId([1; 32]), DeviceId([2; 32]));
        let mut treated = Treated::new(100, 100);
        treated.insert(now, alice, 1 << 53, false);
        treated.insert(now + REMEMBERED / 2, bob, 7, false);
        treated.insert(now, bob, 8, true);
        let content = treated.encode(now + REMEMBERED / 2, NOW);
        assert!(content.lines().all(|line| line.len() < LONGEST_LINE));
        let again = restarted(content.as_bytes(), Duration::from_secs(1));
        assert!(again.contains(alice, 1 << 53, false) && again.contains(bob, 7, false));
        assert_eq!(again.requests().count(), 2, "answers are not kept");
        let late = restarted(content.as_bytes(), REMEMBERED / 2);
        assert!(!late.contains(alice, 1 << 53, false) && late.contains(bob, 7, false));
    }

    #[test]
    fn rubbish_is_skipped() {
        let alice = DeviceId([1; 32]);
        let good = format!("{alice} a {}", NOW.as_secs());
        let future = format!("{alice} b {}", NOW.as_secs() + 1_000_000);
        let lines =
            ["", "one two three", "\u{0}", &format!("{good} "), &good, &format!("{alice} xyz 1"), &future];
        let mut content = lines.join("\n").into_bytes();
        content.extend(b"\n\xff\xfe \xff \xff\n\n  ");
        let treated = restarted(&content, Duration::ZERO);
        assert!(treated.contains(alice, 10, false) && treated.contains(alice, 11, false));
        assert_eq!(treated.requests().count(), 2);
        for cut in 0..content.len() {
            restarted(&content[cut..], Duration::ZERO);
        }
        let many: String =
            (0..1000).fold(String::new(), |text, id| format!("{text}{alice} {id:x} 1800000000\n"));
        assert_eq!(restarted(many.as_bytes(), Duration::ZERO).requests().count(), 100);
    }

    #[test]
    fn what_is_longer_than_the_memory_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("treated");
        assert_eq!(read(&path, 10).unwrap_err().kind(), io::ErrorKind::NotFound);
        save(&path, &"x".repeat(1000));
        assert_eq!(read(&path, 10).unwrap().len(), 10);
        save(&directory.path().join("nowhere/treated"), "this is only reported");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
