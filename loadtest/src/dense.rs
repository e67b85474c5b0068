//! A set of numbers that should come 0, 1, 2, … and may be lost, doubled or swapped: takes as much memory
//! as there are holes.

use std::collections::BTreeSet;

/// What one more number is, given those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The next one.
    Next,
    /// Later than the next; those between are missing as yet.
    Ahead,
    /// One that was missing: it comes after a later one.
    Late,
    /// It was there already.
    Repeat,
}

/// The numbers seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dense {
    /// Every number below was seen, but for those missing.
    next: u64,
    missing: BTreeSet<u64>,
}

impl Dense {
    /// Adds a number.
    pub(crate) fn take(&mut self, number: u64) -> Order {
        if number < self.next {
            return if self.missing.remove(&number) { Order::Late } else { Order::Repeat };
        }
        let order = if number == self.next { Order::Next } else { Order::Ahead };
        self.missing.extend(self.next..number);
        self.next = number + 1;
        order
    }

    /// Whether a number was seen.
    pub(crate) fn has(&self, number: u64) -> bool {
        number < self.next && !self.missing.contains(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_order_is_told_apart() {
        let mut dense = Dense::default();
        let orders: Vec<Order> = [0, 2, 1, 1, 3, 5].into_iter().map(|number| dense.take(number)).collect();
        assert_eq!(
            orders,
            [Order::Next, Order::Ahead, Order::Late, Order::Repeat, Order::Next, Order::Ahead]
        );
        assert!(dense.has(5) && !dense.has(4) && !dense.has(6));
    }
}
