//! The step that assembles the initrd.

use std::{
    env::{self, consts::ARCH},
    fs,
    path::{Path, PathBuf},
};

use super::{
    failure::Failure,
    kernel::file_name,
    run::{Outcome, Output, Run},
};
use crate::{
    bundle::{
        INSTALLED_INIT,
        digest::{fingerprint, sha256},
        format::{elf, initrd},
        open::{INIT, INITRD, MODULES_DIR},
    },
    domain::StepState,
};

/// Goes into the fingerprint: to be changed when the same parts are assembled in another way.
const LAYOUT: &[u8] = b"newc 1, init kept";

pub(super) fn run(run: &mut Run<'_>) -> Outcome {
    let path = init_path(run)?;
    let build = "build it with `make build`, or give it with --init PATH";
    let init = fs::read(&path).map_err(|e| {
        run.fail(format!("the guest's init {} cannot be read: {e}", path.display()), build)
    })?;
    elf::check_static(&init, ARCH).map_err(|e| {
        run.fail(format!("{} cannot be the guest's init: {e}", path.display()), build)
    })?;
    let modules = &run.manifest().kernel.modules;
    let modules: Vec<&str> = modules.iter().map(|m| file_name(m)).collect();
    let mut parts = vec![LAYOUT.to_vec(), sha256(&init).into_bytes()];
    for name in &modules {
        let file = run.record.files.get(&format!("{MODULES_DIR}/{name}"));
        let Some(file) = file else {
            return Err(run.fail(format!("the kernel's module {name} is missing"), AGAIN));
        };
        parts.push(name.as_bytes().to_vec());
        parts.push(file.sha256.clone().into_bytes());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let fingerprint = fingerprint(&parts);
    if let Some(detail) = run.cached(&fingerprint)? {
        return Ok((StepState::Cached, detail));
    }
    let mut files = Vec::new();
    for name in modules {
        let bytes = fs::read(run.dir().join(MODULES_DIR).join(name));
        files.push((name, bytes.map_err(|e| run.io(name, &e))?));
    }
    let archive = initrd::archive(&init, &files).map_err(|e| run.io("the archive", &e))?;
    let work = run.fresh_dir("initrd")?;
    let from = work.join("initrd");
    fs::write(&from, &archive).map_err(|e| run.io("the archive", &e))?;
    let kept = work.join(INIT);
    fs::write(&kept, &init).map_err(|e| run.io("the init", &e))?;
    let detail = format!("{} modules, {} KiB", files.len(), archive.len() >> 10);
    let output = Output {
        from,
        to: INITRD.to_owned(),
        mode: 0o644,
        source: "banger-init and the kernel's modules".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let kept = Output {
        from: kept,
        to: INIT.to_owned(),
        mode: 0o755,
        source: "banger-init".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    run.commit(fingerprint, &detail, vec![output, kept], None)
}

const AGAIN: &str = "mend what the kernel step said, then run it again";

/// The init that was given, the one beside the program, or the one the last initrd was made with.
fn init_path(run: &Run<'_>) -> Result<PathBuf, Failure> {
    if let Some(path) = &run.options.init {
        return Ok(path.clone());
    }
    let exe = env::current_exe().map_err(|e| run.io("the place of this program", &e))?;
    let dir = exe.parent().unwrap_or_else(|| Path::new("/"));
    let installed = dir.parent().unwrap_or(dir).join(INSTALLED_INIT);
    let known = [installed, dir.join(INIT), run.dir().join(INIT)];
    Ok(known.iter().find(|path| path.is_file()).unwrap_or(&known[1]).clone())
}
