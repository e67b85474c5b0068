//! Growing pauses with jitter.

use std::time::Duration;

/// The pauses between attempts.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    first: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, first, max }
    }

    /// The next pause: between half and the whole of a length that doubles.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        whole.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    /// It worked: begin with the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(300));
        for whole in [100, 200, 300, 300] {
            let pause = backoff.pause();
            assert!(ms(whole / 2) <= pause && pause <= ms(whole), "{pause:?} of {whole} ms");
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(100));
    }
}
