//! Log time. A tick is the only time that a stage knows.

/// Microseconds since 1970 on the log's clock, made strictly rising within a partition. Identifies a
/// record within its partition and is the write timestamp of every row that the record causes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// Before every record.
    pub const ZERO: Tick = Tick(0);

    /// The tick of the record that follows this one and was appended at `append_us`.
    #[must_use]
    pub fn next(self, append_us: u64) -> Tick {
        Tick((self.0 + 1).max(append_us))
    }
}

#[cfg(test)]
mod tests {
    use super::Tick;

    #[test]
    fn a_clock_that_steps_back_does_not_take_ticks_with_it() {
        let a = Tick::ZERO.next(1_000);
        let b = a.next(500);
        let c = b.next(500);
        assert_eq!((a, b, c), (Tick(1_000), Tick(1_001), Tick(1_002)));
        assert_eq!(c.next(5_000), Tick(5_000));
    }
}
