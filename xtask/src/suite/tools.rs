//! Setting up what the suite needs: cargo tools, peer programs from Debian, the OpenDHT of PyPI.
//!
//! All but the Debian packages goes below `target/tools`. In CI whatever cannot be had is a failure;
//! elsewhere the tests that need it are skipped, by name.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::count::Count;

/// Cargo subcommands, with the version that is installed when the machine has none.
const CARGO_TOOLS: &[(&str, &str)] = &[("nextest", "0.9.143"), ("deny", "0.20.2")];

/// Programs the interop tests talk to or need, and their Debian packages.
const DEBIAN: &[(&str, &str)] = &[
    ("dhtnode", "dhtnode"),
    ("gnutls-cli", "gnutls-bin"),
    ("certtool", "gnutls-bin"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("hostname", "hostname"),
    ("turnserver", "coturn"),
    ("nft", "nftables"),
    ("miniupnpd", "miniupnpd-nftables"),
    ("dbus-daemon", "dbus-daemon"),
    ("jamid", "jami-daemon"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
    ("openssl", "openssl"),
    ("python3", "python3"),
];

/// OpenDHT's Python bindings; the wheel carries the C++ library.
const OPENDHT: &str = "opendht>=4.4,<4.5";

pub(super) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}

pub(super) fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

fn tools_dir(root: &Path) -> PathBuf {
    target_dir(root).join("tools")
}

fn skipped_file(root: &Path) -> PathBuf {
    tools_dir(root).join("skipped.txt")
}

/// A command that finds the installed tools, and without the variables of the `cargo` that runs this
/// program: build scripts would take them for a change and run again.
pub(super) fn command(root: &Path, program: impl AsRef<OsStr>) -> Command {
    let tools = tools_dir(root);
    let own_path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools.join("bin")).chain(std::env::split_paths(&own_path));
    let mut command = Command::new(program);
    command.current_dir(root).env("TOWLINE_SKIPPED_FILE", skipped_file(root));
    if let Ok(paths) = std::env::join_paths(paths) {
        command.env("PATH", paths);
    }
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "AWS_LC_SYS_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

pub(super) fn cargo(root: &Path) -> Command {
    let mut command = command(root, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if in_ci() {
        // It builds once: what the next build could use is 5 GB of disk for nothing.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// Installs what is missing and prints what is there; what cannot be had is a failure in CI only.
pub(super) fn install(root: &Path) -> Result<Count> {
    fs::create_dir_all(tools_dir(root))?;
    let mut missing: Vec<String> = Vec::new();
    let mut keep = |what: &str, result: Result<String>| match result {
        Ok(version) => println!("{what}: {version}"),
        Err(error) => {
            println!("{what}: missing: {error:#}");
            missing.push(what.to_owned());
        }
    };
    for (tool, version) in CARGO_TOOLS {
        keep(&format!("cargo-{tool}"), cargo_tool(root, tool, version));
    }
    let debian = debian_packages(root);
    for (program, package) in DEBIAN {
        let found = find_program(program).map(|path| path.display().to_string());
        keep(
            program,
            found.with_context(|| match &debian {
                Ok(()) => format!("the package {package} did not bring it"),
                Err(error) => format!("{error:#}"),
            }),
        );
    }
    keep("opendht (Python)", python_opendht(root));
    if missing.is_empty() || !in_ci() {
        return Ok(Count::of_check(true));
    }
    bail!("in CI all of these must be there: {}", missing.join(", "))
}

fn cargo_tool(root: &Path, tool: &str, version: &str) -> Result<String> {
    let ask = || first_line(cargo(root).args([tool, "--version"]));
    ask().or_else(|_| {
        let dir = tools_dir(root);
        let build = dir.join("build");
        let mut install = cargo(root);
        install.args(["install", "--locked", "--debug", "--version", version, "--root"]).arg(&dir);
        install.arg("--target-dir").arg(&build).arg(format!("cargo-{tool}"));
        loud(install)?;
        if build.exists() {
            fs::remove_dir_all(build).context("the build products of a tool")?;
        }
        ask()
    })
}

/// Installs the missing packages as root, or through a `sudo` that asks nothing.
fn debian_packages(root: &Path) -> Result<()> {
    let mut wanted: Vec<&str> = DEBIAN
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !venv_dir(root).exists() && !quiet("python3", &["-c", "import ensurepip, venv"]) {
        wanted.push("python3-venv");
    }
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(());
    }
    let list = wanted.join(" ");
    if find_program("apt-get").is_none() {
        bail!("install {list}");
    }
    let is_root = first_line(Command::new("id").arg("-u")).is_ok_and(|id| id == "0");
    if !is_root && !quiet("sudo", &["-n", "true"]) {
        bail!("run as root: apt-get install {list}");
    }
    let apt = |arguments: &[&str]| {
        let mut apt = if is_root { command(root, "env") } else { command(root, "sudo") };
        if !is_root {
            apt.args(["-n", "env"]);
        }
        apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]).args(arguments);
        loud(apt)
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], &wanted[..]].concat())
}

fn venv_dir(root: &Path) -> PathBuf {
    tools_dir(root).join("opendht")
}

/// A virtual environment of its own, so that nothing of the user's Python changes.
fn python_opendht(root: &Path) -> Result<String> {
    let venv = venv_dir(root);
    let python = venv.join("bin/python");
    let ask = || first_line(command(root, &python).args(["-c", "import opendht; print(opendht.version())"]));
    ask().or_else(|_| {
        let mut create = command(root, "python3");
        create.args(["-m", "venv", "--clear"]).arg(&venv);
        loud(create)?;
        let mut install = command(root, &python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", OPENDHT]);
        loud(install)?;
        ask()
    })
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps the Jami daemon where only its bus looks for it.
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/libexec"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The first line of what a command prints; an error when it fails.
fn first_line(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no output"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

fn quiet(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Runs a command whose output the user sees.
fn loud(mut command: Command) -> Result<()> {
    println!("$ {}", super::shown(&command));
    let status = command.stdin(Stdio::null()).status().with_context(|| super::shown(&command))?;
    if status.success() { Ok(()) } else { bail!("{} ended with {status}", super::shown(&command)) }
}

/// Tests that find their peer missing write their name and the reason into one file.
pub(super) fn skipped(root: &Path) -> Vec<String> {
    let mut lines: Vec<String> =
        fs::read_to_string(skipped_file(root)).unwrap_or_default().lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    lines
}

pub(super) fn forget_skipped(root: &Path) {
    // A file that was never written is as good as one removed.
    let _ = fs::remove_file(skipped_file(root));
}
