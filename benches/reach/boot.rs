//! `create --start --wait`, against the same QEMU command line by hand.

use std::{
    env, fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use banger::{bundle::Bundle, domain::BootMark};

use crate::{
    Outcome,
    by_hand::{Moments, Recipe},
    place::{Place, runtime_dir},
    proc,
    table::{Row, median, millis, seconds},
};

/// How many times the floor banger may take.
const RATIO: f64 = 1.10;

/// A span of a boot.
type Span = fn(&Moments) -> Duration;

/// Boots of `tiny` (`BENCH_TINY`) and of `debian` (`BENCH_DEBIAN`), each by hand and by banger.
pub fn measure() -> Outcome<Vec<Row>> {
    let mut rows = image("tiny", count("BENCH_TINY", 5))?;
    rows.extend(image("debian", count("BENCH_DEBIAN", 3))?);
    Ok(rows)
}

fn count(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn image(image: &str, rounds: usize) -> Outcome<Vec<Row>> {
    if rounds == 0 {
        return Ok(Vec::new());
    }
    let place = Place::new(&format!("b{image}"))?;
    // Makes the key and the database, warms the page cache, and gives the command line.
    let recipe = {
        place.run(&["create", "warm", "--image", image, "--start", "--wait"])?;
        let status = place.status("warm")?;
        let bundle = Bundle::open(&runtime_dir())?;
        let base = bundle.image_file(image).ok_or("no such image")?.path;
        let recipe = Recipe::of(&place.layout, &status, base)?;
        place.run(&["rm", "--yes", "--force", "warm"])?;
        recipe
    };
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let by_hand = || {
            let dir = place.dir("hand")?;
            let moments = recipe.boot(&dir);
            fs::remove_dir_all(dir)?;
            moments
        };
        // Who goes second finds what the first left of the machine: take turns.
        if round % 2 == 0 {
            floors.push(by_hand()?);
            ours.push(by_banger(&place, image)?);
        } else {
            ours.push(by_banger(&place, image)?);
            floors.push(by_hand()?);
        }
        let (floor, banger) = (floors[round].end, ours[round].end);
        println!("  {image} {}: by hand {}, banger {}", round + 1, seconds(floor), seconds(banger));
    }
    Ok(report(image, &floors, &ours))
}

/// One `create --start --wait`, and what became of the time.
fn by_banger(place: &Place, image: &str) -> Outcome<Moments> {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let begun = Instant::now();
    let mut create = place.banger(&["create", "vm", "--image", image, "--start", "--wait"]);
    let status = create.status()?;
    let end = begun.elapsed();
    if !status.success() {
        return Err("banger create failed".into());
    }
    let status = place.status("vm")?;
    let after = |mark| {
        let found = status.boot.0.iter().find(|(m, _)| *m == mark).map(|(_, ms)| *ms);
        found.map(Duration::from_millis).ok_or("a boot mark is missing")
    };
    // The marks are told after the monitor's beginning; it has been ready since the last.
    let ready = Duration::from_millis(status.since.0).saturating_sub(wall);
    let monitor = ready.saturating_sub(after(BootMark::Ssh)?);
    let vmm = proc::started(status.vmm_pid.ok_or("no VMM")?)?.saturating_sub(wall);
    place.run(&["rm", "--yes", "--force", "vm"])?;
    Ok(Moments {
        disk: monitor,
        vmm,
        init: monitor + after(BootMark::Init)?,
        root: monitor + after(BootMark::SwitchRoot)?,
        ssh: ready,
        end,
    })
}

fn report(image: &str, floors: &[Moments], ours: &[Moments]) -> Vec<Row> {
    let middle = |all: &[Moments], of: Span| median(&all.iter().map(of).collect::<Vec<_>>());
    let mut rows = vec![Row::ratio(
        format!("{image}: create, start, ssh true (median of {})", floors.len()),
        middle(floors, |m| m.end),
        middle(ours, |m| m.end),
        RATIO,
    )];
    let steps: [(&str, Span); 6] = [
        ("disk copied (banger: until the monitor runs)", |m| m.disk),
        ("until QEMU is started", |m| m.vmm.saturating_sub(m.disk)),
        ("QEMU and kernel, until init", |m| m.init.saturating_sub(m.vmm)),
        ("init, until the root is entered", |m| m.root.saturating_sub(m.init)),
        ("guest, until SSH listens", |m| m.ssh.saturating_sub(m.root)),
        ("ssh true (banger: and its end)", |m| m.end.saturating_sub(m.ssh)),
    ];
    for (what, of) in steps {
        rows.push(Row::note(what, millis(middle(floors, of)), millis(middle(ours, of))));
    }
    rows
}
