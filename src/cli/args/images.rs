//! `images`: what can be done with base images.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::image::import::Kind;

/// `images`.
#[derive(Debug, Args)]
pub struct Images {
    /// What to do; without it, `ls`.
    #[command(subcommand)]
    pub verb: Option<ImagesVerb>,
}

/// What to do with base images.
#[derive(Debug, Subcommand)]
pub enum ImagesVerb {
    /// List the images, and say which are stale
    #[command(visible_alias = "list")]
    Ls(ImagesLs),
    /// Show what is known of an image
    Show(ImagesShow),
    /// Show which image was made from which
    Tree,
    /// Remove images of your own from which no VM was made
    Rm(ImagesRm),
    /// Give an image of your own another name
    Rename(ImagesRename),
    /// Check the content of images against their checksums
    Verify(ImagesVerify),
    /// Write an image into one file that another banger can import
    Export(ImagesExport),
    /// Make an image from a file: an exported one, a disk, an archive, a container image
    Import(ImagesImport),
    /// Make an image from another, by a recipe: packages, files, users, a script
    Build(ImagesBuild),
    /// Build an image again, by the recipe it was built by
    Rebuild(ImagesRebuild),
    /// Open a shell in the image that is being built, or that waits at a failed step
    Shell(ImagesShell),
}

/// How an image is built.
#[derive(Debug, Args)]
pub struct How {
    /// Where the steps run [default: chroot as root, else vm]
    #[arg(long, value_enum)]
    pub engine: Option<EngineKind>,
    /// Publish it without booting a VM of it first
    #[arg(long)]
    pub no_test_boot: bool,
    /// Open a shell in it when its own steps are done
    #[arg(long, alias = "keep-going-shell")]
    pub shell: bool,
}

/// Where the steps of a build run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineKind {
    /// In a mounted copy of the base: fast, needs root
    Chroot,
    /// In a VM of the base, through SSH: any user
    Vm,
}

impl EngineKind {
    /// The word in options and in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Chroot => "chroot",
            Self::Vm => "vm",
        }
    }
}

/// `images build`.
#[derive(Debug, Args)]
pub struct ImagesBuild {
    /// The recipe, as docs/images.md describes it; - reads it from standard input
    pub recipe: PathBuf,
    /// Take the place of the image that has this name
    #[arg(long)]
    pub replace: bool,
    /// Do not ask before it begins
    #[arg(long, short)]
    pub yes: bool,
    /// Change nothing: say what would be done, and which packages would come and go
    #[arg(long)]
    pub dry_run: bool,
    /// Say that as JSON, as docs/cli.md describes it
    #[arg(long, requires = "dry_run")]
    pub json: bool,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// `images rebuild`.
#[derive(Debug, Args)]
pub struct ImagesRebuild {
    /// Its name
    pub name: String,
    /// Do not ask before it begins
    #[arg(long, short)]
    pub yes: bool,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// `images shell`.
#[derive(Debug, Args)]
pub struct ImagesShell {
    /// The image that is being built [default: the only one]
    pub name: Option<String>,
}

/// `images ls`.
#[derive(Debug, Default, Args)]
pub struct ImagesLs {
    /// Print JSON, as docs/cli.md describes it
    #[arg(long)]
    pub json: bool,
}

/// `images show`.
#[derive(Debug, Args)]
pub struct ImagesShow {
    /// Its name
    pub name: String,
    /// Print JSON, as docs/cli.md describes it
    #[arg(long)]
    pub json: bool,
}

/// `images rm`.
#[derive(Debug, Args)]
pub struct ImagesRm {
    /// Names of images
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `images rename`.
#[derive(Debug, Args)]
pub struct ImagesRename {
    /// Its name now
    pub name: String,
    /// Its new name
    #[arg(allow_hyphen_values = true)]
    pub new: String,
}

/// `images verify`.
#[derive(Debug, Args)]
pub struct ImagesVerify {
    /// Names of images [default: all]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// `images export`.
#[derive(Debug, Args)]
pub struct ImagesExport {
    /// Its name
    pub name: String,
    /// The file to make: a .tar.zst
    pub file: PathBuf,
}

/// `images import`.
#[derive(Debug, Args)]
pub struct ImagesImport {
    /// The file, or a directory with an OCI layout; its content says what it is
    pub file: PathBuf,
    /// Its name [default: what the file says, else the file's own name]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub name: Option<String>,
    /// Take the place of the image that has this name
    #[arg(long)]
    pub replace: bool,
    /// Memory a VM of it gets by default: 512, 512M, 2G (a bare number is MiB) [default: 512]
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Size of its file system: 4G [default: the source's, or its content's with room to work in]
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE")]
    pub size: Option<String>,
    /// What the source is to be read as: auto, raw, qcow2, tar, container
    #[arg(long, default_value = "auto", value_parser = kind)]
    pub kind: Kind,
}

fn kind(word: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| format!("use one of {}", Kind::ALL.map(Kind::word).join(", ")))
}
