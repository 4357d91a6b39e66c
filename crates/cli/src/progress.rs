//! Progress of one file: a bar on a terminal, a line a second for programs.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::event::Event;
use crate::output::{Output, Place};
use crate::text::printable;

/// Pause between two lines for programs.
const PAUSE: Duration = Duration::from_secs(1);

/// How far a file has come. The bar disappears with it.
#[derive(Debug)]
pub(crate) struct Progress {
    output: Output,
    place: Option<Place>,
    name: String,
    bytes: u64,
    done: u64,
    said: Instant,
}

impl Progress {
    /// Shows a file of `bytes` bytes.
    pub(crate) fn new(output: &Output, name: &str, bytes: u64) -> Self {
        let place = output.place(|| {
            let style = ProgressStyle::with_template(
                "{prefix:24!} {bar:24} {binary_bytes:>10} of {binary_total_bytes:<10} {binary_bytes_per_sec:>12} {eta:>4}",
            )
            .expect("the template is valid")
            .progress_chars("━╸─");
            ProgressBar::new(bytes).with_style(style).with_prefix(printable(name))
        });
        Self {
            output: output.clone(),
            place,
            name: name.to_owned(),
            bytes,
            done: 0,
            said: towline::net::now(),
        }
    }

    /// More has been moved.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if let Some(Place { bar, .. }) = &self.place {
            bar.set_position(self.done);
            return;
        }
        let now = towline::net::now();
        if now.duration_since(self.said) >= PAUSE {
            self.said = now;
            self.output.say(&Event::FileProgress {
                name: self.name.clone(),
                done: self.done,
                bytes: self.bytes,
            });
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Place { bar, .. }) = &self.place {
            bar.finish_and_clear();
        }
    }
}
