//! Which Firecrackers we talk to.

use std::{fmt, path::Path, process::Command};

/// A version of Firecracker or of its jailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1 in 1.16.2.
    pub major: u32,
    /// 16 in 1.16.2.
    pub minor: u32,
    /// 2 in 1.16.2.
    pub patch: u32,
}

/// The oldest that works. Before 1.8 a guest was told of its devices on the kernel command line
/// only, which Debian's kernel does not read (`VIRTIO_MMIO_CMDLINE_DEVICES` is off); since 1.8
/// they are in ACPI tables, too (Firecracker's CHANGELOG, 1.8.0).
pub const OLDEST: Version = Version { major: 1, minor: 8, patch: 0 };

/// The newest whose API we know: what the runtime bundle fetches. A later 1.x is used, with a
/// warning in the monitor's log: within a major version Firecracker takes nothing out of its API
/// (its `docs/RELEASE_POLICY.md`).
pub const NEWEST: Version = Version { major: 1, minor: 17, patch: u32::MAX };

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// How a version stands to what we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Known.
    Known,
    /// Newer than what we know, and used all the same.
    Newer,
}

impl Version {
    /// Reads `1.16.1`, with or without a `v` before and a `-dev` behind it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts = text.split(['-', '+']).next()?.split('.').map(|part| part.parse().ok());
        let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
        parts.next().is_none().then_some(version)
    }

    /// Whether it can be used.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(self) -> Result<Standing, String> {
        let range = format!("{}.{} to {}.x", OLDEST.major, OLDEST.minor, NEWEST.major);
        if self < OLDEST {
            return Err(format!(
                "Firecracker {self} is too old: {range} is supported, for earlier ones do not tell \
                 the guest of its devices by ACPI; `banger runtime bootstrap` fetches one that fits"
            ));
        }
        if self.major > NEWEST.major {
            return Err(format!(
                "Firecracker {self} is of a generation that this banger does not know: {range} is \
                 supported; update banger, or let `banger runtime bootstrap` fetch one that fits"
            ));
        }
        Ok(if self > NEWEST { Standing::Newer } else { Standing::Known })
    }

    /// Asks a program which version it is of: `firecracker --version` says `Firecracker v1.16.1`
    /// on its first line, `jailer --version` the same of itself. Blocks for some milliseconds.
    ///
    /// # Errors
    /// That it cannot be run, or what it said instead, in one line.
    pub fn of(program: &Path) -> Result<Self, String> {
        let name = program.display();
        let output = Command::new(program)
            .arg("--version")
            .output()
            .map_err(|error| format!("cannot run {name}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let first = said.lines().next().unwrap_or_default();
        first.rsplit(' ').next().and_then(Self::parse).ok_or_else(|| {
            let first: String = first.chars().filter(|c| !c.is_control()).take(60).collect();
            format!("`{name} --version` says no version but “{first}”")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).expect(text)
    }

    #[test]
    fn versions_are_read_as_they_are_written() {
        assert_eq!(version("v1.16.1\n"), Version { major: 1, minor: 16, patch: 1 });
        assert_eq!(version("1.17.0-dev"), version("1.17.0"));
        assert!(version("1.9.0") < version("1.10.0"));
        for bad in ["", "1", "1.2", "1.2.3.4", "v1.x.0", "Firecracker", "1.2.99999999999"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_range_has_two_ends_and_each_says_what_to_do() {
        for good in ["1.8.0", "1.13.1", "1.16.1", "1.17.9"] {
            assert_eq!(version(good).check(), Ok(Standing::Known), "{good}");
        }
        assert_eq!(version("1.18.0").check(), Ok(Standing::Newer));
        let old = version("1.7.3").check().expect_err("too old");
        assert!(old.contains("1.8 to 1.x") && old.contains("banger runtime"), "{old}");
        let new = version("2.0.0").check().expect_err("too new");
        assert!(new.contains("update banger"), "{new}");
    }

    #[test]
    fn a_program_is_asked_for_its_version() {
        let dir = tempfile::tempdir().expect("temp");
        let program = |name: &str, says: &str| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\nprintf '{says}'\n")).expect("script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
            path
        };
        // As 1.16.1 says it, with a line of its log on the same output.
        let real = r"Firecracker v1.16.1\n\n2026-11-22T00:06:22 [anonymous-instance:main] exit\n";
        assert_eq!(Version::of(&program("good", real)), Ok(version("1.16.1")));
        let error = Version::of(&program("other", r"hello\nv1.2.3")).expect_err("no version");
        assert!(error.contains("“hello”"), "{error}");
        let error = Version::of(&dir.path().join("none")).expect_err("no program");
        assert!(error.starts_with("cannot run "), "{error}");
    }
}
