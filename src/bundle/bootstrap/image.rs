//! The step that builds a base image with a script.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use super::{
    ahead::Ahead,
    child::Program,
    download::{self, Missing},
    failure::Failure,
    run::{Outcome, Output, Run},
};
use crate::{
    bundle::{
        ImageRecord, PackageManifest,
        digest::fingerprint,
        manifest::{Arch, Image, Source},
        open::IMAGES_DIR,
        sparse,
    },
    domain::{ByteSize, StepState},
};

/// The scripts this banger was built with, by path in the project.
pub(super) fn embedded_scripts() -> BTreeMap<String, String> {
    macro_rules! scripts {
        ($($path:literal),*) => {
            [$(($path.to_owned(), include_str!(concat!("../../../", $path)).to_owned())),*].into()
        };
    }
    scripts![
        "assets/packages/debian.txt",
        "assets/packages/tiny.txt",
        "scripts/image/debian-customize.sh",
        "scripts/image/debian.sh",
        "scripts/image/lib.sh",
        "scripts/image/tiny.sh"
    ]
}

pub(super) fn run(run: &mut Run<'_>, image: &Image, ahead: Option<Ahead<'_>>) -> Outcome {
    match (&image.script, image.size_mib) {
        (Some(script), Some(size_mib)) => built(run, image, script, size_mib, ahead),
        _ => of_file(run, image),
    }
}

/// A raw file system from elsewhere.
fn of_file(run: &mut Run<'_>, image: &Image) -> Outcome {
    let source = Arch::of_this_machine().and_then(|arch| image.source.get(&arch));
    let Some(pinned) = source.and_then(Source::pinned) else {
        return Err(Failure::Skip("there is none for this architecture".to_owned()));
    };
    let about = [&image.about, pinned.sha256, &image.default_memory_mib.to_string()];
    let fingerprint = fingerprint(&about.map(str::as_bytes));
    if let Some(detail) = run.cached(&fingerprint)? {
        return Ok((StepState::Cached, detail));
    }
    let work = run.kept_dir(&format!("image-{}", image.name))?;
    let brought = download::bring(run, &pinned, &work, "image.part").map_err(|e| match e {
        Missing::Unreachable(why) => run.fail(why, "run it again: it goes on where it was"),
        Missing::Failed(failure) => failure,
    })?;
    let disk = work.join(format!("{}.img", image.name));
    run.detail("copying it");
    sparse::copy(&brought, &disk).map_err(|e| run.io(&download::place(&pinned), &e))?;
    done(run, image, fingerprint, disk, download::place(&pinned), None)
}

/// Runs its script, or waits for one that was begun before.
fn built(
    run: &mut Run<'_>,
    image: &Image,
    script: &str,
    size_mib: u64,
    ahead: Option<Ahead<'_>>,
) -> Outcome {
    let scripts = &run.options.scripts;
    if !scripts.contains_key(script) {
        let why = format!("the manifest names the script {script}, which is not there");
        return Err(run.fail(why, "correct the manifest"));
    }
    let fingerprint = fingerprint_of(run, image)?;
    if ahead.is_none()
        && let Some(detail) = run.cached(&fingerprint)?
    {
        return Ok((StepState::Cached, detail));
    }
    run.detail(&format!("building {}", ByteSize(size_mib << 20)));
    let (disk, ended) = match ahead {
        Some(ahead) => ahead.wait(run)?,
        None => {
            let (disk, program) = prepare(run, image, script, size_mib)?;
            (disk, run.run_program("sh", program, None)?)
        }
    };
    if !ended.status.success() {
        return Err(run.fail(ended.why(script), "mend what it says, then run it again"));
    }
    // Read by the scripts; theirs is to say what is wrong with one.
    let packages = run.options.scripts.get(&format!("assets/packages/{}.txt", image.name));
    let packages = packages.and_then(|text| PackageManifest::parse(text).ok());
    let source = format!("{script} from Debian packages");
    done(run, image, fingerprint, disk, source, packages)
}

/// Of everything that goes into an image that a script builds.
pub(super) fn fingerprint_of(run: &Run<'_>, image: &Image) -> Result<String, Failure> {
    let mut parts = vec![serde_json::to_vec(image).map_err(|e| run.io("manifest", &e.into()))?];
    // Scripts may call each other: a change of any counts for all.
    for (path, text) in &run.options.scripts {
        parts.extend([path.clone().into_bytes(), text.clone().into_bytes()]);
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Ok(fingerprint(&parts))
}

/// An empty working directory with the scripts in it: the image that will be there, and the
/// program that makes it.
pub(super) fn prepare(
    run: &Run<'_>,
    image: &Image,
    script: &str,
    size_mib: u64,
) -> Result<(PathBuf, Program), Failure> {
    let work = run.fresh_dir(&format!("image-{}", image.name))?;
    for (path, text) in &run.options.scripts {
        let file = work.join(path);
        let parent = file.parent().unwrap_or(&work);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&file, text));
        written.map_err(|e| run.io(path, &e))?;
    }
    let disk = work.join(format!("{}.img", image.name));
    let size_variable = format!("BANGER_{}_MIB", image.name.to_uppercase().replace('-', "_"));
    let mut program = run
        .program("sh", &work)
        .args([script])
        .args([disk.as_path()])
        .env(&size_variable, size_mib.to_string());
    if geteuid().is_root() || others_may_enter(&work) {
        // So that what a killed run leaves is found by the next one. In a directory that the
        // user ids of a user namespace cannot enter, the script has to stay with /tmp.
        program = program.env("TMPDIR", &work);
    }
    Ok((disk, program))
}

fn done(
    run: &mut Run<'_>,
    image: &Image,
    fingerprint: String,
    disk: PathBuf,
    source: String,
    packages: Option<PackageManifest>,
) -> Outcome {
    let size = disk.metadata().map_err(|e| run.io(&source, &e))?.len();
    let to = format!("{IMAGES_DIR}/{}.img", image.name);
    let record = ImageRecord {
        file: to.clone(),
        about: image.about.clone(),
        default_memory_mib: image.default_memory_mib,
        packages_sha256: packages.as_ref().map(PackageManifest::sha256),
        packages: packages.map_or_else(String::new, |packages| packages.text()),
    };
    let output = Output { from: disk, to, mode: 0o644, source, version: String::new() };
    let detail = ByteSize(size).to_string();
    let done =
        run.commit(fingerprint, &detail, vec![output], Some((image.name.clone(), record)))?;
    // What cannot be removed now is removed with the working directory.
    let _ = run.fresh_dir(&format!("image-{}", image.name));
    Ok(done)
}

/// Whether any user may pass through all directories down to this one.
fn others_may_enter(dir: &Path) -> bool {
    let open = |dir: &Path| dir.metadata().is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    dir.ancestors().all(open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Manifest;

    #[test]
    fn every_script_of_the_manifest_and_what_it_calls_is_in_the_program() {
        let scripts = embedded_scripts();
        for image in Manifest::embedded().images {
            let script = image.script.unwrap();
            assert!(scripts.contains_key(&script), "{script}");
        }
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/image");
        for entry in fs::read_dir(dir).unwrap() {
            let path = format!("scripts/image/{}", entry.unwrap().file_name().display());
            assert!(scripts.contains_key(&path), "{path}");
        }
    }

    #[test]
    fn one_closed_directory_keeps_others_out() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let set = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        set(0o700);
        assert!(!others_may_enter(&inner));
        set(0o711);
        assert_eq!(others_may_enter(&inner), others_may_enter(dir.path().parent().unwrap()));
    }
}
