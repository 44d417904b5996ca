//! From the copies of an inode over time to its lives, and to what each life lost.

use super::file::{Kind, Loss, LostFile, Mapping, Pointer, SizeFrom, Span, Tally, Time, Zeroed};
use crate::format::indirect;
use crate::format::inode::{FLAG_HUGE_FILE, Inode, S_IFDIR, S_IFLNK, S_IFREG};
use crate::fs::Filesystem;
use crate::run::Evidence;
use crate::units::{Generation, Ino, Moment};

/// An inode as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InodeCopy {
    /// The end of the transaction that logged it; [`Moment::NOW`] for the disk.
    pub moment: Moment,
    /// Its fields.
    pub inode: Inode,
}

/// One life of an inode: from its creation to its deletion, under one generation.
#[derive(Clone, Debug)]
pub struct Life {
    /// The inode.
    pub ino: Ino,
    /// Its generation.
    pub generation: Generation,
    /// It began after this moment, when the life before was over.
    pub born: Moment,
    /// The first moment at which it is seen without links; `None` while it lives.
    pub died: Option<Moment>,
    /// A folder.
    pub is_dir: bool,
    /// Its copies, oldest first, each different from the one before.
    pub copies: Vec<InodeCopy>,
    /// The last moment at which it was seen, be it unchanged.
    pub seen: Moment,
}

/// Splits an inode's copies (oldest first) into lives. Blank copies separate lives but belong to none.
pub fn lives(ino: Ino, copies: Vec<InodeCopy>) -> Vec<Life> {
    let mut lives: Vec<Life> = vec![];
    let mut ended = Moment::PAST;
    for copy in copies {
        let same = lives.last().is_some_and(|life: &Life| {
            let revived = life.died.is_some() && copy.inode.is_live();
            life.generation == copy.inode.generation && !revived && !copy.inode.is_blank()
        });
        if !same && let Some(life) = lives.last_mut() {
            ended = *life.died.get_or_insert(copy.moment);
        }
        if copy.inode.is_blank() {
            continue;
        }
        if !same {
            let is_dir = copy.inode.is_dir();
            lives.push(Life { ino, generation: copy.inode.generation, born: ended, died: None, is_dir, copies: vec![], seen: copy.moment });
        }
        if let Some(life) = lives.last_mut() {
            if copy.inode.links == 0 && life.died.is_none() {
                life.died = Some(copy.moment);
            }
            life.seen = copy.moment;
            if life.copies.last().is_none_or(|last| last.inode != copy.inode) {
                life.copies.push(copy);
            }
        }
    }
    lives
}

/// A truncate.
#[derive(Clone, Copy)]
struct Cut {
    /// The size that it left.
    size: u64,
    /// The file was larger than that later on.
    grown: bool,
}

/// A stretch of a life during which nothing was taken from the file.
struct Epoch {
    first: Moment,
    /// File blocks before this one it has from the epoch before.
    stayed: u64,
    last: Moment,
    /// When each pointer was first seen.
    since: [Moment; 15],
    /// The last copy with links; else the last.
    inode: Inode,
    /// The moment at which it was over, and by which all that it lost was free.
    ended: Option<(Moment, Moment)>,
    /// File blocks before this one stayed with the file.
    kept: u64,
    /// How many of them are the file's still.
    left: u64,
    /// Smallest size that the same life had after it.
    cut: u64,
    /// How truncates cut the same life, at its end and after it.
    cuts: Vec<Cut>,
    /// The truncate that ended it is still under way in the copy seen last.
    freeing: bool,
}

impl Epoch {
    /// `before` is the epoch that `copy` ended: pointers to what it left have stood there as long as in that.
    fn begin(copy: &InodeCopy, before: Option<&Epoch>, block_size: u64) -> Epoch {
        let stayed = before.map_or(0, |before| before.kept);
        let first_seen = |slot: usize| match before {
            Some(before) if indirect::first_file_block(slot, block_size / 4) < stayed => before.since[slot],
            _ => copy.moment,
        };
        Epoch {
            first: copy.moment,
            stayed: before.map_or(u64::MAX, |_| stayed),
            last: copy.moment,
            since: std::array::from_fn(first_seen),
            inode: copy.inode.clone(),
            ended: None,
            kept: 0,
            left: 0,
            cut: u64::MAX,
            cuts: vec![],
            freeing: false,
        }
    }

    /// Whether `next` lacks something that this epoch has.
    fn is_over_in(&self, next: &Inode) -> bool {
        let replaced = self.inode.block.iter().zip(next.block).any(|(have, next)| *have != 0 && *have != next);
        replaced || next.size < self.inode.size
    }

    /// Whether `inode` is only what a truncate in progress leaves of this epoch.
    fn is_being_freed_in(&self, inode: &Inode) -> bool {
        (inode.size == 0 || inode.links == 0) && inode.block.iter().zip(self.inode.block).all(|(next, had)| *next == 0 || *next == had)
    }

    /// Notes a truncate from `before` to `size` bytes, if the block that it zeroed the end of was still this one's: a file that is rewritten is
    /// emptied first, and then nothing is zeroed.
    fn cut_to(&mut self, size: u64, block_size: u64, before: u64) {
        if size < before && size / block_size < self.left {
            self.cuts.push(Cut { size, grown: false });
        }
    }

    fn has_content(&self) -> bool {
        self.inode.size > 0 && self.inode.links > 0 || self.inode.block.iter().any(|pointer| *pointer != 0)
    }
}

/// `unbroken` tells whether nothing can have happened unseen between two moments.
fn epochs(life: &Life, block_size: u64, unbroken: &dyn Fn(Moment, Moment) -> bool) -> Vec<Epoch> {
    let (mut epochs, mut size, mut before): (Vec<Epoch>, u64, Option<&Inode>) = (vec![], 0, None);
    for copy in &life.copies {
        for past in epochs.iter_mut().filter(|epoch| epoch.ended.is_some()) {
            past.cut = past.cut.min(copy.inode.size);
            past.cuts.iter_mut().for_each(|cut| cut.grown |= copy.inode.size > cut.size);
            past.left = before.map_or(0, |before| kept(before, &copy.inode, block_size)).min(past.left);
            past.cut_to(copy.inode.size, block_size, size);
        }
        (size, before) = (copy.inode.size, Some(&copy.inode));
        match epochs.last_mut() {
            Some(epoch) if epoch.ended.is_none() => {
                if epoch.is_over_in(&copy.inode) {
                    epoch.ended = Some((copy.moment, copy.moment));
                    epoch.cut = copy.inode.size;
                    epoch.kept = kept(&epoch.inode, &copy.inode, block_size);
                    if !unbroken(epoch.last, copy.moment) {
                        // An indirect block can have lost pointers, and got others, in between.
                        epoch.kept = epoch.kept.min(indirect::DIRECT);
                    }
                    epoch.left = kept(&epoch.inode, &copy.inode, block_size);
                    epoch.cut_to(copy.inode.size, block_size, epoch.inode.size);
                    epoch.freeing = copy.inode.block.iter().any(|pointer| *pointer != 0);
                    if !epoch.is_being_freed_in(&copy.inode) {
                        let next = Epoch::begin(copy, Some(epoch), block_size);
                        epochs.push(next);
                    }
                } else {
                    epoch.last = copy.moment;
                    for (since, had) in epoch.since.iter_mut().zip(epoch.inode.block) {
                        if had == 0 {
                            *since = copy.moment;
                        }
                    }
                    if copy.inode.links > 0 {
                        epoch.inode = copy.inode.clone();
                    }
                }
            }
            Some(epoch) if epoch.is_being_freed_in(&copy.inode) => {
                if epoch.freeing
                    && let Some((_, by)) = &mut epoch.ended
                {
                    *by = copy.moment;
                }
                epoch.freeing &= copy.inode.block.iter().any(|pointer| *pointer != 0);
            }
            _ => epochs.push(Epoch::begin(copy, None, block_size)),
        }
    }
    epochs
}

fn kind(inode: &Inode) -> Option<Kind> {
    match inode.file_type() {
        S_IFREG => Some(Kind::File),
        S_IFDIR => Some(Kind::Dir),
        S_IFLNK => Some(Kind::Symlink),
        _ => None,
    }
}

/// Whether an inode without links still holds its blocks: it is on the orphan list, where `i_dtime` is the number of the next inode.
fn holds_blocks(fs: &Filesystem, inode: &Inode) -> bool {
    inode.links > 0 || inode.dtime <= fs.geometry().superblock.inodes
}

/// `i_dtime` as a time, unless it is the link of the orphan list.
fn deletion_time(fs: &Filesystem, inode: &Inode) -> Option<Time> {
    (inode.links == 0 && !holds_blocks(fs, inode)).then_some(Time { seconds: inode.dtime.into(), nanos: 0 })
}

/// What a life lost, newest first: at most its deletion and every truncate before.
pub fn losses(fs: &Filesystem, life: &Life) -> Vec<LostFile> {
    let Some(newest) = life.copies.last() else { return vec![] };
    let now = (life.seen == Moment::NOW).then_some(&newest.inode);
    let successor =
        now.filter(|inode| holds_blocks(fs, inode) && inode.block.iter().any(|p| *p != 0)).map(|inode| Box::new(inode.pointers()));
    let dead_copy = life.copies.iter().rev().find_map(|copy| deletion_time(fs, &copy.inode));
    let mut epochs = epochs(life, fs.block_size(), &|from, to| fs.journal().is_unbroken(from, to));
    if let (Some(died), Some(last)) = (life.died, epochs.last_mut())
        && last.ended.is_none()
    {
        last.ended = Some((died.max(last.first), died.max(last.last)));
    }
    let any_content = epochs.iter().any(Epoch::has_content);
    let count = epochs.len();
    let mut lost = vec![];
    for (at, epoch) in epochs.iter().enumerate().rev() {
        let Some((freed, freed_by)) = epoch.ended else { continue };
        let Some(kind) = kind(&epoch.inode) else { continue };
        let last_epoch = at + 1 == count;
        if !epoch.has_content() && (any_content || !last_epoch || life.died.is_none()) {
            continue;
        }
        let deleted = last_epoch && life.died.is_some();
        let after = life.copies.iter().find(|copy| copy.moment >= freed).map(|copy| &copy.inode);
        let committed = fs.journal().commit_time(freed).map(|(seconds, nanos)| Time { seconds, nanos });
        let when = if deleted { dead_copy } else { after.map(|inode| inode.ctime) };
        let unlinked = if deleted { life.died.unwrap_or(freed) } else { freed };
        let covered = fs.journal().covers_since(epoch.last);
        let span = Span {
            born: life.born,
            first: epoch.first,
            last: epoch.last,
            covered,
            freed,
            freed_by,
            unlinked,
            made: epoch.inode.crtime,
            ended: if deleted { dead_copy } else { None },
            successor: successor.clone(),
            cut: u64::MAX,
            dated: true,
            kept: epoch.kept,
            stayed: epoch.stayed,
            kept_until: epochs.get(at + 1).map_or(Moment::PAST, |next| if next.ended.is_some() { next.last } else { life.seen }),
            blocks: 0,
        };
        lost.push(lost_file(fs, life, epoch, kind, Ending { deleted, when: when.or(committed), span }));
    }
    lost
}

/// How many file blocks stayed with an inode from its beginning on, when it came to be as in `after`: all before its end, and before the
/// first pointer that is another one now.
fn kept(before: &Inode, after: &Inode, block_size: u64) -> u64 {
    let changed = before.block.iter().zip(after.block).position(|(before, after)| *before != 0 && *before != after);
    let first = changed.map_or(u64::MAX, |slot| indirect::first_file_block(slot, block_size / 4));
    first.min(after.size.div_ceil(block_size))
}

/// What truncates wrote zeros over in a file of `size` bytes: of each block the part behind its first cut, sorted.
fn zeroed(mut cuts: Vec<Cut>, size: u64, block_size: u64) -> Vec<Zeroed> {
    cuts.retain(|cut| cut.size < size && cut.size % block_size != 0);
    cuts.sort_unstable_by_key(|cut| cut.size);
    cuts.dedup_by(|later, first| {
        let same = later.size / block_size == first.size / block_size;
        first.grown |= same && later.grown;
        same
    });
    let zeroed = |cut: Cut| Zeroed {
        offset: cut.size,
        length: cut.size.next_multiple_of(block_size).min(size) - cut.size,
        grown: cut.grown,
        stands: false,
    };
    cuts.into_iter().map(zeroed).collect()
}

/// How an epoch ended.
struct Ending {
    deleted: bool,
    when: Option<Time>,
    span: Span,
}

fn lost_file(fs: &Filesystem, life: &Life, epoch: &Epoch, kind: Kind, ending: Ending) -> LostFile {
    let (inode, block_size) = (&epoch.inode, fs.block_size());
    let pointers = inode.pointers();
    let seen_alive = inode.links > 0 || inode.block.iter().any(|pointer| *pointer != 0);
    let evidence = if epoch.first == Moment::NOW { Evidence::Chain } else { Evidence::Journal };
    let mapping = if inode.is_fast_symlink() && inode.size > 0 && inode.block[0] != 0 {
        Mapping::Inline(inode.inline_bytes()[..inode.size.min(60) as usize].into())
    } else {
        // An inode of size 0 with pointers was caught in the middle of a truncate: what it lacks it may have had.
        let certain = seen_alive && (inode.size > 0 || pointers.iter().all(Option::is_none));
        Mapping::Indirect {
            pointers: Box::new(std::array::from_fn(|slot| {
                pointers[slot].map(|block| Pointer { block, evidence, since: epoch.since[slot] })
            })),
            certain,
            placed: None,
        }
    };
    let largest = indirect::max_file_blocks(fs.pointers_per_block()).saturating_mul(block_size);
    let size = inode.size.min(largest);
    let size_from = if inode.size == 0 && pointers.iter().any(Option::is_some) { SizeFrom::Chain } else { SizeFrom::Inode };
    // Where transactions are missing, it can have grown unseen.
    let cuts = epoch.cuts.iter().map(|cut| Cut { grown: cut.grown || !ending.span.covered, ..*cut }).collect();
    let zeroed = zeroed(cuts, size, block_size);
    // What a truncate took, and a write got again in the same transaction, is new, be it the same block.
    let cut = if epoch.cut == u64::MAX { u64::MAX } else { epoch.cut.div_ceil(block_size).min(epoch.left) };
    let blocks = if inode.flags & FLAG_HUGE_FILE != 0 { inode.blocks } else { inode.blocks * 512 / block_size };
    LostFile {
        ino: Some(life.ino),
        generation: Some(life.generation),
        version: 0,
        kind,
        size,
        size_from,
        mode: inode.mode & 0o7777,
        links: life.copies.iter().map(|copy| copy.inode.links).max().unwrap_or(1),
        uid: inode.uid,
        gid: inode.gid,
        atime: inode.atime,
        mtime: inode.mtime,
        ctime: inode.ctime,
        deleted: ending.when,
        loss: if ending.deleted { Loss::Deleted } else { Loss::Truncated },
        span: Span { cut, blocks: blocks - u64::from(inode.file_acl.is_some()).min(blocks), ..ending.span },
        mapping,
        zeroed,
        paths: vec![],
        tally: Tally::default(),
        number: None,
        orphan: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::inode::tests::sample;

    fn copy(moment: u64, size: u32, first: u32, generation: u32, links: u16) -> InodeCopy {
        let mut inode = Inode::parse(&sample(size, first)).unwrap();
        inode.generation = Generation(generation);
        inode.links = links;
        if links == 0 {
            inode.dtime = 1_700_000_000;
        }
        InodeCopy { moment: Moment(moment), inode }
    }

    #[test]
    fn generations_and_revivals_part_lives() {
        let copies = vec![copy(1, 10, 5, 7, 1), copy(2, 0, 0, 7, 0), copy(3, 9, 6, 7, 1), copy(5, 9, 8, 8, 1)];
        let lives = lives(Ino(12), copies);
        let spans: Vec<_> = lives.iter().map(|l| (l.generation.0, l.born.0, l.died.map(|d| d.0))).collect();
        assert_eq!(spans, [(7, 0, Some(2)), (7, 2, Some(5)), (8, 5, None)]);
    }

    #[test]
    fn blocks_are_zeroed_once() {
        let cuts = [(9000, false), (6000, true), (5000, false), (4096, true), (20000, true)].map(|(size, grown)| Cut { size, grown });
        let zeroed = |offset, length, grown| Zeroed { offset, length, grown, stands: false };
        assert_eq!(super::zeroed(cuts.to_vec(), 10000, 4096), [zeroed(5000, 3192, true), zeroed(9000, 1000, false)]);
    }

    #[test]
    fn truncates_part_epochs() {
        let life = lives(
            Ino(12),
            vec![copy(1, 10, 5, 7, 1), copy(2, 20, 5, 7, 1), copy(3, 0, 0, 7, 1), copy(4, 30, 9, 7, 1), copy(6, 0, 0, 7, 0)],
        );
        let ends: Vec<_> =
            epochs(&life[0], 4096, &|_, _| true).iter().map(|e| (e.inode.size, e.ended.map(|(from, by)| (from.0, by.0)))).collect();
        assert_eq!(ends, [(20, Some((3, 3))), (30, Some((6, 6)))]);
    }
}
