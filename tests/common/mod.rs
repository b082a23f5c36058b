//! What the tests with the real program share: a home of its own for each test, runs of
//! `banger` in it, and waiting for something named.
//!
//! Nothing here sleeps for a guess: every wait says what it waits for, and shows what is there
//! instead when it does not come.

// Each test program uses another part of it.
#![allow(dead_code)]

pub mod screen;

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use banger::{
    domain::{Layout, VmPaths},
    host::{
        dirs::{self, Env},
        facts,
    },
    store::{LedgerEntry, Store},
    vmm::{
        Backend,
        qemu::{Accel, Qemu},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a machine that does much else: a boot of `tiny` takes 3 s alone.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for what `look` finds.
///
/// # Panics
/// With `what` and what `instead` says, if it does not come within [`PATIENCE`].
pub fn until_or<T>(
    what: &str,
    mut look: impl FnMut() -> Option<T>,
    instead: impl FnOnce() -> String,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: did not come\n{}", instead());
        thread::sleep(LOOK);
    }
}

/// As [`until_or`], for a condition.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    until_or(what, || is().then_some(()), String::new);
}

/// Notes that a test cannot do here what its name says. `scripts/test.sh` counts these.
pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
    if let Some(path) = env::var_os("BANGER_SKIP_FILE") {
        let line = format!("{test}: {reason}\n");
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the skip file");
    }
}

/// The runtime directory the tests use: `BANGER_RUNTIME_DIR`, or the checkout's.
pub fn runtime_dir() -> PathBuf {
    env::var_os("BANGER_RUNTIME_DIR")
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime"), PathBuf::from)
}

/// A guest of the runtime directory that no banger runs: emulated, with these parameters, its
/// console on standard input and output, and no disk yet.
pub fn guest_by_hand(parameters: &str) -> Command {
    let program =
        if cfg!(target_arch = "aarch64") { "qemu-system-aarch64" } else { "qemu-system-x86_64" };
    let qemu = Qemu::new(program, Accel::Tcg, facts::tsc_khz());
    let runtime = runtime_dir();
    let mut command = Command::new(program);
    command.args(["-M", "microvm", "-accel", "tcg", "-cpu", "max,-erms,-fsrm", "-m", "128"]);
    command.args(["-nodefaults", "-no-user-config", "-nographic", "-no-reboot"]);
    command.args(["-serial", "stdio", "-kernel"]).arg(runtime.join("vmlinux"));
    command.arg("-initrd").arg(runtime.join("initrd.cpio"));
    command.args(["-append", &format!("{} {parameters}", qemu.kernel_cmdline())]);
    command
}

/// What a run of `banger` said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// How much of the machine a test takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A VM of 128 MiB, perhaps two: several such tests may run at once.
    Light,
    /// More: such a test runs alone.
    Heavy,
}

/// Where the program keeps things with these as `BANGER_STATE_DIR` and `XDG_RUNTIME_DIR`.
fn layout(state: PathBuf, runtime: PathBuf) -> Layout {
    let env = Env {
        banger_state_dir: Some(state.into()),
        xdg_runtime_dir: Some(runtime.into()),
        ..Env::default()
    };
    dirs::resolve(&env).expect("short paths")
}

/// A home of its own: state, sockets, configuration. When dropped, all that runs in it is ended.
pub struct Home {
    layout: Layout,
    program: PathBuf,
    variables: Vec<(String, String)>,
    // One of its own is removed with it, and closing the lock gives the turn back; in the lab it
    // is that of the user.
    own: Option<(TempDir, File)>,
}

impl Home {
    /// A home for a test that starts VMs from `tiny`; nothing, and a note, if there is no
    /// runtime directory.
    pub fn with_runtime(test: &str, load: Load) -> Option<Self> {
        let runtime = runtime_dir();
        if !runtime.join("bundle.json").is_file() {
            let dir = runtime.display();
            skip(test, &format!("no runtime directory in {dir}; `make runtime` makes it"));
            return None;
        }
        let mut home = Self::new(load);
        home.set("BANGER_RUNTIME_DIR", runtime.to_str().expect("a path in UTF-8"));
        Some(home)
    }

    /// A home without a runtime directory.
    pub fn new(load: Load) -> Self {
        let turn = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("turn.lock"));
        let turn = turn.expect("the lock of turns");
        match load {
            Load::Light => turn.lock_shared(),
            Load::Heavy => turn.lock(),
        }
        .expect("a turn");
        // Short: sockets lie in it, and their paths have 107 bytes at most.
        let dir = tempfile::Builder::new().prefix("bgr").tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        for name in ["s", "r", "c", "h"] {
            fs::create_dir(path(name)).expect("a directory");
        }
        let layout = layout(path("s"), path("r"));
        for name in ["s", "r"] {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o700)).expect("mode");
        }
        let variable = |name: &str, value: PathBuf| {
            (name.to_owned(), value.to_str().expect("a path in UTF-8").to_owned())
        };
        let variables = vec![
            variable("BANGER_STATE_DIR", path("s")),
            // Not the checkout's, which is there or not.
            variable("BANGER_RUNTIME_DIR", path("none")),
            variable("XDG_RUNTIME_DIR", path("r")),
            variable("XDG_CONFIG_HOME", path("c")),
            variable("HOME", path("h")),
            ("PATH".to_owned(), env::var("PATH").unwrap_or_default()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("TERM".to_owned(), "xterm-256color".to_owned()),
            ("COLORTERM".to_owned(), "truecolor".to_owned()),
            // As root it would be a bridge, on the machine that runs the tests.
            ("BANGER_NETWORK".to_owned(), "user".to_owned()),
            // And names in its resolver, or its /etc/hosts.
            ("BANGER_NAMES_ROUTE".to_owned(), "none".to_owned()),
        ];
        let program = env!("CARGO_BIN_EXE_banger").into();
        Self { layout, program, variables, own: Some((dir, turn)) }
    }

    /// That of the user who runs this, with the `banger` that is installed: for tests in the lab,
    /// where nobody else is.
    pub fn of_this_user() -> Self {
        let variable = |name: &str| env::var(name).ok().map(|value| (name.to_owned(), value));
        let names = ["HOME", "USER", "PATH", "XDG_RUNTIME_DIR", "BANGER_TEST_FIRECRACKER"];
        let mut variables: Vec<_> = names.into_iter().filter_map(variable).collect();
        variables.extend([
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("TERM".to_owned(), "xterm-256color".to_owned()),
        ]);
        let dir = |name: &str| env::var_os(name).map(PathBuf::from);
        let layout = Layout {
            state: dir("HOME").expect("HOME").join(".local/state/banger"),
            run: dir("XDG_RUNTIME_DIR").unwrap_or_else(|| "/run".into()).join("banger"),
        };
        Self { layout, program: "banger".into(), variables, own: None }
    }

    /// Sets a variable for all runs from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Makes this a home of the user whose `XDG_RUNTIME_DIR` is `dir`, and who may have more.
    pub fn set_user(&mut self, dir: &Path) {
        self.set("XDG_RUNTIME_DIR", dir.to_str().expect("a path in UTF-8"));
        self.layout = layout(self.layout.state.clone(), dir.to_owned());
    }

    /// All variables of a run; nothing of this process's own environment is passed on.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The whole of it: state, sockets, configuration; in the lab the state alone.
    pub fn path(&self) -> &Path {
        self.own.as_ref().map_or(&self.layout.state, |(dir, _)| dir.path())
    }

    /// The command `banger ARGS`, to be changed before it is run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env_clear().envs(self.variables.iter().cloned());
        command.stdin(Stdio::null());
        command
    }

    /// Runs `banger ARGS`.
    pub fn run(&self, args: &[&str]) -> Said {
        self.run_with(self.command(args), b"")
    }

    /// Runs a command with this input.
    pub fn run_with(&self, mut command: Command, input: &[u8]) -> Said {
        let args = command.get_args().map(|arg| arg.to_string_lossy());
        let words = format!("banger {}", args.collect::<Vec<_>>().join(" "));
        let begin = Instant::now();
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = Running(
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("banger runs"),
        );
        if let Some(mut stdin) = child.0.stdin.take() {
            // One that does not read it all says so by what it does.
            let _ = stdin.write_all(input);
        }
        let read = |mut from: Box<dyn Read + Send>| {
            thread::spawn(move || {
                let mut all = Vec::new();
                from.read_to_end(&mut all).expect("its output");
                String::from_utf8_lossy(&all).into_owned()
            })
        };
        let out = read(Box::new(child.0.stdout.take().expect("piped")));
        let err = read(Box::new(child.0.stderr.take().expect("piped")));
        // Its output ends with it: a monitor must not hold on to what it was started with.
        until_or(
            &format!("the end of {words}"),
            || (out.is_finished() && err.is_finished()).then_some(()),
            || self.report(),
        );
        let status = child.0.wait().expect("its status");
        // Shown when the test fails.
        eprintln!("{words}: {:.1?}", begin.elapsed());
        Said {
            code: status.code(),
            out: out.join().expect("output"),
            err: err.join().expect("output"),
        }
    }

    /// Starts `banger ARGS` and does not wait for its end.
    pub fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        Running::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Runs `banger ARGS`, which must go well; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, Some(0), "banger {args:?}: {said:?}\n{}", self.report());
        said.out
    }

    /// Runs `banger ARGS`, which must fail with exit code 1 and a message.
    pub fn fails(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, Some(1), "banger {args:?}: {said:?}\n{}", self.report());
        assert!(said.err.starts_with("error: "), "banger {args:?}: {said:?}");
        said
    }

    /// The list of VMs, as `ls --json` has it.
    pub fn list(&self) -> Vec<Value> {
        let text = self.ok(&["ls", "--json"]);
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["vms"].as_array().expect("a list").clone()
    }

    /// A VM, as `ls --json` has it.
    pub fn vm(&self, name: &str) -> Value {
        let list = self.list();
        let found = list.iter().find(|vm| vm["name"] == name);
        found.unwrap_or_else(|| panic!("there is no {name}: {list:?}")).clone()
    }

    /// The state of a VM.
    pub fn state(&self, name: &str) -> String {
        self.vm(name)["state"].as_str().expect("a word").to_owned()
    }

    /// Waits until a VM is in this state, and gives it.
    pub fn wait_state(&self, name: &str, state: &str) -> Value {
        until_or(
            &format!("{name} is {state}"),
            || Some(self.vm(name)).filter(|vm| vm["state"] == state),
            || self.report(),
        )
    }

    /// Where the files of a VM lie.
    pub fn paths(&self, name: &str) -> VmPaths {
        let id = self.vm(name)["id"].as_str().expect("an id").to_owned();
        self.layout.vm(&id.parse().expect("an id"))
    }

    /// What the console log of a VM holds.
    pub fn console(&self, name: &str) -> String {
        let log = fs::read(self.paths(name).console_log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The process ids of what belongs to this home, by what their command lines contain.
    pub fn processes(&self, part: &str) -> BTreeSet<i32> {
        let home = [self.path(), &self.layout.run].map(|path| path.to_str().expect("UTF-8"));
        let of = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (home.iter().any(|home| line.contains(home)) && line.contains(part)).then_some(pid)
        };
        fs::read_dir("/proc").expect("/proc").filter_map(|entry| of(entry.ok()?)).collect()
    }

    /// The monitors. What one has just forked goes by its name until it runs a program of its own, and
    /// is none.
    pub fn monitors(&self) -> BTreeSet<i32> {
        let found = self.processes(" monitor ");
        // The fourth field; the second is a name in parentheses.
        let parent = |pid: &i32| -> Option<i32> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
        };
        let is_forked = |pid: &i32| parent(pid).is_some_and(|parent| found.contains(&parent));
        found.iter().filter(|pid| !is_forked(pid)).copied().collect()
    }

    /// The VMMs.
    pub fn vmms(&self) -> BTreeSet<i32> {
        self.processes("qemu-system")
    }

    /// The only one of a set of processes.
    pub fn only(&self, what: &str, found: &BTreeSet<i32>) -> i32 {
        assert_eq!(found.len(), 1, "one {what}: {found:?}\n{}", self.report());
        *found.first().expect("one")
    }

    /// What the ledger holds.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        let store = Store::open(&self.layout.database()).expect("the database");
        store.all_entries().expect("the ledger")
    }

    /// That of no VM anything is left on the host but its files: no process, no socket, no lock,
    /// no entry of the ledger; and of VMs that are no more, no file either.
    pub fn assert_nothing_runs(&self) {
        until_or(
            "no process of this home",
            || self.processes("").is_empty().then_some(()),
            || self.report(),
        );
        let names = |dir: &Path| -> BTreeSet<String> {
            let Ok(dir) = fs::read_dir(dir) else { return BTreeSet::new() };
            dir.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(&self.layout.run), BTreeSet::new(), "sockets and locks");
        let known: BTreeSet<String> =
            self.list().iter().map(|vm| vm["id"].as_str().expect("an id").to_owned()).collect();
        assert_eq!(names(&self.layout.state.join("vms")), known, "directories of VMs");
        for id in known {
            let files = names(&self.layout.state.join("vms").join(id));
            let expected = [
                "root.img",
                "root.cow",
                "console.log",
                "console.log.1",
                "monitor.log",
                "known_hosts",
                "keys",
                "user-data",
                "seed.iso",
                "initrd.cpio",
            ];
            let expected: BTreeSet<String> = expected.map(str::to_owned).into();
            assert!(files.is_subset(&expected), "files of a VM: {files:?}");
        }
        assert_eq!(self.ledger(), [], "the ledger");
    }

    /// All there is to know when something went wrong.
    pub fn report(&self) -> String {
        let mut report = String::new();
        let ls = self.command(&["ls"]).output().expect("banger runs");
        report.push_str(&String::from_utf8_lossy(&ls.stdout));
        report.push_str(&String::from_utf8_lossy(&ls.stderr));
        report.push_str(&format!("processes: {:?}\n", self.processes("")));
        let vms = fs::read_dir(self.layout.state.join("vms"));
        let vms = vms.into_iter().flatten().map(|entry| entry.expect("entry").path());
        let logs = vms.flat_map(|dir| [dir.join("monitor.log"), dir.join("console.log")]);
        for log in logs.chain([self.layout.log()]) {
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text[text.len().saturating_sub(1500)..]);
            report.push_str(&format!("--- {}\n{}\n", log.display(), text.escape_debug()));
        }
        report.replace("\\n", "\n").replace("\\r", "")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A monitor that ends takes its VMM with it; what is found later is its.
        for _ in 0..100 {
            let left = self.processes("");
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(LOOK);
        }
    }
}

/// A process that is ended when it is not wanted any more.
pub struct Running(Child);

impl Running {
    /// Starts a command.
    pub fn of(command: &mut Command) -> Self {
        Self(command.spawn().expect("it runs"))
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// Its standard output.
    pub fn stdout(&mut self) -> std::process::ChildStdout {
        self.0.stdout.take().expect("piped")
    }

    /// Waits for its end.
    pub fn end(mut self) -> Said {
        let read = |from: Option<Box<dyn Read + Send>>| {
            thread::spawn(move || {
                let mut all = Vec::new();
                if let Some(mut from) = from {
                    from.read_to_end(&mut all).expect("its output");
                }
                String::from_utf8_lossy(&all).into_owned()
            })
        };
        let out = read(self.0.stdout.take().map(|s| Box::new(s) as _));
        let err = read(self.0.stderr.take().map(|s| Box::new(s) as _));
        until("the end of a process", || out.is_finished() && err.is_finished());
        let status = self.0.wait().expect("its status");
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Said { code, out: out.join().expect("output"), err: err.join().expect("output") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to a process of ours.
pub fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a signal");
}

/// Whether there is such a process, and it is not merely waiting to be reaped.
pub fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next())
        .is_some_and(|s| s != "Z")
}

/// Has a command run in a mount namespace of its own, after `script` has prepared it with
/// `$@` being the command: what is mounted there is seen by nobody else.
pub fn in_own_mounts(script: &str, command: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "--propagation", "private", "sh", "-euc"]);
    outer.arg(format!("{script}\nexec \"$@\"")).arg("sh");
    outer.arg(command.get_program()).args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.stdin(Stdio::null()).process_group(0);
    outer
}
