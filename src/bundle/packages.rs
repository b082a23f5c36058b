//! Package manifests: which packages an image is to have, a line each.

use std::collections::BTreeSet;

use super::sha256;
use crate::domain::PackageDiff;

/// The most bytes of a manifest that are looked at: a Debian has 60,000 packages of 20 characters.
pub const MANIFEST_MAX: u64 = 4 << 20;

/// The manifest of a base image that this banger was built with, as it was written.
#[must_use]
pub(super) fn default_of(image: &str) -> Option<&'static str> {
    match image {
        "debian" => Some(include_str!("../../assets/packages/debian.txt")),
        "tiny" => Some(include_str!("../../assets/packages/tiny.txt")),
        _ => None,
    }
}

/// Which packages an image is to have, in normal form: sorted, unique, a line each.
///
/// A line is the name of a Debian package (Debian policy, 5.6.1: two characters or more of `a-z`,
/// `0-9`, `+`, `-` and `.`, the first a letter or a digit), perhaps with `:arch`, then with
/// `=version` or `/release` as apt-get(8) takes them, or with a `-` behind it for one that is to be
/// removed. `#` begins a comment; blank lines do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageManifest {
    lines: BTreeSet<String>,
}

impl PackageManifest {
    /// Reads a manifest as a user writes it.
    ///
    /// # Errors
    /// What is wrong with which lines (the first is 1), all at once.
    pub fn parse(text: &str) -> Result<Self, Vec<(usize, String)>> {
        let mut manifest = Self::default();
        let mut wrong = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match check(line) {
                Ok(()) => drop(manifest.lines.insert(line.to_owned())),
                Err(why) => wrong.push((index + 1, why)),
            }
        }
        if wrong.is_empty() { Ok(manifest) } else { Err(wrong) }
    }

    /// The normal form: sorted lines, each with its end.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line, "\n"]).collect()
    }

    /// SHA-256 of the normal form, in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        sha256(self.text().as_bytes())
    }

    /// The lines, sorted: what apt-get(8) is given to install.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Whether it has no lines.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What changes on the way from this one to `other`.
    #[must_use]
    pub fn diff(&self, other: &Self) -> PackageDiff {
        PackageDiff {
            added: other.lines.difference(&self.lines).cloned().collect(),
            removed: self.lines.difference(&other.lines).cloned().collect(),
        }
    }
}

/// Whether a line is one.
fn check(line: &str) -> Result<(), String> {
    let shown: String = line.chars().take(60).collect();
    if line.contains(char::is_whitespace) {
        return Err(format!("“{shown}” is more than one word: a package a line"));
    }
    let (package, behind) = match line.find(['=', '/']) {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line.strip_suffix('-').unwrap_or(line), None),
    };
    let (name, arch) = match package.split_once(':') {
        Some((name, arch)) => (name, Some(arch)),
        None => (package, None),
    };
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let plain = |c: char| lower(c) || matches!(c, '+' | '-' | '.');
    if name.chars().count() < 2 || !name.starts_with(lower) || !name.chars().all(plain) {
        return Err(format!(
            "“{shown}” is no package's name: a-z, 0-9, +, - and ., two at least, the first a \
             letter or a digit"
        ));
    }
    if arch.is_some_and(|arch| arch.is_empty() || !arch.chars().all(|c| lower(c) || c == '-')) {
        return Err(format!("“{shown}” has no architecture behind its colon, such as amd64"));
    }
    // Debian policy, 5.6.12, for versions; names of releases have fewer characters.
    let version = |c: char| c.is_ascii_alphanumeric() || ".+-~:".contains(c);
    if behind.is_some_and(|text| text.is_empty() || !text.chars().all(version)) {
        return Err(format!("“{shown}” has no version behind its =, or no release behind its /"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_has_the_same_sum() {
        let one = PackageManifest::parse("vim\n# editors\n git  # for work\n\nvim\n").unwrap();
        let other = PackageManifest::parse("git\r\nvim").unwrap();
        assert_eq!(one.text(), "git\nvim\n");
        assert_eq!(one, other);
        // printf 'git\nvim\n' | sha256sum
        let sum = "6b113827166c7a1fcfdb7a0a8c787ea71a80d6965400edb87797e1c0bc15fdd4";
        assert_eq!(one.sha256(), sum);
        assert_ne!(one.sha256(), PackageManifest::default().sha256());
        assert_eq!(PackageManifest::parse("# nothing\n").unwrap().text(), "");
    }

    #[test]
    fn a_line_is_what_apt_takes() {
        for good in [
            "g++",
            "libc6:amd64",
            "vim=2:9.0.1378-2",
            "linux-image/bookworm-backports",
            "nano-",
            "0ad",
            "libstdc++6:amd64=12.2.0-14",
            "python3.11",
        ] {
            assert!(PackageManifest::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "Vim",
            "-y",
            "--allow",
            "a",
            "a b",
            "vim=",
            "vim:",
            "../x",
            "vim;rm",
            "vim$(x)",
            "vim=1 2",
            "vim/",
            "ünder",
            "vim=1/../x y",
            "+a",
            "*",
        ] {
            assert!(PackageManifest::parse(bad).is_err(), "{bad}");
        }
        let wrong = PackageManifest::parse("git\nGIT\n\nvim vim\n").unwrap_err();
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn every_image_of_the_manifest_has_packages() {
        for image in crate::bundle::Manifest::embedded().images {
            let text = default_of(&image.name).expect("a manifest");
            assert!(!PackageManifest::parse(text).unwrap().is_empty(), "{}", image.name);
        }
    }

    #[test]
    fn a_difference_says_what_comes_and_what_goes() {
        let old = PackageManifest::parse("git\nvim").unwrap();
        let new = PackageManifest::parse("git\nnano=7.2-1").unwrap();
        assert_eq!(old.diff(&new).to_string(), "+nano=7.2-1 -vim");
        assert!(old.diff(&old).is_empty());
        assert_eq!(new.names().collect::<Vec<_>>(), ["git", "nano=7.2-1"]);
    }
}
