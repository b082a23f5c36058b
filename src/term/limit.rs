//! Keeps operating system commands (`ESC ]` …) of a guest from growing without end.
//!
//! The parser below us collects such a string until its terminator comes, however long it gets:
//! a guest that never sends one would take all memory. This filter follows the stream just far
//! enough to see such strings, cuts them off at a limit, and swallows the rest.

/// The longest string: titles and colours are far shorter.
pub(super) const OSC_MAX: usize = 4096;

/// The longest one that carries a clipboard (`52;…`), 768 KiB before base64.
pub(super) const CLIPBOARD_MAX: usize = 1 << 20;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Anything without an escape before it.
    #[default]
    Ground,
    /// After an escape.
    Escape,
    /// In a string: how much of it came, and its first three bytes.
    Osc(usize, [u8; 3]),
    /// In a string that got too long: all is swallowed up to its end.
    Swallow,
}

/// The filter.
#[derive(Debug, Default)]
pub(super) struct OscLimit(State);

impl OscLimit {
    /// Passes on what is to be parsed, in pieces.
    pub fn pass(&mut self, bytes: &[u8], mut sink: impl FnMut(&[u8])) {
        // From here on nothing was passed on yet.
        let mut from = 0;
        let mut at = 0;
        while at < bytes.len() {
            if self.0 == State::Ground {
                // Most of a stream: nothing to follow until the next escape.
                match bytes[at..].iter().position(|&b| b == ESC) {
                    Some(n) => at += n + 1,
                    None => break,
                }
                self.0 = State::Escape;
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match self.0 {
                State::Ground => {}
                State::Escape => self.0 = after_escape(byte),
                State::Osc(count, head) => match byte {
                    BEL | CAN | SUB => self.0 = State::Ground,
                    ESC => self.0 = State::Escape,
                    _ => {
                        let mut head = head;
                        if let Some(place) = head.get_mut(count) {
                            *place = byte;
                        }
                        let limit = if head == *b"52;" { CLIPBOARD_MAX } else { OSC_MAX };
                        self.0 = State::Osc(count + 1, head);
                        if count >= limit {
                            sink(&bytes[from..at - 1]);
                            sink(&[CAN]);
                            self.0 = State::Swallow;
                        }
                    }
                },
                State::Swallow => match byte {
                    BEL | CAN | SUB => {
                        self.0 = State::Ground;
                        from = at;
                    }
                    ESC => {
                        self.0 = State::Escape;
                        from = at - 1;
                    }
                    _ => {}
                },
            }
        }
        if self.0 != State::Swallow && from < bytes.len() {
            sink(&bytes[from..]);
        }
    }
}

/// What the byte after an escape begins. Control characters are obeyed in the midst of it.
fn after_escape(byte: u8) -> State {
    match byte {
        b']' => State::Osc(0, [0; 3]),
        CAN | SUB => State::Ground,
        0..=0x1f | 0x7f => State::Escape,
        _ => State::Ground,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(limit: &mut OscLimit, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        limit.pass(bytes, |piece| out.extend_from_slice(piece));
        out
    }

    #[test]
    fn a_string_without_end_is_cut_and_swallowed() {
        let mut limit = OscLimit::default();
        let mut passed = pass(&mut limit, b"a\x1b]0;").len();
        for _ in 0..100 {
            passed += pass(&mut limit, &[b'x'; 1000]).len();
        }
        assert!(passed <= OSC_MAX + 10, "{passed}");
        assert_eq!(pass(&mut limit, b"xx\x07after"), b"after");
        assert_eq!(pass(&mut limit, b"\x1b]0;t\x07more"), b"\x1b]0;t\x07more");
    }

    #[test]
    fn a_swallowed_string_may_end_with_an_escape() {
        let mut limit = OscLimit::default();
        let long = [b"\x1b]2;".as_slice(), &[b'x'; 9000]].concat();
        assert_eq!(pass(&mut limit, &long).len(), OSC_MAX + 3);
        assert_eq!(pass(&mut limit, b"yy\x1b"), b"\x1b");
        assert_eq!(pass(&mut limit, b"\\z"), b"\\z");
    }

    #[test]
    fn a_clipboard_may_be_longer() {
        let mut limit = OscLimit::default();
        let text = [b"\x1b]52;c;".as_slice(), &[b'A'; 100_000], b"\x07"].concat();
        assert_eq!(pass(&mut limit, &text), text);
        let text = [b"\x1b]52;c;".as_slice(), &vec![b'A'; 2 << 20], b"\x07b"].concat();
        let passed = pass(&mut limit, &text);
        assert!(passed.len() < CLIPBOARD_MAX + 10 && passed.ends_with(b"\x18b"));
    }

    proptest! {
        #[test]
        fn what_is_short_passes_unchanged_however_it_is_split(
            bytes in prop::collection::vec(
                prop_oneof![
                    Just(ESC), Just(b']'), Just(BEL), Just(CAN), Just(b'\\'), any::<u8>()
                ],
                0..300,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(bytes.len() + 1);
            let mut limit = OscLimit::default();
            let mut out = pass(&mut limit, &bytes[..cut]);
            out.extend(pass(&mut limit, &bytes[cut..]));
            prop_assert_eq!(out, bytes);
        }
    }
}
