//! Keys and mouse of the outer terminal on their way to a guest.

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind},
    layout::Position,
};

use crate::{
    domain::NoticeLevel,
    term::{
        Modes, NotSent,
        encode::{self, Button, Key, Mods, Mouse, MouseKind},
    },
    tui::{event::LayerEvent, layers::Cx, pane::keep},
};

/// Sends a key to the pane that is shown.
pub fn key(event: &KeyEvent, cx: &mut Cx<'_>) {
    let Some(entry) = cx.state.panes.current_mut() else { return };
    let Some(key) = key_of(event.code) else { return };
    if let Some(pane) = &entry.pane {
        pane.with_engine(|engine| {
            // Who types wants to see what comes of it.
            engine.scroll_to_bottom();
            engine.select_none();
        });
    }
    let bytes = encode::key(key, mods(event.modifiers), &entry.modes());
    if !bytes.is_empty() {
        let sent = entry.send(&bytes);
        tell(sent, cx);
    }
}

/// Keeps a key or a paste for a session that is still to come: one that has set no modes. Before
/// several lines are pasted it is to be asked, and there is nothing to look at yet.
///
/// # Errors
/// Why it is not kept.
pub fn keep_ahead(ahead: &mut Vec<u8>, event: &LayerEvent<'_>) -> Result<(), String> {
    let modes = Modes::default();
    let bytes = match event {
        LayerEvent::Key(key) => {
            let bytes = |code| encode::key(code, mods(key.modifiers), &modes);
            key_of(key.code).map(bytes).unwrap_or_default()
        }
        LayerEvent::Paste(text) if text.trim_end_matches(['\n', '\r']).lines().count() > 1 => {
            return Err("several lines are not pasted: the shell is not there yet".to_owned());
        }
        LayerEvent::Paste(text) => encode::paste(text, &modes),
        _ => return Ok(()),
    };
    keep(ahead, &bytes).map_err(|why| why.to_string())
}

/// Sends a mouse event to the pane that is shown, if its guest asked for it and Shift does not
/// keep it here; `at` is in the pane's cells.
pub fn mouse(event: &MouseEvent, at: Position, cx: &mut Cx<'_>) -> bool {
    if event.modifiers.contains(KeyModifiers::SHIFT) {
        return false;
    }
    let entry = cx.state.panes.current().filter(|entry| !entry.then_shell);
    let Some(pane) = entry.and_then(|entry| entry.pane.as_ref()) else { return false };
    let button = |button| match button {
        MouseButton::Left => Button::Left,
        MouseButton::Middle => Button::Middle,
        MouseButton::Right => Button::Right,
    };
    let kind = match event.kind {
        MouseEventKind::Down(b) => MouseKind::Press(button(b)),
        MouseEventKind::Up(b) => MouseKind::Release(button(b)),
        MouseEventKind::Drag(b) => MouseKind::Drag(button(b)),
        MouseEventKind::Moved => MouseKind::Move,
        MouseEventKind::ScrollUp => MouseKind::WheelUp,
        MouseEventKind::ScrollDown => MouseKind::WheelDown,
        MouseEventKind::ScrollLeft => MouseKind::WheelLeft,
        MouseEventKind::ScrollRight => MouseKind::WheelRight,
    };
    let modes = pane.with_engine(|engine| engine.modes());
    let size = pane.with_engine(|engine| engine.size());
    let (x, y) = (at.x.min(size.cols - 1), at.y.min(size.rows - 1));
    let event = Mouse { kind, x, y, mods: mods(event.modifiers) };
    let Some(bytes) = encode::mouse(event, &modes) else { return false };
    let sent = pane.send(&bytes);
    tell(sent, cx);
    true
}

/// Says what was not sent.
pub fn tell(sent: Result<(), NotSent>, cx: &mut Cx<'_>) {
    if let Err(why) = sent {
        cx.toast(NoticeLevel::Warning, why.to_string(), "");
    }
}

const fn mods(mods: KeyModifiers) -> Mods {
    Mods {
        shift: mods.contains(KeyModifiers::SHIFT),
        alt: mods.contains(KeyModifiers::ALT),
        ctrl: mods.contains(KeyModifiers::CONTROL),
    }
}

const fn key_of(code: KeyCode) -> Option<Key> {
    Some(match code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Esc => Key::Esc,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Insert => Key::Insert,
        KeyCode::Delete => Key::Delete,
        KeyCode::F(n) => Key::F(n),
        _ => return None,
    })
}
