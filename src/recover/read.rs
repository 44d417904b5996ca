//! Reading lost files: from (file, offset, size) to pieces of the image.

use super::Recovery;
use super::file::{FileId, Mapping, Zeroed};
use crate::run::{self, Evidence, Place, Run};
use crate::units::{Block, FileBlock};
use std::borrow::Cow;
use std::io;

/// A piece of an answer to a read, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    /// Bytes of the image, relative to the filesystem's start.
    Image {
        /// Byte of the filesystem.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Zeros.
    Zeros {
        /// Length in bytes.
        len: u64,
        /// Whether the file had other bytes here, which are missing.
        missing: bool,
    },
    /// Bytes that only [`Recovery::read_at`] can put together.
    Gather {
        /// Length in bytes.
        len: u64,
    },
}

/// A run in bytes, cut at the file's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Range {
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes, never 0.
    pub length: u64,
    /// How it is known.
    pub evidence: Evidence,
    /// First physical block.
    pub block: Option<Block>,
    /// Where the bytes are read.
    pub place: Place,
    /// Why, where the word does not say it.
    pub reason: Cow<'static, str>,
}

impl Recovery {
    /// The runs of a file from `from` on, coalesced, resolved as they are asked for.
    pub fn runs_from(&self, id: FileId, from: FileBlock) -> impl Iterator<Item = Run> + '_ {
        let mut next = self.run_at(id, from);
        std::iter::from_fn(move || {
            let mut runs = vec![next.take()?];
            while let Some(more) = runs.last().and_then(|run| self.run_at(id, run.end())) {
                run::push(&mut runs, more);
                if runs.len() > 1 {
                    next = runs.pop();
                    break;
                }
            }
            runs.pop()
        })
    }

    /// All runs of a file.
    pub fn runs(&self, id: FileId) -> impl Iterator<Item = Run> + '_ {
        self.runs_from(id, FileBlock(0))
    }

    /// All ranges of a file, in bytes: its runs, cut at its size, and where a truncate zeroed part of a block, there.
    pub fn ranges(&self, id: FileId) -> impl Iterator<Item = Range> + '_ {
        self.ranges_from(id, 0)
    }

    /// The ranges from the block on that holds the byte `offset`.
    pub fn ranges_from(&self, id: FileId, offset: u64) -> impl Iterator<Item = Range> + '_ {
        self.in_bytes(id, self.runs_from(id, FileBlock(offset / self.block_size())))
    }

    /// The same, but as the lookups give them: for reading, which has no use for more of a run than it was asked for.
    fn pieces_from(&self, id: FileId, offset: u64) -> impl Iterator<Item = Range> + '_ {
        let first = self.run_at(id, FileBlock(offset / self.block_size()));
        self.in_bytes(id, std::iter::successors(first, move |run| self.run_at(id, run.end())))
    }

    fn in_bytes<'a>(&'a self, id: FileId, runs: impl Iterator<Item = Run> + 'a) -> impl Iterator<Item = Range> + 'a {
        let (file, block_size) = (self.file(id), self.block_size());
        let inline = match &file.mapping {
            Mapping::Inline(bytes) => Some(Range {
                offset: 0,
                length: bytes.len() as u64,
                evidence: Evidence::Journal,
                block: None,
                place: Place::Home,
                reason: Cow::Borrowed("stands in the inode"),
            }),
            Mapping::Indirect { .. } => None,
        };
        inline.into_iter().chain(runs.flat_map(move |run| {
            let start = run.file_block.0 * block_size;
            let end = (run.end().0.saturating_mul(block_size)).min(file.size);
            let (length, evidence, block, place) = (end.saturating_sub(start), run.evidence, run.block, run.place);
            split_zeroed(Range { offset: start, length, evidence, block, place, reason: run.reason }, &file.zeroed, block_size)
        }))
    }

    /// Puts the pieces of `size` bytes from `offset` on into `segments`: exactly the bytes that the file has there.
    pub fn segments(&self, id: FileId, offset: u64, size: u64, segments: &mut Vec<Segment>) {
        let end = offset.saturating_add(size).min(self.file(id).size);
        if offset >= end {
            return;
        }
        let mut at = offset;
        for range in self.pieces_from(id, offset) {
            let stop = (range.offset + range.length).min(end);
            if stop <= at {
                continue;
            }
            let len = stop - at;
            let next = match (&range.block, range.place) {
                (Some(block), Place::Home) if range.evidence.is_data() => Segment::Image { offset: self.place_of(*block, &range, at), len },
                _ if range.evidence.is_data() => Segment::Gather { len },
                _ => Segment::Zeros { len, missing: range.evidence.is_missing() },
            };
            match (segments.last_mut(), next) {
                (Some(Segment::Image { offset, len }), Segment::Image { offset: next, len: more }) if *offset + *len == next => {
                    *len += more
                }
                (Some(Segment::Zeros { len, missing }), Segment::Zeros { len: more, missing: same }) if *missing == same => *len += more,
                (Some(Segment::Gather { len }), Segment::Gather { len: more }) => *len += more,
                (_, next) => segments.push(next),
            }
            at = stop;
            if at >= end {
                return;
            }
        }
    }

    /// Reads into `buf` from `offset` on with `pread`; zeros for holes and what is missing. Returns how many bytes there were.
    /// Fails where the image cannot be read.
    pub fn read_at(&self, id: FileId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let file = self.file(id);
        let end = offset.saturating_add(buf.len() as u64).min(file.size);
        if offset >= end {
            return Ok(0);
        }
        if let Mapping::Inline(bytes) = &file.mapping {
            let part = &bytes[offset as usize..end as usize];
            buf[..part.len()].copy_from_slice(part);
            return Ok(part.len());
        }
        let mut at = offset;
        for range in self.pieces_from(id, offset) {
            let stop = (range.offset + range.length).min(end);
            if stop <= at {
                continue;
            }
            let part = &mut buf[(at - offset) as usize..(stop - offset) as usize];
            match (range.block, range.place) {
                (Some(block), Place::Home) if range.evidence.is_data() => {
                    self.image().read_exact_at(part, self.place_of(block, &range, at))?;
                }
                (Some(_), Place::Log { index, escaped }) if range.evidence.is_data() => {
                    let copy = crate::journal::Copy { moment: file.span.last, index, escaped };
                    let bytes = self.filesystem().journal().read_copy(self.image(), copy)?;
                    let skip = (at - range.offset) as usize;
                    part.copy_from_slice(&bytes[skip..skip + part.len()]);
                }
                _ => part.fill(0),
            }
            at = stop;
            if at >= end {
                break;
            }
        }
        Ok((at - offset) as usize)
    }

    /// Byte of the filesystem at which a file's byte `at` stands: in `range`, which begins somewhere in `block`.
    fn place_of(&self, block: Block, range: &Range, at: u64) -> u64 {
        block.get() * self.block_size() + range.offset % self.block_size() + (at - range.offset)
    }

    /// The target of a symbolic link: from the inode, or from its block.
    pub fn link_target(&self, id: FileId) -> io::Result<Vec<u8>> {
        let file = self.file(id);
        if let Mapping::Inline(target) = &file.mapping {
            return Ok(target.to_vec());
        }
        if file.tally.missing() > 0 || file.size > self.block_size() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut target = vec![0; file.size as usize];
        self.read_at(id, 0, &mut target)?;
        Ok(target)
    }
}

/// Cuts the bytes that a truncate zeroed out of a range; a copy in the journal was made before that.
fn split_zeroed(range: Range, zeroed: &[Zeroed], block_size: u64) -> Vec<Range> {
    let mut parts = vec![range];
    for Zeroed { offset: from, length, stands, .. } in zeroed {
        let Some(at) = parts.iter().position(|part| part.offset <= *from && *from < part.offset + part.length) else { continue };
        if !parts[at].evidence.is_data() || parts[at].place != Place::Home {
            continue;
        }
        let whole = parts.remove(at);
        let (end, to) = (whole.offset + whole.length, (from + length).min(whole.offset + whole.length));
        let part = |offset: u64, end: u64| {
            let block = whole.block.map(|block| block.plus((offset - whole.offset) / block_size));
            Range { offset, length: end - offset, block, ..whole.clone() }
        };
        let (evidence, reason) = match stands {
            true => (Evidence::Inferred, "a truncate cut the file here, but its zeros never reached the disk"),
            false => (Evidence::Overwritten, "zeroed by a truncate"),
        };
        let zeros = Range { evidence, reason: Cow::Borrowed(reason), ..part(*from, to) };
        let pieces = [part(whole.offset, *from), zeros, part(to, end)];
        parts.splice(at..at, pieces.into_iter().filter(|part| part.length > 0));
    }
    parts.retain(|part| part.length > 0);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_bytes_are_cut_out() {
        let range = Range {
            offset: 4096,
            length: 8192,
            evidence: Evidence::Chain,
            block: Block::new(50),
            place: Place::Home,
            reason: Cow::Borrowed(""),
        };
        let zeroed = |offset, length, stands| [Zeroed { offset, length, grown: false, stands }];
        let parts: Vec<_> = split_zeroed(range.clone(), &zeroed(5000, 3192, false), 4096)
            .iter()
            .map(|r| (r.offset, r.length, r.evidence, r.block.unwrap().get()))
            .collect();
        assert_eq!(parts, [(4096, 904, Evidence::Chain, 50), (5000, 3192, Evidence::Overwritten, 50), (8192, 4096, Evidence::Chain, 51)]);
        assert_eq!(split_zeroed(range.clone(), &[], 4096), std::slice::from_ref(&range));
        assert_eq!(split_zeroed(range.clone(), &zeroed(0, 4096, false), 4096), std::slice::from_ref(&range));
        assert_eq!(split_zeroed(range, &zeroed(5000, 3192, true), 4096)[1].evidence, Evidence::Inferred);
    }
}
