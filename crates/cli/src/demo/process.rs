//! A part of the demonstration: this program again, as a process of its own that reports in JSON.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::event::Event;
use crate::failure::Failure;
use crate::output::Line;

/// How long a process may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(3);

/// A child. It ends when its standard input ends, so it never outlives this program; dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process {
    what: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts `towline ARGS`.
    pub(super) fn start<A: AsRef<OsStr>>(
        what: &'static str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::Internal(format!("cannot start the {what}: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(["--json", "--end-with-stdin"]).args(args).env_remove("TOWLINE_HOME");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        // Ctrl-C on the terminal is for us; we end the others in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("it was asked for");
        Ok(Self { what, child, input, lines: BufReader::new(output).lines() })
    }

    /// The next thing it says; `None` when it has ended as it should. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Failure> {
        let what = self.what;
        let line = self.lines.next_line().await;
        match line.map_err(|error| Failure::Internal(format!("the {what} cannot be heard: {error}")))? {
            Some(line) => {
                let line: Line = serde_json::from_str(&line).map_err(|error| {
                    Failure::Internal(format!("the {what} speaks nonsense: {error}: {line}"))
                })?;
                match line.event {
                    Event::Error { message, .. } => {
                        Err(Failure::Transfer(format!("the {what} failed: {message}")))
                    }
                    _ => Ok(Some(line)),
                }
            }
            None => {
                let status = self.child.wait().await;
                match status.map_err(|error| Failure::Internal(format!("the {what} is lost: {error}")))? {
                    status if status.success() => Ok(None),
                    status => Err(Failure::Internal(format!("the {what} ended with {status}"))),
                }
            }
        }
    }

    /// Waits for something that it says, passing over the rest.
    pub(super) async fn until<T>(&mut self, pick: impl Fn(&Line) -> Option<T>) -> Result<T, Failure> {
        while let Some(line) = self.next().await? {
            if let Some(picked) = pick(&line) {
                return Ok(picked);
            }
        }
        Err(Failure::Internal(format!("the {} ended early", self.what)))
    }

    /// Asks it to end, and makes it end.
    pub(super) async fn end(mut self) {
        drop(self.input.take());
        if tokio::time::timeout(FAREWELL, self.child.wait()).await.is_err() {
            // Then it is gone already.
            let _ = self.child.kill().await;
        }
    }
}
