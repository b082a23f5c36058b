//! Whatever a guest sends, and however much: memory stays bounded. Alone in its file, because
//! it measures the memory of its process.

#![allow(clippy::unwrap_used)]

use banger::term::{Engine, Options, Size};

/// Resident memory in MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[test]
fn no_flood_takes_memory_without_end() {
    const SIZE: Size = Size { cols: 100, rows: 30 };
    let link = format!("\x1b]8;;http://x/{}\x1b\\a", "y".repeat(2000));
    let title = format!("\x1b]0;{}\x07\x1b[22t", "t".repeat(3000));
    // Each alone would take more than is allowed if it were kept: what, the beginning, the rest, how much.
    let floods: [(&str, &str, &str, usize); 8] = [
        ("a string that never ends", "\x1b]0;", "title", 24 << 20),
        ("a clipboard that never ends", "\x1b]52;c;", "AAAA", 24 << 20),
        ("a device control string that never ends", "\x1bPq", "#0~~", 24 << 20),
        ("marks on one cell", "a", "\u{301}", 6 << 20),
        ("marks on one cell, with movement between them", "ab", "\r\x1b[C\u{301}", 6 << 20),
        ("links", "", &link, 6 << 20),
        ("titles pushed", "", &title, 6 << 20),
        ("an update that never ends", "\x1b[?2026h", "text ", 6 << 20),
    ];
    for (what, begin, rest, bytes) in floods {
        let mut engine = Engine::new(SIZE, Options { scrollback: 100, ..Options::default() });
        engine.feed(begin.as_bytes());
        let chunk = rest.repeat(65_536 / rest.len() + 1);
        engine.feed(chunk.as_bytes());
        let before = resident();
        for _ in 0..bytes / chunk.len() {
            engine.feed(chunk.as_bytes());
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 6, "{what}: {grown} MiB");
    }
    // A full history of a wide terminal, with everything a cell can have.
    let mut engine = Engine::new(Size { cols: 200, rows: 50 }, Options::default());
    let before = resident();
    for n in 0..15_000_u32 {
        let line: String = (0..40).map(|i| format!("\x1b[38;5;{}mword ", (n + i) % 256)).collect();
        engine.feed(line.as_bytes());
        engine.feed(b"\r\n");
    }
    let grown = resident().saturating_sub(before);
    println!("10,000 lines of 200 columns: {grown} MiB");
    assert_eq!(engine.history(), 10_000);
    assert!(grown < 80, "{grown} MiB");
}
