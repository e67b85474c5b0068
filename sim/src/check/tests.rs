//! What was shown and stored, as it should be, and spoilt in every way that an oracle has a word for.

use bytes::Bytes;
use proto::{Code, DeviceId, Tick};
use storage::tables::{EntryRow, HistoryRow};
use v1::send::Body;

use super::*;

const USERS: [&str; 2] = ["ann", "bob"];

/// What two users were shown and what the tables hold, until a test spoils it.
struct Fine {
    views: Vec<View>,
    store: Store,
}

impl Fine {
    fn new() -> Self {
        let view = |user: &str| View { user: user.into(), device: format!("{user}-1"), ..View::default() };
        Self { views: USERS.map(view).into(), store: Store::default() }
    }

    /// A text of ann's, shown to both.
    fn says(&mut self, n: u64) {
        let text = format!("text {n}").into_bytes();
        let message = v1::Message { kind: 1, data: text.into() };
        self.sent("ann", n, Body::Message(message.clone()));
        self.views[0].acked.insert((id(), 1, n), false);
        let no = self.store.history.len() as u64 + 1;
        let entry = entry(no, n, Event::Message(message));
        let row = HistoryRow {
            conversation: id(),
            no,
            at: Tick(entry.time_us),
            entry: entry.encode_to_vec().into(),
        };
        self.store.history.insert((id(), no), row);
        USERS.iter().for_each(|user| self.shown(user, &entry, Bytes::new()));
    }

    /// To the other of the two.
    fn sent(&mut self, user: &str, n: u64, body: Body) {
        let peer = USERS.iter().find(|other| **other != user).unwrap();
        let to = Some(v1::send::To::User((*peer).into()));
        let view = self.views.iter_mut().find(|view| view.user == user).unwrap();
        view.sent.insert((Some(id()), 1, n), v1::Send { to, epoch: 1, n, body: Some(body) });
    }

    /// Something that only one of them is told: who sent it.
    fn told(&mut self, user: &str, time_us: u64, n: u64, event: Event) {
        self.sent(
            user,
            n,
            match event {
                Event::Blocked(_) => Body::Block(v1::Block {}),
                Event::Unblocked(_) => Body::Unblock(v1::Unblock {}),
                _ => Body::Message(v1::Message::default()),
            },
        );
        let told =
            v1::Entry { time_us, sender: user.into(), device: format!("{user}-1"), ..entry(0, n, event) };
        self.shown(user, &told, told.encode_to_vec().into());
    }

    fn shown(&mut self, user: &str, entry: &v1::Entry, inline: Bytes) {
        let view = self.views.iter_mut().find(|view| view.user == user).unwrap();
        let seq = view.shown.len() as u64 + 1;
        view.shown.push(v1::Entry { seq, ..entry.clone() });
        let row = v1::TimelineRow {
            conversation: entry.conversation.clone(),
            no: entry.no,
            inline,
            ..v1::TimelineRow::default()
        };
        let user = UserId::new(user).unwrap();
        let row =
            EntryRow { user: user.clone(), seq, at: Tick(entry.time_us), row: row.encode_to_vec().into() };
        self.store.entries.insert((user, seq), row);
    }

    fn objects(&self) -> Option<Oracle> {
        all(&self.views, &self.store).err().map(|violation| violation.oracle)
    }
}

fn id() -> ConversationId {
    let [ann, bob] = USERS.map(|user| UserId::new(user).unwrap());
    ConversationId::direct(&ann, &bob)
}

fn entry(no: u64, n: u64, event: Event) -> v1::Entry {
    v1::Entry {
        seq: 0,
        conversation: id().to_bytes(),
        no,
        time_us: 10 * no,
        sender: "ann".into(),
        device: "ann-1".into(),
        epoch: 1,
        n,
        peer: "bob".into(),
        event: Some(event),
    }
}

fn rejected() -> Event {
    Event::Rejected(v1::Rejected { code: Code::Blocked.number(), ..v1::Rejected::default() })
}

fn two_texts() -> Fine {
    let mut fine = Fine::new();
    (1..=2).for_each(|n| fine.says(n));
    fine
}

#[test]
fn what_is_fine_is_not_objected_to() {
    let mut fine = two_texts();
    assert_eq!(all(&fine.views, &fine.store), Ok(()));
    fine.told("bob", 25, 1, Event::Blocked(v1::Blocked {}));
    fine.told("ann", 26, 3, rejected());
    fine.told("bob", 27, 2, Event::Unblocked(v1::Unblocked {}));
    fine.says(4);
    assert_eq!(all(&fine.views, &fine.store), Ok(()));
}

#[test]
fn an_entry_that_is_another_after_a_restart_has_changed() {
    let mut fine = two_texts();
    let view = &mut fine.views[1];
    view.starts.push(2);
    view.shown.push(view.shown[0].clone());
    assert_eq!(fine.objects(), None);
    fine.views[1].shown[2].time_us += 1;
    assert_eq!(fine.objects(), Some(Oracle::Unchanged));
}

#[test]
fn every_start_of_an_app_goes_on_one_by_one_from_what_it_had() {
    for (starts, indices, objected) in [
        (vec![2], vec![0, 1, 0, 1], None),
        (vec![2], vec![0, 1, 1], None),
        (vec![1, 1], vec![0, 1], None),
        (vec![1, 2], vec![0, 0, 0, 1], None),
        (vec![2], vec![0, 1, 1, 1], Some(Oracle::Dense)),
        (vec![2], vec![0, 1, 1, 0], Some(Oracle::Dense)),
        (vec![2], vec![0, 0, 1], Some(Oracle::Dense)),
        (vec![0], vec![1, 0], Some(Oracle::Dense)),
    ] {
        let mut fine = two_texts();
        let view = &mut fine.views[1];
        view.shown = indices.into_iter().map(|index: usize| view.shown[index].clone()).collect();
        view.starts = starts.clone();
        assert_eq!(fine.objects(), objected, "{starts:?}");
    }
}

#[test]
fn a_hole_and_a_repeat_are_seen() {
    let mut fine = two_texts();
    fine.views[1].shown.remove(0);
    assert_eq!(fine.objects(), Some(Oracle::Dense));
    let mut fine = two_texts();
    let again = fine.views[1].shown[0].clone();
    fine.views[1].shown.push(again);
    assert_eq!(fine.objects(), Some(Oracle::Dense));
}

#[test]
fn rows_that_are_missing_or_say_another_thing_are_seen() {
    let bob = UserId::new("bob").unwrap();
    let mut fine = two_texts();
    fine.store.entries.remove(&(bob.clone(), 2));
    assert_eq!(fine.objects(), Some(Oracle::Stored));
    let mut fine = two_texts();
    fine.store.history.remove(&(id(), 2));
    assert_eq!(fine.objects(), Some(Oracle::Stored));
    let mut fine = two_texts();
    let other = fine.store.history[&(id(), 1)].entry.clone();
    fine.store.history.get_mut(&(id(), 2)).unwrap().entry = other;
    assert_eq!(fine.objects(), Some(Oracle::Stored));
    let mut fine = two_texts();
    let more = fine.store.entries[&(bob.clone(), 2)].clone();
    fine.store.entries.insert((bob, 3), more);
    assert_eq!(fine.objects(), Some(Oracle::Stored));
}

#[test]
fn numbers_of_a_device_that_do_not_rise_are_seen() {
    let mut fine = Fine::new();
    [2, 1].into_iter().for_each(|n| fine.says(n));
    assert_eq!(fine.objects(), Some(Oracle::SenderOrder));
}

#[test]
fn a_number_that_means_two_things_is_seen() {
    let mut fine = two_texts();
    fine.views[1].shown[0].n = 9;
    assert_eq!(fine.objects(), Some(Oracle::OneOrder));
}

#[test]
fn blocks_that_do_not_hold_or_hold_too_long_are_seen() {
    let mut fine = Fine::new();
    fine.told("bob", 5, 1, Event::Blocked(v1::Blocked {}));
    fine.says(1);
    assert_eq!(fine.objects(), Some(Oracle::Rights));
    let mut fine = Fine::new();
    fine.told("ann", 5, 1, rejected());
    assert_eq!(fine.objects(), Some(Oracle::Rights));
}

#[test]
fn sends_that_stand_too_often_or_not_at_all_are_seen() {
    let mut fine = two_texts();
    fine.views[0].acked.insert((id(), 1, 3), false);
    assert_eq!(fine.objects(), Some(Oracle::ExactlyOnce));
    let mut fine = two_texts();
    fine.told("ann", 25, 2, rejected());
    assert_eq!(fine.objects(), Some(Oracle::ExactlyOnce));
}

#[test]
fn what_nobody_sent_is_seen() {
    let mut fine = two_texts();
    fine.views[0].sent.remove(&(Some(id()), 1, 2));
    assert_eq!(fine.objects(), Some(Oracle::AsSent));
}

#[test]
fn a_member_who_was_left_out_is_seen() {
    let mut fine = two_texts();
    fine.views[1].shown.pop();
    fine.store.entries.remove(&(UserId::new("bob").unwrap(), 2));
    assert_eq!(fine.objects(), Some(Oracle::Members));
}

#[test]
fn devices_of_one_user_that_were_shown_different_things_are_seen() {
    let mut fine = two_texts();
    let mut other = fine.views[1].clone();
    other.device = DeviceId::new("bob-2").unwrap().as_str().into();
    other.shown.pop();
    fine.views.push(other);
    assert_eq!(fine.objects(), Some(Oracle::Liveness));
}
