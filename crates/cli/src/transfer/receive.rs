//! The receiving side of a file.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use towline::{Channel, ReadHalf, WriteHalf};

use super::name::sanitised;
use super::target::{Folder, Target, Written};
use super::wire::{self, Answer, Header};
use super::{Abort, TransferError, moving};
use crate::event::Event;
use crate::output::Output;
use crate::progress::Progress;

/// A file that another device offers, before it was decided upon.
#[derive(Debug)]
pub(crate) struct Offer {
    channel: Channel,
    modified: Option<i64>,
    /// Its name, made harmless.
    pub(crate) name: String,
    pub(crate) size: u64,
}

/// A file that was received and kept.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) path: PathBuf,
    pub(crate) time: Duration,
    pub(crate) hash: blake3::Hash,
}

impl Offer {
    /// Reads what is offered on a channel.
    pub(crate) async fn read(mut channel: Channel) -> Result<Self, TransferError> {
        let message = moving(wire::read(&mut channel)).await?;
        match message.and_then(|message| Header::decode(&message)) {
            Ok(header) => Ok(Self {
                channel,
                modified: header.modified,
                name: sanitised(&header.name),
                size: header.size,
            }),
            Err(error) => {
                let (reader, mut writer) = channel.split();
                tell(&mut writer, &Answer::bad(&error, 0)).await;
                drop(reader);
                Err(error.into())
            }
        }
    }

    /// Says no.
    pub(crate) async fn decline(self, why: &str) {
        let (_reader, mut writer) = self.channel.split();
        tell(&mut writer, &Answer::bad(why, 0)).await;
    }

    /// Receives it. Ready when it is checked and has its name, or when what was there of it is removed.
    pub(crate) async fn accept(self, folder: &Folder, output: &Output) -> Result<Received, TransferError> {
        let Self { channel, modified, name, size } = self;
        let device = channel.peer().device.to_string();
        let (mut reader, mut writer) = channel.split();
        let target = match folder.begin() {
            Ok(target) => target,
            Err(error) => {
                tell(&mut writer, &Answer::bad(&error.told(), 0)).await;
                return Err(error);
            }
        };
        output.say(&Event::FileStarted { name: name.clone(), bytes: size, device });
        let began = towline::net::now();
        let mut done = 0;
        let kept = async {
            moving(wire::write(&mut writer, &Answer::good(0).encode())).await?;
            let mut progress = Progress::new(output, &name, size);
            let written = pull(&mut reader, target, size, &mut done, &mut progress).await?;
            let hash = written.hash;
            Ok((written.keep(name.clone(), modified).await?, hash))
        }
        .await;
        match kept {
            Ok((path, hash)) => {
                tell(&mut writer, &Answer::good(size)).await;
                Ok(Received { path, time: began.elapsed(), hash })
            }
            Err(TransferError::Stalled) => {
                Channel::unsplit(reader, writer).reset(Abort::Stalled.code()).await;
                Err(TransferError::Stalled)
            }
            Err(error) => {
                tell(&mut writer, &Answer::bad(&error.told(), done)).await;
                Err(error)
            }
        }
    }
}

/// Sends an answer and ends this direction. If it does not arrive, the other side sees that it is missing.
async fn tell(writer: &mut WriteHalf, answer: &Answer) {
    if moving(wire::write(writer, &answer.encode())).await.is_ok() {
        let _ = moving(writer.shutdown()).await;
    }
}

/// Takes exactly `size` bytes and checks them against the hash behind them.
async fn pull(
    reader: &mut ReadHalf,
    mut target: Target,
    size: u64,
    done: &mut u64,
    progress: &mut Progress,
) -> Result<Written, TransferError> {
    let expected = match fill(reader, &mut target, size, done, progress).await {
        Ok(expected) => expected,
        Err(error) => {
            target.discard().await;
            return Err(error);
        }
    };
    let written = target.written().await?;
    // Compared in constant time by the type, which costs nothing here.
    if written.hash != expected {
        return Err(TransferError::Damaged);
    }
    Ok(written)
}

/// Brings the bytes to the file; the hash that came behind them.
async fn fill(
    reader: &mut ReadHalf,
    target: &mut Target,
    size: u64,
    done: &mut u64,
    progress: &mut Progress,
) -> Result<blake3::Hash, TransferError> {
    // What came together with the last bytes of the file.
    let mut behind = bytes::Bytes::new();
    while *done < size {
        let Some(mut piece) = moving(reader.next_bytes()).await? else {
            return Err(TransferError::Channel(format!(
                "the other side ended after {} of {size} bytes",
                *done
            )));
        };
        let wanted = usize::try_from(size - *done).unwrap_or(usize::MAX);
        if piece.len() > wanted {
            behind = piece.split_off(wanted);
        }
        *done += piece.len() as u64;
        progress.advance(piece.len() as u64);
        target.push(piece).await?;
    }
    let mut expected = [0; blake3::OUT_LEN];
    let have = behind.len().min(expected.len());
    expected[..have].copy_from_slice(&behind[..have]);
    moving(reader.read_exact(&mut expected[have..])).await?;
    Ok(blake3::Hash::from_bytes(expected))
}
