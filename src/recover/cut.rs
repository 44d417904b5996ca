//! Files in use that lost their end: the INDs behind the cut are free, and named by nobody, but begin where the file's own blocks end.

use super::chains::Draft;
use super::file::{Loss, LostFile, Mapping, Orphan, Pointer, Span};
use super::inodes::Inodes;
use crate::forest::Chain;
use crate::format::indirect;
use crate::format::inode::{Inode, S_IFREG};
use crate::fs::Filesystem;
use crate::run::Evidence;
use crate::scan::Survey;
use crate::scan::page::Page;
use crate::units::{Block, FileBlock, Ino, Moment};
use roaring::RoaringTreemap;
use std::collections::HashMap;

/// That the blocks at a file's end and those before a chain are together as many as are missing is chance once in about as many pairs as an IND
/// has pointers: they are believed only where so many times fewer pairs come into question.
const CHANCE: u64 = 100;
/// Blocks that follow a file's end, or lead to a chain's first, have to be so many that their number tells something: the ext4 driver's chunks
/// end 12 blocks before what an IND names, and files in use as often end in space that was another lost file's.
const TELLING: u64 = 16;

/// A file in use whose content was written after it was made, and which has indirect blocks.
struct Stump {
    ino: Ino,
    inode: Inode,
    /// File blocks that it has.
    length: u64,
    /// Its last block.
    last: Block,
    /// How many spare blocks follow directly on that, as far as it matters.
    followed: u64,
}

/// A chain that goes on where a file in use ends.
pub struct Cut {
    /// The inode.
    pub ino: Ino,
    /// As it is today.
    pub inode: Inode,
    /// Index of the chain.
    pub chain: usize,
    /// The file block at which the chain's first IND begins.
    first: FileBlock,
    /// File blocks that the file has today.
    length: u64,
}

/// Finds, for chains that have no place of their own in a file, the file in use whose end they are. `spare` are free blocks with content
/// that nothing claims.
pub fn find(fs: &Filesystem, survey: &Survey, chains: &[Chain], spare: &RoaringTreemap) -> Vec<Cut> {
    let loose = |chain: &&Chain| chain.tables.iter().all(|table| table.level == 1);
    if !chains.iter().any(|chain| loose(&chain)) {
        return vec![];
    }
    let mut stumps = vec![];
    Inodes::each_live(fs, &mut |ino, inode| {
        let written_since = inode.crtime.is_none_or(|crtime| inode.mtime > crtime);
        let length = inode.size.div_ceil(fs.block_size());
        if inode.file_type() == S_IFREG
            && inode.block[12] != 0
            && written_since
            && length > indirect::DIRECT
            && let Some(last) = fs.current_block(&inode.pointers(), FileBlock(length - 1))
        {
            let ahead = last.get() + 1..=last.get().saturating_add(fs.pointers_per_block());
            let followed = ahead.take_while(|block| spare.contains(*block)).count() as u64;
            stumps.push(Stump { ino, inode, length, last, followed });
        }
    });
    stumps.sort_unstable_by_key(|stump| stump.last);
    let mut found: Vec<Cut> = vec![];
    let asked = chains.iter().filter(loose).count() * stumps.iter().filter(|stump| stump.followed >= TELLING).count();
    let ends: &[Stump] = if asked as u64 * CHANCE <= fs.pointers_per_block() { &stumps } else { &[] };
    for (at, chain) in chains.iter().enumerate().filter(|(_, chain)| loose(chain)) {
        let near = before(&stumps, fs, survey, chain, spare).filter_map(|stump| Some((stump, goes_on(fs, survey, chain, stump, spare)?)));
        let mut fitting: Vec<(&Stump, FileBlock)> = near.chain(apart(ends, fs, survey, chain, spare)).collect();
        fitting.sort_by_key(|(stump, _)| stump.ino);
        fitting.dedup_by_key(|(stump, _)| stump.ino);
        // What several fit equally well is nobody's.
        if let [(stump, first)] = fitting[..] {
            found.push(Cut { ino: stump.ino, inode: stump.inode.clone(), chain: at, first, length: stump.length });
        }
    }
    // Nor has one file several ends.
    let mut fits: HashMap<Ino, u32> = HashMap::new();
    found.iter().for_each(|cut| *fits.entry(cut.ino).or_default() += 1);
    found.retain(|cut| fits[&cut.ino] == 1);
    found
}

/// The files that can go on with a chain: those that end so near before its first block that no more spare blocks lie between than
/// can be missing.
fn before<'a>(
    stumps: &'a [Stump],
    fs: &Filesystem,
    survey: &Survey,
    chain: &Chain,
    spare: &'a RoaringTreemap,
) -> impl Iterator<Item = &'a Stump> + use<'a> {
    let page = chain.tables.first().and_then(|table| survey.pages.get(table.page));
    let (first, most) = page.map_or((0, 0), |page| (page.first.get(), fs.pointers_per_block() + u64::from(page.begin)));
    let ends = stumps.partition_point(|stump| stump.last.get() < first);
    let (mut between, mut from) = (0, first);
    stumps[..ends].iter().rev().take_while(move |stump| {
        between += spare.range_cardinality(stump.last.get() + 1..from);
        from = stump.last.get() + 1;
        between <= most
    })
}

/// How many file blocks lie between a file's end and what the chain's first IND names, and the file block at which that IND begins.
fn missing(fs: &Filesystem, page: &Page, stump: &Stump) -> (u64, FileBlock) {
    let first = indirect::DIRECT + (stump.length - indirect::DIRECT).next_multiple_of(fs.pointers_per_block());
    (first - stump.length + u64::from(page.begin), FileBlock(first))
}

/// The file block at which the chain's first IND begins if the chain goes on where the file ends: behind exactly as many spare blocks as
/// are missing, the first of which directly follows the file's last block.
fn goes_on(fs: &Filesystem, survey: &Survey, chain: &Chain, stump: &Stump, spare: &RoaringTreemap) -> Option<FileBlock> {
    let page = survey.pages.get(chain.tables.first()?.page)?;
    let (missing, first) = missing(fs, page, stump);
    let (from, to) = (stump.last.get() + 1, page.first.get());
    let follows = if missing == 0 { from == to } else { stump.followed > 0 && from < to };
    (follows && spare.range_cardinality(from..to.max(from)) == missing).then_some(first)
}

/// The files that can go on with a chain that stands anywhere: the spare blocks that directly follow their last block and those that lead
/// directly to the chain's first are together as many as are missing.
fn apart<'a>(
    stumps: &'a [Stump],
    fs: &'a Filesystem,
    survey: &'a Survey,
    chain: &Chain,
    spare: &RoaringTreemap,
) -> impl Iterator<Item = (&'a Stump, FileBlock)> + use<'a> {
    let page = chain.tables.first().and_then(|table| survey.pages.get(table.page));
    let most = page.map_or(0, |page| fs.pointers_per_block() + u64::from(page.begin));
    let leading = page.map_or(0, |page| {
        let below = page.first.get().saturating_sub(most).max(1)..page.first.get();
        below.rev().take_while(|block| spare.contains(*block)).count() as u64
    });
    let near_end = move |stump: &'a Stump| {
        let (missing, first) = missing(fs, page?, stump);
        (stump.followed.min(leading) >= TELLING && stump.followed + leading == missing).then_some((stump, first))
    };
    stumps.iter().filter_map(near_end)
}

impl Cut {
    /// The file as it was before it was cut.
    pub fn file(&self, draft: &Draft, paths: &HashMap<Ino, Vec<u8>>) -> LostFile {
        let chain = draft.file(&[]);
        let mut placed = draft.placed();
        placed.shift((self.first.0 - indirect::DIRECT).cast_signed());
        let pointer = |block: Block| Pointer { block, evidence: Evidence::Chain, since: Moment::NOW };
        let pointers = Box::new(self.inode.pointers().map(|block| block.map(pointer)));
        LostFile {
            ino: Some(self.ino),
            generation: Some(self.inode.generation),
            mode: self.inode.mode & 0o7777,
            links: self.inode.links,
            uid: self.inode.uid,
            gid: self.inode.gid,
            atime: self.inode.atime,
            mtime: self.inode.mtime,
            ctime: self.inode.ctime,
            deleted: Some(self.inode.mtime),
            loss: Loss::Truncated,
            span: Span {
                ended: Some(self.inode.mtime),
                successor: Some(Box::new(self.inode.pointers())),
                cut: self.length,
                ..chain.span.clone()
            },
            mapping: Mapping::Indirect { pointers, certain: false, placed: Some(Box::new(placed)) },
            paths: paths.get(&self.ino).cloned().into_iter().collect(),
            orphan: chain.orphan.map(|orphan| Orphan { adrift: false, ..orphan }),
            ..chain
        }
    }
}
