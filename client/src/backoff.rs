//! Growing pauses with full jitter, and the small generator that jitters them. Pure: the seed is an
//! argument, and no clock is read.

/// A pause of a random length below a ceiling that doubles with each failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    base_ms: u64,
    max_ms: u64,
}

impl Backoff {
    /// Ceilings of `base_ms`, twice that, …, never above `max_ms`.
    pub(crate) const fn new(base_ms: u64, max_ms: u64) -> Self {
        Self { base_ms, max_ms }
    }

    /// How long to wait after so many failures in a row, at least `least_ms`.
    pub(crate) fn pause_ms(self, failures: u32, least_ms: u64, dice: &mut Dice) -> u64 {
        let ceiling = self.base_ms.saturating_mul(1 << failures.min(20)).min(self.max_ms);
        least_ms.saturating_add(dice.below(ceiling + 1))
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): eight bytes of state, good enough to spread pauses.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The same seed throws the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number in `0..limit`; 0 for a limit of 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        z.checked_rem(limit).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_ceiling_and_use_its_whole_range() {
        let (backoff, mut dice) = (Backoff::new(500, 20_000), Dice::new(7));
        for (failures, ceiling) in [(0, 500), (1, 1_000), (3, 4_000), (7, 20_000), (4_000_000, 20_000)] {
            let pauses: Vec<u64> = (0..500).map(|_| backoff.pause_ms(failures, 0, &mut dice)).collect();
            assert!(pauses.iter().all(|p| *p <= ceiling), "{failures}");
            assert!(pauses.iter().any(|p| *p < ceiling / 10) && pauses.iter().any(|p| *p > ceiling * 9 / 10));
        }
        assert!(backoff.pause_ms(0, 2_000, &mut dice) >= 2_000, "what the server asks for is waited out");
    }
}
