//! A bootstrap without a network: apt is played by scripts, the download host by a thread.

use std::{
    env::{self, consts::ARCH},
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use banger::{
    bundle::{
        Arch, BootstrapOptions, BootstrapReport, Event, Image, Manifest, Member, Source, Sources,
        bootstrap as run,
    },
    domain::{Problem, StepState},
};
use sha2::{Digest, Sha256};

/// Builds an image of 8 MiB. `block-<name>` in the fixture's directory makes it wait for ever
/// after it has said "blocked".
const SCRIPT: &str = r#"
set -eu
name=$(basename "$1" .img)
if [ -e "$FIXTURE/block-$name" ]; then echo "blocked"; sleep 1000; fi
if [ -e "$FIXTURE/break-$name" ]; then echo "the mirror is on fire" >&2; exit 7; fi
truncate -s "$(printenv "BANGER_$(echo "$name" | tr a-z A-Z)_MIB")M" "$1"
mke2fs -q -F -t ext4 "$1"
: >"$FIXTURE/built-$name"
"#;

const APT_CACHE: &str = r#"#!/bin/sh
for last; do :; done
cat "$FIXTURE/lists/show-${last%%=*}"
"#;

const APT_GET: &str = r#"#!/bin/sh
for last; do :; done
echo "$last" >>"$FIXTURE/downloads"
if [ -e "$FIXTURE/block-kernel" ]; then echo "blocked"; sleep 1000; fi
if [ -e "$FIXTURE/after-two" ]; then
    turns=0
    while [ ! -e "$FIXTURE/built-two" ]; do
        turns=$((turns + 1))
        [ $turns -lt 1000 ] || { echo "two does not come" >&2; exit 1; }
        sleep 0.1
    done
fi
cp "$FIXTURE/kernel.deb" "./${last%%=*}_${last##*=}_amd64.deb"
"#;

/// Everything a bootstrap needs, in a directory of its own.
pub struct Fixture {
    pub options: BootstrapOptions,
    pub root: PathBuf,
    pub host: Host,
    _dir: Option<tempfile::TempDir>,
}

/// The ends of steps, with what they said.
pub type Steps = Vec<(String, StepState, String)>;

impl Fixture {
    /// With a download host, and a kernel 1.0.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let bin = root.join("bin");
        fs::create_dir(&bin).unwrap();
        fs::create_dir(root.join("lists")).unwrap();
        for (name, text) in [("apt-cache", APT_CACHE), ("apt-get", APT_GET)] {
            program(&bin.join(name), &text.replace("$FIXTURE", root.to_str().unwrap()));
        }
        for name in ["mmdebstrap", "ssh", "qemu-system-x86_64", "qemu-system-aarch64"] {
            program(&bin.join(name), "#!/bin/sh\nexit 1\n");
        }
        fs::write(root.join("init"), static_program()).unwrap();
        kernel(&root, "1.0", b"\x7fELF kernel 1.0");
        let tgz = archive();
        let host = Host::start(tgz.clone());
        let fixture =
            Self { options: options(&root, &host.url, &tgz), root, host, _dir: Some(dir) };
        assert!(fixture.options.path.to_str().unwrap().starts_with(bin.to_str().unwrap()));
        fixture
    }

    /// Runs a bootstrap; a log line that is `cancel_at` cancels it.
    pub fn run_until(&self, cancel_at: &str) -> Result<(BootstrapReport, Steps), Problem> {
        let cancel = AtomicBool::new(false);
        let mut see = |event: Event<'_>| {
            if matches!(event, Event::Log(line) if line == cancel_at) {
                cancel.store(true, Ordering::Relaxed);
            }
        };
        let report = run(&self.options, &mut see, &cancel)?;
        let end = |s: &banger::domain::StepView| (s.name.clone(), s.state, s.detail.clone());
        let steps = report.steps.iter().map(end).collect();
        Ok((report, steps))
    }

    /// Runs a bootstrap to its end; panics if it could not begin.
    pub fn run(&self) -> (BootstrapReport, Steps) {
        self.run_until("").unwrap()
    }

    /// Makes a step say "blocked" and wait for ever, break, or neither; with `after-two` the kernel
    /// comes when the image "two" is built, and not before.
    pub fn set(&self, switch: &str, on: bool) {
        let path = self.root.join(switch);
        if on { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// What apt was asked to download so far.
    pub fn downloads(&self) -> usize {
        fs::read_to_string(self.root.join("downloads")).map_or(0, |t| t.lines().count())
    }

    /// Where Firecracker comes from.
    pub fn firecracker(&mut self) -> &mut Source {
        let arch = Arch::of_this_machine().unwrap();
        self.options.manifest.firecracker.source.get_mut(&arch).unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.options.dir.join(name)
    }
}

fn options(root: &Path, url: &str, tgz: &[u8]) -> BootstrapOptions {
    let mut options = BootstrapOptions::new(root.join("runtime"), Some(root.join("init")));
    options.manifest = manifest(url, tgz);
    let mut path = root.join("bin").into_os_string();
    path.push(":");
    path.push(&options.path);
    options.path = path;
    options.apt = vec![root.join("lists")];
    let script = SCRIPT.replace("$FIXTURE", root.to_str().unwrap());
    options.scripts = [("scripts/image.sh".to_owned(), script)].into();
    options
}

/// The options of a fixture that another process made.
pub fn options_of(root: &Path) -> BootstrapOptions {
    options(root, &fs::read_to_string(root.join("url")).unwrap(), &archive())
}

fn manifest(url: &str, tgz: &[u8]) -> Manifest {
    let mut manifest = Manifest::embedded();
    let member = |(file, path, bytes): &(&str, &str, &[u8])| Member {
        file: (*file).to_owned(),
        path: (*path).to_owned(),
        sha256: Some(hex(bytes)),
    };
    let archive = Source {
        url: Some(url.to_owned()),
        sha256: Some(hex(tgz)),
        members: MEMBERS.iter().map(member).collect(),
        ..Source::default()
    };
    let arch = Arch::of_this_machine().unwrap();
    manifest.firecracker.source.insert(arch, archive);
    let kernel = Source { package: Some("linux-meta".to_owned()), ..Source::default() };
    manifest.kernel.source.insert(arch, kernel);
    manifest.kernel.modules = vec!["drivers/b.ko".into(), "net/a.ko".into()];
    let image = |name: &str| Image {
        name: name.into(),
        about: format!("the {name} image"),
        script: Some("scripts/image.sh".into()),
        size_mib: Some(8),
        source: Sources::new(),
        default_memory_mib: 128,
        licence: "MIT".into(),
    };
    manifest.images = vec![image("one"), image("two")];
    manifest
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// An ELF header with one program header that is no `PT_INTERP`: static, if not much of a
/// program.
fn static_program() -> Vec<u8> {
    let mut file = vec![0; 64 + 56];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[18] = if ARCH == "aarch64" { 183 } else { 62 };
    (file[32], file[54], file[56], file[64]) = (64, 56, 1, 1);
    file
}

/// Makes apt offer this kernel.
pub fn kernel(root: &Path, version: &str, kernel: &[u8]) {
    let name = format!("linux-image-{version}-test");
    let tree = root.join(format!("tree-{version}"));
    for dir in ["DEBIAN", "boot"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    fs::write(tree.join("boot").join(format!("vmlinuz-{version}-test")), bzimage(kernel)).unwrap();
    for module in ["drivers/b.ko", "net/a.ko"] {
        let path = tree.join(format!("lib/modules/{version}-test/kernel")).join(module);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{module} {version}")).unwrap();
    }
    let deb = root.join("kernel.deb");
    let mut dpkg = Command::new("dpkg-deb");
    let built = dpkg.args(["--root-owner-group", "-Znone", "--build"]).args([&tree, &deb]).output();
    assert!(built.unwrap().status.success(), "dpkg-deb");
    let deb = fs::read(deb).unwrap();
    let meta = format!("Package: linux-meta\nDepends: {name} (= {version})\n");
    fs::write(root.join("lists/show-linux-meta"), meta).unwrap();
    let show = format!("Package: {name}\nSize: {}\nSHA256: {}\n", deb.len(), hex(&deb));
    fs::write(root.join(format!("lists/show-{name}")), show).unwrap();
}

/// A bzImage with one set-up sector and an LZ4 payload.
fn bzimage(kernel: &[u8]) -> Vec<u8> {
    let block = lz4_flex::block::compress(kernel);
    let mut payload = 0x184c_2102_u32.to_le_bytes().to_vec();
    payload.extend((block.len() as u32).to_le_bytes());
    payload.extend(block);
    payload.extend((kernel.len() as u32).to_le_bytes());
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend(payload);
    image
}

const MEMBERS: [(&str, &str, &[u8]); 2] =
    [("firecracker", "release/firecracker", b"fire"), ("jailer", "release/jailer", b"jail")];

fn archive() -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut tar = tar::Builder::new(gzip);
    for (_, path, bytes) in MEMBERS {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, path, bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// A web server of one file on the loopback; ends with the test's process.
pub struct Host {
    pub url: String,
    state: Arc<Mutex<HostState>>,
}

struct HostState {
    body: Vec<u8>,
    /// After this many bytes of an answer nothing more comes, and the line stays open.
    stall_after: Option<usize>,
    /// After this many bytes of an answer the line is closed.
    cut_after: Option<usize>,
    /// Whether all of it is sent, whatever is asked for.
    no_ranges: bool,
    /// Where each answer began.
    starts: Vec<usize>,
}

impl Host {
    pub fn start(body: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/archive.tgz", listener.local_addr().unwrap());
        let state = HostState {
            body,
            stall_after: None,
            cut_after: None,
            no_ranges: false,
            starts: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut start = 0;
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap_or_default();
                    if let Some(range) = line.strip_prefix("Range: bytes=") {
                        start = range.trim_end_matches('-').parse().unwrap();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                let mut state = served.lock().unwrap();
                state.starts.push(start);
                if state.no_ranges {
                    start = 0;
                }
                if start > 0 && start >= state.body.len() {
                    let _ = stream.write_all(
                        b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n",
                    );
                    continue;
                }
                let rest = state.body.get(start..).unwrap_or_default();
                let status = if start == 0 { "200 OK" } else { "206 Partial Content" };
                let (length, all) = (rest.len(), state.body.len());
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\
                     Content-Range: bytes {start}-{}/{all}\r\n\r\n",
                    all.saturating_sub(1)
                );
                let now = state.stall_after.unwrap_or(length).min(length);
                let now = state.cut_after.unwrap_or(now).min(now);
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&rest[..now]);
                if now < length && state.cut_after.is_none() {
                    open.push(stream);
                }
            }
        });
        Self { url, state }
    }

    /// What is served from now on.
    pub fn serve(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.state.lock().unwrap().body);
    }

    /// See `HostState::stall_after`.
    pub fn stall_after(&self, bytes: Option<usize>) {
        self.state.lock().unwrap().stall_after = bytes;
    }

    /// See `HostState::cut_after`.
    pub fn cut_after(&self, bytes: Option<usize>) {
        self.state.lock().unwrap().cut_after = bytes;
    }

    /// See `HostState::no_ranges`.
    pub fn without_ranges(&self) {
        self.state.lock().unwrap().no_ranges = true;
    }

    /// Where each answer so far began, in bytes.
    pub fn starts(&self) -> Vec<usize> {
        self.state.lock().unwrap().starts.clone()
    }
}

/// The program this test is in.
pub fn this_test() -> PathBuf {
    env::current_exe().unwrap()
}
