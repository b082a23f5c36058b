//! The layout on disk: names only, nothing is touched here.

use std::path::{Path, PathBuf};

use super::VmId;

/// The longest path a UNIX socket can have: `sun_path` is 108 bytes with its NUL (unix(7)).
pub const SOCKET_PATH_MAX: usize = 107;

/// Where everything of the user's lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `$XDG_STATE_HOME/banger`, or `BANGER_STATE_DIR`: what must survive a reboot.
    pub state: PathBuf,
    /// `$XDG_RUNTIME_DIR/banger`, `/run/banger` for root, and beside that for other homes of the
    /// user: sockets and locks.
    pub run: PathBuf,
}

impl Layout {
    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state.join("banger.db")
    }

    /// The user's own key pair: `ssh/id_ed25519` and `.pub`.
    #[must_use]
    pub fn ssh_key(&self) -> PathBuf {
        self.state.join("ssh/id_ed25519")
    }

    /// The keys that all VMs get beside that, a line each; not there if there are none.
    #[must_use]
    pub fn extra_keys(&self) -> PathBuf {
        self.state.join("ssh/extra_keys")
    }

    /// The user's images: a directory each, by name, with what is known of it.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }

    /// The wizard's draft of a recipe, kept until it is built or thrown away.
    #[must_use]
    pub fn draft(&self) -> PathBuf {
        self.state.join("recipe.draft.toml")
    }

    /// Recipes on their way to a build, by the name of the image; an image keeps its own.
    #[must_use]
    pub fn recipes(&self) -> PathBuf {
        self.state.join("recipes")
    }

    /// The content of an image of the user's, or of a base that disks are snapshots of, by its
    /// SHA-256.
    #[must_use]
    pub fn base(&self, sha256: &str) -> PathBuf {
        self.state.join("bases").join(sha256)
    }

    /// Held by whoever makes or removes a base.
    #[must_use]
    pub fn bases_lock(&self) -> PathBuf {
        self.run.join("bases.lock")
    }

    /// Held by whoever makes or removes what all VMs share on the host.
    #[must_use]
    pub fn host_lock(&self) -> PathBuf {
        self.run.join("host.lock")
    }

    /// Held by the monitor that answers for the names of all.
    #[must_use]
    pub fn names_lock(&self) -> PathBuf {
        self.run.join("names.lock")
    }

    /// What a VM keeps: disk and logs.
    #[must_use]
    pub fn vm(&self, id: &VmId) -> VmPaths {
        let dir = self.state.join("vms").join(id.as_str());
        VmPaths { run: self.run.join(id.as_str()), dir }
    }

    /// The log of the TUI and of scripts.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.state.join("banger.log")
    }
}

/// Where everything of one VM lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPaths {
    dir: PathBuf,
    run: PathBuf,
}

impl VmPaths {
    /// Its directory below the state directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its root disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.dir.join("root.img")
    }

    /// What its disk has of its own, if that is a snapshot.
    #[must_use]
    pub fn cow(&self) -> PathBuf {
        self.dir.join("root.cow")
    }

    /// A new root disk, until it is whole and takes the place of the old one.
    #[must_use]
    pub fn new_disk(&self) -> PathBuf {
        self.dir.join("root.new.img")
    }

    /// The same of [`VmPaths::cow`].
    #[must_use]
    pub fn new_cow(&self) -> PathBuf {
        self.dir.join("root.new.cow")
    }

    /// Keys that may log in beside the user's own, a line each; not there if there are none.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// What cloud-init in it reads; not there if nothing was given.
    #[must_use]
    pub fn user_data(&self) -> PathBuf {
        self.dir.join("user-data")
    }

    /// The drive with its user data, made at each start.
    #[must_use]
    pub fn seed(&self) -> PathBuf {
        self.dir.join("seed.iso")
    }

    /// Its own initrd, made at each start of a VM that has more keys.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("initrd.cpio")
    }

    /// The jail of its VMM, while it runs in one.
    #[must_use]
    pub fn jail(&self) -> PathBuf {
        self.dir.join("jail")
    }

    /// What the guest wrote to its serial console; `.1` is the one before.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// What the monitor has to say.
    #[must_use]
    pub fn monitor_log(&self) -> PathBuf {
        self.dir.join("monitor.log")
    }

    /// The host keys SSH has seen of this VM.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// Its directory below the runtime directory of the user: sockets.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// Held (flock) by the monitor while the VM runs: the truth about "running".
    ///
    /// Beside the run directory, not in it: whoever clears up the directory holds this.
    #[must_use]
    pub fn run_lock(&self) -> PathBuf {
        self.run.with_extension("lock")
    }

    /// Held (flock) by whoever changes the VM.
    #[must_use]
    pub fn change_lock(&self) -> PathBuf {
        self.run.with_extension("change")
    }

    /// The monitor's socket.
    #[must_use]
    pub fn monitor_socket(&self) -> PathBuf {
        self.run.join("monitor.sock")
    }

    /// The VMM's control socket.
    #[must_use]
    pub fn vmm_socket(&self) -> PathBuf {
        self.run.join("vmm.sock")
    }
}
