//! Container images: which one, its layers in order.
//!
//! From the OCI image specification (image-layout, index, manifest, config, layer), and what
//! `docker save` wrote before it knew that.

use std::{
    collections::BTreeMap,
    env::consts::ARCH,
    io::{self, Read},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    Failure, Job,
    blobs::{Blob, Blobs},
    bootable::Container,
    job::Watched,
    layers::{self, LeftOut},
    stream,
    tree::Tree,
};
use crate::bundle::{self, is_sha256};

/// How deep an index may lead to an index.
const DEPTH_MAX: usize = 4;
/// The most layers: overlayfs takes 500, and nobody has more than half of its predecessor's 127.
const LAYERS_MAX: usize = 500;

/// What leads to a part.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// An image as the older `docker save` writes it down.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<Run>,
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Run {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// A container image that is to be unpacked.
pub struct Image {
    /// How it is called where it comes from, if it says.
    pub name: Option<String>,
    /// What it says of how it is run.
    pub container: Container,
    layers: Vec<(Blob, String)>,
}

/// The name of this kind of CPU there (GOARCH).
fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Finds the image for this kind of CPU, and checks the digest of every part of it.
///
/// # Errors
/// If there is none, or several; if a part is missing or another one.
pub fn open(job: &Job<'_>, blobs: &Blobs) -> Result<Image, Failure> {
    job.step("check digests", 0);
    if let Some(index) = blobs.get("index.json")? {
        return of_index(job, blobs, index.json("index.json")?);
    }
    let Some(saved) = blobs.get("manifest.json")? else {
        return Err(Failure::hinted(
            "it has neither an index.json nor a manifest.json",
            "give an OCI layout, or what `docker save` writes",
        ));
    };
    of_saved(job, blobs, saved.json("manifest.json")?)
}

fn of_index(job: &Job<'_>, blobs: &Blobs, index: Index) -> Result<Image, Failure> {
    let mut found = Vec::new();
    let mut others = Vec::new();
    collect(job, blobs, index, None, &mut found, &mut others, 0)?;
    found.sort_by(|a, b| a.1.digest.cmp(&b.1.digest));
    found.dedup_by(|a, b| a.1.digest == b.1.digest);
    let (name, descriptor) = match found.len() {
        1 => found.remove(0),
        0 => return Err(no_image(&others)),
        count => {
            let names: Vec<String> = found.into_iter().filter_map(|(name, _)| name).collect();
            return Err(several(count, &names));
        }
    };
    let manifest: Manifest = blobs.by_digest(job, &descriptor.digest)?.json("the manifest")?;
    let config: Config =
        blobs.by_digest(job, &manifest.config.digest)?.json("the configuration")?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        if layer.media_type.contains("encrypted") {
            return Err(Failure::hinted("a layer of it is encrypted", "decrypt the image first"));
        }
        layers.push(blobs.by_digest(job, &layer.digest)?);
    }
    image(name, config, layers)
}

/// The manifests of an index that this machine can run, and those of the indexes it leads to.
fn collect(
    job: &Job<'_>,
    blobs: &Blobs,
    index: Index,
    name: Option<&String>,
    found: &mut Vec<(Option<String>, Descriptor)>,
    others: &mut Vec<String>,
    depth: usize,
) -> Result<(), Failure> {
    if depth > DEPTH_MAX || index.manifests.len() > 1000 {
        return Err(Failure::broken("its index has no end"));
    }
    for descriptor in index.manifests {
        let own = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .iter()
            .find_map(|key| descriptor.annotations.get(*key));
        let name = own.or(name).cloned();
        if descriptor.media_type.contains("index")
            || descriptor.media_type.contains("manifest.list")
        {
            let inner: Index = blobs.by_digest(job, &descriptor.digest)?.json("an index")?;
            collect(job, blobs, inner, name.as_ref(), found, others, depth + 1)?;
            continue;
        }
        match &descriptor.platform {
            Some(platform) if platform.os != "linux" || platform.architecture != architecture() => {
                others.push(format!("{}/{}", platform.os, platform.architecture));
            }
            _ => found.push((name, descriptor)),
        }
    }
    Ok(())
}

fn no_image(others: &[String]) -> Failure {
    let here = architecture();
    let why = if others.is_empty() {
        "there is no image in it".to_owned()
    } else {
        format!("it is for {}, and this machine is linux/{here}", others.join(", "))
    };
    Failure::hinted(why, format!("save it for this machine: docker pull --platform linux/{here} …"))
}

fn several(count: usize, names: &[String]) -> Failure {
    let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
    Failure::hinted(format!("there are {count} images in it{names}"), "save the one alone")
}

fn of_saved(job: &Job<'_>, blobs: &Blobs, mut saved: Vec<Saved>) -> Result<Image, Failure> {
    let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
    let one = match saved.len() {
        1 => saved.remove(0),
        0 => return Err(no_image(&[])),
        count => return Err(several(count, &saved.iter().flat_map(tags).collect::<Vec<_>>())),
    };
    let missing = |what: &str| Failure::broken(format!("the part {what} is missing"));
    let config = blobs.get(&one.config)?.ok_or_else(|| missing(&one.config))?;
    // Its name is its digest; the layers' are in it.
    let file = one.config.rsplit('/').next().unwrap_or("");
    let hex = file.strip_suffix(".json").unwrap_or(file);
    if !is_sha256(hex) {
        return Err(Failure::broken("the name of its configuration is no digest"));
    }
    config.check(job, hex)?;
    let mut layers = Vec::new();
    for layer in &one.layers {
        layers.push(blobs.get(layer)?.ok_or_else(|| missing(layer))?);
    }
    let name = tags(&one).into_iter().next();
    image(name, config.json("the configuration")?, layers)
}

fn image(name: Option<String>, config: Config, layers: Vec<Blob>) -> Result<Image, Failure> {
    if (config.os.as_str(), config.architecture.as_str()) != ("linux", architecture()) {
        return Err(no_image(&[format!("{}/{}", config.os, config.architecture)]));
    }
    let ids = config.rootfs.diff_ids;
    if ids.len() != layers.len() || layers.is_empty() || layers.len() > LAYERS_MAX {
        return Err(Failure::broken(format!(
            "it has {} layers, and digests of {}",
            layers.len(),
            ids.len()
        )));
    }
    let run = config.config.unwrap_or_default();
    let command = run.entrypoint.into_iter().chain(run.cmd).flatten().collect();
    Ok(Image {
        name,
        container: Container { env: run.env.unwrap_or_default(), command },
        layers: layers.into_iter().zip(ids).collect(),
    })
}

impl Image {
    /// Applies its layers to a tree, and checks each one's digest as unpacked.
    ///
    /// # Errors
    /// If one is damaged, another one, or leads out.
    pub fn unpack(
        &self,
        job: &Job<'_>,
        tree: &mut Tree,
        left_out: &mut LeftOut,
    ) -> Result<(), Failure> {
        job.step("unpack", self.layers.iter().map(|(blob, _)| blob.length).sum());
        for (index, (blob, id)) in self.layers.iter().enumerate() {
            tree.next_layer();
            let unpacked = stream::unpacked(Watched::new(blob.reader()?, job))?;
            let mut hashed = Hashed { inner: unpacked, hash: Sha256::new() };
            layers::apply(job, tree, &mut hashed, true, left_out)
                .map_err(|failure| failure.about(format!("layer {}", index + 1)))?;
            let is = format!("sha256:{}", bundle::hex(&hashed.hash.finalize()));
            if is != *id {
                return Err(Failure::broken(format!(
                    "layer {} is another one: {is} and not {id}",
                    index + 1
                )));
            }
        }
        Ok(())
    }
}

/// A reader that makes the digest of what is read.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
