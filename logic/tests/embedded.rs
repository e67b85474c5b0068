//! Both stages on embedded storage, with a scripted conn node.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use common::{PARTITIONS, Process, eventually, text, user};
use logic::api::Api;
use prost::Message;
use proto::partition::of_user;
use proto::{ConversationId, v1};
use storage::log::Topic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_pushed_synced_and_found_in_history() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path()).await;
    let (ann, result) = process.sign_in("ann", "phone").await;
    let (bob, bobs) = process.sign_in("bob", "phone").await;
    assert_eq!((result.head, bobs.head), (0, 0));
    for n in 1..=20 {
        process.send_text("ann", "phone", "bob", result.epoch, n, &format!("text {n}"));
    }
    for link in [ann, bob] {
        let entries = process.conn.expect_entries(link, 20).await;
        let seqs: Vec<u64> = entries.iter().map(|e| e.seq).collect();
        assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
        assert!(entries.iter().all(|e| e.no == e.seq && text(e) == format!("text {}", e.n)));
    }
    // Pages of some sizes, to the last entry.
    for (request, (after, limit, want)) in
        [(0, 0, 1..=20), (0, 7, 1..=7), (19, 5, 20..=20)].into_iter().enumerate()
    {
        let request = request as u64 + 1;
        process.conn.ask("bob", bob, request, after, limit).await;
        let page = process.conn.expect_answer(request).await.unwrap();
        assert_eq!(page.entries.iter().map(|e| e.seq).collect::<Vec<_>>(), want.collect::<Vec<_>>());
        assert_eq!((page.head, page.truncated), (20, false));
    }
    process.conn.ask("bob", bob, 8, 20, 0).await;
    assert_eq!(process.conn.expect_answer(8).await.unwrap().entries, []);
    process.conn.ask("bob", bob, 9, 21, 0).await;
    assert_eq!(process.conn.expect_answer(9).await.unwrap_err().name, "STALE_READ");

    let api = Api::new(process.data.store(), 64);
    let request = v1::HistoryRequest {
        of: Some(v1::history_request::Of::User("bob".into())),
        backward: true,
        limit: 3,
        min_no: 20,
        ..Default::default()
    };
    let call = v1::Call {
        method: "godwit.v1.Conversations/History".into(),
        request: request.encode_to_vec().into(),
    };
    let answer = api.call(&user("ann"), call).await.unwrap();
    let page = v1::HistoryResponse::decode(answer.response).unwrap();
    assert_eq!(page.entries.iter().map(|e| e.no).collect::<Vec<_>>(), [20, 19, 18]);
    assert!(page.more);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_owner_repeats_nothing_and_tells_whoever_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path()).await;
    let (ann, result) = process.sign_in("ann", "phone").await;
    let (bob, _) = process.sign_in("bob", "phone").await;
    let partition = of_user(&user("bob"), PARTITIONS.timelines);
    let mut n = 0;
    for round in 0..4u64 {
        for _ in 0..10 {
            n += 1;
            process.send_text("ann", "phone", "bob", result.epoch, n, &format!("text {n}"));
        }
        if round == 0 {
            process.conn.expect_entries(bob, 10).await;
        }
        let term = process.conn.term(partition);
        process.crash_logic();
        for _ in 0..10 {
            n += 1;
            process.send_text("ann", "phone", "bob", result.epoch, n, &format!("text {n}"));
        }
        process.start_logic().await;
        eventually("a stream of the new term", || async {
            (process.conn.term(partition) > term).then_some(())
        })
        .await;
    }
    let page = eventually("everything is in the timeline", || async {
        process.conn.ask("bob", bob, n, 0, 0).await;
        process.conn.expect_answer(n).await.ok().filter(|page| page.head == n)
    })
    .await;
    let texts: Vec<String> = page.entries.iter().map(text).collect();
    assert_eq!(texts, (1..=n).map(|n| format!("text {n}")).collect::<Vec<_>>());
    let (seqs, nos): (Vec<u64>, Vec<u64>) = page.entries.iter().map(|e| (e.seq, e.no)).unzip();
    assert_eq!(seqs, (1..=n).collect::<Vec<_>>());
    assert_eq!(nos, seqs);
    assert_ne!(ann, bob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_stream_is_made_good_by_the_next_roster() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path()).await;
    let (ann, result) = process.sign_in("ann", "phone").await;
    let (bob, _) = process.sign_in("bob", "phone").await;
    process.send_text("ann", "phone", "bob", result.epoch, 1, "one");
    process.conn.expect_entries(bob, 1).await;
    process.conn.expect_entries(ann, 1).await;
    // Bob's link is lost without a word, and the streams break: the roster shows it.
    process.conn.cut();
    process.conn.lose(bob);
    process.send_text("ann", "phone", "bob", result.epoch, 2, "two");
    let (again, bobs) = process.sign_in("bob", "phone").await;
    process.send_text("ann", "phone", "bob", result.epoch, 3, "three");
    if bobs.head < 3 {
        process.conn.expect_entries(again, 3).await;
    }
    // A link that the stage does not know, though it was confirmed once, is closed.
    let stranger = process.conn.open("carol", "tablet").link;
    process.conn.confirm(stranger);
    process.conn.cut();
    process.send_text("ann", "phone", "carol", result.epoch, 1, "hello");
    assert_eq!(process.conn.expect_kick(stranger).await, 3006);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_leaves_nothing_to_judge_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path()).await;
    let (_, result) = process.sign_in("ann", "phone").await;
    let (bob, _) = process.sign_in("bob", "phone").await;
    for n in 1..=50 {
        process.send_text("ann", "phone", "bob", result.epoch, n, "x");
    }
    process.conn.expect_entries(bob, 50).await;
    process.logic.take().unwrap().stop().await;
    let store = process.data.store();
    for (topic, count) in [(Topic::Messages, PARTITIONS.messages), (Topic::Timelines, PARTITIONS.timelines)] {
        for partition in 0..count {
            let checkpoint = store.checkpoints().load(topic, partition).await.unwrap().unwrap();
            let (_, end) = process.log.bounds(topic, partition).await.unwrap();
            assert_eq!(checkpoint.offset, end, "{topic}/{partition}");
        }
    }
    let id = ConversationId::direct(&user("ann"), &user("bob"));
    let (head, _) = store.conversations().member(&id, &user("ann")).await.unwrap().unwrap();
    assert_eq!(v1::ConversationHead::decode(head).unwrap().no, 50);
}
