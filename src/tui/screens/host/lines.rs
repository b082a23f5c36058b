//! A look at the host as lines of lists.

use super::Tab;
use crate::{
    config::theme::Slot,
    domain::{
        CheckLevel, CheckView, Fleet, HostCall, HostReport, MadeState, MadeView, OrphanView,
        UnixMs, VmId,
    },
    tui::{popups::whole::Part, screens::browser::Filter},
};

/// A line of one of the lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Tells it from the others, also after another look.
    pub key: String,
    /// How it stands, without colours.
    pub glyph: &'static str,
    /// The same as a colour.
    pub slot: Slot,
    /// When it was done, where that is shown.
    pub at: Option<UnixMs>,
    /// What stands in its columns: see [`widths`].
    pub cells: Vec<String>,
    /// Everything that is known of it.
    pub parts: Vec<Part>,
    /// The command in it.
    pub command: Option<String>,
}

impl Line {
    /// Whether all words of a filter are in it.
    #[must_use]
    pub fn fits(&self, filter: &Filter) -> bool {
        let has = |word: &str| {
            let parts = self.parts.iter().map(|part| &part.text);
            self.cells.iter().chain(parts).any(|text| text.to_lowercase().contains(word))
        };
        filter.fits(|_, word| has(word))
    }
}

/// Columns of a list's cells, a blank behind included; 0 takes what is left. `columns` is what
/// there is for all.
#[must_use]
pub fn widths(tab: Tab, columns: u16) -> Vec<u16> {
    match tab {
        Tab::Checks => vec![0],
        Tab::Made => vec![13.min(columns / 5), 0, 12.min(columns / 6), 18.min(columns * 3 / 10)],
        Tab::LeftOver => vec![0, columns / 2],
        Tab::Ran => vec![9, 12.min(columns / 6), 0],
    }
}

/// The lines of a list.
#[must_use]
pub fn lines(tab: Tab, report: &HostReport, fleet: &Fleet) -> Vec<Line> {
    match tab {
        Tab::Checks => {
            let mut checks: Vec<&CheckView> = report.checks.iter().collect();
            // What needs a look comes first.
            checks.sort_by_key(|check| std::cmp::Reverse(check.level));
            checks.into_iter().map(of_check).collect()
        }
        Tab::Made => report.made.iter().map(of_made).collect(),
        Tab::LeftOver => report.orphans.iter().map(of_orphan).collect(),
        Tab::Ran => {
            let owner = |vm: Option<&VmId>| {
                let Some(id) = vm else { return "shared".to_owned() };
                let known = fleet.vms.iter().find(|vm| vm.id == *id);
                known.map_or_else(|| id.to_string(), |vm| vm.spec.name.to_string())
            };
            report.calls.iter().rev().map(|call| of_call(call, owner(call.vm.as_ref()))).collect()
        }
    }
}

/// Glyph, word and slot of a check's result.
#[must_use]
pub const fn level(level: CheckLevel) -> (&'static str, &'static str, Slot) {
    match level {
        CheckLevel::Ok => ("✓", "in order", Slot::StateRunning),
        CheckLevel::Warning => ("!", "could be better", Slot::Warning),
        CheckLevel::Failed => ("✗", "failed", Slot::StateCrashed),
    }
}

/// Glyph and slot of how something stands that was made.
const fn made_state(state: MadeState) -> (&'static str, Slot) {
    match state {
        MadeState::There => ("✓", Slot::StateRunning),
        MadeState::Missing => ("✗", Slot::StateCrashed),
        MadeState::OfDead => ("!", Slot::Warning),
        MadeState::Unknown => ("?", Slot::TextDim),
    }
}

fn part(label: &'static str, text: impl Into<String>, slot: Slot) -> Part {
    Part { label, text: text.into(), slot }
}

fn of_check(check: &CheckView) -> Line {
    let (glyph, word, slot) = level(check.level);
    Line {
        key: check.id.to_owned(),
        glyph,
        slot,
        at: None,
        cells: vec![check.what.clone()],
        parts: vec![
            part("Check", format!("{}: {word}", check.id), slot),
            part("What", check.what.as_str(), Slot::Text),
            part("Why", check.why.as_str(), Slot::Text),
            part("Fix", check.fix.as_str(), Slot::KeyHint),
        ],
        command: None,
    }
}

fn of_made(made: &MadeView) -> Line {
    let (glyph, slot) = made_state(made.state);
    let state = made.state.label();
    Line {
        key: format!("{} {}", made.kind, made.key),
        glyph,
        slot,
        at: Some(made.created),
        cells: vec![made.kind.clone(), made.key.clone(), made.owner.clone(), state.to_owned()],
        parts: vec![
            part("What", format!("{} {}", made.kind, made.key), Slot::Text),
            part("Whose", made.owner.as_str(), Slot::Text),
            part("State", state, slot),
        ],
        command: None,
    }
}

fn of_orphan(orphan: &OrphanView) -> Line {
    Line {
        key: orphan.what.clone(),
        glyph: "!",
        slot: Slot::Warning,
        at: None,
        cells: vec![orphan.what.clone(), orphan.whose.clone()],
        parts: vec![
            part("What", orphan.what.as_str(), Slot::Text),
            part("Whose", orphan.whose.as_str(), Slot::Text),
            part("Command", orphan.command.as_str(), Slot::KeyHint),
        ],
        command: Some(orphan.command.clone()),
    }
}

fn of_call(call: &HostCall, owner: String) -> Line {
    let (glyph, slot) = match call.error {
        None => ("✓", Slot::StateRunning),
        Some(_) => ("✗", Slot::StateCrashed),
    };
    let took = micros(call.took_us);
    Line {
        key: format!("{} {}", call.at.0, call.command),
        glyph,
        slot,
        at: Some(call.at),
        // What is more than one command is so in one line, too.
        cells: vec![took.clone(), owner.clone(), call.command.trim_end().replace('\n', "; ")],
        parts: vec![
            part("Command", call.command.as_str(), Slot::Text),
            part("Error", call.error.as_deref().unwrap_or_default(), Slot::StateCrashed),
            part("For", owner, Slot::Text),
            part("Took", took, Slot::Text),
        ],
        command: Some(call.command.clone()),
    }
}

/// A short time as it is measured: `340 µs`, `1.2 ms`, `2.05 s`.
fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        _ => format!("{:.2} s", us as f64 / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_look_comes_first_and_the_newest_call() {
        let call = |at, command: &str| HostCall {
            at: UnixMs(at),
            vm: None,
            command: command.to_owned(),
            took_us: 1_250,
            error: None,
        };
        let report = HostReport {
            at: UnixMs(0),
            checks: vec![
                CheckView::ok("a", "fine", ""),
                CheckView::warning("b", "so so", "", "do"),
                CheckView::ok("c", "fine", ""),
            ],
            made: Vec::new(),
            orphans: Vec::new(),
            calls: vec![call(1, "ip link add"), call(2, "nft -f -")],
        };
        let keys = |tab| -> Vec<String> {
            lines(tab, &report, &Fleet::default()).into_iter().map(|line| line.key).collect()
        };
        assert_eq!(keys(Tab::Checks), ["b", "a", "c"]);
        assert_eq!(keys(Tab::Ran), ["2 nft -f -", "1 ip link add"]);
        let line = of_call(&call(3, "ip link add b\nip link set b up\n"), "web".to_owned());
        assert_eq!(line.cells[2], "ip link add b; ip link set b up");
        assert_eq!(line.command.as_deref(), Some("ip link add b\nip link set b up\n"));
    }

    #[test]
    fn a_filter_looks_at_everything_that_is_known() {
        let call = HostCall {
            at: UnixMs(1),
            vm: None,
            command: "nft -f -".to_owned(),
            took_us: 999,
            error: Some("Operation not permitted".to_owned()),
        };
        let line = of_call(&call, "web".to_owned());
        for yes in ["", "nft", "NFT web", "permitted", "!db", "!", "999"] {
            assert!(line.fits(&Filter::new(&[], yes)), "{yes}");
        }
        for no in ["db", "!nft", "nft db"] {
            assert!(!line.fits(&Filter::new(&[], no)), "{no}");
        }
    }

    #[test]
    fn times_are_short() {
        for (us, text) in [(0, "0 µs"), (999, "999 µs"), (1_250, "1.2 ms"), (2_049_000, "2.05 s")]
        {
            assert_eq!(micros(us), text);
        }
    }

    #[test]
    fn columns_fit_into_any_width() {
        for tab in Tab::ALL {
            for columns in 0..300 {
                let sum: u16 = widths(tab, columns).iter().sum();
                assert!(columns < 40 || sum < columns, "{tab:?} {columns}");
            }
        }
    }
}
