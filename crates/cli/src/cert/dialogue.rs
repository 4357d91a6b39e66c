//! `towline cert -i`: asks what dhtnet-crtmgr asks, in the same order, and writes only where it was told to.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use towline::identity::Identity;

use super::files::{Pair, Readers, check_free, write};
use super::{Maker, absolute, load_authority, server_files, template};
use crate::args::Cert;
use crate::failure::Failure;
use crate::output::Output;

/// Where a server keeps its files, if nothing else is said.
const SERVER: &str = "/etc/dhtnet";
/// Longest SSH configuration that is looked through, in bytes.
const MAX_SSH: u64 = 1024 * 1024;

pub(super) async fn run(args: &Cert, output: &Output) -> Result<(), Failure> {
    let mut desk = Desk { lines: lines(), output };
    let maker = Maker::new(args, output);
    let server =
        desk.choose("For a client or a server? [C]lient/[s]erver", &["client", "server"]).await? == "server";
    if server { for_server(args, &mut desk, &maker).await } else { for_client(args, &mut desk, &maker).await }
}

async fn for_server(args: &Cert, desk: &mut Desk<'_>, maker: &Maker<'_>) -> Result<(), Failure> {
    if args.certificate.is_some() {
        return Err(Failure::Usage("a server gets a CA of its own: -c and -p are for clients".to_owned()));
    }
    let directory = desk
        .directory("Directory for CA/ca-server.*, id/id-server.* and dnc.yaml", Path::new(SERVER))
        .await?;
    let (authority, device) = server_files(&directory);
    authority.check_free(args.force)?;
    device.check_free(args.force)?;
    let configuration = directory.join("dnc.yaml");
    let mut write_configuration = true;
    if configuration.symlink_metadata().is_ok() {
        let question = format!("{} exists. Replace it? [y]es/[N]o", configuration.display());
        write_configuration = desk.choose(&question, &["no", "yes"]).await? == "yes";
    }
    let (pair, identity) = maker.setup(&directory).await?;
    if write_configuration {
        write(&configuration, template::server(&pair).as_bytes(), Readers::All, true)?;
        desk.output.remark(&format!("Wrote {}", configuration.display()));
    }
    desk.output.remark(&format!(
        "Start it with: towline nc -l -d '{}'\nOthers reach it by its long id: {}",
        configuration.display(),
        identity.device_id()
    ));
    Ok(())
}

async fn for_client(args: &Cert, desk: &mut Desk<'_>, maker: &Maker<'_>) -> Result<(), Failure> {
    let authority = Pair::new(&Path::new(SERVER).join("CA"), "ca-server");
    let certificate = args.certificate.clone().unwrap_or(authority.certificate);
    let key = args.private_key.clone().unwrap_or(authority.key);
    let question = format!("Sign with the CA of the server, {}? [Y]es/[n]o", certificate.display());
    let signer = if desk.choose(&question, &["yes", "no"]).await? == "yes" {
        let loaded = load_authority(&certificate, &key, args.password_file.as_deref());
        Some(loaded.map_err(|failure| {
            Failure::Local(format!(
                "{failure}\n  Name the CA with -c and -p, or answer no for one of your own."
            ))
        })?)
    } else {
        None
    };
    let home = home()?;
    let what = match signer {
        Some(_) => "Directory for certificate.* and config.yml",
        None => "Directory for ca.*, certificate.* and config.yml",
    };
    let directory = desk.directory(what, &home.join(".dnc")).await?;
    let (own, pair) = (Pair::new(&directory, "ca"), Pair::new(&directory, "certificate"));
    let configuration = directory.join("config.yml");
    if signer.is_none() {
        own.check_free(args.force)?;
    }
    pair.check_free(args.force)?;
    check_free(&configuration, args.force)?;
    let signer: Identity = match signer {
        Some(signer) => signer,
        None => maker.make(&own, None).await?,
    };
    maker.make(&pair, Some(&signer)).await?;
    write(&configuration, template::client(&pair).as_bytes(), Readers::All, args.force)?;
    desk.output.remark(&format!("Wrote {}", configuration.display()));
    offer_ssh(desk, &home, &configuration).await
}

/// Lets `ssh user@dnc/ID` go through a channel.
async fn offer_ssh(desk: &mut Desk<'_>, home: &Path, configuration: &Path) -> Result<(), Failure> {
    let entry = template::ssh_host(configuration);
    let path = home.join(".ssh").join("config");
    let question =
        format!("Add to {}:\n\n{entry}\nso that `ssh USER@dnc/ID` works? [Y]es/[n]o", path.display());
    if desk.choose(&question, &["yes", "no"]).await? == "no" {
        return Ok(());
    }
    let failed = |error: std::io::Error| Failure::Local(format!("cannot add to {}: {error}", path.display()));
    if !home.join(".ssh").is_dir() {
        return Err(Failure::Local(format!(
            "{} does not exist, so nothing was added to it",
            home.join(".ssh").display()
        )));
    }
    let present = match read_bounded(&path) {
        Ok(present) => present,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    if present.lines().any(|line| line.trim_start().to_ascii_lowercase().starts_with("host dnc")) {
        desk.output.remark(&format!("{} has an entry for dnc already; it was left as it is", path.display()));
        return Ok(());
    }
    // Appended in place: the file may be a link, and keeps who may read it.
    let gap = if present.is_empty() {
        ""
    } else if present.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    let mut options = std::fs::File::options();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{gap}{entry}").as_bytes()))
        .map_err(failed)?;
    desk.output.remark(&format!("Added an entry to {}", path.display()));
    Ok(())
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_SSH).read_to_string(&mut text)?;
    Ok(text)
}

fn home() -> Result<PathBuf, Failure> {
    directories::BaseDirs::new()
        .map(|dirs| dirs.home_dir().to_owned())
        .ok_or_else(|| Failure::Local("this user has no home directory".to_owned()))
}

/// Lines from the standard input, read by a thread of its own, which may stay in the read until the process ends.
fn lines() -> mpsc::Receiver<String> {
    let (typed, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if typed.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Where questions are asked.
struct Desk<'a> {
    lines: mpsc::Receiver<String>,
    output: &'a Output,
}

impl Desk<'_> {
    /// The answer to a question, which must be one of the words, or begin like one. The first is taken for no answer.
    async fn choose<'w>(&mut self, question: &str, words: &[&'w str]) -> Result<&'w str, Failure> {
        loop {
            let answer = self.ask(&format!("{question}: ")).await?.trim().to_lowercase();
            if let Some(word) = words.iter().find(|word| word.starts_with(&answer)) {
                return Ok(word);
            }
        }
    }

    async fn directory(&mut self, question: &str, default: &Path) -> Result<PathBuf, Failure> {
        let answer = self.ask(&format!("{question} [{}]: ", default.display())).await?;
        match answer.trim() {
            "" => absolute(default),
            // A shell would have done this.
            "~" => home(),
            path => match path.strip_prefix("~/") {
                Some(rest) => Ok(home()?.join(rest)),
                None => absolute(Path::new(path)),
            },
        }
    }

    async fn ask(&mut self, question: &str) -> Result<String, Failure> {
        self.output.ask(question);
        let answer = self.lines.recv().await;
        self.output.answered();
        answer.ok_or_else(|| Failure::Usage("the input ended before all questions were answered".to_owned()))
    }
}
