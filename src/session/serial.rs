//! A VM's serial console, through the socket of its monitor.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Control, Session, Size,
    wire::{self, Frame, FrameReader},
};
use crate::domain::{MonitorReply, MonitorRequest, Problem};

/// How long a monitor may take to answer; it only has to copy what it remembers.
const ANSWER: Duration = Duration::from_secs(10);

/// Attaches to the console: what the monitor remembers of its output comes first, then what
/// the guest prints.
///
/// A serial line has no size: [`Control::resize`] does nothing.
///
/// # Errors
/// If no monitor listens at `socket` (the VM is off), if it denies (with its own words), or if
/// what answers does not speak our protocol.
pub fn open(socket: &Path) -> Result<Session, Problem> {
    let cannot = |why: String, hint: &str| Problem::new("cannot open the console", why, hint);
    let broken = |e: &io::Error| {
        cannot(format!("the VM's monitor does not answer as it should: {e}"), "restart the VM")
    };
    let stream = UnixStream::connect(socket).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            cannot("the VM is not running".to_owned(), "start it (s)")
        }
        _ => cannot(format!("{}: {e}", socket.display()), "check who may read that directory"),
    })?;
    let (mut writer, closer) = stream
        .try_clone()
        .and_then(|writer| Ok((writer, stream.try_clone()?)))
        .map_err(|e| cannot(e.to_string(), "close other panes: too many files are open"))?;
    stream.set_read_timeout(Some(ANSWER)).map_err(|e| broken(&e))?;
    let attach = MonitorRequest::Attach { replay: true };
    wire::write_control(&mut writer, &attach).map_err(|e| broken(&e))?;
    let mut frames = FrameReader::new(stream);
    let reply = match frames.read_frame() {
        Ok(Some(frame)) => frame.message::<MonitorReply>().map_err(|e| broken(&e.into()))?,
        Ok(None) => {
            return Err(cannot("the VM's monitor hung up: the VM is stopping".into(), "try again"));
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            let why = format!("the VM's monitor has not answered for {} s", ANSWER.as_secs());
            return Err(cannot(why, "restart the VM"));
        }
        Err(e) => return Err(broken(&e)),
    };
    if let MonitorReply::Denied { problem } = reply {
        return Err(problem);
    }
    frames.get_ref().set_read_timeout(None).map_err(|e| broken(&e))?;
    let why = Arc::new(Mutex::new(End::None));
    Ok(Session {
        reader: Box::new(ConsoleReader {
            frames,
            data: Vec::new(),
            taken: 0,
            why: Arc::clone(&why),
        }),
        writer: Box::new(ConsoleWriter(writer)),
        control: Box::new(ConsoleControl { stream: closer, why }),
    })
}

/// Why it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// It has not ended.
    None,
    /// The monitor closed it.
    Console,
    /// We closed it.
    Detached,
    /// What came could not be understood.
    Broken(String),
}

/// Notes why it ended, if nothing ended it before.
fn note(why: &Mutex<End>, end: End) {
    let mut why = why.lock().unwrap_or_else(PoisonError::into_inner);
    if *why == End::None {
        *why = end;
    }
}

struct ConsoleReader {
    frames: FrameReader<UnixStream>,
    /// The frame being given out.
    data: Vec<u8>,
    taken: usize,
    why: Arc<Mutex<End>>,
}

impl Read for ConsoleReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.data.len() {
            match self.frames.read_frame() {
                Ok(Some(Frame::Data(data))) => (self.data, self.taken) = (data, 0),
                // Nothing is said during an attach that a console could use.
                Ok(Some(Frame::Control(_))) => {}
                Ok(None) => {
                    note(&self.why, End::Console);
                    return Ok(0);
                }
                Err(error) => {
                    note(&self.why, End::Broken(error.to_string()));
                    return Ok(0);
                }
            }
        }
        let count = buffer.len().min(self.data.len() - self.taken);
        buffer[..count].copy_from_slice(&self.data[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

struct ConsoleWriter(UnixStream);

impl Write for ConsoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A frame that was begun has to be finished: so all of it, or an error.
        let count = bytes.len().min(wire::MAX_PAYLOAD);
        wire::write_data(&mut self.0, &bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct ConsoleControl {
    stream: UnixStream,
    why: Arc<Mutex<End>>,
}

impl Control for ConsoleControl {
    fn resize(&mut self, _: Size) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self) {
        // First: the reader sees the end that this makes. Shutting down works, too, when the
        // monitor has gone already, so it tells nothing.
        note(&self.why, End::Detached);
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn end(&mut self) -> String {
        match &*self.why.lock().unwrap_or_else(PoisonError::into_inner) {
            End::None | End::Console => "the VM has stopped".to_owned(),
            End::Detached => "detached; the VM goes on".to_owned(),
            End::Broken(why) => format!("the console broke off: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// Opens a console whose monitor does what `monitor` says, from the request on.
    fn attach(
        monitor: impl FnOnce(UnixStream, FrameReader<UnixStream>) + Send + 'static,
    ) -> Result<Session, Problem> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("monitor.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut frames = FrameReader::new(stream.try_clone().unwrap());
            let request = frames.read_frame().unwrap().unwrap();
            let expected = MonitorRequest::Attach { replay: true };
            assert_eq!(request.message::<MonitorRequest>(), Ok(expected));
            monitor(stream, frames);
        });
        open(&socket)
    }

    fn read_all(session: &mut Session) -> Vec<u8> {
        let mut all = Vec::new();
        session.reader.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn what_was_printed_comes_first_and_both_ways_work() {
        let mut session = attach(|mut stream, mut frames| {
            // In one packet: nothing may be lost between the reply and the console.
            let mut packet = Vec::new();
            wire::encode_control(&MonitorReply::Ok, &mut packet).unwrap();
            wire::encode_data(b"remembered ", &mut packet);
            stream.write_all(&packet).unwrap();
            let frame = frames.read_frame().unwrap().unwrap();
            assert_eq!(frame, Frame::Data(b"typed".to_vec()));
            wire::write_data(&mut stream, b"live").unwrap();
        })
        .unwrap();
        session.writer.write_all(b"typed").unwrap();
        assert_eq!(read_all(&mut session), b"remembered live");
        assert_eq!(session.control.end(), "the VM has stopped");
    }

    #[test]
    fn a_large_paste_goes_in_frames_that_the_monitor_takes() {
        let text = vec![b'x'; wire::MAX_PAYLOAD + 3];
        let mut session = attach(|mut stream, mut frames| {
            wire::write_control(&mut stream, &MonitorReply::Ok).unwrap();
            let mut count = 0;
            while count < wire::MAX_PAYLOAD + 3 {
                match frames.read_frame().unwrap().unwrap() {
                    Frame::Data(data) => count += data.len(),
                    Frame::Control(_) => unreachable!(),
                }
            }
            wire::write_data(&mut stream, count.to_string().as_bytes()).unwrap();
        })
        .unwrap();
        session.writer.write_all(&text).unwrap();
        assert_eq!(read_all(&mut session), text.len().to_string().as_bytes());
    }

    #[test]
    fn a_vm_that_has_stopped_is_not_said_to_go_on_whoever_closes_the_console_then() {
        let mut session = attach(|mut stream, _| {
            wire::write_control(&mut stream, &MonitorReply::Ok).unwrap();
        })
        .unwrap();
        assert_eq!(read_all(&mut session), b"");
        session.control.close();
        assert_eq!(session.control.end(), "the VM has stopped");
    }

    #[test]
    fn closing_detaches() {
        let mut session = attach(|mut stream, mut frames| {
            wire::write_control(&mut stream, &MonitorReply::Ok).unwrap();
            assert_eq!(frames.read_frame().unwrap(), None);
        })
        .unwrap();
        session.control.close();
        session.control.close();
        assert_eq!(read_all(&mut session), b"");
        assert_eq!(session.control.end(), "detached; the VM goes on");
    }

    #[test]
    fn what_fails_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = open(&dir.path().join("monitor.sock")).err().unwrap();
        assert_eq!(nobody.why, "the VM is not running");

        let problem = Problem::new("cannot attach", "the VM is being cleared up", "try again");
        let reply = MonitorReply::Denied { problem: problem.clone() };
        let denied = attach(move |mut stream, _| wire::write_control(&mut stream, &reply).unwrap());
        assert_eq!(denied.err(), Some(problem));

        let silent = attach(|stream, _| drop(stream)).err().unwrap();
        assert!(silent.why.contains("hung up"), "{silent}");

        let foreign = attach(|mut stream, _| stream.write_all(b"HTTP/1.1 400").unwrap());
        assert!(foreign.err().unwrap().why.contains("unknown kind 72"));
    }

    #[test]
    fn a_monitor_that_goes_mad_ends_the_session_with_a_reason() {
        let mut session = attach(|mut stream, _| {
            wire::write_control(&mut stream, &MonitorReply::Ok).unwrap();
            wire::write_data(&mut stream, b"good").unwrap();
            stream.write_all(b"\x02\xff\xff\xff\xff").unwrap();
        })
        .unwrap();
        assert_eq!(read_all(&mut session), b"good");
        assert!(session.control.end().starts_with("the console broke off: a frame of"));
    }
}
