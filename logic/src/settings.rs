//! What stages judge by: the settings in force, their defaults and bounds, and the behaviour level.
//! Settings come from the log alone, never from a node's configuration.

use proto::limits::{DEVICES_PER_USER_MAX, GROUP_MEMBERS_MAX};
use proto::v1;

/// The behaviour level of this build: a state of another level is refused.
pub const LEVEL: u32 = 1;

/// The settings before the first `Settings` record: version 0.
#[must_use]
pub fn defaults() -> v1::Settings {
    v1::Settings {
        version: 0,
        group_members_max: bounded(0, GROUP_MEMBERS_MAX),
        device_policy: v1::DevicePolicy::All.into(),
        oldest_stays: false,
        devices_per_user_max: bounded(0, DEVICES_PER_USER_MAX),
    }
}

/// Puts newer settings into force; older ones and those of the same version change nothing. A figure of 0
/// is the default, a figure above the limit is the limit, an unknown policy is ALL.
pub(crate) fn apply(settings: &mut v1::Settings, newer: &v1::Settings) {
    if newer.version <= settings.version {
        return;
    }
    *settings = v1::Settings {
        version: newer.version,
        group_members_max: bounded(newer.group_members_max, GROUP_MEMBERS_MAX),
        device_policy: newer.device_policy().into(),
        oldest_stays: newer.oldest_stays,
        devices_per_user_max: bounded(newer.devices_per_user_max, DEVICES_PER_USER_MAX),
    };
}

/// The settings of a checkpoint, if its behaviour level is the one of this build.
pub(crate) fn restored(level: u32, settings: Option<v1::Settings>) -> Result<v1::Settings, StateError> {
    if level != LEVEL {
        return Err(StateError::Level { found: level });
    }
    Ok(settings.unwrap_or_else(defaults))
}

fn bounded(figure: u32, max: usize) -> u32 {
    let max = u32::try_from(max).unwrap_or(u32::MAX);
    if figure == 0 { max } else { figure.min(max) }
}

/// A stage's state cannot be taken over: the data is not what this build writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another build wrote it, which behaves differently.
    #[error("the state of this partition has behaviour level {found}, this build knows level {LEVEL}")]
    Level {
        /// The level of the data.
        found: u32,
    },
    /// A row or checkpoint that does not read.
    #[error("{what} does not read: {cause}")]
    Unreadable {
        /// Which row.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The checkpoint counts other messages partitions than there are.
    #[error("the checkpoint knows {found} messages partitions, there are {expected}")]
    Partitions {
        /// In the checkpoint.
        found: usize,
        /// In the layout.
        expected: usize,
    },
}

impl StateError {
    pub(crate) fn unreadable(what: impl Into<String>, cause: &dyn std::fmt::Display) -> Self {
        Self::Unreadable { what: what.into(), cause: cause.to_string() }
    }
}
