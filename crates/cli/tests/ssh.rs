//! `nc` as a ProxyCommand of the real OpenSSH, with an SSH server behind the other end.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{DEADLINE, Running, World, skip};

/// Runs its arguments, as root with another `/run`.
const START: &str = r#"
    if [ "$(id -u)" = 0 ]; then
        exec unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec "$@"' sh "$@"
    fi
    exec "$@"
"#;

/// An SSH server for the user who runs the test, on a port of loopback.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// `None` if there is none, or it does not start here.
    fn start(world: &World, keys: &Path) -> Option<Self> {
        let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = world.file(
            "sshd_config",
            format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
                 PidFile none\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n",
                keys.join("host").display(),
                keys.join("user.pub").display()
            )
            .as_bytes(),
        );
        // As root it wants a directory that only an installation makes, and gets one that nobody else sees.
        let mut command = Command::new("sh");
        command.args(["-c", START, "sh"]).arg(program).args(["-D", "-q", "-f"]).arg(config);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if child.try_wait().unwrap().is_some() || began.elapsed() > DEADLINE {
                return None;
            }
            std::thread::yield_now();
        }
        Some(Self { child, port })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_shell_on_another_device() {
    let world = World::new();
    let keys = world.path("keys");
    std::fs::create_dir(&keys).unwrap();
    for name in ["host", "user"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(keys.join(name))
            .status();
        if !made.is_ok_and(|status| status.success()) {
            skip::missing("a_shell_on_another_device", "ssh-keygen");
            return;
        }
    }
    let Some(server) = Server::start(&world, &keys) else {
        skip::missing("a_shell_on_another_device", "an SSH server that starts");
        return;
    };
    let (anna, ben) = (world.device("anna"), world.device("ben"));
    let mut command = ben.command("nc");
    command.args(["-l", "--service", &format!("127.0.0.1:{}", server.port), "--accept-from", &anna.id]);
    let mut listening = Running::spawn(command);
    listening.until("registered");
    // What `cert -i` writes, with the peer in the form in which people give it.
    let configuration = world
        .file("config.yml", format!("bootstrap: {}\nport: {}\n", world.bootstrap, server.port).as_bytes());
    let config = world.file(
        "ssh_config",
        format!(
            "Host dnc/*\n    ProxyCommand {} nc -q --loopback --home '{}' -d '{}' %h\n    IdentityFile {}\n    \
             IdentitiesOnly yes\n    StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    BatchMode yes\n    \
             LogLevel ERROR\n",
            env!("CARGO_BIN_EXE_towline"),
            anna.home.display(),
            configuration.display(),
            keys.join("user").display()
        )
        .as_bytes(),
    );
    let ssh = |command: &str| {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(&config).args([&format!("dnc/{}", ben.id), command]);
        ssh
    };
    let mut sum = Running::spawn(ssh("sha256sum; echo done >&2; exit 7"));
    let bytes = vec![b'x'; 4 << 20];
    sum.write(&bytes);
    sum.end_input();
    let sum = sum.ended().fails_with(7);
    let expected = towline::DeviceId::of_spki(&bytes).to_string();
    assert!(sum.out.starts_with(&expected) && sum.err == "done\n", "{sum:?}");
    // The other direction, and that it ends when the far side does, while this one still waits for input.
    let dump = Running::spawn(ssh("head -c 1000000 /dev/zero | tr '\\0' a")).ended().success();
    assert_eq!(dump.out.trim_end().len(), 1_000_000);
    // When ssh ends it hangs up on its ProxyCommand, which may come before the end of its input.
    listening.until("disconnected");
}
