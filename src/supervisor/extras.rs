//! What a VM is given beside its image: read from the user's files, kept in the VM's own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{
    domain::{
        ByteSize, ExtraKey, Extras, Field, FieldProblem, ImageView, Layout, Problem, VmPaths,
    },
    guest::AuthorizedKey,
    image,
};

/// The most that user data may have, in bytes. EC2's limit is 16 KiB; what is longer is fetched
/// by the guest.
pub const USER_DATA_MAX: u64 = 64 << 10;
/// The most that a file of keys may have, in bytes: some hundred keys.
const KEYS_MAX: u64 = 64 << 10;

/// User data that wants nothing.
const NO_WISHES: &[u8] = b"#cloud-config\n{}\n";

/// What is in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    keys: Vec<AuthorizedKey>,
    user_data: Option<Vec<u8>>,
}

impl Given {
    /// Reads the files.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn read(extras: &Extras) -> Result<Self, Vec<FieldProblem>> {
        let mut given = Self::default();
        let mut problems = Vec::new();
        for path in &extras.keys {
            match keys(path) {
                Ok(keys) => given.keys.extend(keys),
                Err(why) => {
                    let message = format!("{}: {why}", path.display());
                    problems.push(FieldProblem { field: Field::Key, message });
                }
            }
        }
        if let Some(path) = &extras.user_data {
            match bytes(path, USER_DATA_MAX) {
                Ok(data) => given.user_data = Some(data),
                Err(why) => {
                    let message = format!("{}: {why}", path.display());
                    problems.push(FieldProblem { field: Field::UserData, message });
                }
            }
        }
        if problems.is_empty() { Ok(given) } else { Err(problems) }
    }

    /// Fits it to the image. cloud-init gets user data in any case: without a source of data it does
    /// nothing, and a cloud image then has neither its own host keys nor, so, an SSH server.
    #[must_use]
    pub fn fit(mut self, image: &ImageView) -> Self {
        if image.cloud_init == Some(true) {
            self.user_data.get_or_insert_with(|| NO_WISHES.to_vec());
        }
        self
    }

    /// Keeps it in the VM's directory.
    ///
    /// # Errors
    /// The file system's word.
    pub fn keep(&self, paths: &VmPaths) -> io::Result<()> {
        if !self.keys.is_empty() {
            let lines: String = self.keys.iter().map(|key| format!("{key}\n")).collect();
            write(&paths.keys(), lines.as_bytes())?;
        }
        self.user_data.as_ref().map_or(Ok(()), |data| write(&paths.user_data(), data))
    }
}

/// The keys that all VMs get.
///
/// # Errors
/// Which of them cannot be read, or is none.
pub fn for_all(keys: &[ExtraKey]) -> Result<Vec<AuthorizedKey>, Problem> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for key in keys {
        let read = match key {
            ExtraKey::File(path) => {
                self::keys(path).map_err(|why| format!("{}: {why}", path.display()))
            }
            ExtraKey::Line(line) => line.parse().map(|key| vec![key]),
        };
        match read {
            Ok(keys) => found.extend(keys),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() {
        return Ok(found);
    }
    let what = "cannot use the keys that all VMs get";
    Err(Problem::new(what, wrong.join("; "), "correct extra_keys in config.toml, or these files"))
}

/// Keeps the keys that all VMs get where monitors find them.
///
/// # Errors
/// As [`for_all`], or the file system's word.
pub fn keep_for_all(layout: &Layout, keys: &[ExtraKey]) -> Result<(), Problem> {
    let keys = for_all(keys)?;
    let path = layout.extra_keys();
    let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
    // Most often it is as it was, and a disk that is full is no reason then.
    let was = fs::read_to_string(&path);
    let kept = match was {
        Ok(was) if was == text => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound && text.is_empty() => Ok(()),
        _ if text.is_empty() => fs::remove_file(&path),
        _ => image::write_file(&path, text.as_bytes()),
    };
    kept.map_err(|e| {
        let why = format!("{}: {e}", path.display());
        Problem::new(
            "cannot keep the keys that all VMs get",
            why,
            "`banger doctor` checks the disk",
        )
    })
}

fn keys(path: &Path) -> Result<Vec<AuthorizedKey>, String> {
    let text = String::from_utf8(bytes(path, KEYS_MAX)?).map_err(|_| "it is no text")?;
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<AuthorizedKey> = lines
        .map(|(n, line)| line.parse().map_err(|why| format!("line {}: {why}", n + 1)))
        .collect::<Result<_, String>>()?;
    if keys.is_empty() {
        return Err("there is no key in it; give the public one, NAME.pub".to_owned());
    }
    Ok(keys)
}

/// A file's content, if it is a file and no longer than this.
fn bytes(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    // A pipe or a device would have us wait, or never end.
    let is_file = fs::metadata(path).map_err(|e| e.to_string())?.is_file();
    if !is_file {
        return Err("it is no file".to_owned());
    }
    let mut data = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(max + 1).read_to_end(&mut data).map_err(|e| e.to_string())?;
    if data.len() as u64 > max {
        return Err(format!("it is longer than {}", ByteSize(max)));
    }
    Ok(data)
}

fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(data)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::domain::VmId;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDi0 you@work";

    #[test]
    fn what_is_given_is_kept_and_all_that_is_wrong_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, data: &[u8]| -> PathBuf {
            let path = dir.path().join(name);
            fs::write(&path, data).expect("written");
            path
        };
        let keys = vec![file("a.pub", format!("# mine\n\n{KEY}\n{KEY}").as_bytes())];
        let user_data = Some(file("data", b"#cloud-config\n"));
        let given = Given::read(&Extras { keys, user_data }).expect("good");
        let layout = Layout { state: dir.path().to_owned(), run: dir.path().join("run") };
        let paths = layout.vm(&VmId::from_bytes([1; 4]));
        fs::create_dir_all(paths.dir()).expect("made");
        given.keep(&paths).expect("kept");
        assert_eq!(fs::read_to_string(paths.keys()).expect("there"), format!("{KEY}\n{KEY}\n"));
        assert_eq!(fs::read(paths.user_data()).expect("there"), b"#cloud-config\n");

        // What all VMs get is kept as it is now, and gone with the setting.
        fs::create_dir(dir.path().join("ssh")).expect("made");
        let all = [ExtraKey::Line(KEY.into()), ExtraKey::File(dir.path().join("a.pub"))];
        for _ in 0..2 {
            keep_for_all(&layout, &all).expect("kept");
            let kept = fs::read_to_string(layout.extra_keys()).expect("there");
            assert_eq!(kept, format!("{KEY}\n").repeat(3));
        }
        for _ in 0..2 {
            keep_for_all(&layout, &[]).expect("kept");
            assert!(!layout.extra_keys().exists());
        }

        let kept = given.clone().fit(&ImageView { cloud_init: Some(true), ..ImageView::default() });
        assert_eq!(kept, given, "the user's own counts");
        for (cloud_init, data) in [(None, None), (Some(false), None), (Some(true), Some(NO_WISHES))]
        {
            let image = ImageView { cloud_init, ..ImageView::default() };
            assert_eq!(Given::default().fit(&image).user_data.as_deref(), data);
        }

        let long = file("long", &vec![b'x'; (USER_DATA_MAX + 1) as usize]);
        let keys = vec![file("b", b"\nssh-rsa x\n"), file("c", b"# none"), "/none".into()];
        let bad = Extras { keys, user_data: Some(long) };
        let problems = Given::read(&bad).expect_err("bad");
        let told: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
        assert!(told[0].contains("/b: line 2: "), "{told:?}");
        assert!(told[1].contains("there is no key in it"), "{told:?}");
        assert!(told[2].starts_with("/none: No such file"), "{told:?}");
        assert!(told[3].contains("longer than 64 KiB"), "{told:?}");
        let for_all = [ExtraKey::Line("ssh-ed25519 x".into()), ExtraKey::File("/none".into())];
        let why = super::for_all(&for_all).expect_err("bad").why;
        assert!(why.contains("cut off") && why.contains("/none: No such file"), "{why}");
        let device = Extras { keys: vec![], user_data: Some("/dev/zero".into()) };
        assert!(Given::read(&device).expect_err("a device")[0].message.ends_with("no file"));
    }
}
