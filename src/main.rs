//! banger's entry point: which mode, and the exit code.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use banger::{
    cli::{
        self,
        args::{Cli, Monitor, Verb},
        client::Client,
        exit::{self, Failure, Outcome},
        setup::{self, Setup},
    },
    config,
    domain::{Layout, Problem, UnixMs},
    monitor::{self, MonitorArgs},
    supervisor::{self, Origin},
    tui,
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
    // A monitor is small: what is for people at a terminal stays out of it.
    if let Some(Verb::Monitor(monitor)) = &arguments.verb {
        return monitor_main(monitor);
    }
    setup::install_panic_hook();
    exit::code(match &arguments.verb {
        Some(verb) => cli::run(verb, connect),
        None if arguments.restore => cli::restore(connect),
        None => {
            let both = io::stdin().is_terminal() && io::stdout().is_terminal();
            let kind = std::env::var("TERM").ok();
            cli::needs_screen(both, kind.as_deref()).and_then(|()| full_screen())
        }
    })
}

fn monitor_main(monitor: &Monitor) -> ExitCode {
    let code = monitor::main(&MonitorArgs {
        vm: monitor.vm.clone(),
        layout: Layout { state: monitor.state.clone(), run: monitor.run.clone() },
        runtime: monitor.runtime.clone(),
        vmm: monitor.vmm,
        network: monitor.network,
        jailer: monitor.jailer,
        names: monitor.names.clone(),
        stop_timeout_ms: monitor.stop_timeout_ms,
    });
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn connect(setup: &Setup) -> Result<Client, Problem> {
    let (handle, guard) = supervisor::start(setup.options.clone())?;
    Client::new(handle, || guard.finish())
}

fn full_screen() -> Outcome {
    let setup = Setup::new(Origin::Tui)?;
    let overrides = config::load_keymap(&setup.sources, &tui::keymap::action_keys())?;
    let options = tui::TuiOptions {
        theme: config::load_theme(&setup.sources, &setup.config.theme)?,
        keys: tui::keymap::KeyMap::new(&overrides)?,
        clock: clock(),
        ssh_key: Some(setup.layout.ssh_key()),
        home: std::env::var_os("HOME").map(Into::into),
        log: Some(setup.layout.log()),
        config: setup.config,
    };
    let (handle, guard) = supervisor::start(setup.options)?;
    let ended = tui::run(handle, options);
    guard.finish();
    match ended {
        Ok(()) => Ok(exit::OK),
        Err(report) => {
            let hint = "the log has more";
            Err(Failure::from(Problem::new("the screen failed", format!("{report:#}"), hint)))
        }
    }
}

fn clock() -> tui::event_loop::Clock {
    let start = Instant::now();
    Box::new(move || tui::state::Now {
        mono: start.elapsed(),
        wall: UnixMs(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        ),
    })
}
