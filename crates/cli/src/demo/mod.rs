//! `towline demo`: everything at work on one computer, with nothing left behind.

mod process;
mod samples;
mod timeline;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use tempfile::TempDir;
use towline::identity::{GenerateOptions, Hierarchy};

use crate::args::Demo;
use crate::event::{Connected, Event};
use crate::failure::Failure;
use crate::home::{self, Home};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::text;
use crate::transfer::Source;
use process::Process;
use timeline::Timeline;

/// How long all of it may take, without the time that large files need.
const LONGEST: Duration = Duration::from_secs(30);
/// The slowest that files may move, in bytes per second.
const SLOWEST: u64 = 10 << 20;

/// The processes and their files. Processes come first: they end before their directory is removed.
struct Stage {
    processes: Vec<Process>,
    /// Shared with the threads that write to it, so that it is removed when nobody does any more.
    directory: Arc<TempDir>,
}

/// A file that has arrived.
struct Arrived {
    name: String,
    path: PathBuf,
    blake3: String,
    time: f64,
}

/// A file that was sent.
struct Sent {
    name: String,
    path: PathBuf,
    bytes: u64,
    blake3: String,
}

pub(crate) async fn run(args: Demo, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    let mut size = 0;
    for path in &args.files {
        size += Source::open(path).map_err(Failure::Local)?.size;
    }
    let directory = tempfile::Builder::new().prefix("towline-demo-").tempdir();
    let directory = directory.map_err(|error| local("make a temporary directory", &error))?;
    let mut stage = Stage { processes: Vec::new(), directory: Arc::new(directory) };
    let longest = LONGEST + Duration::from_secs(size / SLOWEST);
    let result = interrupt.stops(async {
        tokio::time::timeout(longest, stage.play(args.files, output)).await.unwrap_or_else(|_| {
            Err(Failure::Internal(format!("the demonstration did not end within {} s", longest.as_secs())))
        })
    });
    let result = result.await;
    future::join_all(stage.processes.drain(..).map(Process::end)).await;
    match Arc::try_unwrap(stage.directory) {
        Ok(directory) => {
            result.and(directory.close().map_err(|error| local("remove the temporary directory", &error)))
        }
        // A thread still writes: it removes the directory when it is done, before the program ends.
        Err(_) => result,
    }
}

impl Stage {
    async fn play(&mut self, files: Vec<PathBuf>, output: &Output) -> Result<(), Failure> {
        let timeline = Timeline::start(output);
        let node =
            Process::start("DHT node", ["node", "--bind", "127.0.0.1", "--port", "0", "--no-bootstrap"])?;
        let node = self.enter(node);
        let bootstrap = node_address(&mut self.processes[node]).await?;
        timeline.now("DHT node", &format!("on {bootstrap}"));
        let (files, receiver, sender) = self.prepare(files).await?;
        let (to, from) = (receiver.device.device_id(), sender.device.device_id());
        timeline.now("identity", &format!("receiver {to:.16}…, sender {from:.16}…, RSA-3072"));

        let network = |what: &str, home: PathBuf| -> Vec<OsString> {
            let fixed = [what, "--loopback", "--bootstrap", &bootstrap, "--home"].map(OsString::from);
            fixed.into_iter().chain([home.into()]).collect()
        };
        let inbox = self.directory.path().join("received");
        std::fs::create_dir(&inbox).map_err(|error| local("make a directory", &error))?;
        let mut arguments = network("receive", self.home("receiver"));
        arguments.extend(["--count", "2", "--accept-from"].map(OsString::from));
        arguments.extend([from.to_string().into(), "--into".into(), inbox.into()]);
        let receiving = self.enter(Process::start("receiver", arguments)?);
        let registered = |line: &crate::output::Line| (line.event == Event::Registered).then_some(line.time);
        let time = self.processes[receiving].until(registered).await?;
        timeline.at(time, "published", "the receiver's certificate is on the DHT");

        let mut arguments = network("send", self.home("sender"));
        arguments.extend(["--to".into(), to.to_string().into(), "--".into()]);
        arguments.extend(files.into_iter().map(OsString::from));
        let mut sending = Process::start("sender", arguments)?;
        let (sent, arrived) = tokio::try_join!(
            watch_sender(&mut sending, &timeline),
            watch_receiver(&mut self.processes[receiving])
        )?;
        let (sent, began) = sent;
        let moved: u64 = sent.iter().map(|file| file.bytes).sum();
        let last = arrived.iter().map(|file| file.time).fold(began, f64::max);
        let took = Duration::from_secs_f64(last - began);
        let (amount, speed) = (text::bytes(moved), text::rate(moved, took));
        let about = format!("{amount} on both channels at once in {}: {speed}", text::duration(took));
        timeline.at(last, "throughput", &about);
        check(sent, arrived).await?;
        timeline.now("checked", "both files have the same BLAKE3 hash and are equal byte for byte");
        timeline.end();
        Ok(())
    }

    /// Keeps a process until the end, and says at which place.
    fn enter(&mut self, process: Process) -> usize {
        self.processes.push(process);
        self.processes.len() - 1
    }

    fn home(&self, who: &str) -> PathBuf {
        self.directory.path().join(who)
    }

    /// Makes what is needed, all at the same time: the files, if there are none, and two identities.
    async fn prepare(&self, files: Vec<PathBuf>) -> Result<(Vec<PathBuf>, Hierarchy, Hierarchy), Failure> {
        let directory = Arc::clone(&self.directory);
        let files = tokio::task::spawn_blocking(move || {
            if files.is_empty() {
                // Nobody else has it when the demonstration was given up.
                let wanted = || Arc::strong_count(&directory) > 1;
                samples::make(directory.path(), wanted)
                    .map_err(|error| local("make the sample files", &error))
            } else {
                // The processes may not have our working directory for ever.
                let absolute = files.iter().map(std::path::absolute).collect::<std::io::Result<_>>();
                absolute.map_err(|error| local("find the files", &error))
            }
        });
        let new_identity = |home: PathBuf, name: &'static str| {
            // Not held while the keys are made, which takes longest and cannot be given up.
            let directory = Arc::downgrade(&self.directory);
            tokio::task::spawn_blocking(move || {
                let options = GenerateOptions {
                    device_name: name.to_owned(),
                    ..GenerateOptions::new(home::unix_time())
                };
                let hierarchy = home::generate(&options)?;
                let _directory = directory.upgrade().ok_or(Failure::Interrupted)?;
                Home::at(home).create_first(&hierarchy, None, None, false)?;
                Ok::<_, Failure>(hierarchy)
            })
        };
        let receiver = new_identity(self.home("receiver"), "Receiver");
        let sender = new_identity(self.home("sender"), "Sender");
        let (files, receiver, sender) = tokio::try_join!(files, receiver, sender)
            .map_err(|error| Failure::Internal(format!("the preparation broke off: {error}")))?;
        Ok((files?, receiver?, sender?))
    }
}

async fn node_address(node: &mut Process) -> Result<String, Failure> {
    node.until(|line| match &line.event {
        Event::DhtNode { addresses, .. } => addresses.first().cloned(),
        _ => None,
    })
    .await
}

/// Follows the sender to its end: the files sent, and when the first began.
async fn watch_sender(sender: &mut Process, timeline: &Timeline) -> Result<(Vec<Sent>, f64), Failure> {
    let mut connected: Option<(f64, Box<Connected>)> = None;
    let mut channels = Vec::new();
    let mut sent = Vec::new();
    let mut began = f64::INFINITY;
    let mut told = false;
    while let Some(line) = sender.next().await? {
        match line.event {
            Event::Connected(event) => connected = Some((line.time, event)),
            Event::ChannelOpened { connection, name, ms, .. } => {
                channels.push((line.time, connection, name, ms));
            }
            Event::FileStarted { .. } => began = began.min(line.time),
            Event::FileSent { name, path, bytes, blake3, .. } => {
                sent.push(Sent { name, path, bytes, blake3 });
            }
            Event::FileFailed { name, reason, .. } => {
                return Err(Failure::Transfer(format!("{name} was not sent: {reason}")));
            }
            _ => {}
        }
        // Events of the connection and of the channels come from two tasks, in any order.
        if let (false, Some((time, connected)), [first, second]) = (told, &connected, &*channels) {
            timeline.connected(*time, connected);
            for (what, (time, connection, name, ms)) in [("first channel", first), ("second channel", second)]
            {
                if *connection != connected.connection {
                    return Err(Failure::Internal("the two channels are not on one connection".to_owned()));
                }
                timeline.channel(*time, what, name, *ms);
            }
            told = true;
        }
    }
    if !told || sent.len() != 2 {
        return Err(Failure::Internal("the sender ended without having told everything".to_owned()));
    }
    Ok((sent, began))
}

/// Follows the receiver to its end.
async fn watch_receiver(receiver: &mut Process) -> Result<Vec<Arrived>, Failure> {
    let mut arrived = Vec::new();
    while let Some(line) = receiver.next().await? {
        match line.event {
            Event::FileReceived { name, path, blake3, .. } => {
                arrived.push(Arrived { name, path, blake3, time: line.time });
            }
            Event::FileFailed { name, reason, .. } => {
                return Err(Failure::Transfer(format!("{name} was not received: {reason}")));
            }
            _ => {}
        }
    }
    Ok(arrived)
}

/// Compares what was sent with what has arrived, without believing either side.
async fn check(sent: Vec<Sent>, mut arrived: Vec<Arrived>) -> Result<(), Failure> {
    for file in sent {
        let place = arrived.iter().position(|other| other.name == file.name && other.blake3 == file.blake3);
        let Some(place) = place else {
            return Err(Failure::Transfer(format!("{} has not arrived", file.name)));
        };
        let other = arrived.swap_remove(place).path;
        let path = file.path.clone();
        let compared = tokio::task::spawn_blocking(move || samples::same(&path, &other)).await;
        let compared =
            compared.map_err(|error| Failure::Internal(format!("the check broke off: {error}")))?;
        let (same, hash) = compared.map_err(|error| local("compare the files", &error))?;
        if !same || hash.to_string() != file.blake3 {
            return Err(Failure::Transfer(format!("{} has arrived damaged", file.name)));
        }
    }
    Ok(())
}

fn local(what: &str, error: &std::io::Error) -> Failure {
    Failure::Local(format!("cannot {what}: {error}"))
}
