//! `banger doctor`: is everything here that banger needs, and is nothing here that it forgot?
//!
//! Works without a supervisor, and each check without the others: a doctor is needed most when
//! something is broken.

mod files;
mod host;

use serde::Serialize;

use super::{
    args::Doctor,
    exit::{self, Failure, Outcome},
    json, out,
};
use crate::{
    config::{self, Config, Sources},
    domain::{Layout, Problem},
    host::dirs,
};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// Something will not work.
    Failed,
}

/// A check and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// For scripts: `kvm`.
    pub id: &'static str,
    /// How it went.
    pub state: State,
    /// What was found.
    pub what: String,
    /// Why it is so, or what follows from it; may be empty.
    pub why: String,
    /// What to do about it; empty if nothing is to be done.
    pub fix: String,
}

impl Check {
    fn ok(id: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { id, state: State::Ok, what: what.into(), why: why.into(), fix: String::new() }
    }

    fn warning(
        id: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let state = State::Warning;
        Self { id, state, what: what.into(), why: why.into(), fix: fix.into() }
    }

    fn failed(id: &'static str, problem: Problem) -> Self {
        let Problem { what, why, hint } = problem;
        Self { id, state: State::Failed, what, why, fix: hint }
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    ok: bool,
    checks: &'a [Check],
}

/// Checks everything.
///
/// # Errors
/// When the output cannot be written.
pub fn run(doctor: &Doctor) -> Outcome {
    let checks = all();
    let ok = checks.iter().all(|check| check.state != State::Failed);
    if doctor.json {
        let report = Report { version: json::VERSION, ok, checks: &checks };
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

fn all() -> Vec<Check> {
    let mut checks = Vec::new();
    let (config, sources) = configuration(&mut checks);
    checks.push(host::vmm(&config));
    let path = sources.as_ref().and_then(|sources| sources.var("PATH")).unwrap_or_default();
    checks.push(host::qemu(path));
    checks.push(files::bundle(&config));
    match dirs::resolve(&dirs::Env::current()) {
        Ok(layout) => {
            checks.push(directories(&layout));
            checks.extend(host::space(&layout));
            checks.extend(host::overlay(&layout));
            checks.extend(files::database(&layout));
        }
        Err(problem) => checks.push(Check::failed("directories", problem)),
    }
    checks.push(host::ssh(path));
    checks.push(host::resize(path));
    checks
}

fn configuration(checks: &mut Vec<Check>) -> (Config, Option<Sources>) {
    const ID: &str = "configuration";
    let sources = match Sources::of_this_process() {
        Ok(sources) => sources,
        Err(problem) => {
            checks.push(Check::failed(ID, problem));
            return (Config::default(), None);
        }
    };
    let config = match config::load(&sources) {
        Ok(config) => {
            let dir = sources.dir.display();
            checks.push(if config.notices.is_empty() {
                Check::ok(ID, format!("the settings in {dir} are in order"), "")
            } else {
                let what = format!("the settings in {dir} can be used");
                Check::warning(ID, what, config.notices.join("; "), "follow what is said")
            });
            config
        }
        Err(problem) => {
            checks.push(Check::failed(ID, problem));
            Config::default()
        }
    };
    (config, Some(sources))
}

fn directories(layout: &Layout) -> Check {
    match dirs::prepare(layout) {
        Ok(()) => Check::ok(
            "directories",
            format!("{} and {} can be written", layout.state.display(), layout.run.display()),
            "VMs and their disks lie in the first, sockets and locks in the second",
        ),
        Err(problem) => Check::failed("directories", problem),
    }
}

fn show(check: &Check) -> String {
    let word = match check.state {
        State::Ok => "ok     ",
        State::Warning => "warning",
        State::Failed => "FAILED ",
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
        let bad = Check::failed("qemu", Problem::new("there is no QEMU", "not in PATH", "get it"));
        assert_eq!(
            show(&bad),
            "FAILED   qemu: there is no QEMU\n         why: not in PATH\n         fix: get it"
        );
        assert_eq!(show(&Check::ok("ssh", "there", "")), "ok       ssh: there");
        let json = serde_json::to_value(&bad).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["fix", "id", "state", "what", "why"]);
        assert_eq!(json["state"], "failed");
    }
}
