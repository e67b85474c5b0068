//! The floor for links: an echo server on edge-triggered epoll, nothing kept per link. What it spends on a
//! message is what the kernel costs; it knows no frames, no deadlines and no users.
//!
//! As many threads as `serve` has reactors unless told otherwise, a listener each: the more threads share the
//! links, the fewer edges a wake-up brings, and a wake-up is the dearest thing here. Floors of unequal counts
//! say nothing about each other.
//!
//! `cargo run --release -p bench --bin echo -- --port 7300`

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, RawFd};
use std::thread;

use clap::Parser;
use socket2::{Domain, Socket, Type};

/// Bytes read at a time, and events taken at a time.
const SCRATCH_BYTES: usize = 16 * 1024;
const EVENTS: usize = 1024;
/// Connections that may wait to be accepted.
const BACKLOG: libc::c_int = 4096;

#[derive(Parser)]
#[command(name = "echo", about = "A raw epoll echo server: the floor for links")]
struct Args {
    /// On all of 127.0.0.0/8.
    #[arg(long, default_value_t = 7300)]
    port: u16,
    /// Each with a listener and an epoll of its own. Default: one a core.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let threads = args.threads.map_or_else(thread::available_parallelism, Ok)?;
    println!("echo: port {}, {threads} threads, pid {}", args.port, std::process::id());
    thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                if let Err(error) = serve(args.port) {
                    eprintln!("echo: {error}");
                    std::process::exit(1);
                }
            });
        }
    });
    Ok(())
}

fn serve(port: u16) -> Result<()> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.set_reuse_port(true)?;
    listener.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    listener.set_nonblocking(true)?;
    listener.listen(BACKLOG)?;
    // SAFETY: takes a flag and returns a descriptor.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    watch(epoll, listener.as_raw_fd(), libc::EPOLLIN)?;
    turns(epoll, listener.as_raw_fd())
}

fn turns(epoll: RawFd, listener: RawFd) -> Result<()> {
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let mut scratch = vec![0_u8; SCRATCH_BYTES];
    loop {
        let max = i32::try_from(events.len()).map_err(Error::other)?;
        // SAFETY: the buffer has room for `max` events.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), max, -1) };
        let count = match check(count) {
            Ok(count) => usize::try_from(count).unwrap_or(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        for event in events.iter().take(count) {
            let fd = RawFd::try_from(event.u64).map_err(Error::other)?;
            if fd == listener {
                accept(epoll, listener)?;
            } else if echo(fd, &mut scratch).is_err() {
                // SAFETY: the descriptor is ours, and nothing uses it after this.
                unsafe { libc::close(fd) };
            }
        }
    }
}

/// Takes every connection that waits.
fn accept(epoll: RawFd, listener: RawFd) -> Result<()> {
    loop {
        let (none, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: no address is asked for, so none is written.
        match check(unsafe { libc::accept4(listener, none, no_length, libc::SOCK_NONBLOCK) }) {
            Ok(fd) => {
                let on: libc::c_int = 1;
                let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(Error::other)?;
                // SAFETY: the option's value is an int of this size, alive during the call.
                check(unsafe {
                    libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), size)
                })?;
                watch(epoll, fd, libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error)
                if error.kind() == ErrorKind::Interrupted || error.kind() == ErrorKind::ConnectionAborted => {
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes back what is there; an error ends the link. A peer that does not read ends it too.
fn echo(fd: RawFd, scratch: &mut [u8]) -> Result<()> {
    loop {
        // SAFETY: the buffer has room for its own length.
        let read = unsafe { libc::recv(fd, scratch.as_mut_ptr().cast(), scratch.len(), 0) };
        let read = match usize::try_from(read) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(_) => {
                let error = Error::last_os_error();
                return if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) };
            }
        };
        // SAFETY: the first `read` bytes of the buffer were just written.
        let sent = unsafe { libc::send(fd, scratch.as_ptr().cast(), read, libc::MSG_NOSIGNAL) };
        if usize::try_from(sent) != Ok(read) {
            return Err(ErrorKind::WriteZero.into());
        }
        if read < scratch.len() {
            return Ok(());
        }
    }
}

fn watch(epoll: RawFd, fd: RawFd, events: libc::c_int) -> Result<()> {
    let data = u64::try_from(fd).map_err(Error::other)?;
    let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: data };
    // SAFETY: the event is alive during the call, and both descriptors are open.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
}

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}
