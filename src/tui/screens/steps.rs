//! A job's steps, as the Jobs screen and the first-start screen show them.

use std::time::Duration;

use ratatui::layout::Rect;

use crate::{
    config::theme::Slot,
    domain::{JobState, JobView, Progress, StepState, StepView, UnixMs},
    tui::{
        layers::Draw,
        text::{age, width},
        widgets::{broken, put, put_right, spinner, wrap},
    },
};

/// Columns of a progress bar.
const BAR: u16 = 16;

/// Glyph, word and style of a job's state. The spinner turns with `mono`.
#[must_use]
pub fn job_state(state: &JobState, mono: Duration) -> (&'static str, &'static str, Slot) {
    match state {
        JobState::Queued => ("○", "waiting", Slot::StateStopped),
        JobState::Running => (spinner(mono), "running", Slot::StateBooting),
        JobState::Done => ("✓", "done", Slot::StateRunning),
        JobState::Failed { .. } => ("✗", "failed", Slot::StateCrashed),
        JobState::Cancelled => ("⊘", "cancelled", Slot::StateStopping),
    }
}

/// The same of a step.
fn step_state(state: StepState, mono: Duration) -> (&'static str, &'static str, Slot) {
    match state {
        StepState::Pending => ("○", "", Slot::TextDim),
        StepState::Running => (spinner(mono), "", Slot::StateBooting),
        StepState::Done => ("✓", "", Slot::StateRunning),
        StepState::Cached => ("✓", "was there", Slot::StateRunning),
        StepState::Skipped => ("–", "left out", Slot::StateStopping),
        StepState::Failed => ("✗", "failed", Slot::StateCrashed),
    }
}

/// How long a job has taken, or took.
#[must_use]
pub fn taken(job: &JobView, now: UnixMs) -> String {
    age(job.ended.unwrap_or(now).since(job.started))
}

/// Whole per cent of a step that is under way: never 100, for it is not done.
fn percent(progress: Progress) -> u64 {
    let share = u128::from(progress.done) * 100 / u128::from(progress.total.max(1));
    share.min(99) as u64
}

/// The step to name in one line: the one under way, else the one that failed.
#[must_use]
pub fn current(job: &JobView) -> Option<&StepView> {
    let with = |state| job.steps.iter().find(|step| step.state == state);
    with(StepState::Running).or_else(|| with(StepState::Failed))
}

/// Draws the steps from the top of `area`, those that matter now if they do not all fit. Returns
/// how many rows they took.
pub fn draw_steps(job: &JobView, area: Rect, cx: &mut Draw<'_>) -> u16 {
    let rows = usize::from(area.height);
    // The first that is not over should be in sight, with some that are.
    let open = |s: &StepView| matches!(s.state, StepState::Running | StepState::Pending);
    let at = job.steps.iter().position(open).unwrap_or(job.steps.len());
    let most = job.steps.len().saturating_sub(rows);
    let from = at.saturating_sub(rows / 2).min(most);
    let names = job.steps.iter().map(|step| width(&step.name)).max().unwrap_or(0);
    let names = (names as u16).clamp(8, 24).min(area.width / 3);
    let mut y = area.y;
    for step in job.steps.iter().skip(from).take(rows) {
        draw_step(step, names, Rect { y, height: 1, ..area }, cx);
        y += 1;
    }
    y - area.y
}

fn draw_step(step: &StepView, names: u16, row: Rect, cx: &mut Draw<'_>) {
    let (glyph, word, slot) = step_state(step.state, cx.state.now.mono);
    let style = cx.theme.style(slot);
    let dim = cx.theme.style(Slot::TextDim);
    let left = |x: u16| row.right().saturating_sub(x);
    put(cx.buf, row.x, row.y, glyph, style, left(row.x));
    let name = if step.state == StepState::Pending { dim } else { cx.theme.style(Slot::Text) };
    put(cx.buf, row.x + 2, row.y, &step.name, name, names.min(left(row.x + 2)));
    let mut x = row.x + 2 + names + 2;
    match (step.state, step.progress) {
        (StepState::Running, Some(progress)) if left(x) > BAR + 6 => {
            let percent = percent(progress);
            let full = (percent * u64::from(BAR) / 100) as u16;
            for column in 0..BAR {
                let (symbol, slot) =
                    if column < full { ("━", Slot::JobBar) } else { ("─", Slot::MeterFree) };
                put(cx.buf, x + column, row.y, symbol, cx.theme.style(slot), 1);
            }
            let text = format!("{percent:>3} %");
            x = put(cx.buf, x + BAR + 1, row.y, &text, style, left(x + BAR + 1)) + 2;
        }
        _ if !word.is_empty() => x = put(cx.buf, x, row.y, word, style, left(x)) + 2,
        _ => {}
    }
    put(cx.buf, x, row.y, &step.detail, dim, left(x));
}

/// Draws what went wrong, why, and what to do. Returns how many rows it took.
pub fn draw_problem(job: &JobView, area: Rect, cx: &mut Draw<'_>) -> u16 {
    let JobState::Failed { problem } = &job.state else { return 0 };
    let mut y = area.y;
    for (text, slot) in [
        (&problem.what, Slot::StateCrashed),
        (&problem.why, Slot::Text),
        (&problem.hint, Slot::KeyHint),
    ] {
        for line in wrap(text, usize::from(area.width)) {
            if y < area.bottom() && !line.is_empty() {
                put(cx.buf, area.x, y, &line, cx.theme.style(slot), area.width);
                y += 1;
            }
        }
    }
    y - area.y
}

/// The job's log in rows of so many columns: what matters may stand at a line's end.
#[must_use]
pub fn log_rows(job: &JobView, columns: u16) -> Vec<String> {
    let columns = usize::from(columns.max(1));
    job.log.iter().flat_map(|line| broken(line, columns)).collect()
}

/// Draws the end of such rows, `back` of them before the last.
pub fn draw_log(log: &[String], back: usize, area: Rect, cx: &mut Draw<'_>) {
    let rows = usize::from(area.height);
    let end = log.len() - back.min(log.len().saturating_sub(rows));
    let style = cx.theme.style(Slot::TextDim);
    for (line, y) in log[end.saturating_sub(rows)..end].iter().zip(area.y..) {
        put(cx.buf, area.x, y, line, style, area.width);
    }
    if back > 0 && end < log.len() {
        let below = format!(" {} more below ", log.len() - end);
        let row = Rect { y: area.bottom().saturating_sub(1), height: 1, ..area };
        put_right(cx.buf, row, &below, cx.theme.style(Slot::KeyHint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_is_never_at_a_hundred_per_cent() {
        assert_eq!(percent(Progress { done: 0, total: 7 }), 0);
        assert_eq!(percent(Progress { done: 1, total: 2 }), 50);
        assert_eq!(percent(Progress { done: 7, total: 7 }), 99);
        assert_eq!(percent(Progress { done: 9, total: 7 }), 99);
        assert_eq!(percent(Progress { done: 0, total: 0 }), 0);
        assert_eq!(percent(Progress { done: u64::MAX, total: u64::MAX }), 99);
    }
}
