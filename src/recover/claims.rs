//! One pass over all lost files, newest loss first: a block that two of them claim belongs to the one lost last, since
//! the other's were free before. Counts on the way what of each file is there.

use super::Progress;
use super::chain::{Cache, Chain, Claims, Piece, Since, Spot};
use super::file::{LostFile, Mapping, SizeFrom, Tally, Zeroed};
use super::pieces::Pieces;
use super::reuse::Reuse;
use super::stillness::Stillness;
use super::table::Table;
use super::wear::Wear;
use crate::fs::Filesystem;
use crate::run::{self, Evidence, Place, Run};
use crate::units::{Block, FileBlock, Generation, Ino};
use roaring::RoaringTreemap;
use std::cell::RefCell;
use std::collections::HashMap;

/// What the pass found of one file.
#[derive(PartialEq, Default)]
pub struct Verdict {
    /// Blocks that it lost to a file lost later.
    pub lost: RoaringTreemap,
    /// Its indirect blocks have holes only where the file had.
    pub zeros_are_holes: bool,
    /// What the time since its loss can have done.
    pub since: Since,
}

/// The blocks claimed so far, and what this file finds taken.
struct Taken<'a> {
    seen: &'a RoaringTreemap,
    /// Tells whether a later epoch of the same life has the block at the same place, and there it stands.
    kept: &'a dyn Fn(Block, Spot) -> bool,
    lost: RefCell<RoaringTreemap>,
}

impl Claims for Taken<'_> {
    fn lost_to_newer(&self, block: Block, spot: Spot) -> bool {
        if self.lost.borrow().contains(block.get()) {
            return true;
        }
        let lost = self.seen.contains(block.get()) && !(self.kept)(block, spot);
        if lost {
            self.lost.borrow_mut().insert(block.get());
        }
        lost
    }

    fn was_kept(&self, block: Block, spot: Spot) -> bool {
        let kept = (self.kept)(block, spot);
        if !kept {
            self.lost.borrow_mut().insert(block.get());
        }
        kept
    }
}

/// The piece that was resolved last of each kind: a pass in file order asks for no other.
#[derive(Default)]
struct Latest(RefCell<Vec<((u8, FileBlock), Piece)>>);

impl Cache for Latest {
    fn get(&self, key: (u8, FileBlock)) -> Option<Piece> {
        self.0.borrow().iter().find(|(held, _)| *held == key).map(|(_, piece)| piece.clone())
    }

    fn put(&self, key: (u8, FileBlock), piece: Piece) {
        // One leaf and the two levels above it.
        let mut held = self.0.borrow_mut();
        if held.len() >= 3 {
            let leaf = held.iter().position(|(_, piece)| matches!(piece, Piece::Leaf(_))).unwrap_or(0);
            held.remove(leaf);
        }
        held.push((key, piece));
    }
}

/// The same, for what later reads ask for: it is kept as long as there is room.
struct Kept<'a> {
    latest: Latest,
    pieces: RefCell<&'a mut Pieces>,
    file: usize,
}

impl Cache for Kept<'_> {
    fn get(&self, key: (u8, FileBlock)) -> Option<Piece> {
        self.latest.get(key)
    }

    fn put(&self, (level, at): (u8, FileBlock), piece: Piece) {
        self.pieces.borrow_mut().offer((self.file as u32, level, at), piece.clone());
        self.latest.put((level, at), piece);
    }
}

/// An indirect block of a lost file.
pub struct Seen<'a> {
    /// The file's index.
    pub file: usize,
    /// 1 for an IND.
    pub level: u8,
    /// The first file block that it maps.
    pub first: FileBlock,
    /// Its own block.
    pub block: Block,
    /// Its pointers.
    pub table: &'a Table,
}

/// What the pass found of all files.
pub struct Settled {
    /// One for each file.
    pub verdicts: Vec<Verdict>,
    /// All blocks that they claim, with their indirect blocks.
    pub claimed: RoaringTreemap,
    /// Those of them that no file shows, since nothing tells whether they still hold what was there.
    pub doubted: RoaringTreemap,
    /// What is seen to have become of the blocks of files of which nothing tells when they were lost.
    pub wear: Wear,
    /// Pieces of the files' block maps, as many as there is room for.
    pub pieces: Pieces,
}

/// Settles who has which block. `files` are sorted, newest loss first; their tallies, and sizes that rest on the chain, are filled
/// in. `read` is given every indirect block of theirs; `cache` is room for pieces of their block maps, in bytes.
pub fn settle(
    fs: &Filesystem,
    reuse: &Reuse,
    stillness: &Stillness,
    files: &mut [LostFile],
    cache: usize,
    read: &mut dyn FnMut(&Seen),
    progress: &dyn Progress,
) -> Settled {
    let (mut verdicts, mut seen, mut doubted, mut pieces) = (vec![], RoaringTreemap::new(), RoaringTreemap::new(), Pieces::new(cache));
    let mut wear = Wear::default();
    verdicts.reserve_exact(files.len());
    // The losses of one life, newest first. Orphans have no life that is known.
    let mut epochs: HashMap<(Ino, Option<Generation>), Vec<usize>> = HashMap::new();
    let total = files.len() as u64;
    for index in 0..files.len() {
        if index % 256 == 0 {
            progress.step("following block chains", index as u64, total);
        }
        let (done, rest) = files.split_at_mut(index);
        let file = &mut rest[0];
        let life = file.ino.map(|ino| (ino, file.generation));
        let later: &[usize] = life.and_then(|life| epochs.get(&life)).map_or(&[], Vec::as_slice);
        let stayed = file.span.kept;
        let kept = |block: Block, spot: Spot| {
            let mut stayed = stayed;
            // From the next epoch on, as long as no truncate took it: after that it is another's, be it in the same place.
            let holders = later.iter().rev().take_while(|epoch| {
                let held = spot.first().0 < stayed;
                stayed = stayed.min(done[**epoch].span.kept);
                held
            });
            holders.into_iter().any(|epoch| {
                let (file, verdict): (&LostFile, &Verdict) = (&done[*epoch], &verdicts[*epoch]);
                let cache = Latest::default();
                let chain = Chain {
                    fs,
                    reuse,
                    file,
                    zeros_are_holes: verdict.zeros_are_holes,
                    since: &verdict.since,
                    claims: &verdict.lost,
                    cache: &cache,
                };
                match spot {
                    Spot::Data(at) => chain.run_at(at).is_some_and(|run| run.block == Some(block) && run.evidence != Evidence::Overwritten),
                    Spot::Indirect(level, first) => chain.indirect_at(level, first) == Some(block),
                }
            })
        };
        let taken = Taken { seen: &seen, kept: &kept, lost: RefCell::default() };
        let (One { own, doubted: unshown, wear: worn }, verdict) =
            settle_one(fs, reuse, (index, file), taken, stillness, read, &mut pieces);
        if let Some(life) = life {
            epochs.entry(life).or_default().push(index);
        }
        verdicts.push(verdict);
        // What may be no file at all takes nothing from what may be one.
        if !files[index].is_dubious() {
            seen |= own;
        }
        doubted |= unshown;
        wear.merge(worn);
    }
    Settled { verdicts, claimed: seen, doubted, wear, pieces }
}

/// What was found of one file.
struct One {
    /// The blocks that it claims.
    own: RoaringTreemap,
    /// Those of them that it does not show for doubt.
    doubted: RoaringTreemap,
    /// What became of them, if nothing tells when it was lost.
    wear: Wear,
}

/// Walks one file.
fn settle_one(
    fs: &Filesystem,
    reuse: &Reuse,
    (index, file): (usize, &mut LostFile),
    taken: Taken<'_>,
    stillness: &Stillness,
    read: &mut dyn FnMut(&Seen),
    pieces: &mut Pieces,
) -> (One, Verdict) {
    let (mut own, mut indirect, mut last) = (RoaringTreemap::new(), RoaringTreemap::new(), None::<(FileBlock, Block)>);
    let mut zeros_are_holes = true;
    let (size, by_chain) = (file.size, file.size_from == SizeFrom::Chain);
    if matches!(file.mapping, Mapping::Indirect { .. }) {
        let cache = Latest::default();
        let chain = Chain { fs, reuse, file, zeros_are_holes, since: &Since::default(), claims: &taken, cache: &cache };
        let (mut count, mut row) = (0u64, 0..0);
        let mut visit = |block: Block, at: Option<FileBlock>| {
            let again = at.is_none() && !indirect.insert(block.get());
            if again {
                taken.lost.borrow_mut().insert(block.get());
                return false;
            }
            count += 1;
            last = last.max(at.map(|at| (at, block)));
            // In rows: most blocks follow the one before.
            match row.end == block.get() {
                true => row.end += 1,
                false => _ = own.insert_range(std::mem::replace(&mut row, block.get()..block.get() + 1)),
            }
            true
        };
        let mut read = |level: u8, first: FileBlock, block: Block, table: &Table| read(&Seen { file: index, level, first, block, table });
        chain.visit(&mut visit, &mut read);
        own.insert_range(row);
        zeros_are_holes = chain.is_certain() && count >= file.span.blocks || chain.placed().is_some_and(|placed| placed.sparse);
    }
    if by_chain {
        file.size = last.map_or(0, |(at, block)| at.0.saturating_mul(fs.block_size()).saturating_add(content(fs, block)));
    }
    let in_group = |group: u64| {
        let start = fs.geometry().superblock.group_start(group);
        own.range_cardinality(start..fs.geometry().superblock.group_start(group + 1).max(start))
    };
    let since = stillness.since(fs, file, &in_group);
    let (mut tally, mut doubted, mut wear) = (Tally::default(), RoaringTreemap::new(), Wear::default());
    let stands = unzeroed(fs, &Chain { fs, reuse, file, zeros_are_holes, since: &since, claims: &taken, cache: &Latest::default() });
    file.zeroed.iter_mut().zip(stands).for_each(|(part, stands)| part.stands = stands);
    {
        let cache = Kept { latest: Latest::default(), pieces: RefCell::new(pieces), file: index };
        let chain = Chain { fs, reuse, file, zeros_are_holes, since: &since, claims: &taken, cache: &cache };
        let mut at = FileBlock(0);
        let mut before: Vec<Run> = vec![];
        while let Some(found) = chain.run_at(at) {
            at = found.end();
            add(&mut tally, file, &found, fs.block_size());
            if file.span.is_undated() {
                wear.add(&found);
            }
            if let Some(block) = found.block.filter(|_| found.evidence == Evidence::Unknown) {
                doubted.insert_range(block.get()..block.plus(found.length).get());
            }
            let more = before.len();
            run::push(&mut before, found);
            if before.len() > more && more > 0 {
                before.remove(0);
                tally.runs += 1;
            }
        }
        tally.runs += before.len() as u64;
    }
    if let Mapping::Inline(bytes) = &file.mapping {
        tally.bytes[Evidence::Journal as usize] = bytes.len() as u64;
        tally.runs = 1;
    }
    debug_assert!(by_chain || file.size == size);
    file.tally = tally;
    (One { own, doubted, wear }, Verdict { lost: taken.lost.into_inner(), zeros_are_holes, since })
}

/// Bytes of a file's last block up to the zeros at its end: what lies behind the end of a file is zeros on the disk
/// (`block_write_full_page`, fs/buffer.c).
fn content(fs: &Filesystem, block: Block) -> u64 {
    let zeros = fs.read_home(block).map_or(0, |bytes| bytes.iter().rev().take_while(|byte| **byte == 0).count() as u64);
    (fs.block_size() - zeros).max(1)
}

/// For each part of a file that a truncate wrote zeros over, whether these never reached the disk: something else stands there, and nothing
/// was written behind the cut since.
fn unzeroed<C: Claims, K: Cache>(fs: &Filesystem, chain: &Chain<'_, C, K>) -> Vec<bool> {
    let stands = |part: &Zeroed| {
        let run = chain.run_at(FileBlock(part.offset / fs.block_size())).filter(|run| run.evidence.is_data() && run.place == Place::Home);
        let bytes = run.filter(|_| !part.grown).and_then(|run| fs.read_home(run.block?).ok()).unwrap_or_default();
        let within = (part.offset % fs.block_size()) as usize;
        bytes.get(within..within + part.length as usize).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))
    };
    chain.file.zeroed.iter().map(stands).collect()
}

/// Adds a run's bytes, cut at the file's size and less what a truncate zeroed.
fn add(tally: &mut Tally, file: &LostFile, run: &Run, block_size: u64) {
    let start = run.file_block.0.saturating_mul(block_size);
    let end = run.end().0.saturating_mul(block_size).min(file.size);
    let mut bytes = end.saturating_sub(start);
    for part in file.zeroed.iter().filter(|_| run.evidence.is_data() && run.place == Place::Home) {
        let zeroed = (part.offset + part.length).min(end).saturating_sub(part.offset.max(start));
        tally.bytes[if part.stands { Evidence::Inferred } else { Evidence::Overwritten } as usize] += zeroed;
        bytes -= zeroed;
    }
    tally.bytes[run.evidence as usize] += bytes;
}
