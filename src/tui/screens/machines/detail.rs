//! One machine closely.

use ratatui::layout::Rect;

use super::{
    Machines, Tab, layout,
    table::{glyph, phase_slot},
};
use crate::{
    config::theme::Slot,
    domain::{ByteSize, NetworkKind, Outdated, Phase, VmView},
    term::Size,
    tui::{
        action::Action,
        boot::part,
        layers::{Draw, Hit},
        pane::draw_terminal,
        screens::{images::STALE, panes::is_deaf},
        state::State,
        text::{age, millis, width},
        verbs::ssh_command,
        widgets::{panel, put, wrap},
    },
};

/// The terminal's size within a detail of this size.
#[must_use]
pub fn console_size(detail: Rect) -> Size {
    let inner = below_tabs(detail);
    Size { cols: inner.width.max(2), rows: inner.height.max(1) }
}

/// Within the frame, below the tabs.
const fn below_tabs(detail: Rect) -> Rect {
    Rect {
        x: detail.x + 1,
        y: detail.y + 2,
        width: detail.width.saturating_sub(2),
        height: detail.height.saturating_sub(3),
    }
}

/// A line of the overview: a label (or none), its value, and what the value looks like.
struct Line {
    label: &'static str,
    text: String,
    slot: Slot,
    /// A bar from one column to another, as shares of the whole.
    bar: Option<(f64, f64)>,
}

/// Per cent of a snapshot's room from which on it is worth a look.
const FILL_WARNING: u128 = 80;

/// The column where values begin.
const VALUE: u16 = 11;

impl Machines {
    pub(super) fn draw_detail(&self, area: Rect, cx: &mut Draw<'_>) {
        let state = cx.state;
        let Some(vm) = state.selected_vm() else {
            panel(cx.buf, area, "", cx.theme, self.browser.open);
            return;
        };
        let inner = panel(cx.buf, area, vm.spec.name.as_str(), cx.theme, self.browser.open);
        let mut x = inner.x + 1;
        for (tab, name) in [(Tab::Overview, "Overview"), (Tab::Console, "Console")] {
            let here = tab == self.tab;
            let slot = if here { Slot::Selection } else { Slot::TextDim };
            let text = format!(" {name} ");
            let end = put(cx.buf, x, inner.y, &text, cx.theme.style(slot), inner.width);
            if !here {
                cx.hit(Rect::new(x, inner.y, end - x, 1), Hit::Action(Action::TabNext));
            }
            x = end + 1;
        }
        match self.tab {
            Tab::Overview => self.draw_overview(below_tabs(area), vm, cx),
            Tab::Console => draw_console(below_tabs(area), vm, cx),
        }
    }

    /// How many lines can be above what is seen of the detail when its end is.
    pub(super) fn scroll_most(&self, state: &State) -> usize {
        let detail = layout::parts_of(state.size, self.browser.open).detail;
        let scrolls = self.browser.open && self.tab == Tab::Overview;
        match (detail.filter(|_| scrolls), state.selected_vm()) {
            (Some(detail), Some(vm)) => {
                let area = below_tabs(detail);
                overview(vm, area.width, state).len().saturating_sub(usize::from(area.height))
            }
            _ => 0,
        }
    }

    fn draw_overview(&self, area: Rect, vm: &VmView, cx: &mut Draw<'_>) {
        let lines = overview(vm, area.width, cx.state);
        let rows = usize::from(area.height);
        let top = self.browser.scroll.min(lines.len().saturating_sub(rows));
        for (row, line) in lines.iter().skip(top).take(rows).enumerate() {
            let y = area.y + row as u16;
            let label = cx.theme.style(Slot::FieldLabel);
            put(cx.buf, area.x + 1, y, line.label, label, VALUE);
            let x = area.x + 1 + VALUE;
            let room = area.right().saturating_sub(x);
            let style = cx.theme.style(line.slot);
            match line.bar {
                None => {
                    put(cx.buf, x, y, &line.text, style, room);
                }
                Some((from, to)) => {
                    let words = 9;
                    let bar = room.saturating_sub(words + 1);
                    let cell = |share: f64| (share * f64::from(bar)) as u16;
                    let (from, to) = (cell(from), cell(to).max(cell(from) + 1).min(bar));
                    let full = cx.theme.style(Slot::JobBar);
                    for column in from..to {
                        put(cx.buf, x + column, y, "━", full, 1);
                    }
                    let end = x + bar + 1;
                    put(cx.buf, end, y, &line.text, style, words);
                }
            }
        }
    }
}

/// What is said of a machine, in lines for an area of so many columns.
fn overview(vm: &VmView, columns: u16, state: &State) -> Vec<Line> {
    let columns = usize::from(columns.saturating_sub(VALUE + 2));
    let now = state.now;
    let mut lines = Vec::new();
    let mut add = |label: &'static str, text: &str, slot: Slot| {
        for (n, part) in wrap(text, columns).into_iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            lines.push(Line { label, text: part, slot, bar: None });
        }
    };
    add("", " ", Slot::Text);
    let since = age(now.wall.since(vm.since));
    let phase = format!("{} {} for {since}", glyph(vm.phase, now), vm.phase.word());
    add("State", &phase, phase_slot(vm.phase));
    if let Some(problem) = &vm.problem {
        let slot = if vm.phase.is_up() { Slot::Warning } else { Slot::StateCrashed };
        add("Problem", &format!("{}: {}", problem.what, problem.why), slot);
        add("", &problem.hint, Slot::Text);
    }
    if let Some(exit) = &vm.last_exit
        && !vm.phase.is_up()
    {
        let slot = if exit.reason.is_clean() { Slot::Text } else { Slot::StateCrashed };
        let ago = age(now.wall.since(exit.at));
        add("Last exit", &format!("{}, {ago} ago", exit.reason.sentence()), slot);
    }
    let next = match vm.phase {
        Phase::Stopped | Phase::Crashed => "s starts it",
        Phase::Running if is_deaf(vm) => "c opens its serial console",
        Phase::Running => "o opens a shell, c the console",
        // What was paused for want of room goes on when there is some: its problem says so.
        Phase::Paused if vm.problem.is_some() => "",
        Phase::Paused => "p lets it go on",
        _ => "c opens the console",
    };
    if !next.is_empty() {
        add("Next", next, Slot::TextDim);
    }
    if let Some(command) = ssh_command(vm, state.ssh_key.as_deref()) {
        add("SSH", &command, Slot::Text);
    }
    add("", " ", Slot::Text);
    let spec = &vm.spec;
    add("Image", &spec.image, Slot::Text);
    if let Some(why) = state.outdated(vm) {
        add("", &format!("{STALE} {why}"), Slot::Warning);
        match why {
            Outdated::Rebuilt => {
                let hint = "b recreates it on the image as it is now; what is on it is lost";
                add("", hint, Slot::TextDim);
            }
            Outdated::Stale { .. } => {
                add("", "3 shows the image; b there builds it again", Slot::TextDim);
            }
            Outdated::Gone => {}
        }
    }
    add("vCPUs", &spec.vcpus.to_string(), Slot::Text);
    add("Memory", &ByteSize(spec.memory_mib << 20).to_string(), Slot::Text);
    let size =
        spec.disk_mib.map_or("the image's size".to_owned(), |mib| ByteSize(mib << 20).to_string());
    let used = vm.disk_used.map_or(String::new(), |b| format!(", {} used", ByteSize(b)));
    add("Disk", &format!("{size}{used}"), Slot::Text);
    let (text, slot) = overlay(vm);
    add("Overlay", &text, slot);
    let asked = |is: bool| if is { ", as asked" } else { "" };
    if let Some(vmm) = vm.vmm.or(spec.wishes.vmm) {
        let text = format!("{}{}", vmm.label(), asked(spec.wishes.vmm == Some(vmm)));
        add("Runs on", &text, Slot::Text);
    }
    if let Some(kind) = vm.network.or(spec.wishes.network) {
        let asked = asked(spec.wishes.network == Some(kind));
        let text = format!("{}{asked}{}", kind.label(), reached(kind, vm));
        add("Network", &text, Slot::Text);
    }
    add("At login", if spec.restore { "always started" } else { "as it was" }, Slot::Text);
    add("Made", &format!("{} ago", age(now.wall.since(vm.created))), Slot::Text);
    boot_lines(vm, &mut lines);
    lines
}

/// How the disk shares its image's data, and how full what is its own is.
fn overlay(vm: &VmView) -> (String, Slot) {
    let label = vm.overlay.label();
    let Some(fill) = vm.fill else { return (label.to_owned(), Slot::Text) };
    let total = ByteSize(fill.total);
    if fill.overflowed {
        return (format!("{label} of {total} overflowed"), Slot::StateCrashed);
    }
    let percent = u128::from(fill.used) * 100 / u128::from(fill.total.max(1));
    let slot = if percent < FILL_WARNING { Slot::Text } else { Slot::Warning };
    (format!("{label} {percent} % of {total}"), slot)
}

/// How the host reaches it on a network of this kind.
fn reached(kind: NetworkKind, vm: &VmView) -> String {
    match (kind, vm.address, &vm.ssh) {
        (NetworkKind::Tap, Some(address), _) => {
            let name = vm.dns_name.as_deref().unwrap_or("no name; the host's checks (5) say why");
            format!(", {address}, {name}")
        }
        (NetworkKind::User, _, Some(ssh)) => {
            format!(", {}:{} leads to its SSH", ssh.host, ssh.port)
        }
        _ => String::new(),
    }
}

/// The waterfall of the last boot: what each part took, and where in the whole it lies.
fn boot_lines(vm: &VmView, lines: &mut Vec<Line>) {
    let slot = Slot::TextDim;
    let Some((_, total)) = vm.boot.0.last() else { return };
    let whole = (*total).max(1) as f64;
    let blank = || Line { label: "", text: String::new(), slot, bar: None };
    lines.push(blank());
    lines.push(Line { label: "Last boot", text: millis(*total), ..blank() });
    let mut from = 0;
    for (mark, at) in &vm.boot.0 {
        let label = part(*mark);
        let bar = Some((from as f64 / whole, *at as f64 / whole));
        let text = format!("{:>8}", millis(at.saturating_sub(from)));
        lines.push(Line { label, text, slot, bar });
        from = *at;
    }
}

fn draw_console(area: Rect, vm: &VmView, cx: &mut Draw<'_>) {
    if let Some(entry) = cx.state.panes.peek_of(&vm.id)
        && let Some(pane) = &entry.pane
    {
        draw_terminal(cx.buf, area, pane, cx.theme);
        return;
    }
    let text = if vm.phase.is_up() {
        "attaching …".to_owned()
    } else {
        format!("{} is {}; s starts it", vm.spec.name, vm.phase.word())
    };
    let x = area.x + area.width.saturating_sub(width(&text) as u16) / 2;
    let y = area.y + area.height / 2;
    put(cx.buf, x, y, &text, cx.theme.style(Slot::TextDim), area.right().saturating_sub(x));
}
