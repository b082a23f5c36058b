//! `banger doctor`: is everything here that banger needs, and is nothing here that it forgot?
//!
//! Works without a supervisor, and each check without the others: a doctor is needed most when
//! something is broken.

use serde::Serialize;

use super::{
    args::Doctor,
    exit::{self, Failure, Outcome},
    json, machines, out, setup,
};
use crate::{
    config::{self, Config, Sources},
    domain::{CheckLevel, CheckView, Layout, OrphanView, Problem},
    host::dirs,
    supervisor::checkup::{self, Subject},
};

/// A check, as printed with `--json`.
#[derive(Serialize)]
struct Check<'a> {
    id: &'a str,
    state: CheckLevel,
    what: &'a str,
    why: &'a str,
    fix: &'a str,
}

impl<'a> From<&'a CheckView> for Check<'a> {
    fn from(check: &'a CheckView) -> Self {
        let CheckView { id, level, what, why, fix } = check;
        Self { id, state: *level, what, why, fix }
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    ok: bool,
    checks: Vec<Check<'a>>,
}

/// Checks everything.
///
/// # Errors
/// When the output cannot be written; with `--clean`, what is still there after it, or that it may
/// not ask.
pub fn run(doctor: &Doctor) -> Outcome {
    let mut checks = Vec::new();
    let config = configuration(&mut checks);
    let layout = dirs::resolve(&dirs::Env::current());
    if let Err(problem) = &layout {
        checks.push(CheckView::failed("directories", problem.clone()));
    }
    let report = checkup::report(&subject(&config, layout.clone().ok()));
    if doctor.clean {
        let layout = layout?;
        return clean(doctor.yes, &layout, &report.orphans);
    }
    checks.extend(report.checks);
    let ok = checks.iter().all(|check| check.level != CheckLevel::Failed);
    if doctor.json {
        let checks = checks.iter().map(Check::from).collect();
        let report = Report { version: json::VERSION, ok, checks };
        let report = serde_json::to_string_pretty(&report)
            .map_err(|e| Failure::from(std::io::Error::from(e)))?;
        out::line(report)?;
    } else {
        for check in &checks {
            out::line(show(check))?;
        }
    }
    Ok(if ok { exit::OK } else { exit::FAILED })
}

/// Removes what is left over, after showing it.
fn clean(yes: bool, layout: &Layout, orphans: &[OrphanView]) -> Outcome {
    if orphans.is_empty() {
        out::line("nothing is left over on this host")?;
        return Ok(exit::OK);
    }
    for orphan in orphans {
        out::line(preview(orphan))?;
    }
    let things =
        if orphans.len() == 1 { "this".to_owned() } else { format!("these {}", orphans.len()) };
    if !yes {
        if !machines::can_ask() {
            return Err(Failure::Usage(Problem::new(
                format!("will not remove {things}"),
                "there is no terminal to ask on",
                "banger doctor --clean --yes",
            )));
        }
        machines::ask(&format!("Remove {things}?"))?;
    }
    let mut told = Ok(());
    let cleaned = checkup::clean(layout, orphans, &mut |index, removed| {
        if let (Ok(()), Some(orphan)) = (removed, orphans.get(index))
            && told.is_ok()
        {
            told = out::line(format!("{}: removed", orphan.what));
        }
    });
    told?;
    cleaned?;
    Ok(exit::OK)
}

/// What it is, whose, and the command that would remove it.
fn preview(orphan: &OrphanView) -> String {
    let OrphanView { what, whose, command } = orphan;
    format!("{what}: {whose}\n  {}", command.replace('\n', "\n  "))
}

fn subject(config: &Config, layout: Option<Layout>) -> Subject {
    Subject {
        layout,
        runtime_dir: setup::configured(config),
        vmm: config.vmm,
        overlay: config.overlay,
        network: config.network,
        jailer: config.jailer,
    }
}

fn configuration(checks: &mut Vec<CheckView>) -> Config {
    const ID: &str = "configuration";
    let sources = match Sources::of_this_process() {
        Ok(sources) => sources,
        Err(problem) => {
            checks.push(CheckView::failed(ID, problem));
            return Config::default();
        }
    };
    match config::load(&sources) {
        Ok(config) => {
            let dir = sources.dir.display();
            checks.push(if config.notices.is_empty() {
                CheckView::ok(ID, format!("the settings in {dir} are in order"), "")
            } else {
                let what = format!("the settings in {dir} can be used");
                CheckView::warning(ID, what, config.notices.join("; "), "follow what is said")
            });
            config
        }
        Err(problem) => {
            checks.push(CheckView::failed(ID, problem));
            Config::default()
        }
    }
}

fn show(check: &CheckView) -> String {
    let word = match check.level {
        CheckLevel::Ok => "ok     ",
        CheckLevel::Warning => "warning",
        CheckLevel::Failed => "FAILED ",
    };
    let mut text = format!("{word}  {}: {}", check.id, check.what);
    // Continued lines stand below the text they continue.
    let indent = format!("\n{:9}", "");
    if !check.why.is_empty() {
        text.push_str(&format!("{indent}why: {}", check.why.replace('\n', &indent)));
    }
    if !check.fix.is_empty() {
        text.push_str(&format!("{indent}fix: {}", check.fix.replace('\n', &indent)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_what_why_and_how_to_fix_it() {
        let bad =
            CheckView::failed("qemu", Problem::new("there is no QEMU", "not in PATH", "get it"));
        assert_eq!(
            show(&bad),
            "FAILED   qemu: there is no QEMU\n         why: not in PATH\n         fix: get it"
        );
        assert_eq!(show(&CheckView::ok("ssh", "there", "")), "ok       ssh: there");
        let json = serde_json::to_value(Check::from(&bad)).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["fix", "id", "state", "what", "why"]);
        assert_eq!(json["state"], "failed");
    }
}
