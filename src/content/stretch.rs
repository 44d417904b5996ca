//! Records found in bytes of which nothing is known: blocks that lie one after the other and hold records which follow each other
//! over their borders. What a file's blocks look like in free space.

use super::myisam::dynamic::RowBlocks;
use super::myisam::row_block::{ALIGN, MAX_SLACK};
use super::records::{MIN_SYNC, Records, Step};

/// Heads that blocks at an end of a stretch need to belong to it for their own sake: a single one, in a strange block, leads into the
/// stretch by chance in up to 7 of 100 blocks of random bytes.
const MIN_HEADS: u32 = 3;

/// Consecutive blocks whose records follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The first of the blocks.
    pub first: usize,
    /// How many.
    pub blocks: usize,
    /// Byte of the first block at which a record begins, the first that is known.
    pub head: usize,
    /// Byte of the last block at which its last record begins.
    pub tail: usize,
    /// So many blocks at its start hold so few heads that chance may have put them there.
    pub weak_start: usize,
    /// The same at its end.
    pub weak_end: usize,
}

/// All stretches in `bytes`, in order, apart from each other. The last record of a block must lead out of it, so a block that holds
/// anything else ends a stretch and is no part of it. Takes one step for each place where a record can begin, and 4 bytes of memory.
pub fn stretches(records: &(impl Records + ?Sized), bytes: &[u8], block_size: usize) -> Vec<Stretch> {
    let (align, block_size) = (records.align().max(1), block_size.max(1));
    let mut heads = vec![0u32; bytes.len().div_ceil(align)];
    for place in (0..heads.len()).rev() {
        let rest = &bytes[place * align..];
        if let Step::Record(length) = records.step(rest)
            && (length as usize).is_multiple_of(align)
        {
            let after = heads.get(place + length as usize / align).map_or(0, |after| *after);
            heads[place] = after.saturating_add(u32::from(records.is_telling(rest)));
        }
    }
    let mut found = vec![];
    let mut block = 0;
    while block * block_size < bytes.len() {
        let places = block * block_size / align..((block + 1) * block_size).min(bytes.len()).div_ceil(align);
        // The first of the longest: counts fall along a chain.
        let best = places.max_by_key(|&place| (heads[place], std::cmp::Reverse(place))).filter(|&place| heads[place] >= MIN_SYNC);
        let stretch = best.and_then(|place| follow(records, bytes, block_size, place * align));
        block += stretch.map_or(1, |stretch| stretch.blocks);
        found.extend(stretch);
    }
    found
}

/// Bytes of each [`STRIDE`] in which [`holds_rows`] looks for where a row may begin: what several rows stand in has many of these.
const LOOKED_AT: usize = 1 << 10;
/// See [`LOOKED_AT`].
const STRIDE: usize = 4 << 10;

/// Whether rows of a dynamic MyISAM table stand in `bytes`: as many of them follow each other as make a stretch. What a scan asks of
/// everything, so that nobody else need look where there are none.
pub fn holds_rows(bytes: &[u8]) -> bool {
    let begins = |at: usize| {
        let mut at = at;
        (0..MIN_SYNC).all(|_| match bytes.get(at..).map(|rest| RowBlocks::ANY.step(rest)) {
            Some(Step::Record(length)) => {
                at += length as usize;
                true
            }
            _ => false,
        })
    };
    // Whole rows (1, 3) and last parts (7, 9) of less than 64 KiB, which every table has: type, length (big-endian) and, with 3 and 9,
    // slack. Without branches, many at a time: nearly everything ends here.
    let could = |head: &[u8; ALIGN]| {
        let word = u32::from_le_bytes(*head);
        let (kind, length, slack) = (word & 0xff, word >> 16 & 3, word >> 24);
        let plain = (kind == 1) | (kind == 7);
        let slackened = ((kind == 3) | (kind == 9)) & (slack <= MAX_SLACK as u32);
        (plain & (length == 1)) | (slackened & ((length + slack) & 3 == 0))
    };
    const MANY: usize = 16;
    bytes.chunks(STRIDE).zip((0..).step_by(STRIDE)).any(|(stride, start)| {
        let heads = stride[..stride.len().min(LOOKED_AT)].as_chunks::<ALIGN>().0;
        heads.chunks(MANY).zip((start..).step_by(MANY * ALIGN)).any(|(heads, start)| {
            heads.iter().fold(false, |any, head| any | could(head))
                && heads.iter().zip((start..).step_by(ALIGN)).any(|(head, at)| could(head) && begins(at))
        })
    })
}

/// The bytes at which records begin, the first of them at `head`, up to where they break.
pub fn heads(records: &(impl Records + ?Sized), bytes: &[u8], head: usize) -> Vec<usize> {
    let mut found = vec![];
    let mut at = head;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Step::Record(length) = records.step(rest) else { break };
        found.push(at);
        at += (length as usize).max(1);
    }
    found
}

/// A block that records lead out of.
struct Left {
    block: usize,
    /// Byte at which its last record begins.
    tail: usize,
    heads: u32,
}

/// The stretch that begins with the record at `start`.
fn follow(records: &(impl Records + ?Sized), bytes: &[u8], block_size: usize, start: usize) -> Option<Stretch> {
    let mut left: Vec<Left> = vec![];
    let (mut at, mut heads) = (start, 0);
    while at < bytes.len() {
        let block = at / block_size;
        let next = match records.step(&bytes[at..]) {
            Step::Record(length) => at + (length as usize).max(1),
            Step::Cut => bytes.len(),
            Step::Wrong => {
                // What follows on the disk may not be what follows in the file: then the block's own bytes count.
                let end = (block + 1) * block_size;
                let leads_out = end < bytes.len()
                    && match records.step(&bytes[at..end]) {
                        Step::Record(length) => at + length as usize >= end,
                        Step::Cut => heads > 0,
                        Step::Wrong => false,
                    };
                if leads_out {
                    left.push(Left { block, tail: at, heads: heads + 1 });
                }
                break;
            }
        };
        heads += 1;
        if next / block_size > block || next >= bytes.len() {
            left.push(Left { block, tail: at, heads });
            heads = 0;
        }
        at = next;
    }
    let (first, end) = (start / block_size, left.last()?);
    if left.iter().map(|block| block.heads).sum::<u32>() < MIN_SYNC {
        return None;
    }
    Some(Stretch {
        first,
        blocks: end.block - first + 1,
        head: start % block_size,
        tail: end.tail % block_size,
        weak_start: enough(left.iter()).saturating_sub(first),
        weak_end: end.block - enough(left.iter().rev()),
    })
}

/// The block by which there are heads enough.
fn enough<'a>(blocks: impl Iterator<Item = &'a Left>) -> usize {
    let mut sum = 0;
    let mut reached = 0;
    for left in blocks {
        (sum, reached) = (sum + left.heads, left.block);
        if sum >= MIN_HEADS {
            break;
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: usize, fill: u8) -> Vec<u8> {
        [&[3, 0, (length - 8) as u8, 4][..], &vec![fill; length - 8], &[0; 4]].concat()
    }

    #[test]
    fn rows_between_strange_blocks() {
        let rows: Vec<u8> = (0..100).flat_map(|n| row(100, n | 0x80)).collect();
        let strange = vec![0x55; 2048];
        // Rows from byte 300 of the file on, in 4 blocks of 1,024 bytes.
        let bytes = [&strange, &rows[300 + 24..300 + 24 + 4096], &strange].concat();
        let found = stretches(&RowBlocks::ANY, &bytes, 1024);
        assert_eq!(found, [Stretch { first: 2, blocks: 4, head: 76, tail: 1004, weak_start: 0, weak_end: 0 }]);
        assert_eq!(stretches(&RowBlocks::ANY, &strange, 1024), []);
        assert_eq!(stretches(&RowBlocks::ANY, &[], 1024), []);
    }

    #[test]
    fn a_break_within_rows() {
        let rows: Vec<u8> = (0..100).flat_map(|n| row(100, n | 0x80)).collect();
        let bytes = [&rows[..2048], &rows[1024..4096]].concat();
        let found: Vec<_> = stretches(&RowBlocks::ANY, &bytes, 1024).iter().map(|s| (s.first, s.blocks, s.head)).collect();
        assert_eq!(found, [(0, 2, 0), (2, 3, 76)]);
    }

    /// The last row ends in the next block of the file, but another file's block follows on the disk.
    #[test]
    fn a_break_within_a_row() {
        let rows: Vec<u8> = (0..100).flat_map(|n| row(100, n | 0x80)).collect();
        let bytes = [&rows[180..180 + 1024], &[0x55; 1024]].concat();
        let found: Vec<_> = stretches(&RowBlocks::ANY, &bytes, 1024).iter().map(|s| (s.first, s.blocks, s.head)).collect();
        assert_eq!(found, [(0, 1, 20)], "the last head ends with the block");
    }

    #[test]
    fn rows_are_told_from_other_bytes() {
        let rows: Vec<u8> = (0..100).flat_map(|n| row(100, n | 0x80)).collect();
        assert!(holds_rows(&rows[60..404]) && !holds_rows(&rows[60..400]), "four of them");
        let mut state = 7u64;
        let random: Vec<u8> = (0..1 << 22).map(|_| next(&mut state)).collect();
        let taken = random.chunks(1 << 16).filter(|unit| holds_rows(unit)).count();
        assert!(taken <= 1, "{taken} of 64 units of random bytes");
    }

    fn next(state: &mut u64) -> u8 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 56) as u8
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(0u8..24, 0..6000), block_size in 0usize..2000) {
            let found = stretches(&RowBlocks::ANY, &bytes, block_size);
            for stretch in &found {
                assert!(stretch.blocks > stretch.weak_start.max(stretch.weak_end) && stretch.head < block_size.max(1));
            }
            assert!(found.windows(2).all(|pair| pair[0].first + pair[0].blocks <= pair[1].first));
        }
    }
}
