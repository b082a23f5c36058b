//! `images`: what can be done with base images.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
