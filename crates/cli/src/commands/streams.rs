//! A channel joined to standard input and output.

use std::cell::Cell;
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use towline::{Channel, ReadHalf, WriteHalf};

use crate::failure::Failure;

/// Bytes read at once.
const PIECE: usize = 64 * 1024;
/// Pieces between the threads of the standard streams and the channel.
const PIECES: usize = 16;

/// The standard input, read by a thread of its own, which may stay in the read until the process ends.
#[derive(Debug)]
pub(crate) struct Input(mpsc::Receiver<io::Result<Bytes>>);

impl Input {
    /// Takes over the standard input.
    pub(crate) fn new() -> Self {
        let (pieces, read) = mpsc::channel(PIECES);
        std::thread::spawn(move || {
            let mut input = io::stdin().lock();
            let mut buffer = vec![0; PIECE];
            loop {
                let piece = match input.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => Ok(Bytes::copy_from_slice(&buffer[..length])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let last = piece.is_err();
                if pieces.blocking_send(piece).is_err() || last {
                    return;
                }
            }
        });
        Self(read)
    }
}

/// What passed through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// How a channel is joined to the standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner {
    /// In a dialect that cannot end one direction alone: how long the other side may be silent after the end of the
    /// input before the channel is ended. Its answer to the last input would be lost otherwise.
    pub(crate) linger: Duration,
    /// Nothing follows on the standard output: it ends with the channel, and not with the program.
    pub(crate) last_on_stdout: bool,
    /// Whoever has heard the end of the other side, and has said nothing for the time above, is done: the other side
    /// may be gone altogether, which shows only when something is sent.
    pub(crate) ends_idle: bool,
}

impl Manner {
    /// Silence that is taken for the end, if nothing else was said.
    pub(crate) const LINGER: Duration = Duration::from_secs(5);
}

/// What has passed so far, and when the last of it did.
struct Meter {
    bytes: Cell<u64>,
    last: Cell<Instant>,
}

impl Meter {
    fn new() -> Self {
        Self { bytes: Cell::new(0), last: Cell::new(Instant::now()) }
    }

    fn count(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.last.set(Instant::now());
    }

    /// Ready when nothing has passed for so long, from now on.
    async fn silence(&self, length: Duration) {
        self.last.set(Instant::now());
        loop {
            let end = self.last.get() + length;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// Moves bytes both ways. The end of the input ends our direction only; ready when both directions have ended, or what
/// is missing cannot come any more.
pub(crate) async fn join(channel: Channel, input: &mut Input, manner: Manner) -> Result<Passed, Failure> {
    let half_close = channel.capabilities().half_close;
    let (reader, writer) = channel.split();
    let (sent, received) = (Meter::new(), Meter::new());
    let ended = {
        let answered = async {
            if !half_close {
                received.silence(manner.linger).await;
            }
        };
        let sending = async {
            match send(writer, input, &sent, answered).await {
                // The other side wants no more from us, but may have more to say.
                Err(Fault::Channel(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                ended => ended,
            }
        };
        let receiving = receive(reader, &received, manner.last_on_stdout);
        tokio::pin!(sending, receiving);
        tokio::select! {
            biased;
            ended = &mut receiving => match ended {
                Err(fault) => Err(fault),
                // That was the end of both directions.
                Ok(()) if !half_close => Ok(()),
                Ok(()) if manner.ends_idle => tokio::select! {
                    biased;
                    ended = sending => ended,
                    () = sent.silence(manner.linger) => Ok(()),
                },
                Ok(()) => sending.await,
            },
            ended = &mut sending => match ended {
                Err(fault) => Err(fault),
                Ok(()) => receiving.await,
            },
        }
    };
    match ended {
        Ok(()) => Ok(Passed { sent: sent.bytes.get(), received: received.bytes.get() }),
        Err(Fault::Channel(error)) => Err(Failure::Transfer(format!("the channel broke off: {error}"))),
        Err(Fault::Standard(what, error)) => Err(Failure::Local(format!("{what}: {error}"))),
    }
}

/// What went wrong on which side.
enum Fault {
    Channel(io::Error),
    Standard(&'static str, io::Error),
}

/// Sends the input, and its end when the other side has `answered`.
async fn send(
    mut writer: WriteHalf,
    input: &mut Input,
    sent: &Meter,
    answered: impl Future<Output = ()>,
) -> Result<(), Fault> {
    while let Some(piece) = input.0.recv().await {
        let piece = piece.map_err(|error| Fault::Standard("cannot read the standard input", error))?;
        writer.write_all(&piece).await.map_err(Fault::Channel)?;
        sent.count(piece.len());
    }
    answered.await;
    writer.shutdown().await.map_err(Fault::Channel)
}

async fn receive(mut reader: ReadHalf, received: &Meter, last: bool) -> Result<(), Fault> {
    let (pieces, to_write) = mpsc::channel(PIECES);
    let writing = tokio::task::spawn_blocking(move || print(to_write));
    let end = loop {
        match reader.next_bytes().await {
            Ok(Some(piece)) => {
                received.count(piece.len());
                if pieces.send(piece).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(Fault::Channel(error)),
        }
    };
    drop(pieces);
    let written = match writing.await {
        Ok(Ok(())) => Ok(()),
        // Whoever reads our output has enough, as with any program in a pipeline.
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    };
    written
        .and_then(|()| if last && end.is_ok() { end_output() } else { Ok(()) })
        .map_err(|error| Fault::Standard("cannot write to the standard output", error))?;
    end
}

/// Ends the standard output for whoever reads it; what is still printed goes nowhere.
#[cfg(unix)]
fn end_output() -> io::Result<()> {
    let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nowhere)?)
}

/// It ends with the program.
#[cfg(not(unix))]
fn end_output() -> io::Result<()> {
    Ok(())
}

/// Writes what comes, without holding it back.
fn print(mut pieces: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut batch = Vec::with_capacity(PIECES);
    while pieces.blocking_recv_many(&mut batch, PIECES) > 0 {
        let mut out = io::stdout().lock();
        for piece in batch.drain(..) {
            out.write_all(&piece)?;
        }
        out.flush()?;
    }
    Ok(())
}
