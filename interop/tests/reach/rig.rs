//! Two homes behind NATs, and a station on the public side with a DHT node and a relay.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use interop::jami::Namespace;
use interop::program;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::site::{Kind, Line, Site};

/// The station has two addresses: a NAT that maps by destination shows itself only to two servers.
pub(crate) const STATION: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
/// A relay there, spoken to over UDP, or over TCP.
pub(crate) const RELAY: &str = "turn:ann:secret@198.51.100.1";
pub(crate) const RELAY_TCP: &str = "turn:ann:secret@198.51.100.1?transport=tcp";
/// The same where only the web is open.
pub(crate) const RELAY_WEB: &str = "turn:ann:secret@198.51.100.1:443?transport=tcp";

/// The world: a router, a station, and the homes of two people.
pub(crate) struct Network {
    // Programs end before what they run in.
    programs: Vec<Owned>,
    station: Namespace,
    world: Namespace,
    program: PathBuf,
    pub(crate) devices: [Device; 2],
    /// Whether devices ask the station at which addresses they are seen.
    pub(crate) stun: bool,
    files: TempDir,
    lines: usize,
}

/// A device of somebody, wherever it is.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) folder: PathBuf,
    pub(crate) id: String,
}

impl Network {
    pub(crate) fn new() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let program = program()?;
        let made = |name| Namespace::new(name, files.path());
        let (world, station) = (made("world")?, made("station")?);
        world.ip("link add station type veth peer name other")?;
        world.give("other", &station, "eth0")?;
        world.ip("addr add 198.51.100.254/24 dev station")?;
        world.ip("link set station up")?;
        for address in STATION {
            station.ip(&format!("addr add {address}/24 dev eth0"))?;
        }
        station.ip("link set eth0 up")?;
        station.ip("route add default via 198.51.100.254")?;
        world.shell("echo 1 > /proc/sys/net/ipv4/ip_forward")?;

        let devices = ["alice", "bob"].map(|name| device(&program, files.path().join(name)));
        let [alice, bob] = devices;
        let devices = [alice?, bob?];
        Ok(Self { programs: Vec::new(), station, world, program, devices, stun: true, files, lines: 0 })
    }

    /// Starts a DHT node and a relay at the station, which know nothing of what was before.
    pub(crate) fn open_station(&mut self) -> Result<()> {
        self.programs.clear();
        let [one, other] = STATION;
        let relay = format!(
            "relay --user ann:secret --relay-ip {one} --allow-private-peers --rate-per-user 10000 \
             --allocations-per-user 100 --listen {one}:3478 --listen {other}:3478 --listen {one}:443"
        );
        for (words, ready) in [("node --no-bootstrap --port 4222", "dht_node"), (&*relay, "relay_ready")] {
            let mut command = self.station.command();
            command.arg(&self.program).args(words.split(' ')).arg("--json");
            self.programs.push(start(command, ready)?);
        }
        Ok(())
    }

    /// A new home behind this, with a public address of its own.
    pub(crate) fn site(&mut self, kind: Kind) -> Result<Site> {
        let line = self.line();
        let mut site = Site::new(line)?;
        site.attach(kind, line)?;
        Ok(site)
    }

    /// A way into the world that nobody uses yet.
    pub(crate) fn line(&mut self) -> Line<'_> {
        self.lines += 1;
        Line { world: &self.world, files: self.files.path(), number: self.lines }
    }

    /// A command of the program, for a device at a site.
    pub(crate) fn command(&self, site: &Site, device: &Device, words: &[&str]) -> Command {
        let mut command = site.home.command();
        command.arg(&self.program).args(words).args(["--json", "--home"]).arg(&device.folder);
        let [one, other] = STATION;
        command.args(["--bootstrap", &format!("{one}:4222")]);
        if self.stun {
            command.args(["--stun", one, "--stun", other]);
        }
        command.env_remove("TOWLINE_HOME").env_remove("TOWLINE_LOG");
        command
    }

    /// Bytes that came to the station so far: what is relayed, and little else.
    pub(crate) fn station_bytes(&self) -> Result<u64> {
        let shown =
            self.station.command().args(["ip", "-json", "-s", "link", "show", "dev", "eth0"]).output()?;
        ensure!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let shown: Json = serde_json::from_slice(&shown.stdout)?;
        shown[0]["stats64"]["rx"]["bytes"].as_u64().context("a count")
    }
}

/// Makes a device.
fn device(program: &Path, folder: PathBuf) -> Result<Device> {
    let mut command = Command::new(program);
    command.args(["init", "--key-size", "2048", "--json", "--home"]).arg(&folder);
    let made = command.output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    let event: Json = serde_json::from_slice(&made.stdout)?;
    let id = event["device"].as_str().context("an id")?.to_owned();
    Ok(Device { folder, id })
}

/// A program that ends when this is dropped.
pub(crate) struct Owned(pub(crate) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // Gone already, or gone now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program that runs on, and waits for this event on its standard output.
fn start(mut command: Command, ready: &str) -> Result<Owned> {
    let mut program = Owned(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let output = program.0.stdout.take().context("stdout is piped")?;
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next().transpose()? {
        let event: Json = serde_json::from_str(&line)?;
        if event["event"] == ready {
            // Whoever writes must be read.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(program);
        }
    }
    bail!("it ended before it said {ready}")
}
