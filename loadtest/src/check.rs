//! `loadtest check`: the verdict on a run, from what its devices kept of it and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde_json::json;

use crate::args::Check;
use crate::circle::{Circle, Room};
use crate::exit::Exit;
use crate::journal::About;
use crate::judge::Judge;
use crate::violations::Violations;
use crate::{figures, journal};

/// What the journals say.
#[derive(Debug, Default)]
struct Findings {
    devices: u64,
    sent: u64,
    acked: u64,
    violations: Violations,
}

/// Runs it.
pub(crate) fn run(args: &Check) -> Result<Exit> {
    let paths = journal::all(&args.journal)?;
    ensure!(!paths.is_empty(), "{} holds no journal", args.journal.display());
    let About { links, circle } = journal::about(&args.journal)?;
    let mut findings = Findings::default();
    for path in &paths {
        judge(path, circle, &mut findings)?;
    }
    ensure!(
        findings.devices == links,
        "{} has the journals of {} devices, and there were {links}",
        args.journal.display(),
        findings.devices
    );
    let Findings { devices, sent, acked, violations } = &findings;
    println!("{devices} devices, {sent} sent, {acked} acknowledged");
    println!("{}", violations.text());
    let exit = if violations.any() { Exit::Violation } else { Exit::Pass };
    println!("verdict: {}", if violations.any() { "a promise was broken" } else { "pass" });
    let figures = json!({
        "command": "check", "devices": devices, "sent": sent, "acked": acked, "violations": violations,
        "exit": exit as u8,
    });
    figures::write(args.json.as_deref(), &figures)?;
    Ok(exit)
}

/// Judges the devices of one journal; all who write to each other are in it.
fn judge(path: &Path, circle: Circle, findings: &mut Findings) -> Result<()> {
    let mut judges: BTreeMap<u64, Judge> = BTreeMap::new();
    let devices = journal::read(path, |device, note| {
        judges.entry(device).or_insert_with(|| Judge::new(device, circle)).take(note, |_| {});
    })?;
    ensure!(
        judges.len() as u64 == devices,
        "{} has {} devices, and is of {devices}",
        path.display(),
        judges.len()
    );
    for (device, judge) in &judges {
        let audience =
            [Room::Direct, Room::Group].into_iter().flat_map(|room| circle.audience(*device, room));
        if let Some(missing) = audience.into_iter().find(|device| !judges.contains_key(device)) {
            bail!("{} lacks device {missing}", path.display());
        }
        findings.devices += 1;
        findings.sent += judge.sent();
        findings.acked += (0..judge.sent()).filter(|index| judge.is_acked(*index)).count() as u64;
        findings.violations.add(&judge.finish(|device| judges.get(&device)));
    }
    Ok(())
}
