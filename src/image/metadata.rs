//! What is known of an image of the user's: `image.json` in its directory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    bundle::is_sha256,
    domain::{ImageName, ImageOrigin, ImageView, Problem, UnixMs},
};

/// The version of the format that this banger reads and writes.
pub const SCHEMA: u32 = 1;

/// The file's name in an image's directory.
pub const METADATA_FILE: &str = "image.json";

/// The most bytes of it that are read: a system has some thousand packages of some dozen characters.
pub const METADATA_MAX: u64 = 16 << 20;

/// The image that another was made from, as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its name.
    pub name: String,
    /// SHA-256 of its content, in lower-case hex.
    pub sha256: String,
}

impl Parent {
    /// Whether it can be one: it may come from elsewhere.
    pub(super) fn is_sound(&self) -> bool {
        is_sha256(&self.sha256) && self.name.parse::<ImageName>().is_ok()
    }
}

/// What is known of an image of the user's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The version of this format: [`SCHEMA`]. Filled in when it is written.
    pub schema: u32,
    /// One line: what it is.
    #[serde(default)]
    pub about: String,
    /// SHA-256 of the disk in lower-case hex: the image's identity, and its content's name in
    /// `bases/`. Filled in by [`super::Staged::seal`].
    pub sha256: String,
    /// Size of the disk in bytes, holes included. Filled in as the sum.
    pub size: u64,
    /// Bytes it took on the host when it was published. Filled in as the sum.
    #[serde(default)]
    pub used: u64,
    /// Memory in MiB that a VM of it gets by default.
    pub default_memory_mib: u64,
    /// How it came to be.
    pub origin: ImageOrigin,
    /// The image it was made from, if it was.
    #[serde(default)]
    pub parent: Option<Parent>,
    /// SHA-256 of the package manifest it was built from (its normal form).
    #[serde(default)]
    pub packages_sha256: Option<String>,
    /// The packages that are installed in it, as “name version”, sorted; empty if nobody looked.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Whether cloud-init is in it, if somebody looked.
    #[serde(default)]
    pub cloud_init: Option<bool>,
    /// The steps of the customization, each with the SHA-256 of its script.
    #[serde(default)]
    pub steps: BTreeMap<String, String>,
    /// What was imported: a file's name, a reference.
    #[serde(default)]
    pub source: String,
    /// The version of the kernel it was built for or booted with, if that matters to it.
    #[serde(default)]
    pub kernel: Option<String>,
    /// When it was built; 0 if nobody knows: the export of an image of the runtime directory.
    #[serde(default)]
    pub built: UnixMs,
    /// How long that took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
}

impl Metadata {
    /// Reads that of an image's directory; `None` if there is no such file.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or of a newer banger.
    pub fn read(dir: &Path) -> Result<Option<Self>, Problem> {
        let path = dir.join(METADATA_FILE);
        let what = || format!("cannot use the image in {}", dir.display());
        match read_bounded(&path, METADATA_MAX) {
            Ok(text) => Self::parse(&text).map(Some).map_err(|why| {
                let hint = format!("move {} away", dir.display());
                let name = dir.file_name().and_then(|name| name.to_str());
                let hint = match name.and_then(|name| name.parse::<ImageName>().ok()) {
                    Some(name) => format!("{hint}, or `banger images rm {name}` removes it"),
                    None => hint,
                };
                Problem::new(what(), format!("{}: {why}", path.display()), hint)
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => {
                let why = format!("{}: {e}", path.display());
                Err(Problem::new(what(), why, "check its owner and its permissions"))
            }
        }
    }

    /// Reads a text of [`METADATA_FILE`].
    ///
    /// # Errors
    /// What is wrong with it, as a clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The version first: a newer format need not have today's fields.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let damaged = |e: serde_json::Error| format!("it is damaged: {e}");
        let version: Version = serde_json::from_str(text).map_err(damaged)?;
        if version.schema != SCHEMA {
            let is = version.schema;
            return Err(format!("it has format {is}, and this banger knows format {SCHEMA}"));
        }
        let metadata: Self = serde_json::from_str(text).map_err(damaged)?;
        if !is_sha256(&metadata.sha256) {
            return Err("its sha256 is none".to_owned());
        }
        Ok(metadata)
    }

    /// The text of [`METADATA_FILE`].
    #[must_use]
    pub fn text(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("its keys are strings");
        format!("{json}\n")
    }

    /// Writes it into a directory, whole or not at all, and on the disk when this returns.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        write_file(&dir.join(METADATA_FILE), self.text().as_bytes())
    }

    /// Whether cloud-init is in it: somebody looked, or its packages say so.
    fn has_cloud_init(&self) -> Option<bool> {
        let named = |package: &String| package.split(' ').next() == Some("cloud-init");
        let listed = || (!self.packages.is_empty()).then(|| self.packages.iter().any(named));
        self.cloud_init.or_else(listed)
    }

    /// What is shown of it under this name; whether it is stale is not known here.
    #[must_use]
    pub fn view(&self, name: &str) -> ImageView {
        ImageView {
            name: name.to_owned(),
            about: self.about.clone(),
            size: self.size,
            used: Some(self.used),
            default_memory_mib: self.default_memory_mib,
            sha256: self.sha256.clone(),
            origin: self.origin,
            parent: self.parent.as_ref().map(|parent| parent.name.clone()),
            built: (self.built != UnixMs::default()).then_some(self.built),
            took_ms: (self.took_ms != 0).then_some(self.took_ms),
            packages_sha256: self.packages_sha256.clone(),
            own_manifest: false,
            cloud_init: self.has_cloud_init(),
            stale: Vec::new(),
        }
    }
}

/// A text file of at most so many bytes; links are not followed.
pub(super) fn read_bounded(path: &Path, max: u64) -> io::Result<String> {
    let mut text = String::new();
    let file = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    file.take(max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max {
        let why = format!("it has more than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// Writes a file that only its owner may read beside its place, then puts it there; it is on the disk
/// when this returns.
///
/// # Errors
/// What the file system says.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Brings a directory's names to the disk.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_newer_or_damaged_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Metadata::read(dir.path()), Ok(None));
        let metadata = Metadata {
            schema: SCHEMA,
            about: "mine".into(),
            sha256: "ab".repeat(32),
            size: 64 << 20,
            origin: ImageOrigin::Customized,
            parent: Some(Parent { name: "debian".into(), sha256: "cd".repeat(32) }),
            steps: [("packages".to_owned(), "ef".repeat(32))].into(),
            built: UnixMs(5),
            ..Metadata::default()
        };
        metadata.write(dir.path()).unwrap();
        assert_eq!(Metadata::read(dir.path()), Ok(Some(metadata.clone())));
        assert_eq!(metadata.view("web").parent.as_deref(), Some("debian"));
        for (bad, why) in [
            (metadata.text().replace("\"schema\": 1", "\"schema\": 2"), "format 2"),
            (metadata.text().replace(&"ab".repeat(32), "../../x"), "sha256"),
            ("{".to_owned(), "damaged"),
            (r#"{"schema": 1}"#.to_owned(), "damaged"),
        ] {
            fs::write(dir.path().join(METADATA_FILE), bad).unwrap();
            let problem = Metadata::read(dir.path()).unwrap_err();
            assert!(problem.why.contains(why), "{problem}");
        }
    }

    #[test]
    fn what_was_built_nobody_knows_when_has_no_age() {
        let view = Metadata::default().view("web");
        assert_eq!((view.built, view.took_ms), (None, None));
        let known = Metadata { built: UnixMs(5), took_ms: 7, ..Metadata::default() }.view("web");
        assert_eq!((known.built, known.took_ms), (Some(UnixMs(5)), Some(7)));
    }

    #[test]
    fn cloud_init_is_known_by_a_look_or_by_the_packages() {
        let with = |cloud_init, packages: &[&str]| {
            let packages = packages.iter().map(|&name| name.to_owned()).collect();
            Metadata { cloud_init, packages, ..Metadata::default() }.view("web").cloud_init
        };
        assert_eq!(with(None, &[]), None);
        assert_eq!(with(None, &["bash 5"]), Some(false));
        assert_eq!(with(None, &["bash 5", "cloud-init 22.4"]), Some(true));
        assert_eq!(with(Some(true), &["bash 5"]), Some(true), "not by a package of dpkg's");
    }

    #[test]
    fn a_link_or_a_flood_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| dir.path().join(name));
        fs::write(&file, "12345").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_bounded(&file, 5).unwrap(), "12345");
        assert_eq!(read_bounded(&file, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_bounded(&link, 5).is_err());
        assert!(read_bounded(dir.path(), 5).is_err());
    }
}
