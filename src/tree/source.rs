//! What can be read from the image under a name.

use crate::recover::{FileId, Recovery, Segment};
use std::io;

/// Whose bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A lost file's.
    Lost(FileId),
    /// Those of free space that no lost file explains, each at its place in the filesystem; zeros elsewhere.
    Unclaimed,
}

impl Source {
    /// Bytes.
    pub fn size(self, recovery: &Recovery) -> u64 {
        match self {
            Source::Lost(file) => recovery.file(file).size,
            Source::Unclaimed => recovery.filesystem_bytes(),
        }
    }

    /// Puts the pieces of `size` bytes from `offset` on into `segments`: exactly the bytes that there are.
    pub fn segments(self, recovery: &Recovery, offset: u64, size: u64, segments: &mut Vec<Segment>) {
        match self {
            Source::Lost(file) => recovery.segments(file, offset, size, segments),
            Source::Unclaimed => {
                let end = offset.saturating_add(size).min(self.size(recovery));
                let mut at = offset;
                while at < end {
                    let range = recovery.unclaimed(at..end).unwrap_or(end..end);
                    if range.start > at {
                        segments.push(Segment::Zeros { len: range.start - at, missing: false });
                    }
                    if !range.is_empty() {
                        segments.push(Segment::Image { offset: range.start, len: range.end - range.start });
                    }
                    at = range.end;
                }
            }
        }
    }

    /// Reads what a [`Segment::Gather`] stands for, at `offset`, into `buf`. Returns how many bytes there were.
    ///
    /// # Errors
    /// Where the image cannot be read.
    pub fn gather(self, recovery: &Recovery, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Lost(file) => recovery.read_at(file, offset, buf),
            // All of it lies in the image as it is.
            Source::Unclaimed => Ok(0),
        }
    }

    /// The first byte of data at or after `from`. What is missing counts as a hole, or with `missing_is_data` as data.
    pub(super) fn next_data(self, recovery: &Recovery, from: u64, missing_is_data: bool) -> Option<u64> {
        let size = self.size(recovery);
        match self {
            Source::Lost(file) => {
                let mut ranges = recovery.ranges_from(file, from);
                let data = ranges.find(|range| {
                    let evidence = range.evidence;
                    (evidence.is_data() || missing_is_data && evidence.is_missing()) && range.offset + range.length > from
                })?;
                Some(data.offset.max(from)).filter(|at| *at < size)
            }
            Source::Unclaimed => recovery.unclaimed(from..size).map(|range| range.start),
        }
    }

    /// The first byte of a hole at or after `from`, which is inside; the end counts as one.
    pub(super) fn next_hole(self, recovery: &Recovery, from: u64, missing_is_data: bool) -> u64 {
        let size = self.size(recovery);
        match self {
            Source::Lost(file) => {
                let hole = recovery.ranges_from(file, from).find(|range| {
                    let evidence = range.evidence;
                    !(evidence.is_data() || missing_is_data && evidence.is_missing()) && range.offset + range.length > from
                });
                hole.map_or(size, |range| range.offset.max(from))
            }
            Source::Unclaimed => {
                let mut at = from;
                // A lookup does not look beyond its group of blocks.
                while let Some(range) = recovery.unclaimed(at..size).filter(|range| range.start == at) {
                    at = range.end;
                }
                at
            }
        }
    }
}
