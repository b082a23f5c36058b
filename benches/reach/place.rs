//! A place of its own for banger: state, sockets, settings; and the program in it.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use banger::{
    domain::{Layout, MonitorEvent, MonitorReply, MonitorRequest, MonitorStatus, VmId},
    host::dirs::{self, Env},
    session::wire::{self, FrameReader},
    store::Store,
};

use crate::Outcome;

/// The program that is measured.
pub const BANGER: &str = env!("CARGO_BIN_EXE_banger");

/// Directories that are removed at the end, with what still runs in them.
pub struct Place {
    /// Where banger keeps its things here.
    pub layout: Layout,
    root: PathBuf,
    path: OsString,
}

impl Place {
    /// Makes it. `name` tells places of one run apart.
    pub fn new(name: &str) -> Outcome<Self> {
        // Short: sockets are in it.
        let root = env::temp_dir().join(format!("banger-{name}-{}", std::process::id()));
        let env = Env {
            banger_state_dir: Some(root.join("state").into()),
            xdg_runtime_dir: Some(root.join("run").into()),
            ..Env::default()
        };
        let layout = dirs::resolve(&env)?;
        fs::create_dir_all(root.join("config"))?;
        fs::create_dir_all(root.join("run"))?;
        let path = env::var_os("PATH").unwrap_or_default();
        Ok(Self { layout, root, path })
    }

    /// A directory in it for what is done by hand.
    pub fn dir(&self, name: &str) -> Outcome<PathBuf> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Lets banger find programs in `dir` first.
    pub fn prefer(&mut self, dir: &Path) -> Outcome<()> {
        let all = [dir.to_owned()].into_iter().chain(env::split_paths(&self.path));
        self.path = env::join_paths(all)?;
        Ok(())
    }

    /// What banger's environment is to have here.
    pub fn env(&self) -> [(&'static str, OsString); 5] {
        [
            ("BANGER_STATE_DIR", self.layout.state.clone().into()),
            ("XDG_RUNTIME_DIR", self.root.join("run").into()),
            ("XDG_CONFIG_HOME", self.root.join("config").into()),
            ("BANGER_RUNTIME_DIR", runtime_dir().into()),
            ("PATH", self.path.clone()),
        ]
    }

    /// The program with these arguments.
    pub fn banger(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BANGER);
        command.args(args).envs(self.env());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs it; an error if it fails, with what it said.
    pub fn run(&self, args: &[&str]) -> Outcome<()> {
        let output = self.banger(args).stderr(Stdio::piped()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("banger {}: {}", args.join(" "), said.trim()).into())
    }

    /// The id of a VM.
    pub fn id(&self, name: &str) -> Outcome<VmId> {
        let store = Store::open(&self.layout.database())?;
        Ok(store.vm_named(&name.parse()?)?.ok_or("no such VM")?.id)
    }

    /// What a VM's monitor says of itself.
    pub fn status(&self, name: &str) -> Outcome<MonitorStatus> {
        let mut stream = UnixStream::connect(self.layout.vm(&self.id(name)?).monitor_socket())?;
        wire::write_control(&mut stream, &MonitorRequest::Watch)?;
        let mut frames = FrameReader::new(stream);
        let mut next = || frames.read_frame()?.ok_or("the monitor hung up".into());
        let reply: Outcome<_> = next();
        match reply?.message::<MonitorReply>()? {
            MonitorReply::Ok => {}
            MonitorReply::Denied { problem } => return Err(problem.into()),
        }
        let event: Outcome<_> = next();
        let MonitorEvent::Status { status } = event?.message()?;
        Ok(status)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let names: Vec<String> = Store::open(&self.layout.database())
            .and_then(|store| store.vms())
            .unwrap_or_default()
            .into_iter()
            .filter(banger::store::VmRow::run_is_open)
            .map(|row| row.spec.name.to_string())
            .collect();
        if !names.is_empty() {
            let args: Vec<&str> =
                ["kill"].into_iter().chain(names.iter().map(String::as_str)).collect();
            if let Err(error) = self.run(&args) {
                println!("{error}");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.root) {
            println!("{} stays: {error}", self.root.display());
        }
    }
}

/// The runtime directory: `BANGER_RUNTIME_DIR`, or the checkout's.
pub fn runtime_dir() -> PathBuf {
    env::var_os("BANGER_RUNTIME_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime"), PathBuf::from)
}
