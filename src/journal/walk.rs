//! Walks the log in the order in which it was written and takes it apart into transactions.
//!
//! The log is a ring. Its oldest block follows its newest commit, so the walk begins there. Where an older lap meets a
//! newer one its descriptors may be overwritten while its copies still stand: those are *loose*; the next header tells
//! their transaction. A mount begins at the ring's first block again, so several such seams can follow each other.

use super::{Copy, Log};
use crate::format::is_blank;
use crate::format::journal::{BlockType, Header, Layout, Superblock, commit_time, crc32_be};
use crate::image::Image;
use crate::units::{Block, Moment, Sequence};
use rayon::iter::{ParallelBridge, ParallelIterator};
use roaring::RoaringBitmap;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::{Range, RangeInclusive};

/// One committed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its place in time.
    pub moment: Moment,
    /// Its number.
    pub sequence: Sequence,
    /// Time of the commit in seconds and nanoseconds since 1970; the old jbd does not write it.
    pub time: Option<(i64, u32)>,
    /// The blocks that it wrote, and where their copies stand.
    pub copies: Vec<(Block, Copy)>,
    /// The blocks that it revoked.
    pub revokes: Vec<Block>,
}

/// What a walk found.
pub(super) struct Walk {
    /// Committed transactions, oldest first.
    pub transactions: Vec<Transaction>,
    /// Copies that no descriptor names.
    pub loose: Vec<Copy>,
    /// The moments that replay would write out; empty when the journal is clean.
    pub replay: RangeInclusive<Moment>,
    /// The earliest moment from which on every transaction survives whole; `None` if there is no transaction.
    pub covered_from: Option<Moment>,
    /// The earliest moment from which on every transaction survives at least in part.
    pub accounted_from: Option<Moment>,
}

thread_local! {
    /// Room for what is read at a time.
    static BUFFER: RefCell<Vec<u8>> = RefCell::default();
}

/// Header blocks of the log, by index, with their bytes.
#[derive(Default)]
struct Headers {
    blocks: BTreeMap<u32, (Header, Vec<u8>)>,
    /// Log blocks of nothing but zeros: a log of 1 GiB that was never full has 200,000 of them, which nobody need read again.
    blank: RoaringBitmap,
}

/// Unwraps sequences: all that counts lies less than 2^31 transactions before the newest one.
struct Clock {
    newest: Sequence,
}

impl Clock {
    fn moment(&self, sequence: Sequence) -> Moment {
        Moment((1u64 << 32).saturating_add_signed(sequence.since(self.newest).into()))
    }
}

impl Headers {
    /// Looks at the whole log once, on all processors.
    fn read(log: &Log, superblock: &Superblock, image: &Image, damage: &mut Vec<String>) -> Headers {
        // 1 MiB at a time: large enough to be sequential, small enough not to count.
        let size = ((1 << 20) / log.block_size() as u32).max(1);
        let pieces = (superblock.first..superblock.length).step_by(size as usize);
        let read = |from: u32| Headers::read_piece(log, image, from..superblock.length.min(from.saturating_add(size)));
        let pieces: Vec<(Headers, u32)> = pieces.par_bridge().map(read).collect();
        let mut headers = Headers::default();
        let mut unreadable = 0;
        for (piece, failed) in pieces {
            headers.blocks.extend(piece.blocks);
            headers.blank |= piece.blank;
            unreadable += failed;
        }
        if unreadable > 0 {
            damage.push(format!("{unreadable} blocks of the journal cannot be read"));
        }
        headers
    }

    /// Those of a piece of the log, and how many blocks of it cannot be read.
    fn read_piece(log: &Log, image: &Image, within: Range<u32>) -> (Headers, u32) {
        let (mut headers, mut unreadable, mut index) = (Headers::default(), 0, within.start);
        BUFFER.with_borrow_mut(|buffer| {
            while index < within.end {
                let hole = log.hole_at(image, index, within.end - index);
                if hole > 0 {
                    headers.blank.insert_range(index..index + hole);
                    index += hole;
                    continue;
                }
                let Ok(bytes) = log.read_many(image, index, within.end - index, buffer) else {
                    unreadable += 1;
                    index += 1;
                    continue;
                };
                for block in bytes.chunks_exact(log.block_size() as usize) {
                    if let Some(header) = Header::parse(block).filter(|header| header.block_type != BlockType::Superblock) {
                        headers.blocks.insert(index, (header, block.to_vec()));
                    } else if is_blank(block) {
                        headers.blank.insert(index);
                    }
                    index += 1;
                }
            }
        });
        (headers, unreadable)
    }

    /// The transactions that replay would take: from `s_start` on, each with the next sequence, up to the first without
    /// commit, or with one whose checksum does not match (`do_one_pass`, fs/jbd2/recovery.c). Returns the last one's sequence.
    fn replay_end(&self, log: &Log, superblock: &Superblock, image: &Image, damage: &mut Vec<String>) -> Option<Sequence> {
        if superblock.start == 0 {
            return None;
        }
        let layout = superblock.layout;
        let (mut at, mut sequence, mut sum) = (superblock.start, superblock.sequence, !0);
        let mut left = superblock.length - superblock.first;
        while left > 0 {
            let Some((header, bytes)) = self.blocks.get(&at).filter(|(header, _)| header.sequence == sequence) else { break };
            let mut blocks = 0;
            match header.block_type {
                BlockType::Descriptor => {
                    blocks = layout.tags(bytes).len() as u32;
                    if layout.csum_v1 && blocks < left {
                        sum = (1..=blocks).fold(crc32_be(sum, bytes), |sum, n| add(log, image, sum, superblock.advance(at, n)));
                    }
                }
                BlockType::Commit if layout.commit_matches(bytes, sum) => (sequence, sum) = (sequence.plus(1), !0),
                BlockType::Commit => {
                    damage.push(format!(
                        "the checksum of the journal's transaction {} does not match: replay ends before it, as the kernel's does",
                        sequence.0
                    ));
                    break;
                }
                BlockType::Revoke | BlockType::Superblock => {}
            }
            at = superblock.advance(at, blocks.saturating_add(1));
            left = left.saturating_sub(blocks.saturating_add(1));
        }
        Some(sequence.plus(u32::MAX))
    }
}

/// A transaction's checksum of version 1 with one more copy. What cannot be read matches no checksum.
fn add(log: &Log, image: &Image, sum: u32, index: u32) -> u32 {
    log.read(image, index).map_or(!sum, |copy| crc32_be(sum, &copy))
}

impl Superblock {
    /// The log block `count` blocks after `index` in the ring.
    fn advance(&self, index: u32, count: u32) -> u32 {
        let ring = u64::from(self.length - self.first);
        let within = u64::from(index.saturating_sub(self.first)) + u64::from(count);
        self.first + (within % ring) as u32
    }
}

/// Walks the whole ring.
pub(super) fn walk(log: &Log, superblock: &Superblock, image: &Image, damage: &mut Vec<String>) -> Walk {
    let headers = Headers::read(log, superblock, image, damage);
    let replay_end = headers.replay_end(log, superblock, image, damage);
    // A clean journal's s_sequence is the next to be used; what claims to be later comes from an earlier journal in the same place.
    let newest = replay_end.unwrap_or(superblock.sequence.plus(u32::MAX));
    let clock = Clock { newest };
    let in_time = |sequence: Sequence| sequence.since(newest) <= 0;
    let ends = headers.blocks.iter().filter(|(_, (header, _))| header.block_type == BlockType::Commit && in_time(header.sequence));
    let begin =
        ends.max_by_key(|(_, (header, _))| header.sequence.since(newest)).map_or(superblock.first, |(at, _)| superblock.advance(*at, 1));
    let mut open: HashMap<Sequence, Pending> = HashMap::new();
    let mut done = vec![];
    let mut loose: Vec<Copy> = vec![];
    let mut unnamed: Vec<u32> = vec![];
    let mut before: Option<Header> = None;
    let (layout, ring) = (superblock.layout, superblock.length - superblock.first);
    let has_content = |index: &u32| !headers.blank.contains(*index);
    let mut step = 0;
    while step < ring {
        let at = superblock.advance(begin, step);
        step += 1;
        let Some((header, bytes)) = headers.blocks.get(&at).filter(|(header, _)| in_time(header.sequence)) else {
            unnamed.push(at);
            // The copies of what was never committed, or not whole, have a name, and no place in time.
            if let Some((Header { block_type: BlockType::Descriptor, .. }, bytes)) = headers.blocks.get(&at) {
                let copies = layout.tags(bytes).len() as u32;
                let next = |n: &u32| step + n < ring && !headers.blocks.contains_key(&superblock.advance(begin, step + n));
                step += (0..copies).take_while(next).count() as u32;
            }
            continue;
        };
        let sequence = header.sequence;
        let moment = clock.moment(sequence);
        // Behind a commit nothing can have stood between the two, however far their sequences are apart: a mount goes on
        // where the log ended (`s_head`, since Linux 6.4), and mounts skip sequences.
        let after = before.filter(|b| b.block_type == BlockType::Commit && b.sequence.since(sequence) < 0);
        let goes_on = before.is_some_and(|b| b.sequence == sequence);
        let begins_log = at == superblock.first && !goes_on;
        let whole = begins_log || unnamed.is_empty() && (goes_on || after.is_some());
        // What stands before a header belongs to its transaction, but not over the ring's end, if the log was begun anew.
        let of = if begins_log { Moment::PAST } else { moment };
        loose.extend(unnamed.drain(..).filter(has_content).map(|index| Copy { moment: of, index, escaped: false }));
        let pending = open.entry(sequence).or_insert_with(|| Pending {
            whole: true,
            after: after.filter(|_| !begins_log).map(|b| clock.moment(b.sequence)),
            ..Pending::default()
        });
        pending.whole &= whole;
        match header.block_type {
            BlockType::Descriptor => {
                pending.sum = if layout.csum_v1 { crc32_be(pending.sum, bytes) } else { pending.sum };
                for tag in layout.tags(bytes) {
                    let index = superblock.advance(begin, step);
                    if step >= ring || headers.blocks.get(&index).is_some_and(|(header, _)| in_time(header.sequence)) {
                        pending.whole = false;
                        break;
                    }
                    step += 1;
                    if layout.csum_v1 {
                        pending.sum = add(log, image, pending.sum, index);
                    }
                    let Some(tag) = tag else { continue };
                    if matches_checksum(log, image, layout, &tag, sequence, index) {
                        pending.copies.push((tag.block, Copy { moment, index, escaped: tag.escaped }));
                    } else {
                        pending.whole = false;
                    }
                }
            }
            BlockType::Revoke => pending.revokes.extend(layout.revoked(bytes)),
            BlockType::Commit => {
                let mut pending = open.remove(&sequence).unwrap_or_default();
                let (mut copies, mut revokes) = (std::mem::take(&mut pending.copies), std::mem::take(&mut pending.revokes));
                if layout.csum_v1 && pending.whole && !layout.commit_matches(bytes, pending.sum) {
                    damage
                        .push(format!("the checksum of the journal's transaction {} does not match: its copies are not used", sequence.0));
                    (copies, revokes, pending.whole) = (vec![], vec![], false);
                }
                done.push((pending, Transaction { moment, sequence, time: commit_time(bytes), copies, revokes }));
            }
            BlockType::Superblock => {}
        }
        before = Some(*header);
    }
    loose.extend(unnamed.into_iter().filter(has_content).map(|index| Copy { moment: Moment::PAST, index, escaped: false }));
    done.sort_by_key(|(_, transaction)| transaction.moment);
    done.dedup_by_key(|(_, transaction)| transaction.moment);
    let replay = match replay_end {
        Some(end) => clock.moment(superblock.sequence)..=clock.moment(end),
        None => Moment::NOW..=Moment::PAST,
    };
    let (covered_from, accounted_from) = (complete_from(&done, true), complete_from(&done, false));
    Walk { transactions: done.into_iter().map(|(_, transaction)| transaction).collect(), loose, replay, covered_from, accounted_from }
}

/// A transaction whose commit has not been met yet.
struct Pending {
    /// Nothing of it is lost.
    whole: bool,
    /// The transaction directly before it in the log; `None` if it begins at the log's first block.
    after: Option<Moment>,
    copies: Vec<(Block, Copy)>,
    revokes: Vec<Block>,
    /// Its checksum of version 1 so far.
    sum: u32,
}

impl Default for Pending {
    fn default() -> Self {
        Pending { whole: false, after: None, copies: vec![], revokes: vec![], sum: !0 }
    }
}

fn matches_checksum(log: &Log, image: &Image, layout: Layout, tag: &crate::format::journal::Tag, sequence: Sequence, index: u32) -> bool {
    layout.csum == 0 || log.read(image, index).is_ok_and(|copy| layout.copy_matches(tag, sequence, &copy))
}

/// Sequences that a mount can skip without a transaction in between: one on a clean unmount (`journal_destroy`,
/// fs/jbd/journal.c), one on the next mount (`journal_recover`, fs/jbd/recovery.c), and the same again for a mount
/// during which nothing was written. One more needs a session with a transaction of its own.
const SKIPPED_BY_MOUNTS: u64 = 4;

/// Whether nothing can have been committed between `before` and the transaction that follows it in `done`.
fn adjoins(before: Moment, next: &Pending, moment: Moment) -> bool {
    match next.after {
        Some(after) => after == before,
        None => moment.0 - before.0 <= SKIPPED_BY_MOUNTS + 1,
    }
}

/// Goes back from the newest transaction while nothing can be missing between each one and the one before, and with
/// `whole` while nothing is missing in it either. Returns the moment before the last that it reached.
fn complete_from(done: &[(Pending, Transaction)], whole: bool) -> Option<Moment> {
    let mut next: Option<(&Pending, Moment)> = None;
    for (pending, transaction) in done.iter().rev() {
        if next.is_some_and(|(next, moment)| !adjoins(transaction.moment, next, moment)) {
            break;
        }
        if whole && !pending.whole {
            return Some(transaction.moment);
        }
        next = Some((pending, transaction.moment));
    }
    next.map(|(_, Moment(moment))| Moment(moment - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(moments: &[(u64, bool, Option<u64>)]) -> Vec<(Pending, Transaction)> {
        let transaction =
            |moment| Transaction { moment: Moment(moment), sequence: Sequence(0), time: None, copies: vec![], revokes: vec![] };
        let pending = |whole, after: Option<u64>| Pending { whole, after: after.map(Moment), ..Pending::default() };
        moments.iter().map(|(m, whole, after)| (pending(*whole, *after), transaction(*m))).collect()
    }

    #[test]
    fn coverage_ends_at_the_first_gap() {
        assert_eq!(complete_from(&[], true), None);
        assert_eq!(complete_from(&done(&[(5, true, Some(4)), (17, true, Some(16)), (18, true, Some(17))]), true), Some(Moment(16)));
        assert_eq!(complete_from(&done(&[(5, true, Some(4)), (17, true, Some(5)), (18, true, Some(17))]), true), Some(Moment(4)));
        assert_eq!(complete_from(&done(&[(5, true, Some(4)), (10, true, None), (11, true, Some(10))]), true), Some(Moment(4)));
        assert_eq!(complete_from(&done(&[(5, true, Some(4)), (11, true, None)]), true), Some(Moment(10)));
        assert_eq!(complete_from(&done(&[(16, false, Some(15)), (17, true, Some(16))]), true), Some(Moment(16)));
        assert_eq!(complete_from(&done(&[(16, false, Some(15)), (17, true, Some(16))]), false), Some(Moment(15)));
    }

    #[test]
    fn moments_are_ordered_across_the_wrap_of_sequences() {
        let clock = Clock { newest: Sequence(3) };
        assert!(clock.moment(Sequence(u32::MAX)) < clock.moment(Sequence(1)));
    }
}
