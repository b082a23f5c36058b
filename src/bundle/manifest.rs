//! `runtime-bundle.toml`: every part of the runtime bundle and where it comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::Problem;

/// The version of the manifest's format that this banger reads.
const SCHEMA: u32 = 1;

/// How alike two keys must be for one to be offered for the other (1 is the same).
const ALIKE: f64 = 0.7;

/// The manifest. Maps are keyed by architecture, as `std::env::consts::ARCH` names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub schema: u32,
    /// Firecracker and its jailer.
    pub firecracker: Firecracker,
    /// The guests' kernel.
    pub kernel: Kernel,
    /// QEMU.
    pub qemu: Qemu,
    /// The initrd.
    pub initrd: Initrd,
    /// The base images, in the order they are built.
    pub images: Vec<Image>,
}

/// Firecracker: an archive per architecture, pinned by its sum.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firecracker {
    /// Its version.
    pub version: String,
    /// What it is for.
    pub purpose: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
    /// The archive for x86-64.
    pub x86_64: Option<Archive>,
    /// The archive for 64-bit ARM.
    pub aarch64: Option<Archive>,
}

/// A gzipped tar archive on the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Where it is.
    pub url: String,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// What is taken out of it.
    pub members: Vec<Member>,
}

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name in the runtime directory.
    pub file: String,
    /// Its path in the archive.
    pub path: String,
    /// Its SHA-256 in lower-case hex, where known.
    pub sha256: Option<String>,
}

/// The guests' kernel: a Debian package that depends on the current kernel's package.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// What it is for.
    pub purpose: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
    /// The Debian metapackage.
    pub package: BTreeMap<String, String>,
    /// What goes into the initrd, by its path below `/lib/modules/<version>/kernel`, in the
    /// order it is loaded.
    pub modules: Vec<String>,
}

/// QEMU, as the system has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// What it is for.
    pub purpose: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
    /// The program's name.
    pub program: BTreeMap<String, String>,
    /// The Debian package it is in.
    pub package: BTreeMap<String, String>,
}

/// The initrd, assembled from banger's init and the kernel's modules.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initrd {
    /// What it is for.
    pub purpose: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
}

/// A base image, built by a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name: a DNS label, as it names a file.
    pub name: String,
    /// One line: what it is.
    pub about: String,
    /// The script, by its path in the project.
    pub script: String,
    /// Size of the disk in MiB.
    pub size_mib: u64,
    /// Memory in MiB that a VM of it gets by default.
    pub default_memory_mib: u64,
    /// Its licence in words.
    pub licence: String,
}

impl Manifest {
    /// The manifest this banger was built with.
    ///
    /// # Panics
    /// Never in a banger that passed its tests: one of them reads it.
    #[must_use]
    pub fn embedded() -> Self {
        Self::parse(include_str!("../../runtime-bundle.toml"))
            .expect("the manifest in the program is checked by a test")
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Where it is wrong (with the line), and a suggestion for a key that does not exist.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let manifest: Self = toml::from_str(text).map_err(|e| explain(text, &e))?;
        manifest.check().map_err(|(why, hint)| Problem::new(WHAT, why, hint))?;
        Ok(manifest)
    }

    /// Firecracker's archive for an architecture.
    #[must_use]
    pub fn firecracker_archive(&self, arch: &str) -> Option<&Archive> {
        match arch {
            "x86_64" => self.firecracker.x86_64.as_ref(),
            "aarch64" => self.firecracker.aarch64.as_ref(),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), (String, String)> {
        if self.schema != SCHEMA {
            return Err((
                format!("it has format {}, and this banger knows format {SCHEMA}", self.schema),
                "use the banger it belongs to".to_owned(),
            ));
        }
        let archives = self.firecracker.x86_64.iter().chain(&self.firecracker.aarch64);
        for archive in archives {
            let members = archive.members.iter().filter_map(|m| m.sha256.as_ref());
            for sum in members.chain([&archive.sha256]) {
                let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if sum.len() != 64 || !sum.bytes().all(hex) {
                    let hint = "a SHA-256 is 64 lower-case hex digits";
                    return Err((format!("“{sum}” is no SHA-256"), hint.to_owned()));
                }
            }
            // These become names in the runtime directory.
            if let Some(bad) = archive.members.iter().find(|m| !is_plain(&m.file)) {
                return Err((format!("“{}” is no file name", bad.file), NAMES.to_owned()));
            }
        }
        for module in &self.kernel.modules {
            let parts =
                module.strip_suffix(".ko").map(|m| m.split('/').all(is_plain_or_underscore));
            if parts != Some(true) {
                let hint = "write it as drivers/virtio/virtio_ring.ko";
                return Err((format!("“{module}” is no path of a module"), hint.to_owned()));
            }
        }
        for (i, image) in self.images.iter().enumerate() {
            if !is_plain(&image.name) {
                return Err((format!("“{}” is no image name", image.name), NAMES.to_owned()));
            }
            if self.images[..i].iter().any(|other| other.name == image.name) {
                return Err((format!("two images are called {}", image.name), "rename one".into()));
            }
        }
        Ok(())
    }
}

const WHAT: &str = "cannot read runtime-bundle.toml";
const NAMES: &str = "use a-z, 0-9 and -";

/// Whether a text can be a file's name without any care: `a-z`, `0-9` and `-`, up to 63.
fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(plain)
}

fn is_plain_or_underscore(name: &str) -> bool {
    is_plain(&name.replace('_', "-"))
}

fn explain(text: &str, error: &toml::de::Error) -> Problem {
    let line =
        error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let place = line.map_or_else(String::new, |line| format!("line {line}: "));
    Problem::new(WHAT, format!("{place}{}", error.message()), suggestion(error.message()))
}

/// For "unknown field `x`, expected one of `a`, `b`": the nearest of them.
fn suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown field"));
    let nearest = unknown.and_then(|unknown| {
        quoted
            .map(|known| (strsim::jaro_winkler(unknown, known), known))
            .filter(|(alike, _)| *alike >= ALIKE)
            .max_by(|a, b| a.0.total_cmp(&b.0))
    });
    nearest.map_or_else(
        || "correct that line; every key has to be known".to_owned(),
        |(_, known)| format!("did you mean {known}?"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../runtime-bundle.toml");

    #[test]
    fn the_project_s_own_manifest_is_good() {
        let manifest = Manifest::embedded();
        let names: Vec<_> = manifest.images.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["tiny", "debian"]);
        for arch in ["x86_64", "aarch64"] {
            let archive = manifest.firecracker_archive(arch).unwrap();
            assert!(archive.url.contains(&format!("v{}", manifest.firecracker.version)));
            let files: Vec<_> = archive.members.iter().map(|m| m.file.as_str()).collect();
            assert_eq!(files, ["firecracker", "jailer"], "{arch}");
            for member in &archive.members {
                assert!(member.path.ends_with(arch), "{}", member.path);
            }
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_line_and_suggestion() {
        let line = TEXT.lines().position(|l| l.starts_with("default_memory_mib")).unwrap() + 1;
        let typo = TEXT.replacen("default_memory_mib", "default_memory", 1);
        let problem = Manifest::parse(&typo).unwrap_err();
        assert!(problem.why.contains(&format!("line {line}:")), "{problem}");
        assert_eq!(problem.hint, "did you mean default_memory_mib?");
        let problem = Manifest::parse(&format!("colour = 1\n{TEXT}")).unwrap_err();
        assert!(problem.why.contains("line 1: unknown field `colour`"), "{problem}");
    }

    #[test]
    fn values_that_cannot_be_are_errors() {
        for (good, bad, why) in [
            ("schema = 1", "schema = 2", "format 2"),
            ("06094a11", "06094A11", "no SHA-256"),
            ("06094a11", "", "no SHA-256"),
            ("name = \"tiny\"", "name = \"../tiny\"", "no image name"),
            ("name = \"tiny\"", "name = \"debian\"", "two images"),
            ("file = \"jailer\"", "file = \"/bin/sh\"", "no file name"),
            ("drivers/acpi/button.ko", "drivers/../button.ko", "no path of a module"),
            ("size_mib = 256", "size_mib = -256", "line "),
            ("schema = 1", "schema = ", "line "),
        ] {
            let problem = Manifest::parse(&TEXT.replacen(good, bad, 1)).unwrap_err();
            assert!(problem.why.contains(why), "{bad}: {problem}");
        }
        assert!(Manifest::parse("").is_err());
    }
}
