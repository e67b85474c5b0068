//! Which numbers of conversations one request reads. Pure.

use std::collections::BTreeSet;

use proto::ConversationId;
use proto::limits::BUCKET;

/// Numbers of a conversation from one to another, both included, in one bucket.
pub(super) type Stretch = (ConversationId, u64, u64);

/// A page of a timeline names many numbers of a few conversations, nearly one after the other: they are read
/// together. Never more than twice what was asked for.
pub(super) fn stretches(keys: &[(ConversationId, u64)]) -> Vec<Stretch> {
    let keys: BTreeSet<_> = keys.iter().copied().collect();
    let mut all: Vec<Stretch> = Vec::new();
    let mut count = 0;
    for (id, no) in keys {
        match all.last_mut() {
            Some((last, from, to))
                if *last == id && *from / BUCKET == no / BUCKET && no - *from < 2 * (count + 1) =>
            {
                *to = no;
                count += 1;
            }
            _ => {
                all.push((id, no, no));
                count = 1;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_nearly_in_a_row_are_read_at_once() {
        let id = |byte| ConversationId::from_slice(&[byte; 16]).unwrap();
        let (a, b) = (id(1), id(2));
        let of = |id, numbers: &[u64]| numbers.iter().map(|no| (id, *no)).collect::<Vec<_>>();
        assert_eq!(stretches(&of(a, &[3, 1, 2, 2])), [(a, 1, 3)]);
        assert_eq!(stretches(&of(a, &[1, 3, 5, 50])), [(a, 1, 5), (a, 50, 50)]);
        let edge = [(a, BUCKET - 1, BUCKET - 1), (a, BUCKET, BUCKET)];
        assert_eq!(stretches(&of(a, &[BUCKET - 1, BUCKET])), edge);
        let both = [of(a, &[1]), of(b, &[2])].concat();
        assert_eq!(stretches(&both), [(a, 1, 1), (b, 2, 2)]);
        assert_eq!(stretches(&[]), []);
    }
}
