//! What a run is made of: the seed, and what is left out of its schedule. The whole of a failure's address.

use std::fmt;

use crate::{Fault, Mutation};

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything else.
    pub seed: u64,
    /// The rule that is broken on purpose, if any.
    pub mutation: Option<Mutation>,
    /// After so many steps the healing begins, if the seed's own schedule is longer.
    pub steps: Option<usize>,
    /// The kinds of faults that do not happen.
    pub off: Vec<Fault>,
}

impl Plan {
    /// A seed's whole schedule.
    #[must_use]
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        Self { seed, mutation, steps: None, off: Vec::new() }
    }
}

/// The command that replays it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo xtask sim --seeds 1 --seed {}", self.seed)?;
        if let Some(mutation) = self.mutation {
            write!(f, " --mutation {mutation:?}")?;
        }
        if let Some(steps) = self.steps {
            write!(f, " --steps {steps}")?;
        }
        if !self.off.is_empty() {
            let names: Vec<_> = self.off.iter().map(ToString::to_string).collect();
            write!(f, " --without {}", names.join(","))?;
        }
        Ok(())
    }
}
