//! Telling a mapdns: by the JSON file that it reads, or by a command.
//!
//! The file is that of bahlo/mapdns: `{"web.vm.": {"A": "172.30.4.2"}}`. That one reads it once, when
//! it starts: where that matters, the command restarts it.

use std::{fs, io, net::Ipv4Addr, path::Path, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    domain::{CommandTemplate, Problem, VmName, ZONE},
    host::{call::Call, lock::FileLock, replace::replace},
};

/// How long another writer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(10);

/// Has the file say where a VM is.
///
/// # Errors
/// If the file says something else of that name, is not JSON of that form, or cannot be written. It
/// is then as it was.
pub fn enter(file: &Path, name: &VmName, address: Ipv4Addr) -> Result<(), Problem> {
    change(file, |entries| {
        let (key, ours) = (key(name), entry(address));
        match entries.get(&key) {
            Some(there) if *there == ours => Ok(false),
            Some(there) => {
                let short: String = there.to_string().chars().take(80).collect();
                Err(format!("it has an entry “{key}” that is not banger's: {short}"))
            }
            None => {
                entries.insert(key, ours);
                Ok(true)
            }
        }
    })
}

/// Has the file say nothing of a VM. What it says of that name beside what [`enter`] wrote stays.
///
/// # Errors
/// As [`enter`].
pub fn leave(file: &Path, name: &VmName, address: Ipv4Addr) -> Result<(), Problem> {
    if !file.exists() {
        return Ok(());
    }
    change(file, |entries| {
        let key = key(name);
        let ours = entries.get(&key).is_some_and(|there| *there == entry(address));
        Ok(ours && entries.remove(&key).is_some())
    })
}

/// Runs a command for a VM.
///
/// # Errors
/// If it cannot be started, fails, or takes longer than 10 s; with the first line of what it said.
pub fn command(
    template: &CommandTemplate,
    name: &VmName,
    address: Ipv4Addr,
) -> Result<(), Problem> {
    let argv = template.argv(name, address);
    let (program, args) = argv.split_first().map_or(("", &[][..]), |(p, args)| (p, args));
    let done = Call::start(Path::new(program), args).and_then(|call| call.end(COMMAND));
    done.map_err(|why| {
        let hint = format!("run it yourself; it is set as “{template}” in the configuration");
        Problem::new("cannot tell mapdns", why, hint)
    })
}

fn key(name: &VmName) -> String {
    format!("{name}.{ZONE}.")
}

fn entry(address: Ipv4Addr) -> Value {
    json!({ "A": address.to_string() })
}

/// Lets `with` change the entries, and writes them if it says that it did.
fn change(
    file: &Path,
    with: impl FnOnce(&mut Map<String, Value>) -> Result<bool, String>,
) -> Result<(), Problem> {
    let problem = |why: &str, hint: &str| {
        Problem::new(format!("cannot change {}", file.display()), why, hint)
    };
    let failed = |error: io::Error| {
        problem(&error.to_string(), "names.mapdns_file is where a mapdns reads its names")
    };
    let mut lock = file.as_os_str().to_owned();
    lock.push(".lock");
    let lock = FileLock::exclusive_within(lock, PATIENCE).map_err(failed)?;
    let Some(lock) = lock else {
        return Err(problem("another program has held its lock for 5 s", "try again"));
    };
    let _lock = lock.remove_on_drop();
    let old = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(failed)?,
    };
    let read = if old.trim_ascii().is_empty() {
        Ok(Map::new())
    } else {
        serde_json::from_slice::<Map<String, Value>>(&old)
    };
    let hint = "correct it, or name another file in names.mapdns_file";
    let mut entries =
        read.map_err(|error| problem(&format!("it is no list of names: {error}"), hint))?;
    if !with(&mut entries).map_err(|why| problem(&why, hint))? {
        return Ok(());
    }
    let new = serde_json::to_string_pretty(&entries).map_err(|e| problem(&e.to_string(), hint))?;
    replace(file, &old, format!("{new}\n").as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, thread};

    use super::*;

    const AT: Ipv4Addr = Ipv4Addr::new(172, 30, 4, 2);

    fn web() -> VmName {
        "web".parse().expect("a name")
    }

    fn file(text: Option<&str>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("mapdns.json");
        if let Some(text) = text {
            fs::write(&path, text).expect("written");
        }
        (dir, path)
    }

    fn read(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
    }

    #[test]
    fn entries_come_and_go_and_foreign_ones_stay() {
        let foreign =
            r#"{"nas.lan.": {"A": "10.0.0.9", "AAAA": "::1"}, "x.vm.": {"A": "1.2.3.4"}}"#;
        let (dir, path) = file(Some(foreign));
        let before = read(&path);
        enter(&path, &web(), AT).expect("entered");
        enter(&path, &web(), AT).expect("twice is once");
        assert_eq!(read(&path)["web.vm."], json!({"A": "172.30.4.2"}));
        assert_eq!(read(&path)["nas.lan."], before["nas.lan."]);
        leave(&path, &web(), AT).expect("left");
        leave(&path, &web(), AT).expect("twice is once");
        assert_eq!(read(&path), before);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "no lock stays");
    }

    #[test]
    fn an_entry_of_somebody_else_is_not_taken_over_nor_removed() {
        let text = r#"{"web.vm.": {"A": "10.0.0.1"}}"#;
        let (_dir, path) = file(Some(text));
        let problem = enter(&path, &web(), AT).expect_err("foreign");
        assert!(problem.why.contains("“web.vm.” that is not banger's"), "{problem}");
        leave(&path, &web(), AT).expect("nothing of ours");
        assert_eq!(fs::read_to_string(&path).expect("read"), text, "byte for byte");
    }

    #[test]
    fn what_is_no_such_file_is_left_alone_and_none_is_made() {
        for text in ["[1]", "{\"a\":", "nonsense"] {
            let (_dir, path) = file(Some(text));
            let problem = enter(&path, &web(), AT).expect_err(text);
            assert!(problem.why.starts_with("it is no list of names"), "{problem}");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
        }
        let (_dir, path) = file(None);
        leave(&path, &web(), AT).expect("nothing there");
        assert!(!path.exists());
        enter(&path, &web(), AT).expect("made");
        assert_eq!(fs::read_to_string(&path).expect("read").lines().count(), 5);
    }

    #[test]
    fn writers_at_once_lose_nothing() {
        let (_dir, path) = file(None);
        thread::scope(|scope| {
            for i in 0..8 {
                let (path, name) = (&path, format!("vm{i}").parse().expect("a name"));
                scope.spawn(move || enter(path, &name, AT).expect("entered"));
            }
        });
        assert_eq!(read(&path).as_object().expect("an object").len(), 8);
    }

    #[test]
    fn a_command_is_run_without_a_shell_and_its_complaint_is_told() {
        let (dir, path) = file(None);
        let template =
            format!("/bin/sh -c 'echo \"$1 $2\" > {}' sh {{name}}.vm {{address}}", path.display());
        command(&template.parse().expect("good"), &web(), AT).expect("run");
        assert_eq!(fs::read_to_string(&path).expect("read"), "web.vm 172.30.4.2\n");
        let template = "/bin/sh -c 'echo no {name} >&2; exit 1'";
        let problem = command(&template.parse().expect("good"), &web(), AT).expect_err("it fails");
        assert!(problem.why.ends_with(": no web") && problem.hint.contains(template), "{problem}");
        drop(dir);
    }
}
