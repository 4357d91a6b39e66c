//! A network of its own for one test: a hub with a DHT node, and hosts around it.

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tokio::process::{Child, Command};

use super::{Jamid, Namespace};
use crate::{Peer, Process, require};

const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PORT: u16 = 4222;

/// Labs of this process so far.
static LABS: AtomicU32 = AtomicU32::new(0);

/// Starting takes as long as making an RSA key.
const START: Duration = Duration::from_mins(1);

/// A hub with a bridge and Debian's `dhtnode` on it; our own nodes live on the host `us`, which is also where the
/// thread of the test is.
pub struct Lab {
    dir: PathBuf,
    programs: Programs,
    begun: Instant,
    /// Ends before the namespaces do.
    dhtnode: Option<Process>,
    us: Namespace,
    others: Vec<Namespace>,
    hub: Namespace,
}

#[derive(Debug)]
struct Programs {
    dhtnode: PathBuf,
    jamid: PathBuf,
}

/// What a test does in its lab.
pub type Body<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

impl Lab {
    /// Runs a test on a thread that lives on the host `us` of a new lab. Its files are kept if it fails.
    ///
    /// Returns at once where the programs are missing; see [`require`].
    ///
    /// # Errors
    /// That of the test, with the place of the files.
    pub fn run(test: impl for<'a> FnOnce(&'a mut Self) -> Body<'a> + Send + 'static) -> Result<()> {
        let Some(programs) = require(&[Peer::Dhtnode, Peer::Jamid]) else { return Ok(()) };
        // What our side thinks, for a person: `RUST_LOG=towline=debug`.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let name = std::thread::current().name().unwrap_or("jami").replace("::", "-");
        let thread = std::thread::Builder::new().name(name.clone());
        let thread = thread.spawn(move || Self::run_here(&name, programs, test))?;
        thread.join().map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            anyhow!(
                text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
                    .unwrap_or_default()
            )
        })?
    }

    fn run_here(
        name: &str,
        programs: Vec<PathBuf>,
        test: impl for<'a> FnOnce(&'a mut Self) -> Body<'a>,
    ) -> Result<()> {
        let [dhtnode, jamid] = <[PathBuf; 2]>::try_from(programs).expect("two programs were asked for");
        // A short name: the path of a bus's socket has 107 bytes at most.
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("towline-jami-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("test"), name)?;
        let hub = Namespace::new("hub", &dir)?;
        hub.ip("link add br0 type bridge")?;
        hub.ip(&format!("addr add {HUB}/24 dev br0"))?;
        hub.ip("link set br0 up")?;
        let us = Namespace::new("us", &dir)?;
        hub.plug(&us, address(0), HUB)?;
        us.enter()?;
        let programs = Programs { dhtnode, jamid };
        let mut lab = Self {
            dir: dir.clone(),
            programs,
            begun: Instant::now(),
            dhtnode: None,
            us,
            others: Vec::new(),
            hub,
        };
        // Made in the namespace: its other threads are there too.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            let _capture = lab.capture()?;
            lab.start_dhtnode().await?;
            test(&mut lab).await
        });
        drop(lab);
        drop(runtime);
        match result {
            Ok(()) if std::env::var_os("TOWLINE_CAPTURE").is_some() => Ok(()),
            Ok(()) => std::fs::remove_dir_all(dir).context("removing the files of the lab"),
            Err(error) => Err(error.context(format!("the logs are in {}", dir.display()))),
        }
    }

    /// Keeps all packets of the lab, and the lab itself, if the variable `TOWLINE_CAPTURE` is set: for a person.
    fn capture(&self) -> Result<Option<Child>> {
        if std::env::var_os("TOWLINE_CAPTURE").is_none() {
            return Ok(None);
        }
        let mut command = self.hub.command();
        command.args(["dumpcap", "-q", "-i", "br0", "-w"]).arg(self.dir.join("hub.pcapng"));
        let mut command = Command::from(command);
        Ok(Some(command.stderr(Stdio::null()).kill_on_drop(true).spawn()?))
    }

    async fn start_dhtnode(&mut self) -> Result<()> {
        let mut command = self.hub.command();
        command.arg(&self.programs.dhtnode).args(["-p", &PORT.to_string(), "-n", "0"]).current_dir(&self.dir);
        let mut process = Process::start("dhtnode", Command::from(command))?;
        process.expect("its node id", START, |line| line.starts_with("OpenDHT node ").then_some(())).await?;
        self.dhtnode = Some(process);
        Ok(())
    }

    /// Starts a Jami daemon on a host of its own.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn jamid(&mut self, name: &str) -> Result<Jamid> {
        self.host(name)?;
        let host = self.others.last().expect("made just now");
        Jamid::start(&self.programs.jamid, host, &self.dir, self.bootstrap()).await
    }

    /// A further host.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn host(&mut self, name: &str) -> Result<&Namespace> {
        let host = Namespace::new(name, &self.dir)?;
        self.others.push(host);
        let host = self.others.last().expect("pushed just now");
        self.hub.plug(host, address(self.others.len()), HUB)?;
        Ok(host)
    }

    /// Takes a host off the network without a word to anybody, or puts it back.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn set_plugged(&self, name: &str, plugged: bool) -> Result<()> {
        let host = self.others.iter().chain([&self.us]).find(|host| host.name() == name);
        self.hub.set_plugged(host.context("there is such a host")?, plugged)
    }

    /// The node to join the DHT through.
    #[must_use]
    pub fn bootstrap(&self) -> SocketAddr {
        (HUB, PORT).into()
    }

    /// Where the files of this lab are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Since the lab was begun.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }
}

fn address(host: usize) -> Ipv4Addr {
    let last = u8::try_from(host + 2).expect("a lab has few hosts");
    Ipv4Addr::new(10, 77, 0, last)
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab").field("dir", &self.dir).field("hosts", &self.others).finish_non_exhaustive()
    }
}
