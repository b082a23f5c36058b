//! What the layers share.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{
    action::Action,
    event::Ticket,
    forms::new_vm::Remembered,
    keymap::KeyMap,
    pane::{PaneId, Panes},
    runs::Runs,
    toasts::Toasts,
};
use crate::{
    config::{Config, theme::Theme},
    domain::{
        BundleView, Fleet, ImageView, JobId, JobView, Outdated, Phase, UnixMs, VmId, VmView,
        outdated,
    },
    term::Options,
};

/// The time, as passed in with each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since the UI began; for time-outs and spinners.
    pub mono: Duration,
    /// The wall clock; for ages of things.
    pub wall: UnixMs,
}

/// The screens, in the order of their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Screen {
    /// The home.
    #[default]
    Machines,
    /// Serial consoles and shells.
    Panes,
    /// What machines are made from.
    Images,
    /// What takes longer than a blink.
    Jobs,
    /// The machine banger runs on.
    Host,
}

impl Screen {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Machines, Self::Panes, Self::Images, Self::Jobs, Self::Host];

    /// As shown on its tab.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Machines => "Machines",
            Self::Panes => "Panes",
            Self::Images => "Images",
            Self::Jobs => "Jobs",
            Self::Host => "Host",
        }
    }

    /// What goes there.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Machines => Action::GoMachines,
            Self::Panes => Action::GoPanes,
            Self::Images => Action::GoImages,
            Self::Jobs => Action::GoJobs,
            Self::Host => Action::GoHost,
        }
    }
}

/// An image that is being made in a pane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Its name, unless that comes from what is imported.
    pub name: Option<String>,
    /// The contents of the images that there were before, by name.
    pub before: BTreeMap<String, String>,
    /// Where it is being made.
    pub pane: PaneId,
    /// The wizard's draft that becomes it.
    pub draft: Option<String>,
}

/// Whether a machine's disk was made from another build of this image, which is its own by name.
#[must_use]
pub fn is_older(vm: &VmView, image: &ImageView) -> bool {
    let made_from = vm.made_from.as_ref().filter(|_| !image.sha256.is_empty());
    made_from.is_some_and(|made_from| *made_from != image.sha256)
}

/// What the layers share. Only `update` changes it; drawing reads it.
pub struct State {
    /// The time of the event that is being handled.
    pub now: Now,
    /// Columns and rows of the outer terminal.
    pub size: (u16, u16),
    /// The latest picture of everything.
    pub fleet: Arc<Fleet>,
    /// What is shown below all popups.
    pub screen: Screen,
    /// The machine under the cursor.
    pub selected: Option<VmId>,
    /// The marked machines: the verbs act on them, if there are any.
    pub marks: BTreeSet<VmId>,
    /// The name of the image under the cursor.
    pub image: Option<String>,
    /// Images that are being made in a pane.
    pub builds: Vec<Build>,
    /// A draft of the wizard's that is to be kept, and from when on.
    pub draft: Option<(String, Duration)>,
    /// The user's home directory, for paths that begin with `~/`.
    pub home: Option<PathBuf>,
    /// The job under the cursor.
    pub job: Option<JobId>,
    /// Whether the Host screen waits for what a look at the host finds.
    pub looking: bool,
    /// Whether there is a line under the cursor of the Host screen.
    pub host_line: bool,
    /// The command in it.
    pub host_command: Option<String>,
    /// How often a screen was gone to: one that is shown again knows by it that it was left.
    pub visits: u64,
    /// What was said in passing.
    pub toasts: Toasts,
    /// The open consoles.
    pub panes: Panes,
    /// What they run, as jobs.
    pub runs: Runs,
    /// The colours.
    pub theme: Theme,
    /// Which key does what.
    pub keys: KeyMap,
    /// What the New VM form begins with: defaults, and what was typed before Esc.
    pub new_vm: Remembered,
    /// The user's private key, for the ssh command that can be copied.
    pub ssh_key: Option<PathBuf>,
    /// Whether the supervisor is gone.
    pub gone: bool,
    tickets: u64,
}

impl State {
    /// The state at the start: nothing known yet.
    #[must_use]
    pub fn new(theme: Theme, keys: KeyMap, size: (u16, u16), now: Now) -> Self {
        Self {
            now,
            size,
            fleet: Arc::default(),
            screen: Screen::default(),
            selected: None,
            marks: BTreeSet::new(),
            image: None,
            builds: Vec::new(),
            draft: None,
            home: None,
            job: None,
            looking: false,
            host_line: false,
            host_command: None,
            visits: 0,
            toasts: Toasts::default(),
            panes: Panes::default(),
            runs: Runs::default(),
            theme,
            keys,
            new_vm: Remembered::default(),
            ssh_key: None,
            gone: false,
            tickets: 0,
        }
    }

    /// Takes over what the user has set.
    pub fn configure(&mut self, config: &Config) {
        // Left at its default, the setting must not undo what keymap.toml says.
        if config.escape_chord != Config::default().escape_chord {
            self.keys.set_escape(config.escape_chord);
        }
        self.panes.options = Options {
            scrollback: usize::try_from(config.scrollback).unwrap_or(usize::MAX),
            clipboard: config.guest_clipboard,
            ..Options::default()
        };
        self.new_vm.defaults = config.new_vm.clone();
    }

    /// Whether a pane is shown without anything around it.
    #[must_use]
    pub fn is_zoomed(&self) -> bool {
        self.screen == Screen::Panes && self.panes.zoom && self.panes.current().is_some()
    }

    /// A number no other command has.
    pub fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// The machine with this id.
    #[must_use]
    pub fn vm(&self, id: &VmId) -> Option<&Arc<VmView>> {
        self.fleet.vms.iter().find(|vm| vm.id == *id)
    }

    /// The machine under the cursor.
    #[must_use]
    pub fn selected_vm(&self) -> Option<&Arc<VmView>> {
        self.selected.as_ref().and_then(|id| self.vm(id))
    }

    /// What a verb acts on: the marked machines, or else the one under the cursor.
    #[must_use]
    pub fn targets(&self) -> Vec<Arc<VmView>> {
        if self.marks.is_empty() {
            self.selected_vm().cloned().into_iter().collect()
        } else {
            self.fleet.vms.iter().filter(|vm| self.marks.contains(&vm.id)).cloned().collect()
        }
    }

    /// The image under the cursor.
    #[must_use]
    pub fn selected_image(&self) -> Option<&ImageView> {
        let name = self.image.as_ref()?;
        self.fleet.images.iter().find(|image| image.name == *name)
    }

    /// Why a machine's disk is not what would be made for it now, if it is not.
    #[must_use]
    pub fn outdated(&self, vm: &VmView) -> Option<Outdated> {
        outdated(&self.fleet.images, &vm.spec.image, vm.made_from.as_deref())
    }

    /// All jobs, the oldest first: the supervisor's, and what panes run.
    #[must_use]
    pub fn jobs(&self) -> Vec<&JobView> {
        let mut runs = self.runs.listed().peekable();
        let mut all = Vec::new();
        for job in &self.fleet.jobs {
            while let Some(run) = runs.next_if(|run| run.started < job.started) {
                all.push(run);
            }
            all.push(job);
        }
        all.extend(runs);
        all
    }

    /// The job under the cursor.
    #[must_use]
    pub fn selected_job(&self) -> Option<&JobView> {
        let id = self.job?;
        self.fleet.jobs.iter().chain(self.runs.listed()).find(|job| job.id == id)
    }

    /// Jobs that are not over.
    #[must_use]
    pub fn running_jobs(&self) -> usize {
        let jobs = self.fleet.jobs.iter().chain(self.runs.listed());
        jobs.filter(|job| !job.state.is_over()).count()
    }

    /// Machines that are up in any way.
    #[must_use]
    pub fn machines_up(&self) -> usize {
        self.fleet.vms.iter().filter(|vm| vm.phase.is_up()).count()
    }

    /// Whether the first-start screen takes the place of the Machines: no runtime directory, and
    /// no machine that could be looked at meanwhile.
    #[must_use]
    pub fn is_first_start(&self) -> bool {
        self.screen == Screen::Machines
            && self.fleet.loaded
            && self.fleet.vms.is_empty()
            && matches!(self.fleet.host.bundle, BundleView::Missing { .. })
    }

    /// Whether anything on the screen moves by itself: a spinner is shown.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let moving = |phase| {
            matches!(
                phase,
                Phase::Creating
                    | Phase::Starting
                    | Phase::Booting
                    | Phase::Stopping
                    | Phase::Deleting
            )
        };
        let looking = self.looking && self.screen == Screen::Host;
        looking || self.running_jobs() > 0 || self.fleet.vms.iter().any(|vm| moving(vm.phase))
    }
}
