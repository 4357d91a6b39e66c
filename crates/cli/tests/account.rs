//! `account`: what is made, kept under a password, carried to other devices, and read from archives.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Ended, Running, names, towline};

/// A directory with homes in it.
struct Shelf(tempfile::TempDir);

impl Shelf {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.text(name)
    }

    /// A command on the home of that name.
    fn on(&self, home: &str, words: &[&str]) -> Command {
        let mut command = common::command();
        command.args(words).args(["--json", "--home"]).arg(self.path(home));
        command.env_remove("TOWLINE_PASSWORD").env_remove("TOWLINE_ARCHIVE_PASSWORD");
        command
    }

    #[track_caller]
    fn run(&self, home: &str, words: &[&str]) -> Ended {
        Running::spawn(self.on(home, words)).ended()
    }

    #[track_caller]
    fn create(&self, home: &str, more: &[&str]) -> serde_json::Value {
        let words = [&["account", "create", "--key-size", "2048"][..], more].concat();
        self.run(home, &words).success().event("created")
    }

    #[track_caller]
    fn show(&self, home: &str) -> serde_json::Value {
        self.run(home, &["account", "show"]).success().event("account")
    }
}

#[test]
fn an_account_under_a_password() {
    let shelf = Shelf::new();
    let (right, wrong) =
        (shelf.file("right", "correct horse\nsecond line\n"), shelf.file("wrong", "battery"));
    let made = shelf.create("a", &["--display-name", "Anna B.", "--password-file", &right]);
    assert_eq!(
        names(&shelf.path("a")),
        ["account.key", "authority.key", "device.crt", "device.key", "profile.vcf", "receipt"]
    );
    for name in ["account.key", "authority.key"] {
        let pem = std::fs::read_to_string(shelf.path("a").join(name)).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{pem}");
    }
    let shown = shelf.show("a");
    assert_eq!(shown["account_key"], "encrypted");
    assert_eq!(shown["display_name"], "Anna B.");
    assert_eq!(shown["receipt"], true);
    assert_eq!(shown["account"], made["account"]);

    let add = |to: &str, more: &[&str]| {
        let to = shelf.text(to);
        [&["account", "add-device", &to, "--key-size", "2048"], more]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let run = |words: &[String]| shelf.run("a", &words.iter().map(String::as_str).collect::<Vec<_>>());
    // The test may have a terminal, but the command shall not.
    #[cfg(target_os = "linux")]
    {
        let words = add("x", &[]);
        let mut command = Command::new("setsid");
        let plain = shelf.on("a", &words.iter().map(String::as_str).collect::<Vec<_>>());
        command.arg("--wait").arg(plain.get_program()).args(plain.get_args());
        command.env_remove("TOWLINE_PASSWORD");
        let asked = Running::spawn(command).ended().fails_with(2).event("error");
        assert!(asked["message"].as_str().unwrap().contains("--password-file"), "{asked}");
    }
    let refused = run(&add("x", &["--password-file", &wrong])).fails_with(6).event("error");
    assert!(refused["message"].as_str().unwrap().contains("wrong password"), "{refused}");
    run(&add("x", &["--password-file", &shelf.text("nowhere")])).fails_with(6);
    assert!(!shelf.path("x").exists());

    run(&add("b", &["--password-file", &right])).success();
    assert_eq!(shelf.show("b")["account_key"], "none");
    let words = add("c", &["--with-account-key"]);
    let mut by_environment = shelf.on("a", &words.iter().map(String::as_str).collect::<Vec<_>>());
    by_environment.env("TOWLINE_PASSWORD", "correct horse");
    Running::spawn(by_environment).ended().success();
    let shown = shelf.show("c");
    assert_eq!((&shown["account_key"], &shown["account"]), (&"encrypted".into(), &made["account"]));
}

#[test]
fn a_further_device() {
    let shelf = Shelf::new();
    let made = shelf.create("a", &["--display-name", "Anna"]);
    let friend = "ab".repeat(20);
    shelf.run("a", &["contact", "add", &friend, "--no-request", "--name", "Ben"]).success();
    std::fs::write(shelf.path("a").join("trust"), format!("banned {}\n", "cd".repeat(20))).unwrap();
    let to = shelf.text("b");
    let add = ["account", "add-device", &to, "--key-size", "2048", "--name", "Anna's phone"];
    let added = shelf.run("a", &add).success().event("device_added");
    assert_eq!(added["account"], made["account"]);
    assert_ne!(added["device"], made["device"]);
    assert_eq!(
        names(&shelf.path("b")),
        ["contacts.json", "device.crt", "device.key", "profile.vcf", "receipt", "trust"]
    );
    let id = towline(["id", "--json", "--home", &to]).success().event("identity");
    assert_eq!(id["device"], added["device"]);
    let shown = shelf.show("b");
    assert_eq!(
        (&shown["receipt"], &shown["contacts"], &shown["display_name"]),
        (&true.into(), &1.into(), &"Anna".into())
    );
    let listed = shelf.run("b", &["contact", "list"]).success().event("contact");
    assert_eq!((&listed["account"], &listed["name"]), (&(*friend).into(), &"Ben".into()));

    let again = shelf.run("a", &add).fails_with(6).event("error");
    assert!(again["message"].as_str().unwrap().contains("identity already"), "{again}");
    let powerless = shelf.run("b", &["account", "add-device", &shelf.text("c")]).fails_with(6).event("error");
    assert!(powerless["message"].as_str().unwrap().contains("account.key"), "{powerless}");
    assert!(!shelf.path("c").exists());
}

#[test]
fn receipts() {
    let shelf = Shelf::new();
    shelf.create("a", &[]);
    shelf.create("b", &[]);
    let receipt = |home: &str| shelf.path(home).join("receipt");
    let before = std::fs::read(receipt("a")).unwrap();
    // A home of an earlier version.
    std::fs::remove_file(receipt("a")).unwrap();
    assert_eq!(shelf.show("a")["receipt"], true);
    assert_eq!(std::fs::read(receipt("a")).unwrap(), before, "the same key signs the same");
    std::fs::copy(receipt("b"), receipt("a")).unwrap();
    for broken in [std::fs::read(receipt("b")).unwrap(), b"x".to_vec(), vec![b'x'; 1 << 20], vec![0xff; 9]] {
        std::fs::write(receipt("a"), broken).unwrap();
        let wrong = shelf.run("a", &["account", "show"]).fails_with(6).event("error");
        assert!(wrong["message"].as_str().unwrap().contains("receipt"), "{wrong}");
    }
}

#[test]
fn an_archive_moves_an_account() {
    let shelf = Shelf::new();
    let made = shelf.create("a", &["--display-name", "Anna Ü."]);
    let (friend, foe) = ("ab".repeat(20), "cd".repeat(20));
    shelf.run("a", &["contact", "add", &friend, "--no-request"]).success();
    shelf.run("a", &["contact", "ban", &foe]).success();
    let secret = shelf.file("secret", "päßwörd");

    for (archive, export, import) in [
        ("plain.gz", vec!["--no-password"], vec![]),
        ("sealed.gz", vec!["--password-file", &secret], vec!["--password-file", &secret]),
    ] {
        let file = shelf.text(archive);
        let words = [&["account", "export", &file], &export[..]].concat();
        let written = shelf.run("a", &words).success().event("exported");
        assert_eq!(written["encrypted"], !import.is_empty());
        assert_eq!(written["contacts"], 1);
        let there = shelf.run("a", &words).fails_with(6).event("error");
        assert!(there["message"].as_str().unwrap().contains("--force"), "{there}");

        let home = format!("from-{archive}");
        let words = [&["account", "import", &file, "--key-size", "2048"], &import[..]].concat();
        let imported = shelf.run(&home, &words).success().event("imported");
        assert_eq!(imported["account"], made["account"]);
        assert_ne!(imported["device"], made["device"]);
        let shown = shelf.show(&home);
        assert_eq!(shown["account_key"], if import.is_empty() { "open" } else { "encrypted" });
        assert_eq!(shown["display_name"], "Anna Ü.");
        assert_eq!((&shown["contacts"], &shown["banned"]), (&1.into(), &1.into()));
        shelf.run(&home, &words).fails_with(6);
    }
    // From an imported account on, with the password that came along.
    let further = shelf.text("d");
    let add = ["account", "add-device", &further, "--key-size", "2048", "--password-file", &secret];
    shelf.run("from-sealed.gz", &add).success();
    let file = shelf.text("plain.gz");
    shelf.run("e", &["account", "import", &file, "--key-size", "2048", "--device-only"]).success();
    assert_eq!(shelf.show("e")["account_key"], "none");
    assert!(!shelf.path("e/authority.key").exists());
}

#[test]
fn what_is_no_archive() {
    let shelf = Shelf::new();
    shelf.create("a", &[]);
    let (right, wrong, none) =
        (shelf.file("right", "right"), shelf.file("wrong", "wrong"), shelf.file("none", "\n"));
    let (sealed, plain) = (shelf.text("sealed.gz"), shelf.text("plain.gz"));
    shelf.run("a", &["account", "export", &sealed, "--password-file", &right]).success();
    shelf.run("a", &["account", "export", &plain, "--no-password"]).success();
    shelf.run("a", &["account", "export", &shelf.text("x.gz"), "--password-file", &none]).fails_with(2);

    #[track_caller]
    fn fails(shelf: &Shelf, file: &str, password: &str, why: &str) {
        let words = ["account", "import", file, "--password-file", password];
        let failed = shelf.run("b", &words).fails_with(6).event("error");
        assert!(failed["message"].as_str().unwrap().contains(why), "{failed}");
        assert!(!shelf.path("b").exists(), "nothing is left of it");
    }
    fails(&shelf, &sealed, &wrong, "wrong password");
    fails(&shelf, &shelf.text("nowhere"), &right, "no such file");
    for (name, content, why) in [
        ("empty", Vec::new(), "not an archive"),
        ("text", b"{}".to_vec(), "not an archive"),
        ("garbage", vec![0x5a; 1000], "wrong password, or a damaged file"),
        ("cut", std::fs::read(&sealed).unwrap()[..1000].to_vec(), "wrong password, or a damaged file"),
    ] {
        fails(&shelf, &shelf.file(name, content), &right, why);
    }
    let cut = std::fs::read(&plain).unwrap();
    fails(&shelf, &shelf.file("cut-plain", &cut[..cut.len() / 2]), &right, "");
    fails(&shelf, &shelf.file("huge", vec![0; 8 << 20]), &right, "longer than");
    // It worked all the time with the right one.
    shelf
        .run("b", &["account", "import", &sealed, "--password-file", &right, "--key-size", "2048"])
        .success();
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_an_archive() {
    use std::os::unix::fs::PermissionsExt as _;
    let shelf = Shelf::new();
    shelf.create("a", &[]);
    let file = shelf.text("archive.gz");
    shelf.run("a", &["account", "export", &file, "--no-password"]).success();
    assert_eq!(std::fs::metadata(Path::new(&file)).unwrap().permissions().mode() & 0o777, 0o600);
}
