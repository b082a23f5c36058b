//! The steps of a customization, and their scripts.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::{
    bundle::hex,
    domain::{Preset, Recipe},
};

/// A step, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Name servers, mirrors and proxies of the host; no services.
    Prepare,
    /// Packages installed and removed.
    Packages,
    /// Files of the user's.
    Files,
    /// Users and keys.
    Users,
    /// Docker Engine.
    Docker,
    /// What images of the older layout have too much.
    Legacy,
    /// The user's own script.
    Script,
    /// Caches, identity, and what the first step did.
    Clean,
    /// What the image has become is written down.
    Finish,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Prepare,
        Self::Packages,
        Self::Files,
        Self::Users,
        Self::Docker,
        Self::Legacy,
        Self::Script,
        Self::Clean,
        Self::Finish,
    ];

    /// Its word: `packages`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Packages => "packages",
            Self::Files => "files",
            Self::Users => "users",
            Self::Docker => "docker",
            Self::Legacy => "legacy",
            Self::Script => "script",
            Self::Clean => "clean",
            Self::Finish => "finish",
        }
    }

    /// The name of its script: `20-packages.sh`.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Prepare => "10-prepare.sh",
            Self::Packages => "20-packages.sh",
            Self::Files => "30-files.sh",
            Self::Users => "40-users.sh",
            Self::Docker => "50-docker.sh",
            Self::Legacy => "60-legacy.sh",
            Self::Script => "70-script.sh",
            Self::Clean => "80-clean.sh",
            Self::Finish => "90-finish.sh",
        }
    }

    /// Whether a recipe needs it.
    #[must_use]
    pub fn is_needed(self, recipe: &Recipe) -> bool {
        match self {
            Self::Prepare | Self::Legacy | Self::Clean | Self::Finish => true,
            Self::Packages => {
                !recipe.packages.trim().is_empty()
                    || recipe.complete
                    || !recipe.presets.is_empty()
                    || recipe.users.iter().any(|user| user.sudo)
            }
            Self::Files => !recipe.files.is_empty(),
            Self::Users => !recipe.users.is_empty() || !recipe.keys.is_empty(),
            Self::Docker => recipe.presets.contains(&Preset::Docker),
            Self::Script => !recipe.script.trim().is_empty(),
        }
    }

    /// Those that a recipe needs, in their order.
    #[must_use]
    pub fn of(recipe: &Recipe) -> Vec<Self> {
        Self::ALL.into_iter().filter(|step| step.is_needed(recipe)).collect()
    }
}

/// The script that the others begin with.
pub const LIB: &str = "lib.sh";

/// The scripts this banger was built with, by name.
#[must_use]
pub fn scripts() -> BTreeMap<&'static str, &'static str> {
    macro_rules! scripts {
        ($($name:literal),*) => {
            [$(($name, include_str!(concat!("../../../scripts/customize/", $name)))),*].into()
        };
    }
    scripts![
        "10-prepare.sh",
        "20-packages.sh",
        "30-files.sh",
        "40-users.sh",
        "50-docker.sh",
        "60-legacy.sh",
        "70-script.sh",
        "80-clean.sh",
        "90-finish.sh",
        "lib.sh"
    ]
}

/// What each step does, by its word: SHA-256 of its script with what they share, in lower-case
/// hex.
#[must_use]
pub fn all_digests() -> BTreeMap<String, String> {
    digests_of(&Step::ALL)
}

/// As [`all_digests`], of the steps that a recipe needs.
#[must_use]
pub fn digests(recipe: &Recipe) -> BTreeMap<String, String> {
    digests_of(&Step::of(recipe))
}

fn digests_of(steps: &[Step]) -> BTreeMap<String, String> {
    let scripts = scripts();
    let text = |name: &str| scripts.get(name).copied().unwrap_or_default();
    let digest = |step: &Step| {
        let mut hash = Sha256::new();
        hash.update(text(LIB));
        hash.update([0]);
        hash.update(text(step.file()));
        hex(&hash.finalize())
    };
    steps.iter().map(|step| (step.word().to_owned(), digest(step))).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_script_is_in_the_program_and_every_step_has_one() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/customize");
        let there: BTreeSet<String> = fs::read_dir(dir)
            .expect("the directory")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
            .collect();
        let embedded: BTreeSet<String> = scripts().keys().map(|&name| name.to_owned()).collect();
        assert_eq!(there, embedded);
        let mut steps: BTreeSet<&str> = Step::ALL.iter().map(|step| step.file()).collect();
        steps.insert(LIB);
        assert_eq!(steps, scripts().into_keys().collect());
    }

    #[test]
    fn only_what_a_recipe_needs_runs_and_is_remembered() {
        let words = |recipe: &Recipe| digests(recipe).into_keys().collect::<Vec<_>>();
        let mut recipe = Recipe::default();
        assert_eq!(words(&recipe), ["clean", "finish", "legacy", "prepare"]);
        recipe.presets = vec![Preset::Docker];
        recipe.script = "true".into();
        let all = ["clean", "docker", "finish", "legacy", "packages", "prepare", "script"];
        assert_eq!(words(&recipe), all);
        assert!(digests(&recipe).values().all(|sum| sum.len() == 64));
    }
}
