//! Images that are made in panes: what comes of them is told, and the new one is shown.

use crate::{
    domain::{ImageView, NoticeLevel, is_same_draft},
    term::PaneState,
    tui::{
        effect::{Effect, Errand},
        layers::Cx,
        pane::Run,
        screens::panes,
        state::{Build, Screen},
    },
};

/// Runs a verb on images in a pane and goes there; what it makes is waited for.
pub fn run(run: Run, cx: &mut Cx<'_>) {
    let (name, draft) = (run.makes.clone(), run.draft.clone());
    let makes = name.is_some() || run.arguments.get(1).is_some_and(|verb| verb == "import");
    panes::run(run, cx);
    let Some(entry) = cx.state.panes.current().filter(|_| makes) else { return };
    let pane = entry.id;
    let sums = cx.state.fleet.images.iter().map(|image| (image.name.clone(), image.sha256.clone()));
    let before = sums.collect();
    cx.state.builds.retain(|build| build.pane != pane);
    cx.state.builds.push(Build { name, before, pane, draft });
}

/// Looks after them, now that the picture or a pane has changed. `busy` is whether a popup is
/// open: then nobody is taken elsewhere.
pub fn follow(busy: bool, cx: &mut Cx<'_>) {
    let builds = std::mem::take(&mut cx.state.builds);
    let named: Vec<String> = builds.iter().filter_map(|build| build.name.clone()).collect();
    for build in builds {
        let is_of = |image: &&ImageView| match &build.name {
            Some(name) => image.name == *name,
            None => !named.contains(&image.name),
        };
        let is_new = |image: &&ImageView| build.before.get(&image.name) != Some(&image.sha256);
        let image = cx.state.fleet.images.iter().filter(is_of).find(is_new);
        let made = image.map(|image| image.name.clone());
        let alive = cx.state.panes.get(build.pane).map(crate::tui::pane::Entry::is_alive);
        match (made.is_some(), alive) {
            // Closed before it was done.
            (false, None) => continue,
            // It is published a moment before its pane ends, or after, as the picture comes.
            (false, Some(_)) | (true, Some(true)) => {
                cx.state.builds.push(build);
                continue;
            }
            (true, _) => {}
        }
        let Some(name) = made else { continue };
        if let Some(draft) = build.draft {
            let ticket = cx.state.next_ticket();
            // By now another may have been begun.
            cx.state.draft.take_if(|(kept, _)| is_same_draft(kept, &draft));
            cx.effect(Effect::Desk(ticket, Errand::Built(name.clone(), draft)));
        }
        let here = cx.state.panes.current().is_some_and(|entry| entry.id == build.pane);
        let text = format!("the image {name} is ready");
        cx.state.image = Some(name);
        if cx.state.screen == Screen::Images || (cx.state.screen == Screen::Panes && here && !busy)
        {
            cx.toast(NoticeLevel::Info, text, "n makes a machine of it");
            cx.go(Screen::Images);
        } else {
            cx.toast(NoticeLevel::Info, text, "3 shows it; n there makes a machine of it");
        }
    }
    tell_ends(cx);
}

/// Tells of what has ended while nobody looked.
fn tell_ends(cx: &mut Cx<'_>) {
    let shown = cx.state.panes.current().map(|entry| entry.id);
    let looking = cx.state.screen == Screen::Panes;
    let mut ends = Vec::new();
    for entry in cx.state.panes.list_mut() {
        if entry.run().is_none() || entry.told {
            continue;
        }
        let why = match entry.pane.as_ref().map(crate::term::Pane::state) {
            Some(PaneState::Ended(why)) => why,
            Some(PaneState::Failed(problem)) => format!("{}: {}", problem.what, problem.why),
            _ => continue,
        };
        entry.told = true;
        if !(looking && shown == Some(entry.id)) {
            ends.push(format!("“{}”: {why}", entry.name));
        }
    }
    for end in ends {
        cx.toast(NoticeLevel::Info, end, "2 shows what it said");
    }
}
