//! A store that is gone with the process: for load harnesses, simulators and apps that start anew each time.

use super::{Change, Saved, Store};

/// Holds the state in memory. A clone is what a backup would be.
#[derive(Clone, Debug, Default)]
pub struct Memory(Saved);

impl Store for Memory {
    fn saved(&self) -> Saved {
        self.0.clone()
    }

    fn commit(&mut self, changes: &[Change]) -> std::io::Result<()> {
        changes.iter().for_each(|change| self.0.apply(change));
        Ok(())
    }

    fn blocks(&self) -> bool {
        false
    }
}
