//! Places for queries that wait until the tables are as new as their callers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::UserId;

/// Queries of one user that wait at the same time.
const OF_USER_MAX: usize = 4;

/// So many places, and few for each user: whoever claims to have seen what is not there keeps nobody else out.
#[derive(Debug)]
pub(super) struct Waits {
    max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    taken: usize,
    users: HashMap<UserId, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    waits: &'a Waits,
    user: UserId,
}

impl Waits {
    pub(super) fn new(max: usize) -> Self {
        Self { max, inner: Mutex::default() }
    }

    /// A place for a query of this user, if there is one.
    pub(super) fn take(&self, user: &UserId) -> Option<Place<'_>> {
        let mut inner = self.lock();
        let of_user = inner.users.get(user).copied().unwrap_or(0);
        if inner.taken >= self.max || of_user >= OF_USER_MAX {
            return None;
        }
        inner.taken += 1;
        inner.users.insert(user.clone(), of_user + 1);
        Some(Place { waits: self, user: user.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.waits.lock();
        inner.taken -= 1;
        match inner.users.get_mut(&self.user) {
            Some(of_user) if *of_user > 1 => *of_user -= 1,
            _ => drop(inner.users.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_few_places_and_all_have_so_many() {
        let waits = Waits::new(OF_USER_MAX + 2);
        let user = |name: &str| UserId::new(name).unwrap();
        let mut anns: Vec<_> = (0..OF_USER_MAX).map(|_| waits.take(&user("ann")).unwrap()).collect();
        assert!(waits.take(&user("ann")).is_none());
        let others = ["bob", "eve"].map(|name| waits.take(&user(name)).unwrap());
        assert!(waits.take(&user("dan")).is_none());
        anns.pop();
        assert!(waits.take(&user("dan")).is_some());
        assert!(waits.take(&user("ann")).is_some());
        drop((anns, others));
        let inner = waits.lock();
        assert_eq!((inner.taken, inner.users.len()), (0, 0));
    }
}
