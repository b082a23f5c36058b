//! A boot as the user sees it: its parts, and how far it is.

use ratatui::layout::Rect;

use super::{
    layers::Draw,
    text::width,
    widgets::{put, spinner},
};
use crate::{
    config::theme::Slot,
    domain::{BootMark, VmView},
};

/// The parts of a boot in order, each with the mark it ends at.
const PARTS: [BootMark; 4] = [BootMark::Vmm, BootMark::Init, BootMark::SwitchRoot, BootMark::Ssh];

/// The part of a boot that ends at a mark.
#[must_use]
pub const fn part(mark: BootMark) -> &'static str {
    match mark {
        BootMark::Vmm => "VMM",
        BootMark::Init => "kernel",
        BootMark::SwitchRoot => "init",
        BootMark::Ssh => "system",
    }
}

/// Draws in the middle of an empty console how far the boot is: a quiet boot says nothing itself.
pub fn progress(area: Rect, vm: &VmView, cx: &mut Draw<'_>) {
    let mut lines =
        vec![(format!("{} is booting", vm.spec.name), Slot::Text), (String::new(), Slot::Text)];
    let mut from = 0;
    let mut under_way = false;
    for mark in PARTS {
        let name = part(mark);
        let line = match vm.boot.0.iter().find(|(there, _)| *there == mark) {
            Some((_, at)) => {
                let took = at.saturating_sub(from) as f64 / 1000.0;
                from = *at;
                (format!("✓ {name:<6} {took:>5.1} s"), Slot::StateRunning)
            }
            None if under_way => (format!("  {name:<6}"), Slot::TextDim),
            None => {
                under_way = true;
                (format!("{} {name:<6}", spinner(cx.state.now.mono)), Slot::StateBooting)
            }
        };
        lines.push(line);
    }
    let wide = lines.iter().map(|(line, _)| width(line)).max().unwrap_or(0) as u16;
    let x = area.x + area.width.saturating_sub(wide) / 2;
    let top = area.y + area.height.saturating_sub(lines.len() as u16) / 2;
    for (y, (line, slot)) in (top..area.bottom()).zip(lines) {
        put(cx.buf, x, y, &line, cx.theme.style(slot), area.right().saturating_sub(x));
    }
}
