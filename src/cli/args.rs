//! The command line: what can be typed.

mod images;

use std::{ffi::OsString, num::NonZeroU64, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::domain::{NamesSettings, NetworkKind, VmId, VmmKind};

pub use images::{
    EngineKind, How, Images, ImagesBuild, ImagesExport, ImagesImport, ImagesLs, ImagesRebuild,
    ImagesRename, ImagesRm, ImagesShell, ImagesShow, ImagesVerb, ImagesVerify,
};

const EXAMPLES: &str = "\
Examples:
  banger                                   open the full-screen program
  banger create web --start --wait         a new machine, waiting until SSH answers
  banger ssh web -- uname -a               run a command in it; its exit code is banger's
  banger stop web db                       several names at once
  banger ls --json                         for scripts; docs/cli.md has the schema

Exit codes: 0 all went well, 1 something failed, 2 wrong usage; `banger ssh` gives those of ssh.";

/// Real Linux machines at the speed of a keystroke. Without a verb, the full-screen program.
#[derive(Debug, Parser)]
#[command(name = "banger", version, about, after_help = EXAMPLES, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Bring back the VMs that ran when the host went down and those marked for it; a line per VM
    #[arg(long)]
    pub restore: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do without the full-screen program.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the VMs
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Make a VM
    Create(Create),
    /// Start VMs
    Start(Start),
    /// Shut VMs down: politely first, then less so, until they are off
    Stop(Names),
    /// Switch VMs off at once; what the guests have not written to disk is lost
    Kill(Names),
    /// Shut VMs down and start them again
    Restart(Start),
    /// Let VMs stand still: their CPUs stop, their memory stays
    Pause(Names),
    /// Let paused VMs go on
    Resume(Names),
    /// Remove VMs and their disks
    Rm(Rm),
    /// Give a VM another name; the guest takes it at its next start
    Rename(Rename),
    /// Make the disk of a VM larger; the guest has it at its next start
    Resize(Resize),
    /// Open a shell in a VM, or run a command in it, through SSH
    Ssh(Ssh),
    /// Attach to a VM's serial console; Ctrl-] leaves
    Console(Console),
    /// Show what a VM wrote to its serial console
    Logs(Logs),
    /// Make the disks of VMs anew from their images; name, address and settings stay
    Recreate(Recreate),
    /// The base images: those of the runtime directory, and your own
    Images(Images),
    /// The runtime directory: what banger needs to run VMs
    Runtime(Runtime),
    /// Check this host and say what to do about what is wrong
    Doctor(Doctor),
    /// Show what banger did to this host lately, as commands that can be copied
    Ran(Ran),
    /// Give the VMs other addresses, if something else on this host uses theirs now
    Renumber,
    /// The root helper, with which a normal user has what needs privileges
    Helper(Helper),
    /// Print what makes a shell complete banger's verbs, and names of machines
    Completions(Completions),
    /// Install and remove this very program, and tell names to shells: for the Makefile, packages
    /// and completions.
    #[command(hide = true, name = "self")]
    Itself(Itself),
    /// The root helper's own process: started by systemd, or by hand with sudo.
    #[command(hide = true)]
    HostHelper(HostHelper),
    /// Hold a mounted image while it is customized: started by banger itself, of no use by hand.
    #[command(hide = true)]
    OwnRoot(OwnRoot),
    /// Own one running VM: started by banger itself, of no use by hand.
    #[command(hide = true)]
    Monitor(Monitor),
}

/// `own-root`.
#[derive(Debug, Args)]
pub struct OwnRoot {
    /// The disk image
    pub disk: PathBuf,
    /// Where it is mounted
    pub at: PathBuf,
    /// The directory of work
    pub work: PathBuf,
}

/// `monitor`: all of it explicit, as it must not depend on where it is started.
#[derive(Debug, Args)]
pub struct Monitor {
    /// The VM
    pub vm: VmId,
    /// The state directory
    #[arg(long)]
    pub state: PathBuf,
    /// The directory of sockets and locks
    #[arg(long)]
    pub run: PathBuf,
    /// The runtime directory
    #[arg(long)]
    pub runtime: PathBuf,
    /// What runs the VM
    #[arg(long, value_parser = vmm)]
    pub vmm: VmmKind,
    /// How it reaches the world
    #[arg(long, value_parser = network)]
    pub network: NetworkKind,
    /// Whether Firecracker runs in its jailer [default: if it can]
    #[arg(long)]
    pub jailer: Option<bool>,
    /// How names are made known, as JSON
    #[arg(long, value_parser = names)]
    pub names: NamesSettings,
    /// Milliseconds the guest is given when the host shuts down
    #[arg(long)]
    pub stop_timeout_ms: u64,
}

fn vmm(word: &str) -> Result<VmmKind, String> {
    let found = VmmKind::ALL.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| format!("“{word}” is no VMM"))
}

fn names(json: &str) -> Result<NamesSettings, String> {
    serde_json::from_str(json).map_err(|e| e.to_string())
}

fn seconds(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| "it is a number of seconds, 1 or more".to_owned())
}

fn network(word: &str) -> Result<NetworkKind, String> {
    let found = NetworkKind::ALL.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| format!("“{word}” is no kind of network"))
}

/// `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Print JSON, as docs/cli.md describes it
    #[arg(long)]
    pub json: bool,
}

/// `create`. The fields are texts: they are checked together, to name all problems at once.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name and host name: a-z, 0-9 and -, at most 63
    #[arg(allow_hyphen_values = true)]
    pub name: String,
    /// Base image [default: the configuration's, else the first there is]
    #[arg(long)]
    pub image: Option<String>,
    /// Virtual CPUs, 1 to 32
    #[arg(long, allow_hyphen_values = true, value_name = "N")]
    pub vcpus: Option<String>,
    /// Memory: 512, 512M, 2G (a bare number is MiB) [default: the image's]
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Size of the root disk: 4G [default: the image's]
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE")]
    pub disk: Option<String>,
    /// What runs it: firecracker, qemu-kvm, qemu-tcg [default: auto, the host's best at each start]
    #[arg(long, value_name = "VMM")]
    pub vmm: Option<String>,
    /// How it reaches the world: tap, user [default: auto, the host's best at each start]
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// How its disk shares the image's data: dm-snapshot, reflink, sparse-copy [default: auto]
    #[arg(long, value_name = "OVERLAY")]
    pub overlay: Option<String>,
    /// A file of public SSH keys that may log in too; can be given several times
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// User data for cloud-init, for an image that has it: at most 64 KiB
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// `banger --restore` starts it even if it was off
    #[arg(long)]
    pub restore_at_login: bool,
    /// Start it when it is made
    #[arg(long)]
    pub start: bool,
    /// How long to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// Whether to wait for SSH.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Wait {
    /// Wait until SSH answers, at most SECONDS
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "300",
        value_parser = seconds
    )]
    pub wait: Option<NonZeroU64>,
}

/// `start` and `restart`.
#[derive(Debug, Args)]
pub struct Start {
    /// Names of VMs
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// How long to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// `stop`, `kill`, `pause` and `resume`.
#[derive(Debug, Args)]
pub struct Names {
    /// Names of VMs
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// `rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Names of VMs
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Also those that run: they are switched off at once, as their disks go too
    #[arg(long, short)]
    pub force: bool,
}

/// `recreate`.
#[derive(Debug, Args)]
pub struct Recreate {
    /// Names of VMs, all of them off
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `rename`.
#[derive(Debug, Args)]
pub struct Rename {
    /// Its name now
    pub name: String,
    /// Its new name
    #[arg(allow_hyphen_values = true)]
    pub new: String,
}

/// `resize`.
#[derive(Debug, Args)]
pub struct Resize {
    /// Name of the VM
    pub name: String,
    /// The disk's new size: 8G, 8192M or 8192; never less than it has
    #[arg(allow_hyphen_values = true)]
    pub size: String,
}

/// `ssh`.
#[derive(Debug, Args)]
pub struct Ssh {
    /// Name of the VM
    pub name: String,
    /// What to run instead of a shell; as with ssh, the guest's shell reads it once more
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `console`.
#[derive(Debug, Args)]
pub struct Console {
    /// Name of the VM
    pub name: String,
    /// Let through what could reach beyond the screen: titles, clipboard, window commands
    #[arg(long)]
    pub raw: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Name of the VM
    pub name: String,
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
    /// The bytes as the guest wrote them, control sequences included
    #[arg(long)]
    pub raw: bool,
}

/// `runtime`.
#[derive(Debug, Args)]
pub struct Runtime {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: RuntimeVerb,
}

/// What to do with the runtime directory.
#[derive(Debug, Subcommand)]
pub enum RuntimeVerb {
    /// Make or complete it: kernel, initrd, base images, Firecracker
    Bootstrap {
        /// A banger-init binary to put into the initrd [default: the one beside banger]
        #[arg(long, value_name = "PATH")]
        init: Option<PathBuf>,
        /// Where [default: the runtime directory, see docs/cli.md]
        #[arg(long)]
        dir: Option<PathBuf>,
        /// A published bundle to install: an address or a file
        #[arg(long, value_name = "FILE|URL", conflicts_with = "assemble")]
        bundle: Option<String>,
        /// SHA-256 of that bundle; a file does without
        #[arg(long, value_name = "HEX", requires = "bundle")]
        sha256: Option<String>,
        /// Another manifest than the one banger was built with
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// Make the parts here, even if a bundle is published
        #[arg(long)]
        assemble: bool,
    },
    /// Fetch a newer kernel, if apt has one; VMs use it from their next start
    Update {
        /// A banger-init binary to put into the initrd [default: the one beside banger]
        #[arg(long, value_name = "PATH")]
        init: Option<PathBuf>,
        /// Where [default: the runtime directory, see docs/cli.md]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Go back to the runtime directory before the last bootstrap or update that changed it
    Rollback {
        /// Where [default: the runtime directory, see docs/cli.md]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Show where it is, what is in it, what is missing, and whether there is a newer kernel
    Status {
        /// Print JSON, as docs/cli.md describes it
        #[arg(long)]
        json: bool,
        /// Where [default: the runtime directory, see docs/cli.md]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Pack it into one archive that others can bootstrap from
    Package {
        /// The archive to write, as in banger-runtime-x86_64.tar.zst
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Put this machine's QEMU into it, for hosts without one
        #[arg(long)]
        with_qemu: bool,
        /// Where it will be published, for the lines that are printed
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// Where [default: the runtime directory, see docs/cli.md]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Check every file of it against the checksums in its bundle.json
    Verify {
        /// Where [default: the runtime directory, see docs/cli.md]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Copy it to PREFIX/lib/banger, for all users of a banger that is installed there
    Install {
        /// Where to.
        #[command(flatten)]
        at: Place,
        /// Which one to copy [default: the runtime directory, see docs/cli.md]
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// `self`.
#[derive(Debug, Args)]
pub struct Itself {
    /// What to do.
    #[command(subcommand)]
    pub verb: ItselfVerb,
}

/// What banger does for the Makefile, packages and completions.
#[derive(Debug, Subcommand)]
pub enum ItselfVerb {
    /// Install this program, and what goes with it but the runtime directory
    Install {
        /// Where.
        #[command(flatten)]
        at: Place,
        /// The guest's init, which a bootstrap needs
        #[arg(long, value_name = "PATH")]
        init: PathBuf,
        /// The checkout, for the documents in it
        #[arg(long, value_name = "DIR")]
        checkout: Option<PathBuf>,
    },
    /// Remove what was installed, and no more
    Uninstall {
        /// Where.
        #[command(flatten)]
        at: Place,
    },
    /// Print the names that there are, one a line
    Names {
        /// Of what
        kind: NameKind,
    },
    /// Have the VMs of this service shut down, as the host would, until the next restore
    Rest,
}

/// Where something is installed.
#[derive(Debug, Args)]
pub struct Place {
    /// Where banger is to run
    #[arg(long, value_name = "PREFIX", default_value = "/usr/local")]
    pub prefix: PathBuf,
    /// What comes before PREFIX now, while packaging
    #[arg(long, value_name = "DIR")]
    pub destdir: Option<PathBuf>,
}

/// What has names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NameKind {
    /// VMs
    Vms,
    /// Images
    Images,
}

impl NameKind {
    /// As on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vms => "vms",
            Self::Images => "images",
        }
    }
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON, as docs/cli.md describes it
    #[arg(long)]
    pub json: bool,
    /// Remove what is left over on the host, after showing it
    #[arg(long, conflicts_with = "json")]
    pub clean: bool,
    /// Do not ask before that
    #[arg(long, short, requires = "clean")]
    pub yes: bool,
}

/// `ran`.
#[derive(Debug, Args)]
pub struct Ran {
    /// How many, the newest; at most 5000 are kept
    #[arg(default_value_t = 50, value_name = "N")]
    pub count: u32,
    /// Print JSON, as docs/cli.md describes it
    #[arg(long)]
    pub json: bool,
}

/// `helper`.
#[derive(Debug, Args)]
pub struct Helper {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: HelperVerb,
}

/// What to do with the root helper.
#[derive(Debug, Subcommand)]
pub enum HelperVerb {
    /// Install it, as root: a copy of banger, two units of systemd, and who may use it
    Install {
        /// Who may use it [default: the user who called sudo]
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Remove it, as root
    Uninstall {
        /// Also while VMs of somebody's still need it to be cleaned up after
        #[arg(long)]
        force: bool,
    },
    /// Say whether it is there and would do something for you
    Status,
}

/// `host-helper`.
#[derive(Debug, Args)]
pub struct HostHelper {
    /// Listen here instead of at the socket that systemd passes
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// A user's number, who may use it; then /etc/banger/helper.allow does not count
    #[arg(long, value_name = "UID")]
    pub allow: Vec<u32>,
    /// Where to remember whose things are whose [default: /var/lib/banger-helper/tags]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_minus_reaches_the_checks_of_the_field() {
        let cli = parse("banger create web --memory -1 --vcpus -2 --disk -3").unwrap();
        let Some(Verb::Create(create)) = cli.verb else { panic!("{cli:?}") };
        assert_eq!(create.memory.as_deref(), Some("-1"));
        assert_eq!(create.vcpus.as_deref(), Some("-2"));
        assert_eq!(create.disk.as_deref(), Some("-3"));
    }

    #[test]
    fn wait_takes_no_name_for_seconds() {
        let cli = parse("banger start --wait web db").unwrap();
        let Some(Verb::Start(start)) = cli.verb else { panic!("{cli:?}") };
        assert_eq!(start.names, ["web", "db"]);
        assert_eq!(start.wait.wait.map(NonZeroU64::get), Some(300));
        let cli = parse("banger start web --wait=5").unwrap();
        let Some(Verb::Start(start)) = cli.verb else { panic!("{cli:?}") };
        assert_eq!(start.wait.wait.map(NonZeroU64::get), Some(5));
        for wrong in ["0", "soon", "-1", ""] {
            let error = parse(&format!("banger start web --wait={wrong}")).unwrap_err();
            assert!(error.to_string().contains("number of seconds"), "{error}");
        }
    }

    #[test]
    fn a_command_for_ssh_keeps_its_options() {
        for line in ["banger ssh web -- ls -la --color", "banger ssh web ls -la --color"] {
            let cli = parse(line).unwrap();
            let Some(Verb::Ssh(ssh)) = cli.verb else { panic!("{cli:?}") };
            assert_eq!(ssh.command, ["ls", "-la", "--color"], "{line}");
        }
    }

    #[test]
    fn no_name_and_an_unknown_verb_are_errors() {
        for bad in ["banger start", "banger rm", "banger frobnicate", "banger --restore ls"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let error = parse("banger strat web").unwrap_err().to_string();
        assert!(error.contains("start"), "{error}");
    }
}
