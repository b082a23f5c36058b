//! `banger ran`: what was done to this host, as commands that can be copied.

use serde::Serialize;

use super::{
    args::Ran,
    exit::{self, Failure, Outcome},
    json, out,
};
use crate::{
    domain::{HostCall, UnixMs, VmId},
    host::dirs,
    store::{Store, VmRow},
};

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    calls: Vec<Call<'a>>,
}

#[derive(Serialize)]
struct Call<'a> {
    at_ms: u64,
    vm: Option<&'a VmId>,
    command: &'a str,
    took_us: u64,
    error: Option<&'a str>,
}

impl<'a> From<&'a HostCall> for Call<'a> {
    fn from(call: &'a HostCall) -> Self {
        Self {
            at_ms: call.at.0,
            vm: call.vm.as_ref(),
            command: &call.command,
            took_us: call.took_us,
            error: call.error.as_deref(),
        }
    }
}

/// Shows it, the newest last.
///
/// # Errors
/// When the database cannot be read or the output not be written.
pub fn run(ran: &Ran) -> Outcome {
    let layout = dirs::resolve(&dirs::Env::current())?;
    let (calls, vms) = if layout.database().exists() {
        let store = Store::open(&layout.database())?;
        (store.recent_calls(ran.count)?, store.vms()?)
    } else {
        (Vec::new(), Vec::new())
    };
    if ran.json {
        let calls = calls.iter().map(Call::from).collect();
        let report = serde_json::to_string_pretty(&Report { version: json::VERSION, calls })
            .map_err(|e| Failure::from(std::io::Error::from(e)))?;
        out::line(report)?;
        return Ok(exit::OK);
    }
    if calls.is_empty() {
        out::progress("nothing was done on this host yet");
    }
    for call in &calls {
        out::line(show(call, &vms))?;
    }
    Ok(exit::OK)
}

/// A comment that says when, for whom and how it went; then the command, to be copied.
fn show(call: &HostCall, vms: &[VmRow]) -> String {
    let vm = match &call.vm {
        None => "shared".to_owned(),
        Some(id) => {
            let row = vms.iter().find(|row| row.id == *id);
            row.map_or_else(|| id.to_string(), |row| row.spec.name.to_string())
        }
    };
    let went = call.error.as_deref().map_or_else(String::new, |e| {
        // One line: what follows it would be taken for a command.
        format!("  FAILED: {}", e.replace('\n', " "))
    });
    format!("# {}  {vm}  {} µs{went}\n{}", utc(call.at), call.took_us, call.command)
}

/// `2026-11-22 00:24:21.046Z`.
fn utc(at: UnixMs) -> String {
    let (days, ms) = (at.0 / 86_400_000, at.0 % 86_400_000);
    let (year, month, day) = civil(days);
    let s = ms / 1000;
    let (h, m, s, ms) = (s / 3600, s / 60 % 60, s % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{ms:03}Z")
}

/// The date of a day since 1970-01-01, by the Gregorian calendar: years are counted from March, so
/// that a leap day is a year's last.
const fn civil(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // March to July, and August to December, have 153 days each.
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (era * 400 + year + (month <= 2) as u64, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_a_calendar() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00.000Z"),
            (951_782_399_999, "2000-02-28 23:59:59.999Z"),
            (951_782_400_000, "2000-02-29 00:00:00.000Z"),
            (1_709_251_200_000, "2024-03-01 00:00:00.000Z"),
            (1_798_761_599_000, "2026-12-31 23:59:59.000Z"),
        ] {
            assert_eq!(utc(UnixMs(ms)), text);
        }
    }

    #[test]
    fn what_is_shown_can_be_typed_and_its_comment_cannot() {
        let call = HostCall {
            at: UnixMs(0),
            vm: Some(VmId::from_bytes([0, 0, 0, 7])),
            command: "ip link add x\nip link set x up".into(),
            took_us: 12,
            error: Some("no\nroom".into()),
        };
        assert_eq!(
            show(&call, &[]),
            "# 1970-01-01 00:00:00.000Z  00000007  12 µs  FAILED: no room\n\
             ip link add x\nip link set x up"
        );
    }
}
