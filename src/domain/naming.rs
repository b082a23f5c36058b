//! How VMs get names: what the user can choose.

use std::{fmt, net::Ipv4Addr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use super::VmName;

/// The zone that VMs' names are in: `web.vm`.
pub const ZONE: &str = "vm";

/// How the host's programs come to know the names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamesRoute {
    /// The best that the host has.
    #[default]
    Auto,
    /// systemd-resolved asks banger's name server.
    Resolved,
    /// A block of `/etc/hosts`.
    Hosts,
    /// Not at all: only guests resolve each other.
    None,
}

impl NamesRoute {
    /// The word in configurations: `hosts`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Resolved => "resolved",
            Self::Hosts => "hosts",
            Self::None => "none",
        }
    }
}

/// The settings of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesSettings {
    /// How the host's programs come to know the names.
    pub route: NamesRoute,
    /// The data file of a mapdns that banger keeps the VMs' names in; absolute.
    pub mapdns_file: Option<PathBuf>,
    /// What to run when a VM has got its name.
    pub mapdns_publish: Option<CommandTemplate>,
    /// What to run when a VM's name is to go.
    pub mapdns_withdraw: Option<CommandTemplate>,
}

/// A command with places for a VM's name and address: `mapdns add {name}.vm {address}`.
///
/// There is no shell: words are separated by blanks, and quotes (`'…'` or `"…"`) keep blanks
/// within a word. `{name}` and `{address}` are put in after that, so what they become is never
/// taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandTemplate {
    text: String,
    words: Vec<String>,
}

/// Why a text is no [`CommandTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// Nothing was given.
    #[error("a command is needed")]
    Empty,
    /// A quote without its end.
    #[error("the quote {0} is not closed")]
    Quote(char),
    /// A name in braces that means nothing.
    #[error("“{{{0}}}” means nothing here: write {{name}} or {{address}}")]
    Unknown(String),
    /// Without the name it cannot know which VM is meant.
    #[error("it says nowhere which VM is meant: write {{name}} where its name goes")]
    Nameless,
}

impl CommandTemplate {
    /// The program and its arguments for a VM.
    #[must_use]
    pub fn argv(&self, name: &VmName, address: Ipv4Addr) -> Vec<String> {
        let address = address.to_string();
        // A name has no braces, so nothing is put into what was put in.
        let put =
            |word: &String| word.replace("{name}", name.as_str()).replace("{address}", &address);
        self.words.iter().map(put).collect()
    }

    /// Its program.
    #[must_use]
    pub fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

impl fmt::Display for CommandTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for CommandTemplate {
    type Err = BadTemplate;

    fn from_str(text: &str) -> Result<Self, BadTemplate> {
        let words = split(text)?;
        if words.first().is_none_or(String::is_empty) {
            return Err(BadTemplate::Empty);
        }
        let mut named = false;
        for word in &words {
            let mut rest = word.as_str();
            while let Some((_, after)) = rest.split_once('{') {
                let Some((inner, after)) = after.split_once('}') else { break };
                match inner {
                    "name" => named = true,
                    "address" => {}
                    // A word that looks like ours; JSON in an argument does not.
                    _ if inner.chars().all(|c| c.is_ascii_lowercase()) && !inner.is_empty() => {
                        return Err(BadTemplate::Unknown(inner.chars().take(32).collect()));
                    }
                    _ => {
                        // `{"a": "{name}"}`: look again right behind the first brace.
                        rest = rest.split_once('{').map_or("", |(_, after)| after);
                        continue;
                    }
                }
                rest = after;
            }
        }
        if named { Ok(Self { text: text.to_owned(), words }) } else { Err(BadTemplate::Nameless) }
    }
}

/// Words, separated by blanks; quotes keep blanks.
fn split(text: &str) -> Result<Vec<String>, BadTemplate> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(BadTemplate::Quote(open));
    }
    words.extend(word);
    Ok(words)
}

impl TryFrom<String> for CommandTemplate {
    type Error = BadTemplate;

    fn try_from(text: String) -> Result<Self, BadTemplate> {
        text.parse()
    }
}

impl From<CommandTemplate> for String {
    fn from(template: CommandTemplate) -> Self {
        template.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(template: &str) -> Vec<String> {
        let template: CommandTemplate = template.parse().expect(template);
        template.argv(&"web".parse().expect("a name"), Ipv4Addr::new(172, 30, 4, 2))
    }

    #[test]
    fn words_are_kept_whole_and_places_are_filled() {
        assert_eq!(
            argv("mapdns  add {name}.vm {address}"),
            ["mapdns", "add", "web.vm", "172.30.4.2"]
        );
        assert_eq!(argv("m '{name} x' \"it's\" ''"), ["m", "web x", "it's", ""]);
        assert_eq!(
            argv(r#"curl -d '{"domain": "{name}.vm", "address": "{address}"}' http://x"#),
            ["curl", "-d", r#"{"domain": "web.vm", "address": "172.30.4.2"}"#, "http://x"]
        );
        assert_eq!(argv("a ; rm {name} $HOME | `x`"), ["a", ";", "rm", "web", "$HOME", "|", "`x`"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let bad = |text: &str| text.parse::<CommandTemplate>().expect_err(text);
        assert_eq!(bad("  "), BadTemplate::Empty);
        assert_eq!(bad("'' {name}"), BadTemplate::Empty);
        assert_eq!(bad("a 'b {name}"), BadTemplate::Quote('\''));
        assert_eq!(bad("a {name} {adress}"), BadTemplate::Unknown("adress".to_owned()));
        assert_eq!(bad("a {address}"), BadTemplate::Nameless);
    }

    #[test]
    fn it_survives_being_written_down() {
        let template: CommandTemplate = "m 'a b' {name}".parse().expect("good");
        let json = serde_json::to_string(&template).expect("json");
        assert_eq!(json, "\"m 'a b' {name}\"");
        assert_eq!(serde_json::from_str::<CommandTemplate>(&json).expect("back"), template);
    }
}
