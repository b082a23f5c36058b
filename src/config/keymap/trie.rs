//! Looking up keys, one press at a time.

use std::collections::BTreeMap;

use super::{ActionKeys, Chord, Keys, Overrides};
use crate::domain::Problem;

/// The bindings of all contexts.
#[derive(Clone, Debug, Default)]
pub struct Keymap<A> {
    contexts: BTreeMap<&'static str, Vec<(Keys, A)>>,
}

/// What keys pressed so far mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<A> {
    /// The beginning of something; these can follow.
    Pending(Vec<Next<A>>),
    /// An action.
    Matched(A),
    /// Nothing.
    NotFound,
}

/// What can follow the keys pressed so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next<A> {
    /// The next key.
    pub chord: Chord,
    /// The action, if that key completes one; `None` if more keys must follow.
    pub action: Option<A>,
}

impl<A: Copy + PartialEq> Keymap<A> {
    /// The defaults of `actions` with the user's `overrides`, which name known contexts and
    /// actions only (see [`Overrides::parse`]).
    ///
    /// Where a key of the user's is the beginning of a default, or the other way round, the
    /// default gives way.
    ///
    /// # Errors
    /// If two defaults, or two of the user's bindings, take the same keys in one context.
    pub fn build(actions: &[ActionKeys<A>], overrides: &Overrides) -> Result<Self, Problem> {
        let mut contexts: BTreeMap<&'static str, Vec<(Keys, A)>> = BTreeMap::new();
        let mut owners: Vec<(&'static str, Keys, &'static str)> = Vec::new();
        // The user's bindings go in first; a default comes in only where there is room.
        for own in [true, false] {
            for info in actions {
                for context in info.contexts {
                    let bindings = contexts.entry(context).or_default();
                    let taken = overrides.keys(context, info.id);
                    if own != taken.is_some() {
                        continue;
                    }
                    let shipped = || info.keys.iter().map(|text| shipped_keys(info.id, text));
                    let wanted = match taken {
                        Some(keys) => keys.to_vec(),
                        None => shipped().collect::<Result<_, _>>()?,
                    };
                    for keys in wanted {
                        let clash = owners.iter().find(|(c, k, _)| c == context && clash(k, &keys));
                        match clash {
                            None => {
                                owners.push((context, keys.clone(), info.id));
                                bindings.push((keys, info.action));
                            }
                            Some((_, _, other))
                                if overrides.keys(context, other).is_some() && !own => {}
                            Some((_, other_keys, other)) => {
                                return Err(twice(context, (info.id, &keys), (other, other_keys)));
                            }
                        }
                    }
                }
            }
        }
        Ok(Self { contexts })
    }

    /// What `pressed` means in `contexts`: the first that knows anything decides.
    #[must_use]
    pub fn lookup(&self, contexts: &[&str], pressed: &[Chord]) -> Lookup<A> {
        for context in contexts {
            let mut next: Vec<Next<A>> = Vec::new();
            for (keys, action) in self.contexts.get(context).into_iter().flatten() {
                match keys.chords().strip_prefix(pressed) {
                    Some([]) => return Lookup::Matched(*action),
                    Some([chord]) => next.push(Next { chord: *chord, action: Some(*action) }),
                    Some([chord, ..]) if next.iter().all(|n| n.chord != *chord) => {
                        next.push(Next { chord: *chord, action: None });
                    }
                    _ => {}
                }
            }
            if !next.is_empty() && !pressed.is_empty() {
                return Lookup::Pending(next);
            }
        }
        Lookup::NotFound
    }

    /// The keys of an action in a context, the preferred first.
    pub fn keys_of(&self, context: &str, action: A) -> impl Iterator<Item = &Keys> {
        let bindings = self.contexts.get(context).into_iter().flatten();
        bindings.filter(move |(_, bound)| *bound == action).map(|(keys, _)| keys)
    }
}

fn shipped_keys(id: &str, text: &str) -> Result<Keys, Problem> {
    text.parse().map_err(|error| {
        Problem::new(
            format!("the key “{text}” of {id} is wrong"),
            format!("{error}"),
            "report this",
        )
    })
}

/// Whether one is the beginning of the other.
fn clash(a: &Keys, b: &Keys) -> bool {
    a.chords().starts_with(b.chords()) || b.chords().starts_with(a.chords())
}

fn twice(context: &str, a: (&str, &Keys), b: (&str, &Keys)) -> Problem {
    let why = if a.1 == b.1 {
        format!("“{}” is given to both {} and {} in [{context}]", a.1, a.0, b.0)
    } else {
        let (id, keys, other, longer) = if a.1.chords().len() < b.1.chords().len() {
            (a.0, a.1, b.0, b.1)
        } else {
            (b.0, b.1, a.0, a.1)
        };
        format!("“{keys}” of {id} is the beginning of “{longer}” of {other} in [{context}]")
    };
    Problem::new(
        "the key map contradicts itself",
        why,
        "give one of them another key in keymap.toml",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Act {
        Top,
        Bottom,
        Start,
        Stop,
        Quit,
    }

    const ACTIONS: &[ActionKeys<Act>] = &[
        ActionKeys { action: Act::Top, id: "go.top", contexts: &["list"], keys: &["g g", "home"] },
        ActionKeys { action: Act::Bottom, id: "go.bottom", contexts: &["list"], keys: &["G"] },
        ActionKeys { action: Act::Start, id: "vm.start", contexts: &["list"], keys: &["s"] },
        ActionKeys { action: Act::Stop, id: "vm.stop", contexts: &["list"], keys: &["x"] },
        ActionKeys { action: Act::Quit, id: "quit", contexts: &["global"], keys: &["q", "ctrl-c"] },
    ];

    fn build(toml: &str) -> Result<Keymap<Act>, Problem> {
        Keymap::build(ACTIONS, &Overrides::parse(Path::new("keymap.toml"), toml, ACTIONS)?)
    }

    fn press(map: &Keymap<Act>, keys: &str) -> Lookup<Act> {
        map.lookup(&["list", "global"], keys.parse::<Keys>().expect(keys).chords())
    }

    #[test]
    fn sequences_are_pending_until_they_are_complete() {
        let map = build("").expect("defaults");
        let g = "g".parse().expect("g");
        let next = Next { chord: g, action: Some(Act::Top) };
        assert_eq!(press(&map, "g"), Lookup::Pending(vec![next]));
        assert_eq!(press(&map, "g g"), Lookup::Matched(Act::Top));
        assert_eq!(press(&map, "g x"), Lookup::NotFound);
        assert_eq!(press(&map, "ctrl-c"), Lookup::Matched(Act::Quit));
        assert_eq!(
            map.lookup(&["global"], "s".parse::<Keys>().expect("s").chords()),
            Lookup::NotFound
        );
        assert_eq!(map.lookup(&["list"], &[]), Lookup::NotFound);
    }

    #[test]
    fn the_users_keys_replace_the_defaults_of_that_action() {
        let map = build("[list]\n\"vm.start\" = [\"S\", \"f5\"]\n").expect("good");
        assert_eq!(press(&map, "S"), Lookup::Matched(Act::Start));
        assert_eq!(press(&map, "s"), Lookup::NotFound);
        let keys: Vec<String> = map.keys_of("list", Act::Start).map(ToString::to_string).collect();
        assert_eq!(keys, ["S", "F5"]);
    }

    #[test]
    fn a_default_gives_way_to_the_users_key() {
        let map = build("[list]\n\"vm.stop\" = \"s\"\n\"vm.start\" = \"g\"\n").expect("good");
        assert_eq!(press(&map, "s"), Lookup::Matched(Act::Stop));
        assert_eq!(press(&map, "g"), Lookup::Matched(Act::Start));
        assert_eq!(press(&map, "home"), Lookup::Matched(Act::Top));
    }

    #[test]
    fn an_empty_list_takes_the_keys_away() {
        let map = build("[list]\n\"vm.stop\" = []\n").expect("good");
        assert_eq!(press(&map, "x"), Lookup::NotFound);
    }

    #[test]
    fn two_of_the_users_bindings_on_one_key_are_an_error() {
        let problem =
            build("[list]\n\"vm.stop\" = \"a\"\n\"vm.start\" = \"a\"\n").expect_err("twice");
        assert_eq!(problem.why, "“a” is given to both vm.stop and vm.start in [list]");
        let problem =
            build("[list]\n\"vm.stop\" = \"a b\"\n\"vm.start\" = \"a\"\n").expect_err("prefix");
        assert!(problem.why.contains("“a” of vm.start is the beginning of “a b”"), "{problem}");
    }

    #[test]
    fn unknown_contexts_and_actions_are_errors_with_line_and_suggestion() {
        let problem = build("[lst]\n\"vm.start\" = \"s\"\n").expect_err("context");
        assert_eq!(problem.why, "keymap.toml:1: there is no context “lst”; did you mean “list”?");
        let problem = build("[list]\n\n\"vm.strat\" = \"s\"\n").expect_err("action");
        assert_eq!(
            problem.why,
            "keymap.toml:3: there is no action in [list] “vm.strat”; did you mean “vm.start”?"
        );
        let problem =
            build("[list]\n\"vm.start\" = \"ctl-s\"\n\"vm.stop\" = 1\nx = 2").expect_err("keys");
        assert_eq!(problem.why.lines().count(), 3, "{problem}");
    }
}
