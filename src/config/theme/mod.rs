//! Themes: a style for each [`Slot`].

mod color;
mod file;
mod slot;

use ratatui::style::{Color, Modifier, Style};

pub use color::{Depth, Rgb};
pub use file::{ThemeFile, load};
pub use slot::Slot;

/// The themes that come with banger: name and text.
pub const SHIPPED: [(&str, &str); 2] = [
    ("dark", include_str!("../../../assets/themes/dark.toml")),
    ("light", include_str!("../../../assets/themes/light.toml")),
];

/// A style as a theme writes it, before it is fitted to a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Colour of the characters; `None` leaves what is there.
    pub fg: Option<Rgb>,
    /// Colour behind them; `None` leaves what is there.
    pub bg: Option<Rgb>,
    /// Bold, underlined, …
    pub attributes: Modifier,
}

/// A style for each slot, fitted to the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theme {
    name: String,
    styles: [Style; Slot::ALL.len()],
}

impl Theme {
    /// Fits looks, one per slot in their order, to a terminal of some depth.
    #[must_use]
    pub fn new(name: &str, looks: &[Look; Slot::ALL.len()], depth: Depth) -> Self {
        if depth == Depth::Mono {
            return Self::mono(name);
        }
        let styles = std::array::from_fn(|i| {
            let Look { fg, bg, attributes } = looks[i];
            let color = |rgb: Option<Rgb>| rgb.map(|rgb| rgb.at(depth));
            Style { fg: color(fg), bg: color(bg), ..Style::new().add_modifier(attributes) }
        });
        Self { name: name.to_owned(), styles }
    }

    /// No colours at all; attributes tell apart what must be told apart.
    #[must_use]
    pub fn mono(name: &str) -> Self {
        let styles = Slot::ALL.map(|(slot, _)| {
            let attributes = match slot {
                Slot::Selection | Slot::ButtonFocus => Modifier::REVERSED,
                Slot::FieldFocus | Slot::Match => Modifier::UNDERLINED,
                Slot::ToastError | Slot::StateCrashed | Slot::FieldProblem => {
                    Modifier::BOLD.union(Modifier::UNDERLINED)
                }
                Slot::Title
                | Slot::Header
                | Slot::BorderFocus
                | Slot::Mark
                | Slot::KeyHint
                | Slot::StateRunning
                | Slot::JobBar
                | Slot::Warning
                | Slot::ToastWarning
                | Slot::FieldNote => Modifier::BOLD,
                Slot::StateBooting | Slot::StateStopping | Slot::StatePaused => Modifier::ITALIC,
                Slot::TextDim | Slot::StateStopped | Slot::Border | Slot::MeterFree => {
                    Modifier::DIM
                }
                Slot::Text
                | Slot::MeterUsed
                | Slot::ToastInfo
                | Slot::FieldLabel
                | Slot::FieldValue
                | Slot::Button => Modifier::empty(),
            };
            Style::new().fg(Color::Reset).add_modifier(attributes)
        });
        Self { name: name.to_owned(), styles }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The style of a slot.
    #[must_use]
    pub const fn style(&self, slot: Slot) -> Style {
        self.styles[slot.index()]
    }
}

impl Default for Theme {
    /// The shipped dark theme in all its colours.
    fn default() -> Self {
        load("dark", &[], Depth::True).expect("a test loads every shipped theme")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_selection_focus_and_states_still_differ() {
        let theme = Theme::mono("dark");
        let states = [
            Slot::StateRunning,
            Slot::StateBooting,
            Slot::StateStopped,
            Slot::StateCrashed,
            Slot::Selection,
        ];
        for (i, a) in states.iter().enumerate() {
            for b in &states[i + 1..] {
                assert_ne!(theme.style(*a), theme.style(*b), "{a:?} {b:?}");
            }
        }
        for (a, b) in [
            (Slot::Button, Slot::ButtonFocus),
            (Slot::FieldValue, Slot::FieldFocus),
            (Slot::Border, Slot::BorderFocus),
            (Slot::JobBar, Slot::MeterFree),
        ] {
            assert_ne!(theme.style(a), theme.style(b), "{a:?} {b:?}");
        }
        for (slot, key) in Slot::ALL {
            let style = theme.style(slot);
            assert!(matches!(style.fg, None | Some(Color::Reset)), "{key}");
            assert!(matches!(style.bg, None | Some(Color::Reset)), "{key}");
        }
    }
}
