//! What the steps work with: the parts of a recipe, and what the host has for them, as files in a
//! directory (`scripts/customize/lib.sh` says which).

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Host, Step, scripts};
use crate::domain::{FileInto, Preset, Problem, Recipe};

/// The directory of the scripts in that of the work.
const STEPS: &str = "steps";

/// What a build is given.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// What is to be made.
    pub recipe: &'a Recipe,
    /// The package manifest of the recipe in its normal form, a package a line.
    pub packages: &'a str,
    /// What the host has.
    pub host: &'a Host,
    /// Whether the steps run in a VM that is up.
    pub in_vm: bool,
}

impl Parts<'_> {
    /// Writes all of it into the directory `work`, which is made or made anew.
    ///
    /// # Errors
    /// If a file of the recipe cannot be read, or `work` not be written.
    pub fn write(&self, work: &Path) -> Result<(), Problem> {
        self.write_all(work).map_err(|error| {
            Problem::new("cannot prepare the build", error.to_string(), "look at what it names")
        })
    }

    fn write_all(&self, work: &Path) -> io::Result<()> {
        let steps = work.join(STEPS);
        if work.exists() {
            fs::remove_dir_all(work)?;
        }
        fs::create_dir_all(&steps)?;
        fs::create_dir_all(work.join("keys"))?;
        fs::create_dir_all(work.join("out"))?;
        for (name, text) in scripts() {
            fs::write(steps.join(name), text)?;
        }
        let Self { recipe, host, .. } = self;
        fs::write(work.join("packages"), self.all_packages())?;
        fs::write(work.join("mirrors"), &host.mirrors)?;
        write_lists(work, &host.lists);
        fs::write(work.join("apt.conf"), &host.apt_conf)?;
        fs::write(work.join("resolv.conf"), &host.resolv_conf)?;
        fs::write(work.join("script"), &recipe.script)?;
        fs::write(work.join("release"), release(recipe))?;
        if self.in_vm {
            fs::write(work.join("vm"), "")?;
        }
        let mut users = String::new();
        for user in &recipe.users {
            // Writing to a text does not fail.
            let _ = writeln!(users, "{} {}", user.name, if user.sudo { "sudo" } else { "-" });
            write_keys(work, &user.name, &user.keys)?;
        }
        fs::write(work.join("users"), users)?;
        write_keys(work, "root", &recipe.keys)?;
        if !recipe.files.is_empty() {
            write_files(work, &recipe.files)?;
        }
        Ok(())
    }

    /// The manifest, and what else the recipe cannot do without.
    fn all_packages(&self) -> String {
        let mut all: Vec<&str> = self.packages.lines().collect();
        if self.recipe.presets.contains(&Preset::Docker) {
            all.extend(["ca-certificates", "docker.io", "iptables", "kmod"]);
        }
        if self.recipe.users.iter().any(|user| user.sudo) {
            all.push("sudo");
        }
        let mut seen = BTreeSet::new();
        all.retain(|line| seen.insert(*line));
        all.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// The command that runs a step, for a shell: in the work's directory `work`, as seen there.
#[must_use]
pub fn step_path(work: &str, step: Step) -> String {
    format!("{work}/{STEPS}/{}", step.file())
}

fn release(recipe: &Recipe) -> String {
    format!("IMAGE={}\nBASE={}\n", recipe.name, recipe.base)
}

fn write_keys(work: &Path, name: &str, keys: &[String]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let lines = keys.iter().fold(String::new(), |text, key| text + key.trim() + "\n");
    fs::write(work.join("keys").join(name), lines)
}

/// `lists/`: with their times, by which apt asks what has changed since. What the host's apt has taken
/// away meanwhile is left out, and fetched.
fn write_lists(work: &Path, lists: &[PathBuf]) {
    let dir = work.join("lists");
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to)?;
        File::options().write(true).open(to)?.set_modified(fs::metadata(from)?.modified()?)
    };
    if lists.is_empty() || fs::create_dir(&dir).is_err() {
        return;
    }
    for from in lists {
        let to = dir.join(from.file_name().unwrap_or_default());
        if copy(from, &to).is_err() {
            // What is not whole would be believed.
            let _ = fs::remove_file(to);
        }
    }
}

/// `files.tar` and `files.dirs`: everything belongs to root and keeps its mode.
fn write_files(work: &Path, files: &[FileInto]) -> io::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::new(File::create(work.join("files.tar"))?));
    let mut dirs = BTreeSet::new();
    for file in files {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", file.from.display()))
        };
        let mut to = file.to.trim_start_matches('/').to_owned();
        if file.to.ends_with('/') {
            to.push_str(&file.from.file_name().unwrap_or_default().to_string_lossy());
        }
        let to: PathBuf = to.split('/').filter(|part| !part.is_empty()).collect();
        // What is named itself is followed if it is a link; what lies in a directory is not.
        if fs::metadata(&file.from).map_err(named)?.is_dir() {
            dirs.insert(to.clone());
            add_directory(&mut tar, &file.from, &to).map_err(named)?;
        } else {
            dirs.extend(to.parent().map(Path::to_owned));
            let real = fs::canonicalize(&file.from).map_err(named)?;
            add(&mut tar, &real, &to).map_err(named)?;
        }
    }
    let lines = dirs.iter().filter(|dir| !dir.as_os_str().is_empty());
    let lines = lines.fold(String::new(), |text, dir| text + &dir.to_string_lossy() + "\n");
    fs::write(work.join("files.dirs"), lines)?;
    tar.into_inner()?.flush()
}

type Archive = tar::Builder<BufWriter<File>>;

fn add_directory(tar: &mut Archive, from: &Path, to: &Path) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(from)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        add(tar, &path, &to)?;
        if entry.file_type()?.is_dir() {
            add_directory(tar, &path, &to)?;
        }
    }
    Ok(())
}

/// A file, a directory without what is in it, or a link; sockets, pipes and devices are left out.
fn add(tar: &mut Archive, from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(meta.permissions().mode() & 0o7777);
    header.set_size(0);
    let time = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    header.set_mtime(time.map_or(0, |t| t.as_secs()));
    if meta.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        return tar.append_link(&mut header, to, fs::read_link(from)?);
    }
    if meta.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        return tar.append_data(&mut header, to, io::empty());
    }
    if meta.is_file() {
        header.set_size(meta.len());
        return tar.append_data(&mut header, to, File::open(from)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::domain::UserInto;

    #[test]
    fn the_parts_of_a_recipe_are_files_as_the_steps_read_them() {
        let dir = tempfile::tempdir().expect("temp");
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("sub")).expect("tree");
        fs::write(tree.join("sub/tool"), "#!/bin/sh\n").expect("tool");
        fs::set_permissions(tree.join("sub/tool"), fs::Permissions::from_mode(0o755))
            .expect("mode");
        symlink("sub/tool", tree.join("link")).expect("link");
        let into = |from: &Path, to: &str| FileInto { from: from.to_owned(), to: to.to_owned() };
        let recipe = Recipe {
            name: "web".into(),
            base: "debian".into(),
            presets: vec![Preset::Docker],
            files: vec![into(&tree, "/opt/"), into(&tree.join("link"), "/usr/local/bin/it")],
            users: vec![UserInto { name: "ada".into(), sudo: true, keys: vec!["key 1".into()] }],
            ..Recipe::default()
        };
        let host = Host::default();
        let work = dir.path().join("work");
        let parts = Parts { recipe: &recipe, packages: "curl\nkmod\n", host: &host, in_vm: true };
        parts.write(&work).expect("written");
        parts.write(&work).expect("written again");
        let read = |name: &str| fs::read_to_string(work.join(name)).expect(name);
        assert_eq!(read("packages"), "curl\nkmod\nca-certificates\ndocker.io\niptables\nsudo\n");
        assert_eq!((read("users"), read("keys/ada")), ("ada sudo\n".into(), "key 1\n".into()));
        assert_eq!(read("files.dirs"), "opt/tree\nusr/local/bin\n");
        let mut tar = tar::Archive::new(File::open(work.join("files.tar")).expect("tar"));
        let entries: Vec<(String, u32, u64)> = tar
            .entries()
            .expect("entries")
            .map(|entry| {
                let entry = entry.expect("entry");
                let path = entry.path().expect("path").display().to_string();
                let header = entry.header();
                (path, header.mode().expect("mode"), header.uid().expect("uid"))
            })
            .collect();
        let entry = |path: &str, mode| (path.to_owned(), mode, 0);
        assert_eq!(entries[0].0, "opt/tree/link");
        assert_eq!(entries[2], entry("opt/tree/sub/tool", 0o755));
        assert_eq!(entries[3], entry("usr/local/bin/it", 0o755));
        assert!(work.join("steps/lib.sh").is_file() && work.join("vm").exists());
    }

    #[test]
    fn the_hosts_lists_keep_their_times_and_those_that_are_gone_are_left_out() {
        let dir = tempfile::tempdir().expect("temp");
        let (there, work) = (dir.path().join("x_InRelease"), dir.path().join("work"));
        fs::write(&there, "Origin: Debian\n").expect("list");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        File::options().write(true).open(&there).and_then(|f| f.set_modified(time)).expect("time");
        let lists = vec![there, dir.path().join("x_main_Packages")];
        let host = Host { lists, ..Host::default() };
        let recipe = Recipe::default();
        let parts = Parts { recipe: &recipe, packages: "", host: &host, in_vm: false };
        parts.write(&work).expect("written");
        let copy = fs::metadata(work.join("lists/x_InRelease")).expect("copied");
        assert_eq!(copy.modified().expect("time"), time);
        assert_eq!(fs::read_dir(work.join("lists")).expect("lists").count(), 1);
        let none = Host::default();
        Parts { host: &none, ..parts }.write(&work).expect("written anew");
        assert!(!work.join("lists").exists());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().expect("temp");
        let recipe = Recipe {
            files: vec![FileInto { from: "/nonexistent/x".into(), to: "/x".into() }],
            ..Recipe::default()
        };
        let host = Host::default();
        let parts = Parts { recipe: &recipe, packages: "", host: &host, in_vm: false };
        let problem = parts.write(&dir.path().join("work")).expect_err("no such file");
        assert!(problem.why.contains("/nonexistent/x"), "{problem}");
    }
}
