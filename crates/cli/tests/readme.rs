//! The READMEs are true: every command in them is run here as it stands there, by two devices and a shell.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{DEADLINE, World};

/// Commands of the README that other tests stand for: `demo.rs`, and the suite that runs this test.
const ELSEWHERE: [&str; 2] = ["cargo run --release -- demo", "cargo xtask test"];

/// `towline` for the shell: the built program, kept on loopback and in the network of this test.
const SHIM: &str = r#"#!/bin/sh
command=$1
shift
case $command in
    send | receive | listen | pipe | nc | why | status | presence | online | text) exec "$PROGRAM" "$command" --loopback --bootstrap "$BOOTSTRAP" "$@" ;;
    node) exec "$PROGRAM" node --bind 127.0.0.1 --no-bootstrap "$@" ;;
    contact | account)
        word=$1
        shift
        case $word in
            add | requests | accept | revoke)
                exec "$PROGRAM" "$command" "$word" --loopback --bootstrap "$BOOTSTRAP" "$@" ;;
            *) exec "$PROGRAM" "$command" "$word" "$@" ;;
        esac ;;
    *) exec "$PROGRAM" "$command" "$@" ;;
esac
"#;

/// A user at a shell, in a directory of their own.
struct User {
    directory: PathBuf,
    path: String,
    bootstrap: String,
}

/// A command that goes on until this is dropped.
struct Going(Child);

impl Drop for Going {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl User {
    fn new(world: &World, name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = world.path(name);
        std::fs::create_dir_all(directory.join("inbox")).unwrap();
        let shim = world.file("bin/towline", SHIM.as_bytes());
        std::fs::set_permissions(shim, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
        Self { directory, path, bootstrap: world.bootstrap.clone() }
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("exec {line}")])
            .current_dir(&self.directory)
            .env_remove("TOWLINE_LOG")
            .env("PATH", &self.path)
            .env("PROGRAM", env!("CARGO_BIN_EXE_towline"))
            .env("BOOTSTRAP", &self.bootstrap)
            .env("TOWLINE_HOME", self.directory.join("home"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a line until it succeeds: the other side may not be there yet.
    #[track_caller]
    fn run(&self, line: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let output = self.shell(line).output().unwrap();
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(Instant::now() < deadline, "`{line}` does not succeed: {said}");
            assert_ne!(output.status.code(), Some(2), "`{line}` is wrong use: {said}");
        }
    }

    fn start(&self, line: &str) -> Going {
        Going(self.shell(line).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits for a file with this content.
    #[track_caller]
    fn finds(&self, name: &str, content: &[u8]) {
        let deadline = Instant::now() + DEADLINE;
        while std::fs::read(self.directory.join(name)).ok().as_deref() != Some(content) {
            assert!(Instant::now() < deadline, "{name} does not come");
            std::thread::yield_now();
        }
    }
}

/// The lines of a README's shell blocks.
fn lines(readme: &str) -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join(readme);
    let text = std::fs::read_to_string(readme).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

/// The line that begins so, which is not left then.
#[track_caller]
fn take(left: &mut BTreeSet<String>, start: &str) -> String {
    let found = left.iter().find(|line| line.starts_with(start)).cloned();
    let found = found.unwrap_or_else(|| panic!("`{start}` is not in the README"));
    left.remove(&found);
    found
}

#[test]
fn accounts_as_the_readme_of_the_program_says() {
    let mut left: BTreeSet<String> = lines("README.md").into_iter().collect();
    let mut line = |start: &str| take(&mut left, start);
    let world = World::new();
    let (alice, bob) = (User::new(&world, "alice"), User::new(&world, "bob"));
    std::fs::write(alice.directory.join("secret.txt"), "swordfish\n").unwrap();
    alice.run(&line("towline account create"));
    bob.run("towline init --key-size 2048");
    let account = |user: &User| {
        let shown: serde_json::Value =
            serde_json::from_str(&user.run("towline account show --json")).unwrap();
        shown["account"].as_str().unwrap().to_owned()
    };
    let (of_alice, of_bob) = (account(&alice), account(&bob));
    let fill = |line: String| line.replace("ALICE", &of_alice).replace("BOB", &of_bob);

    let online = line("towline online");
    let mut at_bob = bob.start(&online);
    let mut said = BufReader::new(at_bob.0.stdout.take().unwrap()).lines();
    // Until it is there to be found.
    alice.run(&fill(line("towline contact add")));
    assert!(said.any(|line| line.unwrap().contains("wants to be a contact")));
    assert!(bob.run(&line("towline contact requests")).contains(&of_alice));
    let _at_alice = alice.start(&online);
    bob.run(&fill(line("towline contact accept")));
    assert!(alice.run(&line("towline presence")).contains("Bob"));
    let late = line("towline text BOB 'Dinner is late'");
    alice.run(&fill(line("towline text")));
    assert!(said.any(|line| line.unwrap().ends_with("Dinner is ready")));
    alice.run(&fill(late));
    assert!(said.any(|line| line.unwrap().ends_with("Dinner is late")));

    let added = alice.run(&line("towline account add-device"));
    let phone = added.split_whitespace().find(|word| word.len() == 64).unwrap();
    assert!(alice.run(&line("towline account show")).contains("under a password"));
    assert!(alice.run(&line("towline account revoke").replace("PHONE", phone)).contains("published on"));
    alice.run(&line("towline account export"));
    assert!(alice.run(&line("towline account import")).contains("with 1 contact"));

    // The port of the web is not for tests, nor for everybody.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let receive = line("towline receive").replace("443", &port.to_string()).replace("ACCOUNT", &of_alice);
    let at_port = bob.start(&receive);
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nobody listens at the port that was asked for");
        std::thread::yield_now();
    }
    let second = alice.shell(&receive).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(6), "another program listens there: {said}");
    assert!(said.contains(&port.to_string()), "{said}");
    drop(at_port);

    let here = |line: String| line.replace("203.0.113.5", "127.0.0.1").replace("0.0.0.0:443", "127.0.0.1:0");
    let (certificate, relay) = (here(line("openssl req")), here(line("towline relay")));
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok() {
        alice.run(&certificate);
    } else {
        common::skip::missing("how the README makes a certificate for a relay", "openssl");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(alice.directory.join("fullchain.pem"), made.cert.pem()).unwrap();
        std::fs::write(alice.directory.join("privkey.pem"), made.signing_key.serialize_pem()).unwrap();
    }
    // Nor is that of TURN.
    let mut relay = alice.start(&(relay + " --listen 127.0.0.1:0"));
    let mut said = BufReader::new(relay.0.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().ends_with(" on TLS")));
    assert_eq!(left, BTreeSet::new(), "commands in the README that no test runs");
}

#[test]
fn every_command_does_what_the_readme_says() {
    let mut left: BTreeSet<String> = lines("../../README.md").into_iter().collect();
    let mut line = |start: &str| take(&mut left, start);
    let world = World::new();
    let (alice, bob) = (User::new(&world, "alice"), User::new(&world, "bob"));

    let init = line("towline init");
    let id = line("towline id");
    let ids: Vec<(String, String)> = [&alice, &bob]
        .map(|user| {
            user.run(&init);
            let printed = user.run(&id);
            let word = |digits: usize| {
                let mut words = printed.split_whitespace();
                words.rfind(|word| word.len() == digits && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
            };
            (word(64).expect("a device id").to_owned(), word(40).expect("an account id").to_owned())
        })
        .into();
    let (account, device) = (&ids[0].1, &ids[1].0);
    let fill = |line: String| line.replace("ACCOUNT", account).replace("DEVICE", device);

    {
        let _receiver = bob.start(&fill(line("towline receive")));
        std::fs::write(alice.directory.join("report.txt"), "the report").unwrap();
        std::fs::write(alice.directory.join("photo.jpg"), vec![0x5a; 300_000]).unwrap();
        alice.run(&fill(line("towline send")));
        bob.finds("inbox/report.txt", b"the report");
        bob.finds("inbox/photo.jpg", &vec![0x5a; 300_000]);
    }
    {
        let _listener = bob.start(&fill(line("towline listen")));
        std::fs::write(alice.directory.join("photos.tar"), vec![7; 200_000]).unwrap();
        alice.run(&fill(line("towline pipe")));
        bob.finds("backup.tar", &vec![7; 200_000]);
    }
    {
        // What stands on port 8080 says what it is told.
        let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = service.local_addr().unwrap().port().to_string();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = service.accept() {
                let mut answer = stream.try_clone().unwrap();
                // A caller that goes away is none of its business.
                let _ = std::io::copy(&mut stream, &mut answer);
                let _ = answer.shutdown(std::net::Shutdown::Write);
            }
        });
        let _listener = bob.start(&fill(line("towline nc -l").replace("8080", &port)));
        let told = alice.run(&fill(line("towline why")));
        assert!(told.contains("connected") && told.contains("carries data"), "{told}");
        std::fs::write(alice.directory.join("request"), "what is the time?").unwrap();
        alice.run(&fill(line("towline nc DEVICE").replace("8080", &port)));
        alice.finds("answer", b"what is the time?");
    }
    {
        let other = |line: String| line.replace("ACCOUNT", &ids[1].1);
        let online = line("towline online");
        let mut at_bob = bob.start(&online);
        let mut said = BufReader::new(at_bob.0.stdout.take().unwrap()).lines();
        alice.run(&other(line("towline contact add")));
        assert!(said.any(|line| line.unwrap().contains("wants to be a contact")));
        let _at_alice = alice.start(&online);
        bob.run(&fill(line("towline contact accept")));
        assert!(alice.run(&line("towline presence")).contains(&ids[1].1));
        alice.run(&other(line("towline text")));
        assert!(said.any(|line| line.unwrap().ends_with("Dinner is ready")));
    }
    {
        // Port 4222 may be taken on the machine that tests.
        let mut node = bob.start(&line("towline node").replace("--port 4222", "--port 0"));
        let mut first = [0; 1];
        std::io::Read::read_exact(node.0.stdout.as_mut().unwrap(), &mut first).unwrap();
        let pid = node.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(node.0.wait().unwrap().success());
        assert!(bob.directory.join("dht.state").exists());
    }
    assert!(alice.run(&line("towline status")).contains(&ids[0].0));
    assert!(alice.run(&line("towline lab link-death")).contains("every byte once and in order"));
    assert!(alice.run(&line("towline lab nat")).contains("They do not reach each other:"));
    assert!(alice.run(&line("towline lab reach")).contains("Connected "));
    let crowd = line("towline lab crowd").replace("--nodes 1000 --dials 1000", "--nodes 6 --dials 3");
    assert!(alice.run(&crowd).contains("6 joined the DHT. 3 dials"));
    assert!(
        alice
            .run(&format!("{} --seeds 1 --cell web-only,open", line("towline lab matrix")))
            .contains("relay")
    );
    assert!(alice.run(&line("towline lab")).contains("link-death"));
    assert!(alice.run("towline completion bash").contains("towline"));

    assert_eq!(left, ELSEWHERE.map(str::to_owned).into(), "commands in the README that no test runs");
}
