//! Admission: what becomes of a command, by what the VM is doing.
//!
//! | phase | start | stop | kill | restart | delete | rename | pause | resume |
//! |---|---|---|---|---|---|---|---|---|
//! | creating | denied | denied | denied | denied | denied; queued if the making was interrupted | denied | denied | denied |
//! | stopped | queued | ignored | ignored | queued: starts | queued | queued | denied | denied |
//! | crashed | queued | queued: is not wanted any more | ignored | queued: starts | queued | queued | denied | denied |
//! | starting, booting, running | ignored | queued | queued | queued | denied: stop it first | queued | queued if it runs, else denied | ignored if it runs, else denied |
//! | paused | ignored: resume it | queued | queued | queued | denied: stop it first | queued | ignored | queued |
//! | … and a stop waits already | queued: behind it | ignored | queued | queued: starts behind it | denied | queued | denied | denied |
//! | stopping | queued: starts once it is off | ignored | queued: escalates | queued: starts once it is off | denied | queued | denied | denied |
//! | … and a start follows | ignored | queued: drops the start | queued: drops the start | ignored | denied | queued | denied | denied |
//! | … by a kill | as above | as above | ignored | as above | denied | queued | denied | denied |
//! | deleting | denied | denied | denied | denied | ignored; queued if that was interrupted | denied | denied | denied |
//!
//! A new disk (recreate) is for VMs that are off, stopped or crashed, and denied to all others.
//! A resize is judged as a rename is, and must make the disk larger.
//!
//! A stop of a VM that is off, but that is wanted to run (its start failed, or the host went
//! down), is queued as well: it only stores that it is not wanted any more.
//!
//! Whatever starts a VM is denied without a runtime directory, or if the VM has more memory than
//! the whole host. The sum over all VMs may well exceed the host's memory: guests rarely use
//! what they have.

use crate::domain::{BundleView, ByteSize, HostView, ImageView, Phase, Problem, VmName, VmSpec};

/// What is asked of a VM that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Start.
    Start,
    /// Stop by the ladder.
    Stop,
    /// Stop at once.
    Kill,
    /// Stop, then start.
    Restart,
    /// Remove.
    Delete,
    /// Make its disk anew.
    Recreate,
    /// Give another name.
    Rename,
    /// Make the disk larger.
    Resize,
    /// Let its CPUs stand still.
    Pause,
    /// Let them go on.
    Resume,
}

impl Verb {
    const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Delete => "delete",
            Self::Recreate => "recreate",
            Self::Rename => "rename",
            Self::Resize => "resize",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// How a VM stands when a command comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// Its name.
    pub name: &'a VmName,
    /// What it is doing.
    pub phase: Phase,
    /// Whether it will be up once all is done that is under way and waits.
    pub will_be_up: bool,
    /// Whether the user wants it to run.
    pub wanted: bool,
    /// Whether this process is at work on it.
    pub busy: bool,
    /// Whether it is being stopped by a kill already, or what is left of it cleared up.
    pub killing: bool,
}

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done, or waits.
    Queue,
    /// It is so already.
    Ignore(String),
    /// It cannot be done.
    Deny(Problem),
}

/// Judges `verb` by the table of the module.
#[must_use]
pub fn verb(verb: Verb, at: &Standing<'_>) -> Verdict {
    let name = at.name;
    let ignore = |text: &str| Verdict::Ignore(format!("{name} {text}"));
    let deny = |why: &str, hint: &str| {
        Verdict::Deny(Problem::new(format!("cannot {} {name}", verb.word()), why, hint))
    };
    if matches!(verb, Verb::Pause | Verb::Resume) {
        return match (verb, at.phase) {
            (_, Phase::Running | Phase::Paused) if !at.will_be_up => {
                deny("it is about to be stopped", "start it again when it is off")
            }
            (Verb::Pause, Phase::Running) | (Verb::Resume, Phase::Paused) => Verdict::Queue,
            (Verb::Pause, Phase::Paused) => ignore("is paused already"),
            (Verb::Resume, Phase::Running) => ignore("is running"),
            (_, phase) => deny(&format!("it is {}", phase.word()), "only a running VM can"),
        };
    }
    match at.phase {
        Phase::Creating => match verb {
            Verb::Delete if !at.busy => Verdict::Queue,
            _ if at.busy => {
                deny("its disk is being made", "wait for that to end; the jobs screen shows it")
            }
            _ => deny(
                "its disk is being made by another banger, or that was interrupted",
                "if no other banger is at it, delete the VM and create it again",
            ),
        },
        Phase::Stopped | Phase::Crashed => match verb {
            Verb::Stop if at.wanted => Verdict::Queue,
            Verb::Stop | Verb::Kill => ignore("is off"),
            _ => Verdict::Queue,
        },
        Phase::Starting | Phase::Booting | Phase::Running | Phase::Paused => match verb {
            Verb::Start if at.will_be_up => match at.phase {
                Phase::Running => ignore("is running already"),
                Phase::Paused => ignore("is paused; resume it"),
                _ => ignore("is starting already"),
            },
            Verb::Stop if !at.will_be_up => ignore("is about to be stopped"),
            Verb::Delete | Verb::Recreate => {
                deny("it is up", "stop it first (x, or `banger stop`)")
            }
            _ => Verdict::Queue,
        },
        Phase::Stopping => match verb {
            Verb::Start | Verb::Restart if at.will_be_up => ignore("starts again once it is off"),
            Verb::Stop if !at.will_be_up => ignore("is being stopped"),
            Verb::Kill if at.killing && !at.will_be_up => ignore("is being killed"),
            Verb::Delete | Verb::Recreate => {
                deny("it is being stopped", "try again once it is off")
            }
            _ => Verdict::Queue,
        },
        Phase::Deleting => match verb {
            Verb::Delete if at.busy => ignore("is being deleted"),
            Verb::Delete => Verdict::Queue,
            _ => deny("it is being deleted", "if that was interrupted, delete it again"),
        },
    }
}

/// Judges whether this host can run VMs at all, and one with this spec.
///
/// # Errors
/// The runtime directory is missing, or the VM has more memory than the host.
pub fn host(spec: &VmSpec, host: &HostView) -> Result<(), Problem> {
    let what = format!("cannot run {}", spec.name);
    match &host.bundle {
        BundleView::Missing { problem } => {
            return Err(Problem::new(what, problem.why.clone(), problem.hint.clone()));
        }
        // Not looked at yet: the start itself will tell.
        BundleView::Unknown | BundleView::Ready { .. } => {}
    }
    let memory = ByteSize(spec.memory_mib.saturating_mul(1 << 20));
    if host.memory_total > 0 && memory.0 > host.memory_total {
        let total = ByteSize(host.memory_total);
        return Err(Problem::new(
            what,
            format!("it has {memory} of memory, the whole host only {total}"),
            format!("give it less than {total}"),
        ));
    }
    Ok(())
}

/// Judges a new VM: its name, its image, and what [`host`] judges. `images` is `None` until they
/// are known; `taken` are the names in use.
///
/// # Errors
/// The first thing that is wrong.
pub fn create<'a>(
    spec: &VmSpec,
    at: &HostView,
    images: Option<&[ImageView]>,
    taken: impl IntoIterator<Item = &'a VmName>,
) -> Result<(), Problem> {
    let what = || format!("cannot create {}", spec.name);
    name(what(), &spec.name, taken)?;
    host(spec, at)?;
    // One in the making is on no list.
    let images = images.filter(|_| !spec.image.starts_with('.'));
    if let Some(images) = images.filter(|all| !all.iter().any(|image| image.name == spec.image)) {
        let known: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        let hint = if known.is_empty() {
            "make the base images with `banger runtime bootstrap`".to_owned()
        } else {
            format!("use one of: {}", known.join(", "))
        };
        return Err(Problem::new(what(), format!("there is no image “{}”", spec.image), hint));
    }
    let image = images.into_iter().flatten().find(|image| image.name == spec.image);
    match image.and_then(ImageView::refuses_user_data).filter(|_| spec.extras.user_data.is_some()) {
        Some(why) => Err(Problem::new(what(), why, "or leave the user data out")),
        None => Ok(()),
    }
}

/// Judges whether a disk can be made `mib` MiB large; `now` is its size if that is known.
///
/// # Errors
/// If it would be smaller, or larger than a disk can be.
pub fn size(vm: &VmName, now: Option<u64>, mib: u64) -> Result<(), Problem> {
    let what = || format!("cannot resize {vm}");
    if let Some(now) = now.filter(|now| mib < *now) {
        let why = format!("its disk has {now} MiB, and disks are never shrunk: that loses data");
        let hint = format!("give it more than {now} MiB, or make a new VM");
        return Err(Problem::new(what(), why, hint));
    }
    if !VmSpec::DISK_MIB.contains(&mib) {
        let why = format!("a disk is 16 MiB to 16 TiB, not {mib} MiB");
        return Err(Problem::new(what(), why, "choose another size"));
    }
    Ok(())
}

/// Judges whether a name is free.
///
/// # Errors
/// If it is not.
pub fn name<'a>(
    what: String,
    wish: &VmName,
    taken: impl IntoIterator<Item = &'a VmName>,
) -> Result<(), Problem> {
    if taken.into_iter().any(|name| name == wish) {
        return Err(Problem::new(
            what,
            format!("another VM has the name {wish}"),
            "choose another name",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(phase: Phase, will_be_up: bool, wanted: bool, busy: bool, killing: bool) -> String {
        let name = "web".parse().expect("name");
        let at = Standing { name: &name, phase, will_be_up, wanted, busy, killing };
        let first = [Verb::Start, Verb::Stop, Verb::Kill, Verb::Restart];
        let last = [Verb::Delete, Verb::Recreate, Verb::Rename, Verb::Pause, Verb::Resume];
        first
            .into_iter()
            .chain(last)
            .map(|asked| match verb(asked, &at) {
                Verdict::Queue => 'q',
                Verdict::Ignore(text) => {
                    assert!(text.starts_with("web "), "{text}");
                    'i'
                }
                Verdict::Deny(problem) => {
                    assert!(!problem.why.is_empty() && !problem.hint.is_empty(), "{problem:?}");
                    'd'
                }
            })
            .collect()
    }

    /// The table of the module's documentation, row by row.
    #[test]
    fn the_table_is_as_documented() {
        let (yes, no) = (true, false);
        // start, stop, kill, restart, delete, recreate, rename, pause, resume
        assert_eq!(judge(Phase::Creating, no, no, yes, no), "ddddddddd");
        assert_eq!(judge(Phase::Creating, no, no, no, no), "ddddqdddd");
        assert_eq!(judge(Phase::Stopped, no, no, no, no), "qiiqqqqdd");
        assert_eq!(judge(Phase::Stopped, no, yes, no, no), "qqiqqqqdd");
        assert_eq!(judge(Phase::Crashed, no, yes, no, no), "qqiqqqqdd");
        for phase in [Phase::Starting, Phase::Booting] {
            assert_eq!(judge(phase, yes, yes, no, no), "iqqqddqdd", "{phase:?}");
            assert_eq!(judge(phase, no, yes, yes, no), "qiqqddqdd", "{phase:?}");
        }
        assert_eq!(judge(Phase::Running, yes, yes, no, no), "iqqqddqqi");
        assert_eq!(judge(Phase::Paused, yes, yes, no, no), "iqqqddqiq");
        for phase in [Phase::Running, Phase::Paused] {
            assert_eq!(judge(phase, no, yes, yes, no), "qiqqddqdd", "{phase:?}");
        }
        assert_eq!(judge(Phase::Stopping, no, no, yes, no), "qiqqddqdd");
        assert_eq!(judge(Phase::Stopping, yes, yes, yes, no), "iqqiddqdd");
        assert_eq!(judge(Phase::Stopping, no, no, yes, yes), "qiiqddqdd");
        assert_eq!(judge(Phase::Deleting, no, no, yes, no), "ddddidddd");
        assert_eq!(judge(Phase::Deleting, no, no, no, no), "ddddqdddd");
    }

    #[test]
    fn a_vm_larger_than_the_host_is_denied_with_figures() {
        let draft = crate::domain::VmDraft {
            name: "web".into(),
            image: "tiny".into(),
            vcpus: "1".into(),
            memory: "8G".into(),
            ..Default::default()
        };
        let spec = draft.validate().expect("valid");
        let mut at = HostView { memory_total: 4 << 30, ..HostView::default() };
        let problem = host(&spec, &at).expect_err("too large");
        assert_eq!(problem.why, "it has 8 GiB of memory, the whole host only 4 GiB");
        at.memory_total = 8 << 30;
        assert_eq!(host(&spec, &at), Ok(()));
        let missing =
            Problem::new("no runtime directory", "looked in /x", "banger runtime bootstrap");
        at.bundle = BundleView::Missing { problem: missing };
        assert_eq!(host(&spec, &at).expect_err("missing").hint, "banger runtime bootstrap");
    }

    #[test]
    fn a_disk_is_never_shrunk() {
        let web: VmName = "web".parse().expect("a name");
        assert_eq!(size(&web, Some(256), 256), Ok(()));
        assert_eq!(size(&web, None, 257), Ok(()));
        let smaller = size(&web, Some(256), 255).expect_err("smaller");
        assert!(smaller.why.contains("has 256 MiB") && smaller.why.contains("never shrunk"));
        assert!(size(&web, Some(256), 17 << 20).is_err(), "larger than ext4 can be");
    }

    #[test]
    fn an_image_that_is_not_there_is_denied_with_those_that_are() {
        let draft = crate::domain::VmDraft {
            name: "web".into(),
            image: "arch".into(),
            vcpus: "1".into(),
            memory: "64".into(),
            ..Default::default()
        };
        let spec = draft.validate().expect("valid");
        let at = HostView::default();
        assert_eq!(create(&spec, &at, None, []), Ok(()), "not known yet");
        let arch =
            |cloud_init| ImageView { name: "arch".into(), cloud_init, ..ImageView::default() };
        let mut with = spec.clone();
        with.extras.user_data = Some("/data".into());
        for (cloud_init, good) in [(None, true), (Some(true), true), (Some(false), false)] {
            let judged = create(&with, &at, Some(&[arch(cloud_init)]), []);
            assert_eq!(judged.is_ok(), good, "{judged:?}");
            assert_eq!(create(&spec, &at, Some(&[arch(cloud_init)]), []), Ok(()));
        }
        let tiny = ImageView {
            name: "tiny".into(),
            about: String::new(),
            size: 1,
            default_memory_mib: 64,
            ..ImageView::default()
        };
        let problem = create(&spec, &at, Some(&[tiny]), []).expect_err("no such image");
        assert_eq!(problem.hint, "use one of: tiny");
        let problem = create(&spec, &at, Some(&[]), []).expect_err("no image at all");
        assert!(problem.hint.contains("bootstrap"), "{problem}");
    }
}
