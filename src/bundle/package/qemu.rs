//! A QEMU that runs from anywhere: the program, the libraries it is linked with down to the
//! dynamic loader, the one module that emulates CPUs, and the firmware of `microvm`.
//!
//! The loader is called by name, with the directory of the libraries: so nothing of the host's is
//! used but its kernel, and neither a distribution nor its version matters.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Part, sum, write};
use crate::bundle::{
    Bundle, FileRecord, Manifest, Record, StepRecord,
    open::{QEMU_DIR, find_program},
};

/// What the launcher is: `sh` of any kind runs it. `%…%` are replaced.
const LAUNCHER: &str = r#"#!/bin/sh
# Runs the QEMU of this directory with its own loader and libraries: nothing of the host's is used.
here=$(dirname "$(readlink -f "$0")")
QEMU_MODULE_DIR=$here/modules
export QEMU_MODULE_DIR
exec "$here/lib/%LOADER%" --library-path "$here/lib" "$here/bin/%PROGRAM%" -L "$here/share" "$@"
"#;

/// Where Debian's packages put QEMU's modules, below its directory of libraries.
const MODULE_DIRS: [&str; 3] =
    ["/usr/lib/x86_64-linux-gnu/qemu", "/usr/lib/aarch64-linux-gnu/qemu", "/usr/lib/qemu"];

/// The modules that a machine without a display needs: emulated CPUs. Those of other QEMUs are
/// linked in.
const MODULES: [&str; 2] = ["accel-tcg-x86_64.so", "accel-tcg-aarch64.so"];

/// What `microvm` starts from, and where Debian's packages put it.
const FIRMWARE: [&str; 5] =
    ["bios-microvm.bin", "qboot.rom", "pvh.bin", "linuxboot_dma.bin", "kvmvapic.bin"];
const FIRMWARE_DIRS: [&str; 3] = ["/usr/share/qemu", "/usr/share/seabios", "/usr/share/qboot"];

/// Why it cannot be, and what to do.
pub(super) type Why = (String, String);

/// Adds the QEMU of this machine to what is packed, with `scratch` for what has to be written. A
/// bundle that has one already keeps it.
pub(super) fn add(
    scratch: &Path,
    record: &mut Record,
    parts: &mut BTreeMap<String, Part>,
) -> Result<(), Why> {
    if record.steps.contains_key("qemu") {
        return Ok(());
    }
    let manifest = Manifest::embedded().qemu;
    let (program, package) = Bundle::names_of_qemu()
        .ok_or_else(|| (format!("it has no name on {}", env::consts::ARCH), "".to_owned()))?;
    let install = format!("install it: sudo apt-get install --no-install-recommends {package}");
    let path = env::var_os("PATH");
    let found = find_program(&program, path.as_deref())
        .and_then(|path| path.canonicalize().ok())
        .ok_or_else(|| (format!("{program} is not in PATH"), install.clone()))?;
    let version = version(&found).map_err(|why| (why, install.clone()))?;

    let mut files: BTreeMap<String, (PathBuf, bool)> = BTreeMap::new();
    files.insert(format!("bin/{program}"), (found.clone(), true));
    let mut linked = vec![found];
    for module in MODULES {
        let at = MODULE_DIRS.iter().map(|dir| Path::new(dir).join(module)).find(|p| p.is_file());
        if let Some(at) = at {
            files.insert(format!("modules/{module}"), (at.clone(), false));
            linked.push(at);
        }
    }
    let libraries = libraries(&linked).map_err(|why| (why, install.clone()))?;
    let loader = libraries.keys().find(|name| name.starts_with("ld-")).cloned();
    let loader = loader.ok_or_else(|| ("it has no dynamic loader".to_owned(), install.clone()))?;
    for (name, path) in libraries {
        files.insert(format!("lib/{name}"), (path, name == loader));
    }
    for name in FIRMWARE {
        let dirs = FIRMWARE_DIRS.iter().map(|dir| Path::new(dir).join(name));
        if let Some(at) = dirs.filter_map(|p| p.canonicalize().ok()).find(|p| p.is_file()) {
            files.insert(format!("share/{name}"), (at, false));
        }
    }
    let launcher = scratch.join(&program);
    let text = LAUNCHER.replace("%LOADER%", &loader).replace("%PROGRAM%", &program);
    write(&launcher, text.as_bytes()).map_err(|e| (e.to_string(), install.clone()))?;
    files.insert(program, (launcher, true));

    let mut outputs = Vec::new();
    for (name, (path, executable)) in files {
        let name = format!("{QEMU_DIR}/{name}");
        let (sha256, size) =
            sum(&path).map_err(|e| (format!("{}: {e}", path.display()), String::new()))?;
        let file = FileRecord {
            sha256,
            size,
            modified_ns: 0,
            source: format!("Debian package {package} and what it depends on"),
            version: version.clone(),
        };
        record.files.insert(name.clone(), file);
        parts.insert(name.clone(), Part { path, executable });
        outputs.push(name);
    }
    let step = StepRecord {
        fingerprint: String::new(),
        outputs,
        detail: version,
        licence: format!("{}; its libraries: those of their packages", manifest.licence),
        purpose: manifest.purpose,
        looked: None,
    };
    record.steps.insert("qemu".to_owned(), step);
    Ok(())
}

fn version(program: &Path) -> Result<String, String> {
    let said = Command::new(program).arg("--version").output();
    let said = said.map_err(|e| format!("{} cannot be run: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&said.stdout);
    // "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
    let line = text.lines().next().unwrap_or_default();
    let version = line.strip_prefix("QEMU emulator version ").unwrap_or(line).trim();
    if version.is_empty() {
        Err(format!("{} does not tell its version", program.display()))
    } else {
        Ok(version.to_owned())
    }
}

/// Every shared library that these are linked with, by the name it is asked for under, and where
/// it is: what ldd(1) says.
fn libraries(linked: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut all = BTreeMap::new();
    for file in linked {
        let said = Command::new("ldd").arg(file).env("LC_ALL", "C").output();
        let said = said.map_err(|e| format!("ldd cannot be run: {e}"))?;
        if !said.status.success() {
            let why = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            return Err(format!("ldd {}: {why}", file.display()));
        }
        all.extend(ldd(&String::from_utf8_lossy(&said.stdout))?);
    }
    let names: BTreeSet<_> = all.values().filter(|path| !path.is_file()).collect();
    match names.first() {
        Some(missing) => Err(format!("{} is not there", missing.display())),
        None => Ok(all.into_iter().map(|(n, p)| (n, fs::canonicalize(&p).unwrap_or(p))).collect()),
    }
}

/// Reads `name => path (address)` and `path (address)`, the latter being the loader; the kernel's
/// own page has no path.
fn ldd(text: &str) -> Result<Vec<(String, PathBuf)>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, path) = match line.split_once(" => ") {
            Some((name, rest)) if rest.starts_with("not found") => {
                return Err(format!("the library {name} is not there"));
            }
            Some((name, rest)) => (name, rest),
            None if line.starts_with('/') => ("", line),
            None => continue,
        };
        let path = path.rsplit_once(" (").map_or(path, |(path, _)| path);
        // What is asked for by path is found by its last part.
        let name = if name.is_empty() || name.starts_with('/') {
            path.rsplit('/').next().unwrap_or(path)
        } else {
            name
        };
        found.push((name.to_owned(), PathBuf::from(path)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_is_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /lib/x/libz.so.1 (0x1)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x2)\n";
        let expected = [
            ("libz.so.1".to_owned(), PathBuf::from("/lib/x/libz.so.1")),
            ("ld-linux-x86-64.so.2".to_owned(), "/lib64/ld-linux-x86-64.so.2".into()),
        ];
        assert_eq!(ldd(text).unwrap(), expected);
        assert_eq!(ldd("\tstatically linked\n").unwrap(), []);
        assert!(ldd("\tlibx.so => not found\n").unwrap_err().contains("libx.so"));
    }
}
