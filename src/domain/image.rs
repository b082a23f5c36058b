//! Base images: names, where they come from, and whether they are what is wanted now.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use super::UnixMs;

/// The name of a base image: 1 to 63 of `a-z`, `0-9`, `-` and `.`, beginning and ending with a
/// letter or a digit: `debian`, `debian-12.8`. It names a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

/// The most characters an image's name has: as many as a VM's.
const NAME_MAX: usize = 63;

/// Why a text is no [`ImageName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImageName {
    /// Nothing was given.
    #[error("a name is needed")]
    Empty,
    /// Longer than it may be.
    #[error("an image's name has at most 63 characters, this one has {0}")]
    TooLong(usize),
    /// A character that it cannot have.
    #[error("{0:?} cannot be in an image's name: use a-z, 0-9, - and .")]
    Character(char),
    /// Starts or ends with `-` or `.`.
    #[error("an image's name begins and ends with a letter or a digit")]
    Edge,
}

impl ImageName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageName {
    type Err = BadImageName;

    fn from_str(text: &str) -> Result<Self, BadImageName> {
        if text.is_empty() {
            return Err(BadImageName::Empty);
        }
        let count = text.chars().count();
        if count > NAME_MAX {
            return Err(BadImageName::TooLong(count));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if let Some(bad) = text.chars().find(|c| !(plain(*c) || matches!(c, '-' | '.'))) {
            return Err(BadImageName::Character(bad));
        }
        if !(text.starts_with(plain) && text.ends_with(plain)) {
            return Err(BadImageName::Edge);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ImageName {
    type Error = BadImageName;

    fn try_from(text: String) -> Result<Self, BadImageName> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

/// How an image came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageOrigin {
    /// Part of the runtime directory: read only, made by a bootstrap.
    #[default]
    Bundle,
    /// Another image, customized.
    Customized,
    /// A disk, an archive or a container image of somebody else's.
    Imported,
}

impl ImageOrigin {
    /// The word in tables and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Customized => "customized",
            Self::Imported => "imported",
        }
    }
}

/// What two lists of packages differ in; sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageDiff {
    /// In the second only.
    pub added: Vec<String>,
    /// In the first only.
    pub removed: Vec<String>,
}

impl PackageDiff {
    /// Whether both are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

impl fmt::Display for PackageDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let added = self.added.iter().map(|name| format!("+{name}"));
        let removed = self.removed.iter().map(|name| format!("-{name}"));
        f.write_str(&added.chain(removed).collect::<Vec<_>>().join(" "))
    }
}

/// Why an image is not what would be built now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum StaleReason {
    /// Its package manifest has other packages now than when it was built.
    Packages {
        /// From what was built to what is wanted.
        diff: PackageDiff,
    },
    /// The image it was made from is another one now, by its content.
    Parent {
        /// That image's name.
        name: String,
    },
    /// The image it was made from is gone: it cannot be rebuilt.
    NoParent {
        /// That image's name.
        name: String,
    },
    /// Steps of the customization do other things now.
    Steps {
        /// Their names.
        names: Vec<String>,
    },
}

impl fmt::Display for StaleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packages { diff } => write!(f, "packages: {diff}"),
            Self::Parent { name } => write!(f, "{name} was built again"),
            Self::NoParent { name } => write!(f, "{name}, from which it was made, is gone"),
            Self::Steps { names } => write!(f, "steps that changed: {}", names.join(", ")),
        }
    }
}

/// A base image as shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    /// Its name: `debian`.
    pub name: String,
    /// One line: what it is.
    pub about: String,
    /// Size of the disk in bytes, holes included.
    pub size: u64,
    /// Bytes it takes on the host, as far as looked at.
    pub used: Option<u64>,
    /// Memory in MiB that it wants by default.
    pub default_memory_mib: u64,
    /// SHA-256 of its content in lower-case hex: what it is, whatever its name.
    pub sha256: String,
    /// How it came to be.
    pub origin: ImageOrigin,
    /// The image it was made from.
    pub parent: Option<String>,
    /// When it was built; bundled ones know it not.
    pub built: Option<UnixMs>,
    /// How long that took, in milliseconds.
    pub took_ms: Option<u64>,
    /// SHA-256 of the normalised package manifest it was built from.
    pub packages_sha256: Option<String>,
    /// Whether it is part of the runtime directory, but what it is to have says a manifest of the
    /// user's: then a rebuild makes an image of the user's, which takes its place.
    #[serde(default)]
    pub own_manifest: bool,
    /// Whether it has cloud-init, which reads user data; `None` if nobody knows.
    #[serde(default)]
    pub cloud_init: Option<bool>,
    /// Why it is stale; empty if it is fresh.
    pub stale: Vec<StaleReason>,
}

impl ImageView {
    /// Whether it has the name of the one it was made from: it goes before that, which is there
    /// again when this is deleted.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.parent.as_deref() == Some(self.name.as_str())
    }

    /// What becomes of user data for a VM of it: why that is of no use, with what helps.
    #[must_use]
    pub fn refuses_user_data(&self) -> Option<String> {
        (self.cloud_init == Some(false)).then(|| {
            let name = &self.name;
            format!(
                "the image {name} has no cloud-init, which would read it: build an image from \
                 {name} with the package cloud-init, or put a script into its recipe"
            )
        })
    }
}

/// Why a VM's disk is not what would be made for it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Outdated {
    /// The image of that name has another content now: recreating the VM gives it that.
    Rebuilt,
    /// There is no image of that name any more.
    Gone,
    /// It is of the image as that is now, and the image itself is stale.
    Stale {
        /// Why.
        reasons: Vec<StaleReason>,
    },
}

impl fmt::Display for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rebuilt => f.write_str("its image was built again since"),
            Self::Gone => f.write_str("its image is gone"),
            Self::Stale { reasons } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                write!(f, "its image is stale: {}", reasons.join("; "))
            }
        }
    }
}

/// Why a disk that was made from an image of this name and content is not what would be made now;
/// `None` if it is, or if nobody knows.
#[must_use]
pub fn outdated(images: &[ImageView], name: &str, made_from: Option<&str>) -> Option<Outdated> {
    // Of an image in the making, which no list shows; or nobody has looked yet.
    if name.starts_with('.') || images.is_empty() {
        return None;
    }
    let Some(image) = images.iter().find(|image| image.name == name) else {
        return Some(Outdated::Gone);
    };
    if made_from.is_some_and(|sha256| sha256 != image.sha256) {
        return Some(Outdated::Rebuilt);
    }
    (!image.stale.is_empty()).then(|| Outdated::Stale { reasons: image.stale.clone() })
}

/// What is put into an image beside its packages: a file or directory of the user's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInto {
    /// Where it is on the host: absolute.
    pub from: PathBuf,
    /// Where it goes in the image: absolute. A path that ends with `/` keeps the name.
    pub to: String,
}

/// A user of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserInto {
    /// The login name, as useradd(8) takes it.
    pub name: String,
    /// Whether sudo(8) lets it do everything without a password.
    #[serde(default)]
    pub sudo: bool,
    /// Lines for its `authorized_keys`.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// A set of choices that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Docker Engine from Debian's packages, which works in the guest.
    Docker,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Docker];

    /// The word in recipes and options: `docker`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
        }
    }

    /// As shown to the user.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Docker => "Docker-ready",
        }
    }
}

/// How an image is made from another: what the wizard asks, what a rebuild repeats. A TOML file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// The new image's name.
    pub name: String,
    /// The image it is made from.
    pub base: String,
    /// One line: what it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The package manifest as the user wrote it: a package a line, `#` begins a comment.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub packages: String,
    /// Whether `packages` is all that there is to be: what the base's manifest names beside it,
    /// goes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    /// Sets of choices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<Preset>,
    /// Size of the disk in MiB; `None` is the base's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_mib: Option<u64>,
    /// Memory in MiB that a VM of it gets by default; `None` is the base's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// A POSIX shell script of the user's, run as root in the image after all else; empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub script: String,
    /// Lines for root's `authorized_keys`, beside the key of the user that every VM gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Files that are copied in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileInto>,
    /// Users that are made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserInto>,
}

/// A package that a build would bring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// The version that comes; empty: the newest there is.
    #[serde(default)]
    pub version: String,
}

/// What a build says that it would do: `banger images build --dry-run --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildPreview {
    /// Packages that come.
    pub install: Vec<PackageChange>,
    /// Packages that go.
    pub remove: Vec<String>,
    /// Whether those are meant that come because others need them.
    pub dependencies: bool,
    /// Bytes it would fetch.
    pub download_bytes: Option<u64>,
    /// Bytes that the packages take more than now, or less.
    pub installed_bytes: Option<i64>,
}

/// What is known of an image beside its [`ImageView`], for making others from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// The names of the packages that are installed in it, sorted; empty if nobody knows.
    pub packages: Vec<String>,
    /// Whether these are just those that were asked for: what they depend on is in it, too.
    pub asked_for: bool,
    /// How it was made from another.
    pub recipe: Option<Recipe>,
}

/// Whether two drafts are of the same image, whichever step of the wizard they were left at.
#[must_use]
pub fn is_same_draft(one: &str, other: &str) -> bool {
    fn lines(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter(|line| !line.starts_with("step = "))
    }
    lines(one).eq(lines(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_directories() {
        for good in ["debian", "debian-12.8", "a", "0x"] {
            assert!(good.parse::<ImageName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".staged", "a/b", "a b", "Debian", "-a", "a.", "ü", "a\n"] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad:?}");
        }
        assert_eq!("a".repeat(64).parse::<ImageName>(), Err(BadImageName::TooLong(64)));
    }

    #[test]
    fn a_vm_is_of_its_image_or_of_an_older_one() {
        let image = |name: &str, sha256: &str| ImageView {
            name: name.into(),
            sha256: sha256.into(),
            ..ImageView::default()
        };
        let mut images = [image("debian", "aa"), image("tiny", "bb")];
        assert_eq!(outdated(&images, "tiny", Some("bb")), None);
        assert_eq!(outdated(&images, "tiny", None), None, "nobody wrote it down");
        assert_eq!(outdated(&images, "tiny", Some("aa")), Some(Outdated::Rebuilt));
        assert_eq!(outdated(&images, "web", Some("aa")), Some(Outdated::Gone));
        assert_eq!(outdated(&[], "web", Some("aa")), None, "nobody looked yet");
        assert_eq!(outdated(&images, ".staged-1", None), None);
        images[1].stale = vec![StaleReason::Parent { name: "debian".into() }];
        let stale = outdated(&images, "tiny", Some("bb")).expect("stale");
        assert_eq!(stale.to_string(), "its image is stale: debian was built again");
    }

    #[test]
    fn a_difference_reads_as_a_patch() {
        let diff = PackageDiff { added: vec!["git".into()], removed: vec!["vim".into()] };
        assert_eq!(diff.to_string(), "+git -vim");
    }
}
