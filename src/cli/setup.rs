//! What every mode begins with: directories, settings, the log.

use std::{
    env,
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use tracing_subscriber::EnvFilter;

use super::out;
use crate::{
    bundle::Configured,
    config::{self, Config, Sources},
    domain::{Layout, Problem},
    host::dirs,
    supervisor::{Options, Origin},
};

/// A log that is larger at the start is put aside; one such is kept.
const LOG_MAX: u64 = 1 << 20;

/// What every mode begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where everything of the user's lies; the directories are there.
    pub layout: Layout,
    /// Where the settings come from.
    pub sources: Sources,
    /// The settings in force.
    pub config: Config,
    /// What a supervisor is started with.
    pub options: Options,
}

impl Setup {
    /// Looks at the environment and reads the settings; makes the directories.
    ///
    /// # Errors
    /// Settings that cannot be used, directories that cannot be made or written to.
    pub fn new(origin: Origin) -> Result<Self, Problem> {
        let sources = Sources::of_this_process()?;
        let config = config::load(&sources)?;
        let layout = dirs::layout()?;
        start_log(&layout, &sources);
        let program = env::current_exe().map_err(|e| {
            let hint = "is /proc mounted?";
            Problem::new("cannot tell where the banger program is", e.to_string(), hint)
        })?;
        let options = Options {
            layout: layout.clone(),
            program,
            runtime_dir: configured(&config),
            vmm: config.vmm,
            overlay: config.overlay,
            network: config.network,
            jailer: config.jailer,
            names: config.names.clone(),
            extra_keys: config.extra_keys.clone(),
            stop_timeout_ms: config.stop_timeout_s * 1000,
            packages: sources.packages(),
            origin,
        };
        Ok(Self { layout, sources, config, options })
    }

    /// As [`Setup::new`], for a verb: what is odd about the settings is told at once.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn for_verb(origin: Origin) -> Result<Self, Problem> {
        let setup = Self::new(origin)?;
        for notice in &setup.config.notices {
            out::note(&format!("note: {notice}"));
        }
        Ok(setup)
    }
}

/// What the settings say of the runtime directory.
pub(super) fn configured(config: &Config) -> Configured {
    Configured { runtime_dir: config.runtime_dir.clone(), by_repo_root: config.by_repo_root }
}

/// Sends traces to the log. Without a log banger works as well: if it cannot be written, whatever
/// is to be done will fail on its own and say why.
fn start_log(layout: &Layout, sources: &Sources) {
    let path = layout.log();
    rotate(&path, LOG_MAX);
    let Ok(file) = OpenOptions::new().create(true).append(true).mode(0o600).open(&path) else {
        return;
    };
    let wanted = sources.var("BANGER_LOG").or_else(|| sources.var("RUST_LOG")).unwrap_or("info");
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
        out::note(&format!("note: the log's filter “{wanted}” is not understood: {error}"));
        EnvFilter::new("info")
    });
    // Fails if there is a subscriber already, which then is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(file)
        .try_init();
}

/// Puts a log aside that has grown over `max` bytes.
fn rotate(path: &Path, max: u64) {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > max) {
        let mut old = path.as_os_str().to_owned();
        old.push(".1");
        // If it cannot be renamed, it cannot be written either, most likely.
        let _ = fs::rename(path, old);
    }
}

/// Makes unexpected errors and panics readable, and says where the log is.
pub fn install_panic_hook() {
    let log = dirs::resolve(&dirs::Env::current()).map(|layout| layout.log());
    let section = match log {
        Ok(log) => format!("This is a bug in banger; its log is {}", log.display()),
        Err(_) => "This is a bug in banger".to_owned(),
    };
    // Fails if there is a hook already, which then is as good.
    let _ = color_eyre::config::HookBuilder::default()
        .display_env_section(false)
        .panic_section(section)
        .install();
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(panic = %info, "banger panicked");
        told(info);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_put_aside_when_it_is_large() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("banger.log");
        rotate(&log, 3);
        fs::write(&log, "abc").unwrap();
        rotate(&log, 3);
        assert!(log.exists());
        fs::write(&log, "abcd").unwrap();
        rotate(&log, 3);
        assert!(!log.exists());
        assert_eq!(fs::read(dir.path().join("banger.log.1")).unwrap(), b"abcd");
    }
}
