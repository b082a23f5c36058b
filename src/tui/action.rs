//! Everything a user can do, declared once.
//!
//! Keys, the palette, which-key, help, the hint line and `docs/keys.md` are all derived from the
//! table below. Whether an action can be done now is in [`super::availability`].

/// Where keys work. A layer names the contexts it stands in, the most special first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Context {
    /// Every screen, unless a popup is open.
    Global,
    /// Anything that scrolls or has a selection.
    List,
    /// The Machines screen.
    Machines,
    /// The filter line of the Machines screen.
    Filter,
    /// The Panes screen, while no pane has the keyboard.
    Panes,
    /// A pane that has the keyboard.
    Terminal,
    /// The Images screen.
    Images,
    /// The Jobs screen.
    Jobs,
    /// The Host screen.
    Host,
    /// The screen shown while the runtime directory is missing.
    FirstStart,
    /// Forms.
    Form,
    /// The wizard that makes an image.
    Wizard,
    /// A text of several lines in the wizard.
    Editor,
    /// Yes-or-no questions.
    Confirm,
    /// One-line questions: rename, type the name to delete.
    Prompt,
    /// The command palette.
    Palette,
    /// The help popup.
    Help,
    /// The list of past notices.
    History,
    /// What shows something whole.
    View,
}

impl Context {
    /// All of them, in the order in which `docs/keys.md` and the help show them.
    pub const ALL: [Self; 19] = [
        Self::Machines,
        Self::Filter,
        Self::Panes,
        Self::Terminal,
        Self::Images,
        Self::Jobs,
        Self::Host,
        Self::FirstStart,
        Self::List,
        Self::Global,
        Self::Form,
        Self::Wizard,
        Self::Editor,
        Self::Confirm,
        Self::Prompt,
        Self::Palette,
        Self::Help,
        Self::History,
        Self::View,
    ];

    /// Its name in `keymap.toml`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::List => "list",
            Self::Machines => "machines",
            Self::Filter => "filter",
            Self::Panes => "panes",
            Self::Terminal => "terminal",
            Self::Images => "images",
            Self::Jobs => "jobs",
            Self::Host => "host",
            Self::FirstStart => "first-start",
            Self::Form => "form",
            Self::Wizard => "wizard",
            Self::Editor => "editor",
            Self::Confirm => "confirm",
            Self::Prompt => "prompt",
            Self::Palette => "palette",
            Self::Help => "help",
            Self::History => "history",
            Self::View => "view",
        }
    }

    /// As shown to the user.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Global => "Everywhere",
            Self::List => "Moving",
            Self::Machines => "Machines",
            Self::Filter => "Filter line",
            Self::Panes => "Panes",
            Self::Terminal => "A pane with the keyboard",
            Self::Images => "Images",
            Self::Jobs => "Jobs",
            Self::Host => "Host",
            Self::FirstStart => "First start",
            Self::Form => "Forms",
            Self::Wizard => "The wizard for images",
            Self::Editor => "A text in the wizard",
            Self::Confirm => "Questions",
            Self::Prompt => "Prompts",
            Self::Palette => "Palette",
            Self::Help => "Help",
            Self::History => "Notices",
            Self::View => "Something shown whole",
        }
    }
}

/// What stands between the key and the deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Danger {
    /// Nothing.
    None,
    /// A yes-or-no question, with the focus on Cancel.
    Confirm,
    /// The name of what is destroyed has to be typed.
    TypeName,
}

/// What is declared of an [`Action`].
#[derive(Clone, Copy, Debug)]
pub struct ActionInfo {
    /// The action.
    pub action: Action,
    /// Its name in `keymap.toml` and its alias in the palette: `vm-start`.
    pub id: &'static str,
    /// What it does, at most 60 characters.
    pub doc: &'static str,
    /// One or two words for the hint line.
    pub short: &'static str,
    /// Where its keys work.
    pub contexts: &'static [Context],
    /// The same by name, as the key map wants them.
    pub context_ids: &'static [&'static str],
    /// Its keys, as [`crate::config::keymap`] reads them; a blank separates the chords of a
    /// sequence.
    pub keys: &'static [&'static str],
    /// What stands before it.
    pub danger: Danger,
    /// Whether the palette offers it: false for what only makes sense as a key.
    pub palette: bool,
}

macro_rules! actions {
    ($($name:ident $id:literal $short:literal $doc:literal
       [$($ctx:ident)*] [$($key:literal)*] $danger:ident $palette:literal;)*) => {
        /// Something the user can do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $(#[doc = $doc] $name,)*
        }

        /// The table of all actions, in the order in which help and palette show them.
        pub const ALL: &[ActionInfo] = &[
            $(ActionInfo {
                action: Action::$name,
                id: $id,
                doc: $doc,
                short: $short,
                contexts: &[$(Context::$ctx,)*],
                context_ids: &[$(Context::$ctx.id(),)*],
                keys: &[$($key,)*],
                danger: Danger::$danger,
                palette: $palette,
            },)*
        ];
    };
}

actions! {
    VmNew "vm-new" "new" "Make a new machine" [Machines Images FirstStart] ["n"] None true;
    VmDetail "vm-detail" "detail" "Show the machine's detail" [Machines] ["enter" "e"] None true;
    VmShell "vm-shell" "shell" "Open a root shell in the machine (SSH)" [Machines] ["o" "t"] None true;
    VmConsole "vm-console" "console" "Open the machine's serial console" [Machines] ["c"] None true;
    VmStart "vm-start" "start" "Start" [Machines] ["s"] None true;
    VmStop "vm-stop" "stop" "Stop, politely first" [Machines] ["x"] Confirm true;
    VmKill "vm-kill" "kill" "Stop at once; what the guest has not saved is lost" [Machines] ["K"] Confirm true;
    VmRestart "vm-restart" "restart" "Stop politely, then start" [Machines] ["r"] Confirm true;
    VmPause "vm-pause" "pause/resume" "Pause: its CPUs stand still; resume if it is paused" [Machines] ["p"] None true;
    VmDelete "vm-delete" "delete" "Delete the machine and its disk" [Machines] ["d"] TypeName true;
    VmRename "vm-rename" "rename" "Give the machine another name" [Machines] ["R"] None true;
    CopySsh "copy-ssh" "copy ssh" "Copy the machine's ssh command" [Machines] ["y"] None true;
    Mark "mark" "mark" "Mark or unmark the machine; verbs act on the marked" [Machines] ["space"] None false;
    MarkAll "mark-all" "mark all" "Mark all machines that are shown" [Machines] ["ctrl-a"] None true;
    Unmark "unmark" "unmark" "Take all marks away" [Machines] ["u"] None true;
    VmResize "vm-resize" "resize" "Make the machine's disk larger" [Machines] ["D"] None true;
    Filter "filter" "filter" "Filter: words, state:…, image:…, ! inverts" [Machines] ["/"] None true;
    VmRecreate "vm-recreate" "recreate" "Make its disk anew from its image; what is on it is lost" [Machines] ["b"] TypeName true;
    SortName "sort-name" "by name" "Sort by name" [Machines Images] [", n"] None true;
    SortState "sort-state" "by state" "Sort by state" [Machines] [", s"] None true;
    SortImage "sort-image" "by image" "Sort by image" [Machines] [", i"] None true;
    SortVcpus "sort-vcpus" "by vCPUs" "Sort by vCPUs" [Machines] [", c"] None true;
    SortMemory "sort-memory" "by memory" "Sort by memory" [Machines] [", m"] None true;
    SortDisk "sort-disk" "by disk" "Sort by disk used" [Machines] [", d"] None true;
    SortUptime "sort-uptime" "by uptime" "Sort by uptime" [Machines] [", u"] None true;
    FilterAccept "filter-accept" "keep" "Keep the filter and go back to the list" [Filter] ["enter" "down"] None false;

    PaneFocus "pane-focus" "type" "Give the pane the keyboard" [Panes] ["enter"] None false;
    PaneInside "pane-inside" "inside" "Of a build: a shell in its image; else type in the pane" [Panes] ["i"] None false;
    PaneZoom "pane-zoom" "zoom" "Show the pane alone, or with its surroundings" [Panes] ["z"] None false;
    PaneClose "pane-close" "close" "Close the pane; the machine runs on" [Panes] ["w"] None false;
    PaneReopen "pane-reopen" "reopen" "Connect an ended pane again" [Panes] ["r"] None false;
    PaneSendEscape "pane-send-escape" "send it" "Send the escape chord itself to the guest" [Panes] ["ctrl-]"] None false;
    PaneLeave "pane-leave" "leave" "Take the keyboard back from the pane" [Terminal] ["ctrl-]"] None false;
    PaneScrollUp "pane-scroll-up" "scroll up" "Scroll back through the pane's output" [Terminal Panes] ["shift-pgup"] None false;
    PaneScrollDown "pane-scroll-down" "scroll down" "Scroll forward through the pane's output" [Terminal Panes] ["shift-pgdn"] None false;

    ImageDetail "image-detail" "detail" "Show the image's detail" [Images] ["enter"] None true;
    ImageCustomize "image-customize" "customize" "Make an image from this one, with a wizard" [Images] ["c"] None true;
    ImageRecipe "image-recipe" "recipe" "Change the recipe this image is built from" [Images] ["C"] None true;
    ImageRebuild "image-rebuild" "rebuild" "Build the image again, as it is wanted now" [Images] ["b"] Confirm true;
    ImageRename "image-rename" "rename" "Give the image another name" [Images] ["R"] None true;
    ImageDelete "image-delete" "delete" "Delete the image; not while machines are on it" [Images] ["d"] Confirm true;
    ImageImport "image-import" "import" "Import a disk, an archive or a container image" [Images] ["i"] None true;
    ImageExport "image-export" "export" "Write the image to a file" [Images] ["e"] None true;
    ImageVerify "image-verify" "verify" "Check that the image is what was built" [Images] ["v"] None true;
    ImageTree "image-tree" "tree" "Show which image is made from which, or a plain list" [Images] ["t"] None true;
    ImageFilter "image-filter" "filter" "Filter: words, origin:…, is:stale, ! inverts" [Images] ["/"] None false;
    ImageSortOrigin "image-sort-origin" "by origin" "Sort images by origin" [Images] [", o"] None true;
    ImageSortSize "image-sort-size" "by size" "Sort images by size" [Images] [", s"] None true;
    ImageSortUsed "image-sort-disk" "by disk" "Sort images by disk used" [Images] [", d"] None true;
    ImageSortBuilt "image-sort-built" "by age" "Sort images by when they were built" [Images] [", b"] None true;
    ImageSortVms "image-sort-vms" "by VMs" "Sort images by the machines on them" [Images] [", v"] None true;

    JobOpen "job-open" "log" "Show or hide the steps and the log; a build's pane" [Jobs] ["enter" "e"] None false;
    JobCancel "job-cancel" "cancel" "Cancel the job" [Jobs] ["x"] Confirm true;
    JobRetry "job-retry" "retry" "Do a failed job again" [Jobs] ["r"] None true;
    JobDismiss "job-dismiss" "dismiss" "Take an ended job off the list" [Jobs] ["d"] None true;

    HostOpen "host-open" "whole" "Show the line whole: the command, why, the error" [Host] ["enter" "e"] None false;
    HostCopy "host-copy" "copy" "Copy the command of the line" [Host View] ["y"] None false;
    HostClean "host-clean" "clean" "Remove what is left over on the host" [Host] ["c"] Confirm true;
    HostLook "host-look" "look again" "Look at the host again" [Host] ["r"] None true;
    HostFilter "host-filter" "filter" "Filter the lines: words, ! inverts" [Host] ["/"] None false;
    TabNext "tab-next" "next tab" "Next tab, next pane" [Machines Panes Host] ["l" "right" "]"] None false;
    TabPrev "tab-prev" "previous tab" "Previous tab, previous pane" [Machines Panes Host] ["h" "left" "["] None false;

    Bootstrap "bootstrap" "set up" "Make or complete the runtime directory" [FirstStart] ["enter" "b"] None true;

    StepNext "step-next" "next step" "Next step of the wizard" [Editor Wizard] ["ctrl-n" "alt-right"] None false;
    StepPrev "step-prev" "previous step" "Previous step of the wizard" [Editor Wizard] ["ctrl-p" "alt-left"] None false;

    Up "up" "up" "Up" [List Palette Help History View] ["k" "up"] None false;
    Down "down" "down" "Down" [List Palette Help History View] ["j" "down"] None false;
    Top "top" "top" "To the top" [List Help History View] ["g g" "home"] None false;
    Bottom "bottom" "bottom" "To the bottom" [List Help History View] ["G" "end"] None false;
    HalfDown "half-page-down" "½ page down" "Half a page down" [List Help History View] ["ctrl-d"] None false;
    HalfUp "half-page-up" "½ page up" "Half a page up" [List Help History View] ["ctrl-u"] None false;
    PageDown "page-down" "page down" "A page down" [List Palette Help History View] ["pgdn"] None false;
    PageUp "page-up" "page up" "A page up" [List Palette Help History View] ["pgup"] None false;

    GoMachines "go-machines" "machines" "Go to Machines" [Global] ["1" "g m"] None true;
    GoPanes "go-panes" "panes" "Go to Panes" [Global] ["2" "g p"] None true;
    GoImages "go-images" "images" "Go to Images" [Global] ["3" "g i"] None true;
    GoJobs "go-jobs" "jobs" "Go to Jobs" [Global] ["4" "J" "g j"] None true;
    GoHost "go-host" "host" "Go to Host" [Global] ["5" "g h"] None true;
    NextScreen "next-screen" "next screen" "Next screen" [Global] ["tab"] None false;
    PrevScreen "prev-screen" "previous screen" "Previous screen" [Global] ["shift-tab"] None false;
    History "notices" "notices" "Show the notices so far" [Global] ["H" "g n"] None true;
    Palette "palette" "commands" "Find and run any command" [Global] [":" "ctrl-p"] None false;
    Help "help" "help" "Show what can be done here and now" [Global] ["?"] None true;
    Back "back" "back" "One level back; never quits"
        [Global Filter Form Wizard Editor Confirm Prompt Palette Help History View] ["esc"] None false;
    Redraw "redraw" "redraw" "Draw the whole screen again" [Global] ["ctrl-l"] None true;
    Suspend "suspend" "suspend" "Suspend banger; machines keep running" [Global] ["ctrl-z"] None true;
    Quit "quit" "quit" "Quit banger; machines keep running" [Global] ["q" "ctrl-c"] None true;

    FieldNext "field-next" "next field" "Next field" [Form Wizard] ["tab" "down"] None false;
    FieldPrev "field-prev" "previous field" "Previous field" [Form Wizard] ["shift-tab" "up"] None false;
    PartNext "part-next" "next part" "Next part of the step" [Editor] ["tab"] None false;
    PartPrev "part-prev" "previous part" "Previous part of the step" [Editor] ["shift-tab"] None false;
    Submit "submit" "do it" "Do what the form says; next step" [Form Wizard] ["enter" "ctrl-s"] None false;
    Cancel "cancel" "cancel" "Close without doing anything" [Form Wizard Editor Confirm Prompt Palette Help History View] ["ctrl-c"] None false;
    Yes "yes" "yes" "Yes" [Confirm] ["y"] None false;
    No "no" "no" "No" [Confirm] ["n" "q"] None false;
    OtherButton "other-button" "other button" "Move to the other button" [Confirm] ["tab" "shift-tab" "left" "right" "h" "l"] None false;
    Accept "accept" "accept" "Press the button, accept the line" [Confirm Prompt Palette] ["enter"] None false;
    CloseView "close-view" "close" "Close" [Help History View] ["q" "enter"] None false;
}

impl Action {
    /// What is declared of it.
    #[must_use]
    pub fn info(self) -> &'static ActionInfo {
        // The macro lists table and enum in the same order; a test checks it.
        &ALL[self as usize]
    }

    /// The action of this name.
    #[must_use]
    pub fn by_id(id: &str) -> Option<Self> {
        ALL.iter().find(|info| info.id == id).map(|info| info.action)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_complete_and_short() {
        let mut ids = HashSet::new();
        for (index, info) in ALL.iter().enumerate() {
            assert_eq!(info.action as usize, index, "{}", info.id);
            assert_eq!(info.action.info().id, info.id);
            assert_eq!(Action::by_id(info.id), Some(info.action));
            assert!(ids.insert(info.id), "{} is there twice", info.id);
            assert!(!info.doc.is_empty() && info.doc.chars().count() <= 60, "{}", info.doc);
            assert!(!info.contexts.is_empty() && !info.keys.is_empty(), "{}", info.id);
        }
        assert_eq!(Action::by_id("vm-fly"), None);
    }

    #[test]
    fn no_key_means_two_things_in_one_context() {
        for context in Context::ALL {
            let mut keys = HashSet::new();
            for info in ALL.iter().filter(|info| info.contexts.contains(&context)) {
                for key in info.keys {
                    assert!(keys.insert(*key), "{key} in {}", context.id());
                }
            }
        }
    }
}
