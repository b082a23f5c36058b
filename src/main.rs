//! banger's entry point: which mode, and the exit code.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use banger::{
    cli::{
        self,
        args::Cli,
        client::Client,
        exit,
        setup::{self, Setup},
    },
    domain::Problem,
};
use clap::Parser;

fn main() -> ExitCode {
    let arguments = match Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are such errors, too. A closed pipe is none of ours.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    setup::install_panic_hook();
    exit::code(match &arguments.verb {
        Some(verb) => cli::run(verb, connect),
        None if arguments.restore => cli::restore(connect),
        None if !(io::stdin().is_terminal() && io::stdout().is_terminal()) => {
            Err(cli::no_terminal())
        }
        None => Ok(exit::USAGE),
    })
}

fn connect(_: &Setup) -> Result<Client, Problem> {
    Err(Problem::new("cannot look after VMs", "this build has no supervisor", ""))
}
