//! The monitor's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::domain::UnixMs;

/// The wall clock, and the time since the monitor began.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The wall clock.
    #[must_use]
    pub fn now(self) -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since the monitor began.
    #[must_use]
    pub fn since_start(self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
