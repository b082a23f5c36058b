//! A file whose file system is a program of the user's, and does not answer.

use std::{
    ffi::CString,
    io::{Read, Write},
    sync::mpsc,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::*;

const INIT: u32 = 26;
const OPEN: u32 = 14;
const GETATTR: u32 = 3;

const STATFS: u32 = 17;
const FORGET: u32 = 2;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// Is shut until a test opens it.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
}

/// Answers what is needed to open the one file there is (linux/fuse.h); what is asked about the
/// file system waits for the gate. Tells the opcodes it was asked.
fn daemon(mut device: File, asked: &mpsc::Sender<u32>, gate: &Gate) {
    let mut buffer = vec![0_u8; 1 << 20];
    while let Ok(length) = device.read(&mut buffer) {
        assert!(length >= 40);
        let opcode = u32::from_ne_bytes(buffer[4..8].try_into().unwrap());
        let unique = &buffer[8..16];
        // Nobody listens any more when the test is over.
        let _ = asked.send(opcode);
        let mut error = 0;
        let mut body = vec![];
        match opcode {
            INIT => {
                // fuse_init_out: major 7, minor 31, a page of writing at most, else nothing.
                body = vec![0; 64];
                body[..4].copy_from_slice(&7_u32.to_ne_bytes());
                body[4..8].copy_from_slice(&31_u32.to_ne_bytes());
                body[20..24].copy_from_slice(&4096_u32.to_ne_bytes());
            }
            OPEN => body = vec![0; 16],
            GETATTR => {
                // fuse_attr_out: valid for an hour, and a fuse_attr: Ana's file of 1 MiB.
                body = vec![0; 104];
                body[..8].copy_from_slice(&3600_u64.to_ne_bytes());
                body[16..24].copy_from_slice(&1_u64.to_ne_bytes());
                body[24..32].copy_from_slice(&(1_u64 << 20).to_ne_bytes());
                body[76..80].copy_from_slice(&(libc::S_IFREG | 0o666).to_ne_bytes());
                body[80..84].copy_from_slice(&1_u32.to_ne_bytes());
                body[84..88].copy_from_slice(&ANA.to_ne_bytes());
            }
            STATFS => {
                gate.wait();
                body = vec![0; 80];
            }
            FORGET | INTERRUPT | BATCH_FORGET => continue,
            _ => error = -libc::ENOSYS,
        }
        let mut answer = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        answer.extend_from_slice(&error.to_ne_bytes());
        answer.extend_from_slice(unique);
        answer.extend_from_slice(&body);
        // Who asked may have gone.
        let _ = device.write_all(&answer);
    }
}

#[test]
fn a_file_system_that_does_not_answer_holds_up_nobody() {
    let test = "a_file_system_that_does_not_answer_holds_up_nobody";
    if !is_root(test) {
        return;
    }
    let Ok(device) = OpenOptions::new().read(true).write(true).open("/dev/fuse") else {
        skip(test, "no /dev/fuse");
        return;
    };
    let fixture = Fixture::new();
    let point = fixture.dir.path().join("fuse");
    File::create(&point).unwrap();
    let (tell, asked) = mpsc::channel();
    let options = CString::new(format!(
        "fd={},rootmode=100666,user_id={ANA},group_id=0,allow_other",
        device.as_raw_fd()
    ));
    let options = options.unwrap();
    let serving = device.try_clone().unwrap();
    let gate = Arc::new(Gate::default());
    let shut = Arc::clone(&gate);
    // Before it is mounted, the device cannot be read.
    let (now, is_mounted) = mpsc::channel();
    let answering = thread::spawn(move || {
        if is_mounted.recv().is_ok() {
            daemon(serving, &tell, &shut);
        }
    });
    let point = &point;
    let opened = thread::scope(|scope| {
        let mounted = move || -> io::Result<File> {
            // Mounted where only this thread sees it: it is gone with the last descriptor.
            unshare(CloneFlags::CLONE_NEWNS)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
            let kind = Some("fuse");
            mount(Some("test"), point, kind, MsFlags::empty(), Some(options.as_c_str()))?;
            now.send(()).unwrap();
            OpenOptions::new().read(true).write(true).open(point)
        };
        scope.spawn(mounted).join().unwrap()
    });
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            skip(test, &format!("no FUSE here: {error}"));
            return;
        }
    };
    let (base, _cow) = fixture.disk(ANA, "a");
    let op = Op::Snapshot { vm: vm(1), bytes: 1 << 20 };
    thread::scope(|scope| {
        let hanging =
            scope.spawn(|| fixture.run_with(ANA, &tag(1), &op, &[base.as_fd(), file.as_fd()]));
        // The kernel knows the kind of a file system only by asking it.
        until("the file system to be asked", || asked.try_iter().any(|opcode| opcode == STATFS));
        fixture.run(ANA, &tag(1), &bridge(1)).expect("Ana's other requests, the same tag's");
        fixture.run(BOB, &tag(2), &bridge(2)).expect("Bob's");
        assert!(!hanging.is_finished());
        gate.open();
        let problem = hanging.join().unwrap().unwrap_err();
        assert!(problem.why.contains("file system (0x65735546)"), "{problem}");
    });
    drop((file, device));
    answering.join().unwrap();
    assert!(fixture.world.done().iter().all(|reached| reached.op != op));
}
