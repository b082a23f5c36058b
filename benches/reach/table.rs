//! The table at the end.

use std::time::Duration;

/// A line of the table.
pub struct Row {
    what: String,
    floor: String,
    banger: String,
    limit: String,
    met: Option<bool>,
}

impl Row {
    /// banger against the same by hand; `at_most` is the ratio it may have.
    pub fn ratio(what: impl Into<String>, floor: Duration, banger: Duration, at_most: f64) -> Self {
        let ratio = banger.as_secs_f64() / floor.as_secs_f64();
        Self {
            what: what.into(),
            floor: seconds(floor),
            banger: seconds(banger),
            limit: format!("{ratio:.3} x (at most {at_most:.2} x)"),
            met: Some(ratio <= at_most),
        }
    }

    /// A number against a limit that does not depend on the machine's speed.
    pub fn limit(
        what: impl Into<String>,
        floor: impl Into<String>,
        banger: String,
        limit: impl Into<String>,
        met: bool,
    ) -> Self {
        Self { what: what.into(), floor: floor.into(), banger, limit: limit.into(), met: Some(met) }
    }

    /// A number that nothing is asked of, to see where the others come from.
    pub fn note(what: impl Into<String>, floor: impl Into<String>, banger: String) -> Self {
        Self {
            what: format!("  {}", what.into()),
            floor: floor.into(),
            banger,
            limit: String::new(),
            met: None,
        }
    }

    fn cells(&self) -> [&str; 5] {
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [&self.what, &self.floor, &self.banger, &self.limit, met]
    }
}

/// Prints the table.
pub fn print(rows: &[Row]) {
    let head = ["what", "floor", "banger", "ratio or limit", "met"];
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.cells()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; 5]| {
        let padded: Vec<_> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", padded.join(" | "));
    };
    line(head);
    line(widths.map(|width| "-".repeat(width)).each_ref().map(String::as_str));
    for row in rows {
        line(row.cells());
    }
}

/// `2.345 s`.
pub fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// `12.3 ms`.
pub fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// The value that a part of all are not above: 0.5 is the median.
pub fn quantile(values: &[Duration], part: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).ceil() as usize).copied().unwrap_or_default()
}

/// The value in the middle.
pub fn median(values: &[Duration]) -> Duration {
    quantile(values, 0.5)
}
