//! The step that fetches Firecracker and its jailer.

use std::{
    env::consts::ARCH,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

use super::{
    failure::Failure,
    run::{Outcome, Output, Run},
};
use crate::{
    bundle::{
        digest::{fingerprint, sha256},
        manifest::{Archive, Member},
    },
    domain::{Problem, StepState},
};

/// Seconds until a host that does not answer is given up.
const CONNECT_TIMEOUT: &str = "10";

/// Seconds without a byte until a download is given up.
const STALL_TIMEOUT: &str = "30";

pub(super) fn run(run: &mut Run<'_>) -> Outcome {
    let firecracker = &run.manifest().firecracker;
    let Some(archive) = run.manifest().firecracker_archive(ARCH) else {
        return Err(Failure::Skip(format!("there is none for {ARCH}: QEMU runs the VMs")));
    };
    let input = serde_json::to_vec(archive).map_err(|e| run.io("manifest", &e.into()))?;
    let fingerprint = fingerprint(&[&input]);
    if let Some(detail) = run.cached(&fingerprint)? {
        return Ok((StepState::Cached, detail));
    }
    let work = run.kept_dir("firecracker")?;
    let tgz = fetch(run, archive, &work)?;
    let mut outputs = Vec::new();
    for (member, bytes) in members(run, archive, &tgz)? {
        let from = work.join(&member.file);
        fs::write(&from, bytes).map_err(|e| run.io(&member.file, &e))?;
        outputs.push(Output {
            from,
            to: member.file.clone(),
            mode: 0o755,
            source: archive.url.clone(),
            version: firecracker.version.clone(),
        });
    }
    let done = run.commit(fingerprint, &firecracker.version, outputs, None)?;
    // Not needed any more; if it stays, it is cleared away with the working directory.
    let _ = fs::remove_file(tgz);
    Ok(done)
}

/// Downloads the archive, going on where an earlier run was interrupted, and checks its sum.
fn fetch(run: &mut Run<'_>, archive: &Archive, work: &Path) -> Result<PathBuf, Failure> {
    let file = work.join("archive.tgz.part");
    let size = |file: &Path| file.metadata().map_or(0, |m| m.len());
    // All of it may be there already: the run was killed between download and commit.
    if size(&file) > 0 && run.sha256(&file)? == archive.sha256 {
        return Ok(file);
    }
    let resumed = size(&file);
    download(run, archive, work, &file)?;
    let mut sum = run.sha256(&file)?;
    if sum != archive.sha256 && resumed > 0 {
        // What was there before may be the start of something else.
        run.log("the sum of the resumed download does not match: fetching all of it again");
        fs::remove_file(&file).map_err(|e| run.io("the old download", &e))?;
        download(run, archive, work, &file)?;
        sum = run.sha256(&file)?;
    }
    if sum == archive.sha256 {
        return Ok(file);
    }
    let bytes = size(&file);
    fs::remove_file(&file).map_err(|e| run.io("the bad download", &e))?;
    Err(mismatch(&archive.url, &sum, &archive.sha256, &format!("{bytes} bytes came")))
}

fn download(run: &mut Run<'_>, archive: &Archive, work: &Path, file: &Path) -> Result<(), Failure> {
    run.detail(&format!("fetching {}", archive.url));
    let curl = run.program("curl", work).args([
        "--fail",
        "--location",
        "--silent",
        "--show-error",
        // What came is on disk at once, for the next run if this one is killed.
        "--no-buffer",
        "--connect-timeout",
        CONNECT_TIMEOUT,
        "--speed-limit",
        "1",
        "--speed-time",
        STALL_TIMEOUT,
        "--continue-at",
        "-",
        "--output",
    ]);
    let curl = curl.args([file]).args([&archive.url]);
    let ended = run.run_program("curl", curl, None)?;
    if ended.status.success() {
        return Ok(());
    }
    // What came so far stays for the next run.
    let said = ended.tail.last().cloned().unwrap_or_else(|| ended.status.to_string());
    let said = said.trim_start_matches("curl: ").to_owned();
    Err(Failure::Skip(format!(
        "could not be fetched: {said} ({}); VMs run with QEMU, the next bootstrap tries again",
        archive.url
    )))
}

/// The members of an archive whose sum is right, checked against their own sums.
fn members<'m>(
    run: &Run<'_>,
    archive: &'m Archive,
    tgz: &Path,
) -> Result<Vec<(&'m Member, Vec<u8>)>, Failure> {
    let mut found = unpack(tgz, &archive.members).map_err(|e| run.io("its archive", &e))?;
    for member in &archive.members {
        let Some((_, bytes)) = found.iter_mut().find(|(m, _)| m.path == member.path) else {
            let why = format!("there is no {} in {}", member.path, archive.url);
            return Err(run.fail(why, "correct runtime-bundle.toml"));
        };
        let sum = sha256(bytes);
        if let Some(pinned) = member.sha256.as_ref().filter(|pinned| **pinned != sum) {
            let place = format!("in {}", archive.url);
            return Err(mismatch(&member.path, &sum, pinned, &place));
        }
    }
    Ok(found)
}

fn unpack<'m>(tgz: &Path, members: &'m [Member]) -> io::Result<Vec<(&'m Member, Vec<u8>)>> {
    let mut tar = tar::Archive::new(GzDecoder::new(File::open(tgz)?));
    let mut found = Vec::new();
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        if let Some(member) = members.iter().find(|m| Path::new(&m.path) == path) {
            let mut bytes = Vec::new();
            io::copy(&mut entry, &mut bytes)?;
            found.push((member, bytes));
        }
    }
    Ok(found)
}

fn mismatch(what: &str, is: &str, pinned: &str, more: &str) -> Failure {
    Failure::Stop(Problem::new(
        "what was fetched is not what it should be, so nothing of it is kept",
        format!("the SHA-256 of {what} is {is}, and has to be {pinned} ({more})"),
        "look for a proxy that changes downloads, then run it again; if it stays so, report it",
    ))
}
