//! Screens and popups as a stack: input goes from the top down until one consumes it, drawing
//! from the bottom up. A layer never touches the stack while it is being called; what it wants
//! of it is [`Deferred`].

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use super::{
    action::{Action, Context},
    effect::Effect,
    event::{Handled, LayerEvent, Ticket},
    pane::PaneId,
    state::{Screen, State},
};
use crate::{
    config::theme::Theme,
    domain::{CommandBody, NoticeLevel},
};

/// A screen or a popup.
pub trait Layer {
    /// Its title, as breadcrumbs and tests show it.
    fn title(&self) -> &'static str;

    /// Whose keys work while it is on top; the first context that knows a key has it.
    fn contexts(&self, state: &State) -> &'static [Context];

    /// Whether printable keys are text for it and no actions.
    fn takes_text(&self, _state: &State) -> bool {
        false
    }

    /// Whether it wants every key as [`LayerEvent::Key`], before any action but those of
    /// [`Context::Terminal`].
    fn takes_all_keys(&self, _state: &State) -> bool {
        false
    }

    /// Reacts. Popups consume all keys, pastes and clicks; see [`is_modal`](Self::is_modal).
    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled;

    /// Draws into `area`, which is the whole screen for popups and the body for screens.
    fn draw(&self, area: Rect, cx: &mut Draw<'_>);

    /// Whether the layers below get no keys, pastes and clicks at all.
    fn is_modal(&self) -> bool {
        true
    }

    /// When (as [`super::state::Now::mono`]) it wants a [`LayerEvent::Tick`] at the latest.
    fn deadline(&self, _state: &State) -> Option<std::time::Duration> {
        None
    }
}

/// What a layer wants of the stack; done after it returned.
pub enum Deferred {
    /// Put this on top.
    Push(Box<dyn Layer>),
    /// Take the layer that asked off the stack.
    Close,
    /// Do as if the user had chosen this action, once the stack is as wanted.
    Run(Action),
    /// Show this screen, closing nothing.
    Go(Screen),
}

/// What a layer works with while it handles an event.
pub struct Cx<'a> {
    /// Everything shared.
    pub state: &'a mut State,
    pub(super) effects: &'a mut Vec<Effect>,
    pub(super) deferred: Vec<Deferred>,
}

impl<'a> Cx<'a> {
    /// A context that collects into `effects`.
    pub fn new(state: &'a mut State, effects: &'a mut Vec<Effect>) -> Self {
        Self { state, effects, deferred: Vec::new() }
    }

    /// What the layer wanted of the stack, in order.
    #[must_use]
    pub fn into_deferred(self) -> Vec<Deferred> {
        self.deferred
    }

    /// Has something done outside of the UI.
    pub fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Asks the supervisor. A denial nobody consumes becomes a toast.
    pub fn command(&mut self, body: CommandBody) -> Ticket {
        let ticket = self.state.next_ticket();
        self.effects.push(Effect::Command(ticket, body));
        ticket
    }

    /// Puts a layer on top.
    pub fn push(&mut self, layer: Box<dyn Layer>) {
        self.deferred.push(Deferred::Push(layer));
    }

    /// Takes the layer that is being called off the stack.
    pub fn close(&mut self) {
        self.deferred.push(Deferred::Close);
    }

    /// Runs an action as if its key had been pressed.
    pub fn run(&mut self, action: Action) {
        self.deferred.push(Deferred::Run(action));
    }

    /// Shows a screen.
    pub fn go(&mut self, screen: Screen) {
        self.deferred.push(Deferred::Go(screen));
    }

    /// Tells the user something in passing; it stays readable in the notices.
    pub fn toast(&mut self, level: NoticeLevel, text: impl Into<String>, hint: impl Into<String>) {
        let now = self.state.now;
        self.state.toasts.push(level, text.into(), hint.into(), now);
    }
}

/// What lies under the mouse, as recorded while drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// The n-th entry of a list, a field of a form, a button of a question.
    Item(usize),
    /// A word that does this when clicked.
    Action(Action),
    /// The tab of a screen.
    Screen(Screen),
    /// The tab of a list of the Host screen.
    HostTab(super::screens::host::Tab),
    /// The tab of a pane.
    PaneTab(PaneId),
    /// The inside of a pane's terminal, whose top left cell is at this place.
    Terminal(PaneId, Position),
    /// The layer's own surroundings, which do nothing.
    Surface,
}

/// A place on the screen, what is there, and which layer drew it (0 is the frame, 1 the screen).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where.
    pub area: Rect,
    /// What.
    pub hit: Hit,
    /// Whose.
    pub layer: usize,
}

/// What a layer draws with.
pub struct Draw<'a> {
    /// The cells.
    pub buf: &'a mut Buffer,
    /// Everything shared.
    pub state: &'a State,
    /// The colours.
    pub theme: &'a Theme,
    /// Where the cursor is to be, if anywhere.
    pub cursor: Option<Position>,
    /// What lies where; later ones lie above.
    pub regions: Vec<Region>,
    /// The number of the layer that is drawing.
    pub layer: usize,
}

impl Draw<'_> {
    /// Records what the mouse finds in `area`.
    pub fn hit(&mut self, area: Rect, hit: Hit) {
        self.regions.push(Region { area, hit, layer: self.layer });
    }
}
