//! A timeline as it should be, and spoilt in every way that the judge has a word for.

use super::*;

const ME: u64 = 0;
const PEER: u64 = 1;
const SENT: u64 = 6;

/// What a device's frames bring.
type Journal = Vec<v1::Entry>;

fn entry(seq: u64, no: u64, device: u64, index: u64) -> v1::Entry {
    let message = v1::Message { kind: 1, data: payload::encode(device, index, 40) };
    v1::Entry { seq, no, event: Some(v1::entry::Event::Message(message)), ..v1::Entry::default() }
}

/// The two write in turns; both timelines hold all of it.
fn journal() -> Journal {
    let turns = (0..2 * SENT).map(|turn| (turn + 1, turn % 2, turn / 2));
    turns.map(|(seq, device, index)| entry(seq, seq, device, index)).collect()
}

fn renumber(journal: &mut Journal) {
    for (i, entry) in journal.iter_mut().enumerate() {
        (entry.seq, entry.no) = (i as u64 + 1, i as u64 + 1);
    }
}

/// A device that sent its messages, has so many acknowledged, and reads its timeline in pushes.
fn read(me: u64, acked: u64, journal: &Journal) -> Judge {
    let mut judge = Judge::new(me, Circle::default());
    (0..SENT).for_each(|_| judge.take(Note::Sent, |_| {}));
    (0..acked).for_each(|index| judge.take(Note::Acked(index), |_| {}));
    journal.chunks(3).for_each(|entries| push(&mut judge, entries));
    judge
}

fn push(judge: &mut Judge, entries: &[v1::Entry]) {
    let frame = Some(Frame::Push(v1::Push { entries: entries.to_vec() }));
    judge.take(Note::Frame(&v1::ServerFrame { frame, ..v1::ServerFrame::default() }), |_| {});
}

fn show(judge: &mut Judge, entries: &[v1::Entry]) {
    entries.iter().for_each(|entry| judge.take(Note::Shown(entry.seq, hash(entry)), |_| {}));
}

/// The verdict on one of the two; the other may be the same one.
fn finish(one: &Judge, other: &Judge) -> Violations {
    one.finish(|device| Some(if device == one.me { one } else { other }))
}

/// Judges both devices where one's journal is spoilt.
fn judge(spoil: impl FnOnce(&mut Journal)) -> Violations {
    let (mine, mut theirs) = (journal(), journal());
    spoil(&mut theirs);
    let (mine, theirs) = (read(ME, SENT, &mine), read(PEER, SENT, &theirs));
    let mut violations = finish(&mine, &theirs);
    violations.add(&finish(&theirs, &mine));
    violations
}

#[test]
fn a_journal_as_it_should_be_passes() {
    assert_eq!(judge(|_| {}), Violations::default());
}

#[test]
fn a_lost_message_is_found() {
    let found = judge(|journal| {
        journal.remove(4);
        renumber(journal);
    });
    assert_eq!(found, Violations { lost: 1, ..found });
    let last = judge(|journal| {
        journal.pop();
    });
    assert_eq!(last, Violations { lost: 1, ..Violations::default() });
}

#[test]
fn what_was_not_acknowledged_is_not_lost() {
    let (mine, mut theirs) = (journal(), journal());
    theirs.retain(|entry| entry.seq != 2 * SENT - 1);
    renumber(&mut theirs);
    let theirs = read(PEER, SENT, &theirs);
    assert_eq!(finish(&read(ME, SENT - 1, &mine), &theirs).lost, 0);
    assert_eq!(finish(&read(ME, SENT, &mine), &theirs).lost, 1);
}

#[test]
fn a_doubled_message_is_found() {
    let found = judge(|journal| {
        let again = journal[4].clone();
        journal.push(again);
        renumber(journal);
    });
    assert_eq!(found, Violations { repeated: 1, ..Violations::default() });
}

#[test]
fn swapped_messages_are_found() {
    let found = judge(|journal| {
        journal.swap(2, 4);
        renumber(journal);
    });
    // In itself, and for each of the two in comparison with the other.
    assert_eq!(found, Violations { out_of_order: 3, ..Violations::default() });
    let other_senders = judge(|journal| {
        journal.swap(2, 3);
        (journal[2].seq, journal[3].seq) = (3, 4);
    });
    assert!(other_senders.out_of_order > 0, "the conversation has one order");
}

#[test]
fn a_hole_in_the_seqs_is_found() {
    let in_a_frame = judge(|journal| journal[4].seq = 50);
    assert!(in_a_frame.seq_holes > 0 && in_a_frame.lost > 0);
    let between_frames = judge(|journal| journal[3..].iter_mut().for_each(|entry| entry.seq += 1));
    assert!(between_frames.lost > 0, "what stands behind a hole was never reached");
}

#[test]
fn a_page_that_closes_a_gap_is_no_violation() {
    let found = judge(|journal| {
        let late: Vec<v1::Entry> = journal.drain(3..6).collect();
        journal.extend(late);
    });
    assert_eq!(found, Violations::default());
}

#[test]
fn a_seq_that_changes_is_found() {
    let found = judge(|journal| {
        let other = entry(2, 2, PEER, 5);
        journal.push(other);
    });
    assert_eq!(found.rewritten, 1);
}

#[test]
fn a_changed_body_and_a_rejection_are_found() {
    let body = judge(|journal| {
        let message = v1::Message { kind: 1, data: bytes::Bytes::from_static(b"something else entirely") };
        journal[0].event = Some(v1::entry::Event::Message(message));
    });
    assert_eq!((body.alien, body.lost), (1, 1));
    let rejected = judge(|journal| {
        let event = v1::entry::Event::Rejected(v1::Rejected::default());
        journal.push(v1::Entry { seq: 2 * SENT + 1, event: Some(event), ..v1::Entry::default() });
    });
    assert_eq!(rejected, Violations { refused: 1, ..Violations::default() });
}

#[test]
fn the_second_reading_has_to_be_the_same_and_whole() {
    let journal = journal();
    let mut judge = read(ME, 0, &journal);
    judge.take(Note::Again, |_| {});
    push(&mut judge, &journal[..5]);
    assert!(!judge.is_reread());
    assert_eq!(finish(&judge, &judge).seq_holes, 1);
    push(&mut judge, &journal[5..]);
    show(&mut judge, &journal[..11]);
    assert!(!judge.is_reread(), "the client keeps the last one to itself");
    assert_eq!(finish(&judge, &judge).seq_holes, 1);
    show(&mut judge, &journal[11..]);
    assert!(judge.is_reread());
    judge.take(Note::Asks, |_| {});
    judge.head(2 * SENT);
    assert!(!finish(&judge, &judge).any());
    judge.head(2 * SENT - 1);
    assert_eq!(finish(&judge, &judge).head_back, 1);
}

#[test]
fn a_cursor_that_goes_back_is_seen() {
    let mut judge = read(ME, SENT, &journal());
    let mut told = |cursor| {
        let result = v1::SignInResult { head: 2 * SENT, cursor, ..v1::SignInResult::default() };
        let frame =
            v1::ServerFrame { frame: Some(Frame::SignInResult(result)), ..v1::ServerFrame::default() };
        judge.take(Note::Frame(&frame), |_| {});
        finish(&judge, &judge)
    };
    assert!([0, 3, 3, 5].into_iter().all(|cursor| !told(cursor).any()));
    assert_eq!(told(4).cursor_back, 1);
}

#[test]
fn what_is_shown_is_what_was_on_the_wire_one_by_one_and_once() {
    let journal = journal();
    let shown = |seqs: &[usize]| {
        let mut judge = read(ME, SENT, &journal);
        seqs.iter().for_each(|seq| judge.take(Note::Shown(*seq as u64, hash(&journal[seq - 1])), |_| {}));
        finish(&judge, &judge)
    };
    assert!(!shown(&[1, 2, 3]).any());
    assert_eq!(shown(&[1, 3]), Violations { seq_holes: 1, ..Violations::default() });
    assert_eq!(shown(&[1, 2, 2]), Violations { repeated: 1, ..Violations::default() });
    let mut judge = read(ME, SENT, &journal);
    [(1, &journal[0]), (2, &journal[2])]
        .into_iter()
        .for_each(|(seq, entry)| judge.take(Note::Shown(seq, hash(entry)), |_| {}));
    assert_eq!(finish(&judge, &judge), Violations { rewritten: 1, ..Violations::default() });
    // A second reading shows all of it again.
    judge.take(Note::Again, |_| {});
    judge.take(Note::Shown(1, hash(&journal[0])), |_| {});
    assert_eq!(judge.violations.repeated, 0);
}

#[test]
fn two_devices_of_a_user_have_one_timeline() {
    let circle = Circle { group: 4, twins: true };
    let judge = |me: u64, journal: &Journal| {
        let mut judge = Judge::new(me, circle);
        push(&mut judge, journal);
        judge
    };
    let verdict = |theirs: &Journal| {
        let (first, twin) = (judge(0, &journal()), judge(2, theirs));
        twin.finish(|device| (device == 0).then_some(&first)).rewritten
    };
    assert_eq!(verdict(&journal()), 0);
    assert_eq!(verdict(&journal()[..5].to_vec()), 0, "what one has not read yet is no other timeline");
    let mut other = journal();
    other[3].time_us += 1;
    assert_eq!(verdict(&other), 1);
}

/// A group of four, in which every fifth message of device 0 goes to all.
const FOUR: Circle = Circle { group: 4, twins: false };

/// What device 0 says in its group, as a member of it reads it.
fn group(said: u64) -> Journal {
    let made = v1::entry::Event::GroupCreated(v1::GroupCreated::default());
    let made = v1::Entry { seq: 1, no: 1, event: Some(made), ..v1::Entry::default() };
    let said = (0..said).map(|nth| entry(nth + 2, nth + 2, ME, 5 * nth + 4));
    std::iter::once(made).chain(said).collect()
}

/// Judges device 0 of the group, whose third member has this journal; only its messages to the group are
/// acknowledged.
fn judge_group(third: &Journal) -> Violations {
    let whole = group(3);
    let members: Vec<Judge> = (0..4)
        .map(|me| {
            let mut judge = Judge::new(me, FOUR);
            if me == ME {
                (0..15).for_each(|_| judge.take(Note::Sent, |_| {}));
                [4, 9, 14].into_iter().for_each(|index| judge.take(Note::Acked(index), |_| {}));
            }
            push(&mut judge, if me == 2 { third } else { &whole });
            judge
        })
        .collect();
    let of = |device: u64| members.get(usize::try_from(device).unwrap());
    let mut violations = members[0].finish(of);
    violations.add(&members[2].finish(of));
    violations
}

#[test]
fn a_group_as_it_should_be_passes() {
    assert_eq!(judge_group(&group(3)), Violations::default());
}

#[test]
fn a_member_that_misses_a_message_is_found() {
    assert_eq!(judge_group(&group(2)), Violations { lost: 1, ..Violations::default() });
}

#[test]
fn a_member_with_another_order_is_found() {
    let mut other = group(3);
    other.swap(1, 2);
    renumber(&mut other);
    assert_eq!(judge_group(&other), Violations { out_of_order: 3, ..Violations::default() });
}

#[test]
fn a_group_is_made_once_and_before_it_is_written_to() {
    let mut twice = group(3);
    twice.push(twice[0].clone());
    renumber(&mut twice);
    assert_eq!(judge_group(&twice).alien, 1);
    let mut late = group(3);
    late.swap(0, 1);
    renumber(&mut late);
    assert_eq!(judge_group(&late).alien, 1);
    let mut nobody = journal();
    nobody.insert(0, group(0).remove(0));
    assert_eq!(judge(|journal| *journal = nobody).alien, 1);
}

#[test]
fn a_message_in_the_wrong_conversation_is_found() {
    let mut other = group(3);
    other[1].conversation = bytes::Bytes::from_static(b"another");
    assert_eq!(judge_group(&other).alien, 1);
    let mut stranger = group(3);
    stranger.push(entry(5, 5, 7, 4));
    assert_eq!(judge_group(&stranger).alien, 1);
}
