//! The emulator: the only room that knows `alacritty_terminal`.
//!
//! Between its parser and its grid stands a [`guard`] that passes on what a guest may do, and
//! bounds what would let a few bytes of a guest cost much memory or time.

mod guard;

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alacritty_terminal::{
    event::{Event, EventListener},
    grid::{Dimensions, Scroll},
    index::{Column, Line, Point, Side},
    selection::{Selection, SelectionType},
    term::{
        Config, Osc52, Term, TermMode,
        cell::{Cell as GridCell, Flags},
        color::Colors,
    },
    vte::ansi::{Color as AnsiColor, CursorShape as AnsiShape, Processor, Rgb, Timeout},
};

use self::guard::{Guard, GuardState};
use super::{
    Attrs, Cell, Color, Cursor, CursorShape, Modes, MouseMode, Size,
    limit::{self, OscLimit},
    sanitise,
};

/// Cells that only make room for a wide character.
const SPACERS: Flags = Flags::WIDE_CHAR_SPACER.union(Flags::LEADING_WIDE_CHAR_SPACER);

/// Bytes of replies kept from one call of [`Engine::feed`]. A guest that asks for more than it
/// reads gets no more.
const REPLIES_MAX: usize = 64 * 1024;

/// Characters the grid takes per byte of input, on average: `CSI n b` repeats a character up to
/// 65,535 times. Programs use it for runs within a line.
const CHARS_PER_BYTE: usize = 64;

/// How much of that can be saved up.
const CHARS_MAX: usize = CHARS_PER_BYTE * FEED_SLICE;

/// How much is parsed with one allowance.
const FEED_SLICE: usize = 4096;

/// How an engine is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Lines kept that scrolled out at the top.
    pub scrollback: usize,
    /// Whether the guest may put text into the user's clipboard (OSC 52). Reading the
    /// clipboard is never possible.
    pub clipboard: bool,
    /// What a guest is told when it asks for the default foreground (OSC 10).
    pub foreground: (u8, u8, u8),
    /// What a guest is told when it asks for the default background (OSC 11).
    pub background: (u8, u8, u8),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scrollback: 10_000,
            clipboard: false,
            foreground: (0xe5, 0xe5, 0xe5),
            background: (0, 0, 0),
        }
    }
}

/// What a guest asked for beside changing the grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// To be sent to the guest: the answers to its questions, in order.
    Reply(Vec<u8>),
    /// The title is now this; empty for none. Sanitised.
    Title(String),
    /// It rang.
    Bell,
    /// The text is to go to the user's clipboard. Only if [`Options::clipboard`] allows it.
    Clipboard(String),
    /// It wanted to write to the clipboard and may not.
    ClipboardDenied,
}

/// What is selected from the place where a selection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// Cells, in reading order.
    Cells,
    /// Words.
    Words,
    /// Lines.
    Lines,
    /// A rectangle.
    Block,
}

/// The direction of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// Up, to what was printed earlier.
    Older,
    /// Down.
    Newer,
}

/// A search had a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// It went over the end and began again at the other.
    pub wrapped: bool,
    /// How many hits there are in all.
    pub total: usize,
}

/// A terminal emulator: bytes in, a grid of cells out.
pub struct Engine {
    term: Term<Sink>,
    parser: Processor<NoHold>,
    limit: OscLimit,
    outbox: Arc<Mutex<Outbox>>,
    guard: GuardState,
    options: Options,
    /// The beginning of a character whose rest has not come: at most 3 bytes.
    held: Vec<u8>,
    /// Makes the next [`Engine::feed`] panic.
    #[cfg(test)]
    pub(super) fail_next: bool,
}

impl Engine {
    /// An empty terminal.
    #[must_use]
    pub fn new(size: Size, options: Options) -> Self {
        let outbox = Arc::new(Mutex::new(Outbox::default()));
        let config = Config {
            scrolling_history: options.scrollback,
            kitty_keyboard: false,
            // Reading is never answered; whether writing is allowed is decided in `feed`.
            osc52: Osc52::OnlyCopy,
            ..Config::default()
        };
        let term = Term::new(config, &Area::of(size), Sink(Arc::clone(&outbox)));
        Self {
            term,
            parser: Processor::new(),
            limit: OscLimit::default(),
            outbox,
            guard: GuardState::default(),
            options,
            held: Vec::new(),
            #[cfg(test)]
            fail_next: false,
        }
    }

    /// Takes what the guest sent, split anyhow.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<EngineEvent> {
        #[cfg(test)]
        assert!(!self.fail_next, "as the test wants");
        if self.held.is_empty() {
            self.feed_from(bytes);
        } else {
            let mut whole = mem::take(&mut self.held);
            whole.extend_from_slice(bytes);
            self.feed_from(&whole);
        }
        self.take_events()
    }

    /// Never gives the parser a part of a character: it loses what follows the rest of it.
    fn feed_from(&mut self, mut bytes: &[u8]) {
        let Self { term, parser, limit, outbox, guard, options, held, .. } = self;
        while !bytes.is_empty() {
            let end = bytes.len().min(FEED_SLICE);
            let end = end - unfinished(&bytes[..end]);
            if end == 0 {
                held.extend_from_slice(bytes);
                return;
            }
            let (slice, rest) = bytes.split_at(end);
            bytes = rest;
            guard.chars = (guard.chars + slice.len() * CHARS_PER_BYTE).min(CHARS_MAX);
            let mut guarded = Guard { term, state: guard, outbox, options };
            limit.pass(slice, |piece| parser.advance(&mut guarded, piece));
            // Scrolling within margins moves the view up, even beyond the history: reading what
            // is seen would then panic. Not to move it brings it back.
            term.scroll_display(Scroll::Delta(0));
        }
    }

    /// Whether the guest is in the midst of an update that it wants to be shown as one (mode
    /// 2026). Drawing may wait for its end - for 150 ms at most, as it may never come.
    #[must_use]
    pub fn in_update(&self) -> bool {
        self.guard.in_update
    }

    fn take_events(&mut self) -> Vec<EngineEvent> {
        let out = mem::take(&mut *lock(&self.outbox));
        let mut events = Vec::new();
        if !out.replies.is_empty() {
            events.push(EngineEvent::Reply(out.replies));
        }
        if let Some(title) = out.title {
            events.push(EngineEvent::Title(title));
        }
        if out.bell {
            events.push(EngineEvent::Bell);
        }
        match out.clipboard {
            Some(text) if self.options.clipboard => events.push(EngineEvent::Clipboard(text)),
            Some(_) => events.push(EngineEvent::ClipboardDenied),
            None => {}
        }
        events
    }

    /// Allows or denies writing to the user's clipboard.
    pub fn allow_clipboard(&mut self, allow: bool) {
        self.options.clipboard = allow;
    }

    /// Changes the size; lines are re-wrapped. Less than 2 columns or 1 row is taken as that:
    /// below 2 columns a wide character cannot be placed, and the emulator would not end.
    pub fn resize(&mut self, size: Size) {
        self.term.resize(Area::of(size));
    }

    /// The size, at least 2 x 1.
    #[must_use]
    pub fn size(&self) -> Size {
        // Both came from u16.
        Size { cols: self.term.columns() as u16, rows: self.term.screen_lines() as u16 }
    }

    /// Writes a line of banger's own below what is there, and puts the modes a program may have
    /// left back to their defaults. What came of an unfinished sequence is dropped. The
    /// scrollback stays.
    pub fn mark(&mut self, text: &str) {
        // Alternate screen, mouse, focus, paste, cursor keys; cursor, margins (which move the
        // cursor), wrap, insert; character sets; attributes.
        const DEFAULTS: &[u8] = b"\x1b[?1049l\x1b[?9;1000;1002;1003;1005;1006;1004;2004;2026;1;6l\
            \x1b>\x1b[?25;7h\x1b7\x1b[r\x1b8\x1b[4;20l\x1b(B\x0f\x1b[0 q\x1b[m\x1b[2m";
        self.parser = Processor::new();
        self.limit = OscLimit::default();
        self.held = Vec::new();
        let fresh = self.term.grid().cursor.point == Point::new(Line(0), Column(0));
        let mut bytes = DEFAULTS.to_vec();
        if !fresh {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(sanitise::title(text).as_bytes());
        bytes.extend_from_slice(b"\x1b[m\r\n");
        self.feed(&bytes);
        self.scroll_to_bottom();
    }

    /// Calls `f` with the place of each visible cell, row by row. The right half of a wide
    /// character is passed over.
    pub fn for_each_cell(&self, mut f: impl FnMut(u16, u16, &Cell<'_>)) {
        let selection = self.term.selection.as_ref().and_then(|s| s.to_range(&self.term));
        let top = self.top();
        let columns = self.term.columns();
        let colors = self.term.colors();
        for y in 0..self.term.screen_lines() {
            let line = Line(top + y as i32);
            let row = &self.term.grid()[line];
            let is = |x: usize, flag| x < columns && row[Column(x)].flags.contains(flag);
            let mut x = 0;
            while x < columns {
                let point = Point::new(line, Column(x));
                let selected = selection.is_some_and(|range| range.contains(point));
                let mut cell = convert(&row[Column(x)], colors, selected);
                // Inserting and deleting can part the halves of a wide character. Half of one
                // cannot be painted.
                cell.wide = cell.wide && is(x + 1, Flags::WIDE_CHAR_SPACER);
                if !cell.wide && (is(x, Flags::WIDE_CHAR) || is(x, Flags::WIDE_CHAR_SPACER)) {
                    (cell.ch, cell.combining) = (' ', &[]);
                }
                f(x as u16, y as u16, &cell);
                x += 1 + usize::from(cell.wide);
            }
        }
    }

    /// The cursor, unless it is hidden or scrolled out of sight.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        let style = self.term.cursor_style();
        let shape = match style.shape {
            _ if !self.term.mode().contains(TermMode::SHOW_CURSOR) => return None,
            AnsiShape::Hidden => return None,
            AnsiShape::Underline => CursorShape::Underline,
            AnsiShape::Beam => CursorShape::Beam,
            AnsiShape::Block | AnsiShape::HollowBlock => CursorShape::Block,
        };
        let mut point = self.term.grid().cursor.point;
        let y = usize::try_from(point.line.0).ok()? + self.offset();
        if y >= self.term.screen_lines() {
            return None;
        }
        if self.term.grid()[point].flags.contains(Flags::WIDE_CHAR_SPACER) && point.column.0 > 0 {
            point.column -= 1;
        }
        Some(Cursor { x: point.column.0 as u16, y: y as u16, shape, blinking: style.blinking })
    }

    /// What is switched on.
    #[must_use]
    pub fn modes(&self) -> Modes {
        let mode = self.term.mode();
        let has = |flag| mode.contains(flag);
        let mouse = if has(TermMode::MOUSE_MOTION) {
            MouseMode::Motion
        } else if has(TermMode::MOUSE_DRAG) {
            MouseMode::Drag
        } else if has(TermMode::MOUSE_REPORT_CLICK) {
            MouseMode::Click
        } else {
            MouseMode::Off
        };
        Modes {
            app_cursor: has(TermMode::APP_CURSOR),
            app_keypad: has(TermMode::APP_KEYPAD),
            newline: has(TermMode::LINE_FEED_NEW_LINE),
            mouse,
            sgr_mouse: has(TermMode::SGR_MOUSE),
            utf8_mouse: has(TermMode::UTF8_MOUSE),
            bracketed_paste: has(TermMode::BRACKETED_PASTE),
            focus: has(TermMode::FOCUS_IN_OUT),
            alt_screen: has(TermMode::ALT_SCREEN),
            alternate_scroll: has(TermMode::ALTERNATE_SCROLL),
        }
    }

    /// Scrolls by lines: up (to older ones) if positive. Stops at the ends.
    pub fn scroll(&mut self, lines: i32) {
        // Beyond any history, and far from the overflow of what it is added to.
        self.term.scroll_display(Scroll::Delta(lines.clamp(-1_000_000, 1_000_000)));
    }

    /// Scrolls to the oldest line.
    pub fn scroll_to_top(&mut self) {
        self.term.scroll_display(Scroll::Top);
    }

    /// Scrolls to where output appears.
    pub fn scroll_to_bottom(&mut self) {
        self.term.scroll_display(Scroll::Bottom);
    }

    /// How many lines it is scrolled up; 0 at the bottom. Output that comes meanwhile does not
    /// move what is seen.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.term.grid().display_offset()
    }

    /// How many lines there are above the screen.
    #[must_use]
    pub fn history(&self) -> usize {
        self.term.grid().history_size()
    }

    /// Begins a selection at a visible cell. Nothing is selected yet, unless words or lines are.
    pub fn select(&mut self, x: u16, y: u16, what: Select) {
        let kind = match what {
            Select::Cells => SelectionType::Simple,
            Select::Words => SelectionType::Semantic,
            Select::Lines => SelectionType::Lines,
            Select::Block => SelectionType::Block,
        };
        self.term.selection = Some(Selection::new(kind, self.point(x, y), Side::Left));
    }

    /// Extends the selection to a visible cell, including it.
    pub fn select_to(&mut self, x: u16, y: u16) {
        let point = self.point(x, y);
        if let Some(selection) = &mut self.term.selection {
            selection.update(point, Side::Right);
            selection.include_all();
        }
    }

    /// Selects nothing.
    pub fn select_none(&mut self) {
        self.term.selection = None;
    }

    /// The selected text; wrapped lines are one.
    #[must_use]
    pub fn selected_text(&self) -> Option<String> {
        let range = self.term.selection.as_ref()?.to_range(&self.term)?;
        let text = if self.ends_in_a_gap(range.start.line) && !range.is_block {
            // The wide character that did not fit is on the next line; alacritty looks for it
            // on the one before, which the oldest line does not have.
            let first = &self.term.grid()[range.start.line];
            let last = if range.end.line == range.start.line {
                range.end.column
            } else {
                self.term.last_column()
            };
            let mut text: String = (range.start.column.0..=last.0)
                .map(|column| &first[Column(column)])
                .filter(|cell| !cell.flags.intersects(SPACERS))
                .map(|cell| cell.c)
                .collect();
            if range.end.line > range.start.line {
                let next = Point::new(range.start.line + 1i32, Column(0));
                text.push_str(&self.term.bounds_to_string(next, range.end));
            }
            text
        } else {
            self.term.selection_to_string()?
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// Whether this is the oldest line, and its last cell is empty because a wide character did
    /// not fit into it.
    fn ends_in_a_gap(&self, line: Line) -> bool {
        let last = &self.term.grid()[line][self.term.last_column()];
        line == self.term.topmost_line() && last.flags.contains(Flags::LEADING_WIDE_CHAR_SPACER)
    }

    /// The visible text, a line per row, without the spaces at their ends.
    #[must_use]
    pub fn screen_text(&self) -> String {
        let mut lines = vec![String::new(); self.term.screen_lines()];
        self.for_each_cell(|_, y, cell| cell.push_to(&mut lines[usize::from(y)]));
        let lines: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
        lines.join("\n")
    }

    /// The last lines of the output, at most so many rows of the screen; a line that was wrapped is
    /// one. Without what is blank at their end.
    #[must_use]
    pub fn last_lines(&self, rows: usize) -> Vec<String> {
        let last = self.term.bottommost_line();
        let rows = i32::try_from(rows).unwrap_or(i32::MAX);
        // Below the cursor of what never filled the screen there is nothing.
        let cursor = self.term.grid().cursor.point.line;
        let first = (cursor.min(last) - rows.saturating_sub(1)).max(self.term.topmost_line());
        let (from, to) = (Point::new(first, Column(0)), Point::new(last, self.term.last_column()));
        let text = self.term.bounds_to_string(from, to);
        text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Finds a text from the last hit (or the selection, or the bottom) on, selects it and
    /// scrolls to it. Case counts only if the text has a capital letter. It is found across the
    /// places where lines were wrapped.
    pub fn search(&mut self, text: &str, toward: Toward) -> Option<Found> {
        let hits = self.hits(text);
        let from = self.term.selection.as_ref().and_then(|s| s.to_range(&self.term));
        let next = match (toward, from) {
            (Toward::Older, Some(range)) => hits.iter().rposition(|hit| hit.0 < range.start),
            (Toward::Older, None) => hits.len().checked_sub(1),
            (Toward::Newer, Some(range)) => hits.iter().position(|hit| hit.0 > range.start),
            (Toward::Newer, None) => None,
        };
        let wrapped = next.is_none();
        let (start, end) = match (next, toward) {
            (Some(index), _) => hits[index],
            (None, Toward::Older) => *hits.last()?,
            (None, Toward::Newer) => *hits.first()?,
        };
        let mut selection = Selection::new(SelectionType::Simple, start, Side::Left);
        selection.update(end, Side::Right);
        self.term.selection = Some(selection);
        self.term.scroll_to_point(start);
        Some(Found { wrapped: wrapped && from.is_some(), total: hits.len() })
    }

    /// First and last cell of all places where a text is, from the oldest on.
    fn hits(&self, text: &str) -> Vec<(Point, Point)> {
        let exact = text.chars().any(char::is_uppercase);
        let fold = |c: char| if exact { c } else { c.to_lowercase().next().unwrap_or(c) };
        let needle: Vec<char> = text.chars().map(fold).collect();
        let mut hits = Vec::new();
        let Some(&head) = needle.first() else { return hits };
        let mut line: Vec<(char, Point)> = Vec::new();
        for y in self.term.topmost_line().0..=self.term.bottommost_line().0 {
            let row = &self.term.grid()[Line(y)];
            let mut wraps = false;
            for x in 0..self.term.columns() {
                let cell = &row[Column(x)];
                wraps = cell.flags.contains(Flags::WRAPLINE);
                if !cell.flags.intersects(Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER)
                {
                    let point = Point::new(Line(y), Column(x));
                    line.push((fold(sanitise::shown(cell.c)), point));
                    line.extend(cell.zerowidth().unwrap_or_default().iter().map(|&c| (c, point)));
                }
            }
            if wraps && y < self.term.bottommost_line().0 {
                continue;
            }
            let mut at = 0;
            while let Some(window) = line.get(at..at + needle.len()) {
                if window[0].0 == head
                    && window.iter().zip(&needle).all(|(have, want)| have.0 == *want)
                {
                    hits.push((window[0].1, window[needle.len() - 1].1));
                    at += needle.len();
                } else {
                    at += 1;
                }
            }
            line.clear();
        }
        hits
    }

    /// The grid's number of the first visible line.
    fn top(&self) -> i32 {
        -(self.offset() as i32)
    }

    fn point(&self, x: u16, y: u16) -> Point {
        let x = usize::from(x).min(self.term.columns() - 1);
        let y = usize::from(y).min(self.term.screen_lines() - 1);
        Point::new(Line(self.top() + y as i32), Column(x))
    }
}

/// How many bytes at the end begin a UTF-8 character that is longer: at most 3.
fn unfinished(bytes: &[u8]) -> usize {
    for (count, byte) in bytes.iter().rev().take(3).enumerate() {
        let needed = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if needed > count + 1 { count + 1 } else { 0 };
    }
    0
}

fn convert<'a>(cell: &'a GridCell, colors: &Colors, selected: bool) -> Cell<'a> {
    let has = |flag| cell.flags.intersects(flag);
    Cell {
        ch: sanitise::shown(cell.c),
        fg: color(cell.fg, colors),
        bg: color(cell.bg, colors),
        attrs: Attrs {
            bold: has(Flags::BOLD),
            dim: has(Flags::DIM),
            italic: has(Flags::ITALIC),
            underline: has(Flags::ALL_UNDERLINES),
            inverse: has(Flags::INVERSE),
            hidden: has(Flags::HIDDEN),
            strikeout: has(Flags::STRIKEOUT),
        },
        wide: has(Flags::WIDE_CHAR),
        selected,
        combining: cell.zerowidth().unwrap_or_default(),
    }
}

fn color(color: AnsiColor, colors: &Colors) -> Color {
    let index = match color {
        AnsiColor::Spec(Rgb { r, g, b }) => return Color::Rgb(r, g, b),
        AnsiColor::Indexed(index) => index,
        AnsiColor::Named(name) => match u8::try_from(name as usize) {
            Ok(index) => index,
            // The default ones, and the dim and bright variants that no sequence selects.
            Err(_) => return Color::Default,
        },
    };
    match colors[usize::from(index)] {
        Some(Rgb { r, g, b }) => Color::Rgb(r, g, b),
        None => Color::Indexed(index),
    }
}

/// A size the emulator can have.
struct Area {
    columns: usize,
    lines: usize,
}

impl Area {
    fn of(size: Size) -> Self {
        Self { columns: usize::from(size.cols).max(2), lines: usize::from(size.rows).max(1) }
    }
}

impl Dimensions for Area {
    fn total_lines(&self) -> usize {
        self.lines
    }

    fn screen_lines(&self) -> usize {
        self.lines
    }

    fn columns(&self) -> usize {
        self.columns
    }
}

/// What a guest asked for since the last look.
#[derive(Default)]
struct Outbox {
    replies: Vec<u8>,
    title: Option<String>,
    bell: bool,
    clipboard: Option<String>,
}

fn lock(outbox: &Mutex<Outbox>) -> std::sync::MutexGuard<'_, Outbox> {
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    fn reply(&mut self, text: &str) {
        if self.replies.len() + text.len() <= REPLIES_MAX {
            self.replies.extend_from_slice(text.as_bytes());
        }
    }
}

/// Where the emulator puts its events.
struct Sink(Arc<Mutex<Outbox>>);

impl EventListener for Sink {
    fn send_event(&self, event: Event) {
        match event {
            Event::PtyWrite(text) => lock(&self.0).reply(&text),
            Event::Bell => lock(&self.0).bell = true,
            // One that was cut at the limit is none.
            Event::ClipboardStore(_, text) if text.len() < (limit::CLIPBOARD_MAX / 4 - 2) * 3 => {
                lock(&self.0).clipboard = Some(text);
            }
            // Titles and colours are the guard's; reading the clipboard is never answered; the
            // size in pixels is not known; the rest is of no use here.
            _ => {}
        }
    }
}

/// Nothing is held back: a held update would come in one piece of up to 2 MiB, during which
/// the UI could not draw. See [`Engine::in_update`].
#[derive(Default)]
struct NoHold;

impl Timeout for NoHold {
    fn set_timeout(&mut self, _: Duration) {}

    fn clear_timeout(&mut self) {}

    fn pending_timeout(&self) -> bool {
        false
    }
}
