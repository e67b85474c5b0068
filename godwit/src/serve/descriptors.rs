//! The limit on open descriptors: every link is one.

/// Raises the soft limit to the hard one, and returns it; none where the system does not say.
pub(super) fn raise() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to fill.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `wanted` is a valid rlimit that the call only reads.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0;
    Some(if raised { wanted.rlim_cur } else { limit.rlim_cur })
}
