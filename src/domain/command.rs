//! What a user can ask of the supervisor, and what it answers at once.

use super::{ImageName, JobId, Problem, VmId, VmName, VmSpec};

/// A request. Each becomes a job, is ignored as already so, or is denied with a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandBody {
    /// Make a VM, and start it if `start`.
    Create {
        /// What it is to be.
        spec: VmSpec,
        /// Start it when it is made.
        start: bool,
    },
    /// Make a VM that helps to make an image: it goes when nobody works on that any more, even if
    /// nobody deletes it.
    CreateHelper {
        /// What it is to be. Its image may be a staged one that was sealed.
        spec: VmSpec,
        /// The staged image that it helps to make: `.staged-1a2b3c4d`.
        of: String,
        /// Start it when it is made.
        start: bool,
    },
    /// Start.
    Start(VmId),
    /// Stop politely, then less so: the ladder.
    Stop(VmId),
    /// Stop at once, the guest's unsaved data notwithstanding.
    Kill(VmId),
    /// Stop by the ladder, then start.
    Restart(VmId),
    /// Let its CPUs stand still.
    Pause(VmId),
    /// Let them go on.
    Resume(VmId),
    /// Give another name; the guest takes it at its next start.
    Rename(VmId, VmName),
    /// Make its disk this large, in MiB; the guest has it at its next start. Never smaller.
    Resize(VmId, u64),
    /// Remove the VM and its disk. It must be off.
    Delete(VmId),
    /// Make the VM's disk anew from its image as that is now; all that is on it is lost. It must be
    /// off.
    Recreate(VmId),
    /// Give an image of the user's another name; VMs and images that were made from it follow.
    RenameImage(ImageName, ImageName),
    /// Remove an image of the user's from which no VM was made.
    DeleteImage(ImageName),
    /// Make or complete the runtime directory.
    Bootstrap,
    /// Look closely at the host, for [`super::Fleet::report`]. Takes some hundred milliseconds;
    /// its job goes off the list by itself.
    LookAtHost,
    /// Remove what the report lists as left over: just that, after another look at each.
    CleanHost,
    /// Bring the host in line with what is wanted: clear up dead VMs, start what should run.
    Restore,
    /// End a job that can be cancelled.
    CancelJob(JobId),
    /// Do a failed job again.
    RetryJob(JobId),
    /// Take an ended job off the list.
    DismissJob(JobId),
}

/// The immediate answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is under way as this job.
    Queued(JobId),
    /// It is so already; a sentence says what.
    Ignored(String),
    /// It cannot be done.
    Denied(Denied),
}

/// Why a command is denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0)]
pub struct Denied(pub Problem);
