//! Which keys do what: the defaults of the actions, changed by the user's `keymap.toml`.

mod chord;
mod overrides;
mod trie;

pub use chord::{BadChord, Chord, Keys};
pub use overrides::Overrides;
pub use trie::{Keymap, Lookup, Next};

/// An action as the key map needs it. `config` knows actions only by these.
#[derive(Clone, Copy, Debug)]
pub struct ActionKeys<A> {
    /// What a lookup answers.
    pub action: A,
    /// Its name in `keymap.toml`: `vm.start`.
    pub id: &'static str,
    /// The contexts it has keys in: `machines`.
    pub contexts: &'static [&'static str],
    /// Its keys as shipped, as [`Keys`] reads them.
    pub keys: &'static [&'static str],
}
