//! A form: its fields, the focus, and what keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEventKind};

use super::{Field, Kind};
use crate::tui::{action::Action, event::LayerEvent, layers::Hit};

/// What an event did to a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A value is another now: dependent fields and problems are to be looked at.
    Changed,
    /// At most the focus moved.
    Stayed,
    /// The user wants it done.
    Submit,
    /// The user wants to leave; the draft is to be kept.
    Leave,
    /// Nothing for a form.
    Ignored,
}

/// Fields and which has the focus.
pub struct Form<I> {
    /// The fields, from top to bottom; never empty.
    pub fields: Vec<Field<I>>,
    focus: usize,
    /// Whether the user tried to submit it: from then on problems are shown as they come and go.
    pub tried: bool,
}

impl<I: Copy + PartialEq> Form<I> {
    /// A form with the focus on its first field.
    #[must_use]
    pub const fn new(fields: Vec<Field<I>>) -> Self {
        Self { fields, focus: 0, tried: false }
    }

    /// The index of the field with the focus.
    #[must_use]
    pub const fn focus(&self) -> usize {
        self.focus
    }

    /// A field.
    ///
    /// # Panics
    /// If the form was made without it.
    #[must_use]
    pub fn field(&self, id: I) -> &Field<I> {
        self.fields.iter().find(|f| f.id == id).expect("the form has all its fields")
    }

    /// A field, to be changed.
    ///
    /// # Panics
    /// If the form was made without it.
    pub fn field_mut(&mut self, id: I) -> &mut Field<I> {
        self.fields.iter_mut().find(|f| f.id == id).expect("the form has all its fields")
    }

    /// Whether any field has a problem.
    #[must_use]
    pub fn has_problems(&self) -> bool {
        self.fields.iter().any(|f| f.problem.is_some())
    }

    /// How many fields are shown: those behind a closed fold are not.
    #[must_use]
    pub fn shown(&self) -> usize {
        let closed = |f: &Field<I>| matches!(f.kind, Kind::Fold(false));
        self.fields.iter().position(closed).map_or(self.fields.len(), |at| at + 1)
    }

    /// Moves the focus to the first field with a problem, if there is one; a fold that hides it
    /// is opened.
    pub fn focus_problem(&mut self) {
        let Some(at) = self.fields.iter().position(|f| f.problem.is_some()) else { return };
        self.focus = at;
        for field in &mut self.fields[..at] {
            if let Kind::Fold(open) = &mut field.kind {
                *open = true;
            }
        }
    }

    /// Reacts.
    pub fn handle(&mut self, event: &LayerEvent<'_>) -> Outcome {
        let last = self.shown() - 1;
        match event {
            LayerEvent::Action(Action::FieldNext) => {
                self.focus = if self.focus == last { 0 } else { self.focus + 1 };
                Outcome::Stayed
            }
            LayerEvent::Action(Action::FieldPrev) => {
                self.focus = if self.focus == 0 { last } else { self.focus - 1 };
                Outcome::Stayed
            }
            LayerEvent::Action(Action::Submit | Action::Accept) => Outcome::Submit,
            LayerEvent::Action(Action::Back | Action::Cancel) => Outcome::Leave,
            LayerEvent::Key(key) => self.key(key),
            LayerEvent::Paste(text) => {
                let field = &mut self.fields[self.focus];
                match &mut field.kind {
                    Kind::Text(line) | Kind::Number { line, .. } => {
                        line.insert(text.trim());
                        field.touched = true;
                        Outcome::Changed
                    }
                    Kind::Choice { .. } | Kind::Toggle(_) | Kind::Fold(_) => Outcome::Stayed,
                }
            }
            LayerEvent::Mouse(mouse, Some(Hit::Item(at)))
                if mouse.kind == MouseEventKind::Down(MouseButton::Left) && *at <= last =>
            {
                self.click(*at)
            }
            LayerEvent::Mouse(mouse, Some(Hit::Action(action)))
                if mouse.kind == MouseEventKind::Down(MouseButton::Left) =>
            {
                self.handle(&LayerEvent::Action(*action))
            }
            _ => Outcome::Ignored,
        }
    }

    /// A click gives the focus; on what has it, it changes what has no text.
    fn click(&mut self, at: usize) -> Outcome {
        if self.focus != at {
            self.focus = at;
            return Outcome::Stayed;
        }
        match self.fields[at].kind {
            Kind::Choice { .. } | Kind::Toggle(_) | Kind::Fold(_) => self.turn(true),
            Kind::Text(_) | Kind::Number { .. } => Outcome::Stayed,
        }
    }

    fn key(&mut self, key: &KeyEvent) -> Outcome {
        let field = &mut self.fields[self.focus];
        let plain = !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        match (&mut field.kind, key.code) {
            // As in a tree: → opens, ← closes.
            (Kind::Fold(open), KeyCode::Left | KeyCode::Right) => {
                *open = key.code == KeyCode::Right;
                Outcome::Stayed
            }
            (Kind::Choice { .. } | Kind::Toggle(_), KeyCode::Left) => self.turn(false),
            (
                Kind::Choice { .. } | Kind::Toggle(_) | Kind::Fold(_),
                KeyCode::Right | KeyCode::Char(' '),
            ) => self.turn(true),
            (Kind::Toggle(on), KeyCode::Char(c @ ('y' | 'n'))) if plain => {
                field.touched = true;
                *on = c == 'y';
                Outcome::Changed
            }
            (Kind::Choice { options, at }, KeyCode::Char(c)) if plain => {
                // The next answer that begins with the letter.
                let order = (1..=options.len()).map(|n| (*at + n) % options.len());
                let found = order.into_iter().find(|n| options[*n].value.starts_with(c));
                let Some(found) = found else { return Outcome::Stayed };
                *at = found;
                field.touched = true;
                Outcome::Changed
            }
            (Kind::Number { line, step }, KeyCode::Char(c @ ('+' | '-'))) if plain => {
                let Some(next) = step(line.text(), c == '+') else { return Outcome::Stayed };
                line.set(&next);
                field.touched = true;
                Outcome::Changed
            }
            (Kind::Text(line) | Kind::Number { line, .. }, _) => {
                if line.key(key) {
                    field.touched = true;
                    Outcome::Changed
                } else {
                    Outcome::Stayed
                }
            }
            _ => Outcome::Stayed,
        }
    }

    /// The next or previous answer of a choice; the other one of a toggle.
    fn turn(&mut self, forward: bool) -> Outcome {
        let field = &mut self.fields[self.focus];
        match &mut field.kind {
            Kind::Toggle(on) => *on = !*on,
            Kind::Fold(open) => {
                *open = !*open;
                return Outcome::Stayed;
            }
            Kind::Choice { options, at } if options.len() > 1 => {
                let by = if forward { 1 } else { options.len() - 1 };
                *at = (*at + by) % options.len();
            }
            _ => return Outcome::Stayed,
        }
        field.touched = true;
        Outcome::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::forms::{Choice, TextLine};

    fn form() -> Form<u8> {
        let option = |value: &str| Choice { value: value.into(), note: String::new() };
        let choice = Kind::Choice { options: ["debian", "tiny", "dev"].map(option).into(), at: 0 };
        let step = |text: &str, up: bool| {
            let n: i32 = text.parse().ok()?;
            Some((if up { n + 1 } else { n - 1 }).to_string())
        };
        Form::new(vec![
            Field::new(0, "Name", Kind::Text(TextLine::new("a")), ""),
            Field::new(1, "Image", choice, ""),
            Field::new(2, "Count", Kind::Number { line: TextLine::new("3"), step }, ""),
            Field::new(3, "Start", Kind::Toggle(true), ""),
        ])
    }

    fn key(form: &mut Form<u8>, code: KeyCode) -> Outcome {
        form.handle(&LayerEvent::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    #[test]
    fn the_focus_goes_round_both_ways() {
        let mut form = form();
        form.handle(&LayerEvent::Action(Action::FieldPrev));
        assert_eq!(form.focus(), 3);
        form.handle(&LayerEvent::Action(Action::FieldNext));
        assert_eq!(form.focus(), 0);
    }

    #[test]
    fn each_kind_has_its_keys() {
        let mut form = form();
        assert_eq!(key(&mut form, KeyCode::Char('b')), Outcome::Changed);
        assert_eq!(key(&mut form, KeyCode::Left), Outcome::Stayed);
        assert_eq!(key(&mut form, KeyCode::Char('x')), Outcome::Changed);
        assert_eq!(form.field(0).value(), "axb");
        assert!(form.field(0).touched);

        form.handle(&LayerEvent::Action(Action::FieldNext));
        key(&mut form, KeyCode::Left);
        assert_eq!(form.field(1).value(), "dev");
        key(&mut form, KeyCode::Right);
        assert_eq!(form.field(1).value(), "debian");
        key(&mut form, KeyCode::Char('d'));
        assert_eq!(form.field(1).value(), "dev");
        assert_eq!(key(&mut form, KeyCode::Char('z')), Outcome::Stayed);

        form.handle(&LayerEvent::Action(Action::FieldNext));
        key(&mut form, KeyCode::Char('+'));
        assert_eq!(form.field(2).value(), "4");
        key(&mut form, KeyCode::Char('x'));
        assert_eq!(key(&mut form, KeyCode::Char('+')), Outcome::Stayed, "4x is no number");
        assert_eq!(form.field(2).value(), "4x");

        form.handle(&LayerEvent::Action(Action::FieldNext));
        key(&mut form, KeyCode::Char(' '));
        assert_eq!(form.field(3).value(), "false");
        key(&mut form, KeyCode::Char('y'));
        assert_eq!(form.field(3).value(), "true");
    }

    #[test]
    fn enter_submits_and_escape_leaves_from_anywhere() {
        let mut form = form();
        for _ in 0..4 {
            assert_eq!(form.handle(&LayerEvent::Action(Action::Submit)), Outcome::Submit);
            assert_eq!(form.handle(&LayerEvent::Action(Action::Back)), Outcome::Leave);
            form.handle(&LayerEvent::Action(Action::FieldNext));
        }
    }

    #[test]
    fn a_closed_fold_hides_what_is_behind_it_from_eyes_and_keys() {
        let mut form = form();
        form.fields.insert(3, Field::new(9, "More", Kind::Fold(false), ""));
        assert_eq!(form.shown(), 4);
        form.handle(&LayerEvent::Action(Action::FieldPrev));
        assert_eq!(form.focus(), 3, "the fold is the last that is shown");
        assert_eq!(key(&mut form, KeyCode::Char(' ')), Outcome::Stayed, "no value is another");
        assert_eq!((form.shown(), form.field(9).value()), (5, "true"));
        form.handle(&LayerEvent::Action(Action::FieldNext));
        assert_eq!(form.focus(), 4);
        form.handle(&LayerEvent::Action(Action::FieldPrev));
        key(&mut form, KeyCode::Right);
        assert_eq!(form.shown(), 5, "it is open");
        key(&mut form, KeyCode::Left);
        assert_eq!(form.shown(), 4);
        form.fields[4].problem = Some("bad".into());
        form.focus_problem();
        assert_eq!((form.focus(), form.shown()), (4, 5), "a problem is not hidden");
    }

    #[test]
    fn a_choice_without_answers_does_no_harm() {
        let mut form = form();
        form.fields[1].kind = Kind::Choice { options: Vec::new(), at: 0 };
        form.handle(&LayerEvent::Action(Action::FieldNext));
        for code in [KeyCode::Left, KeyCode::Right, KeyCode::Char('d')] {
            assert_eq!(key(&mut form, code), Outcome::Stayed);
        }
        assert_eq!(form.field(1).value(), "");
    }
}
