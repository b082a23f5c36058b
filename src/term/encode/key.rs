//! Keys, in the way of xterm (ctlseqs, "PC-Style Function Keys").

use crate::term::Modes;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// One that types a character: as it is typed, so in upper case if shift is held.
    Char(char),
    /// Enter.
    Enter,
    /// Tab.
    Tab,
    /// Shift and Tab, where that is a key of its own.
    BackTab,
    /// Backspace.
    Backspace,
    /// Escape.
    Esc,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// Home.
    Home,
    /// End.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Insert.
    Insert,
    /// Delete.
    Delete,
    /// A function key, 1 to 20.
    F(u8),
}

/// The modifiers held with a key or a mouse button.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mods {
    /// Shift.
    pub shift: bool,
    /// Alt (Meta).
    pub alt: bool,
    /// Control.
    pub ctrl: bool,
}

impl Mods {
    /// None of them.
    pub const NONE: Self = Self { shift: false, alt: false, ctrl: false };

    /// The parameter of a key's sequence: 1 for none.
    fn parameter(self) -> u8 {
        1 + u8::from(self.shift) + 2 * u8::from(self.alt) + 4 * u8::from(self.ctrl)
    }
}

/// The bytes of a key; none for a key that no terminal sends.
#[must_use]
pub fn key(key: Key, mods: Mods, modes: &Modes) -> Vec<u8> {
    match key {
        Key::Char(c) => with_alt(mods, &character(c, mods)),
        Key::Enter => with_alt(mods, if modes.newline { b"\r\n" } else { b"\r" }),
        Key::Tab if mods.shift => with_alt(mods, b"\x1b[Z"),
        Key::Tab => with_alt(mods, b"\t"),
        Key::BackTab => with_alt(mods, b"\x1b[Z"),
        Key::Backspace => with_alt(mods, if mods.ctrl { b"\x08" } else { b"\x7f" }),
        Key::Esc => with_alt(mods, b"\x1b"),
        Key::Up => cursor(b'A', mods, modes),
        Key::Down => cursor(b'B', mods, modes),
        Key::Right => cursor(b'C', mods, modes),
        Key::Left => cursor(b'D', mods, modes),
        Key::Home => cursor(b'H', mods, modes),
        Key::End => cursor(b'F', mods, modes),
        Key::Insert => tilde(2, mods),
        Key::Delete => tilde(3, mods),
        Key::PageUp => tilde(5, mods),
        Key::PageDown => tilde(6, mods),
        Key::F(n @ 1..=4) => {
            let last = b'P' + n - 1;
            match mods.parameter() {
                1 => vec![0x1b, b'O', last],
                m => format!("\x1b[1;{m}{}", char::from(last)).into_bytes(),
            }
        }
        Key::F(n) => {
            // The numbers have gaps where the VT220's keyboard had them.
            const NUMBERS: [u8; 16] =
                [15, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29, 31, 32, 33, 34];
            let number = usize::from(n).checked_sub(5).and_then(|n| NUMBERS.get(n));
            number.map_or_else(Vec::new, |&number| tilde(number, mods))
        }
    }
}

/// The wheel on the alternate screen of a guest that does not use the mouse: cursor keys, so
/// that pagers scroll. Nothing if that is not wanted (see [`Modes::alternate_scroll`]).
#[must_use]
pub fn wheel_keys(up: bool, lines: usize, modes: &Modes) -> Vec<u8> {
    let wanted = modes.alt_screen && modes.alternate_scroll;
    let one = key(if up { Key::Up } else { Key::Down }, Mods::NONE, modes);
    if wanted { one.repeat(lines) } else { Vec::new() }
}

fn with_alt(mods: Mods, bytes: &[u8]) -> Vec<u8> {
    if mods.alt { [b"\x1b", bytes].concat() } else { bytes.to_vec() }
}

fn character(c: char, mods: Mods) -> Vec<u8> {
    let control = match c.to_ascii_lowercase() {
        _ if !mods.ctrl => None,
        c @ 'a'..='z' => Some(c as u8 & 0x1f),
        ' ' | '@' | '2' | '`' => Some(0),
        '[' | '{' | '3' => Some(0x1b),
        '\\' | '|' | '4' => Some(0x1c),
        ']' | '}' | '5' => Some(0x1d),
        '^' | '~' | '6' => Some(0x1e),
        '_' | '/' | '7' => Some(0x1f),
        '?' | '8' => Some(0x7f),
        _ => None,
    };
    match control {
        Some(byte) => vec![byte],
        None => c.to_string().into_bytes(),
    }
}

fn cursor(last: u8, mods: Mods, modes: &Modes) -> Vec<u8> {
    match mods.parameter() {
        1 if modes.app_cursor => vec![0x1b, b'O', last],
        1 => vec![0x1b, b'[', last],
        m => format!("\x1b[1;{m}{}", char::from(last)).into_bytes(),
    }
}

fn tilde(number: u8, mods: Mods) -> Vec<u8> {
    match mods.parameter() {
        1 => format!("\x1b[{number}~"),
        m => format!("\x1b[{number};{m}~"),
    }
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIFT: Mods = Mods { shift: true, alt: false, ctrl: false };
    const ALT: Mods = Mods { shift: false, alt: true, ctrl: false };
    const CTRL: Mods = Mods { shift: false, alt: false, ctrl: true };
    const ALL: Mods = Mods { shift: true, alt: true, ctrl: true };

    #[test]
    fn the_table_of_keys() {
        let none = Mods::NONE;
        let ctrl_alt = Mods { ctrl: true, ..ALT };
        let table: &[(Key, Mods, &str)] = &[
            (Key::Char('a'), none, "a"),
            (Key::Char('A'), SHIFT, "A"),
            (Key::Char('é'), none, "é"),
            (Key::Char('日'), ALT, "\x1b日"),
            (Key::Char('a'), ALT, "\x1ba"),
            (Key::Char('a'), CTRL, "\x01"),
            (Key::Char('C'), Mods { ctrl: true, ..SHIFT }, "\x03"),
            (Key::Char('z'), CTRL, "\x1a"),
            (Key::Char('c'), ctrl_alt, "\x1b\x03"),
            (Key::Char(' '), CTRL, "\0"),
            (Key::Char('@'), CTRL, "\0"),
            (Key::Char('['), CTRL, "\x1b"),
            (Key::Char('\\'), CTRL, "\x1c"),
            (Key::Char(']'), CTRL, "\x1d"),
            (Key::Char('^'), CTRL, "\x1e"),
            (Key::Char('6'), CTRL, "\x1e"),
            (Key::Char('_'), CTRL, "\x1f"),
            (Key::Char('/'), CTRL, "\x1f"),
            (Key::Char('?'), CTRL, "\x7f"),
            (Key::Char('1'), CTRL, "1"),
            (Key::Char('é'), CTRL, "é"),
            (Key::Enter, none, "\r"),
            (Key::Enter, ALT, "\x1b\r"),
            (Key::Tab, none, "\t"),
            (Key::Tab, SHIFT, "\x1b[Z"),
            (Key::BackTab, SHIFT, "\x1b[Z"),
            (Key::Backspace, none, "\x7f"),
            (Key::Backspace, CTRL, "\x08"),
            (Key::Backspace, ALT, "\x1b\x7f"),
            (Key::Esc, none, "\x1b"),
            (Key::Esc, ALT, "\x1b\x1b"),
            (Key::Up, none, "\x1b[A"),
            (Key::Down, none, "\x1b[B"),
            (Key::Right, CTRL, "\x1b[1;5C"),
            (Key::Left, ALT, "\x1b[1;3D"),
            (Key::Home, none, "\x1b[H"),
            (Key::End, SHIFT, "\x1b[1;2F"),
            (Key::End, ALL, "\x1b[1;8F"),
            (Key::Insert, none, "\x1b[2~"),
            (Key::Delete, none, "\x1b[3~"),
            (Key::Delete, CTRL, "\x1b[3;5~"),
            (Key::PageUp, none, "\x1b[5~"),
            (Key::PageDown, SHIFT, "\x1b[6;2~"),
            (Key::F(1), none, "\x1bOP"),
            (Key::F(4), none, "\x1bOS"),
            (Key::F(1), CTRL, "\x1b[1;5P"),
            (Key::F(5), none, "\x1b[15~"),
            (Key::F(6), none, "\x1b[17~"),
            (Key::F(10), none, "\x1b[21~"),
            (Key::F(11), none, "\x1b[23~"),
            (Key::F(12), ALT, "\x1b[24;3~"),
            (Key::F(20), none, "\x1b[34~"),
            (Key::F(21), none, ""),
            (Key::F(0), none, ""),
        ];
        for &(which, mods, bytes) in table {
            let got = key(which, mods, &Modes::default());
            assert_eq!(got, bytes.as_bytes(), "{which:?} {mods:?}");
        }
    }

    #[test]
    fn modes_change_keys() {
        let app = Modes { app_cursor: true, ..Modes::default() };
        assert_eq!(key(Key::Up, Mods::NONE, &app), b"\x1bOA");
        assert_eq!(key(Key::Home, Mods::NONE, &app), b"\x1bOH");
        assert_eq!(key(Key::Up, CTRL, &app), b"\x1b[1;5A");
        let newline = Modes { newline: true, ..Modes::default() };
        assert_eq!(key(Key::Enter, Mods::NONE, &newline), b"\r\n");
    }

    #[test]
    fn the_wheel_is_keys_only_where_that_helps() {
        assert_eq!(wheel_keys(true, 3, &Modes::default()), b"");
        let pager = Modes { alt_screen: true, alternate_scroll: true, ..Modes::default() };
        assert_eq!(wheel_keys(true, 2, &pager), b"\x1b[A\x1b[A");
        let pager = Modes { app_cursor: true, ..pager };
        assert_eq!(wheel_keys(false, 1, &pager), b"\x1bOB");
    }
}
