//! What the list of machines is filtered by.

use crate::{domain::VmView, tui::screens::browser::Filter};

/// What a token can look at: the state, or the image.
pub const KEYS: &[&str] = &["state", "image"];

/// Whether a machine fits.
#[must_use]
pub fn fits(filter: &Filter, vm: &VmView) -> bool {
    filter.fits(|key, word| {
        let state = vm.phase.word().starts_with(word);
        let image = || vm.spec.image.to_lowercase().contains(word);
        match key {
            Some("state") => state,
            Some(_) => image(),
            None => vm.spec.name.as_str().contains(word) || state || image(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Phase, tui::testing::vm};

    #[test]
    fn words_and_tokens_have_to_fit_all() {
        let mut web = vm(1, "web-1", Phase::Running);
        web.spec.image = "debian".into();
        let filter = |text| Filter::new(KEYS, text);
        let fits = |text| fits(&filter(text), &web);
        for yes in [
            "",
            "web",
            "WEB",
            "run",
            "state:running",
            "image:deb",
            "web state:run",
            "!db",
            "!state:stopped",
            "state:",
            "!",
            "web !image:tiny",
        ] {
            assert!(fits(yes), "{yes}");
        }
        for no in ["db", "state:web", "image:web", "!web", "web !state:running", "web:1"] {
            assert!(!fits(no), "{no}");
        }
        assert_eq!(filter("state:run !x web").name_part(), Some("web"));
        assert!(filter(" ! state: ").is_empty());
    }
}
