//! `cargo xtask test`: everything that must hold before a change lands, from formatting to foreign peers.

mod count;
mod tools;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use count::Count;

/// What the caller asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Names of the steps to run; all when empty.
    only: Vec<String>,
    fuzz_seconds: u64,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { only: Vec::new(), fuzz_seconds: 2 };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--fuzz-seconds" => options.fuzz_seconds = value()?.parse().context("--fuzz-seconds")?,
                other => bail!("`test` knows no `{other}`"),
            }
        }
        Ok(options)
    }
}

/// One step of the suite.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Path, &Options) -> Result<Count>,
}

/// In order of price: a mistake in formatting need not wait for the simulation.
const STEPS: &[Step] = &[
    Step { name: "setup", about: "tools and peer programs", run: |root, _| tools::install(root) },
    Step { name: "format", about: "rustfmt", run: |root, _| cargo(root, &["fmt", "--all", "--check"]) },
    Step { name: "check", about: "architecture", run: architecture },
    Step {
        name: "lint",
        about: "clippy, warnings are errors",
        run: |root, _| cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    },
    Step { name: "tests", about: "unit, simulation and interop tests", run: tests },
    Step { name: "doctests", about: "examples in the docs", run: doctests },
    Step { name: "fuzz", about: "each fuzz target for a moment", run: fuzz },
    Step { name: "docs", about: "rustdoc, warnings are errors", run: docs },
    Step { name: "deny", about: "licences, sources and bans of dependencies", run: deny },
];

/// Runs the steps, all of them even if one fails, and closes with the sum of their tests.
pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    if let Some(unknown) = options.only.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        for step in STEPS {
            println!("{:<9} {}", step.name, step.about);
        }
        if unknown == "list" {
            return Ok(ExitCode::SUCCESS);
        }
        bail!("no step `{unknown}`");
    }
    tools::forget_skipped(root);
    let mut results = Vec::new();
    for step in STEPS.iter().filter(|s| options.only.is_empty() || options.only.iter().any(|o| o == s.name)) {
        println!("\n=== {}: {} ===", step.name, step.about);
        let start = Instant::now();
        let count = (step.run)(root, options).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Count::of_check(false)
        });
        results.push((step, count, start.elapsed()));
    }
    report(root, &results)
}

/// Installs what `test` needs, and nothing else.
pub(crate) fn set_up(root: &Path) -> Result<ExitCode> {
    let count = tools::install(root)?;
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(root: &Path, results: &[(&Step, Count, Duration)]) -> Result<ExitCode> {
    println!("\n=== summary ===");
    let mut total = Count::default();
    for (step, count, took) in results {
        let mark = if count.failed == 0 { "ok  " } else { "FAIL" };
        println!(
            "{mark} {:<9} {:>6} passed {:>4} failed  {:>7.1} s",
            step.name,
            count.passed,
            count.failed,
            took.as_secs_f64()
        );
        total = total + *count;
    }
    for skipped in tools::skipped(root) {
        println!("SKIPPED {skipped}");
        total.skipped += 1;
    }
    println!("{total}");
    std::io::stdout().flush()?;
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn architecture(root: &Path, _: &Options) -> Result<Count> {
    let tree = crate::tree::Tree::read(root)?;
    let mut count = Count::default();
    for (name, rule) in crate::rules::RULES {
        let violations = rule(&tree);
        for violation in &violations {
            println!("{violation}");
        }
        println!("{} {name}", if violations.is_empty() { "ok  " } else { "FAIL" });
        count = count + Count::of_check(violations.is_empty());
    }
    Ok(count)
}

fn tests(root: &Path, _: &Options) -> Result<Count> {
    let mut command = tools::cargo(root);
    let profile = if tools::in_ci() { "ci" } else { "default" };
    command.args(["nextest", "run", "--workspace", "--profile", profile]);
    if std::env::var_os("TOWLINE_MATRIX_SEEDS").is_none() {
        // As many dials as the table in the README has.
        command.env("TOWLINE_MATRIX_SEEDS", "50");
    }
    let (success, lines) = tee(command)?;
    Ok(Count::of_nextest(&lines).or_check(success))
}

fn doctests(root: &Path, _: &Options) -> Result<Count> {
    let mut command = tools::cargo(root);
    command.args(["test", "--doc", "--workspace"]);
    let (success, lines) = tee(command)?;
    Ok(Count::of_libtest(&lines).or_check(success))
}

/// Runs the program that the tests have just built: building it alone would compile its dependencies again,
/// with other features.
fn fuzz(root: &Path, options: &Options) -> Result<Count> {
    let program = tools::target_dir(root).join("debug/fuzz-run");
    let mut command = if program.is_file() {
        tools::command(root, &program)
    } else {
        let mut command = tools::cargo(root);
        command.args(["run", "--package", "towline-fuzz", "--bin", "fuzz-run", "--"]);
        command
    };
    command.args(["--seconds", &options.fuzz_seconds.to_string()]);
    let (success, lines) = tee(command)?;
    Ok(Count::of_plain(&lines).or_check(success))
}

fn docs(root: &Path, _: &Options) -> Result<Count> {
    let mut command = tools::cargo(root);
    command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    Ok(Count::of_check(tee(command)?.0))
}

fn deny(root: &Path, _: &Options) -> Result<Count> {
    let mut command = tools::cargo(root);
    command.args(["deny", "--all-features", "check", "bans", "licenses", "sources"]);
    Ok(Count::of_check(tee(command)?.0))
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<Count> {
    let mut command = tools::cargo(root);
    command.args(arguments);
    Ok(Count::of_check(tee(command)?.0))
}

/// Runs a command, shows its output as it comes, and keeps the lines that may hold counts.
fn tee(mut command: Command) -> Result<(bool, Vec<String>)> {
    println!("$ {}", shown(&command));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| shown(&command))?;
    let out = child.stdout.take().context("stdout is piped")?;
    let err = child.stderr.take().context("stderr is piped")?;
    let errors = std::thread::spawn(move || copy(err, std::io::stderr()));
    let mut lines = copy(out, std::io::stdout())?;
    lines.extend(errors.join().map_err(|_| anyhow::anyhow!("the reader of stderr panicked"))??);
    Ok((child.wait()?.success(), lines))
}

fn copy(from: impl Read, mut to: impl Write) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        let text = String::from_utf8_lossy(&line);
        if text.contains("passed") || text.contains("failed") {
            kept.push(count::without_colours(&text));
        }
        line.clear();
    }
    to.flush()?;
    Ok(kept)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let expected = Options { only: vec!["lint".to_owned(), "fuzz".to_owned()], fuzz_seconds: 60 };
        assert_eq!(options(&["--only", "lint,fuzz", "--fuzz-seconds", "60"]).expect("valid"), expected);
        assert!(options(&["--fuzz-seconds"]).is_err());
        assert!(options(&["--fuzz-seconds", "many"]).is_err());
        assert!(options(&["--quick"]).is_err());
    }
}
