//! Chores of the workspace: `cargo xtask check` and `cargo xtask test`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to its user")]

mod rules;
mod source;
mod suite;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  check              architecture checks: floors, purity, bounds, determinism, words
  test [OPTIONS]     everything CI runs, tools and peer programs set up first
  setup              only install the tools and peer programs that `test` needs

options of `test`:
  --only STEP,..     run only these steps; `--only list` names them
  --fuzz-seconds N   time for each fuzz target (default 2)
";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let root = root()?;
    let (command, rest) = arguments.split_first().map_or(("help", &[][..]), |(first, rest)| (&**first, rest));
    match command {
        "check" if rest.is_empty() => check(&root),
        "test" => suite::run(&root, &suite::Options::parse(rest)?),
        "setup" if rest.is_empty() => suite::set_up(&root),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("unknown arguments `{}`\n\n{HELP}", arguments.join(" ")),
    }
}

/// Runs every rule; exits with failure when one is broken.
fn check(root: &Path) -> Result<ExitCode> {
    let tree = tree::Tree::read(root)?;
    let mut broken = 0;
    let mut places = 0;
    for (name, rule) in rules::RULES {
        let violations = rule(&tree);
        println!("{} {name}", if violations.is_empty() { "ok  " } else { "FAIL" });
        for violation in &violations {
            println!("  {violation}");
        }
        places += violations.len();
        broken += usize::from(!violations.is_empty());
    }
    let files = tree.packages.iter().map(|package| package.sources.len()).sum::<usize>();
    println!("{files} source files of {} packages, {places} violations", tree.packages.len());
    println!("{} passed, {broken} failed", rules::RULES.len() - broken);
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The workspace is the folder above this package.
fn root() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").context("run this through `cargo xtask`")?;
    let parent = Path::new(&here).parent().context("xtask lies inside the workspace")?;
    Ok(parent.to_owned())
}
