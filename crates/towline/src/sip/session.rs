//! One channel: the task between it and the endpoint of the protocol.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot};
use towline_net::{now, sleep_until};
use towline_sip::{
    ClientId, Endpoint, Event, HeaderName, Headers, Method, OutgoingRequest, Request, ServerId, Status,
    StreamFault,
};

use super::receiver::Receiver;
use super::table::{Answer, Outgoing, Seat};
use crate::channel::{Channel, ReadHalf, WriteHalf};
use crate::policy::Peer;

/// Why a session ended.
#[derive(Debug, Error)]
pub(super) enum End {
    #[error("the peer ended it")]
    Peer,
    #[error("the node or its texts ended")]
    Here,
    #[error(transparent)]
    Fault(#[from] StreamFault),
    #[error("the peer did not answer a text")]
    Silence,
    #[error("the peer does not read")]
    Stalled,
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(super) struct Session {
    reader: ReadHalf,
    writer: WriteHalf,
    peer: Arc<Peer>,
    endpoint: Endpoint,
    receiver: Receiver,
    texts: mpsc::Receiver<Outgoing>,
    seat: Seat,
    /// Texts that await their answer.
    waiting: BTreeMap<ClientId, oneshot::Sender<Answer>>,
    /// What is being written.
    writing: Writing,
    patience: Duration,
}

/// A message on its way out.
#[derive(Debug)]
enum Writing {
    Nothing,
    /// From this byte on. The peer's reading of it is given up at this time.
    Message {
        bytes: Vec<u8>,
        written: usize,
        until: Instant,
    },
}

impl Session {
    pub(super) fn new(
        channel: Channel,
        endpoint: Endpoint,
        receiver: Receiver,
        texts: mpsc::Receiver<Outgoing>,
        seat: Seat,
    ) -> Self {
        let peer = Arc::new(channel.peer().clone());
        let patience = endpoint.config().timers.transaction;
        let (reader, writer) = channel.split();
        Self {
            reader,
            writer,
            peer,
            endpoint,
            receiver,
            texts,
            seat,
            waiting: BTreeMap::new(),
            writing: Writing::Nothing,
            patience,
        }
    }

    /// Runs until the channel ends. Texts that still await their answer learn that by their dropped replies.
    pub(super) async fn run(mut self) {
        let end = self.turn_until_end().await;
        tracing::debug!(device = %self.peer.device, %end, "a sip channel ended");
        self.seat.leave();
        if let End::Fault(_) | End::Silence = end {
            // What was answered before may still go out; the peer then sees a proper end.
            let _ = tokio::time::timeout(self.patience, self.writer.shutdown()).await;
        }
    }

    async fn turn_until_end(&mut self) -> End {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    /// Waits for one thing to happen, and deals with it.
    async fn turn(&mut self) -> Result<(), End> {
        self.settle()?;
        let wants_data = self.endpoint.wants_data();
        // A text is taken when it can go out: what waits in the queue is bounded.
        let wants_texts = matches!(self.writing, Writing::Nothing)
            && self.waiting.len() < self.endpoint.config().limits.client_transactions;
        tokio::select! {
            biased;
            () = at(self.endpoint.poll_timeout()) => self.endpoint.handle_timeout(now()),
            written = write(&mut self.writer, &mut self.writing, self.patience) => written?,
            received = self.reader.next_bytes(), if wants_data => match received? {
                Some(bytes) => self.endpoint.handle_data(now(), &bytes)?,
                None => {
                    self.endpoint.handle_end()?;
                    return Err(End::Peer);
                }
            },
            text = self.texts.recv(), if wants_texts => match text {
                Some(text) => self.send(text),
                None => return Err(End::Here),
            },
        }
        Ok(())
    }

    /// Deals with what the endpoint has to say.
    fn settle(&mut self) -> Result<(), End> {
        let mut silent = false;
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Request { id, request } => self.asked(id, request),
                Event::Response { id, response } if !response.status.is_provisional() => {
                    if let Some(reply) = self.waiting.remove(&id) {
                        // Whoever asked may have lost patience.
                        let _ = reply.send(Answer::Final(response.status));
                    }
                }
                Event::TimedOut { id } => {
                    if let Some(reply) = self.waiting.remove(&id) {
                        let _ = reply.send(Answer::TimedOut);
                    }
                    silent = true;
                }
                // Requests are decided at once, so they neither expire nor can be cancelled.
                _ => {}
            }
        }
        if let Writing::Nothing = self.writing
            && let Some(bytes) = self.endpoint.poll_transmit()
        {
            self.writing = Writing::Message { bytes, written: 0, until: now() + self.patience };
        }
        // A channel on which nothing is answered is of no use: the next text opens another.
        if silent { Err(End::Silence) } else { Ok(()) }
    }

    /// Decides about a request.
    fn asked(&mut self, id: ServerId, request: Request) {
        let status = match request.method {
            Method::Message => self.receiver.take(&self.peer, request),
            _ => {
                tracing::info!(account = %self.peer.account, "a call was declined");
                Status::DECLINE
            }
        };
        if let Err(error) = self.endpoint.respond(now(), id, status.into()) {
            // Only more Via fields than fit in a message bring this about.
            tracing::debug!(device = %self.peer.device, %error, "a request could not be answered");
        }
    }

    fn send(&mut self, text: Outgoing) {
        if text.reply.is_closed() {
            // Whoever asked has given it up.
            return;
        }
        let mut headers = Headers::new();
        headers
            .push(HeaderName::MessageId, format!("{:016x}", text.message_id))
            .expect("hex digits fit on a line");
        let mut request = OutgoingRequest::message(&*text.content_type, &*text.body);
        request.headers = headers;
        match self.endpoint.request(now(), request) {
            Ok(id) => {
                self.waiting.insert(id, text.reply);
            }
            Err(error) => {
                let _ = text.reply.send(Answer::Unfit(error));
            }
        }
    }
}

/// Ready at `time`, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// Writes some of what is to be written; pending if there is nothing. Cancel safe.
async fn write(writer: &mut WriteHalf, writing: &mut Writing, patience: Duration) -> Result<(), End> {
    let Writing::Message { bytes, written, until } = writing else { return pending().await };
    tokio::select! {
        biased;
        count = writer.write(&bytes[*written..]) => {
            *written += count?;
            *until = now() + patience;
        }
        () = sleep_until(*until) => return Err(End::Stalled),
    }
    if *written == bytes.len() {
        *writing = Writing::Nothing;
    }
    Ok(())
}
