//! Which of the judged records are done with: all of their outputs, and those of every record before
//! them, are reported durable. Pure.

use std::collections::VecDeque;

/// Counts the records that a run has judged, from 0; a position is such a count.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Records below are done with.
    done: u64,
    /// Outputs appended and not reported, by record from `done` on.
    pending: VecDeque<u32>,
    /// Every output of the records below is appended.
    emitted: u64,
}

impl Window {
    /// A record was judged; its position.
    pub(crate) fn judged(&mut self) -> u64 {
        self.pending.push_back(0);
        self.upto() - 1
    }

    /// The position after the last judged record.
    pub(crate) fn upto(&self) -> u64 {
        self.done + self.pending.len() as u64
    }

    /// An output of the record at `position` was appended.
    pub(crate) fn appended(&mut self, position: u64) {
        *self.at(position) += 1;
    }

    /// An output of the record at `position` was reported durable.
    pub(crate) fn reported(&mut self, position: u64) {
        *self.at(position) -= 1;
        self.advance();
    }

    /// All outputs of the records below `position` are appended.
    pub(crate) fn emitted(&mut self, position: u64) {
        self.emitted = self.emitted.max(position);
        self.advance();
    }

    /// The position up to which everything is durable.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Records judged and not done with.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    fn at(&mut self, position: u64) -> &mut u32 {
        let index = position.checked_sub(self.done).and_then(|i| usize::try_from(i).ok());
        index
            .and_then(|i| self.pending.get_mut(i))
            .expect("a record with an output under way is not done with")
    }

    fn advance(&mut self) {
        while self.done < self.emitted && self.pending.front() == Some(&0) {
            self.pending.pop_front();
            self.done += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_done_with_only_after_all_before_it() {
        let mut window = Window::default();
        let (a, b, c) = (window.judged(), window.judged(), window.judged());
        window.appended(a);
        window.appended(a);
        window.appended(c);
        window.emitted(3);
        window.reported(c);
        assert_eq!(window.done(), 0);
        window.reported(a);
        assert_eq!(window.done(), 0);
        window.reported(a);
        assert_eq!((window.done(), window.len(), b), (3, 0, 1));
    }

    #[test]
    fn a_record_without_outputs_is_not_done_with_before_it_is_emitted() {
        let mut window = Window::default();
        window.judged();
        window.judged();
        assert_eq!(window.done(), 0);
        window.emitted(1);
        assert_eq!((window.done(), window.upto()), (1, 2));
    }
}
