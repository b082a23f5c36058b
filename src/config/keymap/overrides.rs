//! `keymap.toml`: per context, action = its keys.

use std::{collections::BTreeMap, path::Path};

use toml::{Spanned, de::DeValue};

use super::{ActionKeys, Keys};
use crate::{config::doc::Doc, domain::Problem};

/// The user's bindings: they replace the default keys of the actions they name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<(String, String), Vec<Keys>>);

impl Overrides {
    /// Reads the text of `file`:
    ///
    /// ```toml
    /// [machines]
    /// "vm.start" = "S"
    /// "vm.stop" = ["x", "ctrl-x"]
    /// "vm.kill" = []
    /// ```
    ///
    /// # Errors
    /// Every context, action or key that does not exist, with its line.
    pub fn parse<A>(file: &Path, text: &str, actions: &[ActionKeys<A>]) -> Result<Self, Problem> {
        let mut doc = Doc::new(file, text);
        let mut known: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for info in actions {
            for context in info.contexts {
                known.entry(context).or_default().push(info.id);
            }
        }
        let mut found = BTreeMap::new();
        for (context, bindings) in doc.parse() {
            let Some(ids) = known.get(context.get_ref().as_ref()) else {
                doc.unknown(&context, "context", known.keys().copied());
                continue;
            };
            let DeValue::Table(bindings) = bindings.get_ref() else {
                let message = format!("write it as a table: [{}]", context.get_ref());
                doc.mistake(&context.span(), message);
                continue;
            };
            for (id, keys) in bindings {
                if !ids.contains(&id.get_ref().as_ref()) {
                    let noun = format!("action in [{}]", context.get_ref());
                    doc.unknown(id, &noun, ids.iter().copied());
                    continue;
                }
                let keys = read_keys(&mut doc, keys);
                found.insert((context.get_ref().to_string(), id.get_ref().to_string()), keys);
            }
        }
        doc.finish("cannot use the key map")?;
        Ok(Self(found))
    }

    /// The user's keys of an action in a context; `None` leaves it its defaults.
    #[must_use]
    pub fn keys(&self, context: &str, id: &str) -> Option<&[Keys]> {
        self.0.get(&(context.to_owned(), id.to_owned())).map(Vec::as_slice)
    }
}

fn read_keys(doc: &mut Doc<'_>, value: &Spanned<DeValue<'_>>) -> Vec<Keys> {
    let items: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
        DeValue::Array(items) => items.iter().collect(),
        _ => vec![value],
    };
    let mut keys = Vec::new();
    for item in items {
        match item.get_ref().as_str().map(str::parse::<Keys>) {
            Some(Ok(one)) => keys.push(one),
            Some(Err(error)) => doc.mistake(&item.span(), error.to_string()),
            None => {
                let message = "keys are a text such as \"ctrl-s\", or a list of such texts";
                doc.mistake(&item.span(), message.to_owned());
            }
        }
    }
    keys
}
