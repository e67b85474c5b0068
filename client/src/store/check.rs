//! What must hold of whatever stands in a journal. A violation panics. For tests, and for the fuzz targets under
//! `fuzz/`.

use std::path::Path;

use proto::{DeviceId, UserId};

use super::Saved;
use super::file::replay;
use super::journal::{self, Batch, What};

/// A journal of these bytes, and one whose commits say what these bytes say (they are delimited batches), reads or is
/// an error; what reads is read again from what is whole of it, and from a journal that was rewritten.
pub fn journal(bytes: &[u8]) {
    reads_back(bytes);
    let mut sound = Vec::new();
    write(&journal::snapshot("ann", "phone", &Saved::default()), &mut sound);
    let mut decoder = proto::frame::Decoder::new(usize::MAX >> 1);
    decoder.extend(bytes);
    while let Ok(Some(frame)) = decoder.next_frame() {
        let Ok(mut batch) = <Batch as prost::Message>::decode(frame) else { return };
        // Another device's journal is another case: it is refused as a whole.
        for line in &mut batch.lines {
            if let Some(What::Header(header)) = &mut line.what {
                (header.user, header.device) = ("ann".into(), "phone".into());
            }
        }
        write(&batch, &mut sound);
    }
    reads_back(&sound);
}

fn reads_back(bytes: &[u8]) {
    let Some((saved, whole)) = read(bytes) else { return };
    assert_eq!(
        read(bytes.get(..whole).unwrap_or_default()),
        Some((saved.clone(), whole)),
        "the whole part of it"
    );
    let mut rewritten = Vec::new();
    write(&journal::snapshot("ann", "phone", &saved), &mut rewritten);
    assert_eq!(read(&rewritten).map(|(saved, _)| saved), Some(saved), "rewritten");
}

fn read(bytes: &[u8]) -> Option<(Saved, usize)> {
    let (ann, phone) = (UserId::new("ann").expect("an id"), DeviceId::new("phone").expect("an id"));
    let (saved, whole) = replay(Path::new("journal"), bytes, &ann, &phone).ok()?;
    Some((saved, usize::try_from(whole).expect("no more than there is")))
}

fn write(batch: &Batch, out: &mut Vec<u8>) {
    journal::write(batch, out).expect("memory takes it");
}
