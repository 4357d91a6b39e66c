//! What a test needs to find on the machine.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// A program that Towline is tested against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Debian's `dhtnode`.
    Dhtnode,
    /// The PyPI package `opendht`, in the virtual environment that `cargo xtask setup` makes.
    PyOpendht,
    /// `gnutls-cli`, `gnutls-serv` and `certtool`.
    GnuTls,
    /// Debian's `turnserver` (coturn).
    Coturn,
    /// Debian's Jami daemon, and what its network is made with; needs root.
    Jamid,
    /// Network namespaces, and the NAT of the kernel; needs root.
    Kernel,
    /// Debian's `miniupnpd` with nftables, in networks of its own; needs root.
    Miniupnpd,
}

impl Peer {
    /// Where the program is; what to install when it is missing.
    ///
    /// # Errors
    /// A sentence for the person who wants the test to run.
    pub fn find(self) -> Result<PathBuf, String> {
        match self {
            Self::Dhtnode => on_path("dhtnode").ok_or_else(|| missing("dhtnode")),
            Self::Coturn => match (on_path("turnserver"), on_path("setpriv")) {
                (Some(program), Some(_)) => Ok(program),
                (None, _) => Err(missing("coturn")),
                (_, None) => Err(missing("util-linux")),
            },
            Self::GnuTls => on_path("gnutls-cli").ok_or_else(|| missing("gnutls-bin")),
            Self::Jamid => {
                let tools = ["ip", "unshare", "nsenter", "setpriv", "dbus-daemon"];
                if let Some(tool) = tools.into_iter().find(|tool| on_path(tool).is_none()) {
                    return Err(missing(tool));
                }
                if !nix::unistd::geteuid().is_root() {
                    return Err("network namespaces need root".to_owned());
                }
                let program = PathBuf::from("/usr/libexec/jamid");
                if program.is_file() { Ok(program) } else { Err(missing("jami-daemon")) }
            }
            Self::Kernel => {
                let tools = ["ip", "unshare", "nsenter", "setpriv", "nft"];
                if let Some(tool) = tools.into_iter().find(|tool| on_path(tool).is_none()) {
                    return Err(missing(tool));
                }
                if !nix::unistd::geteuid().is_root() {
                    return Err("network namespaces need root".to_owned());
                }
                let tun = PathBuf::from("/dev/net/tun");
                if tun.exists() { Ok(tun) } else { Err("the kernel has no TUN devices".to_owned()) }
            }
            Self::Miniupnpd => {
                let tools = ["ip", "unshare", "nsenter", "setpriv", "nft", "bash"];
                if let Some(tool) = tools.into_iter().find(|tool| on_path(tool).is_none()) {
                    return Err(missing(tool));
                }
                if !nix::unistd::geteuid().is_root() {
                    return Err("network namespaces need root".to_owned());
                }
                on_path("miniupnpd").ok_or_else(|| missing("miniupnpd"))
            }
            Self::PyOpendht => {
                let python = target_dir().join("tools/opendht/bin/python");
                if imports(&python) { Ok(python) } else { Err(missing("the Python package opendht 4.4")) }
            }
        }
    }
}

fn missing(what: &str) -> String {
    format!("{what} is not installed; run `cargo xtask setup`")
}

/// Finds all of `peers`. `None` means that the calling test must return at once: something is missing, and its
/// name was written where the suite lists skipped tests.
///
/// # Panics
/// In CI (the variable `CI` is `true`), when one is missing.
#[must_use]
pub fn require(peers: &[Peer]) -> Option<Vec<PathBuf>> {
    let found: Result<Vec<PathBuf>, String> = peers.iter().map(|peer| peer.find()).collect();
    match found {
        Ok(paths) => Some(paths),
        Err(reason) => {
            assert!(!in_ci(), "{reason}");
            let name = thread::current().name().unwrap_or("a test").to_owned();
            report_skipped(&format!("{name}: {reason}"));
            None
        }
    }
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}

#[expect(clippy::print_stderr, reason = "the reader of a test run must learn what did not run")]
fn report_skipped(line: &str) {
    eprintln!("SKIPPED: {line}");
    let Some(path) = std::env::var_os("TOWLINE_SKIPPED_FILE") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
        eprintln!("the list of skipped tests: {error}");
    }
}

fn target_dir() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn imports(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import opendht"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
