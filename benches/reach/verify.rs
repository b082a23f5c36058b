//! How fast a runtime directory is verified, against `sha256sum` of the same files.
//!
//! banger has it easier: it knows holes for what they are without reading them, and works on all
//! CPUs. So it is measured without either, too: on one CPU, with files of nothing but data.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};
use sha2::{Digest, Sha256};

use crate::{
    Outcome,
    place::{BANGER, Place, runtime_dir},
    proc::mib,
    table::{Row, median},
};

/// How often each is done, in turns.
const RUNS: usize = 5;

/// Speed is asked for: 0.9 of that of `sha256sum`.
const AT_MOST: f64 = 1.0 / 0.9;

/// `banger runtime verify`.
pub fn measure() -> Outcome<Vec<Row>> {
    let dir = runtime_dir();
    let place = Place::new("verify")?;
    let (dense, bytes) = without_holes(&dir, &place.dir("dense")?)?;
    let all = bytes_of(&dir)?;
    let mut rows = vec![Row::note("verify: bytes, and those in no hole", mib(all), mib(bytes))];
    let one = &["taskset", "--cpu-list", "0"];
    rows.push(compared("verify, against sha256sum", &dir, &[], &["sha256sum"])?);
    rows.push(compared("… of data alone", &dense, &[], &["sha256sum"])?);
    rows.push(compared("… and on one CPU", &dense, one, &["sha256sum"])?);
    // Which uses what the CPU has for it, whatever sha256sum was built with.
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok() {
        let openssl = &["openssl", "dgst", "-sha256"];
        rows.push(compared("… and on one CPU, against openssl", &dense, one, openssl)?);
    }
    Ok(rows)
}

/// Verifies a runtime directory, in turns with a program that sums up the same files, both started
/// by `with`.
fn compared(what: &str, dir: &Path, with: &[&str], hand: &[&str]) -> Outcome<Row> {
    let names = names(dir)?;
    let command = |argv: &[&str]| {
        let argv = [with, argv].concat();
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).current_dir(dir);
        command
    };
    let (mut by_hand, mut by_us) = (Vec::new(), Vec::new());
    // Once unmeasured, so that both find the files in memory.
    for run in 0..=RUNS {
        let hand = timed(command(hand).args(&names))?;
        let us = timed(command(&[BANGER, "runtime", "verify", "--dir"]).arg(dir))?;
        if run > 0 {
            by_hand.push(hand);
            by_us.push(us);
        }
    }
    Ok(Row::ratio(what, median(&by_hand), median(&by_us), AT_MOST))
}

/// The files of a runtime directory, by its record.
fn names(dir: &Path) -> Outcome<Vec<String>> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("bundle.json"))?)?;
    let files = record["files"].as_object().ok_or("a record without files")?;
    Ok(files.keys().cloned().collect())
}

fn bytes_of(dir: &Path) -> Outcome<u64> {
    let sizes = names(dir)?.into_iter().map(|name| Ok(dir.join(name).metadata()?.len()));
    sizes.sum::<io::Result<u64>>().map_err(Into::into)
}

/// A copy of a runtime directory whose files have only what is in no hole, with a record that fits
/// them; and how many bytes they have.
fn without_holes(from: &Path, to: &Path) -> Outcome<(PathBuf, u64)> {
    let mut record: serde_json::Value =
        serde_json::from_slice(&fs::read(from.join("bundle.json"))?)?;
    let files = record["files"].as_object_mut().ok_or("a record without files")?;
    let mut all = 0;
    for (name, file) in files {
        let path = to.join(name);
        fs::create_dir_all(path.parent().ok_or("a path without a directory")?)?;
        let size = data(&mut File::open(from.join(name))?, &mut File::create(&path)?)?;
        file["size"] = size.into();
        file["sha256"] = sum(&path)?.into();
        all += size;
    }
    fs::write(to.join("bundle.json"), serde_json::to_vec(&record)?)?;
    Ok((to.to_owned(), all))
}

/// Copies what is in no hole (lseek(2)): how many bytes.
fn data(from: &mut File, to: &mut File) -> Outcome<u64> {
    let mut at = 0;
    let mut all = 0;
    loop {
        let begin = match lseek(&*from, at, Whence::SeekData) {
            Ok(begin) => begin,
            // None is left.
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        at = lseek(&*from, begin, Whence::SeekHole)?;
        from.seek(SeekFrom::Start(begin.try_into()?))?;
        all += io::copy(&mut (&mut *from).take((at - begin).try_into()?), to)?;
    }
    to.flush()?;
    Ok(all)
}

/// The SHA-256 of a file, in lower-case hex.
fn sum(path: &Path) -> Outcome<String> {
    let digest = Sha256::digest(fs::read(path)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn timed(command: &mut Command) -> Outcome<Duration> {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = begin.elapsed();
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}").into()) }
}
