//! `loadtest beat`: nothing but heartbeats at an even pace, over signed-in links of a server or, raw, over
//! the links of an echo server, so that what a heartbeat costs the one can be set beside the other.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use client::development::Key;
use mio::{Events, Interest, Poll, Token};
use prost::Message as _;
use proto::frame::{self, Decoder};
use proto::{DeviceId, UserId, limits, v1};
use serde_json::json;

use crate::args::Beat;
use crate::clock::{Clock, Micros};
use crate::exit::Exit;
use crate::figures::{self, float};
use crate::run_id;
use crate::usage::{self, Usage};

const READ_BYTES: usize = 4 * 1024;
const TOKEN_LIFE_S: u64 = 24 * 3_600;
/// A server that does not answer a sign-in for this long turns it away.
const PATIENCE: Duration = Duration::from_secs(30);
/// Answers may take this long after the last beat.
const DRAIN_US: u64 = 2_000_000;
/// Nothing is waited for longer at a time.
const TURN_US: u64 = 20_000;

/// Runs it.
pub(crate) fn run(args: &Beat) -> Result<Exit> {
    let mut links = connect(args)?;
    let ping =
        v1::ClientFrame { request_id: 0, frame: Some(v1::client_frame::Frame::Ping(v1::Ping::default())) };
    let mut beats = Beats { clock: Clock::start(), ping: frame::to_bytes(&ping), answers: 0 };
    let before = measure(args)?;
    let sent = beats.all(&mut links, args.rate, args.duration)?;
    let after = measure(args)?;

    let us = (after.cpu_s - before.cpu_s) * 1e6 / float(beats.answers.max(1));
    let answers = beats.answers;
    println!(
        "{} links, {sent} beats, {answers} answered: {us:.2} µs of the server's processor each",
        args.links
    );
    // What one costs is right at any rate, as long as all were answered.
    let planned = args.rate * args.duration.as_secs_f64();
    if float(sent) < 0.99 * planned {
        println!("{planned:.0} were planned: this side could not keep the pace");
    }
    let exit = if answers == sent { Exit::Pass } else { Exit::Saturated };
    println!("verdict: {}", if answers == sent { "pass" } else { "saturated: not every beat was answered" });
    let figures = json!({
        "command": "beat", "links": args.links, "rate": args.rate, "sent": sent, "answers": answers,
        "cpu_us_per_beat": us, "exit": exit as u8,
    });
    figures::write(args.target.json.as_deref(), &figures)?;
    Ok(exit)
}

fn measure(args: &Beat) -> Result<Usage> {
    args.pid.map_or_else(|| usage::servers(&args.target.ops), usage::process)
}

struct Link {
    stream: mio::net::TcpStream,
    input: Decoder,
}

fn connect(args: &Beat) -> Result<Vec<Link>> {
    let addresses = args.target.addresses()?;
    let key = if args.raw { None } else { Some(Key::read(&args.target.key)?) };
    let run = run_id();
    let mut links = Vec::new();
    for (i, address) in (0..args.links).zip(addresses.iter().cycle()) {
        let stream = open(*address)?;
        let mut input = Decoder::new(limits::SERVER_FRAME_BYTES_MAX);
        if let Some(key) = &key {
            let user = UserId::new(&format!("beat-{run}-{i}"))?;
            sign_in(&stream, &mut input, key.token(&user, &DeviceId::new("beat")?, TOKEN_LIFE_S))?;
        }
        stream.set_nonblocking(true)?;
        links.push(Link { stream: mio::net::TcpStream::from_std(stream), input });
    }
    Ok(links)
}

fn open(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| address.to_string())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Signs one link in, and waits for the session.
fn sign_in(mut stream: &TcpStream, input: &mut Decoder, token: String) -> Result<()> {
    let sign_in = v1::SignIn { token, protocol: 1, client: "loadtest".into(), ..v1::SignIn::default() };
    let frame = Some(v1::client_frame::Frame::SignIn(sign_in));
    stream.write_all(&frame::to_bytes(&v1::ClientFrame { request_id: 1, frame }))?;
    let mut scratch = [0; READ_BYTES];
    loop {
        while let Some(bytes) = input.next_frame()? {
            match v1::ServerFrame::decode(bytes)?.frame {
                Some(v1::server_frame::Frame::SignInResult(_)) => return Ok(()),
                Some(v1::server_frame::Frame::Error(error)) => bail!("{}: {}", error.name, error.detail),
                Some(v1::server_frame::Frame::Kick(kick)) => bail!("closed: {}", kick.reason),
                _ => {}
            }
        }
        let bytes = stream.read(&mut scratch)?;
        ensure!(bytes > 0, "the server closed a link that signed in");
        input.extend(scratch.get(..bytes).unwrap_or_default());
    }
}

struct Beats {
    clock: Clock,
    ping: Bytes,
    answers: u64,
}

impl Beats {
    /// Beats link after link, so many a second, and counts the answers. Returns how many were sent.
    fn all(&mut self, links: &mut [Link], rate: f64, duration: Duration) -> Result<u64> {
        let mut poll = Poll::new()?;
        for (i, link) in links.iter_mut().enumerate() {
            poll.registry().register(&mut link.stream, Token(i), Interest::READABLE)?;
        }
        let mut events = Events::with_capacity(1_024);
        let (start, period_us) = (self.clock.now(), 1e6 / rate);
        let end = start.after(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        let mut sent = 0;
        loop {
            let now = self.clock.now();
            let is_over = now >= end;
            if is_over && (self.answers == sent || now >= end.after(DRAIN_US)) {
                return Ok(sent);
            }
            while !is_over && due(start, period_us, sent) <= now {
                let count = links.len() as u64;
                let link = links.get_mut(usize::try_from(sent % count)?).context("no link")?;
                link.stream.write_all(&self.ping).context("a link broke, or its server does not read")?;
                sent += 1;
            }
            let next = due(start, period_us, sent).min(now.after(TURN_US));
            match poll.poll(&mut events, Some(self.clock.until(next))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                self.read(links.get_mut(event.token().0).context("no link")?)?;
            }
        }
    }

    fn read(&mut self, link: &mut Link) -> Result<()> {
        let mut scratch = [0; READ_BYTES];
        loop {
            match link.stream.read(&mut scratch) {
                Ok(0) => bail!("the server closed a link"),
                Ok(bytes) => link.input.extend(scratch.get(..bytes).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        while link.input.next_frame()?.is_some() {
            self.answers += 1;
        }
        Ok(())
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "microseconds of a run, not negative and far below 2^52"
)]
fn due(start: Micros, period_us: f64, number: u64) -> Micros {
    start.after((float(number) * period_us) as u64)
}
