//! The settings: their names, what they take, and how it is read.

use std::path::{Path, PathBuf};

use super::{
    Config,
    doc::{quoted, unknown},
};
use crate::domain::{
    CommandTemplate, ExtraKey, NamesRoute, NetworkKind, OverlayKind, VmSpec, VmmKind, parse_mib,
    split_ssh_key,
};

/// What a setting takes in `config.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// A list of texts; its text has one a line.
    List,
    /// A text such as `"2G"`, or a whole number of MiB.
    Size,
}

/// How a setting is put in place; the text is what the user wrote, without quotes.
type Set = fn(&mut Config, &str, Option<&Path>) -> Result<(), String>;

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name; a dot separates the table: `new_vm.image`.
    pub name: &'static str,
    /// The variable that overrides it.
    pub env: &'static str,
    /// Its default, as `docs/configuration.md` has it.
    pub default: &'static str,
    pub(super) kind: Kind,
    pub(super) set: Set,
}

/// All settings, in the order of `docs/configuration.md`.
pub const KEYS: &[Key] = &[
    Key {
        name: "theme",
        env: "BANGER_THEME",
        default: "\"dark\"",
        kind: Kind::Text,
        // Which themes there are is known when the theme is loaded.
        set: |config, text, _| {
            text.clone_into(&mut config.theme);
            Ok(())
        },
    },
    Key {
        name: "runtime_dir",
        env: "BANGER_RUNTIME_DIR",
        default: "unset",
        kind: Kind::Text,
        set: |config, text, home| {
            config.runtime_dir = Some(absolute(text, home)?);
            config.by_repo_root = false;
            Ok(())
        },
    },
    Key {
        name: "vmm",
        env: "BANGER_VMM",
        default: "\"auto\"",
        kind: Kind::Text,
        set: |config, text, _| {
            config.vmm = auto_or(text, &VmmKind::ALL.map(|kind| (kind.word(), kind)))?;
            Ok(())
        },
    },
    Key {
        name: "network",
        env: "BANGER_NETWORK",
        default: "\"auto\"",
        kind: Kind::Text,
        set: |config, text, _| {
            config.network = auto_or(text, &NetworkKind::ALL.map(|kind| (kind.word(), kind)))?;
            Ok(())
        },
    },
    Key {
        name: "overlay",
        env: "BANGER_OVERLAY",
        default: "\"auto\"",
        kind: Kind::Text,
        set: |config, text, _| {
            config.overlay = auto_or(text, &OverlayKind::ALL.map(|kind| (kind.word(), kind)))?;
            Ok(())
        },
    },
    Key {
        name: "jailer",
        env: "BANGER_JAILER",
        default: "\"auto\"",
        kind: Kind::Text,
        set: |config, text, _| {
            config.jailer = auto_or(text, &[("on", true), ("off", false)])?;
            Ok(())
        },
    },
    Key {
        name: "new_vm.image",
        env: "BANGER_NEW_VM_IMAGE",
        default: "unset",
        kind: Kind::Text,
        set: |config, text, _| {
            config.new_vm.image = Some(text.to_owned());
            Ok(())
        },
    },
    Key {
        name: "new_vm.vcpus",
        env: "BANGER_NEW_VM_VCPUS",
        default: "1",
        kind: Kind::Number,
        set: |config, text, _| {
            let range = u64::from(*VmSpec::VCPUS.start())..=u64::from(*VmSpec::VCPUS.end());
            config.new_vm.vcpus = number(text, range)?;
            Ok(())
        },
    },
    Key {
        name: "new_vm.memory",
        env: "BANGER_NEW_VM_MEMORY",
        default: "unset",
        kind: Kind::Size,
        set: |config, text, _| {
            let wrong = |_| format!("{} is no size: write 512, 512M or 2G", quoted(text));
            let mib = parse_mib(text).map_err(wrong)?;
            if !VmSpec::MEMORY_MIB.contains(&mib) {
                return Err(format!("memory is 64 MiB to 1 TiB, not {mib} MiB"));
            }
            config.new_vm.memory_mib = Some(mib);
            Ok(())
        },
    },
    Key {
        name: "stop_timeout",
        env: "BANGER_STOP_TIMEOUT",
        default: "30",
        kind: Kind::Number,
        set: |config, text, _| {
            config.stop_timeout_s = number(text, 1..=3600)?;
            Ok(())
        },
    },
    Key {
        name: "escape_chord",
        env: "BANGER_ESCAPE_CHORD",
        default: "\"ctrl-]\"",
        kind: Kind::Text,
        set: |config, text, _| {
            config.escape_chord =
                text.parse().map_err(|e: super::keymap::BadChord| e.to_string())?;
            Ok(())
        },
    },
    Key {
        name: "mouse",
        env: "BANGER_MOUSE",
        default: "true",
        kind: Kind::Switch,
        set: |config, text, _| {
            config.mouse = one_of(text, &[("true", true), ("false", false)])?;
            Ok(())
        },
    },
    Key {
        name: "guest_clipboard",
        env: "BANGER_GUEST_CLIPBOARD",
        default: "\"deny\"",
        kind: Kind::Text,
        set: |config, text, _| {
            config.guest_clipboard = one_of(text, &[("deny", false), ("allow", true)])?;
            Ok(())
        },
    },
    Key {
        name: "scrollback",
        env: "BANGER_SCROLLBACK",
        default: "10000",
        kind: Kind::Number,
        set: |config, text, _| {
            config.scrollback = number(text, 0..=100_000)?;
            Ok(())
        },
    },
    Key {
        name: "extra_keys",
        env: "BANGER_EXTRA_KEYS",
        default: "[]",
        kind: Kind::List,
        set: |config, text, home| {
            let keys = text.lines().map(str::trim).filter(|line| !line.is_empty());
            config.extra_keys = keys.map(|key| extra_key(key, home)).collect::<Result<_, _>>()?;
            Ok(())
        },
    },
    Key {
        name: "names.route",
        env: "BANGER_NAMES_ROUTE",
        default: "\"auto\"",
        kind: Kind::Text,
        set: |config, text, _| {
            let routes =
                [NamesRoute::Auto, NamesRoute::Resolved, NamesRoute::Hosts, NamesRoute::None];
            config.names.route = one_of(text, &routes.map(|route| (route.word(), route)))?;
            Ok(())
        },
    },
    Key {
        name: "names.mapdns_file",
        env: "BANGER_NAMES_MAPDNS_FILE",
        default: "unset",
        kind: Kind::Text,
        set: |config, text, home| {
            config.names.mapdns_file = Some(absolute(text, home)?);
            Ok(())
        },
    },
    Key {
        name: "names.mapdns_publish",
        env: "BANGER_NAMES_MAPDNS_PUBLISH",
        default: "unset",
        kind: Kind::Text,
        set: |config, text, _| {
            config.names.mapdns_publish = Some(template(text)?);
            Ok(())
        },
    },
    Key {
        name: "names.mapdns_withdraw",
        env: "BANGER_NAMES_MAPDNS_WITHDRAW",
        default: "unset",
        kind: Kind::Text,
        set: |config, text, _| {
            config.names.mapdns_withdraw = Some(template(text)?);
            Ok(())
        },
    },
];

/// The old name of `runtime_dir`: the directory above it. Only `config.toml` may still have it.
pub(super) const REPO_ROOT: &str = "repo_root";

/// Variables that are no settings but known: where the state lies, what is logged, and what the
/// project's own tests and scripts read.
pub const ENV_ONLY: &[&str] = &[
    "BANGER_STATE_DIR",
    "BANGER_LOG",
    "BANGER_FAULT",
    "BANGER_HELPER_SOCKET",
    "BANGER_BOOTSTRAP",
    "BANGER_RUNTIME_MANIFEST",
    "BANGER_RUNTIME_BUNDLE",
    "BANGER_RUNTIME_BUNDLE_SHA256",
    "BANGER_PACKAGES",
    "BANGER_DEBIAN_MIB",
    "BANGER_TINY_MIB",
    "BANGER_SKIP_FILE",
    "BANGER_STEP",
    "BANGER_TEST_ARCHIVE",
    "BANGER_TEST_BACKTRACE",
    "BANGER_TEST_FIRECRACKER",
    "BANGER_TEST_FIRECRACKER_API",
    "BANGER_TEST_FIXTURE",
    "BANGER_TEST_HELPER",
    "BANGER_TEST_JAILER",
    "BANGER_TEST_MOUNT",
    "BANGER_IN_LAB",
    "BANGER_LAB_APPEND",
    "BANGER_LAB_CPUS",
    "BANGER_LAB_DIR",
    "BANGER_LAB_MEMORY",
];

/// A path that means the same wherever banger is started.
pub(super) fn absolute(text: &str, home: Option<&Path>) -> Result<PathBuf, String> {
    let path = match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    };
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{} is no absolute path: begin it with / or ~/", quoted(text)))
    }
}

/// One of these, or `auto`: the host's best.
fn auto_or<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<Option<T>, String> {
    let choices: Vec<_> = std::iter::once(("auto", None))
        .chain(known.iter().map(|(word, value)| (*word, Some(*value))))
        .collect();
    one_of(text, &choices)
}

fn template(text: &str) -> Result<CommandTemplate, String> {
    text.parse().map_err(|why| format!("{} cannot be run: {why}", quoted(text)))
}

/// A path, or the key itself. What is in a file is looked at when a VM needs it: it may have gone
/// since, and that must not keep anybody from listing VMs.
fn extra_key(text: &str, home: Option<&Path>) -> Result<ExtraKey, String> {
    if text.starts_with(['/', '~']) {
        return absolute(text, home).map(ExtraKey::File);
    }
    let wrong = |why| {
        format!("{}: {why}; write a public key, or the path of a file with some", quoted(text))
    };
    split_ssh_key(text).map_err(wrong)?;
    Ok(ExtraKey::Line(text.to_owned()))
}

fn one_of<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names = known.iter().map(|(name, _)| *name);
        format!("{} (one of {})", unknown("value", text, []), names.collect::<Vec<_>>().join(", "))
    })
}

fn number<N: TryFrom<u64>>(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<N, String> {
    let found = text.parse::<u64>().ok().filter(|n| range.contains(n));
    found.and_then(|n| N::try_from(n).ok()).ok_or_else(|| {
        format!("{} is not possible: write {} to {}", quoted(text), range.start(), range.end())
    })
}
