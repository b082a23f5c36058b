//! What the wizard was told, as it was typed: a draft may be wrong and is kept all the same.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::{
    FileInto, Fleet, ImageName, ImageOrigin, ImageView, Preset, Recipe, UserInto, VmSpec, parse_mib,
};

/// A step of the wizard.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The image it is made from.
    #[default]
    Base,
    /// Packages, and sets of choices.
    Packages,
    /// Files, users, keys and a script.
    Contents,
    /// Name, disk and memory.
    Name,
    /// What will be done.
    Review,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::Base, Self::Packages, Self::Contents, Self::Name, Self::Review];

    /// As the bar shows it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Base => "Base",
            Self::Packages => "Packages",
            Self::Contents => "Files, users, script",
            Self::Name => "Name and size",
            Self::Review => "Review",
        }
    }

    /// The next one, or the one before, as far as there is one.
    #[must_use]
    pub fn by(self, by: isize) -> Self {
        let at = (self as usize).saturating_add_signed(by).min(Self::ALL.len() - 1);
        Self::ALL[at]
    }
}

/// Something that is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The image it is made from.
    Base,
    /// The package manifest.
    Packages,
    /// Whether a set of choices is taken.
    Preset(Preset),
    /// Files that are copied in.
    Files,
    /// Users that are made.
    Users,
    /// Root's keys.
    Keys,
    /// The script.
    Script,
    /// The new image's name.
    Name,
    /// What it is.
    About,
    /// Size of its disk.
    Size,
    /// Memory of its machines.
    Memory,
}

impl Place {
    /// The step it belongs to.
    #[must_use]
    pub const fn step(self) -> Step {
        match self {
            Self::Base => Step::Base,
            Self::Packages | Self::Preset(_) => Step::Packages,
            Self::Files | Self::Users | Self::Keys | Self::Script => Step::Contents,
            Self::Name | Self::About | Self::Size | Self::Memory => Step::Name,
        }
    }

    /// As problems name it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Base => "Base",
            Self::Packages => "Packages",
            Self::Preset(_) => "Presets",
            Self::Files => "Files",
            Self::Users => "Users",
            Self::Keys => "Root's keys",
            Self::Script => "Script",
            Self::Name => "Name",
            Self::About => "About",
            Self::Size => "Disk",
            Self::Memory => "Memory",
        }
    }
}

/// Something that keeps the image from being built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Where.
    pub place: Place,
    /// In which line of it, from 1 on; 0 if it is not about a line.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// What was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draft {
    /// The step that was shown.
    pub step: Step,
    /// The image whose own recipe this is: building takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// See [`Recipe::base`].
    pub base: String,
    /// See [`Recipe::name`].
    pub name: String,
    /// Whether the user chose the name; else it follows the base.
    pub named: bool,
    /// See [`Recipe::about`].
    pub about: String,
    /// Size of the disk as typed.
    pub size: String,
    /// Memory as typed.
    pub memory: String,
    /// See [`Recipe::presets`].
    pub presets: Vec<Preset>,
    /// The package manifest.
    pub packages: String,
    /// See [`Recipe::complete`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    /// A file a line: `/on/this/host -> /in/the/image`.
    pub files: String,
    /// A user a line: `name`, perhaps `sudo`, perhaps a key.
    pub users: String,
    /// Lines of root's `authorized_keys`.
    pub keys: String,
    /// The script.
    pub script: String,
}

impl Draft {
    /// A new image from this one, with a free name.
    #[must_use]
    pub fn new(base: &str, fleet: &Fleet) -> Self {
        let mut draft = Self { base: base.to_owned(), ..Self::default() };
        draft.suggest(fleet);
        draft
    }

    /// The recipe of an image that is there, to be changed.
    #[must_use]
    pub fn of(recipe: &Recipe) -> Self {
        let size = |mib: Option<u64>| mib.map(|mib| format!("{mib}M")).unwrap_or_default();
        let files = recipe.files.iter();
        let files = files.map(|file| format!("{} -> {}\n", file.from.display(), file.to));
        let mut users = String::new();
        for user in &recipe.users {
            let sudo = if user.sudo { " sudo" } else { "" };
            users.push_str(&format!("{}{sudo}\n", user.name));
            for key in &user.keys {
                users.push_str(&format!("{} {key}\n", user.name));
            }
        }
        Self {
            step: Step::Packages,
            replaces: Some(recipe.name.clone()),
            base: recipe.base.clone(),
            name: recipe.name.clone(),
            named: true,
            about: recipe.about.clone(),
            size: size(recipe.size_mib),
            memory: size(recipe.memory_mib),
            presets: recipe.presets.clone(),
            packages: recipe.packages.clone(),
            complete: recipe.complete,
            files: files.collect(),
            users,
            keys: recipe.keys.iter().map(|key| format!("{key}\n")).collect(),
            script: recipe.script.clone(),
        }
    }

    /// The draft as it was kept.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    /// As it is kept.
    #[must_use]
    pub fn text(&self) -> String {
        toml::to_string(self).expect("texts and a list of words are TOML")
    }

    /// Gives it a free name after its base, unless the user chose one.
    pub fn suggest(&mut self, fleet: &Fleet) {
        if self.named {
            return;
        }
        let taken = |name: &str| fleet.images.iter().any(|image| image.name == name);
        let stem = if self.base.is_empty() { "image" } else { self.base.as_str() };
        let names = (0..=fleet.images.len()).map(|n| match n {
            0 => format!("{stem}-dev"),
            n => format!("{stem}-dev{}", n + 1),
        });
        self.name = names.into_iter().find(|name| !taken(name)).unwrap_or_default();
    }

    /// The image it is made from.
    #[must_use]
    pub fn base_of<'a>(&self, fleet: &'a Fleet) -> Option<&'a ImageView> {
        fleet.images.iter().find(|image| image.name == self.base)
    }

    /// Whether building it takes the place of an image of the user's.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.replaces.as_deref() == Some(self.name.trim())
    }

    /// The recipe.
    ///
    /// # Errors
    /// All that is wrong, in the order of the steps.
    pub fn recipe(
        &self,
        fleet: &Fleet,
        packages: impl Fn(&str) -> Result<Vec<String>, Vec<(usize, String)>>,
        home: Option<&Path>,
    ) -> Result<Recipe, Vec<Trouble>> {
        let mut wrong = Vec::new();
        let mut bad = |place, line, why: String| wrong.push(Trouble { place, line, why });
        let base = self.base_of(fleet);
        if base.is_none() && fleet.loaded {
            let why = match self.base.as_str() {
                "" => "choose an image".to_owned(),
                name => format!("{name} is gone"),
            };
            bad(Place::Base, 0, why);
        }
        if let Err(lines) = packages(&self.packages) {
            lines.into_iter().for_each(|(line, why)| bad(Place::Packages, line, why));
        }
        let files = lines(&self.files, |line| file(line, home));
        let users = users(&self.users);
        let keys = lines(&self.keys, |line| key(line).map(ToOwned::to_owned));
        let files = files.unwrap_or_else(|lines| {
            lines.into_iter().for_each(|(line, why)| bad(Place::Files, line, why));
            Vec::new()
        });
        let users = users.unwrap_or_else(|lines| {
            lines.into_iter().for_each(|(line, why)| bad(Place::Users, line, why));
            Vec::new()
        });
        let keys = keys.unwrap_or_else(|lines| {
            lines.into_iter().for_each(|(line, why)| bad(Place::Keys, line, why));
            Vec::new()
        });
        let name = self.name.trim();
        if let Err(why) = name.parse::<ImageName>() {
            bad(Place::Name, 0, why.to_string());
        } else if name == self.base && !self.replaces() {
            bad(Place::Name, 0, "the base has this name: give the new one another".to_owned());
        } else if !self.replaces() {
            let taken = fleet.images.iter().find(|image| image.name == name);
            if let Some(image) = taken.filter(|image| image.origin != ImageOrigin::Bundle) {
                let why = format!("{} is there already: C on it changes it", image.name);
                bad(Place::Name, 0, why);
            }
        }
        let size_mib = size(&self.size).unwrap_or_else(|why| {
            bad(Place::Size, 0, why);
            None
        });
        if let (Some(size), Some(base)) = (size_mib, base)
            && size.saturating_mul(1 << 20) < base.size
        {
            let of = crate::domain::ByteSize(base.size);
            bad(Place::Size, 0, format!("the base is {of}; a disk can only grow"));
        }
        let memory_mib = size(&self.memory).unwrap_or_else(|why| {
            bad(Place::Memory, 0, why);
            None
        });
        if memory_mib.is_some_and(|mib| !VmSpec::MEMORY_MIB.contains(&mib)) {
            bad(Place::Memory, 0, "memory is 64 MiB to 1 TiB".to_owned());
        }
        if !wrong.is_empty() {
            wrong.sort_by_key(|trouble| trouble.place.step());
            return Err(wrong);
        }
        Ok(Recipe {
            name: name.to_owned(),
            base: self.base.clone(),
            about: self.about.trim().to_owned(),
            packages: self.packages.clone(),
            complete: self.complete,
            presets: self.presets.clone(),
            size_mib,
            memory_mib,
            script: if self.script.trim().is_empty() { String::new() } else { self.script.clone() },
            keys,
            files,
            users,
        })
    }
}

/// Lines that say something, each read on its own; what is wrong with any of them.
fn lines<T>(
    text: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Vec<(usize, String)>> {
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match read(line) {
            Ok(one) => found.push(one),
            Err(why) => wrong.push((n + 1, why)),
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

/// `/on/this/host -> /in/the/image`; without an arrow it goes to the same place.
fn file(line: &str, home: Option<&Path>) -> Result<FileInto, String> {
    let (from, to) = match line.split_once("->") {
        Some((from, to)) => (from.trim(), to.trim()),
        None => (line, line),
    };
    let from = match (from.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(from),
    };
    if !from.is_absolute() {
        let from = from.display();
        return Err(format!("“{from}” is no absolute path: begin it with / or ~/"));
    }
    let to = if to == line && !line.starts_with('/') { "" } else { to };
    if !to.starts_with('/') {
        return Err("say where it goes: /from/here -> /to/there".to_owned());
    }
    if to.split('/').any(|part| part == "..") {
        return Err(format!("“{to}” has .. in it"));
    }
    Ok(FileInto { from, to: to.to_owned() })
}

/// A line of `authorized_keys` (sshd(8)): options may stand before the key's type.
fn key(line: &str) -> Result<&str, String> {
    let types = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];
    let mut words = line
        .split_whitespace()
        .skip_while(|word| !types.iter().any(|begin| word.starts_with(begin)));
    let body = |word: &str| {
        word.len() >= 16 && word.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c))
    };
    match (words.next(), words.next()) {
        (Some(_), Some(word)) if body(word) => Ok(line),
        _ => Err("this is no public key: paste the line of a .pub file".to_owned()),
    }
}

/// A user a line: `alice`, `alice sudo`, `alice ssh-ed25519 AAAA…`; a further line of the same
/// name adds a key.
fn users(text: &str) -> Result<Vec<UserInto>, Vec<(usize, String)>> {
    let read = lines(text, |line| {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        // What useradd(8) takes by default.
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let plain = |c: char| first(c) || c.is_ascii_digit() || c == '-';
        if name.len() > 32 || !name.starts_with(first) || !name.chars().all(plain) {
            return Err(format!(
                "“{name}” is no user's name: a-z, 0-9, _ and -, the first a letter or _"
            ));
        }
        if name == "root" {
            return Err("root is there; its keys have a place of their own".to_owned());
        }
        let rest = rest.trim();
        let (sudo, rest) = match rest.strip_prefix("sudo") {
            Some(more) if more.is_empty() || more.starts_with(char::is_whitespace) => {
                (true, more.trim())
            }
            _ => (false, rest),
        };
        let keys = if rest.is_empty() { Vec::new() } else { vec![key(rest)?.to_owned()] };
        Ok(UserInto { name: name.to_owned(), sudo, keys })
    })?;
    let mut users: Vec<UserInto> = Vec::new();
    for user in read {
        match users.iter_mut().find(|known| known.name == user.name) {
            Some(known) => {
                known.sudo |= user.sudo;
                known.keys.extend(user.keys);
            }
            None => users.push(user),
        }
    }
    Ok(users)
}

/// A size in MiB; empty: the base's.
fn size(text: &str) -> Result<Option<u64>, String> {
    match text.trim() {
        "" => Ok(None),
        text => {
            parse_mib(text).map(Some).map_err(|_| "no size: write 512M, 2G or nothing".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::testing::fleet;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx0 me@here";

    fn words(text: &str) -> Result<Vec<String>, Vec<(usize, String)>> {
        Ok(text.split_whitespace().map(Into::into).collect())
    }

    fn full() -> Draft {
        Draft {
            about: " Git and more ".into(),
            size: "4G".into(),
            memory: "1G".into(),
            presets: vec![Preset::Docker],
            packages: "git\nvim\n".into(),
            files: "# dotfiles\n~/.vimrc -> /root/\n/etc/motd\n".into(),
            users: format!("alice sudo {KEY}\nalice {KEY}2\nbob\n"),
            keys: format!("{KEY}\n"),
            script: "set -e\n\techo \"it's\" > /etc/issue\n".into(),
            ..Draft::new("debian", &fleet(Vec::new()))
        }
    }

    #[test]
    fn a_draft_becomes_a_recipe_and_back() {
        let fleet = fleet(Vec::new());
        let draft = full();
        assert_eq!(draft.name, "debian-dev");
        let recipe = draft.recipe(&fleet, words, Some(Path::new("/home/me"))).unwrap();
        assert_eq!(recipe.about, "Git and more");
        assert_eq!((recipe.size_mib, recipe.memory_mib), (Some(4096), Some(1024)));
        let from: Vec<_> = recipe.files.iter().map(|f| f.from.to_str().unwrap()).collect();
        assert_eq!(from, ["/home/me/.vimrc", "/etc/motd"]);
        assert_eq!(recipe.files[1].to, "/etc/motd");
        assert_eq!(recipe.users.len(), 2);
        assert!(recipe.users[0].sudo && recipe.users[0].keys.len() == 2);
        let again = Draft::of(&recipe);
        assert!(again.replaces());
        assert_eq!(again.recipe(&fleet, words, None).unwrap(), recipe);
    }

    #[test]
    fn a_draft_is_kept_as_it_was_typed() {
        let wrong = Draft { size: "lots".into(), users: "Ü\n".into(), ..full() };
        for draft in [Draft::default(), full(), wrong] {
            assert_eq!(Draft::read(&draft.text()), Ok(draft));
        }
        assert!(Draft::read("step = \"nowhere\"").is_err());
        assert!(Draft::read("\u{0}").is_err());
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_line() {
        let fleet = fleet(Vec::new());
        let draft = Draft {
            base: "gone".into(),
            name: "No".into(),
            files: "\nrel -> /x\n/a -> b\n/a -> /x/../y\n".into(),
            users: "root\nAlice\nbob sudo nokey\n".into(),
            keys: "AAAA\n".into(),
            size: "big".into(),
            memory: "1M".into(),
            ..Draft::default()
        };
        let packages = |_: &str| Err(vec![(3, "bad".to_owned())]);
        let wrong = draft.recipe(&fleet, packages, None).unwrap_err();
        let at: Vec<_> = wrong.iter().map(|t| (t.place, t.line)).collect();
        let expected = [
            (Place::Base, 0),
            (Place::Packages, 3),
            (Place::Files, 2),
            (Place::Files, 3),
            (Place::Files, 4),
            (Place::Users, 1),
            (Place::Users, 2),
            (Place::Users, 3),
            (Place::Keys, 1),
            (Place::Name, 0),
            (Place::Size, 0),
            (Place::Memory, 0),
        ];
        assert_eq!(at, expected);
        let small = Draft { size: "16M".into(), ..Draft::new("tiny", &fleet) };
        let wrong = small.recipe(&fleet, words, None).unwrap_err();
        assert_eq!(wrong[0].place, Place::Size, "{wrong:?}");
    }

    #[test]
    fn a_name_is_free_and_another_images_is_not_taken_by_chance() {
        let mut fleet = fleet(Vec::new());
        let mine = ImageView {
            name: "tiny-dev".into(),
            origin: ImageOrigin::Customized,
            ..ImageView::default()
        };
        fleet.images.push(mine);
        let mut draft = Draft::new("tiny", &fleet);
        assert_eq!(draft.name, "tiny-dev2");
        draft.name = "tiny-dev".into();
        assert!(draft.recipe(&fleet, words, None).is_err());
        draft.name = "tiny".into();
        assert!(draft.recipe(&fleet, words, None).is_err(), "not onto itself");
        // A bundled one is only hidden by it.
        draft.name = "debian".into();
        assert!(draft.recipe(&fleet, words, None).is_ok());
    }
}
