//! What a list is filtered by.

/// A filter as typed: words and tokens, all of which have to fit. A token is a word behind a key
/// and a `:`, and looks at one thing only; `!` before a word turns it round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    keys: &'static [&'static str],
    text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    not: bool,
    key: Option<&'static str>,
    /// Lower case.
    word: String,
}

impl Filter {
    /// Reads what was typed; `keys` are those that tokens can have. Everything is a filter; a
    /// token without its word fits all.
    #[must_use]
    pub fn new(keys: &'static [&'static str], text: &str) -> Self {
        let tokens = text.split_whitespace().map(|word| {
            let (not, word) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
            let token = word.split_once(':').and_then(|(key, rest)| {
                let key = keys.iter().find(|known| **known == key)?;
                Some((*key, rest))
            });
            let (key, word) = token.map_or((None, word), |(key, rest)| (Some(key), rest));
            Token { not, key, word: word.to_lowercase() }
        });
        let tokens = tokens.filter(|token| !token.word.is_empty()).collect();
        Self { keys, text: text.to_owned(), tokens }
    }

    /// Reads what was typed instead.
    pub fn set(&mut self, text: &str) {
        *self = Self::new(self.keys, text);
    }

    /// As typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it keeps nothing out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether all words fit; `is` says it of one in lower case, and of the key before it.
    pub fn fits(&self, is: impl Fn(Option<&str>, &str) -> bool) -> bool {
        self.tokens.iter().all(|token| is(token.key, &token.word) != token.not)
    }

    /// What to mark in names: the first plain word.
    #[must_use]
    pub fn name_part(&self) -> Option<&str> {
        let plain = |token: &&Token| token.key.is_none() && !token.not;
        self.tokens.iter().find(plain).map(|token| token.word.as_str())
    }
}
