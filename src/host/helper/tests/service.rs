//! Installing, in a directory instead of a host.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::host::helper::install::{Installation, Person, tests::in_directory};

static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn systemctl(words: &[&str]) -> io::Result<()> {
    ASKED.lock().unwrap().push(words.join(" "));
    Ok(())
}

fn steps(
    work: impl FnOnce(&mut dyn FnMut(&super::super::Step)) -> Result<(), Problem>,
) -> (Result<(), Problem>, Vec<String>) {
    let mut steps = Vec::new();
    let result = work(&mut |step| steps.push(step.to_string()));
    (result, steps)
}

#[test]
fn it_is_installed_and_removed_without_a_trace() {
    if !is_root("it_is_installed_and_removed_without_a_trace") {
        return;
    }
    // Below /tmp everything could be changed by others: not a place for what root runs.
    let dir = tempfile::Builder::new().prefix("banger-helper-").tempdir_in("/run").unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("run/systemd/system")).unwrap();
    let banger = tempfile::NamedTempFile::new().unwrap();
    fs::write(banger.path(), "a banger").unwrap();
    let installation: Installation = in_directory(dir.path(), banger.path(), systemctl);
    let ana = Person { name: "ana".into(), uid: ANA };
    let (result, told) = steps(|tell| installation.install(&ana, tell));
    result.unwrap();
    let program = at("usr/local/libexec/banger/banger-helper");
    assert_eq!(fs::read(&program).unwrap(), b"a banger");
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o7777, 0o755);
    let unit = fs::read_to_string(at("etc/systemd/system/banger-helper.service")).unwrap();
    assert!(unit.contains(&format!("ExecStart={} host-helper", program.display())), "{unit}");
    assert!(at("etc/systemd/system/banger-helper.socket").exists());
    let list = at("etc/banger/helper.allow");
    assert!(Allowed::File(list.clone()).has(ANA).is_ok());
    assert!(fs::read_to_string(&list).unwrap().ends_with("\nana\n"));
    let asked = std::mem::take(&mut *ASKED.lock().unwrap());
    assert_eq!(
        asked,
        ["daemon-reload", "enable --now banger-helper.socket", "stop banger-helper.service"]
    );
    for command in asked {
        assert!(told.contains(&format!("systemctl {command}")), "{told:?}");
    }

    // Again, for another one; and a third time, for the same.
    let bob = Person { name: "bob".into(), uid: BOB };
    for _ in 0..2 {
        steps(|tell| installation.install(&bob, tell)).0.unwrap();
    }
    assert!(fs::read_to_string(&list).unwrap().ends_with("\nana\nbob\n"));
    assert!(installation.describe().iter().any(|line| line.ends_with("lets in: ana, bob")));

    let seen = as_user(EVE, || installation.describe());
    assert!(seen.iter().any(|line| line.ends_with("lets in: ana, bob")), "{seen:?}");

    steps(|tell| installation.uninstall(false, tell)).0.unwrap();
    let mut left = Vec::new();
    let mut dirs = vec![dir.path().to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => left.push(entry.path()),
            }
        }
    }
    assert_eq!(left, Vec::<PathBuf>::new());
    assert!(!at("etc/banger").exists() && !at("usr/local/libexec/banger").exists());
    ASKED.lock().unwrap().clear();
    steps(|tell| installation.uninstall(false, tell)).0.expect("nothing to do");
}

#[test]
fn root_runs_nothing_that_others_could_change() {
    if !is_root("root_runs_nothing_that_others_could_change") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let banger = dir.path().join("banger");
    fs::write(&banger, "").unwrap();
    let installation = in_directory(dir.path(), &banger, |_| Ok(()));
    let ana = Person { name: "ana".into(), uid: ANA };
    let problem = steps(|tell| installation.install(&ana, tell)).0.unwrap_err();
    assert!(problem.why.contains("/tmp may be written to by others"), "{problem}");
    assert!(!dir.path().join("etc").exists(), "nothing was enabled");
}
