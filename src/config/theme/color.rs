//! Colours as themes write them, and what is left of them on lesser terminals.

use std::str::FromStr;

use ratatui::style::Color;

use crate::config::doc::quoted;

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl FromStr for Rgb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix('#').filter(|d| d.len() == 6 && d.is_ascii());
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let number = number.filter(|_| text[1..].bytes().all(|b| b.is_ascii_hexdigit()));
        let [_, r, g, b] = number
            .ok_or_else(|| {
                let text = quoted(text);
                format!("{text} is no colour: write #rrggbb or a name of [palette]")
            })?
            .to_be_bytes();
        Ok(Self(r, g, b))
    }
}

/// How many colours the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// None: `NO_COLOR` is set. Attributes say what matters.
    Mono,
    /// The 16 of the first colour terminals.
    Ansi16,
    /// The cube and ramp of xterm.
    Indexed,
    /// All.
    True,
}

impl Depth {
    /// What the environment says: `NO_COLOR` not empty (no-color.org), `COLORTERM`, `TERM`.
    #[must_use]
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name| env(name).unwrap_or_default();
        let term = var("TERM");
        if !var("NO_COLOR").is_empty() || term == "dumb" {
            Self::Mono
        } else if matches!(var("COLORTERM").as_str(), "truecolor" | "24bit")
            || term.ends_with("-direct")
        {
            Self::True
        } else if term.contains("256color") {
            Self::Indexed
        } else {
            Self::Ansi16
        }
    }
}

impl Rgb {
    /// The nearest colour that a terminal of this depth has.
    #[must_use]
    pub fn at(self, depth: Depth) -> Color {
        let nearest = |candidates: &mut dyn Iterator<Item = u8>| {
            let best = candidates.min_by_key(|index| self.distance(indexed(*index)));
            best.expect("there are candidates")
        };
        match depth {
            Depth::Mono => Color::Reset,
            Depth::True => Color::Rgb(self.0, self.1, self.2),
            // The first 16 look different on each terminal; the rest is fixed.
            Depth::Indexed => Color::Indexed(nearest(&mut (16..=255))),
            Depth::Ansi16 => Color::Indexed(nearest(&mut (0..=15))),
        }
    }

    /// Squared distance, green counting most and blue least, roughly as eyes see it.
    fn distance(self, other: Self) -> u32 {
        let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
        3 * square(self.0, other.0) + 6 * square(self.1, other.1) + square(self.2, other.2)
    }

    /// Contrast to another colour, 1 to 21 (WCAG 2.1, "contrast ratio").
    #[must_use]
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// Relative luminance (WCAG 2.1).
    fn luminance(self) -> f64 {
        let linear = |channel: u8| {
            let c = f64::from(channel) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }
}

/// What xterm shows for one of its 256 colours; of the first 16 its defaults.
fn indexed(index: u8) -> Rgb {
    const FIRST: [u32; 16] = [
        0x00_0000, 0xcd_0000, 0x00_cd00, 0xcd_cd00, 0x00_00ee, 0xcd_00cd, 0x00_cdcd, 0xe5_e5e5,
        0x7f_7f7f, 0xff_0000, 0x00_ff00, 0xff_ff00, 0x5c_5cff, 0xff_00ff, 0x00_ffff, 0xff_ffff,
    ];
    match index {
        0..16 => {
            let [_, r, g, b] = FIRST[usize::from(index)].to_be_bytes();
            Rgb(r, g, b)
        }
        // A cube of 6 x 6 x 6, then a ramp of 24 greys.
        16..=231 => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let n = index - 16;
            Rgb(level(n / 36), level(n / 6 % 6), level(n % 6))
        }
        232..=255 => {
            let grey = 8 + 10 * (index - 232);
            Rgb(grey, grey, grey)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_read() {
        assert_eq!("#0a10Ff".parse(), Ok(Rgb(10, 16, 255)));
        for bad in ["", "#", "0a10ff", "#0a10f", "#0a10fff", "#+a10ff", "red", "#äöü"] {
            assert!(bad.parse::<Rgb>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_colour_is_taken() {
        assert_eq!(Rgb(255, 0, 0).at(Depth::Indexed), Color::Indexed(196));
        assert_eq!(Rgb(17, 18, 19).at(Depth::Indexed), Color::Indexed(233));
        assert_eq!(Rgb(250, 5, 5).at(Depth::Ansi16), Color::Indexed(9));
        assert_eq!(Rgb(1, 2, 3).at(Depth::True), Color::Rgb(1, 2, 3));
        assert_eq!(Rgb(1, 2, 3).at(Depth::Mono), Color::Reset);
    }

    #[test]
    fn contrast_is_that_of_the_standard() {
        let (black, white) = (Rgb(0, 0, 0), Rgb(255, 255, 255));
        assert!((black.contrast(white) - 21.0).abs() < 1e-9);
        assert!((white.contrast(white) - 1.0).abs() < 1e-9);
        // #767676 is the well-known lightest grey on white that reaches 4.5.
        assert!(Rgb(0x76, 0x76, 0x76).contrast(white) >= 4.5);
        assert!(Rgb(0x77, 0x77, 0x77).contrast(white) < 4.5);
    }

    #[test]
    fn the_environment_says_how_many_colours_there_are() {
        let depth = |vars: &'static [(&str, &str)]| {
            Depth::from_env(|name| {
                vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
            })
        };
        assert_eq!(depth(&[("TERM", "xterm-256color")]), Depth::Indexed);
        assert_eq!(depth(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]), Depth::True);
        assert_eq!(depth(&[("TERM", "linux")]), Depth::Ansi16);
        assert_eq!(depth(&[("COLORTERM", "24bit"), ("NO_COLOR", "1")]), Depth::Mono);
        assert_eq!(depth(&[("COLORTERM", "24bit"), ("NO_COLOR", "")]), Depth::True);
        assert_eq!(depth(&[("TERM", "dumb")]), Depth::Mono);
    }
}
