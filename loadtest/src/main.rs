//! `loadtest`: loads a Godwit server and verifies what it delivers, with its own links on its own epoll, so
//! that the load costs little beside what it measures.
//!
//! A command starts workers (this program again) and tells them what to do; a worker drives the client
//! core over its links, judges every frame as it stands, and reports. Nothing here knows the server's code.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use client::development::Key;

mod args;
mod beat;
mod check;
mod churn;
mod circle;
mod clock;
mod crew;
mod dense;
mod exit;
mod figures;
mod fleet;
mod idle;
mod intervals;
mod journal;
mod judge;
mod link;
mod names;
mod outcome;
mod payload;
mod plan;
mod send;
mod sight;
mod spec;
mod tally;
mod usage;
mod violations;
mod wire;
mod worker;

use args::{Args, Command};
use exit::Exit;

fn main() -> ExitCode {
    let command = Args::parse().command;
    if let Some(Err(error)) = command.key().map(Key::read) {
        eprintln!("error: --key: {error:#}");
        return ExitCode::from(Exit::Usage as u8);
    }
    let outcome = match command {
        Command::Send(args) => send::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Beat(args) => beat::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Worker { spec } => work(&spec),
    };
    let exit = outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Exit::Unreachable
    });
    ExitCode::from(exit as u8)
}

fn work(spec: &str) -> Result<Exit> {
    worker::run(&serde_json::from_str(spec)?)?;
    Ok(Exit::Pass)
}

/// Tells this run's users from those of earlier runs: timelines begin empty.
fn run_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}
