//! `runtime-bundle.toml`: every part of the runtime bundle and where it comes from.

mod source;

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

pub use self::source::{Arch, At, Member, Pinned, Source, Sources};
use crate::domain::Problem;

/// The version of the manifest's format that this banger reads.
const SCHEMA: u32 = 2;

/// How alike two keys must be for one to be offered for the other (1 is the same).
const ALIKE: f64 = 0.7;

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub schema: u32,
    /// A whole runtime directory in one archive, where one is published.
    #[serde(default)]
    pub bundle: Sources,
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

/// Firecracker: a gzipped tar archive.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firecracker {
    /// Its version.
    pub version: String,
    /// What it is for.
    pub purpose: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
    /// The archive and its members.
    pub source: Sources,
}

/// The guests' kernel: a Debian package that depends on the current kernel's package, or such a
/// kernel's package as a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// What it is for.
    pub purpose: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
    /// The Debian metapackage, or a `.deb`.
    pub source: Sources,
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

/// A base image: built by a script, or a raw ext4 file from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name: a DNS label, as it names a file.
    pub name: String,
    /// One line: what it is.
    pub about: String,
    /// The script, by its path in the project.
    #[serde(default)]
    pub script: Option<String>,
    /// Size in MiB of the disk that the script makes.
    #[serde(default)]
    pub size_mib: Option<u64>,
    /// The file instead of a script.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source: Sources,
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
        Self::parse(include_str!("../../../runtime-bundle.toml"))
            .expect("the manifest in the program is checked by a test")
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Where it is wrong (with the line), and a suggestion for a key that does not exist.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        // The version first: the keys of another format would only look like mistakes.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let version: Version = toml::from_str(text).map_err(|e| explain(text, &e))?;
        if version.schema != SCHEMA {
            return Err(Problem::new(
                WHAT,
                format!("it has format {}, and this banger knows format {SCHEMA}", version.schema),
                "use the banger it belongs to, or write it anew: docs/runtime.md has the format",
            ));
        }
        let manifest: Self = toml::from_str(text).map_err(|e| explain(text, &e))?;
        manifest.check().map_err(|(why, hint)| Problem::new(WHAT, why, hint))?;
        Ok(manifest)
    }

    /// Reads a manifest from a file; files that it names are sought beside it.
    ///
    /// # Errors
    /// As [`Manifest::parse`], and when it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let text = fs::read_to_string(path).map_err(|e| {
            let what = format!("cannot read the manifest {}", path.display());
            Problem::new(what, e.to_string(), "name a file like runtime-bundle.toml")
        })?;
        let mut manifest = Self::parse(&text)
            .map_err(|p| Problem { what: format!("cannot read {}", path.display()), ..p })?;
        let beside = path.parent().unwrap_or(Path::new("")).to_owned();
        for source in manifest.sources_mut() {
            if let Some(file) = &mut source.file {
                // An absolute path replaces what it is joined to.
                *file = beside.join(&*file);
            }
        }
        Ok(manifest)
    }

    /// Licence and purpose of what a step of the bootstrap makes, by the step's name.
    #[must_use]
    pub fn about(&self, step: &str) -> Option<(&str, &str)> {
        Some(match step {
            "firecracker" => (&self.firecracker.licence, &self.firecracker.purpose),
            "kernel" => (&self.kernel.licence, &self.kernel.purpose),
            "initrd" => (&self.initrd.licence, &self.initrd.purpose),
            "qemu" => (&self.qemu.licence, &self.qemu.purpose),
            _ => {
                let name = step.strip_prefix("image ")?;
                let image = self.images.iter().find(|image| image.name == name)?;
                (&image.licence, &image.about)
            }
        })
    }

    fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        let parts = [&mut self.bundle, &mut self.firecracker.source, &mut self.kernel.source];
        let images = self.images.iter_mut().map(|image| &mut image.source);
        parts.into_iter().chain(images).flat_map(BTreeMap::values_mut)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let of = |what: &str, sources: &Sources, packages: bool| {
            let wrong = |(why, hint)| (format!("{what}: {why}"), hint);
            sources.values().try_for_each(|source| source.check(packages).map_err(wrong))
        };
        of("bundle", &self.bundle, false)?;
        of("firecracker", &self.firecracker.source, false)?;
        of("kernel", &self.kernel.source, true)?;
        for source in self.firecracker.source.values() {
            if source.members.is_empty() {
                let why = "firecracker: nothing is taken out of its archive";
                return Err((why.to_owned(), "name its members".to_owned()));
            }
        }
        let others = [&self.bundle, &self.kernel.source];
        let others = others.into_iter().chain(self.images.iter().map(|i| &i.source));
        if others.flat_map(BTreeMap::values).any(|source| !source.members.is_empty()) {
            let why = "only firecracker's archive has members";
            return Err((why.to_owned(), "take them out".to_owned()));
        }
        // These become names in the runtime directory.
        let members = self.firecracker.source.values().flat_map(|s| &s.members);
        if let Some(bad) = members.map(|m| &m.file).find(|file| !is_plain(file)) {
            return Err((format!("“{bad}” is no file name"), NAMES.to_owned()));
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
            of(&format!("image {}", image.name), &image.source, false)?;
            let built = image.script.is_some() && image.size_mib.is_some();
            let neither = image.script.is_none() && image.size_mib.is_none();
            if !(if image.source.is_empty() { built } else { neither }) {
                let why = format!("image {}: it is built, or it is a file", image.name);
                let hint = "give it script and size_mib, or a source and neither of these";
                return Err((why, hint.to_owned()));
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
    let unknown = quoted.next().filter(|_| message.starts_with("unknown "));
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

    const TEXT: &str = include_str!("../../../runtime-bundle.toml");

    #[test]
    fn the_project_s_own_manifest_is_good() {
        let manifest = Manifest::embedded();
        let names: Vec<_> = manifest.images.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["tiny", "debian"]);
        assert_eq!(manifest.bundle, Sources::new(), "a fresh clone assembles");
        for (arch, end) in [(Arch::X86_64, "x86_64"), (Arch::Aarch64, "aarch64")] {
            let archive = &manifest.firecracker.source[&arch];
            assert!(
                archive
                    .url
                    .as_ref()
                    .unwrap()
                    .contains(&format!("v{}", manifest.firecracker.version))
            );
            let files: Vec<_> = archive.members.iter().map(|m| m.file.as_str()).collect();
            assert_eq!(files, ["firecracker", "jailer"], "{end}");
            for member in &archive.members {
                assert!(member.path.ends_with(end), "{}", member.path);
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
        let typo = TEXT.replace("source.aarch64]", "source.aarch46]");
        let problem = Manifest::parse(&typo).unwrap_err();
        assert!(problem.why.contains("line "), "{problem}");
        assert_eq!(problem.hint, "did you mean aarch64?");
        let problem = Manifest::parse(&format!("colour = 1\n{TEXT}")).unwrap_err();
        assert!(problem.why.contains("line 1: unknown field `colour`"), "{problem}");
    }

    #[test]
    fn values_that_cannot_be_are_errors() {
        for (good, bad, why) in [
            ("schema = 2", "schema = 1", "format 1"),
            ("06094a11", "06094A11", "no SHA-256"),
            ("06094a11", "", "no SHA-256"),
            ("sha256 = \"06094a11", "#", "no sha256"),
            ("package = \"linux", "package = \"-rf", "no name of a Debian package"),
            ("source.x86_64.package =", "source.x86_64.url =", "no https://"),
            ("url = \"https://git", "file = \"/x\"\nurl = \"https://git", "exactly one of"),
            ("url = \"https://github", "package = \"x-y\"\n#", "cannot come from the package"),
            ("url = \"https://git", "mirror = \"https://git", "exactly one of"),
            ("script = \"scripts/image/tiny.sh\"", "", "built, or it is a file"),
            ("name = \"tiny\"", "name = \"../tiny\"", "no image name"),
            ("name = \"tiny\"", "name = \"debian\"", "two images"),
            ("file = \"jailer\"", "file = \"/bin/sh\"", "no file name"),
            ("drivers/acpi/button.ko", "drivers/../button.ko", "no path of a module"),
            ("size_mib = 256", "size_mib = -256", "line "),
            ("schema = 2", "schema = ", "line "),
        ] {
            let problem = Manifest::parse(&TEXT.replacen(good, bad, 1)).unwrap_err();
            assert!(problem.why.contains(why), "{bad}: {problem}");
        }
        assert!(Manifest::parse("").is_err());
    }

    #[test]
    fn a_published_bundle_and_files_beside_the_manifest_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let sum = "ab".repeat(32);
        let more = format!(
            "[bundle.x86_64]\nfile = \"b.tar.zst\"\nsha256 = \"{sum}\"\n\
             [bundle.aarch64]\nurl = \"https://a/b\"\nmirror = \"https://c/d\"\n\
             sha256 = \"{sum}\"\nsize = 5\n"
        );
        fs::write(&path, format!("{TEXT}\n{more}")).unwrap();
        let manifest = Manifest::read(&path).unwrap();
        let x86 = manifest.bundle[&Arch::X86_64].pinned().unwrap();
        assert_eq!(x86.at, At::File(&dir.path().join("b.tar.zst")));
        let arm = manifest.bundle[&Arch::Aarch64].pinned().unwrap();
        let at = At::Url { url: "https://a/b", mirror: Some("https://c/d") };
        assert_eq!((arm.at, arm.sha256, arm.size), (at, sum.as_str(), Some(5)));
        let problem = Manifest::read(&dir.path().join("none.toml")).unwrap_err();
        assert!(problem.what.contains("none.toml"), "{problem}");
    }
}
