//! A lock that a busy thread cannot keep to itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex where a thread that waits comes before the one that just let go.
///
/// Whoever waits for the data holds the place in the queue meanwhile; the thread that let go
/// finds that place taken and has to wait its turn. A flooding pane and the UI that draws it
/// thus alternate.
#[derive(Debug)]
pub(super) struct FairMutex<T> {
    next: Mutex<()>,
    data: Mutex<T>,
}

impl<T> FairMutex<T> {
    /// Guards `data`.
    pub fn new(data: T) -> Self {
        Self { next: Mutex::new(()), data: Mutex::new(data) }
    }

    /// Waits for its turn. A panic of another holder is no reason to give up: what is guarded
    /// here is replaced after one.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let _next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn who_waits_comes_before_who_just_let_go() {
        let lock = Arc::new(FairMutex::new(Vec::new()));
        for round in 0..20 {
            let mut held = lock.lock();
            let waiter = {
                let lock = Arc::clone(&lock);
                thread::spawn(move || lock.lock().push(round))
            };
            // The waiter has its place in the queue as soon as that can no longer be taken.
            while lock.next.try_lock().is_ok() {
                thread::yield_now();
            }
            held.push(-1);
            drop(held);
            assert_eq!(lock.lock().last(), Some(&round));
            waiter.join().unwrap();
        }
    }
}
