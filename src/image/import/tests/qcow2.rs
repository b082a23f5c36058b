//! QEMU's disks, against what `qemu-img` makes.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
};

use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::{
    super::{Blocks, Qcow2},
    Options,
    disks::ext4,
    run, there,
};

fn qemu_img(args: &[&str], dir: &Path) {
    let said = Command::new("qemu-img").args(args).current_dir(dir).output().expect("qemu-img");
    assert!(said.status.success(), "{args:?}: {said:?}");
}

fn has_tool(test: &str) -> bool {
    there(test, "qemu-img", "qemu-utils")
}

#[test]
fn all_that_qemu_img_writes_is_read_as_it_was() {
    if !has_tool("all_that_qemu_img_writes_is_read_as_it_was") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let root = ext4(dir.path(), &[("sbin/init", "x"), ("etc/motd", "hello\n")]);
    let raw = fs::read(&root).expect("the file system");
    for options in [
        &["-o", "compat=1.1"][..],
        &["-o", "compat=0.10"],
        &["-c", "-o", "compat=0.10,cluster_size=4k"],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-S", "0", "-o", "preallocation=metadata"],
    ] {
        let args = [&["convert", "-f", "raw", "-O", "qcow2"], options, &["fs.img", "d.qcow2"]];
        qemu_img(&args.concat(), dir.path());
        let path = dir.path().join("d.qcow2");
        let disk = Qcow2::open(File::open(&path).expect("a disk")).expect("understood");
        assert_eq!(disk.len(), raw.len() as u64);
        let mut bytes = vec![0; raw.len()];
        disk.read_at(&mut bytes, 0).expect("read");
        assert!(bytes == raw, "{options:?}");
        let done = run(&path, &Options::default());
        assert!(done.bytes() == raw, "{options:?}");
        assert_eq!(done.result.as_ref().expect("imported").what, "qcow2, an ext4 file system");
        fs::remove_file(path).expect("removed");
    }
}

#[test]
fn what_leads_to_other_files_or_needs_a_key_is_refused() {
    if !has_tool("what_leads_to_other_files_or_needs_a_key_is_refused") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    ext4(dir.path(), &[("sbin/init", "x")]);
    let refused = |name: &str| run(&dir.path().join(name), &Options::default()).refused();
    qemu_img(&["create", "-f", "qcow2", "-b", "fs.img", "-F", "raw", "b.qcow2"], dir.path());
    assert!(refused("b.qcow2").contains("backing file"));
    qemu_img(&["create", "-f", "qcow2", "-o", "data_file=d.raw", "d.qcow2", "8M"], dir.path());
    assert!(refused("d.qcow2").contains("another file"));
    let luks = "encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10";
    qemu_img(
        &["create", "--object", "secret,id=k,data=x", "-f", "qcow2", "-o", luks, "e.qcow2", "8M"],
        dir.path(),
    );
    assert!(refused("e.qcow2").contains("encrypted"));
    qemu_img(&["create", "-f", "qcow2", "-o", "extended_l2=on", "x.qcow2", "8M"], dir.path());
    assert!(refused("x.qcow2").contains("extended tables"));
    qemu_img(&["create", "-f", "qcow2", "empty.qcow2", "8M"], dir.path());
    assert!(refused("empty.qcow2").contains("nothing that is known"));
    qemu_img(&["convert", "-c", "-f", "raw", "-O", "qcow2", "fs.img", "c.qcow2"], dir.path());
    let file = File::options().write(true).open(dir.path().join("c.qcow2")).expect("a disk");
    file.write_all_at(&[2], 79).expect("written");
    assert!(refused("c.qcow2").contains("corrupt"));
    file.write_all_at(&[0], 79).expect("written");
    run(&dir.path().join("c.qcow2"), &Options::default()).image();
    file.write_all_at(&[9], 7).expect("written");
    assert!(refused("c.qcow2").contains("version 9"));
    file.write_all_at(&[3], 7).expect("written");
    file.set_len(200_000).expect("cut");
    let why = refused("c.qcow2");
    assert!(why.contains("truncated") || why.contains("cannot be unpacked"), "{why}");
}

/// A disk of two clusters: one of data, one of zeros.
fn small() -> Vec<u8> {
    let mut bytes = vec![0; 5 * 65536];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &16_u32.to_be_bytes());
    put(24, &131_072_u64.to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &65_536_u64.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(65_536, &(131_072_u64 | 1 << 63).to_be_bytes());
    put(131_072, &(196_608_u64 | 1 << 63).to_be_bytes());
    put(196_608, b"data");
    bytes
}

/// Reads all of a disk, if it can be.
fn all(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut file = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut file, bytes).expect("written");
    let disk = Qcow2::open(file).ok()?;
    let mut all = vec![1; usize::try_from(disk.len().min(1 << 20)).expect("small")];
    disk.read_at(&mut all, 0).ok()?;
    disk.next_data(disk.len() / 2).ok()?;
    Some(all)
}

#[test]
fn a_disk_made_by_hand_is_read() {
    let disk = all(&small()).expect("a disk");
    assert_eq!(disk.len(), 131_072);
    assert!(disk.starts_with(b"data\0"));
    assert!(disk[4..].iter().all(|byte| *byte == 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_change_of_a_disk_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in 0_usize..5 * 65536,
    ) {
        // All that means something, before and after the data.
        let places: Vec<usize> = (0..112).chain(65_536..65_544).chain(131_072..131_088).collect();
        let mut bytes = small();
        for (place, byte) in changes {
            bytes[*place.get(&places)] = byte;
        }
        all(&bytes);
        bytes.truncate(cut);
        all(&bytes);
    }
}
