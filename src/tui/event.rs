//! What can happen to the UI: a closed list.

use std::{path::PathBuf, sync::Arc};

use ratatui::crossterm::event::{KeyEvent, MouseEvent};

use super::{action::Action, layers::Hit};
use crate::domain::{Admission, BuildPreview, Fleet, ImageFacts, Notice, Problem};

/// Something that happened. The loop makes these; [`super::app::App::update`] takes them.
#[derive(Debug)]
pub enum UiEvent {
    /// A key of the outer terminal.
    Key(KeyEvent),
    /// A bracketed paste of the outer terminal.
    Paste(String),
    /// The mouse, in cells of the outer terminal.
    Mouse(MouseEvent),
    /// The outer terminal has this many columns and rows now.
    Resize(u16, u16),
    /// The outer terminal got (or lost) the focus.
    Focus(bool),
    /// A newer picture of everything.
    Fleet(Arc<Fleet>),
    /// Something the supervisor reports.
    Notice(Notice),
    /// The answer to a command.
    Answer(Ticket, Answer),
    /// What became of an errand.
    Desk(Ticket, DeskAnswer),
    /// A pane has something new to show, or has ended.
    PaneDirty,
    /// Do as if this had been chosen: a signal asks for it.
    Do(Action),
    /// The time a layer or the state asked for has come.
    Tick,
    /// The supervisor has gone: nothing will change any more.
    SupervisorGone,
    /// The process was asked to end (SIGTERM, SIGHUP, SIGINT from outside).
    Terminate,
}

/// Links a command to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What became of a command that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The supervisor's word.
    Admission(Admission),
    /// The supervisor's queue is full; nothing was done.
    Busy,
    /// The supervisor is gone; nothing was done.
    Gone,
}

/// What became of an [`super::effect::Errand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeskAnswer {
    /// The draft as it was kept, if there is one.
    Draft(Result<Option<String>, Problem>),
    /// The draft is kept, or gone.
    Kept(Result<(), Problem>),
    /// What is known of the image.
    Facts(Result<ImageFacts, Problem>),
    /// What the build would do.
    Preview(Result<BuildPreview, Problem>),
    /// The recipe is in this file.
    Recipe(Result<PathBuf, Problem>),
}

/// What a layer is given.
#[derive(Debug)]
pub enum LayerEvent<'a> {
    /// A key of one of the layer's contexts.
    Action(Action),
    /// A key that is none, or any printable one while the layer takes text.
    Key(KeyEvent),
    /// A paste.
    Paste(&'a str),
    /// The mouse, and what the layer itself had drawn there.
    Mouse(MouseEvent, Option<Hit>),
    /// There is a newer [`super::state::State::fleet`].
    Fleet,
    /// The answer to a command that this or another layer sent.
    Answer(Ticket, &'a Answer),
    /// What became of an errand that this or another layer sent.
    Desk(Ticket, &'a DeskAnswer),
    /// Time passed: [`super::state::State::now`] says how much.
    Tick,
}

/// What a layer did with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// The layers below do not get it.
    Consumed,
    /// The layers below may have it.
    Ignored,
}
