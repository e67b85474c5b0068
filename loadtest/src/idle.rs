//! `loadtest idle`: what a signed-in link costs that does nothing, as the slope between two numbers of
//! links, so that what the server needs anyway does not count.

use std::thread;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::args::Idle;
use crate::circle::Circle;
use crate::crew::Crew;
use crate::exit::Exit;
use crate::figures::{self, float};
use crate::run_id;
use crate::spec::{Order, Spec};
use crate::usage::{self, Usage};

/// Runs it.
pub(crate) fn run(args: &Idle) -> Result<Exit> {
    let (few, all) = (args.links / 3, args.links);
    let before = measure(args)?;
    let mut crew = start(args)?;
    crew.links(few)?;
    thread::sleep(args.hold);
    let first = measure(args)?;
    let before_hold = crew.links(all)?;
    let begin = measure(args)?;
    thread::sleep(args.hold);
    let end = measure(args)?;
    let after_hold = crew.links(all)?;
    crew.order(Order::End)?;
    let pings = after_hold.pings - before_hold.pings;
    let lost = after_hold.sign_ins - before_hold.sign_ins;
    ensure!(
        lost == 0,
        "{lost} links were lost and made again meanwhile: what was measured is not all of them"
    );

    let bytes = (end.anonymous_bytes - first.anonymous_bytes) / float(all - few);
    let growth = (end.anonymous_bytes - before.anonymous_bytes) / float(all);
    let cpu_s = end.cpu_s - begin.cpu_s;
    let us_per_ping = if pings == 0 { 0.0 } else { cpu_s * 1e6 / float(pings) };
    let missed = args.bytes_max.is_some_and(|max| bytes > max);
    println!(
        "{bytes:.0} B a link (slope of RssAnon from {few} to {all} links; {growth:.0} B as growth from none)"
    );
    println!(
        "{cpu_s:.2} s of processor in {} s for {pings} heartbeats: {us_per_ping:.1} µs each, all else included",
        args.hold.as_secs()
    );
    println!("verdict: {}", if missed { "the objective for bytes was missed" } else { "pass" });
    let exit = if missed { Exit::Objective } else { Exit::Pass };
    let figures = json!({
        "command": "idle",
        "links": all,
        "hold_s": args.hold.as_secs(),
        "bytes_per_link": bytes,
        "growth_bytes_per_link": growth,
        "anonymous_bytes": [before.anonymous_bytes, first.anonymous_bytes, end.anonymous_bytes],
        "pings": pings,
        "hold_cpu_s": cpu_s,
        "cpu_us_per_ping": us_per_ping,
        "exit": exit as u8,
    });
    figures::write(args.target.json.as_deref(), &figures)?;
    Ok(exit)
}

fn measure(args: &Idle) -> Result<Usage> {
    args.pid.map_or_else(|| usage::servers(&args.target.ops), usage::process)
}

fn start(args: &Idle) -> Result<Crew> {
    let servers = args.target.addresses()?;
    let run = run_id();
    Crew::start(args.links, Circle::default().unit(), |first, links| Spec {
        run: run.clone(),
        servers: servers.clone(),
        key: args.target.key.clone(),
        first,
        links,
        circle: Circle::default(),
        connect_s: args.target.connect_timeout.as_secs(),
        journal: None,
        load: None,
    })
}
