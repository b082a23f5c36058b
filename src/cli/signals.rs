//! Signals that ask banger to end, where something must be put right first.

use std::{io, thread};

use tokio::signal::unix::{SignalKind, signal};

/// Calls `act` in a thread of its own for each SIGINT, SIGTERM, SIGHUP and SIGQUIT from now on,
/// with the signal's number; none of them ends banger by itself any more.
///
/// # Errors
/// When the system refuses it.
pub fn watch(act: impl Fn(i32) + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hangup, mut quit) = {
        let _in_runtime = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        )
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                let kind = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                    _ = hangup.recv() => SignalKind::hangup(),
                    _ = quit.recv() => SignalKind::quit(),
                };
                act(kind.as_raw_value());
            }
        });
    })?;
    Ok(())
}

/// The exit code of a program that a signal ended, as shells give it.
#[must_use]
pub fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(super::exit::FAILED)
}
