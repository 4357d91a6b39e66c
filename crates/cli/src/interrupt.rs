//! Being asked to end: Ctrl-C, termination, or the end of the program that started this one.

use std::io::Read as _;

use tokio::sync::watch;

use crate::failure::Failure;

/// Tells when the program shall end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Watches the signals of the system and, if `with_stdin`, the end of the standard input, which comes when the
    /// program that started this one is gone, however it ended.
    pub(crate) fn start(with_stdin: bool) -> Result<Self, Failure> {
        let (ask, asked) = watch::channel(false);
        let mut signals =
            Signals::new().map_err(|error| Failure::Internal(format!("cannot watch signals: {error}")))?;
        let by_signal = ask.clone();
        tokio::spawn(async move {
            // Every command bounds the time that it takes to end, so asking twice changes nothing.
            signals.next().await;
            by_signal.send_replace(true);
        });
        if with_stdin {
            // A thread of its own: it may stay in the read until the process ends.
            std::thread::spawn(move || {
                let mut ignored = [0; 64];
                while matches!(std::io::stdin().read(&mut ignored), Ok(read) if read > 0) {}
                ask.send_replace(true);
            });
        }
        Ok(Self(asked))
    }

    /// Ready when the program shall end. Cancel safe.
    pub(crate) async fn wait(&self) {
        let mut asked = self.0.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            // The watching task lives as long as the runtime.
            std::future::pending::<()>().await;
        }
    }

    /// Runs `work`, or gives it up when the program shall end.
    pub(crate) async fn stops<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.wait() => Err(Failure::Interrupted),
            result = work => result,
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
