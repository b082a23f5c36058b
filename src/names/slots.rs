//! How much may be under way at once, in all and for one guest.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

/// Places for work that is under way. A guest that floods takes its own share and leaves the others'.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    all: usize,
    each: usize,
    // Who has how many; nobody is in it with none.
    taken: Arc<Mutex<HashMap<Ipv4Addr, usize>>>,
}

/// A place, until dropped.
#[derive(Debug)]
pub(super) struct Slot {
    whose: Ipv4Addr,
    taken: Arc<Mutex<HashMap<Ipv4Addr, usize>>>,
}

impl Slots {
    /// This many in all, and this many for one address.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all, each, taken: Arc::default() }
    }

    /// A place, if there is one.
    pub fn take(&self, whose: Ipv4Addr) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&whose).copied().unwrap_or(0);
        if own >= self.each || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(whose, own + 1);
        Some(Slot { whose, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.whose) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.whose)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guest_cannot_take_all() {
        let slots = Slots::new(3, 2);
        let [a, b] = [Ipv4Addr::new(172, 30, 4, 2), Ipv4Addr::new(172, 30, 4, 3)];
        let first = [slots.take(a), slots.take(a)];
        assert!(first.iter().all(Option::is_some) && slots.take(a).is_none());
        let second = slots.take(b);
        assert!(second.is_some() && slots.take(b).is_none(), "three in all");
        drop(first);
        assert!(slots.take(b).is_some());
        drop(second);
        assert!(slots.taken.lock().expect("whole").is_empty(), "nothing is kept of those who left");
    }
}
