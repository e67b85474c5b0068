//! Who owns a partition: whoever appended the last Owner record. Its tick is the term. Pure.

use proto::{Tick, v1};

/// One run's view of it.
#[derive(Debug)]
pub(crate) struct Ownership {
    me: v1::Owner,
    term: Option<Tick>,
}

/// What an Owner record means to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Its own: it is the owner from here on.
    Mine,
    /// One before its own.
    Earlier,
    /// Another's, after its own: it stops.
    Superseded,
}

impl Ownership {
    /// A run of this node that has not claimed anything yet.
    pub(crate) fn new(node: &str) -> Self {
        Self { me: v1::Owner { node: node.into(), run: rand::random() }, term: None }
    }

    /// The record with which it claims the partition.
    pub(crate) fn claim(&self) -> v1::Owner {
        self.me.clone()
    }

    /// Reads an Owner record of the log.
    pub(crate) fn read(&mut self, owner: &v1::Owner, tick: Tick) -> Word {
        if *owner == self.me {
            self.term = Some(self.term.unwrap_or(tick));
            Word::Mine
        } else if self.term.is_some() {
            Word::Superseded
        } else {
            Word::Earlier
        }
    }

    /// The term, once its own record was read.
    pub(crate) fn term(&self) -> Option<Tick> {
        self.term
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_the_own_record_supersedes() {
        let mut mine = Ownership::new("a");
        let (own, other) = (mine.claim(), Ownership::new("a").claim());
        assert_ne!(own, other);
        assert_eq!(mine.read(&other, Tick(1)), Word::Earlier);
        assert_eq!(mine.term(), None);
        assert_eq!(mine.read(&own, Tick(2)), Word::Mine);
        assert_eq!(mine.term(), Some(Tick(2)));
        assert_eq!(mine.read(&other, Tick(3)), Word::Superseded);
    }
}
