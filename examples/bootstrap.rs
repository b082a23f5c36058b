//! harness
#![allow(clippy::unwrap_used, clippy::wildcard_imports)]
use banger::bundle::*;
fn main() {
    let mut a = std::env::args().skip(1);
    let dir: std::path::PathBuf = a.next().unwrap().into();
    let init = a.next().map(Into::into);
    let mut o = BootstrapOptions::new(dir, init);
    if let Ok(d) = std::env::var("SCRIPTS") {
        for n in ["lib.sh", "tiny.sh", "debian.sh"] {
            if let Ok(t) = std::fs::read_to_string(format!("{d}/{n}")) {
                o.scripts.insert(format!("scripts/image/{n}"), t);
            }
        }
    }
    let t = std::time::Instant::now();
    let mut rep = |e: Event<'_>| match e {
        Event::Plan(s) => println!(
            "{:6.2} plan {:?}",
            t.elapsed().as_secs_f64(),
            s.iter().map(|s| &s.name).collect::<Vec<_>>()
        ),
        Event::Step(i, s) => println!(
            "{:6.2} {i} {} {:?} {} {:?}",
            t.elapsed().as_secs_f64(),
            s.name,
            s.state,
            s.detail,
            s.progress
        ),
        Event::Log(l) => println!("{:6.2} | {l}", t.elapsed().as_secs_f64()),
    };
    let r = bootstrap(&o, &mut rep, &std::sync::atomic::AtomicBool::new(false));
    match r {
        Err(p) => println!("ERR {p}"),
        Ok(r) => {
            for p in &r.problems {
                println!("PROBLEM {p}");
            }
            println!("good {}", r.is_good());
        }
    }
}
