//! How far banger is from what it must reach, in one table.
//!
//! Wherever a limit is not absolute, banger is compared with the same done by hand, in the same
//! run, in turns: the machine's noise then hits both. `docs/benchmarks.md` says what each line
//! means.
//!
//! `make bench` runs all; `cargo bench --bench reach -- boot tui` runs parts.

mod boot;
mod bootstrap;
mod by_hand;
mod customize;
mod drain;
mod fake_qemu;
mod monitor;
mod package;
mod place;
mod proc;
mod screen;
mod stand_in;
mod table;
mod tui;
mod verify;

use std::{env, error::Error, ffi::OsStr, path::Path, process::ExitCode};

use table::Row;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Measures a part.
type Part = fn() -> Outcome<Vec<Row>>;

/// The parts, in the order of the table.
const PARTS: [(&str, Part); 8] = [
    ("boot", boot::measure),
    ("tui", tui::measure),
    ("monitor", monitor::measure),
    ("drain", drain::measure),
    ("verify", verify::measure),
    ("package", package::measure),
    ("customize", customize::measure),
    ("bootstrap", bootstrap::measure),
];

fn main() -> ExitCode {
    // A monitor that finds us under QEMU's name in its PATH gets a VMM that does nothing but
    // flood its console.
    let name = env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new(fake_qemu::NAME)) {
        return fake_qemu::main();
    }
    // Cargo adds `--bench`.
    let wanted: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Some(other) = wanted.iter().find(|w| PARTS.iter().all(|(name, _)| name != w)) {
        let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no part “{other}”: there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    println!("load at the start: {}", proc::load());
    let mut rows = Vec::new();
    let mut failed = false;
    for (name, measure) in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        println!("{name} …");
        match measure() {
            Ok(more) => rows.extend(more),
            Err(error) => {
                failed = true;
                println!("{name} could not be measured: {error}");
            }
        }
    }
    println!("load at the end: {}\n", proc::load());
    table::print(&rows);
    ExitCode::from(u8::from(failed))
}
