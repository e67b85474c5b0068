//! Whether a send is allowed, and what exactly it asks for. Changes nothing.
//!
//! | send | turned down with | when |
//! |---|---|---|
//! | any | INVALID_ARGUMENT | no receiver or body, an impossible id, a conversation other than the receiver's, a command that does not go to this kind of receiver |
//! | any but Void | SKIPPED | an operator had the record skipped |
//! | message | TOO_LARGE | data over `BODY_BYTES_MAX` |
//! | message to a user | BLOCKED | one of the two blocks the other |
//! | block, unblock | INVALID_ARGUMENT | of oneself |
//! | any to a group but create | NO_SUCH_CONVERSATION, DISSOLVED | there is no such group, or no longer |
//! | any to a group but create | NOT_MEMBER | the sender is not a member |
//! | create, rename | TOO_LARGE | a name over `GROUP_NAME_BYTES_MAX` |
//! | create | INVALID_ARGUMENT | an id that is not made of sender, device and request key |
//! | create | ALREADY_EXISTS, DISSOLVED | there is such a group, or there was |
//! | create, add | GROUP_FULL | more members than the settings allow |
//! | add | INVALID_ARGUMENT | nobody named, or only members |
//! | remove, rename, dissolve | NOT_ALLOWED | the sender is not the owner |
//! | remove | INVALID_ARGUMENT | the owner named, or no member named |
//!
//! A user named twice is named once.

use std::collections::BTreeSet;

use proto::limits::{BODY_BYTES_MAX, GROUP_NAME_BYTES_MAX};
use proto::{Code, ConversationId, Fault, UserId, v1};
use storage::tables::Sender;
use v1::ConversationKind as Kind;
use v1::send::{Body, To};

use super::state::Conversation;

/// A send that is addressed and numbered well enough to be judged.
pub(super) struct Submission<'a> {
    pub(super) id: ConversationId,
    pub(super) sender: Sender,
    pub(super) send: &'a v1::Send,
}

impl<'a> Submission<'a> {
    /// Reads a record; none where it names no conversation or sender that could exist, so that nobody
    /// could be told of it.
    pub(super) fn read(submission: &'a v1::Submission) -> Option<Self> {
        let id = ConversationId::from_slice(&submission.conversation).ok()?;
        let user = submission.user.parse().ok()?;
        let device = submission.device.parse().ok()?;
        Some(Self { id, sender: Sender { user, device }, send: submission.send.as_ref()? })
    }

    /// The user that it is sent to, as the device wrote it.
    pub(super) fn peer(&self) -> &str {
        match &self.send.to {
            Some(To::User(user)) => user,
            _ => "",
        }
    }
}

/// What an allowed send asks for. Users in lists are in their order, each once.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Void,
    /// A message to a user.
    Tell {
        peer: UserId,
        message: v1::Message,
    },
    Block {
        peer: UserId,
    },
    Unblock {
        peer: UserId,
    },
    /// A message to a group.
    Post {
        message: v1::Message,
    },
    Change(Change),
}

/// A change of a group, which its members are told.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// The members without the owner.
    Create {
        name: String,
        members: Vec<UserId>,
    },
    /// None of them is a member.
    Add {
        users: Vec<UserId>,
    },
    /// All of them are members, none the owner.
    Remove {
        users: Vec<UserId>,
    },
    /// The heir owns the group from now on; none where the owner stays or nobody is left.
    Leave {
        heir: Option<UserId>,
    },
    Rename {
        name: String,
    },
    Dissolve,
}

/// Judges a send that is due.
pub(super) fn judge(
    conversation: &Conversation,
    settings: &v1::Settings,
    submission: &Submission<'_>,
    skip: bool,
) -> Result<Command, Fault> {
    let (Some(to), Some(body)) = (&submission.send.to, &submission.send.body) else {
        return invalid("a send has a receiver and a body");
    };
    match (to, body) {
        (_, Body::Void(_)) => Ok(Command::Void),
        _ if skip => Err(Fault::new(Code::Skipped, "an operator had this record skipped")),
        (To::User(peer), body) => to_user(conversation, submission, peer, body),
        (To::Group(id), _) if **id != *submission.id.as_bytes() => invalid("to is another group"),
        (To::Group(_), Body::CreateGroup(create)) => to_new_group(conversation, settings, submission, create),
        (To::Group(_), body) => to_group(conversation, settings, &submission.sender.user, body),
    }
}

fn to_user(
    conversation: &Conversation,
    submission: &Submission<'_>,
    peer: &str,
    body: &Body,
) -> Result<Command, Fault> {
    let (me, peer) = (&submission.sender.user, UserId::new(peer)?);
    // A direct conversation's members prove its id; hashing them again would cost most of the step.
    let known = conversation.kind == Kind::Direct
        && conversation.members().contains(me)
        && conversation.members().contains(&peer)
        && conversation.members().len() == if *me == peer { 1 } else { 2 };
    if !known && ConversationId::direct(me, &peer) != submission.id {
        return invalid("the conversation is not that of the two users");
    }
    match body {
        Body::Message(message) if conversation.blocked_by.is_empty() => {
            Ok(Command::Tell { peer, message: within_limit(message)? })
        }
        Body::Message(_) => Err(Fault::new(Code::Blocked, "one of the two users blocks the other")),
        Body::Block(_) | Body::Unblock(_) if *me == peer => invalid("nobody blocks themselves"),
        Body::Block(_) => Ok(Command::Block { peer }),
        Body::Unblock(_) => Ok(Command::Unblock { peer }),
        _ => invalid("a group command goes to a group"),
    }
}

fn to_new_group(
    conversation: &Conversation,
    settings: &v1::Settings,
    submission: &Submission<'_>,
    create: &v1::CreateGroup,
) -> Result<Command, Fault> {
    let owner = &submission.sender.user;
    if ConversationId::group(owner, &submission.sender.device, &create.request_key)? != submission.id {
        return invalid("the group's id is not made of user, device and request_key");
    }
    match conversation.kind {
        Kind::Unknown => {}
        Kind::Dissolved => return Err(Fault::new(Code::Dissolved, "the group was dissolved")),
        Kind::Direct | Kind::Group => return Err(Fault::new(Code::AlreadyExists, "the group exists")),
    }
    let name = name(&create.name)?;
    let mut members = users(&create.members)?;
    members.remove(owner);
    room_for(1 + members.len(), settings)?;
    Ok(Command::Change(Change::Create { name, members: members.into_iter().collect() }))
}

fn to_group(
    group: &Conversation,
    settings: &v1::Settings,
    me: &UserId,
    body: &Body,
) -> Result<Command, Fault> {
    match group.kind {
        Kind::Group => {}
        Kind::Dissolved => return Err(Fault::new(Code::Dissolved, "the group was dissolved")),
        Kind::Unknown | Kind::Direct => return Err(Fault::new(Code::NoSuchConversation, "no such group")),
    }
    if !group.members().contains(me) {
        return Err(Fault::new(Code::NotMember, "the sender is not a member"));
    }
    match body {
        Body::Message(message) => Ok(Command::Post { message: within_limit(message)? }),
        Body::AddMembers(add) => {
            let mut users = users(&add.users)?;
            users.retain(|user| !group.members().contains(user));
            if users.is_empty() {
                return invalid("nobody to add who is not a member");
            }
            room_for(group.members().len() + users.len(), settings)?;
            Ok(Command::Change(Change::Add { users: users.into_iter().collect() }))
        }
        Body::LeaveGroup(_) => Ok(Command::Change(Change::Leave { heir: heir(group, me) })),
        Body::RemoveMembers(remove) => {
            must_own(group, me)?;
            let mut users = users(&remove.users)?;
            users.retain(|user| group.members().contains(user));
            if users.is_empty() || users.contains(me) {
                return invalid("nobody to remove, or the owner, who leaves instead");
            }
            Ok(Command::Change(Change::Remove { users: users.into_iter().collect() }))
        }
        Body::RenameGroup(rename) => {
            must_own(group, me)?;
            Ok(Command::Change(Change::Rename { name: name(&rename.name)? }))
        }
        Body::DissolveGroup(_) => must_own(group, me).map(|()| Command::Change(Change::Dissolve)),
        _ => invalid("this does not go to a group"),
    }
}

/// Who owns the group after `me` has left it: the longest-standing of the others, if `me` owns it now.
fn heir(group: &Conversation, me: &UserId) -> Option<UserId> {
    if group.owner.as_ref() != Some(me) {
        return None;
    }
    let others = group.members().iter().filter(|(user, _)| *user != me);
    others.min_by_key(|(user, member)| (member.since, *user)).map(|(user, _)| user.clone())
}

fn invalid<T>(detail: &str) -> Result<T, Fault> {
    Err(Fault::new(Code::InvalidArgument, detail))
}

fn must_own(group: &Conversation, me: &UserId) -> Result<(), Fault> {
    if group.owner.as_ref() == Some(me) {
        return Ok(());
    }
    Err(Fault::new(Code::NotAllowed, "only the owner may do this"))
}

fn within_limit(message: &v1::Message) -> Result<v1::Message, Fault> {
    let length = message.data.len();
    if length > BODY_BYTES_MAX {
        return Err(Fault::new(Code::TooLarge, format!("{length} bytes of data, at most {BODY_BYTES_MAX}")));
    }
    Ok(message.clone())
}

fn name(name: &str) -> Result<String, Fault> {
    let length = name.len();
    if length > GROUP_NAME_BYTES_MAX {
        return Err(Fault::new(
            Code::TooLarge,
            format!("a name of {length} bytes, at most {GROUP_NAME_BYTES_MAX}"),
        ));
    }
    Ok(name.into())
}

fn users(names: &[String]) -> Result<BTreeSet<UserId>, Fault> {
    names.iter().map(|name| UserId::new(name).map_err(Fault::from)).collect()
}

fn room_for(members: usize, settings: &v1::Settings) -> Result<(), Fault> {
    let max = settings.group_members_max;
    if members > max as usize {
        return Err(Fault::new(Code::GroupFull, format!("{members} members, at most {max}")));
    }
    Ok(())
}
