//! Theme files: `inherits`, `[palette]`, `[styles]`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ratatui::style::Modifier;
use toml::{Spanned, de::DeValue};

use super::{Depth, Look, Rgb, SHIPPED, Slot, Theme};
use crate::{
    config::doc::{Doc, unknown},
    domain::Problem,
};

/// A theme of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThemeFile {
    /// Its name: the file's without `.toml`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// The theme `name`: one of the user's, or a shipped one.
///
/// # Errors
/// If there is none of that name, or anything in it, or in what it inherits from, is wrong: an
/// unknown slot or key, a colour that is none, a slot without a style, a circle of `inherits`.
pub fn load(name: &str, user: &[ThemeFile], depth: Depth) -> Result<Theme, Problem> {
    let mut chain: Vec<(String, PathBuf)> = Vec::new();
    let mut layers: Vec<Layer> = Vec::new();
    let mut next = Some(name.to_owned());
    while let Some(name) = next.take() {
        // A theme of the user's may inherit from the shipped one that it replaces.
        let seen = chain.iter().any(|(n, _)| *n == name);
        let own = user.iter().find(|file| file.name == name && !seen);
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
        let (path, text) = match (own, shipped) {
            (Some(file), _) => (file.path.clone(), file.text.as_str()),
            (None, Some((_, text))) => (PathBuf::from(format!("(shipped) {name}.toml")), *text),
            (None, None) if seen => return Err(circle(&chain, &name)),
            (None, None) => return Err(missing(&name, user, chain.last().map(|(_, p)| p))),
        };
        if chain.iter().any(|(_, p)| *p == path) {
            return Err(circle(&chain, &name));
        }
        let layer = read(&path, text)?;
        next.clone_from(&layer.inherits);
        chain.push((name, path));
        layers.push(layer);
    }
    resolve(name, &chain, &layers, depth)
}

fn missing(name: &str, user: &[ThemeFile], from: Option<&PathBuf>) -> Problem {
    let names = user.iter().map(|file| file.name.as_str()).chain(SHIPPED.map(|(name, _)| name));
    let why = unknown("theme", name, names);
    let why = from.map_or(why.clone(), |path| format!("{}: inherits: {why}", path.display()));
    Problem::new("cannot load the theme", why, "set `theme` in config.toml to one that exists")
}

fn circle(chain: &[(String, PathBuf)], name: &str) -> Problem {
    let mut names: Vec<&str> = chain.iter().map(|(name, _)| name.as_str()).collect();
    names.push(name);
    let hint = "take `inherits` out of one of them";
    Problem::new(
        "cannot load the theme",
        format!("it inherits from itself: {}", names.join(" → ")),
        hint,
    )
}

/// One file of a theme.
struct Layer {
    inherits: Option<String>,
    palette: BTreeMap<String, Rgb>,
    styles: Vec<(Slot, Written)>,
}

/// A style as written: colours may be names of a palette that a later file changes.
struct Written {
    fg: Option<String>,
    bg: Option<String>,
    attributes: Modifier,
    line: usize,
}

const KEYS: [&str; 3] = ["inherits", "palette", "styles"];

const ATTRIBUTES: [(&str, Modifier); 5] = [
    ("bold", Modifier::BOLD),
    ("dim", Modifier::DIM),
    ("italic", Modifier::ITALIC),
    ("underline", Modifier::UNDERLINED),
    ("reverse", Modifier::REVERSED),
];

fn read(path: &Path, text: &str) -> Result<Layer, Problem> {
    let mut doc = Doc::new(path, text);
    let mut layer = Layer { inherits: None, palette: BTreeMap::new(), styles: Vec::new() };
    for (key, value) in doc.parse() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("inherits", DeValue::String(name)) => layer.inherits = Some(name.to_string()),
            ("inherits", _) => doc.mistake(&value.span(), "write the name of a theme".to_owned()),
            ("palette", DeValue::Table(colors)) => {
                for (name, color) in colors {
                    let rgb = color.get_ref().as_str().unwrap_or("what is no text").parse::<Rgb>();
                    match rgb {
                        Ok(rgb) => drop(layer.palette.insert(name.get_ref().to_string(), rgb)),
                        Err(message) => doc.mistake(&color.span(), message),
                    }
                }
            }
            ("styles", DeValue::Table(styles)) => {
                for (key, style) in styles {
                    let slot = Slot::ALL.iter().find(|(_, name)| *name == key.get_ref().as_ref());
                    match slot {
                        Some((slot, _)) => layer.styles.push((*slot, written(&mut doc, style))),
                        None => doc.unknown(key, "slot", Slot::ALL.iter().map(|(_, name)| *name)),
                    }
                }
            }
            (name @ ("palette" | "styles"), _) => {
                doc.mistake(&value.span(), format!("write it as a table: [{name}]"));
            }
            _ => doc.unknown(&key, "key", KEYS),
        }
    }
    doc.finish("cannot use the theme")?;
    Ok(layer)
}

fn written(doc: &mut Doc<'_>, value: &Spanned<DeValue<'_>>) -> Written {
    let line = doc.line(value.span().start);
    let mut style = Written { fg: None, bg: None, attributes: Modifier::empty(), line };
    match value.get_ref() {
        DeValue::String(fg) => style.fg = Some(fg.to_string()),
        DeValue::Table(parts) => {
            for (key, part) in parts {
                let attribute = ATTRIBUTES.iter().find(|(name, _)| *name == key.get_ref().as_ref());
                match (key.get_ref().as_ref(), attribute, part.get_ref()) {
                    ("fg", _, DeValue::String(color)) => style.fg = Some(color.to_string()),
                    ("bg", _, DeValue::String(color)) => style.bg = Some(color.to_string()),
                    (_, Some((_, attribute)), DeValue::Boolean(on)) => {
                        style.attributes.set(*attribute, *on);
                    }
                    ("fg" | "bg", ..) => {
                        doc.mistake(&part.span(), "write a colour as a text".to_owned());
                    }
                    (_, Some(_), _) => doc.mistake(&part.span(), "true or false?".to_owned()),
                    _ => {
                        let known = ATTRIBUTES.iter().map(|(name, _)| *name);
                        doc.unknown(key, "part of a style", ["fg", "bg"].into_iter().chain(known));
                    }
                }
            }
        }
        _ => {
            let message = "a style is a colour, or a table such as { fg = \"red\", bold = true }";
            doc.mistake(&value.span(), message.to_owned());
        }
    }
    style
}

/// Puts the layers, the most special first, on top of each other.
fn resolve(
    name: &str,
    chain: &[(String, PathBuf)],
    layers: &[Layer],
    depth: Depth,
) -> Result<Theme, Problem> {
    let mut palette: BTreeMap<&str, Rgb> = BTreeMap::new();
    for (name, rgb) in layers.iter().rev().flat_map(|layer| &layer.palette) {
        palette.insert(name, *rgb);
    }
    let mut wrong: Vec<String> = Vec::new();
    let mut looks = [Look::default(); Slot::ALL.len()];
    for (slot, key) in Slot::ALL {
        let found = layers.iter().zip(chain).find_map(|(layer, (_, path))| {
            let style = layer.styles.iter().find(|(s, _)| *s == slot);
            style.map(|(_, style)| (style, path))
        });
        let Some((style, path)) = found else {
            let top = chain.first().map_or_else(String::new, |(_, p)| p.display().to_string());
            wrong.push(format!("{top}: the slot “{key}” has no style; inherit from dark or light"));
            continue;
        };
        let mut color = |text: &Option<String>| {
            let text = text.as_deref()?;
            if let Some(rgb) = palette.get(text) {
                return Some(*rgb);
            }
            match text.parse() {
                Ok(rgb) => Some(rgb),
                Err(_) if !text.starts_with('#') => {
                    let why = unknown("colour", text, palette.keys().copied());
                    wrong.push(format!("{}:{}: {why}", path.display(), style.line));
                    None
                }
                Err(why) => {
                    wrong.push(format!("{}:{}: {why}", path.display(), style.line));
                    None
                }
            }
        };
        let (fg, bg) = (color(&style.fg), color(&style.bg));
        looks[slot.index()] = Look { fg, bg, attributes: style.attributes };
    }
    if wrong.is_empty() {
        return Ok(Theme::new(name, &looks, depth));
    }
    let hint = "correct these lines, or set `theme` in config.toml to dark or light";
    Err(Problem::new("cannot use the theme", wrong.join("\n"), hint))
}
