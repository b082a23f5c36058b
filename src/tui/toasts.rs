//! What was said in passing: the newest few on the screen, the rest in the notices.

use std::{collections::VecDeque, time::Duration};

use super::state::Now;
use crate::domain::{NoticeLevel, UnixMs};

/// How many are on the screen at once.
pub const SHOWN: usize = 3;
/// How many are kept to be read later.
const KEPT: usize = 500;
/// How long an information stays (style study, part (d): 2 to 4 s).
const INFO: Duration = Duration::from_secs(3);
/// How long a warning or an error without a hint stays (at least 4 to 6 s).
const ERROR: Duration = Duration::from_secs(6);

/// Something said in passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toast {
    /// How much it matters.
    pub level: NoticeLevel,
    /// One line.
    pub text: String,
    /// What to do, or empty.
    pub hint: String,
    /// When it was said.
    pub at: UnixMs,
    /// When it leaves the screen; `None` stays until Esc.
    pub until: Option<Duration>,
    /// How often it was said in a row.
    pub times: u32,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Toasts {
    history: VecDeque<Toast>,
    /// How many of the newest may still be on the screen.
    fresh: usize,
}

impl Toasts {
    /// Says something. An error with a hint stays until it is dismissed: the user is to read it.
    pub fn push(&mut self, level: NoticeLevel, text: String, hint: String, now: Now) {
        let until = match level {
            NoticeLevel::Info => Some(now.mono + INFO),
            NoticeLevel::Error if !hint.is_empty() => None,
            NoticeLevel::Warning | NoticeLevel::Error => Some(now.mono + ERROR),
        };
        if let Some(last) = self.history.back_mut()
            && self.fresh > 0
            && (last.level, &last.text, &last.hint) == (level, &text, &hint)
        {
            (last.until, last.at) = (until, now.wall);
            last.times = last.times.saturating_add(1);
            return;
        }
        self.history.push_back(Toast { level, text, hint, at: now.wall, until, times: 1 });
        self.fresh = (self.fresh + 1).min(SHOWN);
        if self.history.len() > KEPT {
            self.history.pop_front();
        }
    }

    /// Those on the screen at `now`, oldest first.
    pub fn shown(&self, now: Now) -> impl Iterator<Item = &Toast> {
        let fresh = self.history.iter().skip(self.history.len() - self.fresh);
        fresh.filter(move |toast| toast.until.is_none_or(|until| now.mono < until))
    }

    /// Takes those on the screen away; false if there were none.
    pub fn dismiss(&mut self, now: Now) -> bool {
        let any = self.shown(now).next().is_some();
        self.fresh = 0;
        any
    }

    /// When the next one leaves the screen.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Duration> {
        self.shown(now).filter_map(|toast| toast.until).min()
    }

    /// All that are kept, newest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Toast> + ExactSizeIterator {
        self.history.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Now {
        Now { mono: Duration::from_secs(secs), wall: UnixMs(secs * 1000) }
    }

    fn texts(toasts: &Toasts, now: Now) -> Vec<&str> {
        toasts.shown(now).map(|toast| toast.text.as_str()).collect()
    }

    #[test]
    fn they_leave_by_themselves_but_errors_with_a_hint_stay() {
        let mut toasts = Toasts::default();
        toasts.push(NoticeLevel::Info, "a".into(), String::new(), at(0));
        toasts.push(NoticeLevel::Error, "b".into(), String::new(), at(0));
        toasts.push(NoticeLevel::Error, "c".into(), "do d".into(), at(0));
        assert_eq!(texts(&toasts, at(0)), ["a", "b", "c"]);
        assert_eq!(toasts.deadline(at(0)), Some(Duration::from_secs(3)));
        assert_eq!(texts(&toasts, at(3)), ["b", "c"]);
        assert_eq!(texts(&toasts, at(100)), ["c"]);
        assert!(toasts.dismiss(at(100)));
        assert!(!toasts.dismiss(at(100)));
        assert_eq!(toasts.history().map(|t| t.text.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    }

    #[test]
    fn a_flood_keeps_three_on_the_screen_and_some_hundreds_in_memory() {
        let mut toasts = Toasts::default();
        for n in 0..10_000 {
            toasts.push(NoticeLevel::Info, format!("{n}"), String::new(), at(0));
        }
        assert_eq!(texts(&toasts, at(0)), ["9997", "9998", "9999"]);
        assert_eq!(toasts.history().len(), KEPT);
    }

    #[test]
    fn the_same_again_is_counted_and_not_repeated() {
        let mut toasts = Toasts::default();
        for _ in 0..5 {
            toasts.push(NoticeLevel::Info, "same".into(), String::new(), at(0));
        }
        assert_eq!(texts(&toasts, at(0)), ["same"]);
        assert_eq!(toasts.history().next().map(|t| t.times), Some(5));
    }
}
