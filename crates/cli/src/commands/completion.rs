//! `towline completion`: the completion script of a shell.

use clap::CommandFactory as _;

use crate::args::{Args, Completion};
use crate::output::Output;

pub(crate) fn run(args: &Completion, output: &Output) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "towline", &mut script);
    output.plain(String::from_utf8_lossy(&script).trim_end());
}
