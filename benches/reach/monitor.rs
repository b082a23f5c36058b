//! What a monitor costs, and how fast it takes what a guest prints.

use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use banger::{host::pty, session::serial};

use crate::{Outcome, fake_qemu, place::Place, proc, table::Row};

/// Bytes a monitor may cost.
const PSS: u64 = 6 << 20;
/// VMs at once.
const VMS: usize = 4;
/// MB/s that a console must take.
const RATE: f64 = 10.0;

/// Both.
pub fn measure() -> Outcome<Vec<Row>> {
    let mut rows = memory()?;
    rows.extend(flood()?);
    Ok(rows)
}

/// Monitors of real VMs, when these have booted.
fn memory() -> Outcome<Vec<Row>> {
    let place = Place::new("mon")?;
    let names: Vec<String> = (0..VMS).map(|n| format!("vm{n}")).collect();
    let mut rows = Vec::new();
    for (n, name) in names.iter().enumerate() {
        place.run(&["create", name, "--image", "tiny", "--start", "--wait"])?;
        if n + 1 != 1 && n + 1 != VMS {
            continue;
        }
        thread::sleep(Duration::from_secs(1));
        let mut worst = 0;
        for name in &names[..=n] {
            let pid = place.status(name)?.pid;
            worst = worst.max(proc::pss(pid)?);
        }
        rows.push(limit(format!("memory of a monitor, {} running (PSS, worst)", n + 1), worst));
    }
    Ok(rows)
}

fn limit(what: String, pss: u64) -> Row {
    Row::limit(what, "", proc::mib(pss), format!("at most {}", proc::mib(PSS)), pss <= PSS)
}

/// A real monitor whose VMM floods its console as fast as that takes it, with a client attached;
/// against a loop that only reads the same VMM's pseudo-terminal.
fn flood() -> Outcome<Vec<Row>> {
    let mut place = Place::new("flood")?;
    let bin = place.dir("bin")?;
    let vmm = bin.join(fake_qemu::NAME);
    symlink(env::current_exe()?, &vmm)?;
    let floor = rate(bare(&vmm, &place.dir("bare")?)?);

    place.prefer(&bin)?;
    place.run(&["create", "vm", "--image", "tiny", "--start"])?;
    let status = place.status("vm")?;
    let mut session = serial::open(&place.layout.vm(&status.vm).monitor_socket())?;
    let begun = Instant::now();
    session.writer.write_all(b"g")?;
    session.writer.flush()?;
    until_end(&mut session.reader)?;
    let banger = rate(begun.elapsed());
    let pss = proc::pss(status.pid)?;
    session.control.close();
    Ok(vec![
        Row::limit(
            "console through a real monitor, one client",
            format!("{floor:.1} MB/s (only reading)"),
            format!("{banger:.1} MB/s"),
            format!("at least {RATE:.0} MB/s"),
            banger >= RATE,
        ),
        limit("memory of a monitor after a flood, one client (PSS)".to_owned(), pss),
    ])
}

fn bare(vmm: &Path, dir: &Path) -> Outcome<Duration> {
    let (master, slave) = pty::open_raw()?;
    let socket = dir.join("vmm.sock");
    let mut command = Command::new(vmm);
    command.arg("-chardev").arg(format!("socket,id=qmp,path={}", socket.display()));
    command.stdin(slave.try_clone()?).stdout(slave).stderr(Stdio::null());
    let mut child = command.spawn()?;
    drop(command);
    let mut console = File::from(master);
    let begun = Instant::now();
    console.write_all(b"g")?;
    let result = until_end(&mut console);
    let took = begun.elapsed();
    child.kill()?;
    child.wait()?;
    fs::remove_file(socket)?;
    result.map(|()| took)
}

/// Reads until the flood is over.
fn until_end(reader: &mut dyn Read) -> Outcome<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut tail = Vec::new();
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Err("the console ended".into());
        }
        tail.extend_from_slice(&buffer[..count]);
        let end = fake_qemu::END;
        if tail.windows(end.len()).any(|w| w == end) {
            return Ok(());
        }
        tail.drain(..tail.len().saturating_sub(end.len()));
    }
}

fn rate(took: Duration) -> f64 {
    fake_qemu::BYTES as f64 / 1e6 / took.as_secs_f64()
}
