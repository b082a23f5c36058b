//! How fast a flooding console is drained: through a pseudo-terminal, and through the socket of
//! a stand-in for a monitor; each against a loop that only reads the same, in the same run.
//!
//! The target is 10 MB/s.

use std::{
    error::Error,
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Instant,
};

use banger::{
    domain::MonitorReply,
    session::{
        Problem, Session, Size,
        pty::{self, Program},
        serial,
        wire::{self, FrameReader},
    },
    term::{Options, Pane, PaneState},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const SIZE: Size = Size { cols: 120, rows: 40 };

/// Bytes drained in each run.
const BYTES: usize = 32 << 20;

/// The best of so many runs counts: the machine is not ours alone.
const RUNS: usize = 3;

fn main() -> Outcome<()> {
    let dir = std::env::temp_dir().join(format!("banger-drain-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let result = measure(&dir);
    fs::remove_dir_all(&dir)?;
    result
}

fn measure(dir: &Path) -> Outcome<()> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/term");
    for (what, names) in [
        ("boot log", &["boot"][..]),
        ("full-screen programs", &["top", "less", "vim", "whiptail", "nano"][..]),
    ] {
        let mut once = Vec::new();
        for name in names {
            once.extend(fs::read(fixtures.join(format!("{name}.bin")))?);
        }
        let data = once.repeat(BYTES / once.len() + 1);
        let file = dir.join("stream");
        fs::write(&file, &data)?;

        let cat = |file: PathBuf| Program {
            // Raw: the line discipline is not what is measured.
            argv: ["sh", "-c", "stty raw -echo; exec cat \"$0\""]
                .into_iter()
                .map(Into::into)
                .chain([file.into_os_string()])
                .collect(),
            ..Program::default()
        };
        let program = cat(file.clone());
        let floor = best(|| read_all(pty::open(&program, SIZE)?))?;
        let drained = best(|| {
            let program = program.clone();
            drain(move |size| pty::open(&program, size))
        })?;
        report(what, "pseudo-terminal", data.len(), floor, drained);

        let socket = dir.join("monitor.sock");
        let floor = best(|| {
            let (data, listener) = (data.clone(), listen(&socket)?);
            let sender = thread::spawn(move || -> std::io::Result<()> {
                listener.accept()?.0.write_all(&data)
            });
            let mut stream = UnixStream::connect(&socket)?;
            let mut buffer = vec![0; 64 * 1024];
            while stream.read(&mut buffer)? > 0 {}
            sender.join().map_err(|_| "the sender panicked")??;
            Ok(())
        })?;
        let drained = best(|| {
            let (data, listener) = (data.clone(), listen(&socket)?);
            let monitor = thread::spawn(move || -> std::io::Result<()> {
                let (mut stream, _) = listener.accept()?;
                FrameReader::new(stream.try_clone()?).read_frame()?;
                wire::write_control(&mut stream, &MonitorReply::Ok)?;
                data.chunks(16 * 1024).try_for_each(|chunk| wire::write_data(&mut stream, chunk))
            });
            let path = socket.clone();
            drain(move |_| serial::open(&path))?;
            monitor.join().map_err(|_| "the monitor panicked")??;
            Ok(())
        })?;
        report(what, "monitor's socket", data.len(), floor, drained);
    }
    Ok(())
}

fn listen(socket: &Path) -> std::io::Result<UnixListener> {
    if socket.exists() {
        fs::remove_file(socket)?;
    }
    UnixListener::bind(socket)
}

fn read_all(mut session: Session) -> Outcome<()> {
    let mut buffer = vec![0; 64 * 1024];
    while session.reader.read(&mut buffer)? > 0 {}
    session.control.end();
    Ok(())
}

/// Lets a pane drain a session, with a UI that looks at each change.
fn drain(open: impl FnOnce(Size) -> Result<Session, Problem> + Send + 'static) -> Outcome<()> {
    let (woken, wake) = mpsc::channel();
    let pane = Pane::spawn(open, SIZE, Options::default(), move || {
        let _ = woken.send(());
    });
    loop {
        wake.recv()?;
        let _ = (pane.take_dirty(), pane.take_noticed());
        match pane.state() {
            PaneState::Opening | PaneState::Live => {}
            PaneState::Failed(problem) => return Err(problem.into()),
            PaneState::Ended(_) => return Ok(()),
        }
    }
}

/// Seconds of the fastest run.
fn best(mut run: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let begun = Instant::now();
        run()?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn report(what: &str, through: &str, bytes: usize, floor: f64, drained: f64) {
    let rate = |seconds: f64| bytes as f64 / 1e6 / seconds;
    println!(
        "console drain, {what} through a {through}: {:.1} MB/s; only reading {:.1} MB/s; ratio {:.2}",
        rate(drained),
        rate(floor),
        drained / floor,
    );
}
