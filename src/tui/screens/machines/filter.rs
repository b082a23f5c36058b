//! What the list of machines is filtered by.

use crate::domain::VmView;

/// A filter as typed: words and tokens, all of which have to fit. `state:` and `image:` look at
/// one thing only; `!` before a word turns it round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// As typed.
    pub text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    not: bool,
    of: Of,
    word: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Any,
    State,
    Image,
}

impl Filter {
    /// Reads what was typed. Everything is a filter; a token without its word fits all.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let tokens = text.split_whitespace().map(|word| {
            let (not, word) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
            let (of, word) = match word.split_once(':') {
                Some(("state", rest)) => (Of::State, rest),
                Some(("image", rest)) => (Of::Image, rest),
                _ => (Of::Any, word),
            };
            Token { not, of, word: word.to_lowercase() }
        });
        let tokens = tokens.filter(|token| !token.word.is_empty()).collect();
        Self { text: text.to_owned(), tokens }
    }

    /// Whether it keeps anything out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether a machine fits.
    #[must_use]
    pub fn fits(&self, vm: &VmView) -> bool {
        self.tokens.iter().all(|token| token.fits(vm) != token.not)
    }

    /// What to mark in names: the first plain word.
    #[must_use]
    pub fn name_part(&self) -> Option<&str> {
        let plain = |token: &&Token| token.of == Of::Any && !token.not;
        self.tokens.iter().find(plain).map(|token| token.word.as_str())
    }
}

impl Token {
    fn fits(&self, vm: &VmView) -> bool {
        let word = self.word.as_str();
        let state = vm.phase.word().starts_with(word);
        let image = || vm.spec.image.to_lowercase().contains(word);
        match self.of {
            Of::State => state,
            Of::Image => image(),
            Of::Any => vm.spec.name.as_str().contains(word) || state || image(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Phase, tui::testing::vm};

    #[test]
    fn words_and_tokens_have_to_fit_all() {
        let mut web = vm(1, "web-1", Phase::Running);
        web.spec.image = "debian".into();
        let fits = |text: &str| Filter::new(text).fits(&web);
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
        assert_eq!(Filter::new("state:run !x web").name_part(), Some("web"));
        assert!(Filter::new(" ! state: ").is_empty());
    }
}
