//! What a runtime directory holds, what it lacks, and whether there is something newer.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    BOOTSTRAP, Bundle, Manifest, Published, Record, apt,
    manifest::Arch,
    open::{VMLINUX, find_program},
    swap,
};
use crate::domain::Problem;

/// What a runtime directory holds.
#[derive(Clone, Debug)]
pub struct Status {
    /// The runtime directory.
    pub dir: PathBuf,
    /// The published bundle it began as.
    pub published: Option<Published>,
    /// The parts in it.
    pub components: Vec<Component>,
    /// What could be there and is not.
    pub missing: Vec<Missing>,
    /// Whether apt has another kernel.
    pub kernel: KernelNews,
    /// The parts of the one before, if it is kept: name and version.
    pub previous: Option<Vec<(String, String)>>,
    /// Why VMs cannot run from it, if so.
    pub problem: Option<Problem>,
}

/// A part of a runtime directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name: that of the step that made it.
    pub name: String,
    /// Its version, or what else tells it from others.
    pub version: String,
    /// Bytes of its files, holes included.
    pub size: u64,
    /// How many files.
    pub files: usize,
    /// Its licence.
    pub licence: String,
    /// What it is for.
    pub purpose: String,
}

/// A part that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub name: String,
    /// What it would be for.
    pub purpose: String,
    /// Whether VMs run without it.
    pub optional: bool,
}

/// Whether there is another kernel than the one that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelNews {
    /// apt has none that is newer.
    Current,
    /// apt has one: `banger runtime update` fetches it.
    Newer {
        /// Its package.
        package: String,
        /// Its version.
        version: String,
    },
    /// It is not known: why.
    Unknown(String),
}

/// Looks at a runtime directory. Nothing is fetched and no content is read: what apt's lists say is
/// said, as old as they are.
///
/// # Errors
/// When there is no record, or none that can be read.
pub fn status(dir: &Path) -> Result<Status, Problem> {
    let Some(record) = Record::read(dir)? else {
        return Err(Problem::new(
            format!("cannot look at the runtime directory {}", dir.display()),
            "it has no bundle.json",
            format!("run `{BOOTSTRAP}`"),
        ));
    };
    let manifest = Manifest::embedded();
    Ok(Status {
        dir: dir.to_owned(),
        components: components(&record, &manifest),
        missing: missing(&record, &manifest),
        kernel: kernel_news(&record),
        previous: swap::previous(dir).map(|record| summary(&record)),
        problem: Bundle::open(dir).err(),
        published: record.published,
    })
}

/// Name and version of every part of a record.
pub(super) fn summary(record: &Record) -> Vec<(String, String)> {
    record.steps.iter().map(|(name, step)| (name.clone(), step.detail.clone())).collect()
}

fn components(record: &Record, manifest: &Manifest) -> Vec<Component> {
    let of = |(name, step): (&String, &super::StepRecord)| {
        let files: Vec<_> = step.outputs.iter().filter_map(|o| record.files.get(o)).collect();
        // Records of an earlier banger do not have these two.
        let (licence, purpose) = manifest.about(name).unwrap_or_default();
        let or =
            |own: &String, known: &str| if own.is_empty() { known.to_owned() } else { own.clone() };
        Component {
            name: name.clone(),
            version: step.detail.clone(),
            size: files.iter().map(|file| file.size).sum(),
            files: files.len(),
            licence: or(&step.licence, licence),
            purpose: or(&step.purpose, purpose),
        }
    };
    record.steps.iter().map(of).collect()
}

fn missing(record: &Record, manifest: &Manifest) -> Vec<Missing> {
    let arch = Arch::of_this_machine();
    let mut names = vec![("kernel".to_owned(), false), ("initrd".to_owned(), false)];
    if arch.is_some_and(|arch| manifest.firecracker.source.contains_key(&arch)) {
        names.push(("firecracker".to_owned(), true));
    }
    names.extend(manifest.images.iter().map(|image| (format!("image {}", image.name), true)));
    let has = |name: &String| record.steps.contains_key(name);
    let missing = names.into_iter().filter(|(name, _)| !has(name));
    let of = |(name, optional): (String, bool)| {
        let purpose = manifest.about(&name).unwrap_or_default().1.to_owned();
        Missing { name, purpose, optional }
    };
    missing.map(of).collect()
}

/// Whether apt's lists have a newer kernel than this record. Where they are as they were when a
/// bootstrap last looked, apt is not asked again.
#[must_use]
pub fn kernel_news(record: &Record) -> KernelNews {
    let dirs = apt::DIRS.map(PathBuf::from);
    news(record, &Manifest::embedded(), &dirs, env::var_os("PATH").as_deref())
}

fn news(
    record: &Record,
    manifest: &Manifest,
    dirs: &[PathBuf],
    path: Option<&std::ffi::OsStr>,
) -> KernelNews {
    let unknown = |why: &str| KernelNews::Unknown(why.to_owned());
    let Some(used) = record.files.get(VMLINUX).map(|f| f.version.clone()) else {
        return unknown("there is no kernel");
    };
    let looked = record.steps.get("kernel").and_then(|step| step.looked.clone());
    let stamp = apt::stamp(dirs);
    let (package, version) = match looked {
        Some(looked) if looked.stamp == stamp && !stamp.is_empty() => {
            (looked.package, looked.version)
        }
        _ => {
            let source = Arch::of_this_machine().and_then(|arch| manifest.kernel.source.get(&arch));
            let Some(meta) = source.and_then(|source| source.package.clone()) else {
                return unknown("it is no package of apt's");
            };
            let Some(program) = find_program("apt-cache", path) else {
                return unknown("there is no apt");
            };
            let said = Command::new(program)
                .args(["show", "--no-all-versions", &meta])
                .env("LC_ALL", "C")
                .output();
            let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
            match said.ok().as_deref().and_then(apt::current) {
                Some(found) => found,
                None => return unknown("apt's lists do not have it: `sudo apt-get update`"),
            }
        }
    };
    if version == used {
        return KernelNews::Current;
    }
    // What is here may also be newer than lists that are old.
    let newer = find_program("dpkg", path).and_then(|dpkg| {
        Command::new(dpkg).args(["--compare-versions", &version, "gt", &used]).status().ok()
    });
    match newer {
        Some(status) if status.success() => KernelNews::Newer { package, version },
        Some(_) => KernelNews::Current,
        None => unknown("there is no dpkg to compare versions"),
    }
}

/// What differs between two records: of each part that does, its name, and its versions.
pub(super) fn differences(
    before: Option<&Record>,
    now: &Record,
) -> Vec<(String, Option<String>, Option<String>)> {
    let sums = |record: Option<&Record>, name: &str| -> Option<(String, Vec<String>)> {
        let step = record?.steps.get(name)?;
        let files = &record?.files;
        let sums = step.outputs.iter().filter_map(|o| Some(files.get(o)?.sha256.clone()));
        Some((step.detail.clone(), sums.collect()))
    };
    let empty = BTreeMap::new();
    let steps = before.map_or(&empty, |b| &b.steps).keys().chain(now.steps.keys());
    let names: BTreeSet<&String> = steps.collect();
    let differ = names.into_iter().filter_map(|name| {
        let (a, b) = (sums(before, name), sums(Some(now), name));
        let detail = |side: Option<(String, Vec<String>)>| side.map(|(detail, _)| detail);
        (a != b).then(|| (name.clone(), detail(a), detail(b)))
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{FileRecord, Looked, StepRecord};

    fn with_kernel(version: &str, looked: Option<Looked>) -> Record {
        let mut record = Record::empty();
        let file = FileRecord {
            sha256: format!("sum of {version}"),
            size: 7,
            modified_ns: 0,
            source: String::new(),
            version: version.into(),
        };
        record.files.insert(VMLINUX.into(), file);
        let step = StepRecord {
            fingerprint: String::new(),
            outputs: vec![VMLINUX.into()],
            detail: format!("linux {version}"),
            licence: String::new(),
            purpose: String::new(),
            looked,
        };
        record.steps.insert("kernel".into(), step);
        record
    }

    #[test]
    fn a_newer_kernel_is_told_without_asking_apt_twice() {
        let lists = tempfile::tempdir().unwrap();
        std::fs::write(lists.path().join("list"), "x").unwrap();
        let dirs = [lists.path().to_owned()];
        let stamp = apt::stamp(&dirs);
        let path = env::var_os("PATH");
        let manifest = Manifest::embedded();
        let news = |used: &str, offered: &str| {
            let looked =
                Looked { stamp: stamp.clone(), package: "p".into(), version: offered.into() };
            super::news(&with_kernel(used, Some(looked)), &manifest, &dirs, path.as_deref())
        };
        assert_eq!(news("6.1.9-1", "6.1.9-1"), KernelNews::Current);
        let newer = KernelNews::Newer { package: "p".into(), version: "6.1.10-1".into() };
        assert_eq!(news("6.1.9-1", "6.1.10-1"), newer);
        assert_eq!(news("6.1.10-1", "6.1.9-1"), KernelNews::Current, "lists may be old");
        // Nobody there to ask.
        let none = super::news(&with_kernel("1", None), &manifest, &dirs, None);
        assert!(matches!(none, KernelNews::Unknown(_)), "{none:?}");
    }

    #[test]
    fn parts_have_sizes_licences_and_purposes_and_what_lacks_is_told() {
        let record = with_kernel("1", None);
        let manifest = Manifest::embedded();
        let [kernel] = &components(&record, &manifest)[..] else { panic!() };
        assert_eq!((kernel.size, kernel.files, kernel.licence.as_str()), (7, 1, "GPL-2.0-only"));
        let missing = missing(&record, &manifest);
        let names: Vec<_> = missing.iter().map(|m| (m.name.as_str(), m.optional)).collect();
        assert!(names.contains(&("initrd", false)) && names.contains(&("image tiny", true)));
    }

    #[test]
    fn differences_name_what_changed_in_either_direction() {
        let (one, two) = (with_kernel("1", None), with_kernel("2", None));
        let changed =
            [("kernel".to_owned(), Some("linux 1".to_owned()), Some("linux 2".to_owned()))];
        assert_eq!(differences(Some(&one), &two), changed);
        assert_eq!(differences(Some(&one), &one), []);
        assert_eq!(differences(None, &two)[0].1, None);
    }
}
