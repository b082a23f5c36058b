//! How a long piece of work tells what it is doing.

use crate::domain::StepView;

/// Something to show.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// All steps, in order, before the first begins.
    Plan(&'a [StepView]),
    /// The step of this index in the plan changed: state, detail or progress.
    Step(usize, &'a StepView),
    /// A line for the log: what a program that was run printed.
    Log(&'a str),
}

/// Who is told. Called from the thread that works, often; must not block for long.
///
/// Every `FnMut(Event<'_>)` is one.
pub trait Reporter {
    /// Takes one event.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Reporter for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}
