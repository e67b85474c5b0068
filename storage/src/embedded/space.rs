//! How much room there is for files: on the file system of a directory, and in the table of descriptors. Never writes.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::statvfs;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Files that a flush or a merge opens at once.
const FEW: usize = 16;

/// The bytes that a process without privileges may still write.
pub(super) fn available(dir: &Path) -> io::Result<u64> {
    let stat = statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The descriptors that this process may have.
pub(super) fn descriptors_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Whether no more files can be opened, or hardly any.
pub(super) fn is_out_of_descriptors() -> bool {
    let opened: io::Result<Vec<File>> = (0..FEW).map(|_| File::open("/dev/null")).collect();
    opened.is_err_and(|error| matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_directory_has_room_and_a_missing_one_is_an_error() {
        assert!(super::available(&std::env::temp_dir()).unwrap() > 0);
        assert!(super::available(std::path::Path::new("/no/such/directory")).is_err());
    }
}
