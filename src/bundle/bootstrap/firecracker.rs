//! The step that fetches Firecracker and its jailer.

use std::{
    env::consts::ARCH,
    fs::{self, File},
    io,
    path::Path,
};

use flate2::read::GzDecoder;

use super::{
    download::{self, Missing},
    failure::Failure,
    run::{Outcome, Output, Run},
};
use crate::{
    bundle::{
        digest::{fingerprint, sha256},
        manifest::{Arch, Member},
    },
    domain::StepState,
};

pub(super) fn run(run: &mut Run<'_>) -> Outcome {
    let firecracker = &run.manifest().firecracker;
    let source = Arch::of_this_machine().and_then(|arch| firecracker.source.get(&arch));
    let Some((source, pinned)) = source.and_then(|s| Some((s, s.pinned()?))) else {
        return Err(Failure::Skip(format!("there is none for {ARCH}: QEMU runs the VMs")));
    };
    // Not where it is: the sum says what it is.
    let input = (pinned.sha256, &source.members);
    let input = serde_json::to_vec(&input).map_err(|e| run.io("manifest", &e.into()))?;
    let fingerprint = fingerprint(&[&input]);
    if let Some(detail) = run.cached(&fingerprint)? {
        return Ok((StepState::Cached, detail));
    }
    let work = run.kept_dir("firecracker")?;
    let tgz = match download::bring(run, &pinned, &work, "archive.tgz.part") {
        Ok(tgz) => tgz,
        Err(Missing::Unreachable(why)) => {
            return Err(Failure::Skip(format!(
                "{why}; VMs run with QEMU, the next bootstrap tries again"
            )));
        }
        Err(Missing::Failed(failure)) => return Err(failure),
    };
    let place = download::place(&pinned);
    let mut outputs = Vec::new();
    for (member, bytes) in members(run, &source.members, &place, &tgz)? {
        let from = work.join(&member.file);
        fs::write(&from, bytes).map_err(|e| run.io(&member.file, &e))?;
        outputs.push(Output {
            from,
            to: member.file.clone(),
            mode: 0o755,
            source: place.clone(),
            version: firecracker.version.clone(),
        });
    }
    run.commit(fingerprint, &firecracker.version, outputs, None)
}

/// The members of an archive whose sum is right, checked against their own sums.
fn members<'m>(
    run: &Run<'_>,
    members: &'m [Member],
    place: &str,
    tgz: &Path,
) -> Result<Vec<(&'m Member, Vec<u8>)>, Failure> {
    let mut found = unpack(tgz, members).map_err(|e| run.io("its archive", &e))?;
    for member in members {
        let Some((_, bytes)) = found.iter_mut().find(|(m, _)| m.path == member.path) else {
            let why = format!("there is no {} in {place}", member.path);
            return Err(run.fail(why, "correct runtime-bundle.toml"));
        };
        let sum = sha256(bytes);
        if let Some(pinned) = member.sha256.as_ref().filter(|pinned| **pinned != sum) {
            return Err(download::mismatch(&member.path, &sum, pinned, &format!("in {place}")));
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
