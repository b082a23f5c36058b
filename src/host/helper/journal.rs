//! What the helper did and what it refused to do, a line of JSON each.
//!
//! JSON in ASCII: whatever a request held, it can neither begin a line of its own nor steer the
//! terminal of whoever reads the journal.

use std::{
    env,
    fmt::Write as _,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use serde::Serialize;
use serde_json::Value;

use crate::{domain::Tag, host::ops::Op};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Result {
    /// It was done.
    Done,
    /// It was tried.
    Failed,
    /// It was not tried.
    Refused,
}

/// A line.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    /// Who asked.
    pub uid: u32,
    /// Which process connected.
    pub pid: i32,
    /// Whose things it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<&'a Tag>,
    /// What was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<Value>,
    /// The files that came with it: their devices and numbers.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub files: &'a [(u32, u32, u64)],
    /// What became of it.
    pub result: Result,
    /// Why.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub why: &'a str,
    /// Milliseconds it took.
    pub ms: u64,
}

/// The most bytes of an operation in a line.
const OP_MAX: usize = 2048;

/// An operation as it is in a line: one with a thousand names in short.
pub(super) fn op(tag: &Tag, op: &Op) -> Value {
    match serde_json::to_value(op) {
        Ok(value) if value.to_string().len() <= OP_MAX => value,
        _ => op.commands(tag).join("; ").into(),
    }
}

/// Where the lines go.
pub(super) struct Journal {
    sink: Mutex<Box<dyn Write + Send>>,
    /// Whether lines begin with how grave they are: sd-daemon(3).
    levels: bool,
}

impl Journal {
    /// To standard error, which systemd takes to the journal.
    pub fn stderr() -> Self {
        // systemd.exec(5): set if standard error leads to the journal.
        Self::to(Box::new(io::stderr()), env::var_os("JOURNAL_STREAM").is_some())
    }

    /// To somewhere.
    pub fn to(sink: Box<dyn Write + Send>, levels: bool) -> Self {
        Self { sink: Mutex::new(sink), levels }
    }

    /// Writes a line about a request.
    pub fn entry(&self, entry: &Entry<'_>) {
        let level = match entry.result {
            Result::Done => 6,
            Result::Refused => 5,
            Result::Failed => 4,
        };
        // All of it can be written as JSON.
        self.line(level, &serde_json::to_string(entry).unwrap_or_default());
    }

    /// Writes a line about the helper itself.
    pub fn note(&self, text: &str) {
        self.line(5, &serde_json::to_string(text).unwrap_or_default());
    }

    fn line(&self, level: u8, json: &str) {
        let mut line = if self.levels { format!("<{level}>") } else { String::new() };
        push_ascii(&mut line, json);
        line.push('\n');
        // One write, so that lines stay whole; if nobody takes them, the work goes on.
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = sink.write_all(line.as_bytes());
    }
}

/// JSON is ASCII but for what is in its texts, and there everything can be escaped. So can DEL,
/// the one control character that JSON lets through.
fn push_ascii(out: &mut String, json: &str) {
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String does not fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::host::ops::HostsName;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    pub struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_stays_a_line_whatever_was_asked() {
        let kept = Kept::default();
        let journal = Journal::to(Box::new(kept.clone()), true);
        let why = "x\n<0>{\"uid\":0}\r\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{202e}😀\"";
        let tag = Tag::from_bytes([1, 2, 3]);
        journal.entry(&Entry {
            uid: 1000,
            pid: 7,
            tag: Some(&tag),
            op: Some(op(&tag, &Op::BridgeGone)),
            files: &[],
            result: Result::Refused,
            why,
            ms: 0,
        });
        let text = kept.text();
        let line = text.strip_suffix('\n').unwrap();
        assert!(line.bytes().all(|b| (b' '..0x7f).contains(&b)), "{line}");
        let json = line.strip_prefix("<5>").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["why"], why);
        assert_eq!(json["op"]["op"], "bridge-gone");
        let name = HostsName {
            name: "x".repeat(60).parse().unwrap(),
            address: "10.0.0.2".parse().unwrap(),
        };
        let long = op(&tag, &Op::Hosts { names: vec![name; 100] });
        assert_eq!(long, "# /etc/hosts: 100 names of banger 010203");
        assert_eq!((json["uid"].as_u64(), json["result"].as_str()), (Some(1000), Some("refused")));
    }
}
