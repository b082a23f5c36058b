//! Mouse events, in the way of xterm (ctlseqs, "Mouse Tracking").

use super::Mods;
use crate::term::{Modes, MouseMode};

/// A mouse button.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Button {
    /// The left one.
    Left,
    /// The middle one.
    Middle,
    /// The right one.
    Right,
}

/// What the mouse did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MouseKind {
    /// A button went down.
    Press(Button),
    /// A button went up.
    Release(Button),
    /// It was moved with a button held.
    Drag(Button),
    /// It was moved.
    Move,
    /// The wheel was turned away from the user.
    WheelUp,
    /// The wheel was turned toward the user.
    WheelDown,
    /// The wheel was tilted to the left.
    WheelLeft,
    /// The wheel was tilted to the right.
    WheelRight,
}

/// A mouse event in a pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mouse {
    /// What it did.
    pub kind: MouseKind,
    /// Column in the pane, from 0.
    pub x: u16,
    /// Row in the pane, from 0.
    pub y: u16,
    /// The modifiers held.
    pub mods: Mods,
}

/// The bytes of a mouse event; `None` if the guest did not ask for it, or cannot be told (the
/// old encoding ends at column and row 223).
#[must_use]
pub fn mouse(event: Mouse, modes: &Modes) -> Option<Vec<u8>> {
    let wanted = match event.kind {
        MouseKind::Move => modes.mouse == MouseMode::Motion,
        MouseKind::Drag(_) => matches!(modes.mouse, MouseMode::Drag | MouseMode::Motion),
        _ => modes.mouse != MouseMode::Off,
    };
    if !wanted {
        return None;
    }
    let released = matches!(event.kind, MouseKind::Release(_));
    let code = match event.kind {
        // The old encoding does not say which button was released.
        MouseKind::Release(_) if !modes.sgr_mouse => 3,
        MouseKind::Press(button) | MouseKind::Release(button) => number(button),
        MouseKind::Drag(button) => 32 + number(button),
        MouseKind::Move => 32 + 3,
        MouseKind::WheelUp => 64,
        MouseKind::WheelDown => 65,
        MouseKind::WheelLeft => 66,
        MouseKind::WheelRight => 67,
    };
    let mods = event.mods;
    let held = 4 * u8::from(mods.shift) + 8 * u8::from(mods.alt) + 16 * u8::from(mods.ctrl);
    let code = code + held;
    let (x, y) = (u32::from(event.x) + 1, u32::from(event.y) + 1);
    if modes.sgr_mouse {
        let last = if released { 'm' } else { 'M' };
        return Some(format!("\x1b[<{code};{x};{y}{last}").into_bytes());
    }
    let mut bytes = b"\x1b[M".to_vec();
    for value in [u32::from(code), x, y] {
        let value = value + 32;
        if modes.utf8_mouse {
            // Two bytes at most.
            let c = char::from_u32(value).filter(|c| c.len_utf8() <= 2)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 2]).as_bytes());
        } else {
            bytes.push(u8::try_from(value).ok()?);
        }
    }
    Some(bytes)
}

const fn number(button: Button) -> u8 {
    match button {
        Button::Left => 0,
        Button::Middle => 1,
        Button::Right => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESS: MouseKind = MouseKind::Press(Button::Left);
    const CTRL: Mods = Mods { shift: false, alt: false, ctrl: true };

    fn at(kind: MouseKind, x: u16, y: u16) -> Mouse {
        Mouse { kind, x, y, mods: Mods::NONE }
    }

    #[test]
    fn only_what_was_asked_for_is_told() {
        let drag = MouseKind::Drag(Button::Left);
        let table = [
            (MouseMode::Off, [false, false, false, false]),
            (MouseMode::Click, [true, true, false, false]),
            (MouseMode::Drag, [true, true, true, false]),
            (MouseMode::Motion, [true, true, true, true]),
        ];
        for (mouse_mode, expected) in table {
            let modes = Modes { mouse: mouse_mode, ..Modes::default() };
            let told = [PRESS, MouseKind::WheelUp, drag, MouseKind::Move]
                .map(|kind| mouse(at(kind, 0, 0), &modes).is_some());
            assert_eq!(told, expected, "{mouse_mode:?}");
        }
    }

    #[test]
    fn the_table_of_sgr_events() {
        let modes = Modes { mouse: MouseMode::Motion, sgr_mouse: true, ..Modes::default() };
        let all = Mods { shift: true, alt: true, ctrl: true };
        let table = [
            (at(PRESS, 0, 0), "\x1b[<0;1;1M"),
            (at(MouseKind::Release(Button::Left), 0, 0), "\x1b[<0;1;1m"),
            (at(MouseKind::Press(Button::Middle), 9, 4), "\x1b[<1;10;5M"),
            (at(MouseKind::Release(Button::Right), 299, 99), "\x1b[<2;300;100m"),
            (at(MouseKind::Drag(Button::Right), 1, 1), "\x1b[<34;2;2M"),
            (at(MouseKind::Move, 1, 1), "\x1b[<35;2;2M"),
            (at(MouseKind::WheelUp, 1, 1), "\x1b[<64;2;2M"),
            (at(MouseKind::WheelDown, 1, 1), "\x1b[<65;2;2M"),
            (at(MouseKind::WheelRight, 1, 1), "\x1b[<67;2;2M"),
            (Mouse { mods: CTRL, ..at(PRESS, 0, 0) }, "\x1b[<16;1;1M"),
            (Mouse { mods: all, ..at(MouseKind::WheelUp, 0, 0) }, "\x1b[<92;1;1M"),
            (at(PRESS, u16::MAX, u16::MAX), "\x1b[<0;65536;65536M"),
        ];
        for (event, bytes) in table {
            let got = mouse(event, &modes);
            assert_eq!(got.as_deref(), Some(bytes.as_bytes()), "{event:?}");
        }
    }

    #[test]
    fn the_old_encoding_and_its_limits() {
        let modes = Modes { mouse: MouseMode::Motion, ..Modes::default() };
        assert_eq!(mouse(at(PRESS, 0, 0), &modes).as_deref(), Some(b"\x1b[M !!".as_slice()));
        let release = at(MouseKind::Release(Button::Right), 1, 2);
        assert_eq!(mouse(release, &modes).as_deref(), Some(b"\x1b[M#\"#".as_slice()));
        assert_eq!(mouse(at(PRESS, 222, 0), &modes).as_deref(), Some(b"\x1b[M \xff!".as_slice()));
        assert_eq!(mouse(at(PRESS, 223, 0), &modes), None);
        let utf8 = Modes { utf8_mouse: true, ..modes };
        let got = mouse(at(PRESS, 223, 0), &utf8);
        assert_eq!(got.as_deref(), Some("\x1b[M \u{100}!".as_bytes()));
        assert_eq!(mouse(at(PRESS, 3000, 0), &utf8), None);
    }
}
