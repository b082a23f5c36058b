//! What a VM is to be: the spec, and the draft that forms and commands fill in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{FieldProblem, NetworkKind, VmName, parse_mib};

/// Which program runs the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmmKind {
    /// Firecracker, which needs KVM and a TAP.
    Firecracker,
    /// QEMU's `microvm` machine under KVM.
    QemuKvm,
    /// QEMU's `microvm` machine with emulated CPUs.
    QemuTcg,
}

impl VmmKind {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Firecracker, Self::QemuKvm, Self::QemuTcg];

    /// The word in configurations, options and stores: `qemu-kvm`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::QemuKvm => "qemu-kvm",
            Self::QemuTcg => "qemu-tcg",
        }
    }

    /// As shown to the user: `QEMU/KVM`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Firecracker => "Firecracker",
            Self::QemuKvm => "QEMU/KVM",
            Self::QemuTcg => "QEMU/TCG",
        }
    }
}

/// How a VM's disk shares its base image's data. A VM never changes its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlayKind {
    /// A device-mapper snapshot over the base, shared by all; what changes is in a sparse file.
    /// Needs root, or the root helper.
    DmSnapshot,
    /// `FICLONE`: shares blocks until they are written (btrfs, xfs).
    Reflink,
    /// A copy that leaves out the holes.
    SparseCopy,
}

impl OverlayKind {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::DmSnapshot, Self::Reflink, Self::SparseCopy];

    /// The word in configurations, options and stores: `dm-snapshot`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::DmSnapshot => "dm-snapshot",
            Self::Reflink => "reflink",
            Self::SparseCopy => "sparse-copy",
        }
    }

    /// As shown to the user.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::DmSnapshot => "snapshot",
            Self::Reflink => "reflink",
            Self::SparseCopy => "sparse copy",
        }
    }
}

/// A field of the New VM form, and the option of `banger create` of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// The VM's name.
    Name,
    /// The base image.
    Image,
    /// Virtual CPUs.
    Vcpus,
    /// Memory.
    Memory,
    /// Size of the root disk.
    Disk,
    /// What runs it.
    Vmm,
    /// How it reaches the world.
    Network,
    /// How its disk shares the image's data.
    Overlay,
    /// More keys that may log in.
    Key,
    /// What cloud-init in it reads.
    UserData,
}

impl Field {
    /// The option's and field's word: `memory`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Image => "image",
            Self::Vcpus => "vcpus",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Vmm => "vmm",
            Self::Network => "network",
            Self::Overlay => "overlay",
            Self::Key => "key",
            Self::UserData => "user-data",
        }
    }
}

/// What the user wants a VM to be. Valid by construction: see [`VmDraft::validate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Its name, unique among the user's VMs.
    pub name: VmName,
    /// The base image's name, such as `debian`.
    pub image: String,
    /// Virtual CPUs: 1 to 32 (Firecracker's limit).
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the root disk in MiB; `None` is the image's own size.
    pub disk_mib: Option<u64>,
    /// Whether `--restore` starts it even if it was stopped when the host went down.
    pub restore: bool,
    /// What must be as the user said, whatever the host would choose.
    pub wishes: Wishes,
    /// What it is given when it is made. Kept in files of its directory, not in the database: of
    /// a VM that is made this is empty.
    #[serde(default)]
    pub extras: Box<Extras>,
}

/// What a VM is given beside its image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extras {
    /// Files of public SSH keys that may log in as root, beside the user's own.
    pub keys: Vec<PathBuf>,
    /// A file of user data for cloud-init.
    pub user_data: Option<PathBuf>,
}

/// What a user insists on; `None` leaves it to the host, which takes the best it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// What runs the VM, at each start.
    pub vmm: Option<VmmKind>,
    /// How it reaches the world, at each start.
    pub network: Option<NetworkKind>,
    /// How its disk shares the image's data, when it is made.
    pub overlay: Option<OverlayKind>,
}

impl VmSpec {
    /// vCPUs a VM may have: Firecracker takes 1 to 32, and QEMU's microvm more.
    pub const VCPUS: std::ops::RangeInclusive<u32> = 1..=32;
    /// Memory in MiB a VM may have: below 64 no image of ours boots, above 1 TiB no host of ours.
    pub const MEMORY_MIB: std::ops::RangeInclusive<u64> = 64..=1024 * 1024;
    /// Root disk in MiB: ext4 with 4 KiB blocks and 32-bit block numbers ends at 16 TiB.
    pub const DISK_MIB: std::ops::RangeInclusive<u64> = 16..=16 * 1024 * 1024 - 1;
}

/// A spec as typed: every field a text, nothing checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmDraft {
    /// See [`VmSpec::name`].
    pub name: String,
    /// See [`VmSpec::image`].
    pub image: String,
    /// See [`VmSpec::vcpus`].
    pub vcpus: String,
    /// As [`parse_mib`] reads it.
    pub memory: String,
    /// As [`parse_mib`] reads it; empty for the image's own size.
    pub disk: String,
    /// See [`VmSpec::restore`].
    pub restore: bool,
    /// The word of a [`VmmKind`], or `auto` or nothing.
    pub vmm: String,
    /// The word of a [`NetworkKind`], or `auto` or nothing.
    pub network: String,
    /// The word of an [`OverlayKind`], or `auto` or nothing.
    pub overlay: String,
    /// Absolute paths, separated by `:`: see [`Extras::keys`].
    pub keys: String,
    /// An absolute path, or nothing: see [`Extras::user_data`].
    pub user_data: String,
}

impl VmDraft {
    /// Checks every field that can be checked without looking at the host.
    ///
    /// # Errors
    /// All problems at once, in the order of the fields.
    pub fn validate(&self) -> Result<VmSpec, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut fail = |field, message: String| problems.push(FieldProblem { field, message });

        let name = self.name.trim().parse::<VmName>().map_err(|e| fail(Field::Name, e.to_string()));
        if self.image.trim().is_empty() {
            fail(Field::Image, "an image is needed".to_owned());
        }
        let vcpus = self.vcpus.trim().parse::<u32>().ok().filter(|n| VmSpec::VCPUS.contains(n));
        if vcpus.is_none() {
            fail(Field::Vcpus, format!("“{}”: 1 to 32 vCPUs are possible", clip(&self.vcpus)));
        }
        let memory = parse_mib(&clip(&self.memory))
            .and_then(|mib| in_range(mib, VmSpec::MEMORY_MIB, "memory is 64 MiB to 1 TiB"));
        let memory = memory.map_err(|e| fail(Field::Memory, e));
        let disk = match clip(&self.disk).trim() {
            "" => Ok(None),
            text => parse_mib(text)
                .and_then(|mib| in_range(mib, VmSpec::DISK_MIB, "a disk is 16 MiB to 16 TiB"))
                .map(Some),
        };
        let disk = disk.map_err(|e| fail(Field::Disk, e));

        let mut wishes = Wishes::default();
        match wish_of(&self.vmm, VmmKind::ALL.map(|kind| (kind.word(), kind))) {
            Ok(wish) => wishes.vmm = wish,
            Err(message) => fail(Field::Vmm, message),
        }
        match wish_of(&self.network, NetworkKind::ALL.map(|kind| (kind.word(), kind))) {
            Ok(wish) => wishes.network = wish,
            Err(message) => fail(Field::Network, message),
        }
        match wish_of(&self.overlay, OverlayKind::ALL.map(|kind| (kind.word(), kind))) {
            Ok(wish) => wishes.overlay = wish,
            Err(message) => fail(Field::Overlay, message),
        }
        if wishes.vmm == Some(VmmKind::Firecracker) && wishes.network == Some(NetworkKind::User) {
            fail(Field::Network, "Firecracker has no user network: take tap, or auto".to_owned());
        }

        let mut absolute = |field, text: &str| {
            let path = PathBuf::from(text);
            if !path.is_absolute() {
                fail(field, format!("“{}” is no absolute path, such as /home/me/file", clip(text)));
            }
            path
        };
        let keys = self.keys.split(':').map(str::trim).filter(|path| !path.is_empty());
        let keys = keys.map(|path| absolute(Field::Key, path)).collect();
        let user_data = Some(self.user_data.trim()).filter(|path| !path.is_empty());
        let user_data = user_data.map(|path| absolute(Field::UserData, path));
        let extras = Box::new(Extras { keys, user_data });

        match (name, vcpus, memory, disk) {
            (Ok(name), Some(vcpus), Ok(memory_mib), Ok(disk_mib)) if problems.is_empty() => {
                let (image, restore) = (self.image.trim().to_owned(), self.restore);
                Ok(VmSpec { name, image, vcpus, memory_mib, disk_mib, restore, wishes, extras })
            }
            _ => Err(problems),
        }
    }
}

/// What a word stands for; nothing for `auto` and for no word.
fn wish_of<T: Copy, const N: usize>(
    text: &str,
    known: [(&'static str, T); N],
) -> Result<Option<T>, String> {
    let text = text.trim();
    if text.is_empty() || text == "auto" {
        return Ok(None);
    }
    let found = known.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| Some(*value)).ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        format!("“{}”: it is auto, {}", clip(text), words.join(" or "))
    })
}

/// Keeps what is quoted back to the user short, whatever was pasted.
fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

fn in_range(mib: u64, range: std::ops::RangeInclusive<u64>, message: &str) -> Result<u64, String> {
    if range.contains(&mib) { Ok(mib) } else { Err(format!("{message}, not {mib} MiB")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> VmDraft {
        VmDraft {
            name: "web".into(),
            image: "tiny".into(),
            vcpus: "2".into(),
            memory: "512M".into(),
            ..VmDraft::default()
        }
    }

    #[test]
    fn a_good_draft_is_a_spec() {
        let spec = draft().validate().expect("valid");
        assert_eq!((spec.vcpus, spec.memory_mib, spec.disk_mib), (2, 512, None));
    }

    #[test]
    fn all_problems_come_at_once_in_field_order() {
        let bad = VmDraft {
            name: "x".repeat(300),
            image: " ".into(),
            vcpus: "0".into(),
            memory: "-1".into(),
            disk: "1".into(),
            restore: false,
            vmm: "xen".into(),
            network: "bridge".into(),
            overlay: "zfs".into(),
            keys: "/k/a.pub:k/b.pub".into(),
            user_data: "data".into(),
        };
        let fields: Vec<_> = bad.validate().expect_err("bad").iter().map(|p| p.field).collect();
        let [name, image, vcpus, memory, disk] =
            [Field::Name, Field::Image, Field::Vcpus, Field::Memory, Field::Disk];
        let [vmm, network, overlay] = [Field::Vmm, Field::Network, Field::Overlay];
        let last = [Field::Key, Field::UserData];
        let all = [&[name, image, vcpus, memory, disk, vmm, network, overlay], &last[..]];
        assert_eq!(fields, all.concat());
    }

    #[test]
    fn wishes_are_words_and_must_fit_each_other() {
        let spec = VmDraft { vmm: "firecracker".into(), overlay: "auto".into(), ..draft() };
        let wishes = spec.validate().expect("valid").wishes;
        assert_eq!(wishes, Wishes { vmm: Some(VmmKind::Firecracker), ..Wishes::default() });
        let both = VmDraft { vmm: "firecracker".into(), network: "user".into(), ..draft() };
        assert_eq!(both.validate().expect_err("cannot be")[0].field, Field::Network);
    }

    #[test]
    fn files_are_given_by_absolute_paths() {
        let spec = VmDraft { keys: " /a.pub: /b.pub:".into(), user_data: "/u".into(), ..draft() };
        let extras = spec.validate().expect("valid").extras;
        assert_eq!(extras.keys, [PathBuf::from("/a.pub"), "/b.pub".into()]);
        assert_eq!(extras.user_data, Some("/u".into()));
    }

    #[test]
    fn memory_has_a_range() {
        for bad in ["0", "-1", "10TiB", "63", "", "9999999999999999999999999999"] {
            let draft = VmDraft { memory: bad.into(), ..draft() };
            let problems = draft.validate().expect_err(bad);
            assert_eq!(problems.len(), 1, "{bad}");
            assert_eq!(problems[0].field, Field::Memory);
        }
    }
}
