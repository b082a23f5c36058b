//! What is remembered of a console: the last bytes, and how many there were in all.

use std::collections::VecDeque;

/// The last bytes of an endless stream. Readers keep a position of their own and come for what
/// is new, so a slow reader costs nothing and a fast one waits for nobody.
#[derive(Debug)]
pub struct Ring {
    bytes: VecDeque<u8>,
    capacity: usize,
    total: u64,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// The bytes, oldest first.
    pub bytes: Vec<u8>,
    /// How many bytes before them the reader missed, because it was too slow.
    pub missed: u64,
    /// The reader's new position.
    pub position: u64,
}

impl Ring {
    /// An empty ring that remembers `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self { bytes: VecDeque::new(), capacity, total: 0 }
    }

    /// Adds what came.
    pub fn push(&mut self, new: &[u8]) {
        self.total += new.len() as u64;
        let new = &new[new.len().saturating_sub(self.capacity)..];
        let over = (self.bytes.len() + new.len()).saturating_sub(self.capacity);
        self.bytes.drain(..over);
        self.bytes.extend(new);
    }

    /// Bytes in all since the beginning.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The position of the oldest byte that is still there.
    pub fn oldest(&self) -> u64 {
        self.total - self.bytes.len() as u64
    }

    /// At most `limit` bytes from `position` on.
    pub fn take(&self, position: u64, limit: usize) -> Taken {
        let from = position.clamp(self.oldest(), self.total);
        let start = (from - self.oldest()) as usize;
        let count = limit.min(self.bytes.len() - start);
        let bytes: Vec<u8> = self.bytes.range(start..start + count).copied().collect();
        Taken { missed: from.saturating_sub(position), position: from + count as u64, bytes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let mut ring = Ring::new(4);
        ring.push(b"abcdef");
        let taken = ring.take(0, 100);
        assert_eq!(taken, Taken { bytes: b"cdef".to_vec(), missed: 2, position: 6 });
        assert_eq!(ring.take(6, 100).bytes, b"");
    }

    proptest! {
        #[test]
        fn a_reader_that_keeps_up_sees_every_byte(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            limit in 1usize..50,
        ) {
            let mut ring = Ring::new(40);
            let (mut position, mut seen) = (0, Vec::new());
            for chunk in &chunks {
                ring.push(chunk);
                while position < ring.total() {
                    let taken = ring.take(position, limit);
                    prop_assert_eq!(taken.missed, 0);
                    position = taken.position;
                    seen.extend(taken.bytes);
                }
            }
            prop_assert_eq!(seen, chunks.concat());
        }

        #[test]
        fn memory_is_bounded(chunks in prop::collection::vec(0usize..200, 0..20)) {
            let mut ring = Ring::new(64);
            for n in chunks {
                ring.push(&vec![b'x'; n]);
                prop_assert!(ring.bytes.len() <= 64);
            }
        }
    }
}
