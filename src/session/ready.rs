//! When the shell behind `ssh` is there to read what is typed.
//!
//! Before that the keys would not be lost, but not be its own either: until `ssh` has logged in,
//! the terminal it runs in is ours, which gathers lines, shows each key once too often, cuts a
//! line after 4,095 bytes, and ends `ssh` at a Ctrl-C. The guest's is no better until the shell
//! has set it up: there a Ctrl-C throws away all that was typed.

use std::{
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::pty::Terminal;

/// How often the terminal is looked at until `ssh` has taken it, which nothing tells of.
const LOOK: Duration = Duration::from_millis(10);

/// What stays in a line that is not ended is a prompt, if nothing more comes for so long: by then
/// shells have set up the terminal.
const REST: Duration = Duration::from_millis(100);

/// The same after the end of a line: a greeting, or the prompt of a shell whose prompt is a line.
const LONG_REST: Duration = Duration::from_secs(1);

/// How long a guest may take to print anything at all: some shells do not.
const SILENCE: Duration = Duration::from_secs(3);

/// How long a guest may print on: what is typed is perhaps to end that.
const CHATTER: Duration = Duration::from_secs(10);

/// What the reader knows.
#[derive(Default)]
struct Heard {
    last: Option<Last>,
    ended: bool,
}

/// The last that came.
#[derive(Clone, Copy)]
struct Last {
    at: Instant,
    ends_line: bool,
}

/// Shared by the reader and whoever waits.
#[derive(Clone, Default)]
pub(super) struct Ear(Arc<(Mutex<Heard>, Condvar)>);

impl Ear {
    /// A reader that notes when something comes.
    pub fn listen(&self, reader: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        Box::new(Listening { reader, ear: self.clone() })
    }

    /// Calls `tell` when the shell is there, or when the session has ended.
    pub fn when_ready(&self, terminal: Terminal, tell: Box<dyn FnOnce() + Send>) {
        let ear = self.clone();
        let tell = Arc::new(Mutex::new(Some(tell)));
        let now = Arc::clone(&tell);
        let call = |tell: &Mutex<Option<Box<dyn FnOnce() + Send>>>| {
            let tell = tell.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(tell) = tell {
                tell();
            }
        };
        let wait = move || {
            ear.wait(&terminal);
            call(&tell);
        };
        if let Err(error) = thread::Builder::new().name("ssh-ready".to_owned()).spawn(wait) {
            tracing::warn!(%error, "no thread to wait for a shell with; keys are not kept for it");
            call(&now);
        }
    }

    fn wait(&self, terminal: &Terminal) {
        let mut taken: Option<Instant> = None;
        let mut heard = self.lock();
        while !heard.ended {
            let now = Instant::now();
            if taken.is_none() && terminal.is_raw() {
                taken = Some(now);
            }
            let pause = match taken {
                None => LOOK,
                Some(taken) => match left(taken, heard.last, now) {
                    Some(left) => left,
                    None => return,
                },
            };
            let waited = self.0.1.wait_timeout(heard, pause);
            heard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn hear(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait on at `now`, if the terminal was taken then and something came last then;
/// `None` when the shell is there.
fn left(taken: Instant, last: Option<Last>, now: Instant) -> Option<Duration> {
    // What came just before we looked came through the connection too.
    let ready = match last.filter(|last| last.at + LOOK >= taken) {
        Some(Last { at, ends_line }) => {
            (at + if ends_line { LONG_REST } else { REST }).min(taken + CHATTER)
        }
        None => taken + SILENCE,
    };
    Some(ready.saturating_duration_since(now)).filter(|left| !left.is_zero())
}

struct Listening {
    reader: Box<dyn Read + Send>,
    ear: Ear,
}

impl Read for Listening {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.reader.read(buffer);
        match &result {
            Ok(count @ 1..) => {
                let ends_line = buffer[count - 1] == b'\n';
                let last = Last { at: Instant::now(), ends_line };
                self.ear.hear(|heard| heard.last = Some(last));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => self.ear.hear(|heard| heard.ended = true),
        }
        result
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.ear.hear(|heard| heard.ended = true);
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, sync::mpsc};

    use super::*;
    use crate::session::{
        Size,
        pty::{self, Opened, Program},
    };

    #[test]
    fn a_shell_is_there_when_it_has_printed_its_prompt_or_prints_nothing() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let ms = |left: Option<Duration>| left.map(|left| left.as_millis());
        let prompt = |ms: u64| Some(Last { at: at(ms), ends_line: false });
        let line = |ms: u64| Some(Last { at: at(ms), ends_line: true });
        assert_eq!(ms(left(at(0), None, at(0))), Some(3_000));
        assert_eq!(ms(left(at(0), None, at(3_000))), None);
        assert_eq!(ms(left(at(0), prompt(500), at(540))), Some(60));
        assert_eq!(ms(left(at(0), prompt(500), at(600))), None);
        assert_eq!(ms(left(at(0), line(500), at(600))), Some(900));
        assert_eq!(ms(left(at(0), line(500), at(1_500))), None);
        // What `ssh` itself said is no shell; what came with the look is.
        assert_eq!(ms(left(at(900), prompt(500), at(1_000))), Some(2_900));
        assert_eq!(ms(left(at(505), prompt(500), at(600))), None);
        // It prints and prints.
        assert_eq!(ms(left(at(0), prompt(9_990), at(9_995))), Some(5));
        assert_eq!(ms(left(at(0), prompt(10_000), at(10_000))), None);
    }

    /// Runs a script in the place of `ssh`, and says when it is taken to be ready.
    fn run(script: &str) -> (Opened, mpsc::Receiver<()>) {
        let argv = ["sh", "-c", script].map(OsString::from).to_vec();
        let program = Program { argv, ..Program::default() };
        let mut opened = pty::spawn(&program, Size { cols: 80, rows: 24 }).unwrap();
        let ear = Ear::default();
        opened.reader = ear.listen(opened.reader);
        let (ready, is_ready) = mpsc::channel();
        let tell = Box::new(move || ready.send(()).unwrap());
        ear.when_ready(opened.control.terminal(), tell);
        (opened, is_ready)
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn it_waits_for_the_terminal_to_be_taken_and_for_a_prompt() {
        use std::io::Write as _;
        let script = "echo connecting; read go; stty raw -echo; printf '# '; cat";
        let (mut opened, ready) = run(script);
        let mut seen = Vec::new();
        let mut read = |until: &[u8]| {
            while !seen.ends_with(until) {
                let mut byte = [0];
                assert_eq!(opened.reader.read(&mut byte).unwrap(), 1, "{seen:?}");
                seen.extend(byte);
            }
        };
        read(b"connecting\r\n");
        // Much longer than a prompt has to rest for.
        assert!(ready.recv_timeout(REST * 3).is_err(), "nobody reads keys yet");
        opened.writer.write_all(b"\n").unwrap();
        read(b"# ");
        ready.recv_timeout(PATIENCE).unwrap();
    }

    #[test]
    fn it_does_not_wait_for_what_has_ended() {
        let (mut opened, ready) = run("exit 1");
        let mut all = Vec::new();
        opened.reader.read_to_end(&mut all).unwrap();
        ready.recv_timeout(PATIENCE).unwrap();
        let (opened, ready) = run("read line");
        drop(opened.reader);
        ready.recv_timeout(PATIENCE).unwrap();
    }
}
