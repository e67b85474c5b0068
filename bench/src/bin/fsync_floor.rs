//! The floor for durable appends: one file, one thread, a batch of rows and an fdatasync, again and again.
//! What no log that syncs before it acknowledges can beat on this disk at this moment.
//!
//! `cargo run --release -p bench --bin fsync_floor -- --dir . --batch 100 --rows 200000`

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;

#[derive(Parser)]
#[command(name = "fsync_floor", about = "Appends and fdatasyncs: the floor for durable appends")]
struct Args {
    /// On the disk that is to be measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Rows between two syncs.
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Rows altogether.
    #[arg(long, default_value_t = 200_000)]
    rows: usize,
    /// Bytes of a row.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
}

#[allow(clippy::disallowed_methods, reason = "a measurement; it has no other clock file")]
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn main() -> Result<()> {
    let Args { dir, batch, rows, bytes } = Args::parse();
    ensure!(batch > 0 && rows >= batch, "at least one batch of at least one row");
    let path = dir.join(format!("fsync-floor-{}", std::process::id()));
    let mut file = File::create_new(&path).with_context(|| path.display().to_string())?;
    let data = vec![b'x'; batch * bytes];
    let syncs = rows / batch;
    let mut longest = 0.0_f64;
    let begin = Instant::now();
    let mut outcome = Ok(());
    for _ in 0..syncs {
        let start = Instant::now();
        outcome = file.write_all(&data).and_then(|()| file.sync_data());
        longest = longest.max(start.elapsed().as_secs_f64());
        if outcome.is_err() {
            break;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    outcome?;
    let per_second = syncs as f64 / seconds;
    println!(
        "{:.0} rows/s, {per_second:.0} syncs/s, {:.3} ms a sync, longest {:.2} ms",
        per_second * batch as f64,
        1e3 / per_second,
        longest * 1e3,
    );
    Ok(())
}
