//! The program as its users run it: real processes with deadlines, which end with the test.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod skip;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing in these tests takes longer, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Lines of output that wait to be looked at; when there are more, the command waits.
const LINES: usize = 65_536;

/// `towline`, with no settings of the user who runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_towline"));
    command.env_remove("TOWLINE_HOME").env_remove("TOWLINE_LOG");
    command
}

/// What a command that has ended left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The lines of JSON on the standard output.
    pub fn events(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The event of that name.
    #[track_caller]
    pub fn event(&self, name: &str) -> Value {
        let found = self.events().into_iter().find(|event| event["event"] == name);
        found.unwrap_or_else(|| panic!("no event {name} in {self:#?}"))
    }

    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn towline<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    Running::start(args).ended()
}

/// A command that runs; it is killed when this is dropped.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Lines that were passed over and are still to be looked at.
    passed: VecDeque<String>,
    heard: Vec<String>,
    err: Option<JoinHandle<String>>,
    deadline: Instant,
}

impl Running {
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        let mut command = command();
        command.args(args);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut err = child.stderr.take().unwrap();
        let (heard, lines) = sync_channel(LINES);
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { return };
                if heard.send(line).is_err() {
                    return;
                }
            }
        });
        let err = std::thread::spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let input = child.stdin.take();
        let (passed, heard, deadline) = (VecDeque::new(), Vec::new(), Instant::now() + DEADLINE);
        Self { child, input, lines, passed, heard, err: Some(err), deadline }
    }

    /// Waits for an event on the standard output.
    #[track_caller]
    pub fn until(&mut self, name: &str) -> Value {
        loop {
            let next = match self.passed.pop_front() {
                Some(line) => Ok(line),
                None => self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())),
            };
            match next {
                Ok(line) => {
                    let event: Value = serde_json::from_str(&line).unwrap();
                    self.heard.push(line);
                    if event["event"] == name {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no event {name} in time: {:#?}", self.heard),
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.child.kill();
                    let err = self.err.take().unwrap().join().unwrap();
                    panic!("ended without event {name}: {:#?}\n{err}", self.heard);
                }
            }
        }
    }

    /// Waits for an event that fits.
    #[track_caller]
    pub fn until_such(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.until(name);
            if fits(&event) {
                return event;
            }
        }
    }

    /// Waits for all of these events, in any order, and leaves the others to be waited for later.
    #[track_caller]
    pub fn until_all(&mut self, names: &[&str]) {
        let mut missing = names.to_vec();
        while !missing.is_empty() {
            let line = self.line();
            let event: Value = serde_json::from_str(&line).unwrap();
            let before = missing.len();
            missing.retain(|name| event["event"] != *name);
            if missing.len() < before { self.heard.push(line) } else { self.passed.push_back(line) }
        }
    }

    /// Waits for a line of its output, whatever else it says.
    #[track_caller]
    pub fn until_line(&mut self, wanted: impl Fn(&str) -> bool) {
        while !wanted(&self.line()) {}
    }

    /// Gives it something to read.
    pub fn write(&mut self, text: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(text).unwrap();
        input.flush().unwrap();
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// The next line of its output, whatever it is.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("another line in time")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(mut self) -> Ended {
        self.heard.extend(std::mem::take(&mut self.passed));
        loop {
            match self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("did not end in time: {:#?}", self.heard),
            }
        }
        let status: ExitStatus = self.child.wait().unwrap();
        let err = self.err.take().unwrap().join().unwrap();
        let out = self.heard.iter().fold(String::new(), |out, line| out + line + "\n");
        Ended { code: status.code(), out, err }
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Kills it, with no chance to say anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory, a DHT node, and devices that use it.
pub struct World {
    pub directory: tempfile::TempDir,
    pub node: Running,
    pub bootstrap: String,
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut node =
            Running::start(["node", "--bind", "127.0.0.1", "--port", "0", "--json", "--end-with-stdin"]);
        let bootstrap = node.until("dht_node")["addresses"][0].as_str().unwrap().to_owned();
        Self { directory, node, bootstrap }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A file that takes long to send and no room on the disk.
    pub fn endless(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::File::create(&path).unwrap().set_len(1 << 36).unwrap();
        path
    }

    pub fn device(&self, name: &str) -> Device {
        let home = self.path(name);
        let made = towline([
            OsStr::new("init"),
            "--key-size".as_ref(),
            "2048".as_ref(),
            "--json".as_ref(),
            "--home".as_ref(),
            home.as_os_str(),
        ]);
        let made = made.success().event("created");
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        Device { id: text("device"), account: text("account"), home, bootstrap: self.bootstrap.clone() }
    }
}

/// A device of the world.
pub struct Device {
    pub home: PathBuf,
    pub id: String,
    pub account: String,
    bootstrap: String,
}

impl Device {
    /// A command of this device, with `--json`.
    pub fn command(&self, command: &str) -> Command {
        let mut made = self::command();
        made.args([command, "--json", "--loopback", "--bootstrap", &self.bootstrap, "--home"])
            .arg(&self.home);
        made
    }

    /// A command of several words that goes online, with `--json`.
    pub fn online_command(&self, words: &[&str]) -> Command {
        let mut made = self::command();
        made.args(words)
            .args(["--json", "--loopback", "--bootstrap", &self.bootstrap, "--home"])
            .arg(&self.home);
        made
    }

    /// A command of several words that goes online, to its end.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Ended {
        Running::spawn(self.online_command(words)).ended()
    }

    /// A command of several words that stays offline, to its end.
    #[track_caller]
    pub fn offline(&self, words: &[&str]) -> Ended {
        let mut made = self::command();
        made.args(words).args(["--json", "--home"]).arg(&self.home);
        Running::spawn(made).ended()
    }

    /// `online`, announced.
    #[track_caller]
    pub fn online(&self, args: &[&str]) -> Running {
        let mut command = self.online_command(&["online", "--end-with-stdin"]);
        command.args(args);
        let mut running = Running::spawn(command);
        running.until_all(&["registered", "announced"]);
        running
    }

    /// A further device of the account.
    #[track_caller]
    pub fn further(&self, home: PathBuf) -> Self {
        let to = home.to_str().unwrap();
        let made = self.offline(&["account", "add-device", to, "--key-size", "2048"]).success();
        let made = made.event("device_added");
        assert_eq!(made["account"], *self.account);
        let id = made["device"].as_str().unwrap().to_owned();
        Self { home, id, account: self.account.clone(), bootstrap: self.bootstrap.clone() }
    }

    /// `receive`, ready to be dialled.
    pub fn receive(&self, into: &Path, args: &[&str]) -> Running {
        std::fs::create_dir_all(into).unwrap();
        let mut command = self.command("receive");
        command.args(args).arg("--into").arg(into);
        let mut running = Running::spawn(command);
        running.until_all(&["registered", "announced"]);
        running
    }

    /// `send`.
    pub fn send(&self, to: &str, files: &[&Path]) -> Running {
        let mut command = self.command("send");
        command.args(["--to", to]).args(files);
        Running::spawn(command)
    }
}

/// Names of the visible and hidden files in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
