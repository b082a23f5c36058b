//! The backend with a jailer: a stand-in that makes its directories and enters none of them.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::PathBuf,
};

use banger::{
    domain::SOCKET_PATH_MAX,
    vmm::{
        Backend, MachineExit, MachineSpec, Piece, VmmError,
        firecracker::{
            Firecracker,
            jailer::{Jailer, uid},
        },
    },
};
use nix::{
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd::geteuid,
};

use crate::{Bench, common::skip, exit_of, program};

/// A bench whose machine is jailed, with a node of a block device for a disk, and a state
/// directory so deep that no socket fits into it. `None` if that cannot be.
fn bench(test: &str, manner: &str, jailer_version: &str) -> Option<(Bench, PathBuf)> {
    if !geteuid().is_root() {
        skip(&format!("vmm_firecracker::jailed::{test}"), "only root can make device nodes");
        return None;
    }
    let mut bench = Bench::new(manner);
    let dir = bench.dir.path();
    let base = dir.join("deep".repeat(20)).join("jail");
    let cgroups = dir.join("cgroups");
    fs::create_dir(&cgroups).expect("a directory in the place of the cgroups");
    let disk = dir.join("disk");
    fs::remove_file(&disk).expect("the file");
    let read_write = Mode::S_IRUSR | Mode::S_IWUSR;
    // The first loop device: nothing is to open it.
    mknod(&disk, SFlag::S_IFBLK, read_write, makedev(7, 0)).expect("a node");
    for file in ["vmlinux", "initrd"] {
        fs::set_permissions(dir.join(file), fs::Permissions::from_mode(0o644)).expect("mode");
    }
    let program = dir.join("firecracker");
    let jailer = program::install_jailer(dir, jailer_version);
    let jailer = Jailer::new(jailer, &base).in_cgroups_of(cgroups);
    bench.backend = Firecracker::new(program).jailed_by(jailer);
    Some((bench, base))
}

fn root(bench: &Bench, base: &std::path::Path) -> PathBuf {
    base.join("firecracker").join(format!("banger-{}", bench.spec.vm)).join("root")
}

#[tokio::test]
async fn a_jailed_machine_has_all_it_needs_and_leaves_nothing() {
    let test = "a_jailed_machine_has_all_it_needs_and_leaves_nothing";
    let Some((bench, base)) = bench(test, "", "1.16.1") else { return };
    let pieces = bench.backend.pieces(&bench.spec);
    let cgroup = bench.dir.path().join("cgroups/banger").join(bench.spec.vm.as_str());
    assert_eq!(pieces, [Piece::Cgroup(cgroup.clone()), Piece::Directory(base.clone())]);
    // Of a start that did not come to its end.
    let root = root(&bench, &base);
    fs::create_dir_all(root.join("dev/net")).expect("stale");
    let kernel = bench.dir.path().join("vmlinux");
    let before = fs::metadata(&kernel).expect("kernel");

    for _ in 0..2 {
        let (mut machine, _console) = bench.boot().await;
        let socket = root.join(bench.spec.socket.strip_prefix("/").expect("absolute"));
        assert!(socket.as_os_str().as_bytes().len() > SOCKET_PATH_MAX, "or nothing is tested");
        assert!(socket.exists() && !bench.spec.socket.exists());
        assert!(!root.join("dev").exists(), "what was stale is gone");

        let uid = uid(&bench.spec.vm);
        let disk = fs::metadata(root.join("disk0")).expect("disk");
        assert!(disk.file_type().is_block_device());
        assert_eq!((disk.rdev(), disk.uid(), disk.mode() & 0o777), (makedev(7, 0), uid, 0o600));
        assert_eq!(fs::metadata(bench.dir.path().join("disk")).expect("disk").uid(), 0, "its own");
        let linked = fs::metadata(root.join("vmlinux")).expect("kernel");
        assert_eq!((linked.ino(), linked.uid(), linked.mode()), (before.ino(), 0, before.mode()));
        let run = fs::metadata(socket.parent().expect("a directory")).expect("run");
        assert_eq!((run.uid(), run.mode() & 0o777), (uid, 0o700));
        assert_eq!(fs::metadata(socket.with_file_name("vmm.log")).expect("pipe").uid(), uid);
        assert!(cgroup.exists());

        let notes = bench.notes();
        assert!(notes.iter().any(|line| line.contains(r#""path_on_host":"/disk0""#)), "{notes:?}");
        let said = fs::read_to_string(bench.dir.path().join("jailer.notes")).expect("notes");
        let parent = format!("--cgroup-version 2 --parent-cgroup banger/{} -- ", bench.spec.vm);
        assert!(
            said.contains(&parent) && said.contains(&format!("--uid {uid} --gid {uid} ")),
            "{said}"
        );
        machine.power_button().await.expect("press");
        assert_eq!(exit_of(&mut machine).await, MachineExit::GuestReboot);
    }
    for piece in pieces.iter().rev() {
        piece.remove().expect("removed");
    }
    assert!(!base.exists() && !bench.dir.path().join("cgroups/banger").exists());
    assert_eq!(fs::metadata(&kernel).expect("kernel").nlink(), 1);
}

#[tokio::test]
async fn a_jail_that_cannot_be_leaves_nothing() {
    let test = "a_jail_that_cannot_be_leaves_nothing";
    let Some((mut one, _)) = bench(test, "", "1.16.1") else { return };
    let file = one.dir.path().join("image");
    fs::write(&file, "a file").expect("file");
    one.spec.disks[0].path = file;
    let error = one.fail().await.to_string();
    assert!(error.contains("no block device") && error.contains("loop device"), "{error}");

    let Some((mut two, _)) = bench(test, "", "1.16.1") else { return };
    two.spec = MachineSpec { kernel: "/nonexistent".into(), ..two.spec };
    let error = two.fail().await.to_string();
    assert!(error.starts_with("the jailer failed: /nonexistent: No such file"), "{error}");

    let Some((three, _)) = bench(test, "refuses=start", "1.16.1") else { return };
    assert!(three.fail().await.to_string().contains("Invalid Elf"));
}

#[tokio::test]
async fn a_jailer_of_another_version_is_refused() {
    let test = "a_jailer_of_another_version_is_refused";
    let Some((bench, _)) = bench(test, "", "1.15.0") else { return };
    let error = bench.fail().await;
    assert!(matches!(error, VmmError::Refused { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("version 1.15.0") && error.contains("of 1.16.1"), "{error}");
    assert!(bench.notes().is_empty());
}
