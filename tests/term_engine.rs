//! What the emulator does beside filling its grid.

#![allow(clippy::unwrap_used)]

use banger::term::{
    Color, CursorShape, Engine, EngineEvent, Found, MouseMode, Options, Select, Size, Toward,
};

const SIZE: Size = Size { cols: 20, rows: 5 };

fn engine() -> Engine {
    Engine::new(SIZE, Options::default())
}

/// The answer to a question.
fn ask(engine: &mut Engine, question: &str) -> String {
    match engine.feed(question.as_bytes()).as_slice() {
        [EngineEvent::Reply(bytes)] => String::from_utf8(bytes.clone()).unwrap(),
        [] => String::new(),
        other => panic!("{question:?}: {other:?}"),
    }
}

#[test]
fn questions_are_answered() {
    let mut engine = engine();
    engine.feed(b"ab\r\ncd");
    let table = [
        ("\x1b[6n", "\x1b[2;3R"),
        ("\x1b[5n", "\x1b[0n"),
        ("\x1b[c", "\x1b[?6c"),
        ("\x1b[18t", "\x1b[8;5;20t"),
        // The way `resize` and newer inits ask a serial line for its size.
        ("\x1b7\x1b[r\x1b[999;999H\x1b[6n\x1b8", "\x1b[5;20R"),
        ("\x1b[?2004$p", "\x1b[?2004;2$y"),
        ("\x1b]10;?\x07", "\x1b]10;rgb:e5e5/e5e5/e5e5\x07"),
        ("\x1b]11;?\x1b\\", "\x1b]11;rgb:0000/0000/0000\x1b\\"),
        ("\x1b]4;196;?\x07", "\x1b]4;196;rgb:ffff/0000/0000\x07"),
        ("\x1b]4;1;rgb:12/34/56\x07\x1b]4;1;?\x07", "\x1b]4;1;rgb:1212/3434/5656\x07"),
        // The clipboard is never read, the title never told, no keyboard protocol spoken.
        ("\x1b]52;c;?\x07", ""),
        ("\x1b[21t", ""),
        ("\x1b[?u", ""),
    ];
    for (question, answer) in table {
        assert_eq!(ask(&mut engine, question), answer, "{question:?}");
    }
    let options =
        Options { foreground: (1, 2, 3), background: (255, 254, 253), ..Options::default() };
    let mut engine = Engine::new(SIZE, options);
    assert_eq!(ask(&mut engine, "\x1b]10;?\x07"), "\x1b]10;rgb:0101/0202/0303\x07");
    assert_eq!(ask(&mut engine, "\x1b]11;?\x07"), "\x1b]11;rgb:ffff/fefe/fdfd\x07");
}

#[test]
fn a_guest_that_only_asks_gets_no_endless_answer() {
    let mut engine = engine();
    let answer = ask(&mut engine, &"\x1b[6n".repeat(100_000));
    assert!(answer.len() <= 64 * 1024, "{}", answer.len());
}

#[test]
fn titles_and_bells_are_told_and_titles_are_harmless() {
    let mut engine = engine();
    let events = engine.feed("\x1b]0;a\u{202e}b\x07\x07\x07".as_bytes());
    assert_eq!(events, [EngineEvent::Title("ab".into()), EngineEvent::Bell]);
    assert_eq!(engine.feed(b"\x1b[22t\x1b]2;other\x07\x1b[23t"), [EngineEvent::Title("ab".into())]);
    let long = format!("\x1b]0;{}\x07", "x".repeat(1_000_000));
    match engine.feed(long.as_bytes()).as_slice() {
        [EngineEvent::Title(title)] => assert_eq!(title.len(), 128),
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.feed(b"\x1bc"), [EngineEvent::Title(String::new())]);
}

#[test]
fn the_clipboard_is_written_only_if_allowed() {
    let mut engine = engine();
    let store = b"\x1b]52;c;aGVsbG8=\x07";
    assert_eq!(engine.feed(store), [EngineEvent::ClipboardDenied]);
    engine.allow_clipboard(true);
    assert_eq!(engine.feed(store), [EngineEvent::Clipboard("hello".into())]);
    assert_eq!(engine.feed(b"\x1b]52;c;not base64!\x07"), []);
    let large = format!("\x1b]52;c;{}\x07", "QUFB".repeat(100_000));
    assert_eq!(engine.feed(large.as_bytes()), [EngineEvent::Clipboard("A".repeat(300_000))]);
    // One that was cut is not taken for the whole.
    let huge = format!("\x1b]52;c;{}\x07after", "QUFB".repeat(1_000_000));
    assert_eq!(engine.feed(huge.as_bytes()), []);
    assert_eq!(engine.screen_text().trim_end(), "after");
}

#[test]
fn cells_are_what_may_be_painted() {
    let mut engine = Engine::new(Size { cols: 40, rows: 5 }, Options::default());
    engine.feed("a\tb 👩\u{200d}👧 e\u{301}\u{fe0f} 👍\u{1f3fd}\r\n".as_bytes());
    engine.feed(b"\x1b[1;3;4;7;9;38;5;99;48;2;1;2;3mX\x1b[0;2;8mY\x1b[0;91mZ");
    let mut text = String::new();
    let mut cells = Vec::new();
    engine.for_each_cell(|x, y, cell| {
        if y == 0 {
            cell.push_to(&mut text);
        } else if y == 1 && x < 3 {
            cells.push((cell.ch, cell.fg, cell.bg, cell.attrs));
        }
    });
    assert_eq!(text.trim_end(), "a       b 👩👧 e\u{301} 👍");
    let (ch, fg, bg, attrs) = cells[0];
    assert_eq!((ch, fg, bg), ('X', Color::Indexed(99), Color::Rgb(1, 2, 3)));
    assert!(attrs.bold && attrs.italic && attrs.underline && attrs.inverse && attrs.strikeout);
    assert!(!attrs.dim && !attrs.hidden);
    assert!(cells[1].3.dim && cells[1].3.hidden && !cells[1].3.bold);
    assert_eq!(cells[2].1, Color::Indexed(9));
}

#[test]
fn a_palette_the_guest_changed_is_used() {
    let mut engine = engine();
    engine.feed(b"\x1b[31mx\x1b]4;1;#102030\x07");
    let mut first = None;
    engine.for_each_cell(|_, _, cell| first = first.or(Some(cell.fg)));
    assert_eq!(first, Some(Color::Rgb(0x10, 0x20, 0x30)));
}

#[test]
fn the_cursor_is_told_while_it_is_seen() {
    let mut engine = engine();
    engine.feed("日".as_bytes());
    let cursor = engine.cursor().unwrap();
    assert_eq!((cursor.x, cursor.y, cursor.shape), (2, 0, CursorShape::Block));
    engine.feed(b"\x1b[D\x1b[5 q");
    let cursor = engine.cursor().unwrap();
    assert_eq!((cursor.x, cursor.shape, cursor.blinking), (0, CursorShape::Beam, true));
    engine.feed(b"\x1b[?25l");
    assert_eq!(engine.cursor(), None);
    engine.feed(b"\x1b[?25h\n\n\n\n\n\n\n\n\n\n\n\n");
    assert_eq!(engine.cursor().map(|c| c.y), Some(4));
    engine.scroll(1);
    assert_eq!(engine.cursor(), None);
}

#[test]
fn modes_are_told() {
    let mut engine = engine();
    engine.feed(b"\x1b[?1;1002;1006;2004;1004;1049h\x1b=");
    let modes = engine.modes();
    assert!(modes.app_cursor && modes.app_keypad && modes.sgr_mouse && modes.bracketed_paste);
    assert!(modes.focus && modes.alt_screen && modes.alternate_scroll);
    assert_eq!(modes.mouse, MouseMode::Drag);
    engine.feed(b"\x1b[?1003h");
    assert_eq!(engine.modes().mouse, MouseMode::Motion);
    engine.mark("the end");
    let modes = engine.modes();
    assert_eq!((modes.mouse, modes.alt_screen), (MouseMode::Off, false));
    assert!(!modes.app_cursor && !modes.bracketed_paste && !modes.focus && !modes.app_keypad);
}

#[test]
fn a_mark_is_a_line_of_its_own_whatever_was_left() {
    let mut engine = engine();
    engine.feed(b"prompt$ half\x1b(0\x1b[31m\x1b[2;3r\x1b[3;5H\x1b]0;unfinished");
    engine.mark("-- again\x1b[2J --");
    engine.feed(b"lqk");
    assert_eq!(engine.screen_text(), "prompt$ half\n\n\n-- again[2J --\nlqk");
    // An emulator that has shown nothing yet gets no empty line above it.
    let mut fresh = Engine::new(SIZE, Options::default());
    fresh.mark("first");
    assert_eq!(fresh.screen_text().trim_end(), "first");
}

fn numbered(lines: std::ops::Range<u32>) -> String {
    lines.map(|n| format!("line {n}\r\n")).collect()
}

#[test]
fn scrolling_stays_where_it_is_while_more_comes() {
    let mut engine = engine();
    engine.feed(numbered(0..100).as_bytes());
    assert_eq!((engine.history(), engine.offset()), (96, 0));
    engine.scroll(10);
    let seen = engine.screen_text();
    assert!(seen.starts_with("line 86\n"), "{seen}");
    engine.feed(numbered(100..150).as_bytes());
    assert_eq!(engine.screen_text(), seen);
    engine.scroll_to_top();
    assert!(engine.screen_text().starts_with("line 0\n"));
    engine.scroll(-5);
    assert!(engine.screen_text().starts_with("line 5\n"));
    engine.scroll(i32::MIN);
    assert_eq!(engine.offset(), 0);
    engine.scroll(i32::MAX);
    assert_eq!(engine.offset(), engine.history());
    engine.scroll_to_bottom();
    assert!(engine.screen_text().contains("line 149"));
}

/// The emulator alone lets its view leave the history here, and panics when it is read.
#[test]
fn scrolling_within_margins_does_not_move_the_view_beyond_the_history() {
    let mut engine = engine();
    engine.feed(numbered(0..6).as_bytes());
    engine.scroll(1);
    engine.feed(b"\x1b[2;5r\x1b[3;1H\x1b[2M\x1b[2M\x1b[9S");
    assert!(engine.offset() <= engine.history());
    assert!(engine.screen_text().contains("line 0"));
}

/// Inserting before a wide character at the right edge leaves half of it there.
#[test]
fn half_a_wide_character_is_not_painted() {
    let mut engine = Engine::new(Size { cols: 4, rows: 1 }, Options::default());
    engine.feed("ab漢\x1b[1G\x1b[4hx".as_bytes());
    let mut cells = Vec::new();
    engine.for_each_cell(|x, _, cell| cells.push((x, cell.ch, cell.wide)));
    assert_eq!(cells, [(0, 'x', false), (1, 'a', false), (2, 'b', false), (3, ' ', false)]);
}

/// The parser alone loses the "0" if it gets the two halves of the first character one by one.
#[test]
fn no_character_is_lost_where_the_stream_was_cut() {
    for cut in 0..=7 {
        let mut engine = engine();
        let bytes = "Σ0ೠ1".as_bytes();
        engine.feed(&bytes[..cut]);
        engine.feed(&bytes[cut..]);
        assert_eq!(engine.screen_text().trim_end(), "Σ0ೠ1", "cut at {cut}");
    }
    // One that never gets its rest is shown as broken, and what follows is as it is.
    let mut engine = engine();
    engine.feed(b"\xe6\x97");
    engine.feed(b"\x1b[1mx\xf0\x9f");
    engine.feed(b"\r\ny");
    assert_eq!(engine.screen_text().trim_end(), "\u{fffd}x\u{fffd}\ny");
    // Nor is one lost in the midst of a large piece.
    let mut engine = Engine::new(Size { cols: 99, rows: 200 }, Options::default());
    engine.feed("日a".repeat(4000).as_bytes());
    assert_eq!(engine.screen_text().matches("日a").count(), 4000);
}

#[test]
fn the_history_has_an_end() {
    let mut engine = engine();
    engine.feed(numbered(0..11_000).as_bytes());
    assert_eq!(engine.history(), 10_000);
    engine.scroll_to_top();
    assert!(engine.screen_text().starts_with("line 996\n"), "{}", engine.screen_text());
}

#[test]
fn text_is_selected_and_copied() {
    let mut engine = engine();
    engine.feed(b"hello brave new world of wrapped lines\r\nsecond");
    engine.select(6, 0, Select::Cells);
    assert_eq!(engine.selected_text(), None, "a click selects nothing");
    engine.select_to(4, 1);
    assert_eq!(engine.selected_text().as_deref(), Some("brave new world of "));
    engine.select(4, 1, Select::Cells);
    engine.select_to(6, 0);
    assert_eq!(engine.selected_text().as_deref(), Some("brave new world of "), "backwards");
    engine.select(8, 0, Select::Words);
    assert_eq!(engine.selected_text().as_deref(), Some("brave"));
    engine.select(3, 2, Select::Lines);
    assert_eq!(engine.selected_text().as_deref(), Some("second\n"));
    engine.select(0, 0, Select::Block);
    engine.select_to(1, 2);
    assert_eq!(engine.selected_text().as_deref(), Some("he\nd\nse"));
    let mut selected = 0;
    engine.for_each_cell(|_, _, cell| selected += u32::from(cell.selected));
    assert_eq!(selected, 6);
    engine.select_none();
    assert_eq!(engine.selected_text(), None);
    engine.select(999, 999, Select::Cells);
    engine.select_to(0, 0);
    assert!(engine.selected_text().is_some());
}

#[test]
fn a_search_goes_through_the_history_and_round() {
    let mut engine = engine();
    engine.feed(numbered(0..100).as_bytes());
    engine.feed("a long line where Some thing is wrapped 日本語".as_bytes());
    let found = |wrapped, total| Some(Found { wrapped, total });
    assert_eq!(engine.search("line 5", Toward::Older), found(false, 11));
    assert_eq!(engine.selected_text().as_deref(), Some("line 5"));
    assert!(engine.screen_text().contains("line 59"));
    assert_eq!(engine.search("line 5", Toward::Older), found(false, 11));
    assert!(engine.screen_text().contains("line 58"));
    assert_eq!(engine.search("line 5", Toward::Newer), found(false, 11));
    assert_eq!(engine.search("line 5", Toward::Newer), found(true, 11));
    assert!(engine.screen_text().contains("line 5\n"));
    engine.select_none();
    // Case counts only if asked for, wrapped lines are one, wide characters are found.
    assert_eq!(engine.search("some thing", Toward::Older), found(false, 1));
    assert_eq!(engine.search("SOME thing", Toward::Older), None);
    assert_eq!(engine.search("本語", Toward::Older).map(|f| f.total), Some(1));
    assert_eq!(engine.selected_text().as_deref(), Some("本語"));
    assert_eq!(engine.search("", Toward::Newer), None);
    assert_eq!(engine.search("not there", Toward::Newer), None);
}

#[test]
fn lines_wrap_again_when_the_width_changes() {
    let mut engine = engine();
    engine.feed(b"0123456789abcdefghijklmnopqrst");
    assert_eq!(engine.screen_text().trim_end(), "0123456789abcdefghij\nklmnopqrst");
    engine.resize(Size { cols: 40, rows: 5 });
    assert_eq!(engine.screen_text().trim_end(), "0123456789abcdefghijklmnopqrst");
}

/// Below 2 columns the emulator would take memory until there is none (a wide character does
/// not fit anywhere).
#[test]
fn a_pane_of_one_column_is_one_of_two() {
    let mut engine = engine();
    engine.feed("日本語日本語".as_bytes());
    for (cols, rows) in [(1, 1), (0, 0), (1, 5), (2, 1), (20, 5)] {
        engine.resize(Size { cols, rows });
        engine.feed("漢".as_bytes());
        assert_eq!(engine.size(), Size { cols: cols.max(2), rows: rows.max(1) });
    }
    let tiny = Engine::new(Size { cols: 0, rows: 0 }, Options::default());
    assert_eq!(tiny.size(), Size { cols: 2, rows: 1 });
}

#[test]
fn repeating_a_character_is_bounded_but_works_for_lines() {
    let mut engine = Engine::new(SIZE, Options { scrollback: 1_000_000, ..Options::default() });
    engine.feed(b"x\x1b[19b");
    assert_eq!(engine.screen_text().trim_end(), "x".repeat(20));
    let flood = b"\x1b[65535b".repeat(1000);
    engine.feed(&flood);
    let lines = (flood.len() + 4096) * 64 / 20;
    assert!(engine.history() > 1000 && engine.history() < lines + 5, "{}", engine.history());
}

#[test]
fn an_update_that_is_to_be_shown_as_one_is_told() {
    let mut engine = engine();
    engine.feed(b"\x1b[?2026hhalf");
    assert!(engine.in_update());
    // It is in the grid nevertheless: nothing is held back that could come in one large piece.
    assert!(engine.screen_text().contains("half"));
    engine.feed(b"\x1b[?2026l");
    assert!(!engine.in_update());
}

#[test]
fn a_selection_from_the_oldest_line_survives_a_wide_character_that_did_not_fit() {
    let mut engine = Engine::new(Size { cols: 5, rows: 1 }, Options::default());
    engine.feed("漢字😀e\u{301}".as_bytes());
    engine.scroll(1);
    engine.select(0, 0, Select::Cells);
    engine.select_to(4, 0);
    assert_eq!(engine.selected_text().as_deref(), Some("漢字"));
}
