//! Takes the control sequences out of what a guest wrote.
//!
//! Guest output is data. `logs` prints text and nothing else; `console` shows the guest's screen,
//! so it lets through what draws, and holds back what reaches beyond the screen: the control
//! strings (window titles, the clipboard, images, terminal-specific commands), window commands
//! and printing. The grammar is that of ECMA-48 as xterm reads it.

/// What may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Text, tabs and line ends.
    Text,
    /// What draws on the screen, too.
    Screen,
}

/// Between two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and intermediate bytes: one final byte ends it.
    Intermediate,
    /// After CSI.
    Csi,
    /// In OSC, DCS, SOS, PM or APC: all of it is dropped.
    String,
    /// After ESC in a string.
    StringEscape,
}

/// Works byte by byte, however the stream was cut.
#[derive(Debug)]
pub struct Sanitizer {
    pass: Pass,
    state: State,
    /// The sequence so far, if it may yet pass.
    held: Vec<u8>,
    /// The beginning of a UTF-8 character.
    partial: Vec<u8>,
    /// A carriage return that may turn out to belong to a line end.
    carriage: bool,
}

/// The longest sequence that passes. Real ones are shorter than 64 bytes.
const HELD_MAX: usize = 256;

const ESC: u8 = 0x1b;

impl Sanitizer {
    /// At the beginning of a stream.
    #[must_use]
    pub const fn new(pass: Pass) -> Self {
        Self { pass, state: State::Ground, held: Vec::new(), partial: Vec::new(), carriage: false }
    }

    /// Takes what came and appends to `out` what may pass.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            self.step(byte, out);
        }
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        // CAN and SUB end any sequence; ESC begins another, wherever it is.
        match (self.state, byte) {
            (State::Ground, ESC) | (State::Escape | State::Intermediate | State::Csi, ESC) => {
                self.flush_partial(out);
                self.held.clear();
                self.held.push(ESC);
                self.state = State::Escape;
            }
            (State::Ground, _) => self.ground(byte, out),
            (_, 0x18 | 0x1a) => self.drop_sequence(),
            (State::String, 0x07) => self.drop_sequence(),
            (State::String, ESC) => self.state = State::StringEscape,
            (State::String, _) => {}
            (State::StringEscape, b'\\') => self.drop_sequence(),
            // Not the terminator: the string is over all the same, and a sequence began.
            (State::StringEscape, _) => {
                self.held.clear();
                self.held.push(ESC);
                self.state = State::Escape;
                self.step(byte, out);
            }
            // Control characters within a sequence act at once; we drop them.
            (_, 0x00..=0x1f | 0x7f) => {}
            (State::Escape, b'[') => self.hold(byte, State::Csi),
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => {
                self.held.clear();
                self.state = State::String;
            }
            (State::Escape | State::Intermediate, 0x20..=0x2f) => {
                self.hold(byte, State::Intermediate);
            }
            (State::Escape | State::Intermediate, _) => self.finish(byte, out),
            (State::Csi, 0x20..=0x3f) => self.hold(byte, State::Csi),
            // `t` are window commands (some answer as if typed), `i` is printing.
            (State::Csi, b't' | b'i') => self.drop_sequence(),
            (State::Csi, 0x40..=0x7e) => self.finish(byte, out),
            (State::Csi, _) => self.drop_sequence(),
        }
    }

    fn hold(&mut self, byte: u8, state: State) {
        if self.held.len() < HELD_MAX {
            self.held.push(byte);
            self.state = state;
        } else {
            self.drop_sequence();
        }
    }

    fn drop_sequence(&mut self) {
        self.held.clear();
        self.state = State::Ground;
    }

    fn finish(&mut self, last: u8, out: &mut Vec<u8>) {
        if self.pass == Pass::Screen {
            out.append(&mut self.held);
            out.push(last);
        }
        self.drop_sequence();
    }

    fn ground(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte < 0x80 {
            self.flush_partial(out);
            self.ascii(byte, out);
            return;
        }
        self.end_carriage(out);
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                // C1 controls, encoded: some terminals obey them.
                if !text.chars().any(char::is_control) {
                    out.extend_from_slice(text.as_bytes());
                }
                self.partial.clear();
            }
            // More bytes are needed.
            Err(e) if e.error_len().is_none() => {}
            Err(_) => {
                // The byte may begin a character of its own.
                self.partial.pop();
                let began = !self.partial.is_empty();
                self.flush_partial(out);
                if began {
                    self.ground(byte, out);
                } else {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
        }
    }

    /// Writes the replacement character for a character that was not finished.
    fn flush_partial(&mut self, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.partial.clear();
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }

    fn ascii(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (self.pass, byte) {
            (Pass::Text, b'\r') => self.carriage = true,
            (Pass::Text, b'\n') => {
                self.carriage = false;
                out.push(b'\n');
            }
            (_, 0x20..=0x7e | b'\t' | b'\n') => {
                self.end_carriage(out);
                out.push(byte);
            }
            // Bell, backspace, vertical tab, form feed, carriage return, shift out and in.
            (Pass::Screen, 0x07..=0x0f) => out.push(byte),
            _ => {}
        }
    }

    /// A carriage return without a line feed begins the line anew; as text, that is a new line:
    /// nothing that was written can be covered up.
    fn end_carriage(&mut self, out: &mut Vec<u8>) {
        if self.carriage {
            self.carriage = false;
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pass: Pass, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Sanitizer::new(pass).feed(bytes, &mut out);
        out
    }

    fn text(pass: Pass, input: &str) -> String {
        String::from_utf8(all(pass, input.as_bytes())).unwrap()
    }

    #[test]
    fn a_log_is_text() {
        let input = "[\u{1b}[0;32m  OK  \u{1b}[0m] up\r\n\u{1b}]0;title\u{7}a\tb\u{1b}P1q\u{1b}\\c\u{1b}(Bd\u{7}\u{8}";
        assert_eq!(text(Pass::Text, input), "[  OK  ] up\na\tbcd");
        assert_eq!(text(Pass::Text, "50%\r100%\r\r\nend"), "50%\n100%\nend");
        assert_eq!(text(Pass::Text, "grüße \u{9d}52;x\u{9c}"), "grüße 52;x");
    }

    #[test]
    fn a_screen_may_draw_and_not_reach_beyond_itself() {
        let draws =
            "\u{1b}[2J\u{1b}[1;1H\u{1b}[31mred\u{1b}[0m\u{1b}7\u{1b}8\u{1b}(0\r\n\u{7}\u{8}";
        assert_eq!(text(Pass::Screen, draws), draws);
        let reaches = "\u{1b}]52;c;eA==\u{7}\u{1b}]0;t\u{1b}\\\u{1b}Pq#0\u{1b}\\\u{1b}_G\u{1b}\\\u{1b}^x\u{1b}\\\u{1b}Xy\u{1b}\\\u{1b}[21t\u{1b}[5i";
        assert_eq!(text(Pass::Screen, reaches), "");
    }

    #[test]
    fn a_string_that_never_ends_holds_nothing_back_after_a_cancel() {
        assert_eq!(text(Pass::Screen, "\u{1b}]0;never\u{18}seen"), "seen");
        assert_eq!(text(Pass::Screen, "\u{1b}]0;x\u{1b}[1mbold"), "\u{1b}[1mbold");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(all(Pass::Text, b"a\xffb\xc3c\xe2\x82"), "a\u{fffd}b\u{fffd}c".as_bytes());
        assert_eq!(
            all(Pass::Screen, b"\x9b31m\x9d0;x\x07"),
            "\u{fffd}31m\u{fffd}0;x\u{7}".as_bytes()
        );
    }

    proptest! {
        #[test]
        fn text_never_holds_a_control_character_however_it_was_cut(
            bytes in prop::collection::vec(
                prop_oneof![
                    any::<u8>(),
                    prop::sample::select(b"\x1b\x1b\x1b[]PX^_\\;0m\x07\r\n\xc2\x9b\x18(".to_vec()),
                ],
                0..300,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = all(Pass::Text, &bytes);
            let cut = cut.index(bytes.len() + 1);
            let mut pieces = Vec::new();
            let mut sanitizer = Sanitizer::new(Pass::Text);
            sanitizer.feed(&bytes[..cut], &mut pieces);
            sanitizer.feed(&bytes[cut..], &mut pieces);
            prop_assert_eq!(&whole, &pieces);
            let text = String::from_utf8(whole).unwrap();
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }

        #[test]
        fn a_screen_never_gets_a_control_string(
            bytes in prop::collection::vec(
                prop::sample::select(b"\x1b\x1b\x1b[]PX^_\\;0mti\x07\xc2\x9d\x90\x18( a".to_vec()),
                0..300,
            ),
        ) {
            let out = String::from_utf8_lossy(&all(Pass::Screen, &bytes)).into_owned();
            for forbidden in ["\u{1b}]", "\u{1b}P", "\u{1b}X", "\u{1b}^", "\u{1b}_", "\u{9d}", "\u{90}"] {
                prop_assert!(!out.contains(forbidden), "{:?} in {:?}", forbidden, out);
            }
        }
    }
}
