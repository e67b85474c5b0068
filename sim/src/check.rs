//! The oracles: what must hold once everything has healed, judged from what devices were shown and told, and
//! from the tables.

mod rights;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use proto::{ConversationId, UserId, v1};
use v1::entry::Event;

use crate::oracle::{Oracle, Violation};
use crate::store::Store;

/// A number that a device gave: conversation, epoch, n.
pub type Numbered = (ConversationId, u64, u64);

/// What one device has seen and been promised.
#[derive(Default, Clone)]
pub struct View {
    /// Its user.
    pub user: String,
    /// The device.
    pub device: String,
    /// Every entry that it was shown, in the order of showing.
    pub shown: Vec<v1::Entry>,
    /// Every send that was acknowledged to it: conversation, epoch, n, and whether it was a Void.
    pub acked: BTreeMap<Numbered, bool>,
    /// What was written to a link under each number, the first time.
    pub sent: BTreeMap<(Option<ConversationId>, u64, u64), v1::Send>,
    /// Whether it was put back from a backup, so that it may have sent a text again under another number.
    pub restored: bool,
    /// Where in `shown` the app had started again: there it may be shown once more what it had not yet stored.
    pub starts: Vec<usize>,
}

impl View {
    /// What was shown, from one start of the app to the next.
    fn lives(&self) -> impl Iterator<Item = &[v1::Entry]> {
        let ends = self.starts.iter().copied().chain([self.shown.len()]);
        let starts = [0].into_iter().chain(self.starts.iter().copied());
        starts.zip(ends).map(|(start, end)| self.shown.get(start..end).unwrap_or_default())
    }
}

/// One entry as the conversation has it, for comparing between users.
fn as_posted(entry: &v1::Entry) -> v1::Entry {
    v1::Entry { seq: 0, ..entry.clone() }
}

fn id_of(entry: &v1::Entry) -> Result<ConversationId, String> {
    ConversationId::from_slice(&entry.conversation).map_err(|e| e.to_string())
}

/// Runs every oracle.
///
/// # Errors
/// The first violation, in words.
pub fn all(views: &[View], store: &Store) -> Result<(), Violation> {
    let timelines = timelines(views)?;
    let conversations = one_order(&timelines).map_err(|words| Oracle::OneOrder.says(words))?;
    sender_order(&conversations).map_err(|words| Oracle::SenderOrder.says(words))?;
    stored_as_shown(&timelines, store).map_err(|words| Oracle::Stored.says(words))?;
    exactly_once(views, &conversations, &timelines).map_err(|words| Oracle::ExactlyOnce.says(words))?;
    as_sent(views, &conversations).map_err(|words| Oracle::AsSent.says(words))?;
    received_by_members(&conversations, &timelines).map_err(|words| Oracle::Members.says(words))?;
    rights::are_kept(views, &timelines).map_err(|words| Oracle::Rights.says(words))
}

type Timelines = BTreeMap<String, Vec<v1::Entry>>;
type Conversations = BTreeMap<ConversationId, BTreeMap<u64, v1::Entry>>;

/// Every device of a user was shown 1..n, and all of them the same.
fn timelines(views: &[View]) -> Result<Timelines, Violation> {
    let mut timelines = Timelines::new();
    for view in views {
        let name = format!("{}/{}", view.user, view.device);
        let shown = in_order(view).map_err(|(oracle, words)| oracle.says(format!("{name}: {words}")))?;
        match timelines.get(&view.user) {
            None => drop(timelines.insert(view.user.clone(), shown)),
            Some(other) if *other != shown => {
                let (a, b) = (other.len(), shown.len());
                let words = format!("{name}: another device of the user has {a} entries, this one {b}");
                return Err(Oracle::Liveness.says(words));
            }
            Some(_) => {}
        }
    }
    Ok(timelines)
}

/// Every entry that a device was shown, once. Each start of its app goes on where an earlier one was, or before, and
/// from there one by one.
fn in_order(view: &View) -> Result<Vec<v1::Entry>, (Oracle, String)> {
    let mut shown: Vec<v1::Entry> = Vec::new();
    for life in view.lives() {
        let mut due = None;
        for entry in life {
            let next = shown.len() as u64 + 1;
            let is_due = due.map_or(1 <= entry.seq && entry.seq <= next, |due| entry.seq == due);
            if !is_due {
                let words = format!("shown {} where {} was due", entry.seq, due.unwrap_or(next));
                return Err((Oracle::Dense, words));
            }
            due = Some(entry.seq + 1);
            let before = usize::try_from(entry.seq - 1).ok().and_then(|index| shown.get(index));
            match before {
                Some(before) if before != entry => {
                    return Err((Oracle::Unchanged, format!("entry {} changed", entry.seq)));
                }
                Some(_) => {}
                None => shown.push(entry.clone()),
            }
        }
    }
    Ok(shown)
}

/// The tables say what was shown, no more and no less.
fn stored_as_shown(timelines: &Timelines, store: &Store) -> Result<(), String> {
    for (user, shown) in timelines {
        let id = UserId::new(user).map_err(|e| e.to_string())?;
        let stored: Vec<_> =
            store.entries.range((id.clone(), 0)..=(id, u64::MAX)).map(|(_, row)| row).collect();
        if stored.len() != shown.len() {
            return Err(format!("{user}: shown {} of {} stored entries", shown.len(), stored.len()));
        }
        for (entry, row) in shown.iter().zip(stored) {
            let row = v1::TimelineRow::decode(row.row.clone()).map_err(|e| e.to_string())?;
            let body = match row.no {
                0 => row.inline,
                no => {
                    let key = (id_of(entry)?, no);
                    store.history.get(&key).ok_or(format!("{user}: {key:?} has no body"))?.entry.clone()
                }
            };
            let body = v1::Entry::decode(body).map_err(|e| e.to_string())?;
            if body != as_posted(entry) {
                return Err(format!("{user}: entry {} was shown other than it is stored", entry.seq));
            }
        }
    }
    Ok(())
}

/// A number of a conversation means the same to everyone, numbers rise in every timeline, and none is missing.
fn one_order(timelines: &Timelines) -> Result<Conversations, String> {
    let mut conversations = Conversations::new();
    for (user, shown) in timelines {
        let mut last = BTreeMap::new();
        for entry in shown.iter().filter(|entry| entry.no > 0) {
            let id = id_of(entry)?;
            let before = last.insert(id, entry.no).unwrap_or(0);
            if entry.no <= before {
                return Err(format!("{user}: {id} goes from {before} to {}", entry.no));
            }
            let posted = as_posted(entry);
            let known =
                conversations.entry(id).or_default().entry(entry.no).or_insert_with(|| posted.clone());
            if *known != posted {
                return Err(format!("{id}: number {} means two things", entry.no));
            }
        }
    }
    for (id, entries) in &conversations {
        if entries.keys().copied().ne(1..=entries.len() as u64) {
            return Err(format!("{id}: numbers {:?}", entries.keys()));
        }
        let times: Vec<u64> = entries.values().map(|entry| entry.time_us).collect();
        if !times.is_sorted() {
            return Err(format!("{id}: server times go back"));
        }
    }
    Ok(conversations)
}

/// What a device sent to a conversation stands there in the order of its numbers.
fn sender_order(conversations: &Conversations) -> Result<(), String> {
    for (id, entries) in conversations {
        let mut last: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
        for entry in entries.values() {
            let number = (entry.epoch, entry.n);
            let before = last.insert((&entry.sender, &entry.device), number);
            if before.is_some_and(|before| before >= number) {
                return Err(format!(
                    "{id}: {}/{} sent {number:?} after {before:?}",
                    entry.sender, entry.device
                ));
            }
        }
    }
    Ok(())
}

/// Every number was received by exactly those who were members when it was given (and by those whom it made
/// members, or whose membership it ended).
fn received_by_members(conversations: &Conversations, timelines: &Timelines) -> Result<(), String> {
    let mut receivers: BTreeMap<(&[u8], u64), BTreeSet<&String>> = BTreeMap::new();
    for (user, shown) in timelines {
        for entry in shown.iter().filter(|entry| entry.no > 0) {
            receivers.entry((&entry.conversation, entry.no)).or_default().insert(user);
        }
    }
    for (id, entries) in conversations {
        let mut members = BTreeSet::new();
        for (no, entry) in entries {
            let gone = apply(entry, &mut members);
            let due: BTreeSet<&String> = members.union(&gone).collect();
            let got = receivers.remove(&(&entry.conversation, *no)).unwrap_or_default();
            if let Some(user) = due.symmetric_difference(&got).next() {
                let verb = if got.contains(user) { "has" } else { "lacks" };
                return Err(format!("{user} {verb} number {no} of {id}; members {members:?}"));
            }
        }
    }
    Ok(())
}

/// Brings the members up to date with an entry; returns those who have it as their last.
fn apply(entry: &v1::Entry, members: &mut BTreeSet<String>) -> BTreeSet<String> {
    let mut gone = BTreeSet::new();
    match &entry.event {
        Some(Event::Message(_)) if !entry.peer.is_empty() => {
            members.extend([entry.sender.clone(), entry.peer.clone()]);
        }
        Some(Event::GroupCreated(group)) => members.extend(group.members.iter().map(|m| m.user.clone())),
        Some(Event::MembersAdded(added)) => members.extend(added.users.iter().cloned()),
        Some(Event::MembersRemoved(removed)) => gone.extend(removed.users.iter().cloned()),
        Some(Event::MemberLeft(left)) => gone.extend([left.user.clone()]),
        Some(Event::GroupDissolved(_)) => gone.append(&mut members.clone()),
        _ => {}
    }
    members.retain(|member| !gone.contains(member));
    gone
}

fn by_device(views: &[View]) -> BTreeMap<&str, &View> {
    views.iter().map(|view| (view.device.as_str(), view)).collect()
}

/// The device that an entry is of.
fn sender<'a>(views: &BTreeMap<&str, &'a View>, entry: &v1::Entry) -> Result<&'a View, String> {
    let view = views.get(entry.device.as_str()).copied();
    view.ok_or_else(|| format!("{} sent, who is nobody", entry.device))
}

/// User, device, epoch, n.
type Origin<'a> = (&'a str, &'a str, u64, u64);

/// Who sent an entry, and under which number.
fn origin(entry: &v1::Entry) -> Origin<'_> {
    (&entry.sender, &entry.device, entry.epoch, entry.n)
}

/// Every acknowledged send stands exactly once: as a numbered entry, or as an entry of its sender alone.
fn exactly_once(views: &[View], conversations: &Conversations, timelines: &Timelines) -> Result<(), String> {
    let mut standing: BTreeMap<(&[u8], Origin<'_>), usize> = BTreeMap::new();
    let numbered = conversations.values().flat_map(BTreeMap::values);
    let alone = timelines.values().flatten().filter(|entry| entry.no == 0);
    for entry in numbered.chain(alone) {
        *standing.entry((&entry.conversation, origin(entry))).or_default() += 1;
    }
    for view in views {
        for ((id, epoch, n), void) in &view.acked {
            let key = (id.as_bytes().as_slice(), (view.user.as_str(), view.device.as_str(), *epoch, *n));
            let count = standing.get(&key).copied().unwrap_or(0);
            if count != usize::from(!void) {
                let who = format!("{}/{}", view.user, view.device);
                return Err(format!("{who}: acknowledged ({epoch}, {n}) of {id} stands {count} times"));
            }
        }
    }
    match standing.iter().find(|(_, count)| **count > 1) {
        Some(((_, origin), count)) => Err(format!("{origin:?} stands {count} times")),
        None => Ok(()),
    }
}

/// Whatever stands in a conversation was sent under its number, and a message says what was sent: no text twice,
/// as the apps never say the same thing again.
fn as_sent(views: &[View], conversations: &Conversations) -> Result<(), String> {
    let views = by_device(views);
    let mut texts = BTreeSet::new();
    for (id, entry) in conversations.iter().flat_map(|(id, es)| es.values().map(move |e| (id, e))) {
        let view = sender(&views, entry)?;
        let sent = view.sent.get(&(Some(*id), entry.epoch, entry.n)).map(|send| &send.body);
        let agrees = match (&entry.event, sent) {
            (Some(Event::Message(stands)), Some(Some(v1::send::Body::Message(sent)))) => stands == sent,
            (Some(Event::Message(_)), _) | (_, None) => false,
            _ => true,
        };
        if !agrees {
            return Err(format!("{:?} of {id} is not what was sent", origin(entry)));
        }
        if let Some(Event::Message(message)) = &entry.event
            && !view.restored
            && !texts.insert(&message.data)
        {
            return Err(format!("{:?} of {id} stands under another number as well", origin(entry)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
