//! Debian's `turnserver`: coturn, the reference among relays.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use crate::jami::Namespace;
use crate::{Process, free_udp_port};

/// Starting takes as long as making a database.
const START: Duration = Duration::from_secs(30);

/// How a server is started.
#[derive(Debug, Clone)]
pub struct CoturnOptions {
    /// More of its command line.
    pub arguments: Vec<String>,
    /// Where its files go: what it writes, and `cert.pem` and `key.pem`, if it is to speak TLS.
    pub folder: PathBuf,
    /// The port for everything.
    pub port: u16,
    /// Whether it relays at an IPv6 address, too.
    pub ipv6: bool,
    /// Where it runs, if not on loopback.
    pub place: Option<Place>,
}

/// A host in a namespace on which a server runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The host.
    pub host: Arc<Namespace>,
    /// The address of it to listen to.
    pub listen: IpAddr,
    /// The address of it to relay at.
    pub relay: IpAddr,
}

impl CoturnOptions {
    /// A server on a free port, with the user `ann` (password `secret`) in the realm `example.org`.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn with_user(folder: &Path) -> Result<Self> {
        Self::new(folder, &["--lt-cred-mech", "--user", "ann:secret"])
    }

    /// A server on a free port with these arguments.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn new(folder: &Path, arguments: &[&str]) -> Result<Self> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Ok(Self { arguments, folder: folder.to_owned(), port: free_udp_port()?, ipv6: true, place: None })
    }

    /// With one more argument.
    #[must_use]
    pub fn and(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

/// A running server, on loopback if its options do not say otherwise.
#[derive(Debug)]
pub struct Coturn {
    process: Process,
    port: u16,
}

impl Coturn {
    /// Starts a server, and waits until it listens.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(program: &Path, options: &CoturnOptions) -> Result<Self> {
        let CoturnOptions { arguments, folder, port, ipv6, place } = options;
        // It does not end with its standard input.
        let mut command = match place {
            Some(place) => Command::from(place.host.command()),
            None => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]);
                command
            }
        };
        command.arg(program).current_dir(folder);
        command.args(["-n", "--no-cli", "--log-file=stdout", "--simple-log", "--verbose"]);
        command.args(["--realm", "example.org", "--allow-loopback-peers", "--no-dtls"]);
        // Plain and encrypted streams come to the same port, and so do datagrams.
        command.args(["--listening-port", &port.to_string(), "--tls-listening-port", &port.to_string()]);
        match place {
            Some(Place { listen, relay, .. }) => {
                command.args([format!("--listening-ip={listen}"), format!("--relay-ip={relay}")]);
            }
            None => {
                command.args(["--listening-ip=127.0.0.1", "--listening-ip=::1", "--relay-ip=127.0.0.1"]);
                if *ipv6 {
                    command.arg("--relay-ip=::1");
                }
            }
        }
        for (option, file) in [("--pidfile", "pid"), ("--userdb", "db")] {
            command.arg(option).arg(folder.join(file));
        }
        if folder.join("cert.pem").is_file() {
            // By their whole names: who enters a namespace is at the root of it.
            for (option, file) in [("--cert", "cert.pem"), ("--pkey", "key.pem")] {
                command.arg(option).arg(folder.join(file));
            }
        }
        command.args(arguments);
        let mut process = Process::start(format!("turnserver:{port}"), command)?;
        let listens = |line: &str| line.contains("SQLite DB connection success").then_some(());
        process.expect("that it listens", START, listens).await?;
        Ok(Self { process, port: *port })
    }

    /// Its address for UDP, TCP and TLS, of the family of `like`.
    #[must_use]
    pub fn address(&self, ipv6: bool) -> SocketAddr {
        let ip: IpAddr = if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        SocketAddr::new(ip, self.port)
    }

    /// Waits until it logs a line with this text.
    ///
    /// # Errors
    /// When it does not within 30 s.
    pub async fn logs(&mut self, text: &str) -> Result<()> {
        self.process.expect(text, START, |line| line.contains(text).then_some(())).await
    }

    /// Kills it: it says good-bye to nobody.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(self) -> Result<()> {
        self.process.kill().await
    }
}
