//! What the apps on the devices say and do.

use client::Target;
use proto::{ConversationId, UserId, v1};
use rand::RngExt;
use v1::send::Body;

use crate::oracle::Violation;
use crate::world::{World, pick};

/// Users named at random in one command, at most.
const NAMED_MAX: usize = 40;

impl World {
    /// An app says or does something. Refused by the core when its outbox is full: so be it.
    pub(crate) fn say(&mut self) -> Result<(), Violation> {
        let count = self.count();
        let i = self.rng.random_range(0..self.devices.len());
        let other = pick(&mut self.rng, &self.users).clone();
        let some = self.some_users();
        let group = match self.groups.is_empty() {
            true => ConversationId::direct(&other, &other),
            false => *pick(&mut self.rng, &self.groups),
        };
        let core = self.devices.get_mut(i).ok_or("no device")?.core();
        let _ = match self.rng.random_range(0..100) {
            0..45 => core.send(Target::User(other), text(count)),
            45..75 => core.send(Target::Group(group), text(count)),
            75..83 => {
                let created = core.create_group(&format!("key-{}", count % 16), "name", &some);
                created.map(|(id, local)| {
                    self.groups.push(id);
                    local
                })
            }
            what @ 83..94 => core.send(Target::Group(group), group_command(what, &some)),
            94..96 => core.send(Target::User(other), Body::Block(v1::Block {})),
            96..99 => core.send(Target::User(other), Body::Unblock(v1::Unblock {})),
            _ => {
                // More members than a list may have: refused for good, so a Void follows.
                let users = (0..600).map(|n| format!("stranger-{n}")).collect();
                core.send(Target::Group(group), Body::AddMembers(v1::AddMembers { users }))
            }
        };
        Ok(())
    }

    fn some_users(&mut self) -> Vec<UserId> {
        let share = (NAMED_MAX as f64 / self.users.len() as f64).min(0.5);
        self.users.iter().filter(|_| self.rng.random_bool(share)).cloned().collect()
    }
}

fn text(count: u64) -> Body {
    Body::Message(v1::Message { kind: 1, data: format!("text {count}").into_bytes().into() })
}

fn group_command(what: u32, some: &[UserId]) -> Body {
    let users = some.iter().map(ToString::to_string).collect();
    match what {
        83..86 => Body::AddMembers(v1::AddMembers { users }),
        86..89 => Body::RemoveMembers(v1::RemoveMembers { users }),
        89..91 => Body::LeaveGroup(v1::LeaveGroup {}),
        91..93 => Body::RenameGroup(v1::RenameGroup { name: "new".into() }),
        _ => Body::DissolveGroup(v1::DissolveGroup {}),
    }
}
