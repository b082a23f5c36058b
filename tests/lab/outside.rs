//! Outside the lab: boots it, listens to it, cuts its power, and reports as test programs do.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader, Read, Write, stdout},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    Test,
    common::{runtime_dir, skip},
    inside::{FIGURE, MARK, SCENARIO_MAX, Step, WORD},
    scenarios::programs::PREFIX,
};

/// How long a machine that is busy may take until it has booted.
const BOOT_MAX: Duration = Duration::from_secs(240);
/// What a step may take beside the scenario itself: pictures, and waiting for udev.
const AROUND_MAX: Duration = Duration::from_secs(120);

/// What is wanted, by the arguments that test programs have.
#[derive(Default)]
struct Wanted {
    parts: Vec<String>,
    not: Vec<String>,
    exact: bool,
    list: bool,
    nocapture: bool,
}

impl Wanted {
    fn of(args: &[String]) -> Self {
        let mut wanted = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--exact" => wanted.exact = true,
                "--list" => wanted.list = true,
                "--nocapture" | "--no-capture" | "--show-output" => wanted.nocapture = true,
                "--skip" => wanted.not.extend(args.next().cloned()),
                // These have a value, and no meaning here.
                "--test-threads" | "--format" | "--color" | "-Z" => drop(args.next()),
                flag if flag.starts_with('-') => {}
                part => wanted.parts.push(part.to_owned()),
            }
        }
        wanted
    }

    fn is(&self, name: &str) -> bool {
        let like = |part: &String| if self.exact { name == part } else { name.contains(part) };
        (self.parts.is_empty() || self.parts.iter().any(like)) && !self.not.iter().any(like)
    }
}

/// What has come out.
#[derive(Default)]
struct Sum {
    passed: BTreeSet<String>,
    failed: Vec<(String, String)>,
}

impl Sum {
    fn pass(&mut self, name: &str, milliseconds: u64, figure: &str) {
        println!("test {name} ... ok <{:.1}s>{figure}", seconds(milliseconds));
        self.passed.insert(name.to_owned());
    }

    fn fail(&mut self, name: &str, log: String) {
        println!("test {name} ... FAILED\n{log}");
        self.failed.push((name.to_owned(), log));
    }

    fn has(&self, name: &str) -> bool {
        self.passed.contains(name) || self.failed.iter().any(|(failed, _)| failed == name)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// Runs what is wanted and sums up.
pub fn main(args: &[String]) -> ExitCode {
    let wanted = Wanted::of(args);
    let all = Test::all();
    let tests: Vec<Test> = all.iter().copied().filter(|test| wanted.is(&test.name())).collect();
    if wanted.list {
        tests.iter().for_each(|test| println!("{}: test", test.name()));
        return ExitCode::SUCCESS;
    }
    let begin = Instant::now();
    println!("\nrunning {} tests", tests.len());
    let mut sum = Sum::default();
    if let Some(reason) = missing() {
        for test in &tests {
            skip(&format!("lab::{}", test.name()), &reason);
            sum.pass(&test.name(), 0, "");
        }
    } else {
        let (possible, others): (Vec<Test>, Vec<Test>) =
            tests.iter().partition(|test| !test.scenario.firecracker || has_firecracker());
        for test in others {
            let why = "BANGER_TEST_FIRECRACKER names no Firecracker, and the runtime has none";
            skip(&format!("lab::{}", test.name()), why);
            sum.pass(&test.name(), 0, "");
        }
        run(&possible, &wanted, &mut sum);
    }
    for (name, log) in &sum.failed {
        println!("\n---- {name} ----\n{log}");
    }
    let word = if sum.failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        sum.passed.len(),
        sum.failed.len(),
        all.len() - tests.len(),
        begin.elapsed().as_secs_f64(),
    );
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Whether there is a Firecracker to bring along.
fn has_firecracker() -> bool {
    let named = env::var_os("BANGER_TEST_FIRECRACKER").is_some_and(|path| !path.is_empty());
    named || runtime_dir().join("firecracker").is_file()
}

/// Why there can be no lab here.
fn missing() -> Option<String> {
    if env::consts::ARCH != "x86_64" {
        return Some("the lab emulates AMD-V, on x86-64 only".to_owned());
    }
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    for program in ["qemu-system-x86_64", "mmdebstrap", "mke2fs", "flock", "setpriv"] {
        if !path.split(':').any(|dir| Path::new(dir).join(program).is_file()) {
            return Some(format!("{program} is not installed; `make setup-dev` does it"));
        }
    }
    let runtime = runtime_dir();
    (!runtime.join("bundle.json").is_file())
        .then(|| format!("no runtime directory in {}; `make runtime` makes it", runtime.display()))
}

/// Runs tests: first all that are whole; then, with a boot after each cut, the others.
///
/// One machine does it all: on two cores, two of them side by side were seen to take each twice
/// its time, with two CPUs and with one.
fn run(tests: &[Test], wanted: &Wanted, sum: &mut Sum) {
    let (cut, whole): (Vec<Test>, Vec<Test>) = tests.iter().partition(|test| test.is_cut());
    let tmp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let disk = (!cut.is_empty()).then(|| tmp.path().join("host.ext4"));
    let mut steps: Vec<(Step, Test)> = whole.into_iter().map(|t| (Step::Whole, t)).collect();
    steps.extend(cut.into_iter().flat_map(|t| [(Step::Before, t), (Step::After, t)]));
    let mut again = true;
    while !steps.is_empty() {
        // What comes after a cut comes after a boot.
        let cut = steps.iter().position(|(step, _)| *step == Step::Before);
        let now = cut.map_or(steps.len(), |cut| cut + 1);
        let life = boot(&steps[..now], disk.as_deref(), tmp.path(), wanted, sum);
        if life.emulator_failed && again {
            println!("the emulator's AMD-V failed, not what it ran: once more, from there on");
            again = false;
        } else if !life.was_cut && !life.failed {
            let left = steps[..now].iter().map(|(_, test)| test.name());
            let mut left = left.filter(|name| !sum.has(name)).collect::<Vec<_>>().into_iter();
            // One that takes the machine with it fails; the others have another machine. If it
            // did not even come up, there is none.
            let failed = left.by_ref().take(if life.begun { 1 } else { usize::MAX });
            failed.for_each(|name| {
                sum.fail(&name, format!("{}the lab ended before it was done", life.log));
            });
        }
        if let Some(disk) = &disk
            && !life.was_cut
            && steps[0].0 != Step::After
        {
            // What has failed left who knows what.
            let _ = fs::remove_file(disk);
        }
        let cut = steps[now - 1].1.name();
        let done = |step: Step, name: &str| {
            sum.has(name) || life.was_cut && step == Step::Before && name == cut
        };
        steps.retain(|(step, test)| !done(*step, &test.name()));
    }
}

/// How one life of the lab went.
#[derive(Default)]
struct Life {
    /// Whether a test was begun.
    begun: bool,
    /// Whether it ended by a power cut that was asked for.
    was_cut: bool,
    /// Whether it ended because a test failed, and may have left what spoils others.
    failed: bool,
    /// Whether it ended because the lab's kernel died where it enters and leaves a guest, or without
    /// a word. Seen with QEMU 7.2 and two CPUs: it comes back with the stack of another, and what then
    /// tries to say so has none either.
    emulator_failed: bool,
    /// What the test that was under way at the end has said.
    log: String,
}

/// One life of the lab.
fn boot(
    steps: &[(Step, Test)],
    disk: Option<&Path>,
    tmp: &Path,
    wanted: &Wanted,
    sum: &mut Sum,
) -> Life {
    let pid_file = tmp.join("pid");
    let mut lab = Lab::boot(steps, disk, &pid_file);
    let mut life = Life::default();
    let (mut log, mut figure) = (String::new(), String::new());
    let lines = BufReader::new(lab.0.stdout.take().expect("piped"));
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let Some(said) = line.strip_prefix(MARK) else {
            println!("{line}");
            continue;
        };
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        let mut words = rest.split(' ');
        let name = words.next().unwrap_or("");
        let time = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match word {
            "begin" => {
                life.begun = true;
                log.clear();
                figure.clear();
            }
            "log" => {
                log.push_str(rest);
                log.push('\n');
                if let Some(rest) = rest.strip_prefix(FIGURE) {
                    figure.push_str(&format!(" {rest}"));
                }
                if wanted.nocapture {
                    println!("{rest}");
                }
            }
            "skip" => {
                let (test, reason) = rest.split_once(": ").unwrap_or((rest, ""));
                skip(&format!("lab::{test}"), reason);
            }
            "ok" => sum.pass(name, time, &figure),
            "failed" => {
                life.failed = true;
                sum.fail(name, std::mem::take(&mut log));
            }
            "cut" => {
                life.was_cut = true;
                let pid = fs::read_to_string(&pid_file).expect("its process id");
                let pid = pid.trim().parse().expect("a number");
                kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a power cut");
            }
            _ => {}
        }
        stdout().flush().expect("someone listens");
    }
    let said = lab.end();
    if !life.was_cut && !said.is_empty() {
        println!("{said}");
        let by_itself = said.contains("(QEMU: 0,") && !said.contains("Kernel panic");
        life.emulator_failed = by_itself || said.contains("svm_vcpu_");
    }
    life.log = log;
    life
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

/// The running script; it ends with us, and the emulator with it.
struct Lab(Child, Option<thread::JoinHandle<String>>);

impl Lab {
    fn boot(steps: &[(Step, Test)], disk: Option<&Path>, pid_file: &Path) -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut this = env::current_exe().expect("this program").into_os_string();
        this.push(":scenarios");
        let mut command = Command::new(top.join("scripts/lab/run.sh"));
        // Far more than it takes: what hangs is to end by its own name.
        let most = BOOT_MAX + (SCENARIO_MAX + AROUND_MAX) * steps.len().try_into().expect("few");
        command.args(["--timeout", &most.as_secs().to_string(), "--pid-file"]).arg(pid_file);
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
        let mut child = command.spawn().expect("scripts/lab/run.sh");
        let mut stderr = child.stderr.take().expect("piped");
        let said = thread::spawn(move || {
            let mut said = Vec::new();
            // What could be read is what it said.
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        Self(child, Some(said))
    }

    /// Waits for its end: what it had to say beside what came from the lab.
    fn end(&mut self) -> String {
        let _ = self.0.wait();
        self.1.take().and_then(|said| said.join().ok()).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.1.is_some() {
            // A panic: the script ends the emulator when it is told to end.
            let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}
