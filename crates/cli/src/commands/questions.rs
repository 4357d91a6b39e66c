//! Questions to the user, one at a time.

use tokio::sync::{Mutex, mpsc};

use crate::output::Output;

/// Asks on the terminal.
#[derive(Debug)]
pub(super) struct Questions {
    /// Lines the user typed. Whoever asks holds the lock, so nobody gets another's answer.
    lines: Mutex<mpsc::Receiver<String>>,
    output: Output,
}

impl Questions {
    /// Takes over the standard input.
    pub(super) fn new(output: &Output) -> Self {
        let (typed, lines) = mpsc::channel(1);
        // A thread of its own: it may stay in the read until the process ends.
        std::thread::spawn(move || {
            for line in std::io::stdin().lines() {
                let Ok(line) = line else { return };
                if typed.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines: Mutex::new(lines), output: output.clone() }
    }

    /// Asks whether. Anything but yes is no, and so is the end of the input.
    pub(super) async fn yes(&self, question: &str) -> bool {
        let mut lines = self.lines.lock().await;
        // What was typed before the question is no answer to it.
        while lines.try_recv().is_ok() {}
        self.output.ask(&format!("{question} [y/N] "));
        let answer = lines.recv().await.unwrap_or_default();
        self.output.answered();
        matches!(&*answer.trim().to_lowercase(), "y" | "yes")
    }
}
