//! How large a cluster a seed has, and who lives in it.

use conn::session::Verified;
use proto::{DeviceId, UserId};
use rand::RngExt;
use rand::rngs::SmallRng;
use storage::log::Partitions;

use crate::device::Device;

/// One seed in so many has a crowd.
const CROWD_IN: u32 = 50;

/// The sizes.
pub(crate) struct Population {
    pub(crate) users: usize,
    pub(crate) devices: usize,
    pub(crate) nodes: u64,
    pub(crate) logics: usize,
    pub(crate) partitions: Partitions,
    is_crowd: bool,
}

impl Population {
    /// 2–5 conn nodes, 2–3 logic nodes, 4–12 devices; now and then 100–500 of them.
    pub(crate) fn draw(rng: &mut SmallRng) -> Self {
        let is_crowd = rng.random_ratio(1, CROWD_IN);
        let devices: usize = if is_crowd { rng.random_range(100..=500) } else { rng.random_range(4..=12) };
        let fewest = devices.div_ceil(3).max(3);
        Self {
            users: rng.random_range(fewest..=devices.min(fewest + fewest)),
            devices,
            nodes: rng.random_range(2..=5),
            logics: rng.random_range(2..=3),
            partitions: Partitions { messages: rng.random_range(1..=3), timelines: rng.random_range(1..=3) },
            is_crowd,
        }
    }

    /// How long a schedule may be.
    pub(crate) fn steps(&self) -> &'static [usize] {
        if self.is_crowd { &[100, 200] } else { &[300, 1_000, 3_000] }
    }

    /// How much is said in a step in which apps speak.
    pub(crate) fn sends_a_turn(&self) -> usize {
        if self.is_crowd { 12 } else { 1 }
    }

    pub(crate) fn users(&self) -> Result<Vec<UserId>, String> {
        (0..self.users).map(|i| UserId::new(&format!("user-{i}")).map_err(|e| e.to_string())).collect()
    }

    /// Every user has one; the others go to anyone.
    pub(crate) fn devices(&self, users: &[UserId], rng: &mut SmallRng) -> Result<Vec<Device>, String> {
        let device = |index: usize| {
            let user = users.get(index % users.len()).ok_or("no user")?.clone();
            let device = DeviceId::new(&format!("{user}-{}", index / users.len()));
            let who = Verified { user, device: device.map_err(|e| e.to_string())? };
            Ok(Device::new(index, who, rng))
        };
        (0..self.devices).map(device).collect()
    }
}
