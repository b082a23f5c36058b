//! Inside the lab: runs scenarios one after the other, and watches the host.

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, sync},
};

use crate::{Home, Play, Test, User, picture::Picture, scenarios::PARTS};

/// The first argument in the lab.
pub const WORD: &str = "--in-the-lab";
/// What begins a line that is meant for the program outside.
pub const MARK: &str = "@lab ";
/// What begins a line of a test that is shown also when all is well: something measured.
pub const FIGURE: &str = "figure: ";

/// What [`as_dev`] calls us with.
const PART: &str = "part";

/// How long a scenario may take. More than [`PATIENCE`](crate::common::PATIENCE): a wait that is
/// in vain says what for.
pub const SCENARIO_MAX: Duration = Duration::from_secs(300);
/// How long what ends may take until it is gone.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often we say that this machine lives, whatever a scenario does meanwhile.
pub const PULSE: Duration = Duration::from_secs(5);
/// The word for that.
const ALIVE: &str = "alive";

/// Where we keep what must not be in a picture.
const OURS: &str = "/var/cache/lab";

/// A part of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All of one that is not cut.
    Whole,
    /// What comes before the power is cut.
    Before,
    /// What comes after.
    After,
}

impl Step {
    const WORDS: [(&'static str, Self); 3] =
        [("whole", Self::Whole), ("before", Self::Before), ("after", Self::After)];

    /// How it is called on our command line.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize].0
    }

    fn of(word: &str) -> Self {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.unwrap_or_else(|| panic!("no such step: {word}")).1
    }
}

/// `all STEP TEST...` as root, which calls itself with `one STEP TEST` as the test's user; and
/// `part NAME`.
pub fn main(args: &[String]) -> ExitCode {
    let (word, pairs) = args.split_first().expect("a word");
    let pairs = pairs.chunks_exact(2).map(|pair| {
        let test = Test::named(&pair[1]).unwrap_or_else(|| panic!("no such test: {}", pair[1]));
        (Step::of(&pair[0]), test)
    });
    match word.as_str() {
        "all" => {
            thread::spawn(|| {
                loop {
                    tell(ALIVE);
                    thread::sleep(PULSE);
                }
            });
            // So that nothing that still starts is taken for something left behind. The status
            // says more than that: "degraded" is for the scenarios to find.
            let _ = Command::new("systemctl").args(["is-system-running", "--wait"]).output();
            // As the host looked before the first; whatever a test changes, fails it, and then the
            // others have another machine.
            let mut before = None;
            for (step, test) in pairs {
                if !watched(step, test, &mut before) {
                    break;
                }
            }
        }
        "one" => pairs.for_each(|(step, test)| play(step, test)),
        PART => {
            let part = PARTS.into_iter().flatten().find(|(name, _)| *name == args[1]);
            let home = Home::of_this_user();
            part.unwrap_or_else(|| panic!("no such part: {}", args[1])).1(&home);
            // What runs now is the whole test's business.
            std::mem::forget(home);
        }
        other => panic!("no such word: {other}"),
    }
    ExitCode::SUCCESS
}

/// Has dev do a part of a test of root's: one of [`PARTS`].
///
/// # Panics
/// If that fails.
pub fn as_dev(part: &str) {
    let this = env::current_exe().expect("this program");
    let mut command = Command::new("as");
    command.arg(User::Dev.name()).arg(this).args([WORD, PART, part]).stdin(Stdio::null());
    let status = command.status().expect("it runs");
    assert!(status.success(), "what dev did ended with {status}");
}

/// The test itself, in the process of its user.
fn play(step: Step, test: Test) {
    let home = Home::of_this_user();
    match (test.scenario.play, step) {
        (Play::Whole(whole), Step::Whole) => whole(&home),
        (Play::Cut(_, after), Step::After) => after(&home),
        (Play::Cut(before, _), Step::Before) => {
            before(&home);
            // It is the power cut that ends what runs.
            std::mem::forget(home);
        }
        (_, step) => panic!("{} has no step {step:?}", test.name()),
    }
}

/// Runs a step in a process of its own, between two pictures. Whether all was well.
fn watched(step: Step, test: Test, before: &mut Option<Picture>) -> bool {
    let name = test.name();
    tell(&format!("begin {name}"));
    let begin = Instant::now();
    let ours = Path::new(OURS);
    fs::create_dir_all(ours).expect("a directory of ours");
    let picture_file = ours.join("picture");
    if step != Step::After {
        start_afresh();
    }
    let before = before.get_or_insert_with(|| {
        if step == Step::After {
            let text = fs::read_to_string(&picture_file).expect("the picture before the cut");
            return Picture::of_text(&text);
        }
        udev_settled();
        Picture::take(may_stay)
    });
    if step == Step::Before {
        fs::write(&picture_file, before.to_text()).expect("a picture");
        sync();
    }
    let (log, skips) = (ours.join("log"), ours.join("skips"));
    fs::write(&skips, "").expect("a file for skips");
    fs::set_permissions(&skips, fs::Permissions::from_mode(0o666)).expect("for everyone");

    let status = in_own_process(step, test, &log, &skips);
    let mut text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let mut failed = match status {
        Some(status) if status.success() => false,
        Some(status) => {
            text.push_str(&format!("\n{name} ended with {status}\n"));
            true
        }
        None => {
            text.push_str(&format!("\n{name} did not end within {SCENARIO_MAX:?}\n"));
            true
        }
    };
    if step == Step::Before && !failed {
        tell(&format!("cut {name}"));
        // The power goes now.
        loop {
            thread::park();
        }
    }
    let left = settled(before);
    if !left.is_empty() {
        text.push_str(&format!("\nwhat the host has too much (+) or too little (-):\n{left}"));
        failed = true;
    }
    for reason in fs::read_to_string(&skips).unwrap_or_default().lines() {
        tell(&format!("skip {reason}"));
    }
    for line in text.lines() {
        tell(&format!("log {line}"));
    }
    let word = if failed { "failed" } else { "ok" };
    tell(&format!("{word} {name} {}", begin.elapsed().as_millis()));
    !failed
}

/// Runs the test as its user; nothing if it does not end in time.
fn in_own_process(step: Step, test: Test, log: &Path, skips: &Path) -> Option<ExitStatus> {
    let file = File::create(log).expect("a log");
    let mut command = Command::new("as");
    command.args([test.user.name(), "env"]);
    command.arg(format!("BANGER_SKIP_FILE={}", skips.display())).arg("RUST_BACKTRACE=0");
    for name in ["BANGER_TEST_FIRECRACKER", "BANGER_TEST_JAILER"] {
        if let Ok(value) = env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    command.arg(env::current_exe().expect("this program"));
    command.args([WORD, "one", step.word(), &test.name()]);
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("a log")).stderr(file);
    let mut child = command.process_group(0).spawn().expect("the test runs");
    let group = Pid::from_raw(child.id().cast_signed());
    let status = within(&mut child, SCENARIO_MAX);
    if status.is_none() {
        // What it left in other groups is found by the picture.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
    }
    status
}

fn within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("its status") {
            return Some(status);
        }
        thread::sleep(LOOK);
    }
    None
}

/// What is different from before, when it does not become less any more.
fn settled(before: &Picture) -> String {
    let begin = Instant::now();
    loop {
        udev_settled();
        let left = before.difference(&Picture::take(may_stay));
        if left.is_empty() || begin.elapsed() > SETTLE_MAX {
            return left;
        }
    }
}

/// Waits until udev has heard of all that came and went, and made its links. What it runs for
/// that is in no picture, but what that leaves is.
fn udev_settled() {
    // One that takes longer than that is found by the picture. It says so in the log of nobody.
    let settle = ["settle", "--timeout=60"];
    let _ = Command::new("udevadm").args(settle).stderr(Stdio::null()).status();
}

/// Homes and runtime directories of banger, of root and of dev.
fn places() -> [(PathBuf, PathBuf); 2] {
    User::ALL.map(|user| match user {
        User::Root => ("/root".into(), "/run/banger".into()),
        User::Dev => ("/home/dev".into(), "/run/user/1000/banger".into()),
    })
}

/// What banger keeps when no VM is left, and says so: its database, its log, the user's keys, and
/// the directories they are in.
fn may_stay(path: &Path) -> bool {
    places().iter().any(|(home, run)| {
        let state = home.join(".local/state/banger");
        let in_state = path.strip_prefix(&state).ok().and_then(Path::to_str);
        let known = |name: &str| {
            name == "vms" && fs::read_dir(path).is_ok_and(|mut dir| dir.next().is_none())
                || ["banger.db", "banger.log"].iter().any(|file| name.starts_with(file))
        };
        match in_state {
            Some("" | "ssh") => path.is_dir(),
            Some(name) => known(name) || ["ssh/id_ed25519", "ssh/id_ed25519.pub"].contains(&name),
            None => path == run && fs::read_dir(run).is_ok_and(|mut dir| dir.next().is_none()),
        }
    })
}

/// Takes away the files that an earlier scenario may leave.
fn start_afresh() {
    for (home, run) in places() {
        for dir in [home.join(".local/state/banger"), home.join(".config/banger"), run] {
            let _ = fs::remove_dir_all(dir);
        }
        // Made by banger where it is missing, and none of its business afterwards.
        let _ = fs::create_dir_all(home.join(".local/state"));
    }
    let _ = Command::new("chown").args(["-R", "dev:dev", "/home/dev"]).status();
}

fn tell(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{MARK}{line}").and_then(|()| out.flush()).expect("someone listens");
}
