//! A network namespace, held open by a process.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

/// What the holder does first: a host name, name look-ups that never leave, and no IPv6 address at all, not even ::1.
/// The daemon of Debian 12 waits for ever for the end of a list of them that newer kernels send another way.
/// Then it stays until its input ends.
const HOLD: &str = r#"set -e
hostname "$1"
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/resolv.conf" /etc/resolv.conf
for switch in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > "$switch"; done
ip link set lo up
echo ready
exec cat > /dev/null"#;

/// Network, mounts and host name of one host of the lab. It ends with this object, or with the thread that made it.
pub struct Namespace {
    name: String,
    holder: Child,
    /// Its end is the holder's.
    input: Option<ChildStdin>,
}

impl Namespace {
    /// Makes one; files it needs go below `dir`.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn new(name: &str, dir: &Path) -> Result<Self> {
        let files = dir.join(format!("etc-{name}"));
        std::fs::create_dir_all(&files)?;
        std::fs::write(files.join("hosts"), format!("127.0.0.1 localhost\n127.0.1.1 {name}\n"))?;
        std::fs::write(files.join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--mount",
            "--uts",
            "setpriv",
            "--pdeathsig",
            "KILL",
            "sh",
            "-c",
            HOLD,
            "sh",
            name,
        ]);
        command
            .arg(&files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(files.join("log"))?);
        let mut holder = command.spawn().context("unshare")?;
        let input = holder.stdin.take();
        let output = holder.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let namespace = Self { name: name.to_owned(), holder, input };
        if line.trim() != "ready" {
            bail!("the namespace {name}: {}", std::fs::read_to_string(files.join("log"))?);
        }
        Ok(namespace)
    }

    /// Its name, and that of its host.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command line that runs what is appended to it in here, and kills it when the thread that starts it ends.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount", "--uts", "--"]);
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        command
    }

    /// Runs `ip` in here.
    ///
    /// # Errors
    /// With what it complained of.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let output = self.command().arg("ip").args(arguments.split(' ')).output()?;
        ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Runs commands of the shell in here, up to the first that fails.
    ///
    /// # Errors
    /// With what it complained of.
    pub fn shell(&self, commands: &str) -> Result<()> {
        let output = self.command().args(["sh", "-ec", commands]).output()?;
        ensure!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Connects a host to the bridge `br0` in here and gives it an address.
    ///
    /// # Errors
    /// With what `ip` complained of.
    pub fn plug(&self, host: &Self, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<()> {
        let (name, holder) = (&host.name, host.holder.id());
        self.ip(&format!("link add v-{name} type veth peer name eth0 netns {holder}"))?;
        self.ip(&format!("link set v-{name} master br0 up"))?;
        host.ip(&format!("addr add {address}/24 dev eth0"))?;
        host.ip("link set eth0 up")?;
        host.ip(&format!("route add default via {gateway}"))
    }

    /// Moves a network device of the calling process in here.
    ///
    /// # Errors
    /// With what `ip` complained of.
    pub fn adopt(&self, device: &str) -> Result<()> {
        let holder = self.holder.id().to_string();
        let output = Command::new("ip").args(["link", "set", device, "netns", &holder]).output()?;
        ensure!(output.status.success(), "ip link set: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Moves a network device from here to another namespace, and gives it a name there.
    ///
    /// # Errors
    /// With what `ip` complained of.
    pub fn give(&self, device: &str, to: &Self, name: &str) -> Result<()> {
        self.ip(&format!("link set {device} netns {}", to.holder.id()))?;
        to.ip(&format!("link set {device} name {name}"))
    }

    /// Runs something on a thread of its own in the network of this namespace. Sockets made there stay in it.
    ///
    /// # Errors
    /// When the system does not let us, or what it returned.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().and_then(|()| act()));
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Takes a host off the bridge without a word, or puts it back.
    ///
    /// # Errors
    /// With what `ip` complained of.
    pub fn set_plugged(&self, host: &Self, plugged: bool) -> Result<()> {
        self.ip(&format!("link set v-{} {}", host.name, if plugged { "up" } else { "down" }))
    }

    /// Moves the calling thread into the network of this namespace. Threads and processes it starts from now on
    /// are in it too.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(PathBuf::from(format!("/proc/{}/ns/net", self.holder.id())))?;
        setns(file, CloneFlags::CLONE_NEWNET).context("setns")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.input.take());
        // It is `cat` by now, which ends at the end of its input; a kill makes sure of it before it is waited for.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .field("holder", &self.holder.id())
            .finish_non_exhaustive()
    }
}
