//! What devices are told, and what is wrong with it.

use v1::server_frame::Frame;

use super::*;

fn entry(seq: u64, n: u64) -> v1::Entry {
    v1::Entry { seq, n, ..v1::Entry::default() }
}

fn signed_in(head: u64, cursor: u64) -> v1::ServerFrame {
    let result = v1::SignInResult { head, cursor, ..v1::SignInResult::default() };
    v1::ServerFrame { frame: Some(Frame::SignInResult(result)), ..v1::ServerFrame::default() }
}

fn page(head: u64) -> v1::ServerFrame {
    let page = v1::SyncPage { head, ..v1::SyncPage::default() };
    v1::ServerFrame { frame: Some(Frame::SyncPage(page)), ..v1::ServerFrame::default() }
}

/// What the witness objects to of these.
fn objection(shown: &[(&str, v1::Entry)], heard: &[v1::ServerFrame]) -> Option<Oracle> {
    let mut witness = Witness::default();
    shown.iter().for_each(|(device, entry)| witness.shown("ann", device, entry));
    heard.iter().for_each(|frame| witness.heard("phone", frame));
    assert_eq!(witness.heads, heard.len());
    witness.verdict().err().map(|violation| violation.oracle)
}

#[test]
fn an_entry_shown_as_two_things_has_changed() {
    assert_eq!(objection(&[("phone", entry(1, 1)), ("laptop", entry(1, 1))], &[]), None);
    assert_eq!(objection(&[("phone", entry(1, 1)), ("laptop", entry(1, 2))], &[]), Some(Oracle::Unchanged));
}

#[test]
fn heads_and_cursors_that_go_back_are_seen() {
    let shown = [("phone", entry(1, 1)), ("phone", entry(2, 2))];
    assert_eq!(objection(&shown, &[signed_in(2, 1), signed_in(2, 2), page(3)]), None);
    assert_eq!(objection(&shown, &[signed_in(1, 1)]), Some(Oracle::Forward));
    assert_eq!(objection(&shown, &[page(1)]), Some(Oracle::Forward));
    assert_eq!(objection(&shown, &[signed_in(2, 2), signed_in(2, 1)]), Some(Oracle::Forward));
    assert_eq!(objection(&shown, &[signed_in(4, 3)]), Some(Oracle::Forward));
}
