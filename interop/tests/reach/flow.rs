//! Two programs that are joined by a channel, and bytes that flow both ways between their standard streams.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use blake3::{Hash, Hasher};
use serde_json::Value as Json;

use crate::rig::{Device, Network, Owned};
use crate::site::Site;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);
const PIECE: usize = 64 << 10;
/// Events that may wait to be looked at, and orders to send more.
const EVENTS: usize = 1024;
const ORDERS: usize = 16;
/// Lines of a program that an error shows.
const SHOWN: usize = 25;

/// What has come out of one end so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    /// Longest time between two reads that brought something, and the bytes before it.
    pub(crate) stall: Duration,
    pub(crate) stalled_at: u64,
    last: Option<Instant>,
}

/// `towline listen` or `towline pipe`.
struct End {
    name: &'static str,
    child: Owned,
    events: Receiver<Json>,
    seen: Arc<Mutex<Vec<String>>>,
    /// How much more is to be sent; its end is that of the input.
    more: Option<SyncSender<u64>>,
    /// Bytes that it was given to send.
    given: u64,
    source: JoinHandle<std::io::Result<()>>,
    progress: Arc<Mutex<Progress>>,
    sink: JoinHandle<std::io::Result<Hash>>,
}

impl End {
    fn start(
        network: &Network,
        site: &Site,
        device: &Device,
        words: &[&str],
        name: &'static str,
    ) -> Result<Self> {
        let mut command = network.command(site, device, words);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut child = Owned(child);
        let lines = BufReader::new(child.0.stderr.take().context("stderr is piped")?).lines();
        let (sender, events) = sync_channel(EVENTS);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    // What nobody waits for is of no interest.
                    let _ = sender.try_send(event);
                }
                said.lock().expect("nobody panics with it").push(line);
            }
        });
        let mut input = child.0.stdin.take().context("stdin is piped")?;
        let (more, pieces) = sync_channel(ORDERS);
        let mut stream = Stream::of(name);
        let source = std::thread::spawn(move || {
            pieces.into_iter().try_for_each(|bytes| stream.each(bytes, |piece| input.write_all(piece)))
        });
        let mut output = child.0.stdout.take().context("stdout is piped")?;
        let progress = Arc::default();
        let shown = Arc::clone(&progress);
        let sink = std::thread::spawn(move || drain(&mut output, &shown));
        Ok(Self { name, child, events, seen, more: Some(more), given: 0, source, progress, sink })
    }

    /// The next event of this name.
    fn event(&self, name: &str) -> Result<Json> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) if event["event"] == name => return Ok(event),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!(self.story(&format!("did not say {name}"))),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(self.story(&format!("ended before it said {name}")))
                }
            }
        }
    }

    fn story(&self, what: &str) -> String {
        let seen = self.seen.lock().expect("nobody panics with it");
        let last = &seen[seen.len().saturating_sub(SHOWN)..];
        format!("{} {what}; it said last:\n  {}", self.name, last.join("\n  "))
    }

    /// Gives it so many bytes more to send.
    fn give(&mut self, bytes: u64) -> Result<()> {
        self.given += bytes;
        let more = self.more.as_ref().context("it has not ended yet")?;
        more.send(bytes).map_err(|_| anyhow!(self.story("takes no more")))
    }

    fn progress(&self) -> Progress {
        *self.progress.lock().expect("nobody panics with it")
    }

    /// Waits until it ends by itself, as long as something moves. What came is to be what the other was given.
    fn finish(mut self, other: &'static str, given: u64) -> Result<Progress> {
        let (mut moved, mut at) = (0, Instant::now());
        let status = loop {
            if let Some(status) = self.child.0.try_wait()? {
                break status;
            }
            let bytes = self.progress().bytes;
            if bytes > moved {
                (moved, at) = (bytes, Instant::now());
            }
            ensure!(at.elapsed() < PATIENCE, self.story(&format!("stands still after {moved} bytes")));
            std::thread::sleep(Duration::from_millis(2));
        };
        ensure!(status.success(), self.story(&format!("ended with {status}")));
        self.source.join().map_err(|_| anyhow!("the source panicked"))??;
        let hash = self.sink.join().map_err(|_| anyhow!("the sink panicked"))??;
        let progress = *self.progress.lock().expect("nobody panics with it");
        ensure!(progress.bytes == given, "{} of {given} bytes came", progress.bytes);
        ensure!(hash == Stream::of(other).hash(given)?, "what came is not what was sent");
        Ok(progress)
    }
}

/// Bytes that follow from the name of who sends them (SplitMix64), in words.
struct Stream {
    state: u64,
    piece: Vec<u8>,
}

impl Stream {
    fn of(name: &str) -> Self {
        let state = name.bytes().fold(0, |state, byte| state << 8 | u64::from(byte));
        Self { state, piece: vec![0; PIECE] }
    }

    /// The next bytes, in pieces.
    fn each(
        &mut self,
        bytes: u64,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let length = left.min(PIECE as u64) as usize;
            for word in self.piece[..length].chunks_mut(8) {
                self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                word.copy_from_slice(&mixed.to_le_bytes()[..word.len()]);
            }
            take(&self.piece[..length])?;
            left -= length as u64;
        }
        Ok(())
    }

    /// The hash of the first bytes, of which whole words were given at a time.
    fn hash(mut self, bytes: u64) -> std::io::Result<Hash> {
        let mut hash = Hasher::new();
        self.each(bytes, |piece| {
            hash.update(piece);
            Ok(())
        })?;
        Ok(hash.finalize())
    }
}

/// Reads to the end. Returns the hash of all.
fn drain(output: &mut ChildStdout, progress: &Mutex<Progress>) -> std::io::Result<Hash> {
    let (mut hash, mut piece) = (Hasher::new(), vec![0; PIECE]);
    loop {
        let length = output.read(&mut piece)?;
        if length == 0 {
            return Ok(hash.finalize());
        }
        hash.update(&piece[..length]);
        let now = Instant::now();
        let mut progress = progress.lock().expect("nobody panics with it");
        let since = progress.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        if since > progress.stall {
            (progress.stall, progress.stalled_at) = (since, progress.bytes);
        }
        progress.last = Some(now);
        progress.bytes += length as u64;
    }
}

/// A channel between the two devices that both sides fill.
pub(crate) struct Flow {
    listener: End,
    dialler: End,
}

impl Flow {
    /// Lets the second device listen, and the first dial it: further options for each.
    pub(crate) fn open(network: &Network, sites: [&Site; 2], options: [&[&str]; 2]) -> Result<Self> {
        let [alice, bob] = &network.devices;
        let listen = [&["listen", "bulk", "--accept-anyone"], options[1]].concat();
        let listener = End::start(network, sites[1], bob, &listen, "listen")?;
        listener.event("registered")?;
        let pipe = [&["pipe", &bob.id, "bulk"], options[0]].concat();
        let dialler = End::start(network, sites[0], alice, &pipe, "pipe")?;
        match dialler.event("channel_opened") {
            Ok(_) => Ok(Self { listener, dialler }),
            Err(error) => bail!("{error:#}\n{}", listener.story("stands by")),
        }
    }

    /// Lets so many bytes more flow from the dialler, and so many from the listener.
    pub(crate) fn pour(&mut self, bytes: [u64; 2]) -> Result<()> {
        self.dialler.give(bytes[0])?;
        self.listener.give(bytes[1])
    }

    /// What the listener and the dialler have received.
    pub(crate) fn received(&self) -> [Progress; 2] {
        [self.listener.progress(), self.dialler.progress()]
    }

    /// Waits until the listener and the dialler have received so much.
    pub(crate) fn reach(&self, bytes: [u64; 2]) -> Result<()> {
        self.until(|received| received[0].bytes >= bytes[0] && received[1].bytes >= bytes[1])
    }

    /// Waits until everything that was poured has come.
    pub(crate) fn settle(&self) -> Result<()> {
        let given = [self.dialler.given, self.listener.given];
        self.until(|received| received.map(|progress| progress.bytes) == given)
    }

    fn until(&self, enough: impl Fn([Progress; 2]) -> bool) -> Result<()> {
        let (mut moved, mut at) = (0, Instant::now());
        loop {
            let received = self.received();
            if enough(received) {
                return Ok(());
            }
            let bytes = received.iter().map(|progress| progress.bytes).sum();
            if bytes > moved {
                (moved, at) = (bytes, Instant::now());
            }
            ensure!(at.elapsed() < PATIENCE, self.story("waits in vain"));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Forgets stalls of the past.
    pub(crate) fn mark(&self) {
        for end in [&self.listener, &self.dialler] {
            end.progress.lock().expect("nobody panics with it").stall = Duration::ZERO;
        }
    }

    fn story(&self, what: &str) -> String {
        let [there, here] = self.received().map(|progress| progress.bytes);
        format!("{there} and {here} bytes came\n{}\n{}", self.listener.story(what), self.dialler.story(what))
    }

    /// Ends both directions, and waits for the end of both programs. Returns what the listener and the dialler received.
    pub(crate) fn finish(self) -> Result<[Progress; 2]> {
        let Self { mut listener, mut dialler } = self;
        (listener.more, dialler.more) = (None, None);
        let sent = [(dialler.name, dialler.given), (listener.name, listener.given)];
        Ok([listener.finish(sent[0].0, sent[0].1)?, dialler.finish(sent[1].0, sent[1].1)?])
    }
}
