//! Which links of a partition a reactor has, in parts: what an owner compares its sessions with.

use proto::partition::Partition;
use proto::v1;

use crate::session::Rules;
use crate::table::Table;

/// Links of one part.
const LINKS_MAX: usize = 512;
/// Slots that are looked at for one part: bounds what a part costs the reactor's turn.
const SLOTS_MAX: u32 = 16_384;

/// A part of a reactor's roster.
#[derive(Debug)]
pub(crate) struct Part {
    /// The incarnation that the links belong to.
    pub(crate) incarnation: u64,
    /// Every link with a lower number that is not on the roster is gone. As of this part; that of the
    /// first one holds for the whole.
    pub(crate) bound: u64,
    pub(crate) links: Vec<v1::RosterLink>,
    /// The slot to go on from; none after the last part.
    pub(crate) next: Option<u32>,
}

/// The part that begins at slot `from`.
pub(crate) fn part(table: &Table, rules: &Rules, partition: Partition, from: u32) -> Part {
    let slots = u32::try_from(table.slots()).unwrap_or(u32::MAX);
    let end = from.saturating_add(SLOTS_MAX).min(slots);
    let mut part =
        Part { incarnation: rules.incarnation, bound: table.bound(), links: Vec::new(), next: None };
    for slot in from..end {
        if part.links.len() >= LINKS_MAX {
            part.next = Some(slot);
            return part;
        }
        let link = table.get(slot).filter(|link| link.session.partition() == Some(partition));
        part.links.extend(link.and_then(|link| link.session.roster(rules)));
    }
    part.next = (end < slots).then_some(end);
    part
}
