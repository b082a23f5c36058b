//! Keys, mouse events, pastes and changes of focus as the bytes a guest expects.
//!
//! Keys and modifiers are types of our own; the UI maps what its terminal library has to them.

mod key;
mod mouse;

pub use key::{Key, Mods, key, wheel_keys};
pub use mouse::{Button, Mouse, MouseKind, mouse};

use super::Modes;

/// A paste: with the brackets of mode 2004 if the guest asked for them.
///
/// Line ends become CR, as if typed. Inside brackets escape characters are left out: a text
/// that contains the closing bracket could otherwise have the rest of it run as typed.
#[must_use]
pub fn paste(text: &str, modes: &Modes) -> Vec<u8> {
    let text = text.replace("\r\n", "\r").replace('\n', "\r");
    if !modes.bracketed_paste {
        return text.into_bytes();
    }
    // U+009B is the one-character form of `ESC [`.
    let inner = text.replace(['\x1b', '\u{9b}'], "");
    [b"\x1b[200~", inner.as_bytes(), b"\x1b[201~"].concat()
}

/// The pane got (or lost) the focus; nothing unless the guest asked to be told.
#[must_use]
pub fn focus(gained: bool, modes: &Modes) -> Option<&'static [u8]> {
    match (modes.focus, gained) {
        (false, _) => None,
        (true, true) => Some(b"\x1b[I"),
        (true, false) => Some(b"\x1b[O"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paste_is_typed_or_bracketed() {
        let plain = Modes::default();
        let bracketed = Modes { bracketed_paste: true, ..Modes::default() };
        assert_eq!(paste("a\r\nb\nc\r", &plain), b"a\rb\rc\r");
        assert_eq!(paste("a\nb", &bracketed), b"\x1b[200~a\rb\x1b[201~");
        assert_eq!(paste("", &bracketed), b"\x1b[200~\x1b[201~");
        assert_eq!(paste("é日", &plain), "é日".as_bytes());
    }

    #[test]
    fn a_paste_never_ends_its_bracket_early() {
        let bracketed = Modes { bracketed_paste: true, ..Modes::default() };
        for evil in
            ["x\x1b[201~rm -rf /\n", "x\x1b[20\x1b[201~1~y", "\u{9b}201~y", "\x1b\x1b[201~", "\x1b"]
        {
            let bytes = paste(evil, &bracketed);
            let inner = &bytes[6..bytes.len() - 6];
            assert!(!inner.contains(&0x1b), "{evil:?}");
            assert!(!String::from_utf8_lossy(inner).contains('\u{9b}'), "{evil:?}");
            assert!(bytes.starts_with(b"\x1b[200~") && bytes.ends_with(b"\x1b[201~"));
        }
    }

    #[test]
    fn focus_is_told_only_to_who_asked() {
        assert_eq!(focus(true, &Modes::default()), None);
        let modes = Modes { focus: true, ..Modes::default() };
        assert_eq!(focus(true, &modes), Some(b"\x1b[I".as_slice()));
        assert_eq!(focus(false, &modes), Some(b"\x1b[O".as_slice()));
    }
}
