//! The scripting verbs and `--restore`.
//!
//! A verb uses a supervisor as the full-screen program does: it asks, looks at pictures of the
//! fleet until what it asked for is so, and tells. `docs/cli.md` is the reference.

pub mod args;
mod build;
pub mod client;
mod completions;
mod console;
mod create;
mod doctor;
pub mod exit;
mod find;
mod helper;
mod images;
mod images_foreign;
mod images_import;
mod itself;
mod json;
mod logs;
mod ls;
mod machines;
mod man;
mod out;
mod ran;
mod renumber;
mod rest;
mod restore;
mod runtime;
mod sanitize;
pub mod setup;
mod signals;
mod ssh;
#[cfg(test)]
mod testing;

use std::time::SystemTime;

use args::Verb;
use client::Client;
use exit::{Failure, Outcome};
use setup::Setup;

use crate::{
    domain::{Problem, UnixMs},
    host,
    session::Size,
    supervisor::{ConsoleKind, Origin},
};

/// Starts a supervisor for a verb.
pub type Connect = fn(&Setup) -> Result<Client, Problem>;

/// Carries out a verb. [`Verb::Monitor`] is none of these: `main` sees to it.
///
/// # Errors
/// What is to be told the user; see [`Failure::report`].
pub fn run(verb: &Verb, connect: Connect) -> Outcome {
    // These must work when a supervisor does not.
    match verb {
        Verb::Doctor(doctor) => return doctor::run(doctor),
        Verb::Ran(ran) => return ran::run(ran),
        Verb::Images(images) => return images::run(images.verb.as_ref(), connect),
        Verb::Runtime(runtime) => return runtime::run(&runtime.verb),
        Verb::Helper(helper) => return helper::run(&helper.verb),
        Verb::HostHelper(host_helper) => return helper::serve(host_helper),
        Verb::OwnRoot(root) => return own_root(root),
        Verb::Completions(completions) => return completions::run(completions.shell),
        Verb::Itself(itself) => return itself::run(&itself.verb),
        _ => {}
    }
    let setup = Setup::for_verb(Origin::Script)?;
    let mut client = connect(&setup)?;
    match verb {
        Verb::Ls(ls) => ls::run(ls, &mut client),
        Verb::Create(create) => create::run(create, &mut client, &setup),
        Verb::Start(start) => machines::start(start, &mut client, &setup),
        Verb::Stop(names) => machines::stop(names, &mut client),
        Verb::Kill(names) => machines::kill(names, &mut client),
        Verb::Pause(names) => machines::pause(names, &mut client),
        Verb::Resume(names) => machines::resume(names, &mut client),
        Verb::Restart(start) => machines::restart(start, &mut client, &setup),
        Verb::Rm(rm) => machines::rm(rm, &mut client),
        Verb::Recreate(recreate) => machines::recreate(recreate, &mut client),
        Verb::Rename(rename) => machines::rename(rename, &mut client),
        Verb::Resize(resize) => machines::resize(resize, &mut client),
        Verb::Ssh(ssh) => ssh::run(ssh, client, &setup),
        Verb::Renumber => renumber::run(client, &setup),
        Verb::Console(console) => {
            let vm = find::one(&*client.loaded()?, &console.name)?;
            let sessions = client.sessions();
            console::run(console, || {
                let size = terminal_size();
                sessions.open(&vm.id, ConsoleKind::Serial, size).map_err(Failure::from)
            })
        }
        Verb::Logs(logs) => {
            let vm = find::one(&*client.loaded()?, &logs.name)?;
            // Reading a file for hours needs no supervisor.
            drop(client);
            logs::run(logs, &setup.layout.vm(&vm.id).console_log())
        }
        Verb::Doctor(_)
        | Verb::Ran(_)
        | Verb::Images(_)
        | Verb::Runtime(_)
        | Verb::Helper(_)
        | Verb::HostHelper(_)
        | Verb::OwnRoot(_)
        | Verb::Completions(_)
        | Verb::Itself(_)
        | Verb::Monitor(_) => Ok(exit::USAGE),
    }
}

/// `banger --restore`.
///
/// # Errors
/// As [`run`].
pub fn restore(connect: Connect) -> Outcome {
    let setup = Setup::for_verb(Origin::Restore)?;
    restore::run(&mut connect(&setup)?)
}

/// Looks whether there is a screen for `banger` to fill: `both` is whether standard input and output
/// are terminals, `kind` the one that `TERM` names.
///
/// # Errors
/// What is in the way, as wrong usage.
pub fn needs_screen(both: bool, kind: Option<&str>) -> Result<(), Failure> {
    let (why, hint) = match (both, kind) {
        (false, _) => (
            "standard input and output are not both a terminal",
            "in scripts use verbs such as `banger ls`; `banger --help` lists them",
        ),
        // An editor's shell, a debugger: sequences would be shown as they are.
        (true, Some("dumb")) => (
            "this terminal cannot draw (TERM is dumb)",
            "use another, or verbs such as `banger ls`; `banger --help` lists them",
        ),
        (true, _) => return Ok(()),
    };
    Err(Failure::Usage(Problem::new("cannot open the full-screen program", why, hint)))
}

/// Holds a mounted image: for `images build`, by which alone it is started.
fn own_root(root: &args::OwnRoot) -> Outcome {
    match host::own_root::hold(&root.disk, &root.at, &root.work) {
        Ok(()) => Ok(exit::OK),
        Err(error) => {
            // Not as an error of its own: who started it says what it means.
            out::note(&error.to_string());
            Ok(exit::FAILED)
        }
    }
}

/// A serial console does not know its size; a session wants one.
fn terminal_size() -> Size {
    let (cols, rows) = crossterm::terminal::size().unwrap_or((80, 24));
    Size { cols: cols.max(2), rows: rows.max(1) }
}

/// Now.
fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_screen_program_wants_a_terminal_that_can_draw() {
        for kind in [None, Some(""), Some("linux"), Some("xterm-256color")] {
            assert!(needs_screen(true, kind).is_ok());
            assert!(matches!(needs_screen(false, kind), Err(Failure::Usage(_))));
        }
        let Err(Failure::Usage(problem)) = needs_screen(true, Some("dumb")) else {
            panic!("a dumb terminal cannot draw");
        };
        assert!(problem.why.contains("TERM"), "{problem}");
    }
}
