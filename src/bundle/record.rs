//! `bundle.json`: what a runtime directory holds, written by whoever made it.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::place;
use crate::domain::Problem;

/// The record's name within the runtime directory.
pub const RECORD_FILE: &str = "bundle.json";

/// The version of the record's format that this banger reads and writes.
pub const SCHEMA: u32 = 1;

/// What a runtime directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this format: [`SCHEMA`].
    pub schema: u32,
    /// The architecture it was made for, as `std::env::consts::ARCH` names it.
    pub arch: String,
    /// Every file, by its path within the runtime directory.
    pub files: BTreeMap<String, FileRecord>,
    /// The base images, by name.
    pub images: BTreeMap<String, ImageRecord>,
    /// The steps of the bootstrap that succeeded, by name.
    pub steps: BTreeMap<String, StepRecord>,
    /// The published bundle it began as, if it was not assembled here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

/// A published bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// SHA-256 of its archive, in lower-case hex.
    pub sha256: String,
    /// Where it came from.
    pub source: String,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// SHA-256 of its content, in lower-case hex.
    pub sha256: String,
    /// Its size in bytes, holes included.
    pub size: u64,
    /// When it was last changed, in nanoseconds since 1970: as long as this and the size are as
    /// recorded, a bootstrap does not read the file again. `verify` always does.
    pub modified_ns: u64,
    /// Where it came from: a URL, a Debian package, a script.
    pub source: String,
    /// The version of the source, where it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// One base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its file, within the runtime directory.
    pub file: String,
    /// One line: what it is.
    pub about: String,
    /// Memory in MiB that it wants by default.
    pub default_memory_mib: u64,
    /// The package manifest it was built from, in its normal form; empty in records of before there
    /// were any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub packages: String,
    /// SHA-256 of that in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages_sha256: Option<String>,
}

/// One step of the bootstrap that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// A digest of everything that went in.
    pub fingerprint: String,
    /// What it made: keys of [`Record::files`].
    pub outputs: Vec<String>,
    /// What it said in the end, such as the version it found.
    pub detail: String,
    /// The licence of what it made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub licence: String,
    /// What that is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// What apt offered when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<Looked>,
}

/// What apt offered, and a way to tell whether it would say the same again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The state of apt's lists and settings then.
    pub stamp: String,
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
}

impl Record {
    /// A record of nothing, for the machine this runs on.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            schema: SCHEMA,
            arch: std::env::consts::ARCH.to_owned(),
            files: BTreeMap::new(),
            images: BTreeMap::new(),
            steps: BTreeMap::new(),
            published: None,
        }
    }

    /// Reads the record of a runtime directory; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read, is no record, or was written by a newer banger.
    pub fn read(dir: &Path) -> Result<Option<Self>, Problem> {
        let path = dir.join(RECORD_FILE);
        let what = || format!("cannot use the runtime directory {}", dir.display());
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                let why = format!("{} cannot be read: {e}", path.display());
                let hint = "check its owner and its permissions, \
                            or set BANGER_RUNTIME_DIR to another directory";
                return Err(Problem::new(what(), why, hint));
            }
        };
        Self::parse(&bytes, &path).map(Some).map_err(|problem| Problem { what: what(), ..problem })
    }

    /// Reads a record from its text; `path` is where that is, for what is said of it.
    ///
    /// # Errors
    /// When it is no record, or was written by a newer banger.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, Problem> {
        let what = || format!("cannot use {}", path.display());
        let remake = || place::make_anew(path.parent().unwrap_or(path));
        // The version first: a newer format need not have today's fields.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|e| {
            Problem::new(what(), format!("{} is damaged: {e}", path.display()), remake())
        })?;
        if version.schema != SCHEMA {
            let why = format!(
                "{} has format {}, and this banger knows format {SCHEMA}",
                path.display(),
                version.schema
            );
            return Err(Problem::new(
                what(),
                why,
                "use the banger that made it, or set BANGER_RUNTIME_DIR to another directory",
            ));
        }
        serde_json::from_slice(bytes).map_err(|e| {
            Problem::new(what(), format!("{} is damaged: {e}", path.display()), remake())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Option<Record>, Problem> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RECORD_FILE), text).unwrap();
        Record::read(dir.path())
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut record = Record::empty();
        let file = FileRecord {
            sha256: "ab".repeat(32),
            size: 5,
            modified_ns: 7,
            source: "here".into(),
            version: String::new(),
        };
        record.files.insert("vmlinux".into(), file);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(written(&text).unwrap(), Some(record));
    }

    #[test]
    fn no_record_is_none_and_a_bad_one_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        let newer = written(r#"{"schema": 2, "parts": []}"#).unwrap_err();
        assert!(newer.why.contains("format 2"), "{newer}");
        for bad in ["", "{", r#"{"schema": 1}"#, "[1]"] {
            let problem = written(bad).unwrap_err();
            assert!(problem.why.contains("damaged"), "{problem}");
            assert!(problem.hint.contains("banger runtime bootstrap --dir "), "{problem}");
        }
    }
}
