//! A runtime directory packed: banger against tar and zstd typed by hand, in turns.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    place::{Place, runtime_dir},
    table::{Row, median, seconds},
};

/// How often each is done; the archives of banger's are compared.
const TURNS: usize = 2;

/// What banger does with the same level and as many workers, but for the sums: those of the files,
/// which are compared with the record, and that of the archive. `$1` is the runtime directory,
/// `$2` the archive.
const BY_HAND: &str = "
set -eu
cd \"$1\"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --exclude=./.lock -cf - . |
    zstd -q -10 -T2 --check -o \"$2\"
";

/// Measures it.
pub fn measure() -> Outcome<Vec<Row>> {
    let dir = runtime_dir();
    let place = Place::new("package")?;
    let out = place.dir("out")?;
    let (mut floor, mut banger, mut archives) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let hand = out.join(format!("hand-{turn}"));
        let mut sh = Command::new("sh");
        floor.push(timed(sh.args(["-c", BY_HAND, "sh"]).args([&dir, &hand]))?);
        fs::remove_file(hand)?;
        let archive = out.join(format!("banger-{turn}"));
        let mut package = place.banger(&["runtime", "package"]);
        banger.push(timed(package.arg("--output").arg(&archive).arg("--dir").arg(&dir))?);
        archives.push(archive);
    }
    let same = same(&archives)?;
    let size = archives[0].metadata()?.len();
    Ok(vec![
        Row::note(
            "package, against tar and zstd",
            seconds(median(&floor)),
            seconds(median(&banger)),
        ),
        Row::limit(
            "package twice",
            "",
            format!("{size} bytes"),
            if same { "the same bytes" } else { "other bytes" },
            same,
        ),
    ])
}

fn same(archives: &[PathBuf]) -> Outcome<bool> {
    let read = |path: &Path| -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let first = read(&archives[0])?;
    for other in &archives[1..] {
        if read(other)? != first {
            return Ok(false);
        }
    }
    Ok(true)
}

fn timed(command: &mut Command) -> Outcome<Duration> {
    nix::unistd::sync();
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    if output.status.success() {
        return Ok(begun.elapsed());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
