//! What a VM is given beside its image: read from the user's files, kept in the VM's own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{
    domain::{ByteSize, Extras, Field, FieldProblem, ImageView, VmPaths},
    guest::AuthorizedKey,
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
    use crate::domain::{Layout, VmId};

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
        let device = Extras { keys: vec![], user_data: Some("/dev/zero".into()) };
        assert!(Given::read(&device).expect_err("a device")[0].message.ends_with("no file"));
    }
}
