//! The engine that needs no rights: a VM of the base, whose disk becomes the image's.

use std::{
    ffi::OsString,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use crate::{
    cli::{
        client::{Client, Task, Until, Wait},
        setup::Setup,
        ssh,
    },
    domain::{CommandBody, Layout, OverlayKind, Problem, VmName, VmSpec, VmView, Wishes},
    host::disk::copy_image,
    image::build::{Host, Parts, Step, step_path},
    session::ssh::Tty,
};

/// Where the parts lie in the VM: on its disk, as its memory may be small. It is gone in the end.
const WORK: &str = "/var/tmp/banger-build";

/// The variable that what a step starts has in its environment, and nothing else in the VM.
const MARK: &str = "BANGER_STEP";

/// How long a VM may take until its SSH answers: an emulated one on a busy machine.
pub const BOOT: Duration = Duration::from_secs(600);

/// The least memory in MiB that packages are installed in.
const MEMORY_MIB: u64 = 512;

/// A VM that is ours for a while: removed when this is dropped.
pub struct Helper {
    client: Client,
    layout: Layout,
    vm: Option<Arc<VmView>>,
    name: VmName,
}

impl Helper {
    /// Makes a VM and starts it, and waits until its SSH answers.
    ///
    /// # Errors
    /// If that cannot be; then it is gone.
    pub fn start(
        mut client: Client,
        setup: &Setup,
        prefix: &str,
        image: &str,
        spec: VmSpec,
    ) -> Result<Self, Problem> {
        let fleet = client.loaded()?;
        let name = name_for(prefix, image, &|name| {
            fleet.vms.iter().any(|vm| vm.spec.name.as_str() == name)
        });
        let name: VmName = name.parse().map_err(|error| {
            Problem::new(format!("cannot name a VM after {image}"), format!("{error}"), "")
        })?;
        let overlay = spec.wishes.overlay.map(|_| match fleet.host.overlay {
            Some(OverlayKind::Reflink) => OverlayKind::Reflink,
            _ => OverlayKind::SparseCopy,
        });
        let spec = VmSpec { name: name.clone(), wishes: Wishes { overlay, ..spec.wishes }, ..spec };
        let layout = setup.layout.clone();
        let mut helper = Self { client, layout: layout.clone(), vm: None, name };
        let probe: crate::cli::client::Probe =
            Arc::new(move |vm, left| ssh::probe(&layout, vm, left));
        let task = Task {
            name: helper.name.to_string(),
            // Killed, we leave it: whoever looks next finds that nobody makes that image.
            body: CommandBody::CreateHelper { of: spec.image.clone(), spec, start: true },
            done: "started",
            until: Until::Over,
            wait: Some(Wait { within: BOOT, probe }),
        };
        let mut result = Ok(());
        helper.client.all::<Problem>(vec![task], |_, ended| {
            result = ended.map(drop);
            Ok(())
        })?;
        result?;
        helper.look()?;
        Ok(helper)
    }

    /// Looks at it anew.
    fn look(&mut self) -> Result<(), Problem> {
        let fleet = self.client.loaded()?;
        let name = &self.name;
        self.vm = fleet.vms.iter().find(|vm| vm.spec.name == *name).cloned();
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The ssh program that runs a command in it, or a shell.
    ///
    /// # Errors
    /// If it is gone, or has no address.
    pub fn ssh(&self, tty: Tty, words: &[&str]) -> Result<Command, Problem> {
        let vm = self.vm.as_ref().ok_or_else(|| {
            Problem::new(format!("{} is gone", self.name), "somebody removed it", "try again")
        })?;
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        ssh::command(&self.layout, vm, tty, &words)
    }

    /// Runs a command in it; what it wrote to its standard output.
    ///
    /// # Errors
    /// If it fails, with its last words.
    pub fn run(&self, script: &str) -> Result<String, Problem> {
        let fail = |why: String| Problem::new(format!("{} did not do it", self.name), why, "");
        let run = self.ssh(Tty::Never, &[script])?.stdin(Stdio::null()).output();
        let run = run.map_err(|e| fail(e.to_string()))?;
        if run.status.success() {
            return Ok(String::from_utf8_lossy(&run.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&run.stderr);
        Err(fail(said.lines().next_back().unwrap_or("it gave no reason").to_owned()))
    }

    /// Shuts it down politely.
    ///
    /// # Errors
    /// If it does not go down.
    pub fn stop(&mut self) -> Result<(), Problem> {
        let Some(vm) = &self.vm else { return Ok(()) };
        let id = vm.id.clone();
        self.client.ask(self.name.as_str(), CommandBody::Stop(id))
    }

    /// Where its disk is.
    pub fn disk(&self) -> Option<PathBuf> {
        self.vm.as_ref().map(|vm| self.layout.vm(&vm.id).disk())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next banger.
        if self.look().is_err() {
            return;
        }
        let Some(vm) = self.vm.clone() else { return };
        if vm.phase.is_up() {
            let _ = self.client.ask(self.name.as_str(), CommandBody::Kill(vm.id.clone()));
        }
        let _ = self.client.ask(self.name.as_str(), CommandBody::Delete(vm.id.clone()));
    }
}

/// The name of a helper: `build-web`; with a number, if there is one of that name.
fn name_for(prefix: &str, image: &str, taken: &dyn Fn(&str) -> bool) -> String {
    let image: String = image.chars().map(|c| if c == '.' { '-' } else { c }).take(40).collect();
    let plain = format!("{prefix}-{}", image.trim_end_matches('-'));
    if !taken(&plain) {
        return plain;
    }
    let numbered = (2..).map(|n| format!("{plain}-{n}")).find(|name| !taken(name));
    numbered.unwrap_or(plain)
}

/// The script that ends all that has `mark` with this value in its environment, wherever it was
/// moved to: politely, then by force.
fn end_script(mark: &str, value: &str) -> String {
    format!(
        r#"left() {{
    for process in /proc/[0-9]*; do
        if {{ tr '\0' '\n' <"$process/environ"; }} 2>/dev/null | grep -q '^{mark}={value}$'; then
            echo "${{process#/proc/}}"
        fi
    done
}}
turn=0
while found=$(left) && [ -n "$found" ]; do
    case $turn in
    0) kill -TERM $found ;;
    5 | 10) kill -KILL $found ;;
    30) echo "these do not end:" $found >&2; exit 1 ;;
    esac 2>/dev/null
    turn=$((turn + 1))
    sleep 1
done"#
    )
}

/// The engine: a VM, and what the steps need in it.
pub struct Builder {
    helper: Helper,
    host: Host,
    disk: PathBuf,
}

impl Builder {
    /// Starts a VM of `image`, and takes the parts there. `disk` is where its disk is to be in the
    /// end.
    ///
    /// # Errors
    /// If it does not start, or cannot take them.
    pub fn start(
        client: Client,
        setup: &Setup,
        parts: &Parts<'_>,
        (image, memory_mib): (&str, u64),
        work: &Path,
        disk: &Path,
    ) -> Result<Self, Problem> {
        let wishes = Wishes { overlay: Some(OverlayKind::SparseCopy), ..Wishes::default() };
        let spec = VmSpec {
            // Given anew when it is known which is free.
            name: "build".parse().map_err(|e| Problem::new("a bug", format!("{e}"), ""))?,
            image: image.to_owned(),
            vcpus: 1,
            memory_mib: memory_mib.max(MEMORY_MIB),
            disk_mib: parts.recipe.size_mib,
            restore: false,
            wishes,
            extras: Default::default(),
        };
        let helper = Helper::start(client, setup, "build", &parts.recipe.name, spec)?;
        let builder = Self { helper, host: parts.host.clone(), disk: disk.to_owned() };
        builder.send(work)?;
        Ok(builder)
    }

    /// Takes the directory of the parts into the VM.
    fn send(&self, work: &Path) -> Result<(), Problem> {
        let fail = |why: String| Problem::new("cannot take the files into the VM", why, "");
        let script = format!("rm -rf {WORK} && mkdir -p {WORK} && tar -C {WORK} -xof -");
        let mut ssh = self.helper.ssh(Tty::Never, &[&script])?;
        ssh.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = ssh.spawn().map_err(|e| fail(e.to_string()))?;
        let sent = child.stdin.take().map_or(Ok(()), |pipe| {
            let mut tar = tar::Builder::new(std::io::BufWriter::new(pipe));
            tar.append_dir_all(".", work)?;
            tar.into_inner()?.flush()
        });
        let run = child.wait_with_output().map_err(|e| fail(e.to_string()))?;
        if !run.status.success() {
            return Err(fail(String::from_utf8_lossy(&run.stderr).trim().to_owned()));
        }
        sent.map_err(|e| fail(e.to_string()))
    }

    /// The VM's name.
    pub fn name(&self) -> &str {
        self.helper.name()
    }

    /// The command that runs a step.
    ///
    /// # Errors
    /// If the VM is gone.
    pub fn step(&self, step: Step) -> Result<Command, Problem> {
        let proxies = self
            .host
            .proxies
            .iter()
            .map(|(name, value)| format!("{name}='{}' ", value.replace('\'', "'\\''")));
        let proxies: String = proxies.collect();
        let path = step_path(WORK, step);
        let script = format!("{proxies}ROOT=/ WORK={WORK} {MARK}=1 exec /bin/sh {path}");
        self.helper.ssh(Tty::Never, &[&script])
    }

    /// Ends what an interrupted step has left running, and waits until it is gone: the end of a
    /// connection ends nothing of what was begun through it.
    ///
    /// # Errors
    /// If something does not end, or the VM is gone.
    pub fn end_step(&self) -> Result<(), Problem> {
        self.helper.run(&end_script(MARK, "1")).map(drop)
    }

    /// An interactive shell.
    ///
    /// # Errors
    /// If the VM is gone.
    pub fn shell(&self) -> Result<Command, Problem> {
        self.helper.ssh(Tty::Auto, &[])
    }

    /// What a step has written into a file of the work's.
    ///
    /// # Errors
    /// If it cannot be fetched.
    pub fn output(&self, file: &str) -> Result<String, Problem> {
        self.helper.run(&format!("cat {WORK}/{file}"))
    }

    /// Shuts the VM down, takes its disk, and removes it.
    ///
    /// # Errors
    /// If it does not go down cleanly, or its disk cannot be taken.
    pub fn close(mut self) -> Result<(), Problem> {
        // In one connection, after which no other is made: the host's keys go.
        let last = format!("[ ! -f {WORK}/last.sh ] || . {WORK}/last.sh; rm -rf {WORK}; sync");
        self.helper.run(&last)?;
        self.helper.stop()?;
        let from = self.helper.disk().unwrap_or_default();
        let fail = |error: std::io::Error| {
            let what = format!("cannot take the disk {}", from.display());
            Problem::new(what, error.to_string(), "")
        };
        let _ = fs::remove_file(&self.disk);
        match fs::rename(&from, &self.disk) {
            // Another file system.
            Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
                copy_image(&from, &self.disk).map(drop).map_err(fail)
            }
            renamed => renamed.map_err(fail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_step_started_is_ended_and_nothing_else() {
        let value = format!("test-{}", std::process::id());
        let start = |mark: &str, script: &str| {
            let mut sh = Command::new("sh");
            sh.args(["-c", script]).env("A_STEP_OF_A_TEST", mark).stdout(Stdio::piped());
            sh.spawn().expect("sh")
        };
        // One in a session of its own, too, which no group would lead to.
        let script = "setsid sleep 600 & echo $!; exec sleep 600";
        let mut step = start(&value, script);
        let mut line = String::new();
        let said = step.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line).expect("a line");
        let mut other = start("other", "exec sleep 600");
        let script = end_script("A_STEP_OF_A_TEST", &value);
        let ended = Command::new("sh").args(["-c", &script]).status().expect("sh");
        assert!(ended.success());
        assert!(step.wait().expect("ended").code().is_none(), "by a signal");
        let state = fs::read_to_string(format!("/proc/{}/stat", line.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
        assert_eq!(other.try_wait().expect("asked"), None);
        other.kill().expect("killed");
        other.wait().expect("ended");
    }

    #[test]
    fn helpers_are_named_after_their_image() {
        let none = |_: &str| false;
        assert_eq!(name_for("build", "debian-12.8", &none), "build-debian-12-8");
        assert_eq!(name_for("test", "web", &|name| name == "test-web"), "test-web-2");
        assert!(name_for("build", &"x".repeat(63), &none).parse::<VmName>().is_ok());
    }
}
