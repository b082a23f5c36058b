//! How fast a pane drains a flooding console: through a pseudo-terminal, and through the socket
//! of a stand-in for a monitor; each against a loop that only reads the same.

use std::{
    env, fs,
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

use crate::{Outcome, table::Row};

const SIZE: Size = Size { cols: 120, rows: 40 };

/// Bytes drained in each run.
const BYTES: usize = 32 << 20;

/// The best of so many runs counts: the machine is not ours alone.
const RUNS: usize = 3;

/// MB/s that are asked for.
const RATE: f64 = 10.0;

/// Both ways, for two kinds of output.
pub fn measure() -> Outcome<Vec<Row>> {
    let dir = env::temp_dir().join(format!("banger-drain-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let rows = measure_in(&dir);
    fs::remove_dir_all(&dir)?;
    rows
}

/// What programs wrote to a terminal, one recording behind the other.
pub fn stream(names: &[&str]) -> Outcome<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/term");
    let mut all = Vec::new();
    for name in names {
        all.extend(fs::read(fixtures.join(format!("{name}.bin")))?);
    }
    Ok(all)
}

fn measure_in(dir: &Path) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for (what, names) in [
        ("boot log", &["boot"][..]),
        ("full-screen programs", &["top", "less", "vim", "whiptail", "nano"][..]),
    ] {
        let once = stream(names)?;
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
        rows.push(row(what, "a pseudo-terminal", data.len(), floor, drained));

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
        rows.push(row(what, "a monitor's socket", data.len(), floor, drained));
    }
    Ok(rows)
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

fn row(what: &str, through: &str, bytes: usize, floor: f64, drained: f64) -> Row {
    let rate = |seconds: f64| bytes as f64 / 1e6 / seconds;
    Row::limit(
        format!("pane drains {what} through {through}"),
        format!("{:.1} MB/s (only reading)", rate(floor)),
        format!("{:.1} MB/s", rate(drained)),
        format!("at least {RATE:.0} MB/s"),
        rate(drained) >= RATE,
    )
}
