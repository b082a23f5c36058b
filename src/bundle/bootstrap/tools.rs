//! The step that looks for the programs the others run.

use std::env;

use super::{
    Extent,
    failure::Failure,
    run::{Outcome, Run},
};
use crate::{
    bundle::{Manifest, open::find_program},
    domain::{Problem, StepState},
};

/// A program, and the Debian package it is in.
type Tool = (&'static str, &'static str);

/// What the steps run, beside what every Debian has.
const TOOLS: [Tool; 8] = [
    ("apt-get", "apt"),
    ("curl", "curl"),
    ("debugfs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("dpkg-deb", "dpkg"),
    ("mke2fs", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("ssh", "openssh-client"),
];

/// Those of them that a new kernel needs.
const FOR_KERNEL: [&str; 2] = ["apt-get", "dpkg-deb"];

pub(super) fn run(run: &mut Run<'_>) -> Outcome {
    let path = Some(run.options.path.as_os_str());
    let extent = run.options.extent;
    let missing = missing(run.manifest(), extent, |name| find_program(name, path).is_some());
    if missing.is_empty() {
        return Ok((StepState::Done, "all there".to_owned()));
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| package.as_str()).collect();
    Err(Failure::Stop(Problem::new(
        "cannot make the runtime directory",
        format!("these programs are missing: {}", names.join(", ")),
        format!("sudo apt-get install --no-install-recommends {}", packages.join(" ")),
    )))
}

fn missing(
    manifest: &Manifest,
    extent: Extent,
    is_there: impl Fn(&str) -> bool,
) -> Vec<(String, String)> {
    let arch = env::consts::ARCH;
    let qemu = manifest.qemu.program.get(arch).zip(manifest.qemu.package.get(arch));
    let qemu = qemu.map(|(program, package)| (program.clone(), package.clone()));
    let qemu = qemu.filter(|_| extent == Extent::All);
    let needed =
        TOOLS.iter().filter(|(name, _)| extent == Extent::All || FOR_KERNEL.contains(name));
    let tools = needed.map(|(program, package)| ((*program).into(), (*package).into()));
    tools.chain(qemu).filter(|(program, _): &(String, String)| !is_there(program)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let manifest = Manifest::embedded();
        assert!(missing(&manifest, Extent::All, |_| true).is_empty());
        let one = missing(&manifest, Extent::All, |name| name != "mke2fs");
        assert_eq!(one, [("mke2fs".to_owned(), "e2fsprogs".to_owned())]);
        let two = missing(&manifest, Extent::Kernel, |_| false);
        assert_eq!(two.len(), 2, "a machine without QEMU can have a new kernel: {two:?}");
        let all = missing(&manifest, Extent::All, |_| false);
        assert!(all.iter().any(|(program, _)| program.starts_with("qemu-system-")), "{all:?}");
    }
}
