//! The vocabulary of banger: ids, specs and their validation, phases, problems.
//!
//! Pure: no tokio, no file system, no clock. Times come in as [`UnixMs`].

mod command;
mod exit;
mod fleet;
mod host;
mod id;
mod image;
mod job;
mod monitor;
mod name;
mod naming;
mod net;
mod paths;
mod phase;
mod problem;
mod recipe;
mod report;
mod shell;
mod size;
mod spec;
mod ssh_key;
mod stop;
mod time;

pub use command::{Admission, CommandBody, Denied};
pub use exit::{ExitReason, ExitRecord};
pub use fleet::{BundleView, Fleet, HostView, Notice, NoticeLevel, VmView};
pub use host::{Fill, HostCall};
pub use id::VmId;
pub use image::{
    BadImageName, BuildPreview, FileInto, ImageFacts, ImageName, ImageOrigin, ImageView, Outdated,
    PackageChange, PackageDiff, Preset, Recipe, StaleReason, UserInto, is_same_draft, outdated,
};
pub use job::{JobId, JobState, JobView, Progress, StepState, StepView};
pub use monitor::{
    BootMark, BootTimes, MonitorEvent, MonitorPhase, MonitorReply, MonitorRequest, MonitorStatus,
    SshEndpoint,
};
pub use name::{VmName, name_order};
pub use naming::{BadTemplate, CommandTemplate, NamesRoute, NamesSettings, ZONE};
pub use net::{BRIDGE_PREFIX, NetworkKind, Subnet, TAP_PREFIX, Tag, mac, tap_name};
pub use paths::{Layout, SOCKET_PATH_MAX, VmPaths};
pub use phase::{Phase, Wanted};
pub use problem::{FieldProblem, Problem};
pub use recipe::RecipeProblem;
pub use report::{CheckLevel, CheckView, HostReport, MadeState, MadeView, OrphanView};
pub use shell::shell_word;
pub use size::{ByteSize, parse_mib};
pub use spec::{Extras, Field, OverlayKind, VmDraft, VmSpec, VmmKind, Wishes};
pub use ssh_key::{ExtraKey, SSH_KEY_MAX, check_ssh_key, split_ssh_key};
pub use stop::{Method, Rung, StopLadder};
pub use time::UnixMs;
