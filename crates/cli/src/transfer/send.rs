//! The sending side of a file.

use std::pin::pin;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use towline::{Channel, DeviceId, Node, ReadHalf, WriteHalf};

use super::source::{Piece, Source};
use super::wire::{self, Answer, Header};
use super::{Abort, DECISION, REASON, SCHEME, TransferError, VERDICT, moving, within};
use crate::event::Event;
use crate::output::Output;
use crate::progress::Progress;
use crate::text::milliseconds;

/// A decision that takes longer is made by a person, whom our user may want to know about.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) time: Duration,
    pub(crate) hash: blake3::Hash,
}

/// Sends a file over a channel of its own. Ready when the other side has checked and kept it.
pub(crate) async fn send(
    node: &Node,
    device: DeviceId,
    source: Source,
    output: &Output,
) -> Result<Sent, TransferError> {
    let name = format!("{SCHEME}{}", source.name);
    let began = towline::net::now();
    let channel = node.connect(device, &name).await.map_err(TransferError::Connect)?;
    output.say(&Event::ChannelOpened {
        connection: channel.connection().to_string(),
        name,
        device: device.to_string(),
        opened_here: true,
        ms: milliseconds(began.elapsed()),
    });
    let (mut reader, mut writer) = channel.split();
    let result = transfer(&mut reader, &mut writer, source, device, output).await;
    if let Err(error) = &result {
        let abort = match error {
            TransferError::Local(_) => Some(Abort::SourceFailed),
            TransferError::Stalled => Some(Abort::Stalled),
            _ => None,
        };
        if let Some(abort) = abort {
            Channel::unsplit(reader, writer).reset(abort.code()).await;
        }
    }
    result
}

async fn transfer(
    reader: &mut ReadHalf,
    writer: &mut WriteHalf,
    source: Source,
    device: DeviceId,
    output: &Output,
) -> Result<Sent, TransferError> {
    let (name, size) = (source.name.clone(), source.size);
    let header = Header { size, name: name.clone(), modified: source.modified };
    moving(wire::write(writer, &header.encode())).await?;
    let decision = decision(reader, &name, device, output).await?;
    decision.result.map_err(TransferError::Declined)?;

    output.say(&Event::FileStarted { name: name.clone(), bytes: size, device: device.to_string() });
    let mut progress = Progress::new(output, &name, size);
    let began = towline::net::now();
    // The other side answers when it has everything, or earlier when it cannot go on.
    let mut verdict = pin!(wire::read(reader));
    let hash = tokio::select! {
        biased;
        pumped = pump(writer, source.read(), &mut progress) => match pumped {
            Ok(hash) => Some(hash),
            Err(error @ TransferError::Channel(_)) => {
                // It may have said why before it stopped reading.
                match within(REASON, &mut verdict).await {
                    Ok(message) => return Err(refusal(&Answer::decode(&message?)?)),
                    Err(_) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        },
        early = &mut verdict => return Err(refusal(&Answer::decode(&early??)?)),
    };
    let hash = hash.expect("every other way returns");
    let answer = Answer::decode(&within(VERDICT, verdict).await??)?;
    if answer.result.is_err() || answer.bytes != size {
        return Err(refusal(&answer));
    }
    Ok(Sent { time: began.elapsed(), hash })
}

/// Waits for the other side to decide, and tells the user if that takes a while.
async fn decision(
    reader: &mut ReadHalf,
    name: &str,
    device: DeviceId,
    output: &Output,
) -> Result<Answer, TransferError> {
    let mut decision = pin!(within(DECISION, wire::read(reader)));
    let message = match tokio::time::timeout(PATIENCE, &mut decision).await {
        Ok(message) => message,
        Err(_) => {
            output.say(&Event::FileWaiting { name: name.to_owned(), device: device.to_string() });
            decision.await
        }
    };
    Ok(Answer::decode(&message??)?)
}

/// What an answer means that came too early or says no.
fn refusal(answer: &Answer) -> TransferError {
    match &answer.result {
        Err(why) => TransferError::Remote(why.clone()),
        Ok(()) => TransferError::Remote(format!("it says that it has {} bytes", answer.bytes)),
    }
}

/// Writes the bytes and their hash, and ends this direction.
async fn pump(
    writer: &mut WriteHalf,
    mut pieces: mpsc::Receiver<Piece>,
    progress: &mut Progress,
) -> Result<blake3::Hash, TransferError> {
    loop {
        let piece = pieces.recv().await;
        match piece.unwrap_or_else(|| Piece::Failed(TransferError::Local("reading ended early".to_owned()))) {
            Piece::Data(mut bytes) => {
                let length = bytes.len() as u64;
                while !bytes.is_empty() {
                    moving(writer.write_buf(&mut bytes)).await?;
                }
                progress.advance(length);
            }
            Piece::End(hash) => {
                moving(writer.write_all(hash.as_bytes())).await?;
                moving(writer.shutdown()).await?;
                return Ok(hash);
            }
            Piece::Failed(error) => return Err(error),
        }
    }
}
