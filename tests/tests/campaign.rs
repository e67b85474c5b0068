//! A small campaign: faults on real processes under load, judged from what the devices kept. On one back end a run,
//! by turns.

#![allow(clippy::unwrap_used, reason = "a test: what it does not expect ends it")]

use tests::{Campaign, Storage, may_drop_packets};

const MESSAGES: u32 = 20_000;
const FAULTS: u32 = 20;

#[test]
fn faults_by_turns_break_no_promise() {
    // Whoever runs every test says whose turn it is: with the number of the commit, both as the seed.
    let Some(turn) = std::env::var("GODWIT_CAMPAIGN_TURN").ok().map(|turn| turn.parse::<u64>().unwrap())
    else {
        println!("left out: the campaign, because GODWIT_CAMPAIGN_TURN does not say on which back end");
        return;
    };
    if !may_drop_packets("the campaign") {
        return;
    }
    let cluster = if turn % 2 == 1 { Storage::cluster("the campaign's turn on a cluster") } else { None };
    let (storage, links) = cluster.map_or((Storage::Embedded, 1_000), |cluster| (cluster, 200));
    let (dir, rate) = (tempfile::tempdir().unwrap(), Campaign::rate(&storage, MESSAGES, FAULTS));
    let campaign = Campaign {
        storage,
        messages: MESSAGES,
        faults: FAULTS,
        seed: turn,
        links,
        rate,
        dir: dir.path().to_owned(),
    };
    let report = campaign.run();
    println!("{report}");
    assert!(report.is_clean(), "{report}");
}
