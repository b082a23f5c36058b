//! Markers: what the guest tells the host, in band, on its serial console.
//!
//! A marker of ours is an operating system command (OSC) of a private number,
//! `ESC ] 7711 ; banger ; WORD ; TEXT BEL`: every terminal swallows it unseen, so it neither
//! disturbs a prompt that stands on the console nor needs a line of its own. The kernel's last
//! words are found as they are printed, behind a prompt and a time stamp too.
//!
//! The guest can print all of these itself. It only fools itself: nothing but the state shown
//! of this one VM hangs on them.

use std::fmt;

/// What begins a marker of ours.
const PREFIX: &str = "\x1b]7711;banger;";
/// What ends one.
const BEL: u8 = 0x07;
/// The longest marker in bytes, with its begin and end; longer ones are cut when written and
/// passed over when read. Bounds the scanner's memory.
const MARKER_MAX: usize = 400;
/// What the kernel says when it gives up (Linux, kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";
/// What the kernel says when it powers off (Linux, kernel/reboot.c).
const POWER_DOWN: &str = "reboot: Power down";
/// What it says instead on a machine that it cannot power off, as Firecracker's: Linux 5.19 to
/// 6.3, and what came later.
const HALTED: [&str; 2] =
    ["reboot: System halted", "reboot: Power off not available: System halted instead"];

/// Something the guest said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The init of the initrd began.
    Init,
    /// The root file system was entered and its own init begins. From here on the power button
    /// is heard; a press before is lost.
    SwitchRoot,
    /// Something listens on the SSH port.
    SshReady {
        /// Milliseconds on the guest's own clock since its kernel began.
        uptime_ms: u64,
    },
    /// The image's system is up, as far as can be told, and nothing listens on the SSH port.
    Up {
        /// Milliseconds on the guest's own clock since its kernel began.
        uptime_ms: u64,
    },
    /// The init cannot go on, and powers off.
    Halted {
        /// Why, in one line.
        reason: String,
    },
    /// The kernel gave up.
    KernelPanic,
    /// The kernel is about to power off or to halt. Firecracker goes on running after that.
    PowerDown,
}

impl fmt::Display for Marker {
    /// What is written to the console.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bel = char::from(BEL);
        match self {
            Self::Init => write!(f, "{PREFIX}init;{bel}"),
            Self::SwitchRoot => write!(f, "{PREFIX}root;{bel}"),
            Self::SshReady { uptime_ms } => write!(f, "{PREFIX}ssh;{uptime_ms}{bel}"),
            Self::Up { uptime_ms } => write!(f, "{PREFIX}up;{uptime_ms}{bel}"),
            Self::Halted { reason } => {
                let mut text: String =
                    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                // Begin, word and end take 21 bytes.
                text.truncate(text.floor_char_boundary(MARKER_MAX - 32));
                write!(f, "{PREFIX}halt;{text}{bel}")
            }
            Self::KernelPanic => writeln!(f, "{PANIC}"),
            Self::PowerDown => writeln!(f, "{POWER_DOWN}"),
        }
    }
}

/// Finds markers in what the console prints, however it is cut into chunks.
///
/// Keeps at most a few hundred bytes, and looks closer only at what follows a line's end, an
/// escape or a `[`: a guest that floods its console costs about a nanosecond per byte.
#[derive(Debug)]
pub struct Scanner {
    /// What may yet become a marker; empty and `!armed` while skipping.
    candidate: Vec<u8>,
    /// Whether a candidate may begin at the next byte, whatever it is: a line begins.
    armed: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

/// What a candidate is.
enum Verdict {
    No,
    Perhaps,
    Yes(Marker),
}

impl Scanner {
    /// A scanner at the beginning of a console's output.
    #[must_use]
    pub const fn new() -> Self {
        Self { candidate: Vec::new(), armed: true }
    }

    /// Takes what the console printed next; gives the markers that are complete by it, in order.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Marker> {
        let mut found = Vec::new();
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.candidate.is_empty() && !self.armed {
                let Some(start) = bytes.iter().position(|&b| begins(b)) else { break };
                self.begin(bytes[start]);
                bytes = &bytes[start + 1..];
                continue;
            }
            self.candidate.push(byte);
            self.armed = false;
            match judge(&self.candidate) {
                Verdict::Perhaps => {}
                Verdict::Yes(marker) => {
                    found.push(marker);
                    self.candidate.clear();
                }
                Verdict::No => {
                    self.candidate.clear();
                    // No marker has such a byte but at its begin, so a next one begins here at
                    // the earliest.
                    if begins(byte) {
                        self.begin(byte);
                    }
                }
            }
            bytes = rest;
        }
        found
    }

    fn begin(&mut self, byte: u8) {
        if byte == b'\n' || byte == b'\r' {
            self.armed = true;
        } else {
            self.candidate.push(byte);
        }
    }
}

/// Whether a candidate may begin at this byte, or, for a line's end, after it.
const fn begins(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | 0x1b | b'[')
}

fn judge(candidate: &[u8]) -> Verdict {
    if candidate[0] == 0x1b { judge_ours(candidate) } else { judge_kernel(candidate) }
}

fn judge_ours(candidate: &[u8]) -> Verdict {
    let prefix = PREFIX.as_bytes();
    let Some(body) = candidate.strip_prefix(prefix) else {
        return if prefix.starts_with(candidate) { Verdict::Perhaps } else { Verdict::No };
    };
    match body.split_last() {
        Some((&BEL, text)) => match read_ours(text) {
            Some(marker) => Verdict::Yes(marker),
            None => Verdict::No,
        },
        Some((&last, _)) if last.is_ascii_control() || candidate.len() >= MARKER_MAX => Verdict::No,
        _ => Verdict::Perhaps,
    }
}

fn read_ours(text: &[u8]) -> Option<Marker> {
    let (word, rest) = std::str::from_utf8(text).ok()?.split_once(';')?;
    match word {
        "init" => Some(Marker::Init),
        "root" => Some(Marker::SwitchRoot),
        "ssh" => Some(Marker::SshReady { uptime_ms: rest.parse().ok()? }),
        "up" => Some(Marker::Up { uptime_ms: rest.parse().ok()? }),
        "halt" => Some(Marker::Halted { reason: rest.to_owned() }),
        _ => None,
    }
}

fn judge_kernel(candidate: &[u8]) -> Verdict {
    let Some(text) = after_time_stamp(candidate) else {
        return if candidate.len() < 32 { Verdict::Perhaps } else { Verdict::No };
    };
    let ends = [POWER_DOWN, HALTED[0], HALTED[1]].map(|words| (words, Marker::PowerDown));
    let mut perhaps = false;
    for (words, marker) in [(PANIC, Marker::KernelPanic)].into_iter().chain(ends) {
        if text == words.as_bytes() {
            return Verdict::Yes(marker);
        }
        perhaps |= words.as_bytes().starts_with(text);
    }
    if perhaps { Verdict::Perhaps } else { Verdict::No }
}

/// What follows `[   12.345678] `, or all of it if no time stamp begins it; `None` while the
/// time stamp may go on.
fn after_time_stamp(candidate: &[u8]) -> Option<&[u8]> {
    let Some(stamp) = candidate.strip_prefix(b"[") else { return Some(candidate) };
    let within = |b: &&u8| matches!(**b, b' ' | b'.' | b'0'..=b'9');
    let rest = &stamp[stamp.iter().take_while(within).count()..];
    match rest {
        [] | [b']'] => None,
        [b']', b' ', text @ ..] => Some(text),
        // Not a time stamp: what is given is no beginning of the kernel's words either.
        _ => Some(candidate),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(bytes: &[u8]) -> Vec<Marker> {
        Scanner::new().feed(bytes)
    }

    fn all() -> Vec<Marker> {
        vec![
            Marker::Init,
            Marker::SwitchRoot,
            Marker::SshReady { uptime_ms: 2_310 },
            Marker::Up { uptime_ms: 8_001 },
            Marker::Halted { reason: "banger.addr: “x” is not an address".to_owned() },
            Marker::KernelPanic,
            Marker::PowerDown,
        ]
    }

    #[test]
    fn what_is_written_is_what_is_found() {
        let text: String = all().iter().map(|marker| format!("{marker}\n")).collect();
        assert_eq!(scan(text.as_bytes()), all());
    }

    #[test]
    fn markers_are_found_behind_a_prompt() {
        for marker in all() {
            let stamp = if marker.to_string().starts_with('\x1b') { "" } else { "[    1.250000] " };
            let text = format!("Linux\r\nroot@web:~# {stamp}{marker}");
            assert_eq!(scan(text.as_bytes()), [marker]);
        }
    }

    #[test]
    fn the_kernels_words_count_at_the_start_of_a_line_or_behind_a_time_stamp_only() {
        let panic = [Marker::KernelPanic];
        assert_eq!(scan(b"x\n[   12.345678] Kernel panic - not syncing: VFS\n"), panic);
        assert_eq!(scan(b"x\r\nKernel panic - not syncing"), panic);
        assert_eq!(scan(b"[a] [ 1.2] Kernel panic - not syncing"), panic);
        assert_eq!(scan(b"[[[ 1.2] Kernel panic - not syncing"), panic);
        assert_eq!(scan(b"grep: Kernel panic - not syncing\n"), []);
        assert_eq!(scan(b"\nKernel panic - not sync\n"), []);
        assert_eq!(scan(b"[ 12.3] reboot: Power down"), [Marker::PowerDown]);
        assert_eq!(scan(b"[ 12.3] reboot: System halted"), [Marker::PowerDown]);
        let fallback = b"[ 12.3] reboot: Power off not available: System halted instead\n";
        assert_eq!(scan(fallback), [Marker::PowerDown]);
        assert_eq!(scan(b"[ 12.3] reboot: Restarting system"), []);
    }

    #[test]
    fn what_only_looks_like_a_marker_is_passed_over() {
        assert_eq!(scan(b"\x1b]7711;banger;ssh;many\x07"), []);
        assert_eq!(scan(b"\x1b]7711;banger;dance;\x07"), []);
        assert_eq!(scan(b"\x1b]7711;banger;init;\n\x07"), []);
        let after_a_broken_one = format!("\x1b]7711;ban{}", Marker::Init);
        assert_eq!(scan(after_a_broken_one.as_bytes()), [Marker::Init]);
    }

    #[test]
    fn a_reason_is_kept_in_one_line_and_short() {
        let reason = format!("a\x07b\x1b\n{}", "ü".repeat(900));
        let found = scan(Marker::Halted { reason }.to_string().as_bytes());
        let [Marker::Halted { reason }] = found.as_slice() else { panic!("{found:?}") };
        assert!(reason.starts_with("a b  ü") && reason.len() > 300 && reason.len() < MARKER_MAX);
    }

    #[test]
    fn a_marker_without_an_end_takes_no_memory() {
        let mut scanner = Scanner::new();
        scanner.feed(PREFIX.as_bytes());
        scanner.feed(&vec![b'x'; 1 << 20]);
        assert!(scanner.candidate.capacity() <= 2 * MARKER_MAX);
        assert_eq!(scanner.feed(Marker::Init.to_string().as_bytes()), [Marker::Init]);
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            parts in proptest::collection::vec(prop_oneof![
                (0..7usize).prop_map(|i| all()[i].to_string()),
                "[\\[\\]\\x1b\\n\\r a-f0-9.;K]{0,12}",
                Just("[    0.123456] ".to_owned()),
                Just("\x1b[1;31m\r\n".to_owned()),
            ], 0..20),
            cuts in proptest::collection::vec(1..40usize, 1..30),
        ) {
            let text = parts.concat();
            let whole = scan(text.as_bytes());
            let mut scanner = Scanner::new();
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, next) = rest.split_at((*cut).min(rest.len()));
                pieces.extend(scanner.feed(piece));
                rest = next;
            }
            prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn noise_before_a_marker_does_not_hide_it(noise in "[\\[\\]\\x1b\\n\\r a-z0-9.;]{0,60}") {
            for marker in [Marker::Init, Marker::SshReady { uptime_ms: 1 }] {
                let found = scan(format!("{noise}{marker}").as_bytes());
                prop_assert_eq!(found.last(), Some(&marker));
            }
        }
    }
}
