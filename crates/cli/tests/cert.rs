//! `cert`: what dhtnet-crtmgr makes, as others read it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what a test skips, it says")]

mod common;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Ended, Running, names, skip, towline};
use towline::identity::{Chain, PrivateKey};

/// What OpenSSL says; the test fails if it does not like it. `None` if there is no OpenSSL.
fn openssl(args: &[&str]) -> Option<String> {
    let output = match Command::new("openssl").args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip::missing("what OpenSSL says of the files", "openssl");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    assert!(output.status.success(), "openssl {args:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn cert(args: &[&str]) -> Ended {
    towline(["cert", "--key-size", "2048"].iter().chain(args))
}

/// `cert -i` with these answers, in a home directory.
fn dialogue(home: &Path, args: &[&str], answers: &str) -> Ended {
    let mut command = common::command();
    command.args(["cert", "-i", "--key-size", "2048"]).args(args).env("HOME", home);
    let mut running = Running::spawn(command);
    running.write(answers.as_bytes());
    running.end_input();
    running.ended()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_server_is_set_up() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("a/b");
    let out = root.to_str().unwrap();
    let made = cert(&["--json", "--setup", "-o", out]).success();
    let made = made.events();
    assert_eq!((&made[0]["name"], &made[1]["name"]), (&"ca-server".into(), &"id-server".into()));
    assert_eq!(names(&root.join("CA")), ["ca-server.crt", "ca-server.pem"]);
    assert_eq!(names(&root.join("id")), ["id-server.crt", "id-server.pem"]);
    let file = |name: &str| root.join(name);
    for (name, mode_of) in [("CA/ca-server", 1), ("id/id-server", 2)] {
        assert_eq!(mode(&file(&format!("{name}.pem"))), 0o600);
        assert_eq!(mode(&file(&format!("{name}.crt"))) & 0o600, 0o600);
        let chain = Chain::unpack(&std::fs::read(file(&format!("{name}.crt"))).unwrap()).unwrap();
        assert_eq!(chain.certificates().len(), mode_of);
        chain.verify_links().unwrap();
        let key = std::fs::read_to_string(file(&format!("{name}.pem"))).unwrap();
        let key = PrivateKey::from_pkcs8_pem(&key, None).unwrap();
        assert_eq!(key.public(), chain.public_key());
    }
    // As OpenSSL sees it.
    let path = |name: &str| file(name).to_str().unwrap().to_owned();
    let (ca, id) = (path("CA/ca-server.crt"), path("id/id-server.crt"));
    if openssl(&["verify", "-CAfile", &ca, &id]).is_some() {
        let text =
            openssl(&["x509", "-in", &id, "-noout", "-subject", "-issuer", "-nameopt", "RFC2253"]).unwrap();
        assert!(text.contains("CN=id-server") && text.contains("CN=ca-server"), "{text}");
        let text = openssl(&["x509", "-in", &ca, "-noout", "-text"]).unwrap();
        assert!(text.contains("CA:TRUE") && text.contains("Certificate Sign"), "{text}");
        openssl(&["pkey", "-in", &path("id/id-server.pem"), "-check", "-noout"]).unwrap();
        // The ids are hashes of the key, which OpenSSL can make too.
        let public = directory.path().join("public").to_str().unwrap().to_owned();
        let pem = directory.path().join("pem").to_str().unwrap().to_owned();
        std::fs::write(&pem, openssl(&["x509", "-in", &id, "-noout", "-pubkey"]).unwrap()).unwrap();
        openssl(&["pkey", "-pubin", "-in", &pem, "-outform", "DER", "-out", &public]).unwrap();
        let ids = &made[1]["ids"];
        for (digest, id) in [("-sha256", &ids["long_id"]), ("-sha1", &ids["short_id"])] {
            let hash = openssl(&["dgst", digest, "-r", &public]).unwrap();
            assert_eq!(hash.split(' ').next(), id.as_str());
        }
    }
    // As OpenDHT does.
    let files = ["--certificate", &id, "--privkey", &path("id/id-server.pem"), "-p", "0"];
    let mut node = Command::new("dhtnode");
    node.args(files).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match node.spawn() {
        Ok(mut node) => {
            node.stdin.take().unwrap().write_all(b"q\n").unwrap();
            let said = String::from_utf8(node.wait_with_output().unwrap().stdout).unwrap();
            let id = made[1]["ids"]["short_id"].as_str().unwrap();
            assert!(said.contains(&format!("Public key ID {id}")), "{said}");
        }
        Err(_) => skip::missing("what OpenDHT says of the files", "dhtnode"),
    }
    // Nothing is overwritten, by whichever way.
    let before = std::fs::read(&id).unwrap();
    let again = cert(&["--setup", "-o", out]).fails_with(6);
    assert!(again.err.contains("--force"), "{again:?}");
    std::fs::remove_file(file("CA/ca-server.pem")).unwrap();
    std::fs::remove_file(file("CA/ca-server.crt")).unwrap();
    cert(&["--setup", "-o", out]).fails_with(6);
    assert_eq!(names(&root.join("CA")), [""; 0], "nothing is made in vain");
    assert_eq!(std::fs::read(&id).unwrap(), before);
    cert(&["--setup", "--force", "-o", out]).success();
    assert_ne!(std::fs::read(&id).unwrap(), before);
}

#[test]
fn certificates_are_signed_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    let path = |name: &str| format!("{out}/{name}");
    cert(&["-o", out]).success();
    let (ca, key) = (path("ca.crt"), path("ca.pem"));
    cert(&["-c", &ca, "-p", &key, "-o", out]).success();
    let named = cert(&["-c", &ca, "-p", &key, "-n", "Anna's laptop", "-o", out]).success();
    assert!(named.out.contains("Made Anna's laptop (RSA-2048)"), "{named:?}");
    assert_eq!(
        names(directory.path()),
        ["Anna's laptop.crt", "Anna's laptop.pem", "ca.crt", "ca.pem", "certificate.crt", "certificate.pem"]
    );
    openssl(&["verify", "-CAfile", &ca, &path("certificate.crt")]);

    let (certificate, own) = (path("certificate.crt"), path("certificate.pem"));
    let ids = cert(&["-a", "-c", &certificate, "-p", &own]).success().out;
    let event = cert(&["-a", "--json", "-c", &certificate]).success().event("certificate_ids");
    let authority = cert(&["-a", "--json", "-c", &ca]).success().event("certificate_ids");
    assert_eq!(event["account"], authority["short_id"]);
    assert_eq!((&event["authority"], &authority["authority"]), (&false.into(), &true.into()));
    // People see which is which.
    let long = event["long_id"].as_str().unwrap();
    let line = |needle: &str| ids.lines().find(|line| line.contains(needle)).unwrap().to_owned();
    assert!(line(long).contains("long id") && line(event["short_id"].as_str().unwrap()).contains("short id"));

    for (args, code, reason) in [
        (&["-c", &ca, "-p", &key, "-o", out][..], 6, "exists"),
        (&["-c", &certificate, "-p", &own, "-n", "x", "-o", out], 6, "not an authority"),
        (&["-c", &ca, "-p", &own, "-n", "x", "-o", out], 6, "not the key"),
        (&["-c", &ca, "-n", "x", "-o", out], 2, "-p"),
        (&["-a", "-c", &certificate, "-p", &key], 6, "not the key"),
        (&["-a", "-c", "/nowhere"], 6, "/nowhere"),
        (&["-a", "-c", &key], 6, "no certificate"),
        (&["-a"], 2, "--certificate"),
        (&["--setup"], 2, "--output"),
        (&["-n", "../x", "-o", out], 2, "slashes"),
        (&["-n", "", "-o", out], 2, "1 to 64"),
        (&[], 2, "required"),
    ] {
        let wrong = cert(args).fails_with(code);
        assert!(wrong.err.contains(reason), "{args:?}: {wrong:?}");
    }
}

#[test]
fn an_encrypted_key_of_a_ca() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    let path = |name: &str| format!("{out}/{name}");
    cert(&["-o", out]).success();
    let (ca, key, locked) = (path("ca.crt"), path("ca.pem"), path("locked.pem"));
    let pair = PrivateKey::from_pkcs8_pem(&std::fs::read_to_string(&key).unwrap(), None).unwrap();
    std::fs::write(&locked, pair.to_pkcs8_pem(Some("secret")).as_bytes()).unwrap();
    std::fs::write(path("password"), "secret\n").unwrap();
    std::fs::write(path("wrong"), "guess\n").unwrap();
    let sign = ["-c", &ca, "-p", &locked, "-o", out];
    let wrong = cert(&sign).fails_with(6);
    assert!(wrong.err.contains("--password-file"), "{wrong:?}");
    let with = |name: &str| {
        let path = path(name);
        cert(&[&sign[..], &["--password-file", &path]].concat())
    };
    assert!(with("wrong").fails_with(6).err.contains("wrong password"));
    with("password").success();
}

#[test]
fn a_dialogue_for_a_client() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let dnc = home.join(".dnc");
    // The input ends before the directory is named.
    dialogue(home, &[], "client\nno\n").fails_with(2);
    assert_eq!(names(home), [""; 0]);

    // Questions are asked again until the answer is one; no SSH.
    let made = dialogue(home, &[], "what?\nC\nn\n\nno\n").success();
    assert_eq!(names(&dnc), ["ca.crt", "ca.pem", "certificate.crt", "certificate.pem", "config.yml"]);
    assert_eq!(names(home), [".dnc"]);
    assert!(made.err.contains("ProxyCommand towline nc"), "{made:?}");
    assert_eq!(mode(&dnc.join("certificate.pem")), 0o600);
    // Without --force nothing is replaced.
    dialogue(home, &[], "client\nno\n\nno\n").fails_with(6);

    // With SSH, in another directory, with a CA that is there.
    let (ca, key) = (dnc.join("ca.crt"), dnc.join("ca.pem"));
    let args = ["-c", ca.to_str().unwrap(), "-p", key.to_str().unwrap()];
    let lost = dialogue(home, &args, "c\ny\n~/with ssh\ny\n").fails_with(6);
    assert!(lost.err.contains(".ssh does not exist"), "{lost:?}");
    assert_eq!(names(home), [".dnc", "with ssh"], "not made without being asked");
    assert_eq!(names(&home.join("with ssh")), ["certificate.crt", "certificate.pem", "config.yml"]);

    std::fs::create_dir(home.join(".ssh")).unwrap();
    let config = home.join(".ssh/config");
    std::fs::write(&config, "Host other\n    Port 2222").unwrap();
    let added = dialogue(home, &args, "c\ny\n~/more\ny\n").success();
    assert!(added.out.contains("Added an entry"), "{added:?}");
    let text = std::fs::read_to_string(&config).unwrap();
    let expected = format!(
        "Host other\n    Port 2222\n\nHost dnc/*\n    ProxyCommand towline nc -q -d '{}/more/config.yml' %h\n",
        home.display()
    );
    assert_eq!(text, expected);
    // Only once.
    let kept = dialogue(home, &args, "c\ny\n~/again\ny\n").success();
    assert!(kept.out.contains("left as it is"), "{kept:?}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), expected);

    // The CA of a server that is not there.
    let none = dialogue(home, &["-c", "/nowhere.crt", "-p", "/nowhere.pem"], "c\nyes\n").fails_with(6);
    assert!(none.err.contains("answer no"), "{none:?}");
}

#[test]
fn a_dialogue_for_a_server() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("etc");
    let out = directory.to_str().unwrap();
    let made = dialogue(home.path(), &[], &format!("s\n{out}\n")).success();
    assert_eq!(names(&directory), ["CA", "dnc.yaml", "id"]);
    assert!(made.out.contains("towline nc -l -d"), "{made:?}");
    let yaml = std::fs::read_to_string(directory.join("dnc.yaml")).unwrap();
    assert!(yaml.contains(&format!("certificate: \"{out}/id/id-server.crt\"")), "{yaml}");
    // It is one that `nc` takes: the only thing missing is a network.
    let yaml = directory.join("dnc.yaml").to_str().unwrap().to_owned();
    let mut listening = Running::start([
        "nc",
        "--json",
        "-l",
        "-d",
        &yaml,
        "--loopback",
        "-b",
        "127.0.0.1:9",
        "--end-with-stdin",
    ]);
    assert_eq!(listening.until("forwarding")["services"], serde_json::json!(["127.0.0.1:22"]));
    // The keys are safe, and so is a file that was changed by hand.
    dialogue(home.path(), &[], &format!("s\n{out}\n")).fails_with(6);
    std::fs::write(directory.join("dnc.yaml"), "# mine\n").unwrap();
    dialogue(home.path(), &["--force"], &format!("s\n{out}\nno\n")).success();
    assert_eq!(std::fs::read_to_string(directory.join("dnc.yaml")).unwrap(), "# mine\n");
    dialogue(home.path(), &["--force"], &format!("s\n{out}\ny\n")).success();
    assert!(std::fs::read_to_string(directory.join("dnc.yaml")).unwrap().contains("authorized_services"));
}
