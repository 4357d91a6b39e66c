//! A channel joined to standard input and output.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use towline::{Channel, ReadHalf, WriteHalf};

use crate::failure::Failure;

/// Bytes read at once.
const PIECE: usize = 64 * 1024;
/// Pieces between the threads of the standard streams and the channel.
const PIECES: usize = 16;

/// The standard input, read by a thread of its own, which may stay in the read until the process ends.
#[derive(Debug)]
pub(super) struct Input(mpsc::Receiver<io::Result<Bytes>>);

impl Input {
    /// Takes over the standard input.
    pub(super) fn new() -> Self {
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
pub(super) struct Passed {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// Moves bytes both ways. The end of the input ends our direction only; ready when both directions have ended.
pub(super) async fn join(channel: Channel, input: &mut Input) -> Result<Passed, Failure> {
    let (reader, writer) = channel.split();
    let broken = |error: io::Error| Failure::Transfer(format!("the channel broke off: {error}"));
    let sending = async {
        match send(writer, input).await {
            Ok(sent) => Ok(sent),
            // The other side wants no more from us, but may have more to say.
            Err(Fault::Channel(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            Err(fault) => Err(fault),
        }
    };
    let joined = tokio::try_join!(sending, receive(reader));
    match joined {
        Ok((sent, received)) => Ok(Passed { sent, received }),
        Err(Fault::Channel(error)) => Err(broken(error)),
        Err(Fault::Standard(what, error)) => Err(Failure::Local(format!("{what}: {error}"))),
    }
}

/// What went wrong on which side.
enum Fault {
    Channel(io::Error),
    Standard(&'static str, io::Error),
}

async fn send(mut writer: WriteHalf, input: &mut Input) -> Result<u64, Fault> {
    let mut sent = 0;
    while let Some(piece) = input.0.recv().await {
        let piece = piece.map_err(|error| Fault::Standard("cannot read the standard input", error))?;
        writer.write_all(&piece).await.map_err(Fault::Channel)?;
        sent += piece.len() as u64;
    }
    writer.shutdown().await.map_err(Fault::Channel)?;
    Ok(sent)
}

async fn receive(mut reader: ReadHalf) -> Result<u64, Fault> {
    let (pieces, to_write) = mpsc::channel(PIECES);
    let writing = tokio::task::spawn_blocking(move || print(to_write));
    let mut received = 0;
    let end = loop {
        match reader.next_bytes().await {
            Ok(Some(piece)) => {
                received += piece.len() as u64;
                if pieces.send(piece).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(Fault::Channel(error)),
        }
    };
    drop(pieces);
    match writing.await {
        Ok(Ok(())) => end.map(|()| received),
        // Whoever reads our output has enough, as with any program in a pipeline.
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(received),
        Ok(Err(error)) => Err(Fault::Standard("cannot write to the standard output", error)),
        Err(error) => Err(Fault::Standard("cannot write to the standard output", io::Error::other(error))),
    }
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
