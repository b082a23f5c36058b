use super::*;

#[test]
fn every_vm_has_a_user_of_its_own_that_nobody_else_has() {
    let of = |bytes| uid(&VmId::from_bytes(bytes));
    assert_eq!(of([0; 4]), 1_879_048_192);
    assert_eq!(of([0, 0, 0, 7]), 1_879_048_199);
    assert_ne!(of([1, 0, 0, 7]), of([2, 0, 0, 7]));
    let highest = of([0xff; 4]);
    assert_eq!(highest, 1_879_048_192 + (1 << 27) - 1);
    assert!(highest <= 2_147_352_575);
}

#[test]
fn the_hierarchy_of_version_2_is_found_wherever_it_is() {
    let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                  cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                  cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
    assert_eq!(unified(hybrid), Some("/sys/fs/cgroup/unified".into()));
    assert_eq!(unified("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0"), Some("/sys/fs/cgroup".into()));
    assert_eq!(unified("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\nx\n"), None);
}

#[test]
fn a_jailers_pieces_are_known_before_it_runs() {
    let vm = VmId::from_bytes([0, 0, 0, 1]);
    let plain = Jailer::new("/j", "/state/vms/00000001/jail");
    let directory = Piece::Directory("/state/vms/00000001/jail".into());
    assert_eq!(plain.pieces(&vm), std::slice::from_ref(&directory));
    let grouped = plain.in_cgroups_of("/sys/fs/cgroup");
    let cgroup = Piece::Cgroup("/sys/fs/cgroup/banger/00000001".into());
    assert_eq!(grouped.pieces(&vm), [cgroup, directory]);
}

#[test]
fn a_file_that_not_all_may_read_is_copied_and_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("temp");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, "kernel").expect("file");
    fs::set_permissions(&from, Permissions::from_mode(0o600)).expect("mode");
    provide(&from, &to).expect("copied");
    let (from, to) = (fs::metadata(from).expect("from"), fs::metadata(to).expect("to"));
    assert_ne!(from.ino(), to.ino());
    assert_eq!((from.mode() & 0o777, to.mode() & 0o777), (0o600, 0o444));
}

#[test]
fn a_cgroup_is_made_also_if_it_is_there() {
    let dir = tempfile::tempdir().expect("temp");
    let vm = VmId::from_bytes([0, 0, 0, 1]);
    for _ in 0..2 {
        make_cgroup(dir.path(), &vm).expect("made");
    }
    assert!(dir.path().join("banger/00000001").is_dir());
    let error = make_cgroup(&dir.path().join("none"), &vm).expect_err("no hierarchy");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
