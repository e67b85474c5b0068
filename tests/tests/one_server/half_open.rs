//! Links whose other end has gone without a word: found in time, whether or not something waits to be written to
//! them, while the links beside them stay.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::development::{Key, find_key};
use proto::limits::BODY_BYTES_MAX;
use proto::v1::{self, client_frame::Frame as C, send::Body, send::To, server_frame::Frame as S};
use proto::{DeviceId, UserId};
use tests::{Device, Rules, Server, connect_narrow, may_drop_packets, sign_in, within};

/// Links that are cut off: half of them in one direction, half in both.
const CUT: usize = 1_000;
/// Those of them to which something waits to be written.
const WAITED_FOR: usize = 50;
/// Messages to each.
const MESSAGES: u64 = 2;
/// Links beside them.
const STAY: usize = 50;
const HEARTBEAT_MS: u64 = 2_000;
const BOUND: Duration = Duration::from_millis(2 * HEARTBEAT_MS + 5_000);

#[test]
fn half_open_links_are_found_within_twice_the_heartbeat_and_5_s() {
    if !may_drop_packets("half-open links") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        format!("conn.heartbeat_min_ms={}", HEARTBEAT_MS / 2),
        format!("conn.heartbeat_max_ms={HEARTBEAT_MS}"),
        // As far below the bound as the default is.
        format!("conn.idle_timeout_ms={}", BOUND.as_millis() - 1_000),
        "conn.unauthenticated_per_address_max=2000".into(),
        "conn.frames_per_s=100000".into(),
    ];
    let arguments: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    let server = Server::start(dir.path(), "server", &arguments);
    let mut stay = signed_in(&server, "s", STAY, Device::connect);
    let mut cut = signed_in(&server, "c", CUT, |address| Device::over(connect_narrow(address)));
    let live = || server.metric("godwit_conn_live_links");
    within(Duration::from_secs(10), "all are live", || (live()? >= as_f64(CUT + STAY)).then_some(()));
    for device in cut.iter_mut().chain(&mut stay) {
        device.send(2, C::Ping(v1::Ping::default()));
    }
    for device in cut.iter_mut().chain(&mut stay) {
        assert_eq!(device.next(), Some((2, S::Pong(v1::Pong {}))));
    }

    let ports: Vec<u16> = cut.iter().map(|device| device.stream.local_addr().unwrap().port()).collect();
    let (one_way, both) = ports.split_at(CUT / 2);
    let _rules = Rules::drop_ports(server.address(), &ports, both);
    let since = Instant::now();
    let mut beat = {
        let mut beats = Instant::now();
        move |stay: &mut [Device]| {
            if beats.elapsed() > Duration::from_millis(HEARTBEAT_MS / 2) {
                beats = Instant::now();
                stay.iter_mut().for_each(|device| device.send(3, C::Ping(v1::Ping::default())));
            }
        }
    };
    // Something waits to be written to some links of either kind: more than their sockets take.
    for i in (0..CUT).step_by(CUT / WAITED_FOR) {
        for n in 1..=MESSAGES {
            beat(&mut stay);
            stay[0].send(10, message(&format!("c{i}"), n));
            while stay[0].next().expect("the link is open") != (10, S::SendAck(v1::SendAck {})) {}
        }
    }
    let least = as_f64(WAITED_FOR * BODY_BYTES_MAX / 2);
    within(Duration::from_secs(5), "it waits", || {
        beat(&mut stay);
        (server.buffered_bytes() >= least).then_some(())
    });
    let left = BOUND.saturating_sub(since.elapsed());
    within(left, "every link that is cut off is found", || {
        beat(&mut stay);
        (live()? <= as_f64(STAY)).then_some(())
    });
    println!(
        "{CUT} of {CUT}, {} of them cut off in one direction, after {:.1} s",
        one_way.len(),
        since.elapsed().as_secs_f64()
    );
    assert_eq!(live(), Some(as_f64(STAY)), "the others stay");
}

/// As long as may be.
fn message(user: &str, n: u64) -> C {
    let message = v1::Message { kind: 1, data: Bytes::from(vec![b'x'; BODY_BYTES_MAX]) };
    let body = Some(Body::Message(message));
    C::Send(v1::Send { to: Some(To::User(user.into())), epoch: 1, n, body })
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// Devices of as many users, all signed in.
fn signed_in(server: &Server, prefix: &str, count: usize, connect: fn(SocketAddr) -> Device) -> Vec<Device> {
    let key = Key::read(&find_key(&server.data())).unwrap();
    let device_id = DeviceId::new("d").unwrap();
    let mut devices: Vec<Device> = (0..count).map(|_| connect(server.address())).collect();
    for (i, device) in devices.iter_mut().enumerate() {
        let user = UserId::new(&format!("{prefix}{i}")).unwrap();
        device.send(1, C::SignIn(sign_in(&key.token(&user, &device_id, 600))));
    }
    for device in &mut devices {
        assert!(matches!(device.next(), Some((1, S::SignInResult(_)))));
    }
    devices
}
