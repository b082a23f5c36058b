//! The machine that is the lab, from outside: booted, listened to, switched off.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Test,
    inside::{MARK, PULSE, SCENARIO_MAX, Step, WORD},
    scenarios::programs::PREFIX,
};

/// How long a machine that is busy may take until it has booted.
const BOOT_MAX: Duration = Duration::from_secs(240);
/// What a step may take beside the scenario itself: pictures, and waiting for udev.
const AROUND_MAX: Duration = Duration::from_secs(120);
/// How long a machine may be silent that says every few seconds that it lives.
const SILENCE_MAX: Duration = PULSE.saturating_mul(18);
/// QEMU's monitor.
const MONITOR: &str = "monitor";
/// How long that may take to answer.
const MONITOR_MAX: Duration = Duration::from_secs(10);

/// The running script; it ends with us, and the emulator with it.
pub struct Machine {
    script: Child,
    /// What the lab prints.
    lines: Receiver<String>,
    /// What the script has to say beside that.
    stderr: Option<JoinHandle<String>>,
    pid_file: PathBuf,
    /// Not beside the others: a socket's path has 107 bytes, and a checkout may be anywhere.
    sockets: TempDir,
    /// When its first word came, and its latest.
    heard: Option<Instant>,
    /// When the step began that it is at.
    begun: Option<Instant>,
    /// Whether we have switched it off.
    is_off: bool,
    /// Why, if it did nothing any more that a test could have kept it from.
    stood_still: Option<String>,
}

impl Machine {
    /// Boots it, with those steps to do. A `disk` is one that is kept; `tmp` is for what it needs.
    pub fn boot(steps: &[(Step, Test)], disk: Option<&Path>, tmp: &Path) -> Self {
        let pid_file = tmp.join("pid");
        let sockets = tempfile::tempdir().expect("a directory");
        // Of the machine before.
        let _ = fs::remove_file(&pid_file);
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut this = env::current_exe().expect("this program").into_os_string();
        this.push(":scenarios");
        let mut command = Command::new(top.join("scripts/lab/run.sh"));
        // Far more than it takes: what hangs is to end by its own name.
        let most = BOOT_MAX + (SCENARIO_MAX + AROUND_MAX) * steps.len().try_into().expect("few");
        command.args(["--timeout", &most.as_secs().to_string(), "--pid-file"]).arg(&pid_file);
        command.arg("--monitor").arg(sockets.path().join(MONITOR));
        command.args(["--banger", env!("CARGO_BIN_EXE_banger"), "--copy"]).arg(this);
        for (name, path) in programs(steps) {
            command.arg("--copy").arg(format!("{path}:{name}"));
        }
        if let Some(disk) = disk {
            command.arg("--disk").arg(disk);
        }
        let steps = steps.iter().map(|(step, test)| format!(" {} {}", step.word(), test.name()));
        // What test programs know by its place here is there, too.
        let banger = Path::new(env!("CARGO_BIN_EXE_banger"));
        let (tmp, dir) = (env!("CARGO_TARGET_TMPDIR"), banger.parent().expect("a directory"));
        let places =
            format!("mkdir -p '{tmp}' '{0}'; ln -sf /lab/bin/banger '{0}/'", dir.display());
        let steps: String = steps.collect();
        command.arg(format!("{places}; exec /lab/scenarios {WORD} all{steps}"));
        if env::var_os("CARGO_TARGET_DIR").is_none() && env::var_os("BANGER_LAB_DIR").is_none() {
            // Beside what cargo has built, wherever that is.
            let tmp: PathBuf = env!("CARGO_TARGET_TMPDIR").into();
            command.env("BANGER_LAB_DIR", tmp.parent().expect("the target directory").join("lab"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut script = command.spawn().expect("scripts/lab/run.sh");
        let mut stderr = script.stderr.take().expect("piped");
        let stderr = thread::spawn(move || {
            let mut said = Vec::new();
            // What could be read is what it said.
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let stdout = BufReader::new(script.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self {
            script,
            lines,
            stderr: Some(stderr),
            pid_file,
            sockets,
            heard: None,
            begun: None,
            is_off: false,
            stood_still: None,
        }
    }

    /// The next line of what the lab prints; nothing when it has ended. One that does nothing any
    /// more is switched off.
    pub fn line(&mut self) -> Option<String> {
        loop {
            let line = self.lines.recv_timeout(PULSE);
            if line.as_ref().is_ok_and(|line| line.starts_with(MARK)) {
                self.heard = Some(Instant::now());
            }
            if !self.is_off
                && let Some(why) = self.stands_still()
            {
                println!("{why}; its CPUs:\n{}", self.registers());
                self.cut_power();
            }
            match line {
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// A step begins.
    pub fn begins(&mut self) {
        self.begun = Some(Instant::now());
    }

    /// Switches it off.
    pub fn cut_power(&mut self) {
        self.is_off = true;
        let pid = fs::read_to_string(&self.pid_file).expect("its process id");
        let pid = pid.trim().parse().expect("a number");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a power cut");
    }

    /// Why nothing is to be expected of it any more.
    fn stands_still(&mut self) -> Option<String> {
        let most = SCENARIO_MAX + AROUND_MAX;
        if self.begun.is_some_and(|begun| begun.elapsed() > most) {
            // It lives, so this is the test's own: it fails.
            return Some(format!("what it was at did not end within {most:?}"));
        }
        self.stood_still = if let Some(heard) = self.heard {
            let silent = heard.elapsed() > SILENCE_MAX;
            silent.then(|| format!("it was silent for {SILENCE_MAX:?}"))
        } else {
            // What it boots from may have to be made first.
            let begun = fs::metadata(&self.pid_file).and_then(|file| file.modified()).ok()?;
            let long = begun.elapsed().is_ok_and(|long| long > BOOT_MAX);
            long.then(|| format!("it did not come up within {BOOT_MAX:?}"))
        };
        self.stood_still.clone()
    }

    /// Where its CPUs are, for who wants to know why.
    fn registers(&self) -> String {
        let ask = || -> std::io::Result<String> {
            let mut monitor = UnixStream::connect(self.sockets.path().join(MONITOR))?;
            monitor.set_read_timeout(Some(MONITOR_MAX))?;
            monitor.write_all(b"info registers -a\n")?;
            monitor.shutdown(Shutdown::Write)?;
            let mut said = Vec::new();
            // It may not close: then what came is all.
            let _ = monitor.read_to_end(&mut said);
            Ok(String::from_utf8_lossy(&said).into_owned())
        };
        match ask() {
            Ok(said) => {
                let known = ["CPU#", "RIP=", "RSP", "GS =", "CR0="];
                let lines = said.lines().map(str::trim);
                let lines = lines.filter(|line| known.iter().any(|known| line.contains(known)));
                lines.collect::<Vec<_>>().join("\n")
            }
            Err(error) => format!("QEMU's monitor: {error}"),
        }
    }

    /// Waits for its end: what it had to say beside what came from the lab; and how the emulator
    /// failed, if it did.
    ///
    /// It may end where its kernel comes back from a guest, or without a word, or stand still. Seen with
    /// QEMU 7.2, two CPUs and guests on both: an interrupt is delivered though they are switched off.
    /// Between VMRUN and VMLOAD the kernel has the guest's registers then, and nothing to say so with;
    /// with a scheduler's lock held, it waits for itself.
    pub fn end(mut self) -> (String, Option<String>) {
        let _ = self.script.wait();
        let said = self.stderr.take().and_then(|said| said.join().ok()).unwrap_or_default();
        let how = self.stood_still.take().or_else(|| {
            // What QEMU ends with when its machine is reset, as it is after a panic; run.sh says so only
            // if the lab has not come to its end. No test can panic a kernel.
            said.contains("(QEMU: 0,").then(|| "it was reset".to_owned())
        });
        (said, how)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.stderr.is_some() {
            // A panic: the script ends the emulator when it is told to end.
            let _ = kill(Pid::from_raw(self.script.id().cast_signed()), Signal::SIGTERM);
            let _ = self.script.wait();
        }
    }
}

/// The test programs that are to be brought along: names and paths, as cargo says.
fn programs(steps: &[(Step, Test)]) -> Vec<(String, String)> {
    let named = |test: &Test| test.scenario.name.strip_prefix(PREFIX);
    let names: Vec<&str> = steps.iter().filter_map(|(_, test)| named(test)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["test", "--locked", "--no-run", "--message-format=json"]);
    cargo.args(names.iter().flat_map(|name| ["--test", name]));
    let said = cargo.stderr(Stdio::inherit()).output().expect("cargo");
    let artifact = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let name = message["target"]["name"].as_str()?;
        names.contains(&name).then_some(())?;
        Some((name.to_owned(), message["executable"].as_str()?.to_owned()))
    };
    String::from_utf8_lossy(&said.stdout).lines().filter_map(artifact).collect()
}
