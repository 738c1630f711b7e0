//! The queue of future events.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Millis;

/// A virtual clock and the future events, ordered by time and then by when they were scheduled.
#[derive(Clone, Debug)]
pub struct Engine<E> {
    now: Millis,
    scheduled: u64,
    heap: BinaryHeap<Entry<E>>,
}

#[derive(Clone, Debug)]
struct Entry<E> {
    at: Millis,
    sequence: u64,
    event: E,
}

impl<E> Default for Engine<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Engine<E> {
    /// A clock at zero without events.
    pub fn new() -> Self {
        Self { now: Millis::ZERO, scheduled: 0, heap: BinaryHeap::new() }
    }

    /// The virtual time.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Number of future events.
    pub fn pending(&self) -> usize {
        self.heap.len()
    }

    /// How many events were ever scheduled.
    pub fn scheduled(&self) -> u64 {
        self.scheduled
    }

    /// Schedules `event` at `at`. An event in the past happens now, after those that are already due.
    pub fn schedule(&mut self, at: Millis, event: E) {
        let at = at.max(self.now);
        self.heap.push(Entry { at, sequence: self.scheduled, event });
        self.scheduled += 1;
    }

    /// Schedules `event` after `delay`.
    pub fn schedule_in(&mut self, delay: Millis, event: E) {
        self.schedule(self.now + delay, event);
    }

    /// When the next event is due.
    pub fn next_at(&self) -> Option<Millis> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Takes the next event and advances the clock to it.
    pub fn next_event(&mut self) -> Option<E> {
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }

    /// Takes the next event that is due by `limit`; if there is none, the clock advances to `limit`.
    pub fn next_until(&mut self, limit: Millis) -> Option<E> {
        if self.heap.peek().is_some_and(|entry| entry.at <= limit) {
            return self.next_event();
        }
        self.now = self.now.max(limit);
        None
    }
}

impl<E> Entry<E> {
    fn key(&self) -> (Millis, u64) {
        (self.at, self.sequence)
    }
}

/// The heap returns the greatest first, so the order is reversed.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_by_sequence() {
        let mut engine = Engine::new();
        for (at, name) in [(5, "c"), (1, "a"), (5, "d"), (3, "b"), (5, "e")] {
            engine.schedule(Millis(at), name);
        }
        let mut seen = String::new();
        while let Some(name) = engine.next_event() {
            seen.push_str(name);
            if name == "a" {
                engine.schedule(Millis(0), "!");
            }
        }
        assert_eq!(seen, "a!bcde");
        assert_eq!(engine.now(), Millis(5));
    }

    #[test]
    fn the_clock_moves_to_the_limit_and_never_back() {
        let mut engine = Engine::new();
        engine.schedule(Millis(10), ());
        assert_eq!(engine.next_until(Millis(9)), None);
        assert_eq!(engine.now(), Millis(9));
        assert_eq!(engine.next_until(Millis(10)), Some(()));
        assert_eq!(engine.next_until(Millis(3)), None);
        assert_eq!(engine.now(), Millis(10));
    }
}
