//! Outside the lab: boots it, listens to it, cuts its power, and reports as test programs do.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{Write, stdout},
    path::Path,
    process::ExitCode,
    time::Instant,
};

use crate::{
    Test,
    common::{runtime_dir, skip},
    inside::{FIGURE, MARK, Step},
    machine::Machine,
};

/// What begins the line that tells of one that did. `scripts/test.sh` sums these up.
const MISHAP: &str = "a machine of the lab failed, not what it ran: ";
/// How many machines may end, or stand still, for no reason of the tests'.
const MISHAPS_MAX: u32 = 3;

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
    let mut mishaps = 0;
    while !steps.is_empty() {
        // What comes after a cut comes after a boot.
        let cut = steps.iter().position(|(step, _)| *step == Step::Before);
        let now = cut.map_or(steps.len(), |cut| cut + 1);
        let life = boot(&steps[..now], disk.as_deref(), tmp.path(), wanted, sum);
        if let Some(why) = life.mishap.as_ref().filter(|_| mishaps < MISHAPS_MAX) {
            mishaps += 1;
            println!("{MISHAP}{why}: another one, from there on");
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
    /// How the emulator failed, if it did: see [`Machine::end`].
    mishap: Option<String>,
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
    let mut machine = Machine::boot(steps, disk, tmp);
    let mut life = Life::default();
    let (mut log, mut figure) = (String::new(), String::new());
    while let Some(line) = machine.line() {
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
                machine.begins();
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
                machine.cut_power();
            }
            _ => {}
        }
        stdout().flush().expect("someone listens");
    }
    let (said, mishap) = machine.end();
    if !life.was_cut && !said.is_empty() {
        println!("{said}");
        life.mishap = mishap;
    }
    life.log = log;
    life
}
