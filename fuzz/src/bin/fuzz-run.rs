//! Runs the fuzz targets on stable: the kept corpus, then seeded mutations of it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to its user")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use towline_fuzz::{Budget, TARGETS, Target, corpus, home, replay, run};

const HELP: &str = "\
fuzz-run [OPTIONS]

  --target NAME    only this target (may be given again)
  --seconds N      time for mutations of each target (default 2)
  --seed N         seed of the mutations (default 1; the same seed makes the same inputs)
  --replay FILE    run only this input, on the target that its folder names or --target says
  --list           name the targets
";

struct Options {
    targets: Vec<&'static Target>,
    seconds: u64,
    seed: u64,
    replay: Option<PathBuf>,
    list: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("error: {message}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let passed = if options.list {
        for target in TARGETS {
            println!("{}", target.name);
        }
        true
    } else if let Some(file) = &options.replay {
        replay_file(&options, file)
    } else {
        run_all(&options)
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { targets: Vec::new(), seconds: 2, seed: 1, replay: None, list: false };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("`{text}` is no number"));
        match argument.as_str() {
            "--target" => options.targets.push(find(&value()?)?),
            "--seconds" => options.seconds = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--replay" => options.replay = Some(value()?.into()),
            "--list" => options.list = true,
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    Ok(options)
}

fn find(name: &str) -> Result<&'static Target, String> {
    TARGETS.iter().find(|target| target.name == name).ok_or(format!("no target `{name}`"))
}

fn replay_file(options: &Options, file: &PathBuf) -> bool {
    let folder = file.parent().and_then(|dir| dir.file_name()).map(|name| name.to_string_lossy());
    let target = options.targets.first().copied().or_else(|| folder.and_then(|name| find(&name).ok()));
    let Some(target) = target else {
        eprintln!("error: say which target with --target");
        return false;
    };
    match std::fs::read(file) {
        Err(error) => eprintln!("error: {}: {error}", file.display()),
        Ok(input) => match replay(target, &input, Budget::default()) {
            Ok(took) => {
                println!("{}: {} bytes, {took:?}", target.name, input.len());
                return true;
            }
            Err(fault) => println!("{}: {} bytes, {fault}", target.name, input.len()),
        },
    }
    false
}

fn run_all(options: &Options) -> bool {
    let all: Vec<&Target> = TARGETS.iter().collect();
    let targets = if options.targets.is_empty() { &all } else { &options.targets };
    let budget = Budget { time: Duration::from_secs(options.seconds), ..Budget::default() };
    let mut failed = 0;
    for target in targets {
        let inputs = match corpus::load(&home(), target.name) {
            Ok(files) => files.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(),
            Err(error) => {
                eprintln!("error: the corpus of {}: {error}", target.name);
                failed += 1;
                continue;
            }
        };
        let report = run(target, &inputs, options.seed, budget);
        println!(
            "{:<22} {:>4} kept  {:>9} run  {:>8.0} /s  slowest {:>9.1?}",
            target.name,
            report.corpus,
            report.executions,
            report.executions as f64 / report.took.as_secs_f64(),
            report.slowest,
        );
        if let Some(failure) = report.failure {
            failed += 1;
            println!("FAIL {}: {}", target.name, failure.fault);
            match corpus::keep_failure(&home(), target.name, &failure.input) {
                Ok(path) => {
                    println!("     seed {}; again with: fuzz-run --replay {}", options.seed, path.display());
                }
                Err(error) => println!("     could not be kept: {error}"),
            }
        }
    }
    println!("{} passed, {failed} failed", targets.len() - failed);
    failed == 0
}
