//! A build, from the copy of the base to the published image.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    os::fd::AsFd,
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, Signal},
    sys::termios::{self, FlushArg, LocalFlags, SetArg, SpecialCharacterIndices, Termios},
    unistd::{getpgrp, tcsetpgrp},
};

use super::{
    Options, boot,
    engine::{self, Engine},
    log::Log,
    plan::Plan,
    say, somebody,
    step::{self, Ended},
    vm::Builder,
};
use crate::{
    cli::{
        Connect,
        args::EngineKind,
        exit,
        exit::{Failure, Outcome},
        out,
        setup::Setup,
        signals,
    },
    domain::{ByteSize, ImageOrigin, Problem},
    host::disk,
    image::{
        Catalog, Metadata, Parent, Staged,
        build::{self, Host, Mounted, Parts, Session, Step},
    },
};

/// How often a question looks whether we are to end.
const LOOK_MS: u16 = 100;

/// With fewer bytes than this free, that is the reason why a step failed: ext4 and apt leave some.
const FULL: u64 = 16 << 20;

/// Ctrl-D, as a terminal sends it that gives each key at once.
const END_OF_INPUT: u8 = 4;

/// The number of SIGINT: Ctrl-C, after which a user at a terminal is asked.
const INTERRUPT: i32 = 2;

/// The number of SIGQUIT: Ctrl-\.
const QUIT: i32 = 3;

/// Builds the image of a plan.
///
/// # Errors
/// A step that failed and was not mended, an image that does not boot.
pub fn run(
    catalog: &Catalog,
    plan: Plan,
    options: &Options,
    connect: Connect,
    setup: &Setup,
) -> Outcome {
    for line in plan.lines() {
        say(&line);
    }
    if somebody() && !options.yes {
        crate::cli::machines::ask("build it?")?;
    }
    let asked = Arc::new(AtomicI32::new(0));
    let flag = Arc::clone(&asked);
    signals::watch(move |signal| flag.store(signal, Ordering::Relaxed))?;
    let begun = Instant::now();
    let staged = catalog.stage()?;
    let log = Log::new(&staged.dir().join("build.log")).map_err(|error| {
        let hint = "`banger doctor` checks the directories";
        Problem::new("cannot write the log of the build", error.to_string(), hint)
    })?;
    let mut build = Build { plan, staged, log, asked, interactive: somebody() };
    let packages = build.steps(options, connect, setup)?;
    build.staged.set_packages(&build.plan.packages)?;
    let metadata = build.metadata(packages, begun);
    let metadata = build.staged.seal(metadata, &mut |_| true)?;
    build.interrupted()?;
    if options.test_boot {
        build.header("test boot");
        let since = Instant::now();
        let names = (build.staged.name(), build.plan.name.to_string());
        let memory = metadata.default_memory_mib;
        boot::test(connect(setup)?, setup, (&names.0, &names.1), memory)?;
        build.footer("it boots, its SSH answers, no unit failed", since);
        build.interrupted()?;
    }
    let Build { plan, staged, .. } = build;
    let metadata = Metadata { took_ms: millis(begun.elapsed()), ..metadata };
    let view =
        staged.publish(catalog, &plan.name, metadata, Some(&plan.recipe), options.replace)?;
    let used = view.used.map_or_else(String::new, |used| format!(", {}", ByteSize(used)));
    out::line(format!("{} is ready{used}: `banger create NAME --image {0}`", plan.name))?;
    Ok(exit::OK)
}

/// A build under way.
struct Build {
    plan: Plan,
    staged: Staged,
    log: Log,
    asked: Arc<AtomicI32>,
    interactive: bool,
}

/// What the user wants after a step failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Retry,
    Shell,
    Continue,
    Abort,
}

impl Build {
    /// Runs all steps; what is installed in the end.
    fn steps(
        &mut self,
        options: &Options,
        connect: Connect,
        setup: &Setup,
    ) -> Result<Vec<String>, Failure> {
        let host = match self.plan.engine {
            EngineKind::Chroot => Host::look(),
            EngineKind::Vm => Host::look().of_guest(),
        };
        let engine = self.open(&host, connect, setup)?;
        engine
            .session()?
            .note(self.staged.dir(), self.plan.name.as_str())
            .map_err(|e| Problem::new("cannot note where the build is", e.to_string(), ""))?;
        let steps = self.plan.steps.clone();
        for (nth, step) in steps.iter().enumerate() {
            if *step == Step::Clean && options.shell {
                self.shell(&engine)?;
            }
            self.one(&engine, *step, &format!("{}/{}", nth + 1, steps.len()))?;
        }
        let packages = engine.packages()?;
        Session::forget(self.staged.dir());
        engine.close()?;
        build::check(&self.staged.disk())?;
        Ok(packages)
    }

    /// The root that the steps run in.
    fn open(&mut self, host: &Host, connect: Connect, setup: &Setup) -> Result<Engine, Failure> {
        self.header(&format!("a copy of {}", self.plan.recipe.base));
        let since = Instant::now();
        let (disk, work) = (self.staged.disk(), self.staged.dir().join("work"));
        let Plan { recipe, base, engine, .. } = &self.plan;
        let in_vm = *engine == EngineKind::Vm;
        let packages = self.plan.changes();
        let parts = Parts { recipe, packages: &packages, host, in_vm };
        parts.write(&work)?;
        self.plan.bring(&work)?;
        let opened = if in_vm {
            // Sealed, it is an image of which a VM can be made that is known to be ours.
            self.plan.copy_base(&disk)?;
            let memory = base.view().default_memory_mib;
            let metadata = Metadata { default_memory_mib: memory, ..Metadata::default() };
            self.staged.seal(metadata, &mut |_| true)?;
            let (image, client) = (self.staged.name(), connect(setup)?);
            let builder = Builder::start(client, setup, &parts, (&image, memory), &work, &disk)?;
            Engine::Vm(Box::new(builder))
        } else {
            self.plan.copy_base(&disk)?;
            if let Some(mib) = recipe.size_mib {
                build::grow(&disk, mib)?;
            }
            let root = self.staged.dir().join("root");
            let mounted = Box::new(Mounted::open(&setup.options.program, &disk, &root, &work)?);
            Engine::Chroot { mounted, host: host.clone(), work }
        };
        self.footer("done", since);
        self.interrupted()?;
        Ok(opened)
    }

    /// Runs a step until it goes well, or the user does not want it to.
    fn one(&mut self, engine: &Engine, step: Step, nth: &str) -> Result<(), Failure> {
        loop {
            self.header(&format!("{nth} {}", step.word()));
            let since = Instant::now();
            let log = &mut self.log;
            let line = |text: &str| log.line(&format!("    {text}"));
            let ended = step::run(engine.step(step)?, line, &self.asked);
            let ended = ended.map_err(|error| {
                let hint = "is it installed? (nsenter: util-linux, ssh: openssh-client)";
                Problem::new(format!("cannot run {}", step.file()), error.to_string(), hint)
            })?;
            let problem = match engine::judge(step, &ended) {
                Ok(()) => {
                    self.footer("done", since);
                    return Ok(());
                }
                Err(problem) => {
                    let free = disk::free_space(self.staged.dir()).unwrap_or(u64::MAX);
                    of_full_disk(problem, free)
                }
            };
            let signal = self.asked.load(Ordering::Relaxed);
            if !self.interactive || !matches!(signal, 0 | INTERRUPT) {
                self.interrupted()?;
                return Err(problem.into());
            }
            self.asked.store(0, Ordering::Relaxed);
            self.log.line(&format!("error: {problem}"));
            if let Err(problem) = engine.end_step() {
                self.log.line(&format!("error: of that step something still runs: {problem}"));
            }
            loop {
                match self.question()? {
                    Answer::Retry => break,
                    Answer::Shell => self.shell(engine)?,
                    Answer::Continue => return Ok(()),
                    Answer::Abort if ended == Ended::Interrupted => {
                        return Err(Failure::Said(signals::exit_code(INTERRUPT)));
                    }
                    Answer::Abort => return Err(Failure::Said(exit::FAILED)),
                }
            }
        }
    }

    /// Asks what now. One key answers.
    fn question(&self) -> Result<Answer, Failure> {
        let _terminal = Keys::listen();
        eprint!("[r]etry, open a [s]hell in it, [c]ontinue as it is, or [a]bort? ");
        let _ = io::stderr().flush();
        loop {
            let (answer, word) = match self.key()?.map(|key| key.to_ascii_lowercase()) {
                Some(b'r') => (Answer::Retry, "retry"),
                Some(b's') => (Answer::Shell, "shell"),
                Some(b'c') => (Answer::Continue, "continue"),
                Some(b'a' | b'q' | END_OF_INPUT) => (Answer::Abort, "abort"),
                None => return Ok(Answer::Abort),
                Some(_) => continue,
            };
            say(word);
            return Ok(answer);
        }
    }

    /// A key of the user's; nothing at the end of the input, or when we are to end.
    fn key(&self) -> Result<Option<u8>, Failure> {
        let stdin = io::stdin();
        loop {
            if self.asked.load(Ordering::Relaxed) != 0 {
                say("");
                return Ok(None);
            }
            let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(LOOK_MS)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => break,
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
        // Nothing more is read: what comes behind it may be for a shell.
        let mut key = [0];
        let read = nix::unistd::read(stdin.as_fd(), &mut key).map_err(io::Error::from)?;
        Ok((read > 0).then_some(key[0]))
    }

    /// A shell in the new root, on the user's terminal; without one, nothing.
    fn shell(&mut self, engine: &Engine) -> Result<(), Failure> {
        if !self.interactive {
            return Ok(());
        }
        say("a shell in the new image; `exit` goes on");
        let mut command = engine.shell(self.plan.name.as_str())?;
        let status = command.spawn().and_then(|child| self.attend(child));
        take_terminal();
        // Ctrl-C in there was not meant for us.
        let _ = self.asked.compare_exchange(INTERRUPT, 0, Ordering::Relaxed, Ordering::Relaxed);
        if let Err(error) = status {
            say(&format!("cannot open a shell: {error}"));
        }
        self.interrupted()
    }

    /// Waits for the end of a shell. If we are to end ourselves, and not by a key that was typed in
    /// there, what it runs is not waited for: it goes with the root.
    fn attend(&self, mut shell: Child) -> io::Result<()> {
        loop {
            if shell.try_wait()?.is_some() {
                return Ok(());
            }
            if !matches!(self.asked.load(Ordering::Relaxed), 0 | INTERRUPT | QUIT) {
                // It may be gone by now.
                let _ = shell.kill();
                return shell.wait().map(drop);
            }
            thread::sleep(Duration::from_millis(LOOK_MS.into()));
        }
    }

    /// Ends, if we are to.
    fn interrupted(&self) -> Result<(), Failure> {
        match self.asked.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => {
                say("interrupted: nothing of it is left");
                Err(Failure::Said(signals::exit_code(signal)))
            }
        }
    }

    fn header(&mut self, what: &str) {
        self.log.line(&format!("==> {what}"));
    }

    fn footer(&mut self, what: &str, since: Instant) {
        self.log.line(&format!("    {what}, {:.1} s", since.elapsed().as_secs_f64()));
    }

    /// What is known of the image when its steps are done.
    fn metadata(&self, packages: Vec<String>, begun: Instant) -> Metadata {
        let Plan { recipe, base, packages: manifest, .. } = &self.plan;
        let parent = Parent { name: recipe.base.clone(), sha256: base.sha256().to_owned() };
        let steps: BTreeMap<String, String> = build::digests(recipe);
        let about = if recipe.about.is_empty() {
            format!("{}, customized", recipe.base)
        } else {
            recipe.about.clone()
        };
        Metadata {
            about,
            default_memory_mib: recipe.memory_mib.unwrap_or(base.view().default_memory_mib),
            origin: ImageOrigin::Customized,
            parent: Some(parent),
            packages_sha256: Some(manifest.sha256()),
            packages,
            steps,
            built: crate::cli::now(),
            took_ms: millis(begun.elapsed()),
            ..Metadata::default()
        }
    }
}

/// What failed, with the reason that a step does not see: the image is a sparse file, and its file
/// system says “I/O error” or “read-only” when the one below it is full.
fn of_full_disk(problem: Problem, free: u64) -> Problem {
    if free >= FULL {
        return problem;
    }
    let why = format!("{}; the file system of the state directory is full", problem.why);
    Problem::new(problem.what, why, "make room there, then build again from the beginning")
}

/// The terminal gives each key at once, for as long as this lives; its interrupt key stays one.
struct Keys(Option<Termios>);

impl Keys {
    /// What was typed before is no answer: it is thrown away.
    fn listen() -> Self {
        let stdin = io::stdin();
        let before = termios::tcgetattr(stdin.as_fd()).ok();
        if let Some(before) = &before {
            let mut modes = before.clone();
            modes.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            modes.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            modes.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            // Where that fails, keys come with the line's end.
            let _ = termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &modes);
            let _ = termios::tcflush(stdin.as_fd(), FlushArg::TCIFLUSH);
        }
        Self(before)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, before);
        }
    }
}

/// Takes the terminal back from a shell that ran in other namespaces: it made itself the terminal's
/// foreground, and had no word for us to give it back to.
fn take_terminal() {
    // Who is not the foreground is stopped by the attempt, without this.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    let _ = stop.thread_block();
    let _ = tcsetpgrp(io::stdin(), getpgrp());
    let _ = stop.thread_unblock();
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_on_a_full_disk_says_so() {
        let problem = Problem::new("the step packages failed", "apt could not do it", "look above");
        assert_eq!(of_full_disk(problem.clone(), FULL), problem);
        let full = of_full_disk(problem, FULL - 1);
        assert!(full.why.starts_with("apt could not do it; "), "{full}");
        assert!(full.why.ends_with("is full") && full.hint.contains("make room"), "{full}");
    }
}
