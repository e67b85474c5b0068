//! Which message is due when. Pure: the load is a function of its figures, so that the time at which a
//! message was to be sent is known to whoever holds its number, also when the sender is late.

use crate::clock::Micros;

/// Pairs of devices that write to each other in turns, at an even pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Device 2p and device 2p + 1 are a pair.
    pub(crate) pairs: u64,
    /// Messages a second, of all pairs together.
    pub(crate) rate: f64,
    /// For how long, in microseconds.
    pub(crate) duration_us: u64,
}

/// One message of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The device that sends it.
    pub(crate) device: u64,
    /// The count of that device's messages before it.
    pub(crate) index: u64,
    /// When, in microseconds after the start.
    pub(crate) at_us: u64,
}

impl Plan {
    /// How many messages there are.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "rates and durations are far below 2^52, and not negative"
    )]
    pub(crate) fn messages(&self) -> u64 {
        (self.rate * self.duration_us as f64 / 1e6) as u64
    }

    /// The message of this number, counted over all devices.
    pub(crate) fn turn(&self, number: u64) -> Turn {
        let (round, pair) = (number / self.pairs, number % self.pairs);
        Turn { device: 2 * pair + round % 2, index: round / 2, at_us: self.at_us(number) }
    }

    /// When a device's message of this index is due, after `start`.
    pub(crate) fn due(&self, start: Micros, device: u64, index: u64) -> Micros {
        let round = 2 * index + device % 2;
        start.after(self.at_us(round * self.pairs + device / 2))
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "counts are far below 2^52"
    )]
    fn at_us(&self, number: u64) -> u64 {
        (number as f64 * 1e6 / self.rate) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_and_their_time_is_known_from_their_number() {
        let plan = Plan { pairs: 3, rate: 1_000.0, duration_us: 20_000 };
        assert_eq!(plan.messages(), 20);
        let mut counts = [0; 6];
        for number in 0..plan.messages() {
            let turn = plan.turn(number);
            let device = usize::try_from(turn.device).unwrap();
            assert_eq!(turn.index, counts[device], "each device's messages count from 0");
            counts[device] += 1;
            assert_eq!(turn.at_us, number * 1_000);
            assert_eq!(plan.due(Micros(7), turn.device, turn.index), Micros(7 + turn.at_us));
        }
    }
}
