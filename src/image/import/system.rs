//! What is installed in a file system: read from the lists that dpkg and apk keep.
//!
//! They are somebody else's, and only lead to words that are shown: names and versions, a bounded
//! number of bounded length.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use super::{Failure, Job, disk};

/// The longest list that is read, in bytes: dpkg's has about 1.5 KiB for each package.
const LIST_MAX: u64 = 64 << 20;
/// The most packages that are taken down, and the most characters of each.
const PACKAGES_MAX: usize = 50_000;
const WORD_MAX: usize = 200;

/// Where a list is, and what reads it.
type List = (&'static str, fn(&str) -> Vec<String>);

/// The lists that are known.
const LISTS: [List; 2] = [("/var/lib/dpkg/status", dpkg), ("/lib/apk/db/installed", apk)];

/// Where cloud-init is.
const CLOUD_INIT: [&str; 2] = ["/usr/bin/cloud-init", "/usr/local/bin/cloud-init"];

/// What an image holds, as far as it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// Its packages, as "name version", sorted; empty if it has no list that is known.
    pub packages: Vec<String>,
    /// Whether it has cloud-init, which reads user data.
    pub cloud_init: bool,
}

/// Looks into an image.
///
/// # Errors
/// If that cannot be done. What it says that makes no sense is passed over.
pub fn look(job: &Job<'_>, image: &Path) -> Result<System, Failure> {
    job.step("look at what is installed", 0);
    let mut system = System::default();
    for path in CLOUD_INIT {
        system.cloud_init = system.cloud_init || disk::has(job, image, path)?;
    }
    for (path, read) in LISTS {
        if let Some(text) = text(job, image, path)? {
            system.packages = read(&text);
            system.packages.truncate(PACKAGES_MAX);
            system.packages.sort_unstable();
            break;
        }
    }
    Ok(system)
}

/// A file's text, if there is such a file and it is not too long.
fn text(job: &Job<'_>, image: &Path, path: &str) -> Result<Option<String>, Failure> {
    let stat = disk::ask(job, image, &format!("stat {path}"))?;
    let mut words = stat.split_ascii_whitespace().skip_while(|word| *word != "Size:").skip(1);
    let size = words.next().and_then(|word| word.parse::<u64>().ok());
    if !stat.contains("Type: regular") || size.is_none_or(|size| size > LIST_MAX) {
        return Ok(None);
    }
    let copy = job.dir().join("list");
    disk::ask(job, image, &format!("dump {path} list"))?;
    let mut bytes = Vec::new();
    File::open(&copy)?.take(LIST_MAX).read_to_end(&mut bytes)?;
    fs::remove_file(copy)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The packages that dpkg has installed (dpkg-query(1): paragraphs of fields, the third word of
/// `Status` is what is so).
fn dpkg(text: &str) -> Vec<String> {
    paragraphs(text, |paragraph| {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let status = field("Status")?.split_ascii_whitespace().nth(2);
        (status == Some("installed")).then_some((field("Package")?, field("Version")?))
    })
}

/// The packages that apk has installed (apk(5): fields of one letter, `P` and `V`).
fn apk(text: &str) -> Vec<String> {
    paragraphs(text, |paragraph| {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
        Some((field("P:")?, field("V:")?))
    })
}

fn paragraphs(text: &str, read: impl Fn(&str) -> Option<(&str, &str)>) -> Vec<String> {
    let found = text.split("\n\n").filter_map(read);
    let word = |word: &str| -> Option<String> {
        let word = word.trim();
        let good = word.len() <= WORD_MAX && word.bytes().all(|byte| byte.is_ascii_graphic());
        (good && !word.is_empty()).then(|| word.to_owned())
    };
    found
        .filter_map(|(name, version)| Some(format!("{} {}", word(name)?, word(version)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_has_installed_is_listed_and_what_it_had_is_not() {
        let text = "Package: bash\nStatus: install ok installed\nDescription: shell\n Package: no\n\
                    Version: 5.2-1\n\nPackage: nano\nStatus: deinstall ok config-files\nVersion: 7\n\n\
                    Package: evil\u{1b}[m\nStatus: install ok installed\nVersion: 1\n\n\
                    Package: held\nStatus: hold ok installed\nVersion: 1:2~rc1\n";
        assert_eq!(dpkg(text), ["bash 5.2-1", "held 1:2~rc1"]);
        assert!(dpkg("garbage\n\n\n").is_empty());
    }

    #[test]
    fn what_apk_has_installed_is_listed() {
        let text =
            "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:libc.so\n\nP:busybox\nV:1.36\n\n";
        assert_eq!(apk(text), ["musl 1.2.5-r0", "busybox 1.36"]);
    }
}
