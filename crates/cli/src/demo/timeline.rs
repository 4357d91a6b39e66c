//! What the demonstration tells: steps, each with the time since the start.

use std::time::Duration;

use crate::event::{Connected, Event};
use crate::output::{Output, wall_clock};
use crate::text::{self, printable};

/// Says the steps.
#[derive(Debug)]
pub(super) struct Timeline {
    output: Output,
    /// On the wall clock, which all processes share.
    start: f64,
}

impl Timeline {
    /// Starts the clock.
    pub(super) fn start(output: &Output) -> Self {
        output.remark(
            "Two devices on this computer, each a process of its own. All the sender knows is the receiver's id.\n",
        );
        Self { output: output.clone(), start: wall_clock() }
    }

    /// Something has happened now.
    pub(super) fn now(&self, what: &str, text: &str) {
        self.at(wall_clock(), what, text);
    }

    /// Something happened at a moment of the wall clock.
    pub(super) fn at(&self, time: f64, what: &str, text: &str) {
        let at = ((time - self.start).max(0.0) * 1e6).round() / 1e6;
        self.output.say(&Event::Demo { at, what: what.to_owned(), text: text.to_owned() });
    }

    /// What to do next.
    pub(super) fn end(&self) {
        self.output.remark(
            "\nNothing is left behind. Between your own devices: `towline init` on each, `towline receive` on one,\n\
             and `towline send FILE --to DEVICE` on the other.",
        );
    }

    /// The steps of a connection that stands since `time`.
    pub(super) fn connected(&self, time: f64, connected: &Connected) {
        let ms = &connected.ms;
        let show = |ms: f64| text::duration(milliseconds(ms));
        let secured = time;
        let path = secured - ms.tls / 1e3;
        let answered = path - ms.path / 1e3;
        let found = answered - ms.signalling / 1e3;
        self.at(found, "found on DHT", &format!("the certificate of that id, in {}", show(ms.certificate)));
        self.at(answered, "answer", &format!("to our request, through the DHT, in {}", show(ms.signalling)));
        let ends = format!("{} {} to {}", connected.transport, connected.local, connected.remote);
        self.at(path, "path chosen", &format!("{ends}, in {}", show(ms.path)));
        let by = format!("{}, both keys are those expected, in {}", connected.security, show(ms.tls));
        self.at(secured, "secured", &by);
    }

    /// The first or second channel stands since `time`.
    pub(super) fn channel(&self, time: f64, what: &str, name: &str, ms: f64) {
        self.at(time, what, &format!("{}, in {}", printable(name), text::duration(milliseconds(ms))));
    }
}

fn milliseconds(ms: f64) -> Duration {
    Duration::from_secs_f64(ms.max(0.0) / 1e3)
}
