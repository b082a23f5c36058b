//! Reading the layers.

use std::{fs, io};

use toml::{Spanned, de::DeValue};

use super::{
    Config, Sources,
    doc::{Doc, unknown},
    keymap::{ActionKeys, Overrides},
    keys::{ENV_ONLY, KEYS, Key, Kind, REPO_ROOT, absolute},
    theme::{self, Depth, Theme, ThemeFile},
};
use crate::domain::Problem;

/// The settings in force: defaults, then `config.toml`, then the environment.
///
/// # Errors
/// If `config.toml` cannot be read, or it or a variable says what is not accepted.
pub fn load(sources: &Sources) -> Result<Config, Problem> {
    let mut config = Config::default();
    let file = sources.dir.join("config.toml");
    if let Some(text) = sources.read(&file)? {
        let mut doc = Doc::new(&file, &text);
        from_file(&mut doc, &mut config, sources);
        doc.finish("cannot use the configuration")?;
    }
    from_env(&mut config, sources)?;
    Ok(config)
}

/// The user's changes of the key map; `actions` are all that exist.
///
/// # Errors
/// If `keymap.toml` cannot be read or names what does not exist.
pub fn load_keymap<A>(sources: &Sources, actions: &[ActionKeys<A>]) -> Result<Overrides, Problem> {
    let file = sources.dir.join("keymap.toml");
    match sources.read(&file)? {
        Some(text) => Overrides::parse(&file, &text, actions),
        None => Ok(Overrides::default()),
    }
}

/// The theme of this name, with as many colours as the environment says there are.
///
/// # Errors
/// If the user's themes cannot be read, or see [`theme::load`].
pub fn load_theme(sources: &Sources, name: &str) -> Result<Theme, Problem> {
    let dir = sources.dir.join("themes");
    let mut files = Vec::new();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let what = format!("cannot read the themes in {}", dir.display());
            let hint = "make it a directory that you can read, or remove it";
            return Err(Problem::new(what, error.to_string(), hint));
        }
    };
    for path in entries {
        let Some(name) = path.file_stem().filter(|_| path.extension().is_some_and(|e| e == "toml"))
        else {
            continue;
        };
        let name = name.to_string_lossy().into_owned();
        if let Some(text) = sources.read(&path)? {
            files.push(ThemeFile { name, path, text });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    theme::load(name, &files, Depth::from_env(|name| sources.env.get(name).cloned()))
}

fn from_file(doc: &mut Doc<'_>, config: &mut Config, sources: &Sources) {
    let root = doc.parse();
    if let (Some(old), true) = (root.get(REPO_ROOT), root.contains_key("runtime_dir")) {
        let message = "repo_root is an old name of runtime_dir, which is here too: remove it";
        doc.mistake(&old.span(), message.to_owned());
    }
    for (name, value) in &root {
        let plain = name.get_ref().as_ref();
        let table =
            KEYS.iter().filter_map(|key| key.name.split_once('.')).find(|(t, _)| *t == plain);
        match (table, value.get_ref()) {
            (None, _) if plain == REPO_ROOT => repo_root(doc, config, value, sources),
            (None, _) => set(doc, config, plain, (name, value), sources),
            (Some((table, _)), DeValue::Table(inner)) => {
                for (name, value) in inner {
                    let full = format!("{table}.{}", name.get_ref());
                    set(doc, config, &full, (name, value), sources);
                }
            }
            (Some((table, _)), _) => {
                doc.mistake(&value.span(), format!("write it as a table: [{table}]"));
            }
        }
    }
}

fn repo_root(
    doc: &mut Doc<'_>,
    config: &mut Config,
    value: &Spanned<DeValue<'_>>,
    sources: &Sources,
) {
    let Some(text) = value.get_ref().as_str() else {
        return doc.mistake(&value.span(), "write a path in quotes".to_owned());
    };
    match absolute(text, sources.home.as_deref()) {
        Ok(root) => {
            let dir = root.join("runtime");
            config.notices.push(format!(
                "{}: repo_root is an old name: write runtime_dir = \"{}\" instead",
                sources.dir.join("config.toml").display(),
                dir.display()
            ));
            config.runtime_dir = Some(dir);
            config.by_repo_root = true;
        }
        Err(message) => doc.mistake(&value.span(), message),
    }
}

fn set(
    doc: &mut Doc<'_>,
    config: &mut Config,
    full: &str,
    (name, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>),
    sources: &Sources,
) {
    let Some(key) = KEYS.iter().find(|key| key.name == full) else {
        let known = KEYS.iter().map(|key| key.name);
        return doc.mistake(&name.span(), unknown("key", full, known));
    };
    let done = as_text(key, value.get_ref())
        .and_then(|text| (key.set)(config, &text, sources.home.as_deref()));
    if let Err(message) = done {
        doc.mistake(&value.span(), format!("{full}: {message}"));
    }
}

/// The value as the user would write it in the environment, if it is of the kind.
fn as_text(key: &Key, value: &DeValue<'_>) -> Result<String, String> {
    match (key.kind, value) {
        (Kind::Text | Kind::Size, DeValue::String(text)) => Ok(text.to_string()),
        (Kind::Number | Kind::Size, DeValue::Integer(n)) if n.radix() == 10 => {
            Ok(n.as_str().trim_start_matches('+').to_owned())
        }
        (Kind::Switch, DeValue::Boolean(on)) => Ok(on.to_string()),
        (Kind::List, DeValue::Array(items)) => {
            let lines = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) if !text.contains('\n') => Ok(text.as_ref()),
                _ => Err("each of the list is a text in quotes, of one line".to_owned()),
            });
            Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        (kind, value) => Err(format!(
            "this is {}, and {} is expected",
            match value {
                DeValue::Table(_) => "a table",
                DeValue::Array(_) => "a list",
                DeValue::String(_) => "a text",
                DeValue::Boolean(_) => "true or false",
                _ => "a number or date of another kind",
            },
            match kind {
                Kind::Text => "a text in quotes",
                Kind::Number => "a whole number",
                Kind::Switch => "true or false, without quotes",
                Kind::List => "a list of texts, [\"…\", \"…\"]",
                Kind::Size => "a size such as \"512M\"",
            }
        )),
    }
}

fn from_env(config: &mut Config, sources: &Sources) -> Result<(), Problem> {
    let mut wrong = Vec::new();
    for key in KEYS {
        if let Some(value) = sources.var(key.env)
            && let Err(why) = (key.set)(config, value, sources.home.as_deref())
        {
            wrong.push(format!("{}: {why}", key.env));
        }
    }
    let known = || KEYS.iter().map(|key| key.env).chain(ENV_ONLY.iter().copied());
    // Only a notice: the environment is shared, and another program may know the variable.
    for name in sources.env.keys().filter(|name| name.starts_with("BANGER_")) {
        if !known().any(|k| k == name) {
            let known: Vec<&str> = known().collect();
            config.notices.push(format!("{}; it is ignored", unknown("variable", name, known)));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let hint = "correct or unset these variables; docs/configuration.md has them all";
    Err(Problem::new("cannot use the environment", wrong.join("\n"), hint))
}
