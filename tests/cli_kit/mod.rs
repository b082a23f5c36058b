//! What the tests of the verbs share: a home without VMs that could boot, and loud skips. Tests
//! with real VMs have `tests/common`.

// Each test program uses another part of it.
#![allow(dead_code)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use banger::host::dirs::{self, Env};
use tempfile::TempDir;

/// The binary under test.
pub const BANGER: &str = env!("CARGO_BIN_EXE_banger");

/// Says that a test cannot run here, loudly: on standard error, and in the file that
/// `BANGER_SKIP_FILE` names, which `make test` shows at the end.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(file) = std::env::var_os("BANGER_SKIP_FILE") {
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(file).expect("it can be had");
        writeln!(file, "{test}: {reason}").expect("it can be had");
    }
}

/// State and sockets of one test, and the only way it runs banger.
///
/// When dropped, all VMs are killed and removed, and nothing may be left of them on the host.
pub struct Home {
    dir: TempDir,
    runtime: Option<PathBuf>,
}

impl Home {
    /// A home without a runtime directory: nothing can be started there.
    pub fn new() -> Self {
        // Short: the paths of sockets are limited to 107 bytes.
        let dir = tempfile::Builder::new().prefix("bgr").tempdir_in("/tmp").expect("it can be had");
        fs::create_dir(dir.path().join("r")).expect("it can be had");
        Self { dir, runtime: None }
    }

    /// A home with a runtime directory that has kernel, initrd and a `tiny` image in its record,
    /// none of which could boot: for everything that comes before a start. The image is an ext4
    /// file system with 4 MiB of data.
    pub fn with_fake_runtime() -> Self {
        let mut home = Self::new();
        let runtime = home.path().join("runtime");
        fs::create_dir_all(runtime.join("images")).expect("it can be had");
        let file = |name: &str, size: u64| {
            fs::File::create(runtime.join(name))
                .expect("it can be had")
                .set_len(size)
                .expect("it can be had");
            serde_json::json!({
                "sha256": "00".repeat(32), "size": size, "modified_ns": 0, "source": "a test",
                "version": "",
            })
        };
        let data = home.path().join("data");
        fs::create_dir(&data).expect("it can be had");
        // No holes: it must take room wherever it is copied to.
        fs::write(data.join("file"), vec![1; 4 << 20]).expect("it can be had");
        let record = serde_json::json!({
            "schema": 1,
            "arch": std::env::consts::ARCH,
            "files": {
                "vmlinux": file("vmlinux", 16),
                "initrd.cpio": file("initrd.cpio", 16),
                "images/tiny.img": file("images/tiny.img", 16 << 20),
            },
            "images": {
                "tiny": {
                    "file": "images/tiny.img", "about": "a test", "default_memory_mib": 128,
                },
            },
            "steps": {},
        });
        fs::write(runtime.join("bundle.json"), record.to_string()).expect("it can be had");
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(data);
        mke2fs.arg(runtime.join("images/tiny.img")).env("PATH", sbin_path());
        assert!(mke2fs.status().expect("it can be had").success());
        home.runtime = Some(runtime);
        home
    }

    /// The directory everything of this home is in.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.path().join("s")
    }

    /// Where sockets and locks are.
    pub fn run_dir(&self) -> PathBuf {
        let env = Env {
            banger_state_dir: Some(self.state().into()),
            xdg_runtime_dir: Some(self.path().join("r").into()),
            ..Env::default()
        };
        dirs::resolve(&env).expect("it can be had").run
    }

    /// The directory of the configuration.
    pub fn config(&self) -> PathBuf {
        self.path().join("c/banger")
    }

    /// banger with these arguments in this home, not started yet. Nothing of the environment of
    /// the test reaches it but `PATH`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BANGER);
        command.args(args).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).env("XDG_CONFIG_HOME", self.path().join("c"));
        command.env("BANGER_STATE_DIR", self.state());
        command.env("XDG_RUNTIME_DIR", self.path().join("r"));
        let runtime = self.runtime.clone().unwrap_or_else(|| self.path().join("no-runtime"));
        command.env("BANGER_RUNTIME_DIR", runtime).env("TERM", "xterm-256color");
        command
    }

    /// Runs banger to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::new(args, &self.command(args).output().expect("it can be had"))
    }

    /// Runs banger to its end; it must succeed. Its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{ran}");
        ran.out
    }

    /// `ls --json`.
    pub fn list(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["ls", "--json"])).expect("it can be had")
    }

    /// The names of all VMs.
    pub fn names(&self) -> Vec<String> {
        let list = self.list();
        let vms = list["vms"].as_array().expect("it can be had");
        vms.iter().map(|vm| vm["name"].as_str().expect("it can be had").to_owned()).collect()
    }

    /// All files of the state directory but those of SQLite and the log, sorted: what must be the
    /// same before and after something that failed.
    pub fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.state(), &mut found);
        walk(&self.run_dir(), &mut found);
        let fleeting = ["banger.db-wal", "banger.db-shm", "banger.log", "banger.db.bak"];
        found.retain(|path| !fleeting.iter().any(|end| path.ends_with(end)));
        // Room set aside, once there is a database.
        found.retain(|path| !path.contains("/banger.db-spare-"));
        found.sort();
        found
    }

    /// The processes that have this home's path on their command line: monitors and VMMs.
    pub fn processes(&self) -> Vec<String> {
        let needle = self.path().to_str().expect("it can be had");
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("it can be had").flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if pid != std::process::id() && line.contains(needle) {
                found.push(format!("{pid} {line}"));
            }
        }
        found
    }

    fn tidy(&self) {
        if !self.state().join("banger.db").exists() {
            return;
        }
        let listed = self.run(&["ls", "--json"]);
        let Ok(list) = serde_json::from_str::<serde_json::Value>(&listed.out) else { return };
        let vms = list["vms"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = vms.iter().filter_map(|vm| vm["name"].as_str()).collect();
        if !names.is_empty() {
            let removed = self.run(&[&["rm", "--yes", "--force"], names.as_slice()].concat());
            assert!(std::thread::panicking() || removed.code == 0, "{removed}");
        }
        let left = self.processes();
        assert!(std::thread::panicking() || left.is_empty(), "left running: {left:#?}");
        let dirs = |path: &Path| {
            fs::read_dir(path).map_or(0, |entries| {
                entries.flatten().filter(|entry| entry.path().is_dir()).count()
            })
        };
        let left = dirs(&self.state().join("vms")) + dirs(&self.run_dir());
        assert!(std::thread::panicking() || left == 0, "left behind: {:#?}", self.listing());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.tidy();
    }
}

/// Normal users of Debian have no sbin in PATH.
fn sbin_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn walk(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        }
        found.push(path.display().to_string());
    }
}

/// How a run of banger ended.
#[derive(Debug)]
pub struct Ran {
    /// What was run.
    pub line: String,
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ran {
    /// From what the standard library gives.
    pub fn new(args: &[&str], output: &Output) -> Self {
        Self {
            line: format!("banger {}", args.join(" ")),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It must have failed with this code and said all of these on standard error, and nothing
    /// on standard output; no panic.
    #[track_caller]
    pub fn fails(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, code, "{self}");
        for word in says {
            assert!(self.err.contains(word), "“{word}” is missing in {self}");
        }
        assert!(!self.err.contains("panicked"), "{self}");
        assert_eq!(self.out, "", "{self}");
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: exit code {}\n{}\n{}", self.line, self.code, self.out, self.err)
    }
}
