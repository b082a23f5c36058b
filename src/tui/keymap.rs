//! The key map of all actions: defaults from the table, changed by the user's `keymap.toml`.

use ratatui::crossterm::event::{KeyCode, KeyModifiers};

use super::action::{ALL, Action, Context};
use crate::{
    config::keymap::{ActionKeys, Chord, Keymap, Keys, Lookup, Next, Overrides},
    domain::Problem,
};

/// All actions as the configuration wants them.
#[must_use]
pub fn action_keys() -> Vec<ActionKeys<Action>> {
    let keys = |info: &super::action::ActionInfo| ActionKeys {
        action: info.action,
        id: info.id,
        contexts: info.context_ids,
        keys: info.keys,
    };
    ALL.iter().map(keys).collect()
}

/// Which key does what.
#[derive(Clone, Debug)]
pub struct KeyMap {
    map: Keymap<Action>,
    escape: Chord,
}

impl KeyMap {
    /// The defaults with the user's changes.
    ///
    /// # Errors
    /// If two actions have the same keys in one context.
    pub fn new(overrides: &Overrides) -> Result<Self, Problem> {
        let map = Keymap::build(&action_keys(), overrides)?;
        let set = map.keys_of(Context::Terminal.id(), Action::PaneLeave).next();
        let escape = set.and_then(|keys| keys.chords().first()).copied();
        let none =
            || Problem::new("a pane could not be left", "pane-leave has no key", "give it one");
        let escape = escape.ok_or_else(none)?;
        Ok(Self { map, escape })
    }

    /// The chord that takes the keyboard back from a pane; again, it is sent to the guest.
    #[must_use]
    pub const fn escape(&self) -> Chord {
        self.escape
    }

    /// Makes another chord the one that takes the keyboard back; the old one goes to the guest.
    pub const fn set_escape(&mut self, chord: Chord) {
        self.escape = chord;
    }

    /// What `pressed` means: the first context that completes something has it; if none does,
    /// what can follow in any of them.
    #[must_use]
    pub fn lookup(&self, contexts: &[Context], pressed: &[Chord]) -> Lookup<Action> {
        if pressed == [self.escape] {
            match contexts.first() {
                Some(Context::Terminal) => return Lookup::Matched(Action::PaneLeave),
                Some(Context::Panes) => return Lookup::Matched(Action::PaneSendEscape),
                _ => {}
            }
        }
        let mut follow: Vec<Next<Action>> = Vec::new();
        for context in contexts {
            match self.map.lookup(&[context.id()], pressed) {
                // Their key is the escape chord, whatever it was in the table.
                Lookup::Matched(Action::PaneLeave | Action::PaneSendEscape) => {}
                Lookup::Matched(action) => return Lookup::Matched(action),
                Lookup::Pending(next) => {
                    for n in next {
                        if follow.iter().all(|f| f.chord != n.chord) {
                            follow.push(n);
                        }
                    }
                }
                Lookup::NotFound => {}
            }
        }
        if follow.is_empty() { Lookup::NotFound } else { Lookup::Pending(follow) }
    }

    /// The preferred keys of an action in the first of `contexts` that has any.
    #[must_use]
    pub fn keys_of(&self, contexts: &[Context], action: Action) -> Option<&Keys> {
        contexts.iter().find_map(|context| self.all_keys_of(*context, action).next())
    }

    /// All keys of an action in a context, the preferred first.
    pub fn all_keys_of(&self, context: Context, action: Action) -> impl Iterator<Item = &Keys> {
        let keys = self.map.keys_of(context.id(), action);
        keys.filter(move |keys| context != Context::Palette || !is_text(keys))
    }
}

/// Whether it is typed where text is: there it has no other meaning, whatever the table has.
fn is_text(keys: &Keys) -> bool {
    let typed = |chord: &Chord| {
        let plain = !chord.mods().intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        plain && matches!(chord.code(), KeyCode::Char(_))
    };
    keys.chords().first().is_some_and(typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(contexts: &[Context], keys: &str) -> Lookup<Action> {
        let map = KeyMap::new(&Overrides::default()).expect("the defaults agree");
        map.lookup(contexts, keys.parse::<Keys>().expect(keys).chords())
    }

    #[test]
    fn a_prefix_of_two_contexts_offers_what_follows_in_both() {
        let stack = [Context::Machines, Context::List, Context::Global];
        let Lookup::Pending(next) = press(&stack, "g") else { panic!("g is a prefix") };
        let shown: Vec<String> = next.iter().map(|n| n.chord.to_string()).collect();
        assert!(["g", "m", "p", "j"].iter().all(|c| shown.iter().any(|s| s == c)), "{shown:?}");
        assert_eq!(press(&stack, "g g"), Lookup::Matched(Action::Top));
        assert_eq!(press(&stack, "g m"), Lookup::Matched(Action::GoMachines));
        assert_eq!(press(&stack, "g ?"), Lookup::NotFound);
    }

    #[test]
    fn no_letter_is_named_as_a_key_where_it_is_typed() {
        let map = KeyMap::new(&Overrides::default()).expect("the defaults agree");
        let keys = |context| map.keys_of(&[context], Action::Up).map(ToString::to_string);
        assert_eq!(keys(Context::Palette).as_deref(), Some("↑"));
        assert_eq!(keys(Context::List).as_deref(), Some("k"));
    }

    #[test]
    fn popups_do_not_know_the_keys_of_screens() {
        assert_eq!(press(&[Context::Confirm], "n"), Lookup::Matched(Action::No));
        assert_eq!(press(&[Context::Confirm], "x"), Lookup::NotFound);
    }
}
