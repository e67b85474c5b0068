//! The timeline shell: nothing is shown before it is stored, and only by the owner.

use bytes::Bytes;
use prost::Message;
use proto::v1;
use storage::log::Topic;
use tokio::sync::mpsc;
use v1::down::Down as Kind;
use v1::timeline_record::Record;

use super::double::{Double, Happened, PARTITIONS};
use super::stage::{Deployment, NODE, user};

const INCARNATION: u64 = 5;

fn partition() -> u32 {
    proto::partition::of_user(&user("bob"), PARTITIONS.timelines)
}

fn append(double: &Double, record: Record) -> u64 {
    double.append(Topic::Timelines, partition(), &v1::TimelineRecord { record: Some(record) })
}

fn sign_in(double: &Double, link: u64) {
    let fence = v1::Fence { node: NODE.into(), incarnation: INCARNATION, reactor: 0, link };
    let (user, device, device_class) = ("bob".into(), "phone".into(), "phone".into());
    append(double, Record::SessionStart(v1::SessionStart { user, device, device_class, fence: Some(fence) }));
}

/// An entry for Bob, as a conversation stage would send it.
fn deliver(double: &Double, no: u64) {
    let entry = v1::Entry { no, conversation: Bytes::from_static(&[1; 16]), ..Default::default() };
    let posted = v1::Posted {
        conversation: entry.conversation.clone(),
        no,
        kind: 16,
        entry: entry.encode_to_vec().into(),
    };
    let what = Some(v1::delivery::What::Posted(posted));
    let deliveries = vec![v1::Delivery { users: vec!["bob".into()], what, device: String::new() }];
    let output = v1::Output { source_partition: 0, source: no * 10, prev: 0, deliveries };
    append(double, Record::Output(output));
}

fn join(deployment: &Deployment) {
    let join = v1::Join { node: NODE.into(), nonce: 1, stream_address: "local".into(), ..Default::default() };
    deployment.node_record(INCARNATION, v1::node_record::Record::Join(join));
}

/// The far end of an open stream, after its roster.
struct Stream {
    down: mpsc::Receiver<v1::Down>,
    up: mpsc::Sender<v1::Up>,
    open: v1::Open,
}

impl Stream {
    async fn open(deployment: &Deployment, links: Vec<v1::RosterLink>, bound: u64) -> Self {
        deployment.settle().await;
        let (mut down, up) = deployment.far.take().expect("a stream is dialled");
        let Some(v1::Down { down: Some(Kind::Open(open)) }) = down.recv().await else { panic!("no Open") };
        let roster = v1::Roster { incarnation: INCARNATION, links, bounds: vec![bound], complete: true };
        up.send(v1::Up { up: Some(v1::up::Up::Roster(roster)) }).await.unwrap();
        Self { down, up, open }
    }

    async fn took(&mut self, deployment: &Deployment) -> Vec<Kind> {
        deployment.settle().await;
        let mut kinds = Vec::new();
        while let Ok(down) = self.down.try_recv() {
            kinds.push(down.down.unwrap());
        }
        kinds
    }

    async fn ask(&self, after: u64) {
        let ask = v1::SyncAsk { request_id: 9, user: "bob".into(), after, ..Default::default() };
        self.up.send(v1::Up { up: Some(v1::up::Up::Sync(ask)) }).await.unwrap();
    }
}

fn heads(answer: &Kind) -> (u64, u64) {
    let Kind::SyncAnswer(answer) = answer else { panic!("no answer: {answer:?}") };
    let Some(v1::sync_answer::Result::Page(page)) = &answer.result else { panic!("no page: {answer:?}") };
    let page = v1::SyncPage::decode(page.clone()).unwrap();
    (page.head, page.entries.len() as u64)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shown_before_it_is_stored() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    join(&deployment);
    let _run = deployment.run(Topic::Timelines, partition());
    let mut stream = Stream::open(&deployment, vec![], 1).await;
    sign_in(double, 1);
    assert!(matches!(stream.took(&deployment).await[..], [Kind::Result(_)]));
    double.faults(|faults| faults.hold_entries = true);
    deliver(double, 1);
    stream.ask(0).await;
    assert_eq!(stream.took(&deployment).await, []);
    assert_eq!(double.checkpoint(Topic::Timelines, partition()).map(|c| c.offset), Some(2));
    double.faults(|faults| {
        faults.hold_entries = false;
        faults.fail_entries = 3;
    });
    let shown = stream.took(&deployment).await;
    assert!(matches!(&shown[0], Kind::Push(push) if (push.first, push.last) == (1, 1)), "{shown:?}");
    // The ask came after the entry was judged. Its body is not in history here, which is no page.
    assert!(matches!(&shown[1], Kind::SyncAnswer(answer)
        if matches!(&answer.result, Some(v1::sync_answer::Result::Error(e)) if e.name == "STALE_READ")));
    let entries = double.journal().into_iter().filter(|h| matches!(h, Happened::Entry(_))).count();
    assert_eq!(entries, 1);
    stream.ask(1).await;
    assert_eq!(heads(&stream.took(&deployment).await[0]), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_sync_whose_turn_does_not_come_in_time_is_turned_down() {
    let deployment = Deployment::new();
    join(&deployment);
    let _run = deployment.run(Topic::Timelines, partition());
    let mut stream = Stream::open(&deployment, vec![], 1).await;
    let turns = deployment.parts.config.sync_pages_max.try_into().unwrap();
    let busy = deployment.parts.pages.acquire_many(turns).await.unwrap();
    stream.ask(0).await;
    let answers = stream.took(&deployment).await;
    assert!(matches!(&answers[..], [Kind::SyncAnswer(answer)]
        if matches!(&answer.result, Some(v1::sync_answer::Result::Error(e)) if e.name == "BUSY")));
    drop(busy);
    stream.ask(0).await;
    let answers = stream.took(&deployment).await;
    assert_eq!(answers.iter().map(heads).collect::<Vec<_>>(), [(0, 0)], "and nothing of what waited before");
}

#[tokio::test(start_paused = true)]
async fn no_stream_is_opened_before_the_own_record_is_read() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    join(&deployment);
    // Entries that cannot be stored stand before the record: the run is not the owner yet.
    deliver(double, 1);
    double.faults(|faults| faults.hold_entries = true);
    let _run = deployment.run(Topic::Timelines, partition());
    deployment.settle().await;
    assert!(deployment.far.take().is_none());
    double.faults(|faults| faults.hold_entries = false);
    let stream = Stream::open(&deployment, vec![], 1).await;
    let owner = &double.records(Topic::Timelines, partition())[1];
    assert_eq!(stream.open.term, owner.append_us);
}

#[tokio::test(start_paused = true)]
async fn a_later_owner_closes_the_streams() {
    let deployment = Deployment::with(|config| config.reclaim_after_ms = 100_000, None);
    let double = &deployment.double;
    join(&deployment);
    let _run = deployment.run(Topic::Timelines, partition());
    let mut stream = Stream::open(&deployment, vec![], 1).await;
    sign_in(double, 1);
    stream.took(&deployment).await;
    append(double, Record::Owner(v1::Owner { node: "n2".into(), run: 1 }));
    deliver(double, 1);
    assert_eq!(stream.took(&deployment).await, []);
    assert!(stream.down.is_closed());
    deployment.settle().await;
    let again = Stream::open(&deployment, vec![], 1).await;
    assert!(again.open.term > stream.open.term);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_knows_a_later_owner_stops_the_run() {
    let deployment = Deployment::with(|config| config.reclaim_after_ms = 3_600_000, None);
    join(&deployment);
    let _run = deployment.run(Topic::Timelines, partition());
    let mut stream = Stream::open(&deployment, vec![], 1).await;
    let refused = v1::Refused { term: u64::MAX };
    stream.up.send(v1::Up { up: Some(v1::up::Up::Refused(refused)) }).await.unwrap();
    stream.took(&deployment).await;
    let reason = format!("timelines/{} was taken over by another owner", partition());
    assert_eq!(deployment.parts.health.reasons(), [reason]);
}

#[tokio::test(start_paused = true)]
async fn a_roster_brings_links_and_sessions_together() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    join(&deployment);
    sign_in(double, 1);
    deliver(double, 1);
    let _run = deployment.run(Topic::Timelines, partition());
    let link = |link, confirmed, told| v1::RosterLink {
        link: Some(v1::LinkRef { reactor: 0, link }),
        user: "bob".into(),
        device: "phone".into(),
        confirmed,
        told,
    };
    // In two parts; one link of them is known and unconfirmed, one is confirmed and unknown.
    deployment.settle().await;
    let (mut down, up) = deployment.far.take().unwrap();
    assert!(matches!(down.recv().await, Some(v1::Down { down: Some(Kind::Open(_)) })));
    for (links, complete) in [(vec![link(1, false, 0)], false), (vec![link(2, true, 0)], true)] {
        let bounds = if complete { vec![3] } else { vec![] };
        let roster = v1::Roster { incarnation: INCARNATION, links, bounds, complete };
        up.send(v1::Up { up: Some(v1::up::Up::Roster(roster)) }).await.unwrap();
    }
    let mut stream = Stream { down, up, open: v1::Open::default() };
    let shown = stream.took(&deployment).await;
    let results: Vec<u64> = shown
        .iter()
        .filter_map(|kind| match kind {
            Kind::Result(result) => Some((result.link.unwrap().link, result.head)),
            _ => None,
        })
        .map(|(link, head)| link * 100 + head)
        .collect();
    assert_eq!(results, [101]);
    assert!(shown.iter().any(|kind| matches!(kind, Kind::Kick(kick) if kick.link.unwrap().link == 2)));
    // The next stream: the session's link is gone, which becomes a record.
    drop(stream);
    let before = double.records(Topic::Timelines, partition()).len();
    let mut stream = Stream::open(&deployment, vec![], 3).await;
    assert_eq!(stream.took(&deployment).await, []);
    let records = double.records(Topic::Timelines, partition());
    let appended: Vec<_> =
        records[before..].iter().map(|r| v1::TimelineRecord::decode(r.bytes.clone()).unwrap()).collect();
    assert!(
        matches!(&appended[..], [v1::TimelineRecord { record: Some(Record::SessionEnd(end)) }]
            if end.fence.as_ref().unwrap().link == 1),
        "{appended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_is_told_to_the_partition_once() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    join(&deployment);
    let _run = deployment.run(Topic::Timelines, partition());
    let stream = Stream::open(&deployment, vec![], 1).await;
    let leave = v1::Leave { node: NODE.into(), incarnation: INCARNATION };
    deployment.node_record(6, v1::node_record::Record::Leave(leave));
    deployment.settle().await;
    deployment.node_record(7, v1::node_record::Record::Skip(v1::Skip::default()));
    deployment.settle().await;
    assert!(stream.down.is_closed());
    let downs: Vec<_> = double
        .records(Topic::Timelines, partition())
        .into_iter()
        .filter_map(|record| match v1::TimelineRecord::decode(record.bytes).unwrap().record {
            Some(Record::NodeDown(down)) => Some((down.node, down.incarnation)),
            _ => None,
        })
        .collect();
    assert_eq!(downs, [(NODE.to_owned(), INCARNATION)]);
}

#[tokio::test(start_paused = true)]
async fn the_checkpoint_is_read_before_the_index_of_sessions() {
    let deployment = Deployment::new();
    let _run = deployment.run(Topic::Timelines, partition());
    deployment.settle().await;
    let begun = &deployment.double.journal()[..3];
    let loaded = [Happened::LoadCheckpoint(Topic::Timelines), Happened::LoadSessions];
    assert_eq!(begun, [&loaded[..], &[Happened::Read(Topic::Timelines, 0)]].concat());
}
