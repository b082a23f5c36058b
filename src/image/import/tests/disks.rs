//! Disks and file systems.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use gptman::{GPT, GPTPartitionEntry};
use tempfile::TempDir;

use super::{super::Kind, Maker, Options, e2fs, run, run_bytes};

const MIB: u64 = 1 << 20;
const LINUX: [u8; 16] = [
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];
/// Roots of x86-64 and arm64, EFI, BIOS boot (Discoverable Partitions Specification, UEFI, GRUB).
const ROOT: [u8; 16] = if cfg!(target_arch = "aarch64") {
    [0x45, 0xb0, 0x21, 0xb9, 0xf0, 0x1d, 0xc3, 0x41, 0xaf, 0x44, 0x4c, 0x6f, 0x28, 0x0d, 0x3f, 0xae]
} else {
    [0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09]
};
const EFI: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
const BIOS: [u8; 16] = [
    0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49,
];

/// An ext4 file system of 48 MiB with these files in it.
pub fn ext4(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
    let tree = dir.join("tree");
    for (path, text) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }
    let image = dir.join("fs.img");
    File::create(&image).expect("a file").set_len(48 * MIB).expect("a length");
    let args =
        [Path::new("-q"), Path::new("-F"), Path::new("-text4"), Path::new("-d"), &tree, &image];
    assert!(e2fs("mke2fs", &args).status.success());
    fs::remove_dir_all(tree).expect("removed");
    image
}

/// The root of a cloud image as Debian makes it, as far as a boot looks at it.
fn cloud_root(dir: &Path) -> PathBuf {
    let fstab = "PARTUUID=1c0f / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n\
                 PARTUUID=2d1e /boot/efi vfat defaults 0 0\n";
    ext4(
        dir,
        &[
            ("etc/fstab", fstab),
            ("etc/os-release", "ID=debian\n"),
            ("etc/cloud/cloud.cfg", "datasource_list: [NoCloud]\n"),
            ("usr/sbin/sshd", "\x7fELF"),
            ("usr/bin/cloud-init", "#!/usr/bin/python3\n"),
            ("var/lib/dpkg/status", "Package: bash\nStatus: install ok installed\nVersion: 5\n"),
            ("sbin/init", "\x7fELF"),
            ("boot/grub/grub.cfg", "search --fs-uuid\n"),
        ],
    )
}

/// A disk with a file system as its partition 1 between others, as cloud images have it.
fn gpt(dir: &Path, root: &Path, kind: [u8; 16], others: bool) -> PathBuf {
    let path = dir.join("disk.raw");
    let mut disk = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .expect("a file");
    disk.set_len(96 * MIB).expect("a length");
    let mut table = GPT::new_from(&mut disk, 512, [7; 16]).expect("a table");
    let mut add = |number: u32, guid: [u8; 16], start: u64, mib: u64| {
        table[number] = GPTPartitionEntry {
            partition_type_guid: guid,
            unique_partition_guid: [u8::try_from(number).expect("small"); 16],
            starting_lba: start,
            ending_lba: start + mib * 2048 - 1,
            attribute_bits: 0,
            partition_name: "".into(),
        };
    };
    add(1, kind, 40 * 2048, 48);
    if others {
        add(14, BIOS, 2048, 3);
        add(15, EFI, 8192, 8);
        add(16, LINUX, 16 * 2048, 16);
    }
    table.write_into(&mut disk).expect("written");
    GPT::write_protective_mbr_into(&mut disk, 512).expect("written");
    disk.write_all_at(&fs::read(root).expect("a root"), 40 * MIB).expect("written");
    path
}

fn workshop() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn a_cloud_image_loses_its_table_and_its_lost_partitions() {
    let dir = workshop();
    let root = cloud_root(dir.path());
    for (kind, others) in [(ROOT, true), (LINUX, true), (EFI, false)] {
        let disk = gpt(dir.path(), &root, kind, others);
        let done = run(&disk, &Options::default());
        done.image();
        assert!(done.has("/etc/cloud/cloud.cfg"));
        let fstab = done.ask("cat /etc/fstab");
        assert!(fstab.starts_with("/dev/vda / ext4 rw,discard"), "{fstab}");
        assert!(fstab.contains("banger: PARTUUID=2d1e /boot/efi"), "{fstab}");
        assert!(done.noted("/boot/efi") && !done.noted("no SSH"), "{:?}", done.notes);
        let imported = done.result.as_ref().expect("imported");
        assert_eq!(imported.what, "a disk with a GUID partition table");
        assert!(imported.system.cloud_init);
        assert_eq!(imported.system.packages, ["bash 5"]);
        assert!(run(&disk, &Options::default()).bytes() == done.bytes(), "the same twice");
    }
}

#[test]
fn a_table_that_is_damaged_is_read_from_its_copy_or_refused() {
    let dir = workshop();
    let disk = gpt(dir.path(), &cloud_root(dir.path()), ROOT, true);
    let file = File::options().write(true).open(&disk).expect("the disk");
    // The table's own sum is wrong now; the copy at the end is whole.
    file.write_all_at(&[9; 64], 1024).expect("written");
    run(&disk, &Options::default()).image();
    file.write_all_at(&[9; 64], 96 * MIB - 33 * 512).expect("written");
    let why = run(&disk, &Options::default()).refused();
    assert!(why.contains("partition table is damaged"), "{why}");
    // Cut off in the root.
    let disk = gpt(dir.path(), &cloud_root(dir.path()), ROOT, true);
    File::options().write(true).open(&disk).expect("the disk").set_len(60 * MIB).expect("cut");
    let why = run(&disk, &Options::default()).refused();
    assert!(why.contains("truncated"), "{why}");
}

#[test]
fn an_old_partition_table_and_its_logical_partitions_are_read() {
    let dir = workshop();
    let root = fs::read(cloud_root(dir.path())).expect("a root");
    let entry = |kind: u8, start: u32, length: u32| {
        let mut entry = [0; 16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&length.to_le_bytes());
        entry
    };
    let table = |entries: &[[u8; 16]]| {
        let mut block = vec![0; 512];
        for (index, entry) in entries.iter().enumerate() {
            block[446 + 16 * index..][..16].copy_from_slice(entry);
        }
        block[510..].copy_from_slice(&[0x55, 0xaa]);
        block
    };
    let path = dir.path().join("disk.raw");
    let sectors = u32::try_from(48 * 2048).expect("small");
    let disk = File::create(&path).expect("a file");
    disk.set_len(64 * MIB).expect("a length");
    disk.write_all_at(&table(&[entry(0x83, 2048, sectors)]), 0).expect("written");
    disk.write_all_at(&root, MIB).expect("written");
    let done = run(&path, &Options::default());
    done.image();
    assert!(done.result.as_ref().expect("imported").what.contains("MBR"));
    // The same place, in the second link of a chain of logical ones.
    disk.write_all_at(&table(&[entry(0x0c, 63, 10), entry(0x05, 100, sectors + 4000)]), 0)
        .expect("written");
    disk.write_all_at(&table(&[entry(0x82, 1, 8), entry(0x05, 100, 2000)]), 100 * 512)
        .expect("written");
    disk.write_all_at(&table(&[entry(0x83, 1848, sectors)]), 200 * 512).expect("written");
    run(&path, &Options::default()).image();
    // A chain that bites its tail.
    disk.write_all_at(&table(&[entry(0x83, 5, 5), entry(0x05, 100, 2000)]), 200 * 512)
        .expect("written");
    let why = run(&path, &Options::default()).refused();
    assert!(why.contains("circle"), "{why}");
}

#[test]
fn what_is_not_ext4_is_called_by_its_name() {
    let dir = workshop();
    let root = dir.path().join("part.img");
    for (at, magic, name) in [
        (0, &b"LUKS\xba\xbe"[..], "LUKS"),
        (0, b"XFSB", "XFS"),
        (0x1_0040, b"_BHRfS_M", "Btrfs"),
        (0x218, b"LVM2 001", "LVM"),
        (3, b"NTFS    ", "Windows"),
    ] {
        let mut bytes = vec![0; 1 << 20];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        fs::write(&root, &bytes).expect("written");
        let why = run(&root, &Options::default()).refused();
        assert!(why.contains(name), "{name}: {why}");
        let disk = gpt(dir.path(), &root, LINUX, false);
        let why = run(&disk, &Options::default()).refused();
        assert!(why.contains("1 is") && why.contains(name), "{name}: {why}");
    }
    for (bytes, word) in [
        (&b"PK\x03\x04aaaa"[..], "zip"),
        (b"KDMV", "VMware"),
        (b"hello", "nothing that is known"),
        (b"", "empty"),
    ] {
        let why = run_bytes(bytes).refused();
        assert!(why.contains(word), "{why}");
    }
    assert!(run(Path::new("/dev/null"), &Options::default()).refused().contains("no regular file"));
    assert!(run(&dir.path().join("none"), &Options::default()).refused().contains("No such file"));
    let layout = run(dir.path(), &Options::default()).refused();
    assert!(layout.contains("neither an index.json"), "{layout}");
    let kind = Options { kind: Kind::Qcow2, ..Options::default() };
    let root = cloud_root(dir.path());
    assert!(run(&root, &kind).refused().contains("it is no qcow2"));
    let kind = Options { kind: Kind::Raw, ..Options::default() };
    fs::write(dir.path().join("x.tar"), Maker::new().system().done()).expect("written");
    let why = run(&dir.path().join("x.tar"), &kind).refused();
    assert!(why.contains("neither a partition table"), "{why}");
}

#[test]
fn a_file_system_is_copied_to_the_byte_repaired_if_that_is_safe_and_grown() {
    let dir = workshop();
    let source = ext4(dir.path(), &[("sbin/init", "x"), ("bin/dropbear", "x")]);
    let before = fs::read(&source).expect("the source");
    let done = run(&source, &Options::default());
    assert!(done.bytes() == before, "a copy");
    assert!(done.notes.is_empty(), "{:?}", done.notes);
    let grown = run(&source, &Options { size: Some(100 * MIB), ..Options::default() });
    assert_eq!(grown.bytes().len() as u64, 100 * MIB);
    let why = run(&source, &Options { size: Some(10 * MIB), ..Options::default() }).refused();
    assert!(why.contains("never shrunk"), "{why}");
    // A count that is wrong, and has only one right value.
    let file = File::options().write(true).open(&source).expect("the source");
    let script = dir.path().join("script");
    for said in [
        "set_inode_field /sbin/init links_count 5\n",
        // A change that is in the journal only: the machine was switched off.
        "journal_open -c\njournal_write -b 9000 /dev/zero\njournal_close\n",
    ] {
        fs::write(&script, said).expect("written");
        let args = [Path::new("-w"), Path::new("-f"), &script, &source];
        assert!(e2fs("debugfs", &args).status.success());
        let done = run(&source, &Options::default());
        done.image();
        assert!(done.noted("repaired"), "{said}: {:?}", done.notes);
        let features = String::from_utf8(
            e2fs("dumpe2fs", &[Path::new("-h"), &done.dir.path().join("root.img")]).stdout,
        );
        assert!(!features.expect("text").contains("needs_recovery"), "{said}");
    }
    // Damaged: the bitmaps and the inodes of the first group.
    file.write_all_at(&vec![0xa5; 1 << 20], 8192).expect("written");
    let why = run(&source, &Options::default()).refused();
    assert!(why.contains("damaged"), "{why}");
    file.set_len(20 * MIB).expect("cut");
    let why = run(&source, &Options::default()).refused();
    assert!(why.contains("truncated"), "{why}");
    let empty = ext4(dir.path(), &[("home/me", "x")]);
    let why = run(&empty, &Options::default()).refused();
    assert!(why.contains("neither an init nor a shell"), "{why}");
}
