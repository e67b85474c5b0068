//! Entries as people and as programs read them. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::{ConversationId, v1};
use serde_json::{Map, Value, json};
use v1::entry::Event;

use super::screen::clean;

/// What an entry says, without when, where and who; none where there is nothing to say to a person.
pub(super) fn text(entry: &v1::Entry) -> Option<String> {
    let names = |users: &[String]| users.iter().map(|user| clean(user)).collect::<Vec<_>>().join(", ");
    Some(match entry.event.as_ref()? {
        Event::Message(message) => body(message),
        Event::GroupCreated(created) => {
            let members: Vec<String> = created.members.iter().map(|member| member.user.clone()).collect();
            format!("made the group {} with {}", clean(&created.name), names(&members))
        }
        Event::MembersAdded(added) => format!("added {}", names(&added.users)),
        Event::MembersRemoved(removed) => format!("removed {}", names(&removed.users)),
        Event::MemberLeft(left) if left.new_owner.is_empty() => "left".to_owned(),
        Event::MemberLeft(left) => format!("left; {} owns the group now", clean(&left.new_owner)),
        Event::GroupRenamed(renamed) => format!("renamed the group to {}", clean(&renamed.name)),
        Event::GroupDissolved(_) => "dissolved the group".to_owned(),
        Event::Blocked(_) => format!("blocked {}", clean(&entry.peer)),
        Event::Unblocked(_) => format!("unblocked {}", clean(&entry.peer)),
        Event::Rejected(rejected) => reason(&rejected.name),
    })
}

/// Whether it is something that was said, rather than something that was done.
pub(super) fn is_said(entry: &v1::Entry) -> bool {
    matches!(entry.event, Some(Event::Message(_)))
}

/// A code's name in words.
pub(super) fn reason(name: &str) -> String {
    match name {
        "BLOCKED" => "one of you blocks the other".to_owned(),
        "NOT_MEMBER" => "you are not a member".to_owned(),
        "NOT_ALLOWED" => "only the owner may do that".to_owned(),
        "NO_SUCH_CONVERSATION" => "there is no such group".to_owned(),
        "DISSOLVED" => "the group was dissolved".to_owned(),
        "GROUP_FULL" => "the group would have too many members".to_owned(),
        "ALREADY_EXISTS" => "the group exists already".to_owned(),
        "TOO_LARGE" => "it is too large".to_owned(),
        other => clean(&other.to_lowercase().replace('_', " ")),
    }
}

fn body(message: &v1::Message) -> String {
    match std::str::from_utf8(&message.data) {
        Ok(text) if message.kind == 1 => clean(text),
        _ => format!("<{} bytes of kind {}>", message.data.len(), message.kind),
    }
}

/// An entry's fields for a program, as docs/CHAT.md lists them.
pub(super) fn fields(entry: &v1::Entry) -> Map<String, Value> {
    let conversation = ConversationId::from_slice(&entry.conversation).map(|id| id.to_string());
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("seq", json!(entry.seq));
    put("conversation", json!(conversation.unwrap_or_default()));
    put("no", json!(entry.no));
    put("time_us", json!(entry.time_us));
    put("sender", json!(entry.sender));
    put("device", json!(entry.device));
    put("epoch", json!(entry.epoch));
    put("n", json!(entry.n));
    if !entry.peer.is_empty() {
        put("peer", json!(entry.peer));
    }
    let (kind, of_kind) = event(entry);
    put("type", json!(kind));
    if let Value::Object(of_kind) = of_kind {
        fields.extend(of_kind);
    }
    fields
}

/// A member of a group for a program.
pub(super) fn member(member: &v1::Member) -> Value {
    let role = match member.role() {
        v1::Role::Owner => "owner",
        v1::Role::Member => "member",
        v1::Role::None => "none",
    };
    json!({ "user": member.user, "role": role, "since": member.since })
}

fn event(entry: &v1::Entry) -> (&'static str, Value) {
    match &entry.event {
        Some(Event::Message(m)) => match std::str::from_utf8(&m.data) {
            Ok(text) => ("message", json!({ "kind": m.kind, "text": text })),
            Err(_) => ("message", json!({ "kind": m.kind, "data": STANDARD.encode(&m.data) })),
        },
        Some(Event::GroupCreated(c)) => {
            let members: Vec<Value> = c.members.iter().map(member).collect();
            ("group_created", json!({ "name": c.name, "members": members }))
        }
        Some(Event::MembersAdded(a)) => {
            ("members_added", json!({ "users": a.users, "name": a.name, "members": a.members }))
        }
        Some(Event::MembersRemoved(r)) => ("members_removed", json!({ "users": r.users })),
        Some(Event::MemberLeft(l)) => ("member_left", json!({ "user": l.user, "new_owner": l.new_owner })),
        Some(Event::GroupRenamed(r)) => ("group_renamed", json!({ "name": r.name })),
        Some(Event::GroupDissolved(_)) => ("group_dissolved", Value::Null),
        Some(Event::Blocked(_)) => ("blocked", Value::Null),
        Some(Event::Unblocked(_)) => ("unblocked", Value::Null),
        Some(Event::Rejected(r)) => {
            ("rejected", json!({ "code": r.code, "name": r.name, "detail": r.detail }))
        }
        None => ("unknown", Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u32, data: &'static [u8]) -> v1::Entry {
        let event = Event::Message(v1::Message { kind, data: data.into() });
        v1::Entry { seq: 7, no: 3, sender: "bob".into(), event: Some(event), ..v1::Entry::default() }
    }

    #[test]
    fn a_body_that_is_not_text_is_base64_for_programs_and_counted_for_people() {
        let hello = message(1, b"hello");
        assert_eq!(fields(&hello)["text"], "hello");
        assert_eq!(text(&hello).unwrap(), "hello");
        let binary = message(1_000, &[0xff, 0xfe]);
        assert_eq!((&fields(&binary)["data"], fields(&binary).get("text")), (&json!("//4="), None));
        assert_eq!(text(&binary).unwrap(), "<2 bytes of kind 1000>");
    }

    #[test]
    fn what_others_chose_cannot_steer_a_terminal() {
        let evil = "a\u{1b}[2J\u{9b}1m\u{7}\u{202e}b".to_owned();
        let events = [
            Event::Message(v1::Message { kind: 1, data: evil.clone().into() }),
            Event::GroupRenamed(v1::GroupRenamed { name: evil.clone() }),
            Event::MembersAdded(v1::MembersAdded { users: vec![evil.clone()], ..Default::default() }),
            Event::MemberLeft(v1::MemberLeft { user: evil.clone(), new_owner: evil.clone() }),
            Event::Rejected(v1::Rejected { name: evil.clone(), ..Default::default() }),
            Event::Blocked(v1::Blocked {}),
        ];
        for event in events {
            let entry = v1::Entry { peer: evil.clone(), event: Some(event), ..v1::Entry::default() };
            let text = text(&entry).unwrap();
            assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        }
    }
}
