//! The clock of one process, which libfaketime lets go wrong while it runs.

use std::fs;
use std::path::{Path, PathBuf};

/// Where distributions have the library.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A clock, and the file that says how wrong it is.
pub(crate) struct Clock(PathBuf);

impl Clock {
    /// A clock that is right.
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let clock = Self(dir.join(format!("{name}.clock")));
        clock.shift(0);
        clock
    }

    /// Makes it wrong by so many seconds, from within a second on.
    pub(crate) fn shift(&self, seconds: i64) {
        // Renamed, so that nobody reads half of it.
        let part = self.0.with_extension("part");
        fs::write(&part, format!("{seconds:+}\n")).unwrap();
        fs::rename(part, &self.0).unwrap();
    }

    /// What a process needs to have it. Only the time of day goes wrong, not the time since a start.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let library = LIBRARIES.into_iter().find(|library| Path::new(library).exists());
        let pairs = [
            ("LD_PRELOAD", library.expect("libfaketime is needed").to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.display().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
