//! What the grid shows, in types of our own.

use super::sanitise;

/// A colour as the guest chose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Color {
    /// The default foreground or background.
    #[default]
    Default,
    /// One of the 256 of the palette; 0 to 15 are the theme's.
    Indexed(u8),
    /// Red, green, blue.
    Rgb(u8, u8, u8),
}

/// How a cell is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attrs {
    /// Bold.
    pub bold: bool,
    /// Faint.
    pub dim: bool,
    /// Italic.
    pub italic: bool,
    /// Underlined, in whatever style.
    pub underline: bool,
    /// Foreground and background exchanged.
    pub inverse: bool,
    /// Not to be shown.
    pub hidden: bool,
    /// Struck out.
    pub strikeout: bool,
}

/// A visible cell.
///
/// The right half of a wide character is no cell of its own: it is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// What is in it: never a control character, and a space where there is nothing.
    pub ch: char,
    /// Foreground.
    pub fg: Color,
    /// Background.
    pub bg: Color,
    /// How it is drawn.
    pub attrs: Attrs,
    /// Whether it takes two columns.
    pub wide: bool,
    /// Whether it is part of the selection (which is also how a search shows its hit).
    pub selected: bool,
    pub(super) combining: &'a [char],
}

impl Cell<'_> {
    /// Appends what is to be painted: the character and the marks combined with it.
    ///
    /// Whatever would let the outer terminal draw it, or its neighbour, at another width than
    /// the grid has for it - joiners, variation selectors, direction marks - is left out.
    pub fn push_to(&self, out: &mut String) {
        out.push(self.ch);
        out.extend(self.combining.iter().copied().filter(|&c| sanitise::may_combine(c)));
    }

    /// Whether [`Cell::ch`] is all there is to paint.
    #[must_use]
    pub fn is_single(&self) -> bool {
        !self.combining.iter().any(|&c| sanitise::may_combine(c))
    }
}

/// The form of the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorShape {
    /// A full cell.
    Block,
    /// A line below.
    Underline,
    /// A line at the left.
    Beam,
}

/// The visible cursor, in cells from the top left of the pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Column.
    pub x: u16,
    /// Row.
    pub y: u16,
    /// Its form.
    pub shape: CursorShape,
    /// Whether the guest wants it to blink.
    pub blinking: bool,
}

/// Which mouse events the guest asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MouseMode {
    /// None: the mouse is the UI's, for scrolling and selecting.
    #[default]
    Off,
    /// Presses and releases (mode 1000).
    Click,
    /// Also motion while a button is held (mode 1002).
    Drag,
    /// Also motion without a button (mode 1003).
    Motion,
}

/// What the guest has switched on, as far as input is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// Cursor keys send `ESC O` (DECCKM).
    pub app_cursor: bool,
    /// The keypad sends application codes (DECKPAM).
    pub app_keypad: bool,
    /// Enter sends CR LF (LNM).
    pub newline: bool,
    /// Which mouse events are wanted.
    pub mouse: MouseMode,
    /// Mouse events are encoded in the SGR way (1006); else in the old way.
    pub sgr_mouse: bool,
    /// Mouse coordinates of the old way are UTF-8 (1005).
    pub utf8_mouse: bool,
    /// Pastes are to be bracketed (2004).
    pub bracketed_paste: bool,
    /// Changes of focus are to be told (1004).
    pub focus: bool,
    /// The alternate screen is shown: it has no scrollback.
    pub alt_screen: bool,
    /// On the alternate screen the wheel is to send cursor keys (1007).
    pub alternate_scroll: bool,
}
