//! This program as the VMM of a monitor: it answers on the control socket, and when a byte comes
//! on its console, floods that.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    process::{self, ExitCode},
    thread,
};

use banger::guest::Marker;

use crate::{Outcome, drain};

/// Under what name it is found.
pub const NAME: &str = "qemu-system-x86_64";
/// Bytes of the flood.
pub const BYTES: usize = 64 << 20;
/// What comes behind it.
pub const END: &[u8] = b"that was the flood";

/// Runs until it is told to quit, or is killed.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let socket = env::args()
        .find(|arg| arg.starts_with("socket,id=qmp,"))
        .and_then(|arg| Some(arg.rsplit_once("path=")?.1.to_owned()))
        .ok_or("no control socket")?;
    let listener = UnixListener::bind(socket)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = control(stream) {
                eprintln!("{error}");
            }
        }
    });
    let once = drain::stream(&["boot"])?;
    let mut console = io::stdin().lock();
    let mut out = io::stdout().lock();
    // It is as ready as it will ever be.
    write!(out, "{}", Marker::SshReady { uptime_ms: 1 })?;
    out.flush()?;
    while console.read(&mut [0])? > 0 {
        let mut left = BYTES;
        while left > 0 {
            let part = &once[..once.len().min(left)];
            out.write_all(part)?;
            left -= part.len();
        }
        out.write_all(END)?;
        out.write_all(b"\r\n")?;
        out.flush()?;
    }
    Ok(())
}

/// As much of QMP as a monitor uses.
fn control(stream: UnixStream) -> Outcome<()> {
    let mut write = stream.try_clone()?;
    writeln!(write, r#"{{"QMP": {{"version": {{}}, "capabilities": []}}}}"#)?;
    for line in BufReader::new(stream).lines() {
        let command: serde_json::Value = serde_json::from_str(&line?)?;
        let id = &command["id"];
        writeln!(write, r#"{{"return": {{}}, "id": {id}}}"#)?;
        if command["execute"] == "quit" {
            process::exit(0);
        }
    }
    Ok(())
}
