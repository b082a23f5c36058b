//! Amounts of memory and disk.

use std::fmt;

/// Bytes, shown in binary units: `512 MiB`, `1.5 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if value.fract() == 0.0 || value >= 100.0 {
            write!(f, "{value:.0} {}", UNITS[unit])
        } else {
            write!(f, "{value:.1} {}", UNITS[unit])
        }
    }
}

/// Reads an amount in MiB from `512`, `512M`, `512MiB`, `2G`, `1.5GiB` or `1T` (binary units,
/// a bare number is MiB, case does not matter).
///
/// # Errors
/// A sentence that says what is accepted. A sign, a zero and what does not fit are not judged
/// here beyond being a number: ranges belong to the field.
pub fn parse_mib(text: &str) -> Result<u64, String> {
    let explain = || format!("“{text}” is no size: write 512, 512M, 2G or 1.5GiB");
    let text_trimmed = text.trim();
    let split = text_trimmed
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text_trimmed.len());
    let (number, unit) = text_trimmed.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => 1.0,
        "g" | "gb" | "gib" => 1024.0,
        "t" | "tb" | "tib" => 1024.0 * 1024.0,
        _ => return Err(explain()),
    };
    let number: f64 = number.parse().map_err(|_| explain())?;
    let mib = number * factor;
    // Above this an f64 no longer holds every whole number.
    if mib.is_finite() && mib < 9.0e15 { Ok(mib.round() as u64) } else { Err(explain()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!(parse_mib("512"), Ok(512));
        assert_eq!(parse_mib(" 2G "), Ok(2048));
        assert_eq!(parse_mib("1.5GiB"), Ok(1536));
        assert_eq!(parse_mib("10TiB"), Ok(10 * 1024 * 1024));
        assert_eq!(parse_mib("0"), Ok(0));
        for bad in ["", "-1", "lots", "5x", "1.2.3", "9".repeat(400).as_str()] {
            assert!(parse_mib(bad).is_err(), "{bad}");
        }
        assert_eq!(ByteSize(512 << 20).to_string(), "512 MiB");
        assert_eq!(ByteSize(3 << 29).to_string(), "1.5 GiB");
        assert_eq!(ByteSize(17).to_string(), "17 B");
    }
}
