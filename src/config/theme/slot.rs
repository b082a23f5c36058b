//! What can be coloured: meanings, not places.

/// A meaning that a theme gives a style.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Everything that is nothing else; its background is the screen's.
    Text,
    /// What matters less, and what cannot be chosen now.
    TextDim,
    /// Titles of panels and popups.
    Title,
    /// The top line: where one is, and what the host does.
    Header,
    /// Lines around panels.
    Border,
    /// Lines around the panel that has the focus.
    BorderFocus,
    /// The row that keys act on.
    Selection,
    /// The mark of marked rows.
    Mark,
    /// What a filter or the palette found in a text.
    Match,
    /// A VM that runs.
    StateRunning,
    /// A VM on its way up, or being made.
    StateBooting,
    /// A VM on its way down, or being removed.
    StateStopping,
    /// A VM that is off.
    StateStopped,
    /// A VM whose CPUs stand still.
    StatePaused,
    /// A VM that is off without having been asked, and what failed.
    StateCrashed,
    /// What needs a look, but has not failed.
    Warning,
    /// The done part of a progress bar.
    JobBar,
    /// The used part of a meter.
    MeterUsed,
    /// The free part of a meter, and the part of a progress bar that is not done.
    MeterFree,
    /// Keys where they are shown.
    KeyHint,
    /// A toast that informs.
    ToastInfo,
    /// A toast that warns.
    ToastWarning,
    /// A toast about a failure.
    ToastError,
    /// The label of a field.
    FieldLabel,
    /// The value of a field.
    FieldValue,
    /// The value of the field that has the focus.
    FieldFocus,
    /// What is wrong with a field.
    FieldProblem,
    /// What is worth a thought about a field, but no mistake.
    FieldNote,
    /// A button.
    Button,
    /// The button that Enter presses.
    ButtonFocus,
}

impl Slot {
    /// All slots with their keys in theme files.
    pub const ALL: [(Self, &'static str); 30] = [
        (Self::Text, "text"),
        (Self::TextDim, "text.dim"),
        (Self::Title, "title"),
        (Self::Header, "header"),
        (Self::Border, "border"),
        (Self::BorderFocus, "border.focus"),
        (Self::Selection, "selection"),
        (Self::Mark, "mark"),
        (Self::Match, "match"),
        (Self::StateRunning, "state.running"),
        (Self::StateBooting, "state.booting"),
        (Self::StateStopping, "state.stopping"),
        (Self::StateStopped, "state.stopped"),
        (Self::StatePaused, "state.paused"),
        (Self::StateCrashed, "state.crashed"),
        (Self::Warning, "warning"),
        (Self::JobBar, "job.bar"),
        (Self::MeterUsed, "meter.used"),
        (Self::MeterFree, "meter.free"),
        (Self::KeyHint, "key.hint"),
        (Self::ToastInfo, "toast.info"),
        (Self::ToastWarning, "toast.warning"),
        (Self::ToastError, "toast.error"),
        (Self::FieldLabel, "field.label"),
        (Self::FieldValue, "field.value"),
        (Self::FieldFocus, "field.focus"),
        (Self::FieldProblem, "field.problem"),
        (Self::FieldNote, "field.note"),
        (Self::Button, "button"),
        (Self::ButtonFocus, "button.focus"),
    ];

    /// Whether it is read as text, so that it needs contrast; the others are lines and bars.
    #[must_use]
    pub const fn is_text(self) -> bool {
        !matches!(self, Self::Border | Self::MeterFree)
    }

    /// Its place in [`Self::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_enum() {
        for (i, (slot, key)) in Slot::ALL.iter().enumerate() {
            assert_eq!(slot.index(), i, "{key}");
        }
    }
}
