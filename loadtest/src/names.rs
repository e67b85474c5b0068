//! What the users, devices and groups of a run are called.

use client::Target;
use proto::{ConversationId, DeviceId, IdError, UserId};

use crate::circle::{Circle, Room};

/// What a device of the load is called, and a user's second one.
const DEVICE: &str = "load";
const TWIN: &str = "load-2";
/// The founder's request key for its group; it makes one only.
pub(crate) const GROUP_KEY: &str = "group";

/// The names around one device.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) peer: UserId,
    pub(crate) group: Option<ConversationId>,
    /// The other members, where this device makes its group.
    pub(crate) founds: Option<Vec<UserId>>,
}

impl Names {
    /// Those of the device of this number in a run.
    pub(crate) fn new(run: &str, circle: &Circle, number: u64) -> Result<Self, IdError> {
        let user = |number: u64| UserId::new(&format!("load-{run}-{number}"));
        let founder = circle.founder(number);
        let group = |founder| ConversationId::group(&user(founder)?, &DeviceId::new(DEVICE)?, GROUP_KEY);
        let members = || {
            let all = circle.audience(number, Room::Group).filter(|device| *device != number);
            all.filter(|device| !circle.is_twin(*device)).map(user).collect::<Result<_, _>>()
        };
        Ok(Self {
            user: user(circle.user(number))?,
            device: DeviceId::new(if circle.is_twin(number) { TWIN } else { DEVICE })?,
            peer: user(circle.peer(number))?,
            group: founder.map(group).transpose()?,
            founds: founder.filter(|founder| *founder == number).map(|_| members()).transpose()?,
        })
    }

    /// Where messages to a conversation go.
    pub(crate) fn target(&self, room: Room) -> Target {
        match (room, self.group) {
            (Room::Group, Some(group)) => Target::Group(group),
            _ => Target::User(self.peer.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_one_founder_and_every_user_once() {
        let circle = Circle { group: 6, twins: true };
        let names: Vec<Names> = (0..6).map(|number| Names::new("r", &circle, number).unwrap()).collect();
        let founders: Vec<&Vec<UserId>> = names.iter().filter_map(|names| names.founds.as_ref()).collect();
        let others: Vec<&str> = founders[0].iter().map(UserId::as_str).collect();
        assert_eq!((founders.len(), others), (1, vec!["load-r-1", "load-r-2", "load-r-3"]));
        assert!(names.iter().all(|of| of.group == names[0].group && of.group.is_some()));
        assert_eq!((names[4].user.as_str(), names[4].device.as_str()), ("load-r-2", TWIN));
        assert_eq!((names[5].peer.as_str(), names[0].device.as_str()), ("load-r-2", DEVICE));
    }

    #[test]
    fn a_pair_has_no_group() {
        let names = Names::new("r", &Circle::default(), 3).unwrap();
        assert_eq!((names.user.as_str(), names.peer.as_str()), ("load-r-3", "load-r-2"));
        assert!(names.group.is_none() && names.founds.is_none());
    }
}
