//! What apt says of the current kernel.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::digest::fingerprint;

/// What apt's answers depend on: its lists and its settings (apt.conf(5), FILES).
pub(super) const DIRS: [&str; 5] = [
    "/var/lib/apt/lists",
    "/etc/apt",
    "/etc/apt/sources.list.d",
    "/etc/apt/preferences.d",
    "/etc/apt/apt.conf.d",
];

/// The state of these directories: it changes with any file in them. Empty if none can be read.
pub(super) fn stamp(dirs: &[PathBuf]) -> String {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for dir in dirs {
        let mut files: Vec<_> = files(dir).collect();
        files.sort_unstable();
        parts.extend(files.into_iter().map(String::into_bytes));
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    if parts.is_empty() { String::new() } else { fingerprint(&parts) }
}

fn files(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let name = entry.file_name();
        // apt locks it whenever it looks.
        let changed = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
        (name != "lock").then(|| format!("{} {} {changed}", entry.path().display(), meta.len()))
    })
}

/// The value of a field in the first stanza (deb-control(5)).
pub(super) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let stanza = text.split("\n\n").next()?;
    stanza.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// Of what `apt-cache show` says of a metapackage: name and version of the package it is for.
pub(super) fn current(text: &str) -> Option<(String, String)> {
    field(text, "Depends").and_then(first_dependency)
}

/// Name and version of the first dependency, which has to be an exact one.
fn first_dependency(depends: &str) -> Option<(String, String)> {
    let first = depends.split([',', '|']).next()?.trim();
    let (name, version) = first.split_once(' ')?;
    let version = version.trim().strip_prefix("(=")?.strip_suffix(')')?;
    Some((name.to_owned(), version.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_s_answers_are_read() {
        let text = "Package: linux-image-cloud-amd64\nVersion: 6.1.192-2\n\
                    Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\nSize: 1504\n\n\
                    Package: other\nSection: kernel\n";
        assert_eq!(field(text, "Version"), Some("6.1.192-2"));
        assert_eq!(field(text, "Size"), Some("1504"));
        assert_eq!(field(text, "Section"), None, "of another stanza");
        assert_eq!(field("", "Version"), None);
        let name = "linux-image-6.1.0-56-cloud-amd64".to_owned();
        assert_eq!(current(text), Some((name, "6.1.192-2".to_owned())));
        assert_eq!(first_dependency("a (>= 1), b (= 1)"), None);
        assert_eq!(first_dependency(""), None);
    }

    #[test]
    fn a_stamp_changes_with_the_lists() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().to_owned(), "/nonexistent".into()];
        assert_eq!(stamp(&dirs), "");
        fs::write(dir.path().join("lock"), "").unwrap();
        assert_eq!(stamp(&dirs), "");
        fs::write(dir.path().join("a"), "1").unwrap();
        let first = stamp(&dirs);
        assert_eq!(stamp(&dirs), first);
        fs::write(dir.path().join("b"), "1").unwrap();
        assert_ne!(stamp(&dirs), first);
    }
}
