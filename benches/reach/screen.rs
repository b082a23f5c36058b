//! A program in a pseudo-terminal, and what is on its screen.

use std::{
    ffi::OsString,
    io::{Read, Write},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::Outcome;

/// Columns and rows: those of a large window.
const SIZE: (u16, u16) = (120, 40);
/// What ends a frame of banger's: the end of a synchronized update.
const FRAME_END: &[u8] = b"\x1b[?2026l";
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// It.
pub struct Screen {
    /// When the program was started.
    pub begun: Instant,
    /// Its process.
    pub pid: u32,
    child: Box<dyn Child + Send + Sync>,
    writer: Box<dyn Write + Send>,
    chunks: Receiver<(Instant, Vec<u8>)>,
    /// Read, but not yet part of a whole frame.
    rest: Vec<u8>,
    at: Instant,
    terminal: avt::Terminal,
    _master: Box<dyn MasterPty + Send>,
}

impl Screen {
    /// Starts a program.
    pub fn start(argv: &[OsString], env: &[(&str, OsString)]) -> Outcome<Self> {
        let (cols, rows) = SIZE;
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size)?;
        let mut command = CommandBuilder::from_argv(argv.to_vec());
        command.env("TERM", "xterm-256color");
        for (key, value) in env {
            command.env(key, value);
        }
        let mut reader = pair.master.try_clone_reader()?;
        let writer = pair.master.take_writer()?;
        let (sender, chunks) = mpsc::channel();
        // Its own thread, so that a chunk's time is that of its coming.
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let chunk = (Instant::now(), buffer[..count].to_vec());
                if sender.send(chunk).is_err() {
                    return;
                }
            }
        });
        let begun = Instant::now();
        let child = pair.slave.spawn_command(command)?;
        drop(pair.slave);
        let pid = child.process_id().ok_or("no process")?;
        let terminal =
            avt::Terminal::new(cols.into(), rows.into()).map_err(|e| format!("{e:?}"))?;
        let _master = pair.master;
        Ok(Self {
            begun,
            pid,
            child,
            writer,
            chunks,
            rest: Vec::new(),
            at: begun,
            terminal,
            _master,
        })
    }

    /// When the next bytes came, whatever they are.
    pub fn any(&mut self) -> Outcome<Instant> {
        Ok(self.chunks.recv_timeout(PATIENCE).map_err(|_| "nothing comes")?.0)
    }

    /// Types, and says when.
    pub fn send(&mut self, keys: &str) -> Outcome<Instant> {
        let now = Instant::now();
        self.writer.write_all(keys.as_bytes())?;
        self.writer.flush()?;
        Ok(now)
    }

    /// When the next whole frame had come.
    pub fn frame(&mut self) -> Outcome<Instant> {
        let mut from = 0;
        loop {
            let found = self.rest[from..].windows(FRAME_END.len()).position(|w| w == FRAME_END);
            if let Some(at) = found {
                let after = from + at + FRAME_END.len();
                let frame: Vec<u8> = self.rest.drain(..after).collect();
                self.terminal.feed(&*String::from_utf8_lossy(&frame));
                return Ok(self.at);
            }
            from = self.rest.len().saturating_sub(FRAME_END.len() - 1);
            let (at, chunk) = self.chunks.recv_timeout(PATIENCE).map_err(|_| "no frame comes")?;
            self.at = at;
            self.rest.extend(chunk);
        }
    }

    /// When the first frame had come on which this is so.
    pub fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) -> Outcome<Instant> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let at =
                self.frame().map_err(|e| format!("{what}: {e}; the screen:\n{}", self.text()))?;
            if so(self) {
                return Ok(at);
            }
        }
        Err(format!("{what}: not in time; the screen:\n{}", self.text()).into())
    }

    /// A line of the screen, from 0.
    pub fn line(&self, row: usize) -> String {
        self.terminal.screen().line(row).map(|line| line.text()).unwrap_or_default()
    }

    /// All of it.
    pub fn text(&self) -> String {
        let lines: Vec<_> = (0..usize::from(SIZE.1)).map(|row| self.line(row)).collect();
        lines.join("\n")
    }

    /// Whether it is anywhere.
    pub fn shows(&self, text: &str) -> bool {
        self.text().contains(text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // SIGHUP first: banger then gives its terminal back.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
