//! What is shown while there is no runtime directory: what is missing, what will be made from
//! where, and, once it is under way, how far it is.

use ratatui::layout::Rect;

use super::steps::{draw_log, draw_problem, draw_steps, job_state, log_rows, taken};
use crate::{
    config::theme::Slot,
    domain::{Admission, BundleView, CommandBody, JobId, JobState, JobView, NoticeLevel},
    tui::{
        action::{Action, Context},
        event::{Answer, Handled, LayerEvent, Ticket},
        layers::{Cx, Draw, Hit, Layer},
        state::State,
        widgets::{panel, put, wrap},
    },
};

/// What a bootstrap makes: the thing, how large or slow that is, and from where. A test compares
/// it with `runtime-bundle.toml`, which has the exact sources. Times are those of two cores and
/// a near mirror.
pub const PARTS: [(&str, &str, &str); 5] = [
    ("kernel", "27 MB to fetch", "Debian's cloud kernel, from this machine's apt"),
    ("initrd", "2 MB, at once", "built here"),
    ("tiny image", "256 MiB disk, seconds", "busybox and dropbear, from this machine's apt"),
    (
        "debian image",
        "2 GiB disk, a minute",
        "bookworm with systemd and SSH, from this machine's apt",
    ),
    ("Firecracker", "left out if unreachable", "its release on GitHub, with a pinned checksum"),
];

/// The screen.
#[derive(Default)]
pub struct FirstStart {
    /// The answer that is awaited.
    sent: Option<Ticket>,
    /// The job that makes the runtime directory.
    job: Option<JobId>,
    /// Why it was not begun.
    denied: Option<String>,
}

impl FirstStart {
    fn job<'a>(&self, state: &'a State) -> Option<&'a JobView> {
        state.fleet.jobs.iter().find(|job| Some(job.id) == self.job)
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        if self.sent.is_some() {
            return;
        }
        self.denied = None;
        let body = match self.job(cx.state).map(|job| (job.id, &job.state)) {
            Some((_, JobState::Queued | JobState::Running)) => return,
            Some((id, JobState::Failed { .. } | JobState::Cancelled)) => CommandBody::RetryJob(id),
            Some((_, JobState::Done)) | None => CommandBody::Bootstrap,
        };
        self.sent = Some(cx.command(body));
    }

    fn answered(&mut self, answer: &Answer) {
        self.sent = None;
        self.denied = match answer {
            Answer::Admission(Admission::Queued(job)) => {
                self.job = Some(*job);
                None
            }
            Answer::Admission(Admission::Ignored(why)) => Some(why.clone()),
            Answer::Admission(Admission::Denied(denied)) => Some(denied.to_string()),
            Answer::Busy => Some("banger is busy; press Enter again in a moment".to_owned()),
            Answer::Gone => {
                Some("the supervisor has ended; quit and start banger again".to_owned())
            }
        };
    }
}

impl Layer for FirstStart {
    fn title(&self) -> &'static str {
        "First start"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::FirstStart, Context::Global]
    }

    fn is_modal(&self) -> bool {
        false
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        match event {
            LayerEvent::Action(Action::Bootstrap) => self.begin(cx),
            LayerEvent::Answer(ticket, answer) if self.sent == Some(*ticket) => {
                self.answered(answer);
            }
            LayerEvent::Fleet => {
                let ready = matches!(cx.state.fleet.host.bundle, BundleView::Ready { .. });
                if ready && self.job.take().is_some() {
                    let text = "the runtime directory is ready";
                    cx.toast(NoticeLevel::Info, text, "n makes your first machine");
                }
                return Handled::Ignored;
            }
            _ => return Handled::Ignored,
        }
        Handled::Consumed
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let inner = panel(cx.buf, area, "Welcome to banger", cx.theme, true);
        let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
        match self.job(cx.state).cloned() {
            Some(job) => draw_job(&job, inner, cx),
            None => self.draw_offer(inner, cx),
        }
    }
}

impl FirstStart {
    fn draw_offer(&self, area: Rect, cx: &mut Draw<'_>) {
        let BundleView::Missing { problem } = &cx.state.fleet.host.bundle else { return };
        let columns = usize::from(area.width);
        let mut lines: Vec<(String, Slot)> = Vec::new();
        let mut say = |text: &str, slot| {
            lines.extend(wrap(text, columns).into_iter().map(|line| (line, slot)));
        };
        say(&problem.what, Slot::Title);
        say(&problem.why, Slot::Text);
        say(
            "\nWhat machines are made of is made once, and then shared by all of them:",
            Slot::Text,
        );
        let mut y = area.y;
        for (line, slot) in &lines {
            if y < area.bottom() {
                put(cx.buf, area.x, y, line, cx.theme.style(*slot), area.width);
            }
            y += 1;
        }
        y += 1;
        for (part, cost, from) in PARTS {
            if y + 3 >= area.bottom() {
                break;
            }
            put(cx.buf, area.x + 2, y, part, cx.theme.style(Slot::FieldValue), 14);
            let x = area.x + 17;
            let dim = cx.theme.style(Slot::TextDim);
            // Cost before origin, where both do not fit.
            let text =
                if area.width >= 100 { format!("{cost:<25}{from}") } else { cost.to_owned() };
            put(cx.buf, x, y, &text, dim, area.right().saturating_sub(x));
            y += 1;
            if area.width < 100 && y + 3 < area.bottom() {
                put(cx.buf, x, y, from, dim, area.right().saturating_sub(x));
                y += 1;
            }
        }
        y = (y + 1).min(area.bottom().saturating_sub(1));
        if let Some(denied) = &self.denied {
            for line in wrap(denied, columns) {
                if y + 1 < area.bottom() {
                    put(cx.buf, area.x, y, &line, cx.theme.style(Slot::FieldProblem), area.width);
                    y += 1;
                }
            }
        }
        let text = if self.sent.is_some() { "[ Setting up… ]" } else { "[ Set up · Enter ]" };
        let end = put(cx.buf, area.x, y, text, cx.theme.style(Slot::ButtonFocus), area.width);
        cx.hit(Rect { y, height: 1, width: end - area.x, ..area }, Hit::Action(Action::Bootstrap));
        let dim = cx.theme.style(Slot::TextDim);
        let room = area.right().saturating_sub(end + 2);
        put(cx.buf, end + 2, y, "or in a shell: banger runtime bootstrap", dim, room);
    }
}

fn draw_job(job: &JobView, area: Rect, cx: &mut Draw<'_>) {
    let (glyph, word, slot) = job_state(&job.state, cx.state.now.mono);
    let text = format!("{glyph} Setting up: {word}, {}", taken(job, cx.state.now.wall));
    put(cx.buf, area.x, area.y, &text, cx.theme.style(slot), area.width);
    let rest = |y: u16| Rect { y, height: area.bottom().saturating_sub(y), ..area };
    let mut y = area.y + 2;
    let over = job.state.is_over();
    let steps = rest(y);
    y += draw_steps(job, Rect { height: steps.height.saturating_sub(5), ..steps }, cx) + 1;
    y += draw_problem(job, rest(y), cx);
    if matches!(job.state, JobState::Failed { .. } | JobState::Cancelled) && y + 1 < area.bottom() {
        y += 1;
        let text = "[ Go on where it stopped · Enter ]";
        let end = put(cx.buf, area.x, y, text, cx.theme.style(Slot::ButtonFocus), area.width);
        cx.hit(Rect { y, height: 1, width: end - area.x, ..area }, Hit::Action(Action::Bootstrap));
        y += 2;
    }
    if rest(y).height > 1 && !job.log.is_empty() {
        put(cx.buf, area.x, y, "Log", cx.theme.style(Slot::Title), area.width);
        let log =
            Rect { height: rest(y + 1).height.saturating_sub(u16::from(!over)), ..rest(y + 1) };
        draw_log(&log_rows(job, log.width), 0, log, cx);
    }
}
