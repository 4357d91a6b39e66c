//! `init`, `id`, `status`, `completion`, and what all commands say about a wrong use.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{World, names, towline};

fn home(name: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join(name).to_str().unwrap().to_owned();
    (directory, home)
}

#[test]
fn an_identity_is_made_once() {
    let (_directory, home) = home("a/b");
    let init = ["init", "--json", "--key-size", "2048", "--name", "Anna's laptop", "--home", &home];
    let made = towline(init).success().event("created");
    assert_eq!(made["key_bits"], 2048);
    assert_eq!(names(home.as_ref()), ["account.key", "authority.key", "device.crt", "device.key", "receipt"]);

    let id = towline(["id", "--json", "--home", &home]).success().event("identity");
    for key in ["device", "short_id", "account"] {
        assert_eq!(id[key], made[key]);
    }
    assert_eq!(id["device"].as_str().unwrap().len(), 64);
    assert_eq!(id["account"].as_str().unwrap().len(), 40);

    let again = towline(["init", "--home", &home]).fails_with(6);
    assert!(again.err.contains("there is an identity already"), "{again:?}");
    assert_eq!(
        towline(["id", "--json", "--home", &home]).success().event("identity")["device"],
        id["device"]
    );

    let forced = ["init", "--json", "--key-size", "2048", "--force", "--home", &home];
    assert_ne!(towline(forced).success().event("created")["device"], id["device"]);
    assert_eq!(names(home.as_ref()), ["account.key", "authority.key", "device.crt", "device.key", "receipt"]);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_keys() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_directory, home) = home("h");
    towline(["init", "--key-size", "2048", "--home", &home]).success();
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home), 0o700);
    for name in names(home.as_ref()) {
        assert_eq!(mode(&format!("{home}/{name}")), 0o600, "{name}");
    }
}

#[test]
fn the_certificate_is_a_chain_of_three() {
    let (_directory, home) = home("h");
    let made = towline(["init", "--key-size", "2048", "--home", &home]).success();
    assert!(made.out.contains("Give the device id to those who shall reach you"), "{made:?}");
    let quiet = towline(["init", "-q", "--force", "--key-size", "2048", "--home", &home]).success();
    assert!(quiet.out.contains("Made an account") && !quiet.out.contains("Give the"), "{quiet:?}");
    let printed = towline(["id", "--certificate", "--home", &home]).success().out;
    assert_eq!(printed.matches("-----BEGIN CERTIFICATE-----").count(), 3);
    let chain = towline::identity::Chain::unpack(printed.as_bytes()).unwrap();
    chain.verify_links().unwrap();
}

#[test]
fn a_missing_or_broken_identity_is_named() {
    let (_directory, home) = home("h");
    let missing = towline(["id", "--home", &home]).fails_with(6);
    assert!(missing.err.contains("towline init"), "{missing:?}");
    for command in
        [["status"].as_slice(), &["receive", "--yes"], &["listen", "x"], &["pipe", &"a".repeat(64), "x"]]
    {
        let missing = towline(command.iter().chain(&["--home", &home])).fails_with(6);
        assert!(missing.err.contains("towline init"), "{missing:?}");
    }

    towline(["init", "--key-size", "2048", "--home", &home]).success();
    let key = format!("{home}/device.key");
    for garbage in [&b""[..], b"garbage", &[0xff; 100], &vec![b'x'; 1 << 20]] {
        std::fs::write(&key, garbage).unwrap();
        let broken = towline(["id", "--home", &home]).fails_with(6);
        assert!(broken.err.contains("not usable"), "{broken:?}");
    }
    std::fs::remove_file(&key).unwrap();
    std::fs::write(format!("{home}/device.crt"), "x").unwrap();
    towline(["id", "--home", &home]).fails_with(6);
    // A part of an identity is not overwritten either.
    towline(["init", "--home", &home]).fails_with(6);
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_is_lost_is_a_failure_unless_nobody_wants_it() {
    let (_directory, home) = home("h");
    towline(["init", "--key-size", "2048", "--home", &home]).success();
    for format in [&[][..], &["--json"]] {
        let run = |out: std::process::Stdio| {
            let mut command = common::command();
            command.args(["id", "--home", &home]).args(format).stdout(out);
            command.stderr(std::process::Stdio::piped()).output().unwrap()
        };
        let full = run(std::fs::File::create("/dev/full").unwrap().into());
        assert_eq!(full.status.code(), Some(6));
        let said = String::from_utf8(full.stderr).unwrap();
        assert!(said.contains("standard output") && said.contains("No space left"), "{said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let unwanted = run(writer.into());
        assert_eq!((unwanted.status.code(), &*unwanted.stderr), (Some(0), &b""[..]));
    }
}

#[test]
fn the_environment_names_the_home() {
    let (_directory, home) = home("h");
    towline(["init", "--key-size", "2048", "--home", &home]).success();
    let mut command = common::command();
    command.arg("id").env("TOWLINE_HOME", &home);
    common::Running::spawn(command).ended().success();
}

#[test]
fn status_says_what_is_and_what_to_do() {
    let world = World::new();
    let device = world.device("a");
    let friend = "ab".repeat(20);
    std::fs::write(device.home.join("trust"), format!("# friends\nallowed {friend}\n")).unwrap();

    let alone = common::Running::spawn(device.command("status")).ended().success().event("status");
    assert_eq!(alone["device"], *device.id);
    assert_eq!(alone["dht"]["connected"], true);
    assert_eq!(alone["dht"]["ipv4"]["good"], 1);
    assert_eq!(alone["published"], false);
    assert_eq!(alone["allowed"], serde_json::json!([friend]));
    assert!(alone["problems"][0]["advice"].as_str().unwrap().contains("towline receive"));

    let _receiving = device.receive(&world.path("in"), &["--yes", "--end-with-stdin"]);
    let found = common::Running::spawn(device.command("status")).ended().success().event("status");
    assert_eq!(found["published"], true);
    assert_eq!(found["problems"], serde_json::json!([]));

    let nobody = ["status", "--loopback", "--bootstrap", "127.0.0.1:9", "--timeout", "0.5", "--home"];
    let home = device.home.to_str().unwrap();
    let lost = towline(nobody.iter().copied().chain([home])).fails_with(3);
    assert!(lost.out.contains("not reached") && lost.out.contains("--bootstrap"), "{lost:?}");

    std::fs::write(device.home.join("trust"), "friend of mine\n").unwrap();
    let wrong = towline(nobody.iter().copied().chain([home])).fails_with(6);
    assert!(wrong.err.contains("line 1"), "{wrong:?}");
}

#[test]
fn a_wrong_use_is_explained() {
    let (_directory, home) = home("h");
    towline(["init", "--key-size", "2048", "--home", &home]).success();
    let id = "ab".repeat(32);
    for (args, reason) in [
        (&["send", "/etc/hostname", "--to", "abc"][..], "64 hexadecimal digits"),
        (&["send", "/etc/hostname", "--to", &"zz".repeat(32)], "no hexadecimal digit"),
        (&["send", "/etc/hostname", "--to", "@/nowhere"], "cannot read /nowhere"),
        (&["send", "--to", &id], "required"),
        (&["receive", "--accept-from", "x"], "64 hexadecimal digits"),
        (&["receive", "--accept-from", &id, "--accept-anyone"], "cannot be used with"),
        (&["receive", "--count", "0"], "not in"),
        (&["listen", ""], "not empty"),
        (&["pipe", &id, &"x".repeat(2000)], "at most 1024 bytes"),
        (&["demo", "one-file"], "2 values"),
        (&["status", "--bootstrap", "a b"], "host name"),
        (&["status", "--timeout", "0"], "between"),
        (&["fly"], "unrecognized"),
    ] {
        let wrong = towline(args).fails_with(2);
        assert!(wrong.err.contains(reason), "{args:?}: {wrong:?}");
    }
    // No terminal, and nobody named: nobody could answer the question.
    let wrong = towline(["receive", "--home", &home]).fails_with(2);
    assert!(wrong.err.contains("--accept-from"), "{wrong:?}");
}

#[test]
fn help_names_every_exit_code_and_completion_every_command() {
    let help = towline(["help"]).success().out;
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "130 "] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(code)), "{code} is not in {help}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = towline(["completion", shell]).success().out;
        for command in [
            "init", "account", "contact", "presence", "online", "text", "status", "node", "send", "receive",
            "pipe", "listen", "demo",
        ] {
            assert!(script.contains(command), "{command} is not in the script for {shell}");
        }
    }
}
