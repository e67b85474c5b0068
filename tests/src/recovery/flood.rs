//! Strangers in numbers, at a steady rate. They give way to what else runs on the machine: in earnest they would come
//! from others.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::development::{Key, find_key};
use proto::v1::client_frame::Frame as C;
use proto::{DeviceId, UserId};

use crate::device::{connect_from, forged, frame_bytes, sign_in};

/// Each waits for what it asks for.
const FLOODERS: u32 = 128;
/// Connections that each of them holds at most.
const HELD_MAX: usize = 31;
/// The nice value of who gives way.
const LESS: libc::c_int = 10;

/// Connections from many addresses that say nothing and stay; how many there were.
pub(super) fn connections(to: SocketAddr, per_s: u32, lasts: Duration) -> u64 {
    flood(per_s, lasts, |held: &mut VecDeque<TcpStream>, number| {
        let Ok(stream) = connect_from(host(number), to) else { return };
        held.push_back(stream);
        if held.len() > HELD_MAX {
            held.pop_front();
        }
    })
}

/// Connections that sign in with a token whose signature is wrong; how many there were.
pub(super) fn sign_ins(to: SocketAddr, data: &Path, per_s: u32, lasts: Duration) -> u64 {
    let key = Key::read(&find_key(data)).unwrap();
    let good = key.token(&UserId::new("stranger").unwrap(), &DeviceId::new("phone").unwrap(), 600);
    let frame = frame_bytes(1, C::SignIn(sign_in(&forged(&good))));
    flood(per_s, lasts, |(), number| {
        let Ok(mut stream) = connect_from(host(number), to) else { return };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = stream.write_all(&frame);
        // The answer and the end; a reset is an end as well.
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

/// Runs `act` so often a second, by several threads with a state each; how often it was run.
fn flood<T: Default>(per_s: u32, lasts: Duration, act: impl Fn(&mut T, u64) + Sync) -> u64 {
    let (count, begun) = (AtomicU64::new(0), Instant::now());
    let pause = Duration::from_secs(1) * FLOODERS / per_s.max(1);
    thread::scope(|scope| {
        for _ in 0..FLOODERS {
            scope.spawn(|| {
                give_way();
                let (mut state, mut due) = (T::default(), Duration::ZERO);
                while begun.elapsed() < lasts {
                    thread::sleep(due.saturating_sub(begun.elapsed()));
                    act(&mut state, count.fetch_add(1, Ordering::Relaxed));
                    due += pause;
                }
            });
        }
    });
    count.into_inner()
}

/// This thread, from now on.
#[allow(unsafe_code, reason = "no crate of the tests has the call")]
fn give_way() {
    // SAFETY: plain numbers go in, and 0 is the thread that calls.
    let outcome = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LESS) };
    assert_eq!(outcome, 0, "a nice value is refused");
}

/// One of many addresses.
fn host(number: u64) -> u16 {
    u16::try_from(1 + number % 1_000).expect("below 2^16")
}
