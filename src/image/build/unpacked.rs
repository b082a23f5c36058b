//! Packages for a root that has no apt, such as `tiny`: fetched by this host's, and unpacked there by
//! the step as they are. Nothing is configured, and nothing comes that was not named.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Command, Stdio},
};

use crate::domain::Problem;

/// Where they lie in the directory of the parts: `NAME.tar`.
const DEBS: &str = "debs";

/// Fetches packages (words of apt-get(8)) into the directory `work` of the parts.
///
/// # Errors
/// What apt says; if this host has none.
pub fn fetch(work: &Path, words: &[String]) -> Result<(), Problem> {
    if words.is_empty() {
        return Ok(());
    }
    let fail = |why: String| {
        let what = format!("cannot fetch {}", words.join(" "));
        Problem::new(
            what,
            why,
            "the image has no apt: this host's fetches for it, after `apt-get update`",
        )
    };
    let dir = work.join(DEBS);
    let tars = || -> io::Result<()> {
        fs::create_dir_all(&dir)?;
        let mut apt = Command::new("apt-get");
        // Its own user may not enter the state directory.
        apt.args(["-q", "-o", "APT::Sandbox::User=root", "download"]).args(words);
        said(apt.env("LC_ALL", "C").current_dir(&dir))?;
        for entry in fs::read_dir(&dir)? {
            let deb = entry?.path();
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--fsys-tarfile").arg(&deb).stdout(File::create(deb.with_extension("tar"))?);
            said(&mut unpack)?;
            fs::remove_file(deb)?;
        }
        Ok(())
    };
    tars().map_err(|error| fail(error.to_string()))
}

/// Runs a program; its last words if it fails.
fn said(command: &mut Command) -> io::Result<()> {
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let name = command.get_program().to_string_lossy().into_owned();
    let run = child
        .and_then(std::process::Child::wait_with_output)
        .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
    if run.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let last = said.lines().next_back().unwrap_or("it gave no reason");
    Err(io::Error::other(format!("{name}: {last}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_fetched_is_named() {
        let dir = tempfile::tempdir().expect("temp");
        assert_eq!(fetch(dir.path(), &[]), Ok(()));
        assert!(!dir.path().join(DEBS).exists());
        let problem = fetch(dir.path(), &["no-such-package-at-all".into()]).expect_err("none");
        assert!(problem.what.contains("no-such-package-at-all"), "{problem}");
        assert!(problem.why.contains("apt-get"), "{problem}");
    }
}
