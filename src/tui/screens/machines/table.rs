//! The table of machines and what stands above it. Only the rows that are seen are drawn.

use ratatui::{layout::Rect, style::Style};

use super::{
    Machines,
    layout::{Column, columns},
};
use crate::{
    config::theme::Slot,
    domain::{BundleView, ByteSize, HostView, NetworkKind, Phase, VmView},
    tui::{
        layers::Draw,
        screens::{images::STALE, panes::is_deaf},
        state::Now,
        text::{age, clip, clip_middle, width},
        widgets::{meter, put, put_right, spinner},
    },
};

/// The sign of a phase: it tells states apart without colours.
#[must_use]
pub fn glyph(phase: Phase, now: Now) -> &'static str {
    match phase {
        Phase::Running => "●",
        Phase::Paused => "‖",
        Phase::Stopped => "○",
        Phase::Crashed => "✗",
        Phase::Creating | Phase::Starting | Phase::Booting => spinner(now.mono),
        Phase::Stopping | Phase::Deleting => spinner(now.mono),
    }
}

/// The slot of a phase.
#[must_use]
pub const fn phase_slot(phase: Phase) -> Slot {
    match phase {
        Phase::Running => Slot::StateRunning,
        Phase::Paused => Slot::StatePaused,
        Phase::Stopped => Slot::StateStopped,
        Phase::Crashed => Slot::StateCrashed,
        Phase::Creating | Phase::Starting | Phase::Booting => Slot::StateBooting,
        Phase::Stopping | Phase::Deleting => Slot::StateStopping,
    }
}

/// Where a machine is reached: its name, its address, or the port that leads to its SSH.
fn reached(vm: &VmView) -> String {
    if is_deaf(vm) {
        return "serial only: c".to_owned();
    }
    if vm.phase == Phase::Booting && vm.problem.is_some() {
        return "see console: c".to_owned();
    }
    let named = vm.dns_name.clone().or_else(|| vm.address.map(|address| address.to_string()));
    let forwarded = || vm.ssh.as_ref().map(|ssh| format!("{}:{}", ssh.host, ssh.port));
    named.or_else(forwarded).unwrap_or_default()
}

/// Capacity of the host, and what runs machines on it.
pub fn header(area: Rect, cx: &mut Draw<'_>) {
    let state = cx.state;
    let host = &state.fleet.host;
    let (text, dim) = (cx.theme.style(Slot::Text), cx.theme.style(Slot::TextDim));
    if !state.fleet.loaded {
        put(cx.buf, area.x + 1, area.y, "loading …", dim, area.width);
        return;
    }
    let up = || state.fleet.vms.iter().filter(|vm| vm.phase.is_up());
    let vcpus: u64 = up().map(|vm| u64::from(vm.spec.vcpus)).sum();
    let promised: u64 = up().map(|vm| vm.spec.memory_mib << 20).sum();
    let used = host.memory_total.saturating_sub(host.memory_available);
    let disk = host.disk_total.saturating_sub(host.disk_available);
    let gib = |bytes: u64| {
        let gib = bytes as f64 / f64::from(1 << 30);
        if gib >= 9.95 || (gib - gib.round()).abs() < 0.05 {
            format!("{gib:.0}")
        } else {
            format!("{gib:.1}")
        }
    };
    let bars = [
        ("vCPU", vcpus, u64::from(host.cpus), format!("{vcpus} of {}", host.cpus)),
        ("mem", used, host.memory_total, format!("{}/{} GiB", gib(used), gib(host.memory_total))),
        ("promised", promised, host.memory_total, format!("{} GiB", gib(promised))),
        ("disk", disk, host.disk_total, format!("{}/{} GiB", gib(disk), gib(host.disk_total))),
    ];
    let share = area.width.saturating_sub(2) / bars.len() as u16;
    for (index, (label, part, whole, words)) in bars.into_iter().enumerate() {
        let x = area.x + 1 + share * index as u16;
        let end = put(cx.buf, x, area.y, label, dim, share) + 1;
        let room = (x + share).saturating_sub(end);
        let words = clip(&words, usize::from(room.saturating_sub(1)));
        let bar = room.saturating_sub(width(&words) as u16 + 2).min(24);
        let bar = if bar < 3 { 0 } else { bar };
        meter(cx.buf, Rect::new(end, area.y, bar, 1), part, whole, cx.theme);
        let from = if bar == 0 { end } else { end + bar + 1 };
        put(cx.buf, from, area.y, &words, text, room);
    }
    let row = Rect { y: area.y + 1, height: 1, x: area.x + 1, width: area.width - 2 };
    if row.y >= area.bottom() {
        return;
    }
    if let BundleView::Missing { problem } = &host.bundle {
        let line = format!("✗ {}: {} · {}", problem.what, problem.why, problem.hint);
        put(cx.buf, row.x, row.y, &line, cx.theme.style(Slot::StateCrashed), row.width);
        return;
    }
    let jobs = match state.running_jobs() {
        0 => String::new(),
        1 => "1 job running".to_owned(),
        n => format!("{n} jobs running"),
    };
    let right = put_right(cx.buf, row, &jobs, cx.theme.style(Slot::StateBooting));
    let room = (right - row.x).saturating_sub(1);
    put(cx.buf, row.x, row.y, &choices(host, usize::from(room)), dim, room);
}

/// What the host runs machines with, and as many of the reasons as there is room for.
fn choices(host: &HostView, room: usize) -> String {
    let network = host.network.map(|kind| match kind {
        NetworkKind::Tap => "network: bridge",
        NetworkKind::User => "network: user",
    });
    let known = [
        host.vmm.map(|kind| (kind.label().to_owned(), &host.vmm_reason)),
        network.map(|text| (text.to_owned(), &host.network_reason)),
        host.overlay.map(|kind| (format!("disks: {}", kind.label()), &host.overlay_reason)),
    ];
    let known: Vec<_> = known.into_iter().flatten().collect();
    let with = |reasons: usize| {
        let words = known.iter().enumerate().map(|(n, (text, why))| {
            if n < reasons && !why.is_empty() { format!("{text} ({why})") } else { text.clone() }
        });
        words.collect::<Vec<_>>().join(" · ")
    };
    let fits = (1..=known.len()).rev().map(with).find(|text| width(text) <= room);
    fits.unwrap_or_else(|| format!("{} · 5 says why", with(0)))
}

impl Machines {
    pub(super) fn draw_table(&self, area: Rect, cx: &mut Draw<'_>) {
        let state = cx.state;
        let all = state.fleet.vms.len();
        let mut title = if self.list.len() == all {
            format!("Machines {all}")
        } else {
            format!("Machines {} of {all}", self.list.len())
        };
        if !state.marks.is_empty() {
            title.push_str(&format!(" · {} marked", state.marks.len()));
        }
        let browser = &self.browser;
        let inner = browser.draw_frame(area, title, cx);
        if self.list.is_empty() {
            browser.draw_empty(inner, "No machines yet. n makes one.", "machine", cx);
            return;
        }
        let columns = columns(inner);
        browser.draw_heads(columns.iter().map(|(c, place)| (c.head(), c.sort(), *place)), cx);
        browser.draw_rows(inner, self.list.len(), cx, |row, y, cx| {
            let Some(vm) = self.list.get(&state.fleet, row) else { return };
            for (column, place) in &columns {
                self.draw_cell(*column, Rect { y, ..*place }, vm, row == browser.row, cx);
            }
        });
    }

    fn draw_cell(&self, column: Column, at: Rect, vm: &VmView, here: bool, cx: &mut Draw<'_>) {
        let now = cx.state.now;
        // On the selected row the selection's colours win, whatever the cell's are.
        let style = |slot: Slot| {
            if here { cx.theme.style(Slot::Selection) } else { cx.theme.style(slot) }
        };
        let (text, style): (String, Style) = match column {
            Column::Mark => {
                let marked = cx.state.marks.contains(&vm.id);
                let sign = if marked { "▌" } else { "" };
                (sign.to_owned(), style(Slot::Mark))
            }
            Column::State => (
                format!("{} {}", glyph(vm.phase, now), vm.phase.word()),
                style(phase_slot(vm.phase)),
            ),
            // Names of one family differ at their ends.
            Column::Name => {
                let room = usize::from(at.width.saturating_sub(1));
                (clip_middle(vm.spec.name.as_str(), room), style(Slot::Text))
            }
            Column::Address => (reached(vm), style(Slot::TextDim)),
            Column::Image => {
                let mark = if cx.state.outdated(vm).is_some() { STALE } else { "" };
                let room = usize::from(at.width).saturating_sub(2 * mark.len().min(1) + 1);
                (format!("{} {mark}", clip(&vm.spec.image, room)), style(Slot::Text))
            }
            Column::Vcpus => (vm.spec.vcpus.to_string(), style(Slot::Text)),
            Column::Memory => (ByteSize(vm.spec.memory_mib << 20).to_string(), style(Slot::Text)),
            Column::Disk => (
                vm.disk_used.map(|bytes| ByteSize(bytes).to_string()).unwrap_or_default(),
                style(Slot::Text),
            ),
            Column::Uptime => {
                // One that comes up or goes down says that, and no more.
                let counts = matches!(vm.phase, Phase::Running | Phase::Paused);
                let uptime = vm.uptime(now.wall).filter(|_| counts);
                (uptime.map(age).unwrap_or_default(), style(Slot::Text))
            }
        };
        let end = put(cx.buf, at.x, at.y, &text, style, at.width.saturating_sub(1));
        if column == Column::Name && vm.problem.is_some() && end + 2 <= at.right() {
            put(cx.buf, end + 1, at.y, "!", cx.theme.style(Slot::StateCrashed), 1);
        }
        if column == Column::Name
            && let Some(part) = self.browser.filter.name_part()
            && let Some(from) = text.find(part)
        {
            let x = at.x + width(&text[..from]) as u16;
            let width = (part.len() as u16).min(at.right().saturating_sub(x));
            cx.buf.set_style(Rect::new(x, at.y, width, 1), cx.theme.style(Slot::Match));
        }
    }
}
