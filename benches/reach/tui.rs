//! The screen: how soon it is there, what it costs, how fast it answers under a flood.

use std::{
    env,
    ffi::OsString,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use crate::{
    Outcome, drain,
    place::{BANGER, Place},
    proc,
    screen::Screen,
    stand_in::{Fleet, name},
    table::{Row, median, millis, quantile},
};

/// VMs in the store.
const VMS: u32 = 1_000;
/// Of them, those that run.
const UP: u32 = 4;
/// Starts of the program.
const STARTS: usize = 20;
/// Keys under the flood (`BENCH_KEYS`).
const KEYS: usize = 400;
/// How long it is left alone.
const IDLE: Duration = Duration::from_secs(10);

const FIRST_FRAME: Duration = Duration::from_millis(50);
const KEY_TO_FRAME: Duration = Duration::from_millis(16);
const RSS: u64 = 60 << 20;
/// Part of a core.
const IDLE_CPU: f64 = 0.01;

/// All of it.
pub fn measure() -> Outcome<Vec<Row>> {
    let place = Place::new("tui")?;
    let console = Arc::new(drain::stream(&["boot"])?);
    let fleet = Fleet::make(&place, VMS, UP, &console)?;
    let argv = [OsString::from(BANGER)];
    let env: Vec<_> = place.env().into_iter().collect();
    let start = || Screen::start(&argv, &env);

    let mut rows = starts(start)?;
    let mut ui = start()?;
    ui.until("the list", |ui| ui.shows(&name(0)))?;
    rows.push(idle(&mut ui)?);
    let rss = proc::rss(ui.pid)?;
    rows.push(Row::limit(
        format!("memory of the UI with {VMS} VMs (RSS)"),
        "",
        proc::mib(rss),
        format!("at most {}", proc::mib(RSS)),
        rss <= RSS,
    ));
    rows.extend(keys(&mut ui, &fleet)?);
    rows.push(Row::note(
        "memory of the UI after four consoles flooded",
        "",
        proc::mib(proc::rss(ui.pid)?),
    ));
    Ok(rows)
}

/// From exec to the first frame and to the first that shows VMs, in turns with a program that
/// only says something on its terminal.
fn starts(start: impl Fn() -> Outcome<Screen>) -> Outcome<Vec<Row>> {
    let echo: Vec<OsString> = ["sh", "-c", "echo; cat"].map(OsString::from).into();
    let (mut floor, mut first, mut list) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let mut bare = Screen::start(&echo, &[])?;
        floor.push(bare.any()? - bare.begun);
        drop(bare);
        let mut ui = start()?;
        first.push(ui.frame()? - ui.begun);
        let shown = |ui: &Screen| ui.shows(&name(0));
        let at = if shown(&ui) {
            ui.begun + first[first.len() - 1]
        } else {
            ui.until("the list", shown)?
        };
        list.push(at - ui.begun);
    }
    let row = |what: &str, times: &[Duration]| {
        let (middle, worst) = (median(times), quantile(times, 1.0));
        Row::limit(
            format!("exec to {what}, {VMS} VMs (median of {STARTS})"),
            format!("{} (echo in a PTY)", millis(median(&floor))),
            format!("{} (worst {})", millis(middle), millis(worst)),
            format!("at most {}", millis(FIRST_FRAME)),
            middle <= FIRST_FRAME,
        )
    };
    Ok(vec![row("the first frame", &first), row("a frame with the list", &list)])
}

/// CPU time while nothing happens but that four VMs run.
fn idle(ui: &mut Screen) -> Outcome<Row> {
    // What follows a start is over.
    thread::sleep(Duration::from_secs(2));
    let before = proc::cpu(ui.pid)?;
    thread::sleep(IDLE);
    let part = (proc::cpu(ui.pid)? - before).as_secs_f64() / IDLE.as_secs_f64();
    Ok(Row::limit(
        format!("CPU of the idle UI over {} s, {UP} of {VMS} VMs up", IDLE.as_secs()),
        "",
        format!("{:.1} % of a core", part * 100.0),
        "under 1 %",
        part < IDLE_CPU,
    ))
}

/// From a key to the whole frame that shows what it did, while four consoles flood; in turns
/// with a program that echoes what is typed.
fn keys(ui: &mut Screen, fleet: &Fleet) -> Outcome<Vec<Row>> {
    let count = env::var("BENCH_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(KEYS);
    for n in 0..UP {
        ui.send("c")?;
        ui.until("its console", |ui| shown(ui, n))?;
        // Out of the pane, back to the list, one down.
        ui.send("\x1d")?;
        ui.send("1")?;
        ui.until("the list", |ui| ui.shows("╭─ Machines"))?;
        ui.send("j")?;
    }
    ui.send("2")?;
    ui.until("the panes", |ui| shown(ui, UP - 1))?;
    let echo: Vec<OsString> = ["sh", "-c", "stty raw -echo; echo; cat"].map(OsString::from).into();
    let mut bare = Screen::start(&echo, &[])?;
    bare.any()?;

    let quiet = presses(ui, &mut bare, count / 4, UP - 1)?;
    fleet.flood.store(true, Ordering::Relaxed);
    thread::sleep(Duration::from_secs(1));
    let before = proc::cpu(ui.pid)?;
    let flooded = presses(ui, &mut bare, count, (UP - 1 + (count / 4) as u32) % UP)?;
    println!("  CPU of the UI under the flood: {:?}", proc::cpu(ui.pid)? - before);
    let p99 = quantile(&flooded.ours, 0.99);
    let of = |times: &[Duration]| {
        format!("{} (p50 {})", millis(quantile(times, 0.99)), millis(median(times)))
    };
    Ok(vec![
        Row::limit(
            format!("key to frame, {UP} consoles flooding (p99 of {count})"),
            format!("{} (echo in a PTY)", of(&flooded.floor)),
            of(&flooded.ours),
            format!("at most {}", millis(KEY_TO_FRAME)),
            p99 <= KEY_TO_FRAME,
        ),
        Row::note("the same, no console flooding (p99)", of(&quiet.floor), of(&quiet.ours)),
    ])
}

struct Presses {
    floor: Vec<Duration>,
    ours: Vec<Duration>,
}

fn presses(ui: &mut Screen, bare: &mut Screen, count: usize, from: u32) -> Outcome<Presses> {
    let mut presses = Presses { floor: Vec::new(), ours: Vec::new() };
    for n in 0..count as u32 {
        // Not in step with the frames.
        thread::sleep(Duration::from_millis(20 + u64::from(n * 7 % 17)));
        let sent = bare.send("x")?;
        presses.floor.push(bare.any()? - sent);
        let next = (from + n + 1) % UP;
        let sent = ui.send("l")?;
        presses.ours.push(ui.until("the next pane", |ui| shown(ui, next))? - sent);
    }
    Ok(presses)
}

/// Whether the console of the nth VM is on the screen: in the title of its frame.
fn shown(ui: &Screen, n: u32) -> bool {
    ui.line(2).starts_with(&format!("╭─ {} console", name(n)))
}
