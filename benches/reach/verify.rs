//! How fast a runtime directory is verified, against `sha256sum` of the same files.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    place::BANGER,
    table::{Row, median},
};

/// How often each is done, in turns.
const RUNS: usize = 5;

/// Speed is asked for: 0.9 of that of `sha256sum`.
const AT_MOST: f64 = 1.0 / 0.9;

/// `banger runtime verify`.
pub fn measure() -> Outcome<Vec<Row>> {
    let dir = std::env::var_os("BANGER_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let dir = dir.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime"), Into::into);
    let record: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("bundle.json"))?)?;
    let files = record["files"].as_object().ok_or("a record without files")?;
    let names: Vec<&String> = files.keys().collect();
    let (mut by_hand, mut by_us) = (Vec::new(), Vec::new());
    // Once unmeasured, so that both find the files in memory.
    for run in 0..=RUNS {
        let hand = timed(Command::new("sha256sum").args(&names).current_dir(&dir))?;
        let us = timed(Command::new(BANGER).args(["runtime", "verify", "--dir"]).arg(&dir))?;
        if run > 0 {
            by_hand.push(hand);
            by_us.push(us);
        }
    }
    Ok(vec![Row::ratio("verify, against sha256sum", median(&by_hand), median(&by_us), AT_MOST)])
}

fn timed(command: &mut Command) -> Outcome<Duration> {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = begin.elapsed();
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}").into()) }
}
