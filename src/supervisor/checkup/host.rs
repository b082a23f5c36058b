//! What the machine has.

use std::{env, ffi::OsString, os::unix::fs::PermissionsExt, path::PathBuf};

use crate::{
    domain::{ByteSize, CheckView, Layout, Problem},
    host::{disk, facts},
};

/// Below this much free space a start can fail for want of it: the room of a small guest's disk.
pub(super) const SPACE_LEAST: u64 = 64 << 20;
/// Below this much it is worth a word: the room of a `debian` disk.
const SPACE_WARN: u64 = 1 << 30;

pub(super) fn qemu(path: &str) -> CheckView {
    const ID: &str = "qemu";
    let name = format!("qemu-system-{}", env::consts::ARCH);
    let package =
        if env::consts::ARCH == "aarch64" { "qemu-system-arm" } else { "qemu-system-x86" };
    let Some(program) = find(&name, path) else {
        return CheckView::failed(
            ID,
            Problem::new(
                "there is no QEMU",
                format!("{name} is not in PATH"),
                format!("install it: sudo apt-get install --no-install-recommends {package}"),
            ),
        );
    };
    match facts::qemu_version(&program) {
        Ok(version) => CheckView::ok(ID, format!("{} is version {version}", program.display()), ""),
        Err(e) => CheckView::failed(
            ID,
            Problem::new(
                format!("{} cannot be used", program.display()),
                e.to_string(),
                format!("install it anew: sudo apt-get install --reinstall {package}"),
            ),
        ),
    }
}

pub(super) fn space(layout: &Layout) -> Option<CheckView> {
    const ID: &str = "space";
    // If it is not there, the check of the directories says so.
    let free = disk::free_space(&layout.state).ok()?;
    let what = format!("{} free for {}", ByteSize(free), layout.state.display());
    let fix = "remove VMs (`banger rm`) and images (`banger images rm`) that are not needed, or set \
               BANGER_STATE_DIR to a larger disk";
    Some(if free < SPACE_LEAST {
        CheckView::failed("space", Problem::new(what, "new disks do not fit", fix))
    } else if free < SPACE_WARN {
        CheckView::warning(ID, what, "a VM that fills its disk may not find the room", fix)
    } else {
        CheckView::ok(ID, what, "")
    })
}

pub(super) fn ssh(path: &str) -> CheckView {
    const ID: &str = "ssh";
    let missing: Vec<_> =
        ["ssh", "ssh-keygen"].into_iter().filter(|name| find(name, path).is_none()).collect();
    if missing.is_empty() {
        return CheckView::ok(ID, "ssh and ssh-keygen are there", "");
    }
    CheckView::failed(
        ID,
        Problem::new(
            format!("{} cannot be found in PATH", missing.join(" and ")),
            "shells in VMs are opened with them",
            "install them: sudo apt-get install openssh-client",
        ),
    )
}

pub(super) fn resize(path: &str) -> CheckView {
    const ID: &str = "resize2fs";
    // Normal users of Debian have no sbin in PATH, and banger looks there all the same.
    match find("resize2fs", &format!("{path}:/usr/sbin:/sbin")) {
        Some(_) => CheckView::ok(ID, "resize2fs is there", ""),
        None => CheckView::warning(
            ID,
            "resize2fs cannot be found",
            "disks larger than their image are grown with it",
            "install it: sudo apt-get install e2fsprogs",
        ),
    }
}

fn find(name: &str, path: &str) -> Option<PathBuf> {
    env::split_paths(&OsString::from(path)).map(|dir| dir.join(name)).find(|file| {
        file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CheckLevel;

    #[test]
    fn programs_are_looked_for_in_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert_eq!(ssh(path).level, CheckLevel::Failed);
        assert!(ssh(path).what.starts_with("ssh and ssh-keygen cannot"));
        for name in ["ssh", "ssh-keygen"] {
            let file = dir.path().join(name);
            std::fs::write(&file, "").unwrap();
            assert_eq!(ssh(path).level, CheckLevel::Failed, "not executable");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        }
        assert_eq!(ssh(path).level, CheckLevel::Ok);
    }
}
