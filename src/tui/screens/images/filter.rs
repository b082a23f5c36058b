//! What the list of images is filtered by.

use crate::domain::{Fleet, ImageView};

/// A filter as typed: words and tokens, all of which have to fit. `origin:` looks at where an
/// image comes from, `is:` at whether it is `stale`, `fresh` or `used`; `!` turns a word round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// As typed.
    pub text: String,
    tokens: Vec<(bool, Of, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Any,
    Origin,
    Is,
}

impl Filter {
    /// Reads what was typed. Everything is a filter; a token without its word fits all.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let tokens = text.split_whitespace().map(|word| {
            let (not, word) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
            let (of, word) = match word.split_once(':') {
                Some(("origin", rest)) => (Of::Origin, rest),
                Some(("is", rest)) => (Of::Is, rest),
                _ => (Of::Any, word),
            };
            (not, of, word.to_lowercase())
        });
        let tokens = tokens.filter(|(_, _, word)| !word.is_empty()).collect();
        Self { text: text.to_owned(), tokens }
    }

    /// Whether it keeps anything out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether an image fits.
    #[must_use]
    pub fn fits(&self, image: &ImageView, fleet: &Fleet) -> bool {
        self.tokens.iter().all(|(not, of, word)| fits(*of, word, image, fleet) != *not)
    }
}

fn fits(of: Of, word: &str, image: &ImageView, fleet: &Fleet) -> bool {
    let origin = image.origin.word().starts_with(word);
    match of {
        Of::Origin => origin,
        Of::Is if "stale".starts_with(word) => !image.stale.is_empty(),
        Of::Is if "fresh".starts_with(word) => image.stale.is_empty(),
        Of::Is if "used".starts_with(word) => {
            fleet.vms.iter().any(|vm| vm.spec.image == image.name)
        }
        Of::Is => false,
        Of::Any => origin || image.name.contains(word) || image.about.to_lowercase().contains(word),
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
        let fits = |text: &str| Filter::new(text).fits(&dev, &fleet);
        for yes in ["", "dev", "git", "origin:cust", "is:stale", "is:used dev", "!is:fresh", "is:"]
        {
            assert!(fits(yes), "{yes}");
        }
        for no in ["tiny", "!dev", "origin:bundle", "is:fresh", "is:nothing", "dev !is:stale"] {
            assert!(!fits(no), "{no}");
        }
    }
}
