//! The step that takes the guests' kernel and its modules out of Debian's package: those of the
//! initrd one by one, and all of them as one file system.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
};

use super::{
    download::{self, Missing},
    failure::Failure,
    modules,
    run::{Outcome, Output, Run},
};
use crate::{
    bundle::{
        Looked, apt,
        apt::field,
        digest::fingerprint,
        format::bzimage,
        manifest::{Arch, Pinned},
        open::{MODULES_DIR, MODULES_IMAGE, VMLINUX},
    },
    domain::StepState,
};

/// A Debian package as apt would fetch it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    /// In bytes.
    size: u64,
    sha256: String,
}

/// Goes into the fingerprint: to be changed when other things are made of the same package.
const MAKES: &str = "with modules.img 1";

/// Where the package is unpacked.
const TREE: &str = "kernel-tree";

const UPDATE: &str = "run `sudo apt-get update`, then run this again";

pub(super) fn run(run: &mut Run<'_>) -> Outcome {
    let kernel = &run.manifest().kernel;
    let Some(source) = Arch::of_this_machine().and_then(|arch| kernel.source.get(&arch)) else {
        return Err(
            run.fail(format!("the manifest names no kernel for {ARCH}"), "use an x86-64 machine")
        );
    };
    let work = run.kept_dir("kernel")?;
    match (source.pinned(), &source.package) {
        (Some(pinned), _) => of_file(run, &pinned, &work),
        (None, Some(meta)) => of_apt(run, meta, &work),
        (None, None) => Err(run.fail("its source is empty", "correct the manifest")),
    }
}

/// From a `.deb` whose sum the manifest has.
fn of_file(run: &mut Run<'_>, pinned: &Pinned<'_>, work: &Path) -> Outcome {
    let modules = &run.manifest().kernel.modules;
    let parts = [pinned.sha256, &modules.join("\n"), MAKES];
    let fingerprint = fingerprint(&parts.map(str::as_bytes));
    if let Some(detail) = run.cached(&fingerprint)? {
        return Ok((StepState::Cached, detail));
    }
    let deb = download::bring(run, pinned, work, "pinned.deb.part").map_err(|e| match e {
        Missing::Unreachable(why) => run.fail(why, "run it again: it goes on where it was"),
        Missing::Failed(failure) => failure,
    })?;
    let program = run.program("dpkg-deb", work).args(["--show", "--showformat"]);
    let program = program.args(["${Package} ${Version}"]).args([&deb]).keep_stdout();
    let said = run.run_program("dpkg-deb", program, None)?;
    let Some((name, version)) = said.stdout.split_once(' ').filter(|_| said.status.success())
    else {
        let why = format!("{} is no Debian package", download::place(pinned));
        return Err(run.fail(why, "correct the manifest"));
    };
    let package = Package {
        name: name.to_owned(),
        version: version.trim().to_owned(),
        size: 0,
        sha256: pinned.sha256.to_owned(),
    };
    made_of(run, &package, &deb, fingerprint)
}

/// From apt, by the metapackage that depends on the current kernel.
fn of_apt(run: &mut Run<'_>, meta: &str, work: &Path) -> Outcome {
    // apt takes a second to say what it has said before.
    let stamp = apt::stamp(&run.options.apt);
    let looked = run.looked(&stamp);
    let (name, version) = match looked
        .map_or_else(|| find(run, meta, work), |l| Ok((l.package, l.version)))
    {
        Ok(found) => found,
        // apt knows nothing, but there is a kernel: it is as good as it was.
        Err(Failure::Step(problem)) => match made_before(run)? {
            Some(detail) => return Ok((StepState::Cached, format!("{detail} ({})", problem.why))),
            None => return Err(Failure::Step(problem)),
        },
        Err(other) => return Err(other),
    };
    let modules = run.manifest().kernel.modules.join("\n");
    let parts = [&name, &version, &modules, MAKES];
    let fingerprint = fingerprint(&parts.map(str::as_bytes));
    let looked = Looked { stamp, package: name.clone(), version: version.clone() };
    if let Some(detail) = run.cached(&fingerprint)? {
        run.remember(looked)?;
        return Ok((StepState::Cached, detail));
    }
    let package = look_up(run, name, version, work)?;
    let deb = fetch(run, &package, work)?;
    let done = made_of(run, &package, &deb, fingerprint)?;
    run.remember(looked)?;
    Ok(done)
}

/// The step's outputs, out of a package that has been checked.
fn made_of(run: &mut Run<'_>, package: &Package, deb: &Path, fingerprint: String) -> Outcome {
    let outputs = unpack(run, package, deb, &run.manifest().kernel.modules)?;
    let detail = format!("{} {}", package.name, package.version);
    // The package stays with the working directory: were the next step to fail, it would be
    // needed again.
    run.commit(fingerprint, &detail, outputs, None)
}

fn made_before(run: &mut Run<'_>) -> Result<Option<String>, Failure> {
    let fingerprint = run.record.steps.get(run.step()).map(|s| s.fingerprint.clone());
    fingerprint.map_or(Ok(None), |fingerprint| run.cached(&fingerprint))
}

/// Follows the metapackage to the package of the current kernel: its name and version.
fn find(run: &mut Run<'_>, meta: &str, work: &Path) -> Result<(String, String), Failure> {
    run.detail("asking apt");
    let text = show(run, meta, work)?;
    let depends = apt::current(&text);
    depends.ok_or_else(|| run.fail(format!("apt does not know the package {meta}"), UPDATE))
}

/// What apt knows about a version of a package.
fn look_up(
    run: &mut Run<'_>,
    name: String,
    version: String,
    work: &Path,
) -> Result<Package, Failure> {
    let text = show(run, &format!("{name}={version}"), work)?;
    let size = field(&text, "Size").and_then(|size| size.parse().ok());
    let Some((size, sha256)) = size.zip(field(&text, "SHA256")) else {
        return Err(run.fail(format!("apt does not know the package {name}={version}"), UPDATE));
    };
    Ok(Package { name, version, size, sha256: sha256.to_owned() })
}

fn show(run: &mut Run<'_>, package: &str, work: &Path) -> Result<String, Failure> {
    let program = run.program("apt-cache", work).args(["show", "--no-all-versions", package]);
    // Its exit status says no more than an empty answer does.
    Ok(run.run_program("apt-cache", program.keep_stdout(), None)?.stdout)
}

/// Downloads the package with apt, which checks it, unless an earlier run has.
fn fetch(run: &mut Run<'_>, package: &Package, work: &Path) -> Result<PathBuf, Failure> {
    let Package { name, version, size, sha256 } = package;
    run.detail(&format!("fetching {name} {version}"));
    // As apt names it: the colon of an epoch is escaped.
    let found = || -> Option<PathBuf> {
        let entries = fs::read_dir(work).ok()?.flatten();
        entries.map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "deb"))
    };
    if let Some(deb) = found() {
        if run.sha256(&deb)? == *sha256 {
            return Ok(deb);
        }
        fs::remove_file(&deb).map_err(|e| run.io("an old package", &e))?;
    }
    let wanted = format!("{name}={version}");
    let program = run.program("apt-get", work).args(["-o", "APT::Sandbox::User=root"]);
    let program = program.args(["download", &wanted]);
    let growing =
        work.join(format!("{name}_{}_{}.deb", version.replace(':', "%3a"), debian_arch()));
    let ended = run.run_program("apt-get", program, Some((&growing, *size)))?;
    let Some(deb) = found().filter(|_| ended.status.success()) else {
        return Err(run.fail(ended.why("apt-get download"), UPDATE));
    };
    let sum = run.sha256(&deb)?;
    if sum != *sha256 {
        fs::remove_file(&deb).map_err(|e| run.io("a bad package", &e))?;
        let why = format!("the SHA-256 of {name} {version} is {sum}, and has to be {sha256}");
        return Err(run.fail(why, UPDATE));
    }
    Ok(deb)
}

fn debian_arch() -> &'static str {
    match ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

/// Takes the kernel, uncompressed, and the modules out of the package.
fn unpack(
    run: &mut Run<'_>,
    package: &Package,
    deb: &Path,
    wanted: &[String],
) -> Result<Vec<Output>, Failure> {
    run.detail(&format!("unpacking {} {}", package.name, package.version));
    let tree = run.fresh_dir(TREE)?;
    let program = run.program("dpkg-deb", &tree).args(["--extract"]).args([deb, tree.as_path()]);
    let ended = run.run_program("dpkg-deb", program, None)?;
    if !ended.status.success() {
        return Err(run.fail(ended.why("dpkg-deb --extract"), "run it again"));
    }
    // "linux-image-6.1.0-49-cloud-amd64" holds the kernel "6.1.0-49-cloud-amd64".
    let release = package.name.trim_start_matches("linux-image-");
    let vmlinuz = tree.join("boot").join(format!("vmlinuz-{release}"));
    let image = fs::read(&vmlinuz).map_err(|e| run.io(&vmlinuz.display().to_string(), &e))?;
    let kernel = bzimage::payload(&image).and_then(bzimage::unpack).map_err(|e| {
        run.fail(format!("vmlinuz of {} {}: {e}", package.name, package.version), "report it")
    })?;
    if !kernel.starts_with(b"\x7fELF") {
        return Err(run.fail("what is packed in vmlinuz is no ELF kernel", "report it"));
    }
    let vmlinux = tree.join("vmlinux");
    fs::write(&vmlinux, kernel).map_err(|e| run.io("vmlinux", &e))?;

    let output = |from: PathBuf, to: String| Output {
        from,
        to,
        mode: 0o644,
        source: format!("Debian package {}, sha256 {}", package.name, package.sha256),
        version: package.version.clone(),
    };
    let mut outputs = vec![output(vmlinux, VMLINUX.to_owned())];
    let image = modules::make(run, &tree, release)?;
    outputs.push(output(image, MODULES_IMAGE.to_owned()));
    let dir = tree.join("lib/modules").join(release).join("kernel");
    for module in wanted {
        let from = dir.join(module);
        if !from.is_file() {
            let why = format!("{} {} has no module {module}", package.name, package.version);
            return Err(run.fail(why, "it may be built in or compressed there: report it"));
        }
        outputs.push(output(from, format!("{MODULES_DIR}/{}", file_name(module))));
    }
    Ok(outputs)
}

/// The last part of a module's path.
pub(super) fn file_name(module: &str) -> &str {
    module.rsplit('/').next().unwrap_or(module)
}
