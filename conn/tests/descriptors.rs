//! Running out of descriptors pauses accept and nothing else; it goes on by itself. Links leave the last ones to
//! everything else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::cast_possible_truncation, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::fs::File;

use conn::Config;
use proto::close::Close;
use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
use socket2::{Domain, Socket, Type};
use support::*;

fn set_limit(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is this function's own.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        let before = limit.rlim_cur;
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        before
    }
}

#[test]
fn without_descriptors_links_wait_and_are_accepted_later() {
    let world = World::start(Config { reactors: 1, ..config() });
    let mut ann = world.signed_in("ann", "d1");
    // Both ends are in this process. The devices' sockets are made before the descriptors run out.
    let waiting: Vec<Socket> =
        (0..6).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let before = set_limit(256);
    let mut rest: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let address = world.node.address().into();
    waiting.iter().for_each(|socket| socket.connect(&address).expect("the backlog takes it"));
    ann.send(5, C::Ping(v1::Ping::default()));
    assert!(matches!(ann.expect(), S::Pong(_)), "links that are there go on");
    assert_eq!(world.node.links(), 1, "there is no descriptor left");
    set_limit(before);
    until("all are accepted", || world.node.links() == 7);
    world.signed_in("bob", "d1").hang_up();
    until("bob is gone", || world.node.links() == 7);

    // Half of the last quarter is free: links leave it to the log and the tables.
    set_limit(256);
    rest.truncate(rest.len() - 32);
    world.device().expect_kick(Close::Overloaded);
    File::open("/dev/null").expect("files can be opened");
    drop(rest);
    world.signed_in("bob", "d1").hang_up();
    set_limit(before);
}
