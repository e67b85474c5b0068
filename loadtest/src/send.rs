//! `loadtest send`: the run, its figures and its verdict.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::args::Send;
use crate::crew::Crew;
use crate::exit::Exit;
use crate::journal::About;
use crate::outcome::{self, Outcome};
use crate::spec::{Load, Order, Report, Spec};
use crate::usage;
use crate::{figures, intervals, journal, run_id};

/// Runs it.
pub(crate) fn run(args: &Send) -> Result<Exit> {
    if let Some(group) = args.groups.filter(|group| !args.links.is_multiple_of(*group)) {
        eprintln!("error: --links {} is no multiple of --groups {group}", args.links);
        return Ok(Exit::Usage);
    }
    let circle = args.circle();
    if let Some(dir) = &args.journal {
        journal::create_dir(dir, About { links: args.links.next_multiple_of(circle.unit()), circle })?;
    }
    let mut crew = start(args)?;
    crew.links(args.links)?;
    crew.order(Order::Found)?;
    crew.gather(|report| matches!(report, Report::Founded))?;
    let before = usage::servers(&args.target.ops);
    crew.order(Order::Go)?;
    crew.heed_sigterm()?;
    println!("the load begins");
    crew.gather(|report| matches!(report, Report::Sent))?;
    let loaded = usage::servers(&args.target.ops);
    crew.gather(|report| matches!(report, Report::Drained))?;
    let after = usage::servers(&args.target.ops);
    let mut outcome = Outcome { drained: true, ..Outcome::default() };
    crew.gather(|report| match report {
        Report::Done(done) => {
            outcome.add(*done);
            true
        }
        _ => false,
    })?;
    crew.order(Order::End)?;
    let server = figures::Server::between(before, loaded, after, outcome.received);
    let verdict = verdict(args, &outcome);
    print!("{}", text(args, &outcome, server.as_ref(), &verdict));
    figures::write(args.target.json.as_deref(), &json(args, &outcome, server.as_ref(), &verdict))?;
    Ok(verdict.0)
}

fn start(args: &Send) -> Result<Crew> {
    let servers = args.target.addresses()?;
    let run = run_id();
    let circle = args.circle();
    Crew::start(args.links, circle.unit(), |first, links| Spec {
        run: run.clone(),
        servers: servers.clone(),
        key: args.target.key.clone(),
        first,
        links,
        circle,
        connect_s: args.target.connect_timeout.as_secs(),
        journal: args.journal.clone(),
        load: Some(Load {
            rate: args.rate * figures::float(links) / figures::float(args.links.next_multiple_of(2)),
            duration_us: us(args.duration),
            body_bytes: args.bytes,
            churn: args.churn * figures::float(links) / figures::float(args.links.next_multiple_of(2)),
            drain_us: us(args.drain),
            interval_us: args.interval.map_or(0, us),
        }),
    })
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How it ends, and why. A broken promise outweighs everything.
fn verdict(args: &Send, outcome: &Outcome) -> (Exit, &'static str) {
    let p99_ms = figures::float(outcome::from_pairs(&outcome.end_to_end).value_at_quantile(0.99)) / 1e3;
    if outcome.violations.any() {
        (Exit::Violation, "a promise was broken")
    } else if outcome.overflowed > 0 {
        (Exit::Saturated, "saturated: outboxes were full")
    } else if outcome.sent == 0 {
        (Exit::Saturated, "nothing was sent")
    } else if !outcome.drained {
        (Exit::Saturated, "saturated: not everything had arrived in time")
    } else if outcome.late_us_max > us(args.late) {
        (Exit::Saturated, "saturated: the harness was late with its sends")
    } else if args.p99_ms.is_some_and(|max| p99_ms > max) {
        (Exit::Objective, "the objective for p99 was missed")
    } else {
        (Exit::Pass, "pass")
    }
}

fn text(args: &Send, outcome: &Outcome, server: Option<&figures::Server>, verdict: &(Exit, &str)) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!(
        "{} links, {} messages/s for {:?}: {} sent, {} acknowledged, {} received, {} own copies, {} reconnects",
        args.links,
        args.rate,
        args.duration,
        outcome.sent,
        outcome.acked,
        outcome.received,
        outcome.own,
        outcome.reconnects,
    ));
    if outcome.parted > 0 || args.groups.is_some() {
        let Outcome { copies, entries, parted, .. } = outcome;
        line(format!(
            "to {copies} other devices, {entries} entries in timelines; {parted} links ended on purpose"
        ));
    }
    if outcome.ended_early {
        line("the load was ended before its time".into());
    }
    line(outcome.violations.text());
    for (name, pairs) in [("end to end", &outcome.end_to_end), ("to ack", &outcome.to_ack)] {
        let latencies = outcome::from_pairs(pairs);
        let ms = |quantile: f64| figures::float(latencies.value_at_quantile(quantile)) / 1e3;
        line(format!(
            "{name}: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
            ms(0.5),
            ms(0.99),
            ms(0.999),
            ms(1.0),
        ));
    }
    line(format!(
        "drained {:.2} s after the last send; the harness was at most {:.2} ms late, {:.1} µs of its processor per message",
        figures::float(outcome.drain_us) / 1e6,
        figures::float(outcome.late_us_max) / 1e3,
        figures::ratio(outcome.cpu_us, outcome.received),
    ));
    line(match server {
        Some(server) => server.text(),
        None => "server: no figures from --ops".into(),
    });
    line(format!("verdict: {}", verdict.1));
    text
}

fn json(args: &Send, outcome: &Outcome, server: Option<&figures::Server>, verdict: &(Exit, &str)) -> Value {
    json!({
        "command": "send",
        "links": args.links,
        "rate": args.rate,
        "duration_s": args.duration.as_secs_f64(),
        "ended_early": outcome.ended_early,
        "body_bytes": args.bytes,
        "sent": outcome.sent,
        "acked": outcome.acked,
        "received": outcome.received,
        "own": outcome.own,
        "reconnects": outcome.reconnects,
        "copies": outcome.copies,
        "entries": outcome.entries,
        "parted": outcome.parted,
        "overflowed": outcome.overflowed,
        "violations": outcome.violations,
        "end_to_end_us": outcome::quantiles(&outcome.end_to_end),
        "to_ack_us": outcome::quantiles(&outcome.to_ack),
        "began_ms": outcome.began_ms,
        "interval_ms": args.interval.map(|every| every.as_millis()),
        "intervals_us": intervals::json(&outcome.intervals),
        "drained": outcome.drained,
        "drain_us": outcome.drain_us,
        "harness_late_us_max": outcome.late_us_max,
        "harness_cpu_us": outcome.cpu_us,
        "server": server.map(figures::Server::json),
        "verdict": verdict.1,
        "exit": verdict.0 as u8,
    })
}
