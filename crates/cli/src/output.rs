//! Everything the program prints passes here.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::args::Common;
use crate::event::{Event, Weight};
use crate::failure::Failure;

/// Progress bars at the same time.
const MOST_BARS: usize = 8;

/// Says what happens, to people or to programs. Cheap to clone.
///
/// A failure to print is no reason to drop a transfer: it is remembered, and [told](Self::delivered) at the end.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    level: Level,
    /// The standard output carries something else.
    data_on_stdout: bool,
    bars: Option<Arc<Bars>>,
    /// The first failure to write to the standard output.
    lost: Arc<OnceLock<io::Error>>,
}

/// Progress bars, no more than fit on a terminal.
#[derive(Debug)]
struct Bars {
    screen: MultiProgress,
    places: Arc<Semaphore>,
}

/// A place for one progress bar.
#[derive(Debug)]
pub(crate) struct Place {
    /// The bar in it.
    pub(crate) bar: ProgressBar,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Quiet,
    Normal,
    Verbose,
}

/// A line for programs, as it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct Line {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub(crate) time: f64,
    /// What happened then.
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// A line for programs, as it is written.
#[derive(Serialize)]
struct LineRef<'a> {
    time: f64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Output {
    /// As asked for on the command line.
    pub(crate) fn new(common: &Common, data_on_stdout: bool) -> Self {
        let level = match (common.quiet, common.verbose) {
            (true, _) => Level::Quiet,
            (false, 0) => Level::Normal,
            (false, _) => Level::Verbose,
        };
        let show_bars = !common.json && level != Level::Quiet && io::stderr().is_terminal();
        let bars = show_bars.then(|| {
            let screen = MultiProgress::with_draw_target(terminal());
            Arc::new(Bars { screen, places: Arc::new(Semaphore::new(MOST_BARS)) })
        });
        Self { json: common.json, level, data_on_stdout, bars, lost: Arc::default() }
    }

    /// The same with details, unless there is to be quiet.
    pub(crate) fn more(&self) -> Self {
        let level = if self.level == Level::Normal { Level::Verbose } else { self.level };
        Self { level, ..self.clone() }
    }

    /// A place for a progress bar; `None` if none are shown, or there are enough.
    pub(crate) fn place(&self, bar: impl FnOnce() -> ProgressBar) -> Option<Place> {
        let bars = self.bars.as_deref()?;
        let place = Arc::clone(&bars.places).try_acquire_owned().ok()?;
        Some(Place { bar: bars.screen.add(bar()), _place: place })
    }

    /// Says something.
    pub(crate) fn say(&self, event: &Event) {
        if self.json {
            let time = wall_clock();
            let line = serde_json::to_string(&LineRef { time, event }).expect("events have text keys only");
            return self.print(!self.data_on_stdout, &line);
        }
        if self.bars.is_some() && matches!(event, Event::FileStarted { .. } | Event::FileProgress { .. }) {
            // The bars show it.
            return;
        }
        let (weight, text) = event.text();
        let needed = match weight {
            Weight::Result | Weight::Trouble => Level::Quiet,
            Weight::Notice => Level::Normal,
            Weight::Detail => Level::Verbose,
        };
        if self.level >= needed {
            self.print(weight == Weight::Result && !self.data_on_stdout, &text);
        }
    }

    /// Says why the command failed, and with which code the program ends.
    pub(crate) fn failed(&self, failure: &Failure) -> ExitCode {
        if let Some(bars) = &self.bars {
            // They are not drawn any more; nothing is lost when clearing fails.
            let _ = bars.screen.clear();
        }
        if matches!(failure, Failure::Interrupted) && self.level == Level::Quiet && !self.json {
            // Whoever did it knows. So ends a ProxyCommand: ssh hangs up on it.
            return ExitCode::from(failure.code());
        }
        let event = Event::Error {
            exit: failure.code(),
            kind: failure.kind().to_owned(),
            step: failure.step().map(str::to_owned),
            message: failure.to_string(),
        };
        self.say(&event);
        if self.json && !self.data_on_stdout && self.delivered().is_err() {
            // It would be lost with the rest.
            self.print(false, &event.text().1);
        }
        ExitCode::from(failure.code())
    }

    /// Whether everything for the standard output got there. Whoever closed it does not want the rest, which is no
    /// failure.
    pub(crate) fn delivered(&self) -> Result<(), Failure> {
        match self.lost.get() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::Local(format!("cannot write to the standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Prints text that is no event: a script.
    pub(crate) fn plain(&self, text: &str) {
        self.print(true, text);
    }

    /// Prints a heading or advice around the results: for people, and not for those who want results only.
    pub(crate) fn remark(&self, text: &str) {
        if !self.json && self.level > Level::Quiet {
            self.print(true, text);
        }
    }

    /// Asks a question on the terminal, without a line end. Progress bars are hidden until it is
    /// [answered](Self::answered).
    pub(crate) fn ask(&self, question: &str) {
        if let Some(bars) = &self.bars {
            let _ = bars.screen.clear();
            bars.screen.set_draw_target(ProgressDrawTarget::hidden());
        }
        let mut err = io::stderr().lock();
        let _ = write!(err, "{question}").and_then(|()| err.flush());
    }

    /// The question is answered.
    pub(crate) fn answered(&self) {
        if let Some(bars) = &self.bars {
            bars.screen.set_draw_target(terminal());
        }
    }

    fn print(&self, to_stdout: bool, text: &str) {
        self.above_bars(|| {
            if to_stdout {
                let mut out = io::stdout().lock();
                if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
                    // Later ones tell nothing new.
                    let _ = self.lost.set(error);
                }
            } else {
                // There is no other place to complain at.
                let _ = writeln!(io::stderr().lock(), "{text}");
            }
        });
    }

    fn above_bars(&self, print: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.screen.suspend(print),
            None => print(),
        }
    }
}

/// Where progress bars are drawn.
fn terminal() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(10)
}

/// Seconds since 1970-01-01 00:00 UTC.
pub(crate) fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
