//! The step that installs a published bundle: one archive instead of all other steps.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::{
    download::{self, Missing},
    failure::Failure,
    run::{Outcome, Run},
    work,
};
use crate::{
    bundle::{
        Bundle, Published, Record,
        archive::{Refused, unpack},
        manifest::{At, Pinned, Source},
    },
    domain::{ByteSize, Problem, StepState},
};

/// The parts that VMs may run by at this moment: a bundle that comes without one leaves it.
const KEPT_STEPS: [&str; 2] = ["firecracker", "qemu"];

pub(super) fn run(run: &mut Run<'_>, source: &Source) -> Outcome {
    let Some(pinned) = source.pinned() else {
        return Err(run.fail("its source is no file with a sum", "correct the manifest"));
    };
    let known = run.record.published.clone();
    if known.is_some_and(|p| p.sha256 == pinned.sha256) && run.all_intact()? {
        return Ok((StepState::Cached, short(pinned.sha256)));
    }
    if matches!(pinned.at, At::Url { .. }) && !run.has_program("curl") {
        let hint = "sudo apt-get install --no-install-recommends curl";
        return Err(run.fail("curl is not there to fetch it", hint));
    }
    let dir = run.kept_dir("bundle")?;
    let archive = download::bring(run, &pinned, &dir, "bundle.tar.zst.part");
    let archive = archive.map_err(|missing| match missing {
        Missing::Unreachable(why) => run.fail(
            why,
            "run it again: it goes on where it was; or make the parts here: add --assemble",
        ),
        Missing::Failed(failure) => failure,
    })?;
    let record = install(run, &pinned, &archive)?;
    let total = record.files.values().map(|file| file.size).sum();
    let detail =
        format!("{}, {} files, {}", short(pinned.sha256), record.files.len(), ByteSize(total));
    Ok((StepState::Done, detail))
}

/// Enough of a sum for people.
fn short(sha256: &str) -> String {
    format!("sha256 {}…", sha256.get(..12).unwrap_or(sha256))
}

/// Unpacks the archive beside the runtime directory, or within one that holds nothing yet.
fn install(run: &mut Run<'_>, pinned: &Pinned<'_>, archive: &Path) -> Result<Record, Failure> {
    run.detail("unpacking");
    let beside = run.stage_empty()?;
    let into = match &beside {
        Some(next) => next.clone(),
        None if Bundle::open(run.dir()).is_ok() => {
            let why = format!(
                "{} cannot be replaced as a whole: nothing can be made beside it, as its parent may \
                 not be written to or is of another file system",
                run.dir().display()
            );
            return Err(run.fail(why, "use another directory: set BANGER_RUNTIME_DIR"));
        }
        None => run.fresh_dir("unpacked")?,
    };
    let total = archive.metadata().map_or(0, |m| m.len());
    let cancel = run.cancel;
    let unpacked = unpack(archive, &into, |done| {
        run.progress(done, total);
        !cancel.load(std::sync::atomic::Ordering::Relaxed)
    });
    let mut record = match unpacked {
        Ok(record) => record,
        Err(refused) => {
            // What was written is nothing anybody asked for.
            run.unstage();
            let _ = fs::remove_dir_all(&into);
            return Err(match refused {
                Refused::Cancelled => Failure::Cancelled,
                Refused::Io(e) => run.io("what is in it", &e),
                Refused::Bad(why) => Failure::Stop(Problem::new(
                    format!("the bundle {} is refused", download::place(pinned)),
                    why,
                    "nothing of it was kept; ask who published it for another",
                )),
            });
        }
    };
    let mut put = || -> std::io::Result<()> {
        for (name, file) in &mut record.files {
            let from = into.join(name);
            let to = run.dir().join(name);
            if beside.is_none() {
                work::put(&from, &to)?;
            }
            let at = if beside.is_none() { to } else { from };
            file.modified_ns = work::modified_ns(&at.metadata()?);
        }
        fs::set_permissions(&into, fs::Permissions::from_mode(0o755))
    };
    put().map_err(|e| run.io("its files", &e))?;
    let old = std::mem::replace(&mut run.record, record.clone());
    run.record.published =
        Some(Published { sha256: pinned.sha256.to_owned(), source: download::place(pinned) });
    if beside.is_some() {
        keep_programs(&mut run.record, &old);
        let (new, unwanted) = (run.record.clone(), old);
        // The user's own files, and what was kept.
        let wanted =
            |name: &str| new.files.contains_key(name) || !unwanted.files.contains_key(name);
        run.link(wanted)?;
    }
    run.save()?;
    Ok(record)
}

fn keep_programs(new: &mut Record, old: &Record) {
    for name in KEPT_STEPS {
        let Some(step) = old.steps.get(name) else { continue };
        let files: Vec<_> = step.outputs.iter().map(|o| (o, old.files.get(o))).collect();
        let free = files.iter().all(|(o, file)| file.is_some() && !new.files.contains_key(*o));
        if new.steps.contains_key(name) || !free {
            continue;
        }
        new.steps.insert(name.to_owned(), step.clone());
        let files = files.into_iter().filter_map(|(o, file)| Some((o.clone(), file?.clone())));
        new.files.extend(files);
    }
}
