//! What stands between the parser and the grid: it passes on what a guest may do, and bounds what
//! would let a few bytes of a guest cost much memory or time.

use std::sync::Mutex;

use alacritty_terminal::{
    grid::Dimensions,
    term::{Term, cell::Flags},
    vte::ansi::{
        Attr, CharsetIndex, ClearMode, CursorShape as AnsiShape, CursorStyle, Handler,
        LineClearMode, Mode, NamedColor, NamedPrivateMode, PrivateMode, Rgb, StandardCharset,
        TabulationClearMode,
    },
};
use unicode_width::UnicodeWidthChar;

use super::{
    super::{palette, sanitise},
    Options, Outbox, Sink, lock,
};

/// Marks that may be combined with one character. More is decoration (or an attack: the grid
/// keeps all of them).
const COMBINING_MAX: usize = 6;

/// Titles a guest may push (`CSI 22 t`).
const TITLES_MAX: usize = 16;

#[derive(Default)]
pub(super) struct GuardState {
    /// Characters that may still be printed.
    pub(super) chars: usize,
    pub(super) in_update: bool,
    title: String,
    titles: Vec<String>,
}

/// Stands between the parser and the grid.
pub(super) struct Guard<'a> {
    pub(super) term: &'a mut Term<Sink>,
    pub(super) state: &'a mut GuardState,
    pub(super) outbox: &'a Mutex<Outbox>,
    pub(super) options: &'a Options,
}

impl Guard<'_> {
    /// Whether the cell a mark would be combined with has enough of them.
    fn combined_enough(&self) -> bool {
        let cursor = &self.term.grid().cursor;
        let mut column = cursor.point.column;
        if !cursor.input_needs_wrap {
            column.0 = column.saturating_sub(1);
        }
        let row = &self.term.grid()[cursor.point.line];
        if row[column].flags.contains(Flags::WIDE_CHAR_SPACER) {
            column.0 = column.saturating_sub(1);
        }
        row[column].zerowidth().is_some_and(|marks| marks.len() >= COMBINING_MAX)
    }

    fn tell_title(&self) {
        lock(self.outbox).title = Some(self.state.title.clone());
    }
}

/// Methods that are passed on as they are.
macro_rules! pass_on {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name(&mut self, $($arg: $type),*) { Handler::$name(self.term, $($arg),*); })*
    };
}

impl Handler for Guard<'_> {
    // Hyperlinks and the mouse pointer's form are not passed on (nothing shows them, and a link
    // would be kept with each cell), nor are the keyboard protocols, which are not spoken.
    pass_on! {
        set_cursor_style(style: Option<CursorStyle>);
        set_cursor_shape(shape: AnsiShape);
        goto(line: i32, col: usize);
        goto_line(line: i32);
        goto_col(col: usize);
        insert_blank(count: usize);
        move_up(rows: usize);
        move_down(rows: usize);
        identify_terminal(intermediate: Option<char>);
        device_status(arg: usize);
        move_forward(cols: usize);
        move_backward(cols: usize);
        move_down_and_cr(rows: usize);
        move_up_and_cr(rows: usize);
        backspace();
        carriage_return();
        linefeed();
        bell();
        substitute();
        newline();
        set_horizontal_tabstop();
        scroll_up(rows: usize);
        scroll_down(rows: usize);
        insert_blank_lines(rows: usize);
        delete_lines(rows: usize);
        erase_chars(count: usize);
        delete_chars(count: usize);
        save_cursor_position();
        restore_cursor_position();
        clear_line(mode: LineClearMode);
        clear_screen(mode: ClearMode);
        clear_tabs(mode: TabulationClearMode);
        set_tabs(interval: u16);
        reverse_index();
        set_mode(mode: Mode);
        unset_mode(mode: Mode);
        report_mode(mode: Mode);
        report_private_mode(mode: PrivateMode);
        set_scrolling_region(top: usize, bottom: Option<usize>);
        set_keypad_application_mode();
        unset_keypad_application_mode();
        set_active_charset(index: CharsetIndex);
        configure_charset(index: CharsetIndex, charset: StandardCharset);
        set_color(index: usize, color: Rgb);
        reset_color(index: usize);
        clipboard_store(kind: u8, base64: &[u8]);
        decaln();
        text_area_size_chars();
    }

    fn input(&mut self, c: char) {
        let Some(chars) = self.state.chars.checked_sub(1) else { return };
        self.state.chars = chars;
        // No character below U+0300 combines (U+00AD is of no width and has no form).
        if c >= '\u{300}' && c.width() == Some(0) && self.combined_enough() {
            return;
        }
        self.term.input(c);
    }

    fn put_tab(&mut self, count: u16) {
        self.term.put_tab(count.min(self.term.columns() as u16));
    }

    fn move_forward_tabs(&mut self, count: u16) {
        self.term.move_forward_tabs(count.min(self.term.columns() as u16));
    }

    fn move_backward_tabs(&mut self, count: u16) {
        // Without tab stops each step looks through the whole line.
        self.term.move_backward_tabs(count.min(self.term.columns() as u16));
    }

    fn terminal_attribute(&mut self, attr: Attr) {
        // A colour of the underline is not shown, and would be kept with each cell.
        if !matches!(attr, Attr::UnderlineColor(_)) {
            self.term.terminal_attribute(attr);
        }
    }

    fn set_private_mode(&mut self, mode: PrivateMode) {
        match mode {
            PrivateMode::Named(NamedPrivateMode::SyncUpdate) => self.state.in_update = true,
            _ => self.term.set_private_mode(mode),
        }
    }

    fn unset_private_mode(&mut self, mode: PrivateMode) {
        match mode {
            PrivateMode::Named(NamedPrivateMode::SyncUpdate) => self.state.in_update = false,
            _ => self.term.unset_private_mode(mode),
        }
    }

    fn reset_state(&mut self) {
        *self.state = GuardState { chars: self.state.chars, ..GuardState::default() };
        self.tell_title();
        self.term.reset_state();
    }

    fn dynamic_color_sequence(&mut self, prefix: String, index: usize, terminator: &str) {
        const FOREGROUND: usize = NamedColor::Foreground as usize;
        const BACKGROUND: usize = NamedColor::Background as usize;
        const CURSOR: usize = NamedColor::Cursor as usize;
        let (r, g, b) = match (self.term.colors()[index], index) {
            (Some(Rgb { r, g, b }), _) => (r, g, b),
            (None, FOREGROUND | CURSOR) => self.options.foreground,
            (None, BACKGROUND) => self.options.background,
            (None, _) => match u8::try_from(index) {
                Ok(index) => palette::xterm(index),
                Err(_) => return,
            },
        };
        let reply =
            format!("\x1b]{prefix};rgb:{r:02x}{r:02x}/{g:02x}{g:02x}/{b:02x}{b:02x}{terminator}");
        lock(self.outbox).reply(&reply);
    }

    fn set_title(&mut self, title: Option<String>) {
        self.state.title = title.as_deref().map(sanitise::title).unwrap_or_default();
        self.tell_title();
    }

    fn push_title(&mut self) {
        if self.state.titles.len() == TITLES_MAX {
            self.state.titles.remove(0);
        }
        self.state.titles.push(self.state.title.clone());
    }

    fn pop_title(&mut self) {
        if let Some(title) = self.state.titles.pop() {
            self.state.title = title;
            self.tell_title();
        }
    }
}
