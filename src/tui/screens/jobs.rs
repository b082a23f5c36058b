//! Everything that takes longer than a blink: what it does, how far it is, how it ended.

use std::cell::Cell;

use ratatui::{
    crossterm::event::{MouseButton, MouseEventKind},
    layout::Rect,
};

use super::steps::{current, draw_log, draw_problem, draw_steps, job_state, log_rows, taken};
use crate::{
    config::theme::Slot,
    domain::{CommandBody, JobId, JobState, JobView},
    tui::{
        action::{Action, Context},
        effect::Effect,
        event::{Handled, LayerEvent},
        layers::{Cx, Draw, Hit, Layer},
        pane::PaneId,
        popups::confirm::{Confirm, Then},
        runs::RunJob,
        screens::images::builds,
        state::{Screen, State},
        text::width,
        widgets::{panel, put, put_right, scrolled},
    },
};

/// From this width on the detail stands beside the list, not below it.
const WIDE: u16 = 120;

/// The screen.
pub struct Jobs {
    /// Whether the steps and the log of the selected job are shown.
    open: bool,
    /// Lines of the log between its last and the last shown. Only drawing knows how many there
    /// can be.
    back: Cell<usize>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { open: true, back: Cell::new(0) }
    }
}

/// The jobs as listed: the newest on top.
fn listed(state: &State) -> impl DoubleEndedIterator<Item = &JobView> + ExactSizeIterator {
    state.jobs().into_iter().rev()
}

impl Jobs {
    /// Keeps the selection on a job that is there.
    fn ensure_selected(&mut self, state: &mut State) {
        if state.selected_job().is_none() {
            let first = listed(state).next().map(|job| job.id);
            self.select(first, state);
        }
    }

    fn select(&mut self, job: Option<JobId>, state: &mut State) {
        if state.job != job {
            state.job = job;
            self.back.set(0);
        }
    }

    fn move_to(&mut self, state: &mut State, to: impl Fn(usize, usize) -> usize) {
        let ids: Vec<JobId> = listed(state).map(|job| job.id).collect();
        let Some(last) = ids.len().checked_sub(1) else { return };
        let at = ids.iter().position(|id| Some(*id) == state.job).unwrap_or(0);
        self.select(Some(ids[to(at, last).min(last)]), state);
    }

    fn scroll(&self, by: isize) {
        self.back.set(self.back.get().saturating_add_signed(by));
    }

    fn act(&mut self, action: Action, cx: &mut Cx<'_>) -> Handled {
        let page = (usize::from(cx.state.size.1) / 2).max(1);
        let half = (page / 2).max(1);
        match action {
            Action::Up => self.move_to(cx.state, |at, _| at.saturating_sub(1)),
            Action::Down => self.move_to(cx.state, |at, _| at + 1),
            Action::Top => self.move_to(cx.state, |_, _| 0),
            Action::Bottom => self.move_to(cx.state, |_, last| last),
            Action::PageUp => self.move_to(cx.state, |at, _| at.saturating_sub(page)),
            Action::PageDown => self.move_to(cx.state, |at, _| at + page),
            Action::HalfUp => self.scroll(half as isize),
            Action::HalfDown => self.scroll(-(half as isize)),
            Action::JobOpen => match selected_run(cx.state) {
                Some(run) => go_to_pane(run.pane, cx),
                None => self.open = !self.open,
            },
            Action::JobCancel | Action::JobRetry | Action::JobDismiss
                if selected_run(cx.state).is_some() =>
            {
                if let Some(run) = selected_run(cx.state) {
                    run_verb(&run, action, cx);
                }
            }
            Action::JobCancel | Action::JobRetry | Action::JobDismiss => {
                if let Some(job) = cx.state.selected_job().cloned() {
                    verb(&job, action, cx);
                }
            }
            _ => return Handled::Ignored,
        }
        Handled::Consumed
    }
}

/// What is run in a pane, if that is selected.
fn selected_run(state: &State) -> Option<RunJob> {
    state.job.and_then(|id| state.runs.get(id)).cloned()
}

/// Goes to where it runs. Closed, it is nowhere: the frame has told the user.
fn go_to_pane(pane: PaneId, cx: &mut Cx<'_>) {
    if cx.state.panes.get(pane).is_some() {
        cx.state.panes.show_id(pane);
        cx.state.panes.typing = true;
        cx.go(Screen::Panes);
    }
}

/// The same verbs for what is run in a pane.
fn run_verb(run: &RunJob, action: Action, cx: &mut Cx<'_>) {
    match (action, &run.view.state) {
        (Action::JobCancel, JobState::Queued | JobState::Running) => {
            ask_to_end(&run.view, Then::Close(run.pane), cx);
        }
        (Action::JobRetry, JobState::Failed { .. } | JobState::Cancelled) => {
            if cx.state.panes.get(run.pane).is_some() {
                cx.effect(Effect::OpenPane(run.pane));
                go_to_pane(run.pane, cx);
            } else {
                cx.state.runs.dismiss(run.view.id);
                builds::run(run.run.clone(), cx);
            }
        }
        (Action::JobDismiss, state) if state.is_over() => cx.state.runs.dismiss(run.view.id),
        // The frame has told the user why not.
        _ => {}
    }
}

fn ask_to_end(job: &JobView, then: Then, cx: &mut Cx<'_>) {
    let lines = vec!["What it has made so far is cleared away.".to_owned()];
    let title = format!("End “{}” before it is done?", job.title);
    cx.push(Box::new(Confirm::new(title, lines, "End it", then)));
}

fn verb(job: &JobView, action: Action, cx: &mut Cx<'_>) {
    match (action, &job.state) {
        (Action::JobCancel, JobState::Queued | JobState::Running) if job.cancellable => {
            ask_to_end(job, Then::Commands(vec![CommandBody::CancelJob(job.id)]), cx);
        }
        (Action::JobRetry, JobState::Failed { .. } | JobState::Cancelled) => {
            cx.command(CommandBody::RetryJob(job.id));
        }
        (Action::JobDismiss, state) if state.is_over() => {
            cx.command(CommandBody::DismissJob(job.id));
        }
        // The frame has told the user why not.
        _ => {}
    }
}

impl Layer for Jobs {
    fn title(&self) -> &'static str {
        "Jobs"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::Jobs, Context::List, Context::Global]
    }

    fn is_modal(&self) -> bool {
        false
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        self.ensure_selected(cx.state);
        match event {
            LayerEvent::Action(action) => self.act(*action, cx),
            LayerEvent::Mouse(mouse, hit) => {
                match (mouse.kind, hit) {
                    (MouseEventKind::Down(MouseButton::Left), Some(Hit::Item(at))) => {
                        self.move_to(cx.state, |_, _| *at);
                    }
                    (MouseEventKind::ScrollUp, Some(Hit::Item(_))) => {
                        self.move_to(cx.state, |at, _| at.saturating_sub(1));
                    }
                    (MouseEventKind::ScrollDown, Some(Hit::Item(_))) => {
                        self.move_to(cx.state, |at, _| at + 1);
                    }
                    (MouseEventKind::ScrollUp, Some(Hit::Surface)) => self.scroll(3),
                    (MouseEventKind::ScrollDown, Some(Hit::Surface)) => self.scroll(-3),
                    _ => return Handled::Ignored,
                }
                Handled::Consumed
            }
            _ => Handled::Ignored,
        }
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let state = cx.state;
        let count = listed(state).len();
        if count == 0 {
            let inner = panel(cx.buf, area, "Jobs", cx.theme, true);
            let text = "No jobs. What takes longer than a blink shows up here.";
            put(cx.buf, inner.x + 1, inner.y, text, cx.theme.style(Slot::TextDim), inner.width);
            return;
        }
        let (list, detail) = match (self.open, area.width >= WIDE) {
            (false, _) => (area, Rect::ZERO),
            (true, true) => {
                let left = area.width * 2 / 5;
                (
                    Rect { width: left, ..area },
                    Rect { x: area.x + left, width: area.width - left, ..area },
                )
            }
            (true, false) => {
                // The list has what it needs, but the log has more than half.
                let rows = (count as u16).saturating_add(2).min(area.height * 2 / 5).max(3);
                let rows = rows.min(area.height);
                (
                    Rect { height: rows, ..area },
                    Rect { y: area.y + rows, height: area.height - rows, ..area },
                )
            }
        };
        draw_list(list, cx);
        let selected = state.selected_job().or_else(|| listed(state).next());
        if let Some(job) = selected.filter(|_| detail.height > 2) {
            self.draw_detail(job, detail, cx);
        }
    }
}

fn draw_list(area: Rect, cx: &mut Draw<'_>) {
    let state = cx.state;
    let (count, running) = (listed(state).len(), state.running_jobs());
    let title = match running {
        0 => format!("Jobs ({count})"),
        n => format!("Jobs ({count}, {n} running)"),
    };
    let inner = panel(cx.buf, area, &title, cx.theme, true);
    let at = listed(state).position(|job| Some(job.id) == state.job).unwrap_or(0);
    let top = scrolled(0, at, count, usize::from(inner.height));
    let jobs = listed(state).enumerate().skip(top).take(usize::from(inner.height));
    for ((n, job), y) in jobs.zip(inner.y..) {
        let row = Rect { y, height: 1, ..inner };
        let selected = n == at;
        if selected {
            cx.buf.set_style(row, cx.theme.style(Slot::Selection));
        }
        // On the selected row only the state keeps its colour.
        let on_row = |slot| {
            let style = cx.theme.style(slot);
            if selected { cx.theme.style(Slot::Selection) } else { style }
        };
        let (glyph, word, slot) = job_state(&job.state, state.now.mono);
        let mut state_style = cx.theme.style(slot);
        if selected {
            state_style = cx.theme.style(Slot::Selection).patch(state_style);
        }
        let taken = taken(job, state.now.wall);
        let right = Rect { width: row.width.saturating_sub(1), ..row };
        put_right(cx.buf, right, &taken, on_row(Slot::TextDim));
        let room = row.width.saturating_sub(width(&taken) as u16 + 3);
        put(cx.buf, row.x + 1, y, &format!("{glyph} {word:<9}"), state_style, room);
        let x = row.x + 13;
        let room = room.saturating_sub(12);
        let end = put(cx.buf, x, y, &job.title, on_row(Slot::Text), room);
        if let Some(step) = current(job) {
            let done = job.steps.iter().position(|s| std::ptr::eq(s, step)).unwrap_or(0) + 1;
            let text = format!("{done}/{} {}", job.steps.len(), step.name);
            let room = (x + room).saturating_sub(end + 2);
            put(cx.buf, end + 2, y, &text, on_row(Slot::TextDim), room);
        }
        cx.hit(row, Hit::Item(n));
    }
}

impl Jobs {
    fn draw_detail(&self, job: &JobView, area: Rect, cx: &mut Draw<'_>) {
        let inner = panel(cx.buf, area, &job.title, cx.theme, false);
        cx.hit(area, Hit::Surface);
        let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
        let rest = |y: u16| Rect { y, height: inner.bottom().saturating_sub(y), ..inner };
        let (glyph, word, slot) = job_state(&job.state, cx.state.now.mono);
        let run = cx.state.runs.get(job.id);
        let pane = run.and_then(|run| cx.state.panes.get(run.pane));
        let pane = if pane.is_some() { " · Enter shows its pane" } else { "" };
        // With all three the line is longer than a narrow screen; the last line has that key, too.
        let off = if pane.is_empty() { " · d takes it off the list" } else { "" };
        let text = format!("{glyph} {word}, {}{pane}", taken(job, cx.state.now.wall));
        let text = match &job.state {
            JobState::Failed { .. } | JobState::Cancelled => {
                format!("{text} · r does it again{off}")
            }
            JobState::Done => format!("{text}{off}"),
            JobState::Queued | JobState::Running if job.cancellable => {
                format!("{text} · x ends it")
            }
            JobState::Queued | JobState::Running => text,
        };
        put(cx.buf, inner.x, inner.y, &text, cx.theme.style(slot), inner.width);
        let mut y = inner.y + 1;
        let log = if job.log.is_empty() { 0 } else { 3 };
        let steps = rest(y);
        let steps = Rect { height: steps.height.saturating_sub(log), ..steps };
        y += draw_steps(job, steps, cx);
        y += draw_problem(job, rest(y), cx);
        if !job.log.is_empty() && rest(y).height > 1 {
            let end = put(cx.buf, inner.x, y, "Log", cx.theme.style(Slot::Title), inner.width);
            let log = log_rows(job, inner.width);
            let above = log.len().saturating_sub(usize::from(rest(y + 1).height));
            let back = self.back.get().min(above);
            self.back.set(back);
            let keys = |action| cx.state.keys.keys_of(self.contexts(cx.state), action);
            if above > 0
                && let (Some(up), Some(down)) = (keys(Action::HalfUp), keys(Action::HalfDown))
            {
                let text = format!("{up} {down} scroll it");
                let room = inner.right().saturating_sub(end + 2);
                put(cx.buf, end + 2, y, &text, cx.theme.style(Slot::TextDim), room);
            }
            draw_log(&log, back, rest(y + 1), cx);
        }
    }
}
