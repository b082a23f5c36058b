//! One image closely.

use ratatui::layout::{Margin, Rect};

use super::{
    Images,
    list::vms_on,
    table::{self, STALE},
};
use crate::{
    config::theme::Slot,
    domain::{ByteSize, Fleet, ImageOrigin, ImageView, StaleReason},
    tui::{
        chrome,
        layers::Draw,
        popups::whole::{Part, count_rows, draw_parts},
        state::{State, is_older},
        text::{age, millis},
        widgets::panel,
    },
};

impl Images {
    pub(super) fn draw_detail(&self, area: Rect, cx: &mut Draw<'_>) {
        let state = cx.state;
        let Some(image) = state.selected_image() else {
            panel(cx.buf, area, "", cx.theme, self.browser.open);
            return;
        };
        let inner = panel(cx.buf, area, &image.name, cx.theme, self.browser.open);
        draw_parts(&about(image, state), self.browser.scroll, text(inner), cx);
    }

    /// How many lines can be above what is seen of the detail when its end is.
    pub(super) fn scroll_most(&self, state: &State) -> usize {
        let detail = table::parts(chrome::body_of(state.size), self.browser.open).detail;
        let detail = detail.filter(|_| self.browser.open);
        let (Some(detail), Some(image)) = (detail, state.selected_image()) else { return 0 };
        let text = text(detail.inner(Margin::new(1, 1)));
        let rows = count_rows(&about(image, state), text.width);
        rows.saturating_sub(usize::from(text.height))
    }
}

/// The place of the text within the frame.
const fn text(inner: Rect) -> Rect {
    Rect {
        x: inner.x + 1,
        y: inner.y + 1,
        width: inner.width.saturating_sub(2),
        height: inner.height.saturating_sub(1),
    }
}

fn about(image: &ImageView, state: &State) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |label: &'static str, text: String, slot: Slot| {
        parts.push(Part { label, text, slot });
    };
    add("About", image.about.clone(), Slot::Text);
    for (n, reason) in image.stale.iter().enumerate() {
        let label = if n == 0 { "Stale" } else { "" };
        add(label, format!("{STALE} {reason}"), Slot::Warning);
    }
    if image.stale.iter().any(|reason| matches!(reason, StaleReason::NoParent { .. })) {
        add("", "it can be used, but not built again".to_owned(), Slot::TextDim);
    } else if !image.stale.is_empty() {
        add("", "b builds it again".to_owned(), Slot::TextDim);
    }
    let origin = match (image.origin, &image.parent) {
        (ImageOrigin::Bundle, _) => "part of the runtime directory; read only".to_owned(),
        (ImageOrigin::Customized, Some(_)) if image.is_shadow() => {
            "customized; in the place of the runtime directory's".to_owned()
        }
        (ImageOrigin::Customized, Some(parent)) => format!("customized, from {parent}"),
        (origin, _) => origin.word().to_owned(),
    };
    add("Origin", origin, Slot::Text);
    // What came from elsewhere may not say when.
    if let Some(built) = image.built.filter(|at| at.0 > 0) {
        let ago = age(state.now.wall.since(built));
        let took = image.took_ms.map(|ms| format!(", took {}", long(ms))).unwrap_or_default();
        add("Built", format!("{ago} ago{took}"), Slot::Text);
    }
    let used = image.used.map(|used| format!(", {} on disk", ByteSize(used))).unwrap_or_default();
    add("Disk", format!("{}{used}", ByteSize(image.size)), Slot::Text);
    let memory = format!("{} by default", ByteSize(image.default_memory_mib << 20));
    add("Memory", memory, Slot::Text);
    add("SHA-256", image.sha256.clone(), Slot::Text);
    if let Some(packages) = &image.packages_sha256 {
        add("Packages", format!("manifest {packages}"), Slot::Text);
    }
    match image.cloud_init {
        Some(true) => add("Cloud-init", "yes: it reads user data".to_owned(), Slot::Text),
        Some(false) => add("Cloud-init", "no".to_owned(), Slot::Text),
        None => {}
    }
    machines(image, &state.fleet, &mut add);
    parts
}

/// The machines on it, by name.
fn machines(image: &ImageView, fleet: &Fleet, add: &mut impl FnMut(&'static str, String, Slot)) {
    let (all, old) = vms_on(image, fleet);
    if all == 0 {
        add("Machines", "none; n makes one".to_owned(), Slot::TextDim);
        return;
    }
    let on = || fleet.vms.iter().filter(|vm| vm.spec.image == image.name);
    let names: Vec<String> = on().map(|vm| vm.spec.name.to_string()).collect();
    add("Machines", names.join(", "), Slot::Text);
    if old > 0 {
        let older = on().filter(|vm| is_older(vm, image));
        let names: Vec<String> = older.map(|vm| vm.spec.name.to_string()).collect();
        let text = format!("{STALE} of an older build: {}", names.join(", "));
        add("", text, Slot::Warning);
        let hint = "b in Machines makes one again from this build".to_owned();
        add("", hint, Slot::TextDim);
    }
}

/// How long a build took: minutes matter, and of a short one tenths of seconds.
fn long(ms: u64) -> String {
    if ms < 60_000 { millis(ms) } else { age(ms) }
}
