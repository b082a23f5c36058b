//! An image's script that runs while other steps do.
//!
//! The largest image takes longer than all else together, on one CPU, and needs nothing of the
//! others: so it is begun first and waited for last. Its step is the one that says how it ended.

use std::{
    io,
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{Scope, ScopedJoinHandle},
};

use super::{
    child::Ended,
    failure::Failure,
    image::{fingerprint_of, prepare},
    run::Run,
};

/// A script under way.
pub(super) struct Ahead<'scope> {
    /// The image's index in the manifest.
    image: usize,
    /// What it makes.
    disk: PathBuf,
    /// What it printed.
    lines: mpsc::Receiver<String>,
    end: ScopedJoinHandle<'scope, io::Result<Option<Ended>>>,
}

impl<'scope> Ahead<'scope> {
    /// Begins the script of the image that takes longest, unless there is nothing to do for it. It
    /// is ended when `given_up` is set. What goes wrong here will go wrong again in the step.
    pub fn begin<'a: 'scope>(
        run: &mut Run<'a>,
        scope: &'scope Scope<'scope, '_>,
        given_up: &'scope AtomicBool,
    ) -> Option<Self> {
        let images = run.manifest().images.iter().enumerate();
        let (index, image) = images.max_by_key(|(_, image)| image.size_mib)?;
        let (script, size_mib) = (image.script.as_ref()?, image.size_mib?);
        if !run.options.scripts.contains_key(script) {
            return None;
        }
        let fingerprint = fingerprint_of(run, image).ok()?;
        let step = format!("image {}", image.name);
        if run.cached_step(&step, &fingerprint).ok()?.is_some() {
            return None;
        }
        let (disk, program) = prepare(run, image, script, size_mib).ok()?;
        let (line, lines) = mpsc::channel();
        let cancel = run.cancel;
        let end = scope.spawn(move || {
            // Nobody listens any more when it was given up.
            let line = |text: &str| drop(line.send(text.to_owned()));
            program.run(cancel, line, || !given_up.load(Ordering::Relaxed))
        });
        Some(Self { image: index, disk, lines, end })
    }

    /// Whether it is for the image of this index.
    pub const fn is_of(&self, image: usize) -> bool {
        self.image == image
    }

    /// Waits for its end: what it was to make, and how it ended.
    pub fn wait(self, run: &mut Run<'_>) -> Result<(PathBuf, Ended), Failure> {
        for line in &self.lines {
            run.log(&line);
        }
        match self.end.join() {
            Ok(Ok(Some(ended))) => Ok((self.disk, ended)),
            Ok(Ok(None)) => Err(Failure::Cancelled),
            Ok(Err(e)) => Err(run.io("sh", &e)),
            Err(_) => Err(run.fail("nobody waited for its script", "report it")),
        }
    }
}
