//! Archives of root file systems.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
};

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};
use tar::EntryType;

use super::{
    super::{
        Job,
        layers::{LeftOut, apply},
        tarball::checksum,
        tree::Tree,
    },
    Maker, Options, names, run, run_bytes, run_until, there,
};

/// A PAX extension with these records, as an entry of its own.
fn pax(maker: &mut Maker, records: &[(&str, &[u8])]) {
    let mut data = Vec::new();
    for (key, value) in records {
        let body = key.len() + value.len() + 3;
        // Its own digits count.
        let length = (body..).find(|n| n.to_string().len() + body == *n).expect("a length");
        data.extend(format!("{length} {key}=").into_bytes());
        data.extend(*value);
        data.push(b'\n');
    }
    maker.raw(Maker::header(EntryType::XHeader, 0o644), b"PaxHeaders/x", b"", &data);
}

/// Capabilities with a byte that is a line end: cap_dac_override and cap_fowner.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn rootfs() -> Vec<u8> {
    let mut maker = Maker::new();
    maker.system().dir("etc/").dir("dev/").dir("tmp/");
    let mut header = Maker::header(EntryType::Regular, 0o4711);
    header.set_uid(1001);
    header.set_gid(300_000);
    maker.raw(header, b"bin/su", b"", b"\x7fELF");
    pax(&mut maker, &[("SCHILY.xattr.security.capability", CAPABILITY), ("uid", b"70000")]);
    maker.file("bin/ping", 0o755, b"ping").hard("bin/ping6", "bin/ping");
    maker.file("etc/we \"ird\" näme", 0o000, b"secret").link("etc/out", "../../../../etc/passwd");
    maker.raw(Maker::header(EntryType::Char, 0o666), b"dev/null", b"", b"");
    maker.raw(Maker::header(EntryType::Block, 0o666), b"etc/disk", b"", b"");
    maker.raw(Maker::header(EntryType::Fifo, 0o666), b"etc/pipe", b"", b"");
    maker.file("etc/fstab", 0o600, b"UUID=1 / ext4\nUUID=2 /boot ext4\n");
    // Longer than a header has room for.
    let long = format!("etc/{}", "x".repeat(200));
    pax(&mut maker, &[("path", long.as_bytes())]);
    maker.file("short", 0o644, &vec![7; 300_000]);
    maker.done()
}

#[test]
fn owners_modes_links_and_attributes_come_along_and_devices_do_not() {
    let done = run_bytes(&rootfs());
    done.image();
    let su = done.stat("/bin/su");
    assert!(su.contains("Mode: 04711") && su.contains("User: 1001 Group: 300000"), "{su}");
    let ping = done.stat("/bin/ping");
    assert!(ping.contains("User: 70000") && ping.contains("Links: 2"), "{ping}");
    assert!(ping.contains("security.capability (20)"), "{ping}");
    assert!(ping.contains("0x5f5e1000"), "its time: {ping}");
    assert!(!ping.contains("ctime: 0x6"), "not that of the import: {ping}");
    let out = done.stat("/etc/out");
    assert!(out.contains("Fast link dest: \"../../../../etc/passwd\""), "{out}");
    let secret = done.stat("\"/etc/we \"\"ird\"\" näme\"");
    assert!(secret.contains("Mode: 0000") && secret.contains("User: 0 Group: 0"), "{secret}");
    assert!(!done.has("/dev/null") && !done.has("/etc/disk") && !done.has("/etc/pipe"));
    assert!(done.has("/dev") && done.has("/proc") && done.has("/run"), "for the initrd");
    assert_eq!(done.ask(&format!("cat /etc/{}", "x".repeat(200))).len(), 300_000);
    assert!(done.noted("devices outside of /dev were left out: 1"), "{:?}", done.notes);
    assert!(done.noted("named pipes") && done.noted("no SSH server"), "{:?}", done.notes);
    let fstab = done.ask("cat /etc/fstab");
    assert!(fstab.starts_with("UUID=1 / ext4\n# not there"), "{fstab}");
}

#[test]
fn the_same_content_is_the_same_image_however_it_is_packed() {
    let plain = rootfs();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("packed");
    let zstd = zstd::encode_all(plain.as_slice(), 1).expect("packed");
    let image = run_bytes(&plain).bytes();
    assert!(run_bytes(&gzip.finish().expect("packed")).bytes() == image);
    assert!(run_bytes(&zstd).bytes() == image);
    if !there("the_same_content_is_the_same_image_however_it_is_packed", "xz", "xz-utils") {
        return;
    }
    let mut xz = Command::new("xz");
    let mut xz = xz.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("xz");
    xz.stdin.take().expect("piped").write_all(&plain).expect("packed");
    let mut packed = xz.wait_with_output().expect("packed").stdout;
    assert!(run_bytes(&packed).bytes() == image);
    packed.truncate(packed.len() / 2);
    let why = run_bytes(&packed).refused();
    assert!(why.contains("xz cannot unpack it"), "{why}");
}

#[test]
fn size_is_what_is_asked_for_or_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("root.tar");
    fs::write(&source, rootfs()).expect("written");
    let sized = |size| run(&source, &Options { size: Some(size), ..Options::default() });
    assert_eq!(sized(100 << 20).bytes().len(), 100 << 20);
    let why = sized(20 << 20).refused();
    assert!(why.contains("needs at least 3"), "{why}");
    let why = sized(100_000).refused();
    assert!(why.contains("does not fit"), "{why}");
}

#[test]
fn what_leads_out_is_refused() {
    let evil = |make: &dyn Fn(&mut Maker)| {
        let mut maker = Maker::new();
        maker.system();
        make(&mut maker);
        run_bytes(&maker.done()).refused()
    };
    let out = std::env::temp_dir().join("banger-import-evil");
    let target = out.to_str().expect("UTF-8");
    type Case<'a> = (&'a dyn Fn(&mut Maker) -> &mut Maker, &'a str);
    let cases: [Case<'_>; 12] = [
        (&|m| m.file("../evil", 0o644, b""), "leads out"),
        (&|m| m.file("bin/../../evil", 0o644, b""), "leads out"),
        (&|m| m.dir(".."), "leads out"),
        (&|m| m.link("x", target).file("x/evil", 0o644, b""), "leads nowhere"),
        (&|m| m.link("x", "../../../tmp").file("x/evil", 0o644, b""), "leads out"),
        (&|m| m.link("x", "x").file("x/evil", 0o644, b""), "leads nowhere"),
        (&|m| m.hard("passwd", "/etc/passwd"), "not in it"),
        (&|m| m.hard("passwd", "../../etc/passwd"), "leads out"),
        (&|m| m.hard("x", "bin"), "link to a directory"),
        (&|m| m.file("bin/sh/x", 0o644, b""), "what is a file"),
        (&|m| m.file("a\nb", 0o644, b""), "line break"),
        (&|m| m.file(".", 0o644, b""), "root is no directory"),
    ];
    for (make, reason) in cases {
        let why = evil(&|m| {
            make(m);
        });
        assert!(why.contains(reason), "{reason}: {why}");
    }
    let why = evil(&|m| {
        pax(m, &[("path", "a/".repeat(300).as_bytes())]);
        m.file("x", 0o644, b"");
    });
    assert!(why.contains("deeper"), "{why}");
    assert!(!out.exists());
    // Absolute paths are those of the image, as everywhere in it; and a link in it is followed
    // in it.
    let mut maker = Maker::new();
    maker.system().dir("usr").dir("usr/lib").link("lib", "/usr/lib").file("/lib/x", 0o644, b"1");
    let done = run_bytes(&maker.done());
    done.image();
    assert_eq!(done.ask("cat /usr/lib/x"), "1");
}

#[test]
fn a_damaged_or_boundless_archive_is_refused() {
    let good = rootfs();
    for length in [0, 100, 512, 700, 1024, 5000, good.len() / 2, good.len() - 1024] {
        let why = run_bytes(&good[..length]).refused();
        let word =
            why.contains("truncated") || why.contains("nothing that") || why == "it is empty";
        assert!(word, "{length}: {why}");
    }
    let mut bent = good;
    bent[1024 + 3] ^= 1;
    assert!(run_bytes(&bent).refused().contains("checksum"));
    // A file that claims to be larger than any disk.
    let mut maker = Maker::new();
    maker.system();
    let mut huge = maker.done();
    huge.truncate(huge.len() - 1024);
    let mut header = Maker::header(EntryType::Regular, 0o644);
    header.set_size(1 << 60);
    header.as_gnu_mut().expect("GNU").name[0] = b'x';
    header.set_cksum();
    huge.extend(header.as_bytes());
    let why = run_bytes(&huge).refused();
    assert!(why.contains("does not fit"), "{why}");
    // A name of a gigabyte, if it were read.
    let mut header = Maker::header(EntryType::GNULongName, 0o644);
    header.set_size(1 << 30);
    header.set_cksum();
    let why = run_bytes(&[header.as_bytes().as_slice(), &[b'x'; 4096]].concat()).refused();
    assert!(why.contains("more than a name needs"), "{why}");
    // Zeros without end, which gzip makes small.
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("bomb.tar.gz");
    let mut maker = Maker::new();
    maker.system();
    for index in 0..64 {
        maker.file(&format!("zeros-{index}"), 0o644, &vec![0; 1 << 20]);
    }
    let file = fs::File::create(&source).expect("a file");
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gzip.write_all(&maker.done()).expect("packed");
    drop(gzip);
    let why = run(&source, &Options { size: Some(48 << 20), ..Options::default() }).refused();
    assert!(why.contains("does not fit"), "{why}");
}

#[test]
fn a_tree_without_a_shell_is_refused_and_one_without_an_init_gets_one() {
    let mut maker = Maker::new();
    maker.dir("./").file("hello", 0o755, b"\x7fELF");
    assert!(run_bytes(&maker.done()).refused().contains("neither an init nor a shell"));
    // Alpine's: an init of busybox whose table calls what is not there.
    let table = b"::sysinit:/sbin/openrc sysinit\n";
    maker.dir("bin/").file("bin/busybox", 0o755, b"").link("bin/sh", "/bin/busybox");
    maker.dir("sbin/").link("sbin/init", "/bin/busybox").dir("etc").file(
        "etc/inittab",
        0o644,
        table,
    );
    let bytes = maker.done();
    let done = run_bytes(&bytes);
    done.image();
    assert!(done.stat("/sbin/init").contains("/sbin/banger-container-init"));
    assert!(done.ask("cat /sbin/banger-container-init").starts_with("#!/bin/sh\n"));
    assert!(done.ask("cat /sbin/poweroff").contains("kill -USR2 1"));
    assert!(done.noted("the only way in"), "{:?}", done.notes);
}

#[test]
fn cancelling_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("root.tar");
    fs::write(&source, rootfs()).expect("written");
    let mut ended = 0;
    for nth in 1..200 {
        let done = run_until(&source, &Options::default(), nth);
        if done.result.is_ok() {
            break;
        }
        assert_eq!(done.refused(), "cancelled");
        ended += 1;
    }
    assert!(ended > 5, "{ended} times");
}

#[test]
fn holes_come_along_as_holes() {
    if !there("holes_come_along_as_holes", "tar", "tar") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sbin")).expect("made");
    fs::write(at("sbin/init"), "x").expect("written");
    let file = fs::File::create(at("holes")).expect("made");
    file.set_len(3 << 30).expect("length");
    for place in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", place << 26).expect("written");
    }
    let mut tar = Command::new("tar");
    tar.args(["--sparse", "--format=gnu", "-cf", "source.tar", "sbin", "holes"]);
    assert!(tar.current_dir(dir.path()).status().expect("tar").success());
    let done = run(&at("source.tar"), &Options::default());
    done.image();
    let stat = done.stat("/holes");
    assert!(stat.contains("Size: 3221225472") && stat.contains("Blockcount: 3"), "{stat}");
}

/// Applies an archive to a tree, and nothing else.
fn applied(bytes: &[u8], dir: &Path) -> bool {
    let cancel = AtomicBool::new(false);
    let job = Job::new(dir, &cancel, &|_| ()).expect("a job");
    let mut tree = Tree::new(dir.join("data")).expect("a tree");
    job.limit(16 << 20);
    apply(&job, &mut tree, bytes, true, &mut LeftOut::default()).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_change_of_an_archive_gets_out_or_panics(
        changes in prop::collection::vec((0_usize..6, 0_usize..512, any::<u8>()), 1..6),
        mend in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = rootfs();
        let headers: Vec<usize> = (0..bytes.len() / 512)
            .map(|block| block * 512)
            .filter(|at| &bytes[at + 257..at + 262] == b"ustar")
            .collect();
        for (header, at, byte) in changes {
            let header = headers[header * 7 % headers.len()];
            bytes[header + at] = byte;
            if mend {
                let sum = format!("{:06o}\0 ", checksum(&bytes[header..header + 512]));
                bytes[header + 148..header + 156].copy_from_slice(sum.as_bytes());
            }
        }
        if !mend {
            bytes.truncate(cut.index(bytes.len()));
        }
        let dir = tempfile::tempdir().expect("a directory");
        applied(&bytes, dir.path());
        prop_assert!(names(dir.path()).len() == 1, "{:?}", names(dir.path()));
        let numbers = names(&dir.path().join("data"));
        prop_assert!(numbers.iter().all(|name| name.parse::<u64>().is_ok()), "{numbers:?}");
    }
}
