//! `banger images`: looking at them, and changing one's own.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    Connect,
    args::{ImagesLs, ImagesRename, ImagesRm, ImagesShow, ImagesVerb, ImagesVerify},
    build,
    exit::{self, Failure, Outcome},
    find, images_import,
    ls::{duration, layout},
    machines, out,
    runtime::cancel_on_signal,
    setup::Setup,
};
use crate::{
    bundle::{self, Bundle},
    domain::{
        ByteSize, CommandBody, ImageName, ImageOrigin, ImageView, Problem, Recipe, StaleReason,
    },
    host::fault,
    image::{Catalog, lineage},
    store::Store,
    supervisor::{self, Origin},
};

/// The version of the JSON that `ls` and `show` print.
const VERSION: u32 = 1;

/// At most this often is progress told.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// Carries out a verb; without one, `ls`.
///
/// # Errors
/// What is to be told the user.
pub fn run(verb: Option<&ImagesVerb>, connect: Connect) -> Outcome {
    let setup = Setup::for_verb(Origin::Script)?;
    let catalog = supervisor::catalog(&setup.options);
    fault::arm("ui");
    match verb.unwrap_or(&ImagesVerb::Ls(ImagesLs::default())) {
        ImagesVerb::Ls(ls) => list(ls, &catalog, &setup),
        ImagesVerb::Show(show) => one(show, &catalog),
        ImagesVerb::Tree => tree(&catalog),
        ImagesVerb::Rm(rm) => remove(rm, &catalog, connect, &setup),
        ImagesVerb::Rename(rename) => rename_one(rename, connect, &setup),
        ImagesVerb::Verify(verify) => verify_all(verify, &catalog),
        ImagesVerb::Export(export) => images_import::export(export, &catalog),
        ImagesVerb::Import(import) => images_import::import(import, &catalog),
        ImagesVerb::Build(args) => build::build(args, &catalog, connect, &setup),
        ImagesVerb::Rebuild(args) => build::rebuild(args, &catalog, connect, &setup),
        ImagesVerb::Shell(args) => build::shell(args, connect, &setup),
    }
}

/// An image in JSON.
#[derive(Debug, Serialize)]
struct Image<'a> {
    name: &'a str,
    about: &'a str,
    origin: &'static str,
    sha256: &'a str,
    size_bytes: u64,
    used_bytes: Option<u64>,
    default_memory_mib: u64,
    parent: Option<&'a str>,
    built_ms: Option<u64>,
    took_ms: Option<u64>,
    packages_sha256: Option<&'a str>,
    /// Whether it has cloud-init; null if nobody knows.
    cloud_init: Option<bool>,
    stale: Vec<Stale<'a>>,
    /// Names of VMs that were made from an image of this name.
    vms: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Stale<'a> {
    text: String,
    #[serde(flatten)]
    reason: &'a StaleReason,
}

#[derive(Debug, Serialize)]
struct List<'a> {
    version: u32,
    images: Vec<Image<'a>>,
}

/// An image with all that is known of it.
#[derive(Debug, Serialize)]
struct Detail<'a> {
    version: u32,
    #[serde(flatten)]
    image: Image<'a>,
    parent_sha256: Option<String>,
    /// The manifest it was built from, and the one it would be built from now.
    manifest: Option<Vec<String>>,
    wanted_manifest: Option<Vec<String>>,
    /// What is installed in it.
    packages: Vec<String>,
    steps: BTreeMap<String, String>,
    source: String,
    kernel: Option<String>,
    recipe: Option<Recipe>,
}

/// VMs by the name of their image.
type Users = BTreeMap<String, Vec<String>>;

fn users(catalog: &Catalog) -> Result<Users, Problem> {
    let mut users = Users::new();
    for row in Store::open(&catalog.layout().database())?.vms()? {
        users.entry(row.spec.image).or_default().push(row.spec.name.to_string());
    }
    Ok(users)
}

fn json<'a>(view: &'a ImageView, users: &Users) -> Image<'a> {
    let stale = |reason: &'a StaleReason| Stale { text: reason.to_string(), reason };
    Image {
        name: &view.name,
        about: &view.about,
        origin: view.origin.word(),
        sha256: &view.sha256,
        size_bytes: view.size,
        used_bytes: view.used,
        default_memory_mib: view.default_memory_mib,
        parent: view.parent.as_deref(),
        built_ms: view.built.map(|at| at.0),
        took_ms: view.took_ms,
        packages_sha256: view.packages_sha256.as_deref(),
        cloud_init: view.cloud_init,
        stale: view.stale.iter().map(stale).collect(),
        vms: users.get(&view.name).cloned().unwrap_or_default(),
    }
}

fn print_json(value: &impl Serialize) -> Outcome {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Failure::from(io::Error::from(e)))?;
    out::line(text)?;
    Ok(exit::OK)
}

fn list(ls: &ImagesLs, catalog: &Catalog, setup: &Setup) -> Outcome {
    let views = catalog.list();
    let users = users(catalog)?;
    if ls.json {
        let images = views.iter().map(|view| json(view, &users)).collect();
        return print_json(&List { version: VERSION, images });
    }
    tell_bad_manifests(catalog, &views);
    let mut broken: Vec<_> = catalog.broken().into_iter().map(|(_, problem)| problem).collect();
    if catalog.bundle().is_none()
        && let Ok(located) = bundle::locate(&setup.options.runtime_dir)
    {
        broken.extend(Bundle::open(&located.dir).err());
    }
    for problem in &broken {
        out::error(problem);
    }
    if views.is_empty() {
        out::progress("no images yet: `banger runtime bootstrap` makes the first");
        return Ok(exit::OK);
    }
    for line in layout(&rows(&views, &users)) {
        out::line(line)?;
    }
    for view in &views {
        for reason in &view.stale {
            out::progress(&format!("{}*: {reason}", view.name));
        }
    }
    Ok(if broken.is_empty() { exit::OK } else { exit::FAILED })
}

/// What is said of an image that has the name of the one it was made from.
const IN_PLACE: &str = "  in the place of the runtime directory's";

const COLUMNS: usize = 7;
const HEADER: [&str; COLUMNS] = ["NAME", "ORIGIN", "FROM", "SIZE", "USED", "AGE", "VMS"];

fn rows(views: &[ImageView], users: &Users) -> Vec<[String; COLUMNS]> {
    let now = super::now();
    let dash = || "-".to_owned();
    let row = |view: &ImageView| {
        [
            name(view),
            view.origin.word().to_owned(),
            view.parent.clone().unwrap_or_else(dash),
            ByteSize(view.size).to_string(),
            view.used.map_or_else(dash, |used| ByteSize(used).to_string()),
            view.built.map_or_else(dash, |at| duration(now.since(at))),
            users.get(&view.name).map_or(0, Vec::len).to_string(),
        ]
    };
    let header = HEADER.map(str::to_owned);
    std::iter::once(header).chain(views.iter().map(row)).collect()
}

/// The name; with an asterisk if the image is stale.
fn name(view: &ImageView) -> String {
    format!("{}{}", view.name, if view.stale.is_empty() { "" } else { "*" })
}

/// A manifest of the user's that cannot be used is no reason to show nothing.
fn tell_bad_manifests(catalog: &Catalog, views: &[ImageView]) {
    for problem in views.iter().filter_map(|view| catalog.wanted(&view.name).err()) {
        out::error(&problem);
    }
}

/// Said of an imported image without a list of packages.
const NO_PACKAGES: &str = "not known: it has no list of dpkg's or apk's";

fn cloud_init(view: &ImageView) -> &'static str {
    match view.cloud_init {
        Some(true) => "yes: it reads user data (`banger create --user-data`)",
        Some(false) => "no: user data would not be read",
        None => "not known",
    }
}

fn find<'a>(
    views: &'a [ImageView],
    name: &str,
    catalog: &Catalog,
) -> Result<&'a ImageView, Problem> {
    views.iter().find(|view| view.name == name).ok_or_else(|| {
        let broken = catalog.broken().into_iter().find(|(of, _)| of.as_str() == name);
        if let Some((_, problem)) = broken {
            return problem;
        }
        let why = find::instead(name, views.iter().map(|view| view.name.as_str()), "images");
        let name: String = name.chars().take(80).collect();
        Problem::new(format!("there is no image “{name}”"), why, "`banger images` lists them")
    })
}

fn one(show: &ImagesShow, catalog: &Catalog) -> Outcome {
    let views = catalog.list();
    let view = find(&views, &show.name, catalog)?;
    let users = users(catalog)?;
    let metadata = catalog.metadata(&view.name).unwrap_or_default();
    let wanted = catalog.wanted(&view.name);
    let built = catalog.built_packages(&view.name);
    let words = |manifest: &crate::image::PackageManifest| {
        manifest.names().map(str::to_owned).collect::<Vec<_>>()
    };
    if show.json {
        return print_json(&Detail {
            version: VERSION,
            image: json(view, &users),
            parent_sha256: metadata.parent.map(|parent| parent.sha256),
            manifest: built.as_ref().map(words),
            wanted_manifest: wanted?.as_ref().map(words),
            packages: metadata.packages,
            steps: metadata.steps,
            source: metadata.source,
            kernel: metadata.kernel,
            recipe: catalog.recipe(&view.name),
        });
    }
    let mut lines = vec![
        ("name", view.name.clone()),
        ("about", view.about.clone()),
        ("origin", view.origin.word().to_owned()),
        ("from", view.parent.clone().unwrap_or_default()),
        ("source", metadata.source),
        ("size", ByteSize(view.size).to_string()),
        ("used", view.used.map(|used| ByteSize(used).to_string()).unwrap_or_default()),
        ("memory", format!("{} MiB", view.default_memory_mib)),
        ("sha256", view.sha256.clone()),
        ("age", view.built.map(|at| duration(super::now().since(at))).unwrap_or_default()),
        ("took", view.took_ms.map(duration).unwrap_or_default()),
        ("manifest", built.as_ref().map(|m| words(m).join(" ")).unwrap_or_default()),
        (
            "packages",
            if metadata.packages.is_empty() {
                match view.origin {
                    ImageOrigin::Imported => NO_PACKAGES.to_owned(),
                    _ => String::new(),
                }
            } else {
                format!("{} installed (`--json` lists them)", metadata.packages.len())
            },
        ),
        ("cloud-init", cloud_init(view).to_owned()),
        ("steps", metadata.steps.into_keys().collect::<Vec<_>>().join(" ")),
        ("kernel", metadata.kernel.unwrap_or_default()),
        ("VMs", users.get(&view.name).cloned().unwrap_or_default().join(" ")),
    ];
    lines.extend(view.stale.iter().map(|reason| ("stale", reason.to_string())));
    for (word, text) in lines.into_iter().filter(|(_, text)| !text.is_empty()) {
        out::line(format!("{word:<9} {text}"))?;
    }
    if let Err(problem) = wanted {
        out::error(&problem);
    }
    Ok(exit::OK)
}

fn tree(catalog: &Catalog) -> Outcome {
    let views = catalog.list();
    for branch in lineage::tree(&views) {
        let lines = branch.lines;
        match branch.image {
            Some(view) => {
                let stale: Vec<String> = view.stale.iter().map(ToString::to_string).collect();
                let why = if stale.is_empty() {
                    String::new()
                } else {
                    format!("  ({})", stale.join("; "))
                };
                let place = if view.is_shadow() { IN_PLACE } else { "" };
                out::line(format!("{lines}{}{place}{why}", name(view)))?;
            }
            None => out::line(format!("{lines}{}  (gone)", branch.name))?,
        }
    }
    Ok(exit::OK)
}

fn parsed(name: &str) -> Result<ImageName, Failure> {
    let shown: String = name.chars().take(80).collect();
    Ok(name.parse().map_err(|e: crate::domain::BadImageName| {
        Problem::new(format!("“{shown}” names no image"), e.to_string(), "choose another name")
    })?)
}

fn remove(rm: &ImagesRm, catalog: &Catalog, connect: Connect, setup: &Setup) -> Outcome {
    let views = catalog.list();
    let mut all_well = true;
    let mut doomed = Vec::new();
    for name in &rm.names {
        match find(&views, name, catalog) {
            Ok(_) if doomed.contains(name) => {}
            Ok(_) => doomed.push(name.clone()),
            // What cannot be read can be removed.
            Err(problem) if name.parse().is_ok_and(|name| catalog.has(&name)) => {
                if !doomed.contains(name) {
                    out::note(&format!("{name}: {}", problem.why));
                    doomed.push(name.clone());
                }
            }
            Err(problem) => {
                all_well = false;
                out::error(&problem);
            }
        }
    }
    if !rm.yes && !doomed.is_empty() {
        let names = doomed.join(" ");
        if !machines::can_ask() {
            return Err(Failure::Usage(Problem::new(
                format!("will not remove the images {names}"),
                "there is no terminal to ask on",
                format!("banger images rm --yes {names}"),
            )));
        }
        machines::ask(&format!("Remove the image {names}?"))?;
    }
    let mut client = connect(setup)?;
    client.loaded()?;
    for name in doomed {
        match client.ask(&name, CommandBody::DeleteImage(parsed(&name)?)) {
            Ok(()) => out::line(format!("{name}: removed"))?,
            Err(problem) => {
                all_well = false;
                out::error(&problem);
            }
        }
    }
    Ok(if all_well { exit::OK } else { exit::FAILED })
}

fn rename_one(rename: &ImagesRename, connect: Connect, setup: &Setup) -> Outcome {
    let (old, new) = (parsed(&rename.name)?, parsed(&rename.new)?);
    let mut client = connect(setup)?;
    client.loaded()?;
    client.ask(old.as_str(), CommandBody::RenameImage(old.clone(), new.clone()))?;
    out::line(format!("{old}: is {new} now"))?;
    Ok(exit::OK)
}

fn verify_all(verify: &ImagesVerify, catalog: &Catalog) -> Outcome {
    let views = catalog.list();
    let names: Vec<String> = match &verify.names[..] {
        [] => {
            let unread = catalog.broken().into_iter().map(|(name, _)| name.to_string());
            let mut names: Vec<_> = views.iter().map(|view| view.name.clone()).collect();
            names.extend(unread);
            names.sort();
            names.dedup();
            names
        }
        names => names.to_vec(),
    };
    let cancel = cancel_on_signal()?;
    let mut all_well = true;
    for name in names {
        let size = match find(&views, &name, catalog) {
            Ok(view) => view.size,
            Err(problem) => {
                all_well = false;
                out::error(&problem);
                continue;
            }
        };
        let mut teller = Teller::new(&name, &cancel);
        match catalog.verify(&name, &mut |done| teller.tell(done, size)) {
            Ok(true) => out::line(format!("{name}: as it was made"))?,
            Ok(false) => {
                out::note("cancelled");
                return Err(Failure::Said(exit::FAILED));
            }
            Err(problem) => {
                all_well = false;
                out::error(&problem);
            }
        }
    }
    Ok(if all_well { exit::OK } else { exit::FAILED })
}

/// Tells how far something is that takes its time, to somebody who watches.
pub(super) struct Teller<'a> {
    name: String,
    cancel: &'a AtomicBool,
    told: Instant,
    watched: bool,
}

impl<'a> Teller<'a> {
    /// For something of this name, which ends when `cancel` is set.
    pub fn new(name: &str, cancel: &'a AtomicBool) -> Self {
        let watched = io::stderr().is_terminal();
        Self { name: name.to_owned(), cancel, told: Instant::now(), watched }
    }

    /// So many bytes of so many; whether to go on.
    pub fn tell(&mut self, done: u64, total: u64) -> bool {
        if self.watched && total > 0 && self.told.elapsed() >= REPORT_EVERY {
            self.told = Instant::now();
            let percent = done.min(total) * 100 / total;
            out::progress(&format!("{}: {percent} % of {}", self.name, ByteSize(total)));
        }
        !self.cancel.load(Ordering::Relaxed)
    }
}
