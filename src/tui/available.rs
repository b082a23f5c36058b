//! What can be done now, and why not what cannot.

use super::{
    action::Action,
    runs::RunJob,
    state::{Screen, State, is_older},
};
use crate::domain::{BundleView, ImageOrigin, Phase, StaleReason, VmView};

/// Whether an action can be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Ready,
    /// It cannot, for this reason: one short sentence.
    Disabled(String),
}

impl Availability {
    /// Whether it can.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// Whether `action` can be done in `state`. The same answer greys a line in help and palette,
/// hides a key from the hint line, and is what the user is told on pressing the key.
#[must_use]
pub fn availability(state: &State, action: Action) -> Availability {
    match reason(state, action) {
        None => Availability::Ready,
        Some(why) => Availability::Disabled(why),
    }
}

fn reason(state: &State, action: Action) -> Option<String> {
    match action {
        Action::VmStart
        | Action::VmStop
        | Action::VmKill
        | Action::VmRestart
        | Action::VmPause
        | Action::VmRecreate
        | Action::VmDelete => verb(state, action),
        Action::VmDetail | Action::Mark => none_selected(state),
        Action::VmShell
        | Action::VmConsole
        | Action::VmRename
        | Action::VmResize
        | Action::CopySsh => {
            if state.marks.len() > 1 {
                return Some("this works on one machine; u takes the marks away".to_owned());
            }
            one(state, action)
        }
        Action::MarkAll | Action::Filter if state.fleet.vms.is_empty() => {
            Some("there are no machines yet; n makes one".to_owned())
        }
        Action::Unmark if state.marks.is_empty() => Some("no machine is marked".to_owned()),
        Action::VmNew if state.gone => Some(GONE.to_owned()),
        // While it is not known yet which images there are the form waits for them.
        Action::VmNew
            if state.fleet.images.is_empty() && state.fleet.host.bundle != BundleView::Unknown =>
        {
            Some("there is no image yet: set up the runtime directory first".to_owned())
        }
        Action::TabNext | Action::TabPrev
            if state.screen == Screen::Machines && state.fleet.vms.is_empty() =>
        {
            Some("there are no machines yet; n makes one".to_owned())
        }
        Action::TabNext | Action::TabPrev
            if state.screen == Screen::Panes && state.panes.len() < 2 =>
        {
            Some("there is no other pane".to_owned())
        }
        Action::JobOpen | Action::JobCancel | Action::JobRetry | Action::JobDismiss => {
            job(state, action)
        }
        Action::ImageDetail
        | Action::ImageCustomize
        | Action::ImageRecipe
        | Action::ImageRebuild
        | Action::ImageRename
        | Action::ImageDelete
        | Action::ImageExport
        | Action::ImageVerify
        | Action::ImageFilter => of_image(state, action),
        Action::HostOpen | Action::HostCopy | Action::HostClean | Action::HostLook => {
            of_host(state, action)
        }
        Action::PaneFocus
        | Action::PaneInside
        | Action::PaneZoom
        | Action::PaneClose
        | Action::PaneReopen
        | Action::PaneSendEscape
        | Action::PaneScrollUp
        | Action::PaneScrollDown => state.panes.reason(action),
        _ => None,
    }
}

const GONE: &str = "the supervisor has ended; quit and start banger again";

fn none_selected(state: &State) -> Option<String> {
    if !state.fleet.loaded {
        return Some("still loading".to_owned());
    }
    state.selected_vm().is_none().then(|| {
        if state.fleet.vms.is_empty() {
            "there are no machines yet; n makes one".to_owned()
        } else {
            "no machine is selected".to_owned()
        }
    })
}

/// A verb that works on all targets: ready if it is for at least one.
fn verb(state: &State, action: Action) -> Option<String> {
    if state.gone {
        return Some(GONE.to_owned());
    }
    let targets = state.targets();
    if targets.is_empty() {
        return none_selected(state);
    }
    let mut why = None;
    for vm in &targets {
        match verb_of(vm, action) {
            None => return None,
            Some(reason) => why = why.or(Some(reason)),
        }
    }
    match why {
        Some(why) if targets.len() > 1 => {
            Some(format!("none of the {} marked machines can do that now: {why}", targets.len()))
        }
        why => why,
    }
}

/// Why a verb is not possible for a machine.
#[must_use]
pub fn verb_of(vm: &VmView, action: Action) -> Option<String> {
    let name = &vm.spec.name;
    let word = vm.phase.word();
    match (action, vm.phase) {
        (_, Phase::Creating | Phase::Deleting) => Some(format!("{name} is {word}")),
        (Action::VmStart, Phase::Paused) => Some(format!("{name} is paused; p lets it go on")),
        (Action::VmStart, Phase::Starting | Phase::Booting | Phase::Running) => {
            Some(format!("{name} is {word} already"))
        }
        (Action::VmStart | Action::VmRestart | Action::VmStop, Phase::Stopping) => {
            Some(format!("{name} is stopping; K stops it at once"))
        }
        (
            Action::VmStop | Action::VmKill | Action::VmRestart | Action::VmPause,
            Phase::Stopped | Phase::Crashed,
        ) => Some(format!("{name} is off; s starts it")),
        (Action::VmPause, Phase::Starting | Phase::Booting) => {
            Some(format!("{name} is {word}; it can be paused once it runs"))
        }
        (Action::VmPause, Phase::Stopping) => Some(format!("{name} is stopping")),
        (Action::VmDelete | Action::VmRecreate, phase) if phase.is_up() => {
            Some(format!("{name} is {word}; stop it first with x"))
        }
        _ => None,
    }
}

fn one(state: &State, action: Action) -> Option<String> {
    let targets = state.targets();
    let Some(vm) = targets.first() else { return none_selected(state) };
    let (name, word) = (&vm.spec.name, vm.phase.word());
    match action {
        Action::VmShell | Action::VmConsole if !vm.phase.is_up() => {
            Some(format!("{name} is {word}; s starts it"))
        }
        Action::VmShell if vm.phase == Phase::Paused => {
            Some(format!("{name} is paused; p lets it go on"))
        }
        Action::CopySsh if vm.ssh.is_none() => {
            Some(format!("{name} is {word}: there is no address to copy"))
        }
        Action::VmRename | Action::VmResize if state.gone => Some(GONE.to_owned()),
        Action::VmRename | Action::VmResize if vm.phase == Phase::Deleting => {
            Some(format!("{name} is {word}"))
        }
        _ => None,
    }
}

fn of_image(state: &State, action: Action) -> Option<String> {
    let Some(image) = state.selected_image() else {
        return Some(match state.fleet.images.as_slice() {
            _ if !state.fleet.loaded => "still loading".to_owned(),
            [] => "there are no images yet; i in Images imports one".to_owned(),
            _ => "no image is selected".to_owned(),
        });
    };
    let name = &image.name;
    let gone = |reason: &StaleReason| matches!(reason, StaleReason::NoParent { .. });
    match (action, image.origin) {
        (Action::ImageRename | Action::ImageDelete, ImageOrigin::Bundle) => Some(format!(
            "{name} is part of the runtime directory; c makes one of your own from it"
        )),
        (Action::ImageRecipe, ImageOrigin::Bundle | ImageOrigin::Imported) => {
            Some(format!("{name} was not built from a recipe; c makes one from it"))
        }
        (Action::ImageRebuild, ImageOrigin::Imported) => {
            Some(format!("{name} was imported: i imports it again"))
        }
        (Action::ImageRebuild, _) if image.stale.iter().any(gone) => {
            Some(format!("the image {name} was made from is gone"))
        }
        (Action::ImageDelete, _) => {
            // Those of the image whose place it took stay with that.
            let other = |vm: &VmView| image.is_shadow() && is_older(vm, image);
            let on = state.fleet.vms.iter().filter(|vm| vm.spec.image == *name && !other(vm));
            let names: Vec<&str> = on.map(|vm| vm.spec.name.as_str()).collect();
            let them = if names.len() == 1 { "it" } else { "them" };
            let used = || format!("{name} is used by {}; delete {them} first", names.join(", "));
            (!names.is_empty()).then(used)
        }
        _ => None,
    }
}

fn of_host(state: &State, action: Action) -> Option<String> {
    let report = state.fleet.report.as_ref();
    match action {
        Action::HostLook | Action::HostClean if state.gone => Some(GONE.to_owned()),
        Action::HostClean => match report {
            None => Some("nobody looked at the host yet; 5 does".to_owned()),
            Some(report) if report.orphans.is_empty() => Some("nothing is left over".to_owned()),
            Some(_) => None,
        },
        Action::HostOpen if !state.host_line => Some("there is no line".to_owned()),
        Action::HostCopy if state.host_command.is_none() => {
            Some("there is no command in this line".to_owned())
        }
        _ => None,
    }
}

fn job(state: &State, action: Action) -> Option<String> {
    use crate::domain::JobState;
    let Some(job) = state.selected_job() else { return Some("no job is selected".to_owned()) };
    match action {
        Action::JobOpen => {
            let closed = |run: &RunJob| state.panes.get(run.pane).is_none();
            let closed = state.runs.get(job.id).is_some_and(closed);
            closed.then(|| "its pane is closed".to_owned())
        }
        Action::JobCancel if job.state.is_over() => Some("the job is over".to_owned()),
        Action::JobCancel if !job.cancellable => {
            Some("this job cannot be cancelled at this step".to_owned())
        }
        Action::JobRetry if !matches!(job.state, JobState::Failed { .. } | JobState::Cancelled) => {
            Some("only a failed or cancelled job can be done again".to_owned())
        }
        Action::JobDismiss if !job.state.is_over() => {
            Some("the job is not over; x cancels it".to_owned())
        }
        _ => None,
    }
}
