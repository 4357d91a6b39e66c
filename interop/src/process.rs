//! A child process that is spoken to in lines.

use std::collections::VecDeque;
use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Lines that may wait for the test to read them; more and the program has to wait.
const LINES: usize = 4096;

/// Lines of both streams that an error shows.
const SHOWN: usize = 40;

/// A running program; it is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    seen: VecDeque<String>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("id", &self.child.id())
            .finish_non_exhaustive()
    }
}

impl Process {
    /// Starts a program. Its standard output is read line by line; what it writes to standard error appears
    /// among the lines as `stderr: …`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: impl Into<String>, mut command: Command) -> Result<Self> {
        let name = name.into();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let input = child.stdin.take().context("stdin is piped")?;
        let (sender, lines) = mpsc::channel(LINES);
        tokio::spawn(forward(child.stdout.take().context("stdout is piped")?, "", sender.clone()));
        tokio::spawn(forward(child.stderr.take().context("stderr is piped")?, "stderr: ", sender));
        Ok(Self { name, child, input, lines, seen: VecDeque::new() })
    }

    /// Writes one line to the program.
    ///
    /// # Errors
    /// When the program no longer reads.
    pub async fn say(&mut self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        let written = self.input.write_all(line.as_bytes()).await;
        written.with_context(|| self.story("does not read"))?;
        self.input.flush().await.with_context(|| self.story("does not read"))
    }

    /// The next line for which `pick` returns something; the lines before it are passed over.
    ///
    /// # Errors
    /// When the program ends first, or when `limit` is over: with what it printed last.
    pub async fn expect<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let line = timeout_at(deadline, self.lines.recv()).await;
            let line =
                line.map_err(|_| anyhow!(self.story(&format!("did not say {what} within {limit:?}"))))?;
            let Some(line) = line else { bail!(self.story(&format!("ended before it said {what}"))) };
            if self.seen.len() == SHOWN {
                self.seen.pop_front();
            }
            let picked = pick(&line);
            self.seen.push_back(line.chars().take(300).collect());
            if let Some(picked) = picked {
                return Ok(picked);
            }
        }
    }

    /// Throws away what was printed and not read so far.
    pub fn forget(&mut self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// Closes the program's input and waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not end within `limit`, or ends with a failure.
    pub async fn finish(self, limit: Duration) -> Result<()> {
        let Self { name, mut child, input, mut lines, .. } = self;
        drop(input);
        let ended = async {
            while lines.recv().await.is_some() {}
            child.wait().await
        };
        let status =
            tokio::time::timeout(limit, ended).await.with_context(|| format!("{name} does not end"))??;
        if status.success() { Ok(()) } else { bail!("{name} ended with {status}") }
    }

    /// Kills the program, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.with_context(|| self.story("cannot be killed"))
    }

    fn story(&self, what: &str) -> String {
        let lines: Vec<&str> = self.seen.iter().map(String::as_str).collect();
        format!("{} {what}; it printed last:\n  {}", self.name, lines.join("\n  "))
    }
}

async fn forward(stream: impl AsyncRead + Unpin, mark: &'static str, lines: mpsc::Sender<String>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(length) = stream.read_until(b'\n', &mut line).await {
        if length == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        if lines.send(format!("{mark}{}", text.trim_end_matches(['\r', '\n']))).await.is_err() {
            return;
        }
        line.clear();
    }
}
