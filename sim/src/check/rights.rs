//! Who may do what: what was sent is judged once more by a model of the rules, which knows nothing of the stage.

use std::collections::{BTreeMap, BTreeSet};

use proto::limits::GROUP_MEMBERS_MAX;
use proto::{Code, ConversationId, DeviceId, UserId, v1};
use v1::entry::Event;
use v1::send::{Body, To};

use super::{Timelines, View};

/// What stands is what each send asked for, and what was turned down had to be, in the order of server time.
pub(super) fn are_kept(views: &[View], timelines: &Timelines) -> Result<(), String> {
    let views = super::by_device(views);
    let mut judged: BTreeMap<(ConversationId, u64), &v1::Entry> = BTreeMap::new();
    for entry in timelines.values().flatten() {
        judged.insert((super::id_of(entry)?, entry.time_us), entry);
    }
    let mut all: BTreeMap<ConversationId, Conversation> = BTreeMap::new();
    for ((id, _), entry) in judged {
        let view = super::sender(&views, entry)?;
        let number = (Some(id), entry.epoch, entry.n);
        let sent = view.sent.get(&number).ok_or(format!("{number:?} of {} was not sent", view.device))?;
        let due = all.entry(id).or_default().judge(id, view, sent, entry.no);
        let stands = match entry.event.clone().ok_or("an entry says nothing")? {
            Event::Rejected(rejected) => Err(rejected.code),
            event => Ok(event),
        };
        if stands != due.clone().map_err(Code::number) {
            let (device, body) = (&view.device, &sent.body);
            return Err(format!("{id}: {device} sent {body:?}; {stands:?} stands where {due:?} was due"));
        }
    }
    Ok(())
}

/// What decides about the next send to a conversation.
#[derive(Default)]
struct Conversation {
    group: Option<Group>,
    blocked_by: BTreeSet<String>,
}

/// A group that was made. Without members it is dissolved.
struct Group {
    name: String,
    owner: String,
    /// Each with the number of the entry that made them a member.
    members: BTreeMap<String, u64>,
}

impl Conversation {
    /// What is to stand for this send, under the number `no`.
    fn judge(&mut self, id: ConversationId, view: &View, sent: &v1::Send, no: u64) -> Result<Event, Code> {
        let (Some(to), Some(body)) = (&sent.to, &sent.body) else { return Err(Code::InvalidArgument) };
        match to {
            To::User(peer) => self.told(&view.user, peer, body),
            To::Group(_) => match body {
                Body::CreateGroup(create) => self.made(id, view, create, no),
                body => self.group.as_mut().ok_or(Code::NoSuchConversation)?.asked(&view.user, body, no),
            },
        }
    }

    fn told(&mut self, me: &str, peer: &str, body: &Body) -> Result<Event, Code> {
        match body {
            Body::Message(_) if !self.blocked_by.is_empty() => Err(Code::Blocked),
            Body::Message(message) => Ok(Event::Message(message.clone())),
            Body::Block(_) | Body::Unblock(_) if me == peer => Err(Code::InvalidArgument),
            Body::Block(_) => {
                self.blocked_by.insert(me.to_owned());
                Ok(Event::Blocked(v1::Blocked {}))
            }
            Body::Unblock(_) => {
                self.blocked_by.remove(me);
                Ok(Event::Unblocked(v1::Unblocked {}))
            }
            _ => Err(Code::InvalidArgument),
        }
    }

    fn made(
        &mut self,
        id: ConversationId,
        view: &View,
        create: &v1::CreateGroup,
        no: u64,
    ) -> Result<Event, Code> {
        let wrong = |_| Code::InvalidArgument;
        let owner = UserId::new(&view.user).map_err(wrong)?;
        let device = DeviceId::new(&view.device).map_err(wrong)?;
        if ConversationId::group(&owner, &device, &create.request_key).map_err(wrong)? != id {
            return Err(Code::InvalidArgument);
        }
        if let Some(group) = &self.group {
            return Err(if group.members.is_empty() { Code::Dissolved } else { Code::AlreadyExists });
        }
        let users = create.members.iter().chain([&view.user]);
        let members: BTreeMap<String, u64> = users.map(|user| (user.clone(), no)).collect();
        if members.len() > GROUP_MEMBERS_MAX {
            return Err(Code::GroupFull);
        }
        let role = |user: &String| if *user == view.user { v1::Role::Owner } else { v1::Role::Member };
        let member = |user: &String| v1::Member { user: user.clone(), role: role(user).into(), since: no };
        let (name, listed) = (create.name.clone(), members.keys().map(member).collect());
        self.group = Some(Group { name: name.clone(), owner: view.user.clone(), members });
        Ok(Event::GroupCreated(v1::GroupCreated { name, members: listed }))
    }
}

impl Group {
    /// Those of the users who are members, or those who are not; each once, in their order.
    fn named(&self, users: &[String], are_members: bool) -> Vec<String> {
        let users: BTreeSet<&String> = users.iter().collect();
        users.into_iter().filter(|user| self.members.contains_key(*user) == are_members).cloned().collect()
    }

    fn asked(&mut self, me: &str, body: &Body, no: u64) -> Result<Event, Code> {
        if self.members.is_empty() {
            return Err(Code::Dissolved);
        }
        if !self.members.contains_key(me) {
            return Err(Code::NotMember);
        }
        let is_owner = self.owner == me;
        match body {
            Body::Message(message) => Ok(Event::Message(message.clone())),
            Body::AddMembers(add) => {
                let users = self.named(&add.users, false);
                if users.is_empty() {
                    return Err(Code::InvalidArgument);
                }
                if self.members.len() + users.len() > GROUP_MEMBERS_MAX {
                    return Err(Code::GroupFull);
                }
                self.members.extend(users.iter().map(|user| (user.clone(), no)));
                let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
                Ok(Event::MembersAdded(v1::MembersAdded { users, name: self.name.clone(), members }))
            }
            Body::LeaveGroup(_) => {
                self.members.remove(me);
                let mut new_owner = String::new();
                if is_owner && let Some((heir, _)) = self.members.iter().min_by_key(|(_, since)| **since) {
                    new_owner.clone_from(heir);
                    self.owner.clone_from(heir);
                }
                Ok(Event::MemberLeft(v1::MemberLeft { user: me.to_owned(), new_owner }))
            }
            Body::RemoveMembers(_) | Body::RenameGroup(_) | Body::DissolveGroup(_) if !is_owner => {
                Err(Code::NotAllowed)
            }
            Body::RemoveMembers(remove) => {
                let users = self.named(&remove.users, true);
                if users.is_empty() || users.iter().any(|user| user == me) {
                    return Err(Code::InvalidArgument);
                }
                self.members.retain(|member, _| !users.contains(member));
                Ok(Event::MembersRemoved(v1::MembersRemoved { users }))
            }
            Body::RenameGroup(rename) => {
                self.name.clone_from(&rename.name);
                Ok(Event::GroupRenamed(v1::GroupRenamed { name: rename.name.clone() }))
            }
            Body::DissolveGroup(_) => {
                self.members.clear();
                Ok(Event::GroupDissolved(v1::GroupDissolved {}))
            }
            _ => Err(Code::InvalidArgument),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who sends, what, and what is to stand: an entry for all, or a code.
    type Turn = (&'static str, Body, Result<Event, Code>);

    fn text() -> (Body, Event) {
        let message = v1::Message { kind: 1, data: "text".into() };
        (Body::Message(message.clone()), Event::Message(message))
    }

    fn names(users: &[&str]) -> Vec<String> {
        users.iter().map(ToString::to_string).collect()
    }

    fn create() -> Body {
        let (request_key, name) = ("key".into(), "name".into());
        Body::CreateGroup(v1::CreateGroup { request_key, name, members: names(&["bob"]) })
    }

    fn rename() -> Body {
        Body::RenameGroup(v1::RenameGroup { name: "new".into() })
    }

    /// A group from its first to its last day.
    fn life() -> Vec<Turn> {
        let (post, posted) = text();
        let member =
            |user: &str, role: v1::Role| v1::Member { user: user.into(), role: role.into(), since: 1 };
        let members = vec![member("ann", v1::Role::Owner), member("bob", v1::Role::Member)];
        let created = Event::GroupCreated(v1::GroupCreated { name: "name".into(), members });
        let add = Body::AddMembers(v1::AddMembers { users: names(&["cleo", "bob"]) });
        let (users, name) = (names(&["cleo"]), "name".into());
        let added = Event::MembersAdded(v1::MembersAdded { users, name, members: 3 });
        let remove = Body::RemoveMembers(v1::RemoveMembers { users: names(&["bob"]) });
        let removed = Event::MembersRemoved(v1::MembersRemoved { users: names(&["bob"]) });
        let left = Event::MemberLeft(v1::MemberLeft { user: "ann".into(), new_owner: "cleo".into() });
        let renamed = Event::GroupRenamed(v1::GroupRenamed { name: "new".into() });
        let dissolve = Body::DissolveGroup(v1::DissolveGroup {});
        let many =
            Body::AddMembers(v1::AddMembers { users: (0..500).map(|n| format!("user-{n}")).collect() });
        vec![
            ("bob", post.clone(), Err(Code::NoSuchConversation)),
            ("ann", create(), Ok(created)),
            ("ann", create(), Err(Code::AlreadyExists)),
            ("bob", post.clone(), Ok(posted.clone())),
            ("bob", rename(), Err(Code::NotAllowed)),
            ("cleo", post.clone(), Err(Code::NotMember)),
            ("bob", add.clone(), Ok(added)),
            ("bob", add, Err(Code::InvalidArgument)),
            ("bob", many, Err(Code::GroupFull)),
            ("cleo", post.clone(), Ok(posted)),
            ("ann", remove.clone(), Ok(removed)),
            ("ann", remove, Err(Code::InvalidArgument)),
            ("bob", post.clone(), Err(Code::NotMember)),
            ("ann", Body::LeaveGroup(v1::LeaveGroup {}), Ok(left)),
            ("ann", rename(), Err(Code::NotMember)),
            ("cleo", rename(), Ok(renamed)),
            ("cleo", dissolve.clone(), Ok(Event::GroupDissolved(v1::GroupDissolved {}))),
            ("cleo", post, Err(Code::Dissolved)),
            ("ann", create(), Err(Code::Dissolved)),
        ]
    }

    /// Whether this is how it had to be.
    fn agrees(turns: &[Turn]) -> bool {
        let (ann, device) = (UserId::new("ann").unwrap(), DeviceId::new("ann-1").unwrap());
        let id = ConversationId::group(&ann, &device, "key").unwrap();
        let mut views: BTreeMap<&str, View> = BTreeMap::new();
        let (mut timelines, mut no) = (Timelines::new(), 0);
        for (n, (user, body, stands)) in (1..).zip(turns) {
            let view = views.entry(user).or_default();
            (view.user, view.device) = ((*user).into(), format!("{user}-1"));
            let to = Some(To::Group(id.to_bytes()));
            view.sent.insert((Some(id), 1, n), v1::Send { to, epoch: 1, n, body: Some(body.clone()) });
            no += u64::from(stands.is_ok());
            let rejected = |code: &Code| {
                Event::Rejected(v1::Rejected { code: code.number(), ..v1::Rejected::default() })
            };
            let entry = v1::Entry {
                conversation: id.to_bytes(),
                no: if stands.is_ok() { no } else { 0 },
                time_us: n,
                sender: view.user.clone(),
                device: view.device.clone(),
                epoch: 1,
                n,
                event: Some(stands.clone().unwrap_or_else(|code| rejected(&code))),
                ..v1::Entry::default()
            };
            timelines.entry(view.user.clone()).or_default().push(entry);
        }
        are_kept(&views.into_values().collect::<Vec<_>>(), &timelines).is_ok()
    }

    #[test]
    fn a_group_lives_by_the_rules() {
        assert!(agrees(&life()));
    }

    #[test]
    fn whatever_stands_otherwise_is_seen() {
        for spoilt in 0..life().len() {
            let mut turns = life();
            let (_, _, stands) = &mut turns[spoilt];
            *stands = if stands.is_ok() { Err(Code::NotAllowed) } else { Ok(text().1) };
            assert!(!agrees(&turns), "{:?}", turns[spoilt]);
            let mut turns = life();
            let (_, _, stands) = &mut turns[spoilt];
            *stands = if stands.is_ok() { Ok(Event::Blocked(v1::Blocked {})) } else { Err(Code::Blocked) };
            assert!(!agrees(&turns), "{:?}", turns[spoilt]);
        }
    }
}
