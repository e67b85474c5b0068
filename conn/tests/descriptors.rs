//! Running out of descriptors pauses accept and nothing else; it goes on by itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::cast_possible_truncation, clippy::disallowed_methods, reason = "a test")]

mod support;

use conn::Config;
use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
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
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    // Both ends are in this process: a client's socket fits, the server's does not always.
    let before = set_limit(open + 9);
    let mut waiting: Vec<_> = (0..6).map(|_| std::net::TcpStream::connect(world.node.address())).collect();
    waiting.retain(Result::is_ok);
    assert!(waiting.len() > 4, "the backlog takes them");
    ann.send(5, C::Ping(v1::Ping::default()));
    assert!(matches!(ann.expect(), S::Pong(_)), "links that are there go on");
    assert!(world.node.links() < 1 + waiting.len() as u64, "there are descriptors left");
    set_limit(before);
    until("all are accepted", || world.node.links() == 1 + waiting.len() as u64);
    world.signed_in("bob", "d1").hang_up();
}
