//! The emulator on what real programs wrote.

#![allow(clippy::unwrap_used)]

use std::{fmt::Write as _, fs, path::Path};

use banger::term::{Attrs, Color, Engine, Options, Size};
use proptest::prelude::*;

const SIZE: Size = Size { cols: 80, rows: 24 };

const STREAMS: [&str; 12] = [
    "bash-readline",
    "boot",
    "busybox-sh",
    "less",
    "line-drawing",
    "nano",
    "progress",
    "top",
    "vim",
    "whiptail",
    "whiptail-linedraw",
    "wide",
];

fn stream(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/term");
    fs::read(dir.join(format!("{name}.bin"))).unwrap()
}

fn engine() -> Engine {
    Engine::new(SIZE, Options::default())
}

/// Cells of a row that look alike: the row, from, to, and how.
type Run = (u16, u16, u16, (Color, Color, Attrs));

/// The whole state that a user sees: text, the places that are not plain, cursor, modes.
fn picture(engine: &Engine) -> String {
    let mut text = vec![String::new(); usize::from(engine.size().rows)];
    let mut styles = String::new();
    let mut run: Option<Run> = None;
    let mut end_run = |run: &mut Option<Run>| {
        let Some((y, from, to, (fg, bg, attrs))) = run.take() else { return };
        write!(styles, "{y:>2}: {from}..{to}").unwrap();
        for (what, color) in [("fg", fg), ("bg", bg)] {
            match color {
                Color::Default => {}
                Color::Indexed(index) => write!(styles, " {what}={index}").unwrap(),
                Color::Rgb(r, g, b) => write!(styles, " {what}=#{r:02x}{g:02x}{b:02x}").unwrap(),
            }
        }
        for (what, has) in [
            ("bold", attrs.bold),
            ("dim", attrs.dim),
            ("italic", attrs.italic),
            ("underline", attrs.underline),
            ("inverse", attrs.inverse),
            ("hidden", attrs.hidden),
            ("strikeout", attrs.strikeout),
        ] {
            if has {
                write!(styles, " {what}").unwrap();
            }
        }
        styles.push('\n');
    };
    engine.for_each_cell(|x, y, cell| {
        cell.push_to(&mut text[usize::from(y)]);
        let style = (cell.fg, cell.bg, cell.attrs);
        let end = x + 1 + u16::from(cell.wide);
        match &mut run {
            Some((row, _, to, have)) if *row == y && *have == style && *to == x => *to = end,
            _ => {
                end_run(&mut run);
                if style != Default::default() {
                    run = Some((y, x, end, style));
                }
            }
        }
    });
    end_run(&mut run);
    let mut out = String::new();
    for line in text {
        writeln!(out, "|{}", line.trim_end()).unwrap();
    }
    out + &styles
        + &format!("{:?}\nhistory {}\n{:?}\n", engine.cursor(), engine.history(), engine.modes())
}

#[test]
fn the_screens_of_real_programs() {
    for name in STREAMS {
        let mut engine = engine();
        engine.feed(&stream(name));
        insta::assert_snapshot!(name, picture(&engine));
    }
}

#[test]
fn one_byte_at_a_time_gives_the_same_screen() {
    for name in STREAMS {
        let bytes = stream(name);
        let (mut whole, mut split) = (engine(), engine());
        whole.feed(&bytes);
        for byte in &bytes {
            split.feed(&[*byte]);
        }
        assert_eq!(picture(&whole), picture(&split), "{name}");
    }
}

/// What a guest may send, with all that is special made likely.
fn guest_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(STREAMS.to_vec()).prop_flat_map(|name| {
            let bytes = stream(name);
            let len = bytes.len();
            (0..len, 0..400_usize).prop_map(move |(at, n)| bytes[at..(at + n).min(len)].to_vec())
        }),
        "\\PC{0,12}".prop_map(String::into_bytes),
        Just("漢字😀e\u{301}".as_bytes().to_vec()),
        (
            (0..200_u16, 0..200_u16),
            prop::sample::select(b"ABCDEFGHIJKLMPSTXZ@`abcdefghlmnrstu".to_vec())
        )
            .prop_map(|((a, b), c)| format!("\x1b[{a};{b}{}", char::from(c)).into_bytes()),
        prop::sample::select(vec![1_u16, 6, 7, 25, 47, 1000, 1047, 1049, 2004, 2026])
            .prop_flat_map(|mode| prop::sample::select(vec!['h', 'l'])
                .prop_map(move |c| format!("\x1b[?{mode}{c}").into_bytes())),
        prop::sample::select(vec![
            "\x1bc", "\x1b7", "\x1b8", "\x1bM", "\x1bD", "\x1bE", "\x1bH", "\x1b#8", "\x1b(0",
            "\x1b(B", "\x0e", "\x0f", "\t", "\r\n", "\n\n\n\n", "\x08", "\x1b[4h", "\x1b[4l",
            "\x1b[3g",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

#[derive(Clone, Debug)]
enum Step {
    Feed(Vec<u8>),
    Resize(u16, u16),
    Scroll(i32),
    Select(u16, u16, u16, u16),
    Search(&'static str),
    Mark,
}

fn step() -> impl Strategy<Value = Step> {
    // Most panes are small, and the smallest are where emulators break.
    let side = || prop_oneof![0..6_u16, 0..130_u16];
    prop_oneof![
        4 => guest_bytes().prop_map(Step::Feed),
        3 => (side(), side()).prop_map(|(cols, rows)| Step::Resize(cols, rows)),
        1 => (-50..50_i32).prop_map(Step::Scroll),
        1 => (side(), side(), side(), side()).prop_map(|(a, b, c, d)| Step::Select(a, b, c, d)),
        1 => prop::sample::select(vec!["a", "漢", "zz", ""]).prop_map(Step::Search),
        1 => Just(Step::Mark),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_split_gives_the_same_screen_and_replies(
        bytes in guest_bytes(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let replies = |events: Vec<banger::term::EngineEvent>| {
            events.into_iter().find_map(|event| match event {
                banger::term::EngineEvent::Reply(bytes) => Some(bytes),
                _ => None,
            }).unwrap_or_default()
        };
        let (mut whole, mut split) = (engine(), engine());
        let whole_replies = replies(whole.feed(&bytes));
        let mut split_replies = Vec::new();
        for pair in cuts.windows(2) {
            split_replies.extend(replies(split.feed(&bytes[pair[0]..pair[1]])));
        }
        prop_assert_eq!(picture(&whole), picture(&split));
        prop_assert_eq!(whole_replies, split_replies);
    }

    #[test]
    fn nothing_a_guest_and_a_user_do_together_breaks_it(
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut engine = Engine::new(SIZE, Options { scrollback: 200, ..Options::default() });
        for step in steps {
            match step {
                Step::Feed(bytes) => { engine.feed(&bytes); }
                Step::Resize(cols, rows) => {
                    engine.resize(Size { cols, rows });
                    prop_assert_eq!(engine.size(), Size { cols: cols.max(2), rows: rows.max(1) });
                }
                Step::Scroll(lines) => engine.scroll(lines),
                Step::Select(x, y, to_x, to_y) => {
                    engine.select(x, y, banger::term::Select::Cells);
                    engine.select_to(to_x, to_y);
                    let _ = engine.selected_text();
                }
                Step::Search(text) => { engine.search(text, banger::term::Toward::Older); }
                Step::Mark => engine.mark("marked"),
            }
            let Size { cols, rows } = engine.size();
            let mut broken = None;
            engine.for_each_cell(|x, y, cell| {
                let width = 1 + u16::from(cell.wide);
                if x + width > cols || y >= rows || cell.ch.is_control() {
                    broken = Some((x, y, format!("{cell:?}")));
                }
            });
            prop_assert_eq!(broken, None);
            if let Some(cursor) = engine.cursor() {
                prop_assert!(cursor.x < cols && cursor.y < rows);
            }
            prop_assert!(engine.history() <= 200 && engine.offset() <= engine.history());
        }
    }

    /// Another emulator, which knows nothing of ours, is the judge for what every terminal does
    /// alike: text, line ends, tabs, cursor movement, erasing.
    #[test]
    fn it_agrees_with_another_emulator(
        pieces in prop::collection::vec(
            prop_oneof![
                "[ -~]{0,40}",
                Just("\r\n".to_owned()),
                Just("\r".to_owned()),
                Just("\t".to_owned()),
                Just("\x08".to_owned()),
                Just("日本".to_owned()),
                (1..12_u16, prop::sample::select(vec!['A', 'B', 'C', 'D', 'G', 'P', '@', 'X']))
                    .prop_map(|(n, c)| format!("\x1b[{n}{c}")),
                (1..12_u16, 1..30_u16).prop_map(|(y, x)| format!("\x1b[{y};{x}H")),
                (0..3_u16).prop_map(|n| format!("\x1b[{n}K")),
            ],
            0..40,
        ),
    ) {
        let text = pieces.concat();
        // What happens to the halves of a wide character that is overwritten is each one's own.
        prop_assume!(!text.contains('日') || !text.contains(['\x1b', '\x08', '\r']));
        // So is where a tab behind the last column leaves the cursor for an erasing.
        prop_assume!(!text.contains('\t') || !text.contains('\x1b'));
        let mut ours = Engine::new(Size { cols: 30, rows: 8 }, Options::default());
        ours.feed(text.as_bytes());
        let mut theirs = avt::Terminal::new(30, 8).unwrap();
        theirs.feed(&text);
        let screen = theirs.screen();
        let row = |y| screen.line(y).unwrap().text().trim_end().to_owned();
        let expected: Vec<_> = (0..8).map(row).collect();
        prop_assert_eq!(ours.screen_text(), expected.join("\n"));
    }
}
