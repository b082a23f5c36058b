//! What the list of images is filtered by.

use crate::{
    domain::{Fleet, ImageView},
    tui::screens::browser::Filter,
};

/// What a token can look at: where an image comes from, or whether it is `stale`, `fresh` or
/// `used`.
pub const KEYS: &[&str] = &["origin", "is"];

/// Whether an image fits.
#[must_use]
pub fn fits(filter: &Filter, image: &ImageView, fleet: &Fleet) -> bool {
    filter.fits(|key, word| {
        let origin = image.origin.word().starts_with(word);
        match key {
            Some("origin") => origin,
            Some(_) => is(word, image, fleet),
            None => {
                origin || image.name.contains(word) || image.about.to_lowercase().contains(word)
            }
        }
    })
}

fn is(word: &str, image: &ImageView, fleet: &Fleet) -> bool {
    if "stale".starts_with(word) {
        !image.stale.is_empty()
    } else if "fresh".starts_with(word) {
        image.stale.is_empty()
    } else {
        "used".starts_with(word) && fleet.vms.iter().any(|vm| vm.spec.image == image.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{ImageOrigin, Phase, StaleReason},
        tui::testing::{fleet, vm},
    };

    #[test]
    fn words_and_tokens_have_to_fit_all() {
        let dev = ImageView {
            name: "dev".into(),
            about: "Debian with Git".into(),
            origin: ImageOrigin::Customized,
            stale: vec![StaleReason::Parent { name: "debian".into() }],
            ..ImageView::default()
        };
        let mut web = vm(1, "web", Phase::Running);
        web.spec.image = "dev".into();
        let fleet = fleet(vec![web]);
        let fits = |text| fits(&Filter::new(KEYS, text), &dev, &fleet);
        for yes in ["", "dev", "git", "origin:cust", "is:stale", "is:used dev", "!is:fresh", "is:"]
        {
            assert!(fits(yes), "{yes}");
        }
        for no in ["tiny", "!dev", "origin:bundle", "is:fresh", "is:nothing", "dev !is:stale"] {
            assert!(!fits(no), "{no}");
        }
    }
}
