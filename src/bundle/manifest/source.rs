//! Where a part comes from.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::bundle::is_sha256;

/// An architecture banger knows, by the name of `std::env::consts::ARCH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    /// 64-bit PCs.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// That of this machine, if banger knows it.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }
}

/// A source per architecture.
pub type Sources = BTreeMap<Arch, Source>;

/// Where a part comes from: of `url`, `file` and `package` it has exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// An address on the network, pinned by `sha256`.
    pub url: Option<String>,
    /// Where the same bytes are, too: asked when `url` does not give them.
    pub mirror: Option<String>,
    /// A file of this machine, pinned by `sha256`; relative to the manifest it is named in.
    pub file: Option<PathBuf>,
    /// A Debian package, fetched with the machine's apt, whose signatures vouch for it.
    pub package: Option<String>,
    /// SHA-256 of the file in lower-case hex.
    pub sha256: Option<String>,
    /// Its size in bytes, where known: for progress, and more than that is not taken.
    pub size: Option<u64>,
    /// What is taken out of it, if it is an archive of parts.
    #[serde(default)]
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

/// A file that is pinned by its sum, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned<'s> {
    /// Where it is.
    pub at: At<'s>,
    /// Its SHA-256 in lower-case hex.
    pub sha256: &'s str,
    /// Its size in bytes, where known.
    pub size: Option<u64>,
}

/// Where a pinned file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At<'s> {
    /// On the network.
    Url {
        /// Where.
        url: &'s str,
        /// Where else.
        mirror: Option<&'s str>,
    },
    /// On this machine.
    File(&'s PathBuf),
}

impl Source {
    /// The file, if the source is one and not a package.
    #[must_use]
    pub fn pinned(&self) -> Option<Pinned<'_>> {
        let at = match (&self.url, &self.file) {
            (Some(url), None) => At::Url { url, mirror: self.mirror.as_deref() },
            (None, Some(file)) => At::File(file),
            _ => return None,
        };
        Some(Pinned { at, sha256: self.sha256.as_deref()?, size: self.size })
    }

    /// What is wrong with it, and what to do; `packages` says whether it may be one.
    pub(in crate::bundle) fn check(&self, packages: bool) -> Result<(), (String, String)> {
        let wrong = |why: &str, hint: &str| Err((why.to_owned(), hint.to_owned()));
        let kinds = [self.url.is_some(), self.file.is_some(), self.package.is_some()];
        if kinds.into_iter().filter(|is| *is).count() != 1 {
            return wrong(
                "a source has exactly one of url, file and package",
                "leave one of them, and take out the others",
            );
        }
        if let Some(package) = &self.package {
            if !packages {
                return wrong(
                    &format!("it cannot come from the package {package}"),
                    "give it a url or a file, with its sha256",
                );
            }
            if !is_package(package) {
                let hint = "as apt names them: a-z, 0-9, +, - and .";
                return wrong(&format!("“{package}” is no name of a Debian package"), hint);
            }
            if self.sha256.is_some() || self.size.is_some() {
                return wrong(
                    "a package has no sha256 and no size here",
                    "take them out: apt's signatures vouch for it",
                );
            }
        }
        if self.mirror.is_some() && self.url.is_none() {
            return wrong("there is a mirror without a url", "write url for it");
        }
        let http = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if let Some(bad) = self.url.iter().chain(&self.mirror).find(|url| !http(url)) {
            return wrong(&format!("“{bad}” is no https:// address"), "name a local one with file");
        }
        if self.package.is_none() && self.sha256.is_none() {
            return wrong("it has no sha256", "write its sum: `sha256sum` tells it");
        }
        let sums = self.members.iter().filter_map(|m| m.sha256.as_ref()).chain(&self.sha256);
        for sum in sums {
            if !is_sha256(sum) {
                return wrong(
                    &format!("“{sum}” is no SHA-256"),
                    "a SHA-256 is 64 lower-case hex digits",
                );
            }
        }
        Ok(())
    }
}

/// Debian policy 5.6.1.
fn is_package(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    name.len() >= 2 && name.bytes().all(good) && name.as_bytes()[0].is_ascii_alphanumeric()
}
