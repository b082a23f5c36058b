//! `banger images build`, `rebuild` and `shell`: an image made from another, in one foreground
//! process. Killed at any time it leaves a directory at most, which the next banger sweeps.

mod boot;
mod engine;
mod log;
mod plan;
mod run;
mod step;
mod vm;

use std::{
    fs,
    io::{self, IsTerminal},
    path::Path,
    process::Command,
};

use super::{
    Connect,
    args::{EngineKind, ImagesBuild, ImagesRebuild, ImagesShell, Ssh},
    exit::{Failure, Outcome},
    out,
    setup::Setup,
    ssh,
};
use crate::{
    domain::{Problem, Recipe},
    image::{
        Catalog,
        build::{self, Session},
        is_worked_on,
    },
};

/// How a build is to be done.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Take the place of the image that has this name.
    pub replace: bool,
    /// Ask nothing before it begins.
    pub yes: bool,
    /// Where the steps run; nothing: what this host can.
    pub engine: Option<EngineKind>,
    /// Whether a VM is booted from it before it is published.
    pub test_boot: bool,
    /// Whether a shell is opened in it when the user's part is done.
    pub shell: bool,
}

/// `images build`.
///
/// # Errors
/// A recipe that is wrong, a step that failed, an image that does not boot.
pub(super) fn build(
    args: &ImagesBuild,
    catalog: &Catalog,
    connect: Connect,
    setup: &Setup,
) -> Outcome {
    let recipe = read(&args.recipe)?;
    let options = Options {
        replace: args.replace,
        yes: args.yes,
        engine: args.how.engine,
        test_boot: !args.how.no_test_boot,
        shell: args.how.shell,
    };
    let plan = plan::Plan::new(catalog, recipe, &options)?;
    if args.dry_run {
        return plan.show(catalog, setup, args.json);
    }
    run::run(catalog, plan, &options, connect, setup)
}

/// `images rebuild`.
///
/// # Errors
/// As [`build`]; if there is nothing it could be rebuilt from.
pub(super) fn rebuild(
    args: &ImagesRebuild,
    catalog: &Catalog,
    connect: Connect,
    setup: &Setup,
) -> Outcome {
    let Some(recipe) = catalog.recipe_again(&args.name)? else {
        // Those of the runtime directory are made by a bootstrap, which sees what changed.
        use std::os::unix::process::CommandExt;
        let mut bootstrap = Command::new(&setup.options.program);
        let error = bootstrap.args(["runtime", "bootstrap"]).exec();
        let what = format!("cannot rebuild {}", args.name);
        return Err(Problem::new(what, error.to_string(), "run `banger runtime bootstrap`").into());
    };
    let options = Options {
        replace: true,
        yes: args.yes,
        engine: args.how.engine,
        test_boot: !args.how.no_test_boot,
        shell: args.how.shell,
    };
    let plan = plan::Plan::new(catalog, recipe, &options)?;
    run::run(catalog, plan, &options, connect, setup)
}

/// `images shell`: a shell in the root of the build that runs, or waits at a failed step.
///
/// # Errors
/// If none does, or several do and none is named.
pub(super) fn shell(args: &ImagesShell, connect: Connect, setup: &Setup) -> Outcome {
    let mut open: Vec<(String, Session)> = Vec::new();
    let mut closed = false;
    for entry in fs::read_dir(setup.layout.images()).into_iter().flatten().flatten() {
        let dir = entry.file_name().to_string_lossy().into_owned();
        if is_worked_on(&setup.layout, &dir) {
            let session = Session::find(&entry.path());
            closed |= session.is_none();
            open.extend(session);
        }
    }
    if let Some(name) = &args.name {
        open.retain(|(image, _)| image == name);
    }
    let problem = |why: String, hint: &str| Problem::new("cannot open a shell", why, hint);
    let (image, session) = match open.len() {
        1 => open.remove(0),
        0 if closed => {
            let why =
                "a build is under way, but there is no way in while it is copied, read or tried";
            return Err(problem(why.to_owned(), "try again when a step runs, or waits").into());
        }
        0 => {
            let hint = "start one with `banger images build`";
            return Err(problem("no such build is under way".to_owned(), hint).into());
        }
        _ => {
            let names: Vec<&str> = open.iter().map(|(name, _)| name.as_str()).collect();
            let why = format!("several builds are under way: {}", names.join(", "));
            return Err(problem(why, "name the one").into());
        }
    };
    match session {
        Session::Mounted { holder, at } => {
            use std::os::unix::process::CommandExt;
            let error = build::shell_in(holder, &at, &image).exec();
            Err(problem(format!("nsenter: {error}"), "it is in the package util-linux").into())
        }
        Session::Vm { name } => {
            ssh::run(&Ssh { name, command: Vec::new() }, connect(setup)?, setup)
        }
    }
}

/// Reads a recipe, and refuses a wrong one with all that is wrong.
fn read(path: &Path) -> Result<Recipe, Failure> {
    let what = || format!("cannot use the recipe {}", path.display());
    let text = if path == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|e| Problem::new(what(), e.to_string(), "docs/images.md has one"))?;
    let mut recipe = build::parse(&text).map_err(|wrong| {
        let lines: Vec<String> = wrong
            .iter()
            .map(|(line, message)| match line {
                0 => message.clone(),
                line => format!("line {line}: {message}"),
            })
            .collect();
        Problem::new(what(), lines.join("\n  "), "docs/images.md has all keys of a recipe")
    })?;
    // As typed, relative to where it was typed, for the rebuild from elsewhere.
    for file in &mut recipe.files {
        file.from = std::path::absolute(&file.from).unwrap_or_else(|_| file.from.clone());
    }
    Ok(recipe)
}

/// Whether there is somebody to be asked.
fn somebody() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A line on a terminal or in a file: what a build says of itself.
fn say(text: &str) {
    out::note(text);
}
