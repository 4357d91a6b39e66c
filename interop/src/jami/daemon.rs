//! Debian's Jami daemon, driven over D-Bus.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal;
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::Value as Json;
use tokio::process::{Child, Command};
use zbus::zvariant::DynamicType;

use super::bus::Bus;
use super::{Mark, Namespace, Signal, Signals};

/// Audio without devices.
const ASOUNDRC: &str = "pcm.!default { type null }\nctl.!default { type null }\n";

/// Registration makes several keys and the parameters of a key exchange.
const REGISTRATION: Duration = Duration::from_mins(1);

/// Everything else it does takes a few seconds at most.
pub const SOON: Duration = Duration::from_secs(30);

const STOP: Duration = Duration::from_secs(10);

/// A running daemon with a bus, a home directory and a host of its own, and one account.
#[derive(Debug)]
pub struct Jamid {
    name: String,
    home: PathBuf,
    bootstrap: SocketAddr,
    start: std::sync::Arc<StartCommand>,
    child: Child,
    bus: Bus,
    account: String,
    uri: String,
    device: String,
}

/// All that is needed to start the daemon again.
#[derive(Debug)]
struct StartCommand {
    program: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    environment: BTreeMap<&'static str, std::ffi::OsString>,
    home: PathBuf,
    log: PathBuf,
}

impl StartCommand {
    fn run(&self) -> Result<Child> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(&self.environment).current_dir(&self.home);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        command.spawn().context("the Jami daemon")
    }
}

impl Jamid {
    pub(super) async fn start(
        program: &Path,
        host: &Namespace,
        dir: &Path,
        bootstrap: SocketAddr,
    ) -> Result<Self> {
        let name = host.name().to_owned();
        let home = dir.join(format!("home-{name}"));
        let [data, cache, config, run] = ["data", "cache", "config", "run"].map(|part| home.join(part));
        for part in [&data, &cache, &config, &run] {
            std::fs::create_dir_all(part)?;
        }
        std::fs::write(home.join(".asoundrc"), ASOUNDRC)?;
        let bus = Bus::start(&run, &dir.join(format!("bus-{name}.log"))).await?;
        let address = format!("unix:path={}", run.join("bus").display());
        let environment = BTreeMap::from([
            ("HOME", home.clone().into()),
            ("XDG_DATA_HOME", data.into()),
            ("XDG_CACHE_HOME", cache.into()),
            ("XDG_CONFIG_HOME", config.into()),
            ("XDG_RUNTIME_DIR", run.clone().into()),
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("LANG", "C.UTF-8".into()),
            ("NO_COLOR", "1".into()),
            ("DBUS_SESSION_BUS_ADDRESS", address.into()),
            ("JAMI_LOG_FILE", dir.join(format!("jamid-{name}.log")).into()),
            ("JAMI_DISABLE_SHM", "1".into()),
            ("PULSE_SERVER", format!("unix:{}", run.join("no-pulse").display()).into()),
            // The secrets of its TLS sessions, for a person who looks at a capture.
            ("SSLKEYLOGFILE", dir.join(format!("keys-{name}.txt")).into()),
        ]);
        let mut command = host.command();
        command.arg(program).args(["-c", "-d", "-p"]);
        let start = StartCommand {
            program: command.get_program().into(),
            arguments: command.get_args().map(Into::into).collect(),
            environment,
            home: home.clone(),
            log: dir.join(format!("jamid-{name}.out")),
        };
        let child = start.run()?;
        let mut jamid = Self {
            name,
            home,
            bootstrap,
            start: std::sync::Arc::new(start),
            child,
            bus,
            account: String::new(),
            uri: String::new(),
            device: String::new(),
        };
        jamid.come_up().await?;
        Ok(jamid)
    }

    async fn come_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while !self.bus.has_daemon().await? {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("the daemon {} ended: {status}", self.name);
            }
            ensure!(Instant::now() < deadline, "the daemon {} did not join its bus", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let us = i32::try_from(std::process::id())?;
        self.bus.call("Instance", "Register", &(us, "towline")).await.map(drop)
    }

    /// Its name, and that of its host.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The name it gives its account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The id of its account, 40 hexadecimal digits.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The long id of its device, 64 hexadecimal digits.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Its signals so far.
    #[must_use]
    pub fn signals(&self) -> &Signals {
        self.bus.signals()
    }

    /// The place of its next signal.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.signals().mark()
    }

    /// The first signal called `name` since `mark` for which `wanted` holds, within [`SOON`].
    ///
    /// # Errors
    /// When there is none.
    pub async fn wait(&self, mark: Mark, name: &str, wanted: impl Fn(&Signal) -> bool) -> Result<Signal> {
        let signal = self.signals().wait(mark, name, SOON, wanted).await;
        signal.with_context(|| format!("the daemon {}", self.name))
    }

    /// Calls a method of its `ConfigurationManager`.
    ///
    /// # Errors
    /// When it says so, or nothing.
    pub async fn configuration(
        &self,
        method: &str,
        arguments: &(impl Serialize + DynamicType),
    ) -> Result<Json> {
        self.bus.call("ConfigurationManager", method, arguments).await
    }

    /// Calls a method of its `CallManager`.
    ///
    /// # Errors
    /// When it says so, or nothing.
    pub async fn calls(&self, method: &str, arguments: &(impl Serialize + DynamicType)) -> Result<Json> {
        self.bus.call("CallManager", method, arguments).await
    }

    /// Calls a method of its `PresenceManager`.
    ///
    /// # Errors
    /// When it says so, or nothing.
    pub async fn presence(&self, method: &str, arguments: &(impl Serialize + DynamicType)) -> Result<Json> {
        self.bus.call("PresenceManager", method, arguments).await
    }

    /// Makes an account and waits until it is registered. `details` go over the defaults.
    ///
    /// # Errors
    /// When that takes longer than a minute.
    pub async fn add_account(&mut self, details: &[(&str, &str)]) -> Result<()> {
        let template = self.configuration("getAccountTemplate", &"RING").await?;
        let mut all: HashMap<String, String> = serde_json::from_value(template)?;
        let (bootstrap, device) = (self.bootstrap.to_string(), format!("dev-{}", self.name));
        let common = [
            ("Account.type", "RING"),
            ("Account.alias", &*self.name),
            ("Account.displayName", &*self.name),
            ("Account.enable", "true"),
            ("Account.deviceName", &*device),
            ("Account.hostname", &*bootstrap),
            ("Account.upnpEnabled", "false"),
            ("TURN.enable", "false"),
            ("STUN.enable", "false"),
            ("Account.proxyEnabled", "false"),
            ("Account.dhtProxyListUrl", ""),
            ("Account.peerDiscovery", "false"),
            ("Account.accountDiscovery", "false"),
            ("Account.accountPublish", "false"),
            ("Account.videoEnabled", "false"),
            ("Account.ringtoneEnabled", "false"),
            ("RingNS.uri", "http://127.0.0.1:9"),
            ("Account.archivePassword", ""),
            ("Account.archiveHasPassword", "false"),
        ];
        let details = common.into_iter().chain(details.iter().copied());
        all.extend(details.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mark = self.mark();
        let account = self.configuration("addAccount", &(all,)).await?;
        account.as_str().context("the name of the account")?.clone_into(&mut self.account);
        self.registered(mark).await
    }

    /// Waits until the account is registered and its device announced, and learns its ids.
    async fn registered(&mut self, mark: Mark) -> Result<()> {
        let registered = |signal: &Signal| signal.text(0) == self.account && signal.text(1) == "REGISTERED";
        self.signals().wait(mark, "registrationStateChanged", REGISTRATION, registered).await?;
        let announced = |signal: &Signal| {
            signal.text(0) == self.account && signal.member(1, "Account.deviceAnnounced") == "true"
        };
        self.signals().wait(mark, "volatileAccountDetailsChanged", REGISTRATION, announced).await?;
        let details = self.configuration("getAccountDetails", &self.account).await?;
        let volatile = self.configuration("getVolatileAccountDetails", &self.account).await?;
        let member =
            |details: &Json, name| details.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        let uri = member(&details, "Account.username");
        uri.trim_start_matches("ring:").trim_start_matches("jami:").clone_into(&mut self.uri);
        self.device = member(&volatile, "Account.deviceID");
        ensure!(self.uri.len() == 40 && self.device.len() == 64, "the ids of the account: {volatile}");
        Ok(())
    }

    /// Ends it without any chance to say good-bye.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("the daemon was not running")
    }

    /// Ends it as a user would; one that does not go within ten seconds is killed. (Two daemons that know nobody
    /// else do hang at their end now and then, on a busy machine.)
    ///
    /// # Errors
    /// When it cannot be told to end.
    #[expect(clippy::print_stdout, reason = "the reader of a test run should know")]
    pub async fn stop(&mut self) -> Result<()> {
        let Some(id) = self.child.id() else { return Ok(()) };
        signal::kill(Pid::from_raw(i32::try_from(id)?), signal::Signal::SIGTERM)?;
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(ended) => {
                ended?;
                Ok(())
            }
            Err(_) => {
                println!("the daemon did not end within {STOP:?} and is killed");
                self.kill().await
            }
        }
    }

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop), with the account it had.
    ///
    /// # Errors
    /// When it does not come up, or its account is not registered again.
    pub async fn restart(&mut self) -> Result<()> {
        let deadline = Instant::now() + STOP;
        while self.bus.has_daemon().await? {
            ensure!(Instant::now() < deadline, "the last daemon is still on the bus");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mark = self.mark();
        self.child = self.start.run()?;
        self.come_up().await?;
        self.registered(mark).await
    }
}
