//! From a disk or a file system to an image: the root found, copied, checked.

use std::{
    cmp::Reverse,
    fs::{self, File},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use super::{
    Blocks, Failure, Job, Options,
    blocks::{self, Part},
    fstab,
    partitions::Partition,
    program, sniff,
};
use crate::{domain::ByteSize, host::disk, image::Ext4};

/// Only these make sense of their own superblock.
const PREEN: [&str; 2] = ["-f", "-p"];

/// Copies a file system into `to` and makes an image of it.
///
/// # Errors
/// If it is damaged beyond a safe repair, does not fit, or holds no system.
pub fn file_system(
    job: &Job<'_>,
    from: &dyn Blocks,
    to: &Path,
    options: &Options,
) -> Result<(), Failure> {
    extract(job, from, to)?;
    if !is_system(job, to)? {
        return Err(Failure::hinted(
            "there is neither an init nor a shell in its file system",
            "give a root file system: one with /sbin/init",
        ));
    }
    finish(job, to, options)
}

/// Finds the root among partitions and makes an image of it.
///
/// # Errors
/// As [`file_system`]; and if none of the partitions is a root that can be used.
pub fn partitioned(
    job: &Job<'_>,
    disk: &dyn Blocks,
    mut found: Vec<Partition>,
    to: &Path,
    options: &Options,
) -> Result<(), Failure> {
    // Those that claim to be a root first, then the larger ones.
    found.sort_by_key(|partition| (partition.role, Reverse(partition.length)));
    let mut seen = Vec::new();
    for partition in &found {
        let Some(part) = Part::new(disk, partition.start, partition.length) else {
            return Err(Failure::broken(format!(
                "partition {} ends behind the end of the disk; it is truncated",
                partition.number
            )));
        };
        let head = part.head(0, 128 * 1024)?;
        if Ext4::parse(&head).is_err() {
            let what = sniff::foreign(&head).unwrap_or("something else");
            seen.push(format!("{} is {what}", partition.number));
            continue;
        }
        job.note(&format!(
            "partition {} of {} ({}) has an ext4 file system",
            partition.number,
            found.len(),
            ByteSize(partition.length)
        ));
        extract(job, &part, to)?;
        if is_system(job, to)? {
            return finish(job, to, options);
        }
        fs::remove_file(to)?;
        seen.push(format!("{} is ext4 without a system", partition.number));
    }
    let parts = if seen.is_empty() { "it has no partitions".to_owned() } else { seen.join(", ") };
    Err(Failure::hinted(
        format!("no partition of it is a root that can be used: {parts}"),
        "a root on ext4, not on LVM, Btrfs, XFS or encrypted, can be imported",
    ))
}

/// Copies a file system out, as far as it goes by its own words, and checks it.
fn extract(job: &Job<'_>, from: &dyn Blocks, to: &Path) -> Result<(), Failure> {
    let fs = Ext4::parse(&from.head(0, Ext4::HEAD)?).map_err(|e| Failure::broken(e.to_string()))?;
    let Some(part) = Part::new(from, 0, fs.size()) else {
        return Err(Failure::broken(format!(
            "its file system needs {}, and it has {}; it is truncated",
            ByteSize(fs.size()),
            ByteSize(from.len())
        )));
    };
    job.step("copy", fs.size());
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(to)?;
    blocks::copy(job, &part, &file)?;
    drop(file);
    check(job, to)
}

/// Has a file system checked, and repaired if that is safe.
///
/// # Errors
/// If it is damaged.
pub fn check(job: &Job<'_>, image: &Path) -> Result<(), Failure> {
    job.step("check", 0);
    // Looking changes nothing: what is whole stays the same to the byte.
    if !has_journal_to_replay(image)? {
        let looked = program::run(job, "e2fsck", [Path::new("-fn"), image], |_| ())?;
        if looked.status.code() == Some(0) {
            return Ok(());
        }
    }
    let args = PREEN.iter().map(Path::new).chain([image]);
    let said = program::run(job, "e2fsck", args, |command| {
        command.env("E2FSPROGS_FAKE_TIME", super::tree::EPOCH.to_string());
    })?;
    match said.status.code() {
        // 1: repaired. 2 asks for a reboot, which no image needs.
        Some(0..=3) => {
            job.note("its file system was not unmounted, or damaged a little: repaired");
            Ok(())
        }
        _ => Err(Failure::hinted(
            format!("its file system is damaged: {}", said.why("e2fsck")),
            "repair a copy of it with e2fsck -f, then import that",
        )),
    }
}

/// Whether changes are in the journal only: e2fsck that may not write looks past them.
fn has_journal_to_replay(image: &Path) -> Result<bool, Failure> {
    // s_feature_incompat, EXT4_FEATURE_INCOMPAT_RECOVER (Linux, ext4/super.rst).
    const AT: u64 = 1024 + 0x60;
    const RECOVER: u8 = 0x4;
    let mut features = [0];
    File::open(image)?.read_exact_at(&mut features, AT)?;
    Ok(features[0] & RECOVER != 0)
}

/// What `debugfs` says to a request; nothing is written.
pub fn ask(job: &Job<'_>, image: &Path, request: &str) -> Result<String, Failure> {
    let args = [Path::new("-R"), Path::new(request), image];
    Ok(program::run(job, "debugfs", args, |_| ())?.out)
}

/// Whether there is such a file, link or directory.
pub fn has(job: &Job<'_>, image: &Path, path: &str) -> Result<bool, Failure> {
    Ok(ask(job, image, &format!("stat {path}"))?.contains("Inode:"))
}

fn is_system(job: &Job<'_>, image: &Path) -> Result<bool, Failure> {
    for path in ["/sbin/init", "/usr/sbin/init", "/bin/sh", "/usr/bin/sh"] {
        if has(job, image, path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The last steps: lines of fstab, size, what to know of it.
fn finish(job: &Job<'_>, image: &Path, options: &Options) -> Result<(), Failure> {
    scrub_fstab(job, image)?;
    let length = fs::metadata(image)?.len();
    if let Some(size) = options.size {
        if size < length {
            return Err(Failure::hinted(
                format!("its file system has {}: it is never shrunk", ByteSize(length)),
                "leave --size out, or give more",
            ));
        }
        job.step("grow", 0);
        disk::grow(image, size)?;
    }
    let mut servers = false;
    for path in ["/usr/sbin/sshd", "/usr/sbin/dropbear", "/usr/bin/dropbear", "/bin/dropbear"] {
        servers = servers || has(job, image, path)?;
    }
    if !servers {
        job.note(super::NO_SSH);
    }
    if !has(job, image, "/sbin/init")? && !has(job, image, "/usr/sbin/init")? {
        job.note("it has no init: a shell on the console is all that a VM of it runs");
    }
    Ok(())
}

/// Takes lines out of /etc/fstab that wait for partitions which did not come along.
fn scrub_fstab(job: &Job<'_>, image: &Path) -> Result<(), Failure> {
    // Not what a link leads to: there is no telling where that is.
    let stat = ask(job, image, "stat /etc/fstab")?;
    if !stat.contains("Type: regular") {
        return Ok(());
    }
    let text = ask(job, image, "cat /etc/fstab")?;
    let Some(changed) = fstab::without_lost_disks(&text) else { return Ok(()) };
    let new = job.dir().join("fstab");
    fs::write(&new, &changed.text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    let script = b"rm /etc/fstab\nwrite fstab /etc/fstab\n\
                  set_inode_field /etc/fstab mode 0100644\n\
                  set_inode_field /etc/fstab uid 0\nset_inode_field /etc/fstab gid 0\n";
    edit(job, image, script)?;
    fs::remove_file(new)?;
    job.note(&format!(
        "/etc/fstab no longer waits for disks that are not there: {}",
        changed.mounts.join(", ")
    ));
    Ok(())
}

/// Has `debugfs` carry out a script; all of it works, or it is an error.
///
/// # Errors
/// What `debugfs` complains of.
pub fn edit(job: &Job<'_>, image: &Path, script: &[u8]) -> Result<(), Failure> {
    let path = job.dir().join("script");
    fs::write(&path, script)?;
    let args = [Path::new("-w"), Path::new("-f"), &path, image];
    let said = program::run(job, "debugfs", args, |command| {
        // It repeats each line. And times are not those of the import: the same source gives the
        // same image.
        command.stdout(std::process::Stdio::null());
        command.env("E2FSPROGS_FAKE_TIME", super::tree::EPOCH.to_string());
    })?;
    fs::remove_file(path)?;
    // The first line is its version.
    let complaint = said.err.lines().skip(1).any(|line| !line.trim().is_empty());
    if complaint || !said.status.success() {
        return Err(Failure::hinted(said.why("debugfs"), "this is a bug in banger"));
    }
    Ok(())
}
