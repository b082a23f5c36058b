//! A key press with its modifiers, as text and as the terminal reports it.

use std::{fmt, str::FromStr};

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A key with the modifiers held, in one normal form: what different terminals report for the
/// same press compares equal.
///
/// Written `s`, `G`, `ctrl-]`, `alt-x`, `shift-pgup`, `space`; names and modifiers in any case,
/// single characters as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chord {
    code: KeyCode,
    mods: KeyModifiers,
}

/// Why a text is no [`Chord`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChord {
    /// Nothing is there.
    #[error("a key is missing: write one such as s, ctrl-p or shift-pgup")]
    Empty,
    /// No key has this name.
    #[error("{}", super::super::doc::unknown("key", .0, NAMES.iter().map(|(name, ..)| *name)))]
    Unknown(String),
    /// A terminal sends the same byte for both.
    #[error("terminals do not tell “{0}” from “{1}”: write {1}")]
    Same(String, &'static str),
}

/// Names of keys: as written, the key, as shown.
const NAMES: [(&str, KeyCode, &str); 29] = [
    ("enter", KeyCode::Enter, "Enter"),
    ("esc", KeyCode::Esc, "Esc"),
    ("tab", KeyCode::Tab, "Tab"),
    ("space", KeyCode::Char(' '), "Space"),
    ("backspace", KeyCode::Backspace, "Backspace"),
    ("del", KeyCode::Delete, "Del"),
    ("ins", KeyCode::Insert, "Ins"),
    ("home", KeyCode::Home, "Home"),
    ("end", KeyCode::End, "End"),
    ("pgup", KeyCode::PageUp, "PgUp"),
    ("pgdn", KeyCode::PageDown, "PgDn"),
    ("up", KeyCode::Up, "↑"),
    ("down", KeyCode::Down, "↓"),
    ("left", KeyCode::Left, "←"),
    ("right", KeyCode::Right, "→"),
    ("minus", KeyCode::Char('-'), "-"),
    ("f1", KeyCode::F(1), "F1"),
    ("f2", KeyCode::F(2), "F2"),
    ("f3", KeyCode::F(3), "F3"),
    ("f4", KeyCode::F(4), "F4"),
    ("f5", KeyCode::F(5), "F5"),
    ("f6", KeyCode::F(6), "F6"),
    ("f7", KeyCode::F(7), "F7"),
    ("f8", KeyCode::F(8), "F8"),
    ("f9", KeyCode::F(9), "F9"),
    ("f10", KeyCode::F(10), "F10"),
    ("f11", KeyCode::F(11), "F11"),
    ("f12", KeyCode::F(12), "F12"),
    ("menu", KeyCode::Menu, "Menu"),
];

/// Modifiers: as written, the modifier, as shown; in the order they are shown.
const MODIFIERS: [(&str, KeyModifiers, &str); 3] = [
    ("ctrl-", KeyModifiers::CONTROL, "Ctrl-"),
    ("alt-", KeyModifiers::ALT, "Alt-"),
    ("shift-", KeyModifiers::SHIFT, "Shift-"),
];

impl Chord {
    /// A key with modifiers, in the normal form.
    #[must_use]
    pub fn new(code: KeyCode, mods: KeyModifiers) -> Self {
        let known = KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT;
        let mut mods = mods & known;
        let ctrl = mods.contains(KeyModifiers::CONTROL);
        let code = match code {
            KeyCode::BackTab => {
                mods.insert(KeyModifiers::SHIFT);
                KeyCode::Tab
            }
            // Terminals send the bytes 0x1c to 0x1f for Ctrl-\ ] ^ _, which crossterm reports
            // as Ctrl-4 to Ctrl-7, the keys of a VT220.
            KeyCode::Char('4') if ctrl => KeyCode::Char('\\'),
            KeyCode::Char('5') if ctrl => KeyCode::Char(']'),
            KeyCode::Char('6') if ctrl => KeyCode::Char('^'),
            KeyCode::Char('7') if ctrl => KeyCode::Char('_'),
            // With Ctrl, a terminal has no case.
            KeyCode::Char(c) if ctrl => KeyCode::Char(c.to_ascii_lowercase()),
            KeyCode::Char(c) if mods.contains(KeyModifiers::SHIFT) => {
                KeyCode::Char(c.to_uppercase().next().unwrap_or(c))
            }
            other => other,
        };
        // A character says by itself whether Shift was held.
        if matches!(code, KeyCode::Char(_)) {
            mods.remove(KeyModifiers::SHIFT);
        }
        Self { code, mods }
    }

    /// The chord of a key press or of its repetition; releases are none.
    #[must_use]
    pub fn from_event(event: &KeyEvent) -> Option<Self> {
        (event.kind != KeyEventKind::Release).then(|| Self::new(event.code, event.modifiers))
    }

    /// The key.
    #[must_use]
    pub const fn code(self) -> KeyCode {
        self.code
    }

    /// The modifiers.
    #[must_use]
    pub const fn mods(self) -> KeyModifiers {
        self.mods
    }

    /// The press that [`Self::from_event`] makes this chord of.
    #[must_use]
    pub const fn event(self) -> KeyEvent {
        KeyEvent::new(self.code, self.mods)
    }
}

impl FromStr for Chord {
    type Err = BadChord;

    fn from_str(text: &str) -> Result<Self, BadChord> {
        let mut mods = KeyModifiers::NONE;
        let mut rest = text;
        'modifiers: loop {
            for (name, modifier, _) in MODIFIERS {
                let head = rest.get(..name.len()).unwrap_or_default();
                if head.eq_ignore_ascii_case(name) && rest.len() > name.len() {
                    mods.insert(modifier);
                    rest = &rest[name.len()..];
                    continue 'modifiers;
                }
            }
            break;
        }
        let mut chars = rest.chars();
        let code = match (chars.next(), chars.next()) {
            (None, _) => return Err(BadChord::Empty),
            (Some(c), None) if !c.is_whitespace() && !c.is_control() => KeyCode::Char(c),
            _ => NAMES
                .iter()
                .find(|(name, ..)| name.eq_ignore_ascii_case(rest))
                .map(|(_, code, _)| *code)
                .ok_or_else(|| BadChord::Unknown(rest.to_owned()))?,
        };
        let chord = Self::new(code, mods);
        // What a terminal sends for the left is what it sends for the right.
        let same = match (chord.code, chord.mods) {
            (KeyCode::Char('i'), KeyModifiers::CONTROL) => Some("tab"),
            (KeyCode::Char('m'), KeyModifiers::CONTROL) => Some("enter"),
            (KeyCode::Char('['), KeyModifiers::CONTROL) => Some("esc"),
            _ => None,
        };
        same.map_or(Ok(chord), |name| Err(BadChord::Same(text.to_owned(), name)))
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (_, modifier, shown) in MODIFIERS {
            if self.mods.contains(modifier) {
                f.write_str(shown)?;
            }
        }
        match (NAMES.iter().find(|(_, code, _)| *code == self.code), self.code) {
            (Some((.., shown)), _) => f.write_str(shown),
            (None, KeyCode::Char(c)) => write!(f, "{c}"),
            (None, other) => write!(f, "{other}"),
        }
    }
}

/// Keys pressed one after the other: `g g`. Written with blanks between; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keys(Vec<Chord>);

impl Keys {
    /// The chords in order.
    #[must_use]
    pub fn chords(&self) -> &[Chord] {
        &self.0
    }
}

impl FromStr for Keys {
    type Err = BadChord;

    fn from_str(text: &str) -> Result<Self, BadChord> {
        let chords: Vec<Chord> =
            text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        if chords.is_empty() { Err(BadChord::Empty) } else { Ok(Self(chords)) }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, chord) in self.0.iter().enumerate() {
            write!(f, "{}{chord}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chord(text: &str) -> Chord {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn chords_are_read_and_shown() {
        for (text, shown) in [
            ("s", "s"),
            ("G", "G"),
            ("shift-g", "G"),
            ("ctrl-]", "Ctrl-]"),
            ("CTRL-P", "Ctrl-p"),
            ("shift-pgup", "Shift-PgUp"),
            ("alt-ctrl-x", "Ctrl-Alt-x"),
            ("space", "Space"),
            ("-", "-"),
            ("ctrl--", "Ctrl--"),
            ("alt-minus", "Alt--"),
            ("f12", "F12"),
            ("up", "↑"),
            ("?", "?"),
            ("ü", "ü"),
        ] {
            assert_eq!(chord(text).to_string(), shown, "{text}");
        }
        assert_eq!("g g".parse::<Keys>().expect("two").to_string(), "g g");
        assert_eq!("  g   G ".parse::<Keys>().expect("two").chords().len(), 2);
    }

    #[test]
    fn every_name_comes_back_through_its_event() {
        for (name, ..) in NAMES {
            let chord = chord(name);
            assert_eq!(Chord::from_event(&chord.event()), Some(chord), "{name}");
        }
    }

    #[test]
    fn what_a_terminal_really_sends_is_the_chord_that_was_written() {
        let event = |code, mods| Chord::from_event(&KeyEvent::new(code, mods)).expect("a press");
        let (none, ctrl, shift) = (KeyModifiers::NONE, KeyModifiers::CONTROL, KeyModifiers::SHIFT);
        // 0x1d, as crossterm 0.29 decodes it without the kitty protocol, and with it.
        assert_eq!(event(KeyCode::Char('5'), ctrl), chord("ctrl-]"));
        assert_eq!(event(KeyCode::Char(']'), ctrl), chord("ctrl-]"));
        assert_eq!(event(KeyCode::Char('G'), none), chord("G"));
        assert_eq!(event(KeyCode::Char('G'), shift), chord("G"));
        assert_eq!(event(KeyCode::Char('?'), shift), chord("?"));
        assert_eq!(event(KeyCode::BackTab, shift), chord("shift-tab"));
        assert_eq!(event(KeyCode::BackTab, none), chord("shift-tab"));
        let release = KeyEvent::new_with_kind(KeyCode::Enter, none, KeyEventKind::Release);
        assert_eq!(Chord::from_event(&release), None);
    }

    #[test]
    fn what_is_no_key_is_said_with_what_is_near() {
        let error = |text: &str| text.parse::<Keys>().expect_err(text).to_string();
        assert_eq!(error("pgupp"), "there is no key “pgupp”; did you mean “pgup”?");
        assert!(error("").contains("missing"));
        assert!(error("   ").contains("missing"));
        assert!(error("ctrl-").contains("ctrl-"), "{}", error("ctrl-"));
        assert!(error("ctrl-i").contains("write tab"), "{}", error("ctrl-i"));
        assert!(error("ctrl-M").contains("write enter"));
        assert!(error("g \u{7}").contains("there is no key"));
    }
}
