//! The `towline` program: dial a device by its key and move files or streams over named channels.

mod admission;
mod args;
mod cert;
mod commands;
mod demo;
mod event;
mod failure;
mod home;
mod ids;
mod interrupt;
mod key_files;
mod known;
mod lab;
mod nc;
mod output;
mod password;
mod progress;
mod reach;
mod running;
mod session;
mod text;
mod transfer;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use args::{Args, Command};
use failure::Failure;
use interrupt::Interrupt;
use output::Output;

/// How long work on other threads (writing a file, removing a partial one) may take after the command has ended.
const LAST_WORK: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(&args.common, args.command.data_on_stdout());
    start_log(&args.common);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.failed(&Failure::Internal(format!("cannot start: {error}"))),
    };
    let result = runtime.block_on(async {
        let interrupt = Interrupt::start(args.common.end_with_stdin)?;
        run(args.command, &output, interrupt).await
    });
    runtime.shutdown_timeout(LAST_WORK);
    match result.and_then(|()| output.delivered()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failed(&failure),
    }
}

async fn run(command: Command, output: &Output, interrupt: Interrupt) -> Result<(), Failure> {
    match command {
        Command::Init(args) => commands::account::create(args, output).await,
        Command::Account(args) => commands::account::run(args, output, interrupt).await,
        Command::Contact(args) => commands::contact::run(args, output, interrupt).await,
        Command::Presence(args) => commands::presence::run(args, output, interrupt).await,
        Command::Online(args) => commands::online::run(args, output, interrupt).await,
        Command::Text(args) => commands::text::run(args, output, interrupt).await,
        Command::Id(args) => commands::id::run(&args, output),
        Command::Status(args) => interrupt.stops(commands::status::run(args, output)).await,
        Command::Node(args) => commands::node::run(args, output, interrupt).await,
        Command::Relay(args) => commands::relay::run(args, output, interrupt).await,
        Command::Send(args) => commands::send::run(args, output, interrupt).await,
        Command::Receive(args) => commands::receive::run(args, output, interrupt).await,
        Command::Pipe(args) => commands::pipe::run(args, output, interrupt).await,
        Command::Listen(args) => commands::listen::run(args, output, interrupt).await,
        Command::Why(args) => commands::why::run(args, output, interrupt).await,
        Command::Nc(args) => nc::run(*args, output, interrupt).await,
        Command::Cert(args) => interrupt.stops(cert::run(args, output)).await,
        Command::Demo(args) => demo::run(args, output, interrupt).await,
        Command::Lab(args) => lab::run(args, output, interrupt).await,
        Command::Completion(args) => {
            commands::completion::run(&args, output);
            Ok(())
        }
    }
}

/// Logs of the layers below go to the error output, filtered by `TOWLINE_LOG` or `-v`.
fn start_log(common: &args::Common) {
    let default = match common.verbose {
        0 => "error",
        1 => "warn",
        2 => "info",
        3 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("TOWLINE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
