//! What makes a block a candidate for an indirect block: judged by its bytes alone.
//!
//! A *page* is a block whose 32-bit words can all be pointers of one indirect block (`ext3_alloc_branch`, fs/ext3/inode.c):
//!
//! 1. every word is 0 or the number of a block in which a file can have data: inside the filesystem, no superblock, descriptor,
//!    bitmap or inode table;
//! 2. no block is named twice, nor the page itself;
//! 3. the numbers are laid out as an allocator lays out a file: written down as steps from one to the next they take no more than
//!    half the bits that they take as numbers. A page for which this does not hold is *scattered*: it can be a DIND or TIND, whose
//!    pointers stand wide apart, but not an IND; one that takes nearly all of them ([`RANDOM`]) is none where
//!    nearly every number is a block's, on a filesystem of 16 TiB;
//! 4. it does not begin as a folder or a journal block does, and is no table of 64-bit numbers (every other word 0).
//!
//! Rules 1 and 2 leave next to no random bytes, text or code. What they let through of sorted integer tables, rule 3 does as
//! well: those are told by what surrounds them (see [`super::survey`]) and by what names them (see [`crate::forest`]). So a
//! page of few pointers or many breaks is not *strong*: something else has to speak for it.
//!
//! Measured with `examples/candidates.rs`, as blocks of a filesystem of 512 MiB: of 1,089,257 blocks of a Debian's `/usr/lib` 477 are pages
//! (4.4e-4), 41 of them strong without being consecutive integers (3.8e-5); of 54,319 blocks of databases, libraries and media 629 (1.2e-2,
//! a third of them consecutive integers), none strong. Of some 1,000 INDs and DINDs of live files on kernel-made images none is missed.

use crate::format::journal::MAGIC;
use crate::fs::Filesystem;
use crate::journal::Copy;
use crate::units::Block;

/// Where a page was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// In its own block.
    Home,
    /// In a copy of its block in the journal.
    Log(Copy),
}

/// A block that can be an indirect block, of whatever level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The block.
    pub block: Block,
    /// Where it stands: copies that agree with each other. Its pointers are the union of theirs.
    pub sources: Vec<Source>,
    /// Its first pointer that is not 0.
    pub first: Block,
    /// Its last.
    pub last: Block,
    /// How many pointers are not 0.
    pub count: u32,
    /// Index of the first.
    pub begin: u32,
    /// Index after the last.
    pub end: u32,
    /// Where a pointer is neither the block after the one before it nor as far from it as they are apart in the file (the ext4 driver leaves
    /// room for the holes of a sparse file).
    pub breaks: u32,
    /// Its pointers stand too wide apart to be those of data.
    pub scattered: bool,
}

impl Page {
    /// Zeros between its pointers.
    pub const fn holes(&self) -> u32 {
        self.end - self.begin - self.count
    }

    /// Whether its own pointers are enough to believe it: many, in long runs.
    pub const fn is_strong(&self) -> bool {
        self.count >= 16 && self.breaks * 4 <= self.count
    }

    /// Whether it names consecutive blocks only, as a table of consecutive integers would.
    pub const fn is_arithmetic(&self) -> bool {
        self.breaks == 0 && self.holes() == 0 && self.count > 1
    }
}

/// What a block turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// All zeros.
    Blank,
    /// Anything else.
    Other,
    /// A table of consecutive integers from the first given on that cannot all be pointers: its neighbours are not either.
    Integers {
        /// The first integer.
        first: u32,
    },
    /// A candidate.
    Page(Page),
}

/// Of eight bits that a number takes, those that the step to it takes in an indirect block at most: random ones take all eight. On
/// 16 TiB, the INDs of a DIND may lie 256 GB apart with this.
const RANDOM: u64 = 7;
/// Pointers by which it can be told whether they are random.
const TELLING: u32 = 16;
/// Blocks of a filesystem on which random numbers can all be blocks.
const MOST_NUMBERS: u64 = 1 << 31;

/// Runs that a table of consecutive integers does not have: from here on each is looked at as it comes.
const MANY: usize = 8;

/// Judges the bytes of `block`. `scratch` is room for its runs.
pub fn examine(bytes: &[u8], block: Block, fs: &Filesystem, scratch: &mut Vec<(u32, u32)>) -> Finding {
    let words = bytes.as_chunks::<4>().0;
    let word = |raw: &[u8; 4]| u32::from_le_bytes(*raw);
    let blocks = fs.geometry().superblock.blocks;
    let Some(begin) = words.iter().position(|raw| *raw != [0; 4]) else { return Finding::Blank };
    let first = word(&words[begin]);
    // Nearly everything that is no page ends here.
    if u64::from(first) >= blocks && words.get(begin + 1).is_none_or(|next| word(next) != first.wrapping_add(1)) {
        return Finding::Other;
    }
    scratch.clear();
    let (mut end, mut count, mut breaks, mut before) = (begin, 0u32, 0u32, (first, begin));
    for (raw, at) in words[begin..].iter().zip(begin..) {
        let pointer = word(raw);
        if pointer == 0 {
            continue;
        }
        (end, count) = (at + 1, count + 1);
        let step = pointer.wrapping_sub(before.0);
        breaks += u32::from(step > 1 && step as usize != at - before.1);
        before = (pointer, at);
        let many = scratch.len() >= MANY;
        match scratch.last_mut() {
            Some((start, length)) if start.checked_add(*length) == Some(pointer) => *length += 1,
            Some(_) if u64::from(pointer) >= blocks => return Finding::Other,
            // On a filesystem of 16 TiB every word is the number of a block: there, this is what ends nearly everything that is no page.
            Some(_) if many && !is_data(fs, pointer) => return Finding::Other,
            _ => scratch.push((pointer, 1)),
        }
    }
    let (Some(start), Some((at, length))) = (Block::new(first.into()), scratch.last()) else { return Finding::Other };
    let Some(last) = Block::new(u64::from(*at) + u64::from(*length) - 1) else { return Finding::Other };
    let (bits, most) = (bits_of_steps(scratch), bits_of_numbers(count, blocks));
    if blocks >= MOST_NUMBERS && count >= TELLING && bits * 8 > most * RANDOM {
        return Finding::Other;
    }
    let page = Page {
        block,
        sources: vec![Source::Home],
        first: start,
        last,
        count,
        begin: begin as u32,
        end: end as u32,
        breaks,
        scattered: count >= 4 && bits * 2 > most,
    };
    let fit = possible(scratch, block, fs) && !is_known(bytes) && !is_wide(words);
    match fit {
        true => Finding::Page(page),
        false if page.is_arithmetic() && count >= 16 => Finding::Integers { first },
        false => Finding::Other,
    }
}

/// Rule 1 for one pointer.
fn is_data(fs: &Filesystem, pointer: u32) -> bool {
    Block::new(pointer.into()).is_some_and(|block| fs.can_hold_data(block))
}

/// Rules 1 and 2: every run lies where files have data, no two runs meet, and none holds the block itself.
fn possible(runs: &[(u32, u32)], block: Block, fs: &Filesystem) -> bool {
    let all_data = runs.iter().all(|(start, length)| {
        let run = u64::from(*start)..u64::from(*start) + u64::from(*length);
        !run.contains(&block.get()) && (0..*length).all(|at| is_data(fs, start + at))
    });
    if !all_data {
        return false;
    }
    let mut sorted = runs.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| u64::from(pair[0].0) + u64::from(pair[0].1) <= u64::from(pair[1].0))
}

/// Rule 3: what the pointers take as steps. A run costs the bits of the step to it, a pointer inside one next to nothing.
fn bits_of_steps(runs: &[(u32, u32)]) -> u64 {
    let step = |pair: &[(u32, u32)]| u64::from(pair[1].0.abs_diff(pair[0].0 + (pair[0].1 - 1)).max(1).ilog2()) + 2;
    runs.windows(2).map(step).sum()
}

/// Rule 3: what they take as numbers.
fn bits_of_numbers(count: u32, blocks: u64) -> u64 {
    (u64::from(blocks.max(1).ilog2()) + 1) * u64::from(count)
}

/// Rule 4: the beginning of a folder (`.` with its record of 12 bytes), or a block of a journal.
fn is_known(bytes: &[u8]) -> bool {
    let dot = bytes.get(4..9).is_some_and(|head| matches!(head, [12, 0, 1, 0 | 2, b'.']));
    dot || bytes.starts_with(&MAGIC.to_be_bytes())
}

/// Rule 4: 64-bit numbers, little-endian: no odd word, and many even ones.
fn is_wide(words: &[[u8; 4]]) -> bool {
    let count = |odd: usize| words.iter().skip(odd).step_by(2).filter(|raw| **raw != [0; 4]).count();
    count(1) == 0 && count(0) * 4 > words.len()
}
