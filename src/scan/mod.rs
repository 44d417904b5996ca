//! One pass over everything that is free: which blocks can be indirect blocks of lost files ([`page`]), and which hold anything at all.

pub mod page;

use crate::fs::{Filesystem, test_bit};
use crate::recover::Progress;
use crate::units::Block;
use page::{Finding, Page, Source, examine};
use rayon::prelude::*;
use roaring::RoaringTreemap;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes read at a time: large enough to be sequential, small enough that a group needs no more memory than that.
const CHUNK: u64 = 1 << 20;

/// What a pass found.
#[derive(Default)]
pub struct Survey {
    /// Candidates, by block.
    pub pages: Vec<Page>,
    /// Free blocks that are not all zeros.
    pub written: RoaringTreemap,
    /// Free blocks that cannot be read.
    pub unreadable: u64,
}

/// What one group holds.
#[derive(Default)]
struct Part {
    pages: Vec<Page>,
    /// Tables of consecutive integers: block, and the first integer.
    integers: Vec<(Block, u32)>,
    written: Vec<u64>,
    unreadable: u64,
}

impl Survey {
    /// Looks through all free blocks, and through the journal's copies of blocks that have other content now.
    pub fn make(fs: &Filesystem, progress: &dyn Progress) -> Survey {
        let groups = fs.geometry().superblock.groups();
        let done = AtomicU64::new(0);
        let sweep = |group: u64| {
            let part = sweep_group(fs, group);
            progress.step("looking through free blocks", done.fetch_add(1, Ordering::Relaxed) + 1, groups);
            part
        };
        let parts: Vec<Part> = (0..groups).into_par_iter().map(sweep).collect();
        let (mut survey, mut integers) = (Survey::default(), vec![]);
        for part in parts {
            survey.pages.extend(part.pages);
            integers.extend(part.integers);
            survey.written.extend(part.written);
            survey.unreadable += part.unreadable;
        }
        drop_integer_tables(&mut survey.pages, &integers, fs.pointers_per_block());
        survey.add_journal(fs);
        survey.pages.sort_by_key(|page| page.block);
        survey
    }

    /// Adds the journal's copies: to the page that they agree with, else as pages of their own.
    fn add_journal(&mut self, fs: &Filesystem) {
        let mut known: HashMap<Block, Vec<Page>> = HashMap::new();
        for page in std::mem::take(&mut self.pages) {
            known.entry(page.block).or_default().push(page);
        }
        let mut scratch = vec![];
        for (block, copies) in fs.journal().copied_blocks() {
            if !fs.can_hold_data(block) {
                continue;
            }
            // Of a block in use, what stands there now is not lost, nor are earlier states of it; if it cannot be read, nobody knows.
            let current = match fs.is_allocated(block) {
                true => match fs.read_block(block) {
                    Ok(bytes) => Some(bytes),
                    Err(_) => continue,
                },
                false => None,
            };
            for copy in copies.iter().rev() {
                let Ok(bytes) = fs.journal().read_copy(fs.image(), *copy) else { continue };
                let Finding::Page(page) = examine(&bytes, block, fs, &mut scratch) else { continue };
                if current.as_ref().is_some_and(|current| agree(current, &bytes)) {
                    continue;
                }
                let page = Page { sources: vec![Source::Log(*copy)], ..page };
                let pages = known.entry(block).or_default();
                match pages.iter_mut().find_map(|known| merged(fs, known, &bytes, Source::Log(*copy)).map(|merged| (known, merged))) {
                    Some((known, merged)) => *known = merged,
                    None => pages.push(page),
                }
            }
        }
        self.pages = known.into_values().flatten().collect();
    }
}

impl Page {
    /// Its pointers: those of all its copies, where the first that has one counts. Empty if none can be read any more.
    pub fn pointers(&self, fs: &Filesystem) -> Vec<Option<Block>> {
        let mut union: Vec<Option<Block>> = vec![];
        for source in &self.sources {
            let bytes = match source {
                Source::Home => fs.read_home(self.block),
                Source::Log(copy) => fs.journal().read_copy(fs.image(), *copy),
            };
            let Ok(bytes) = bytes else { continue };
            let pointers = crate::format::indirect::parse(&bytes);
            match union.is_empty() {
                true => union = pointers.collect(),
                false => union.iter_mut().zip(pointers).for_each(|(known, pointer)| *known = known.or(pointer)),
            }
        }
        union
    }
}

/// Whether two states of a block can be of one indirect block: where both have a pointer it is the same, and at least one is.
fn agree(one: &[u8], other: &[u8]) -> bool {
    let pairs = || one.as_chunks::<4>().0.iter().zip(other.as_chunks::<4>().0);
    let both = || pairs().filter(|(a, b)| **a != [0; 4] && **b != [0; 4]);
    both().all(|(a, b)| a == b) && both().next().is_some()
}

/// `page` with one more source, if that agrees with it.
fn merged(fs: &Filesystem, page: &Page, bytes: &[u8], source: Source) -> Option<Page> {
    let mut union: Vec<u8> = page.pointers(fs).iter().flat_map(|pointer| (pointer.map_or(0, Block::get) as u32).to_le_bytes()).collect();
    if !agree(&union, bytes) {
        return None;
    }
    for (known, more) in union.as_chunks_mut::<4>().0.iter_mut().zip(bytes.as_chunks::<4>().0) {
        if *known == [0; 4] {
            *known = *more;
        }
    }
    match examine(&union, page.block, fs, &mut vec![]) {
        Finding::Page(union) => Some(Page { sources: [&page.sources[..], &[source]].concat(), ..union }),
        _ => None,
    }
}

/// Takes out pages of consecutive integers that go on, in the block before or after, with integers that cannot be pointers.
fn drop_integer_tables(pages: &mut Vec<Page>, integers: &[(Block, u32)], per: u64) {
    let mut tables: HashSet<(u64, i64)> = integers.iter().map(|(block, first)| (block.get(), i64::from(*first))).collect();
    if tables.is_empty() {
        return;
    }
    let of = |page: &Page| (page.block.get(), page.first.get() as i64 - i64::from(page.begin));
    let per = per as i64;
    let mut spread = |page: &Page| {
        let (block, first) = of(page);
        let beside = tables.contains(&(block - 1, first - per)) || tables.contains(&(block + 1, first + per));
        if page.is_arithmetic() && beside {
            tables.insert((block, first));
        }
    };
    pages.iter().for_each(&mut spread);
    pages.iter().rev().for_each(&mut spread);
    pages.retain(|page| !tables.contains(&of(page)));
}

fn sweep_group(fs: &Filesystem, group: u64) -> Part {
    let (sb, size) = (&fs.geometry().superblock, fs.block_size());
    let mut part = Part::default();
    let Some(bitmap) = fs.block_bitmap(group) else { return part };
    let start = sb.group_start(group);
    let count = sb.blocks_per_group.min(sb.blocks.saturating_sub(start));
    let (mut buffer, mut scratch) = (vec![0; CHUNK as usize], vec![]);
    let mut at = 0;
    while at < count {
        if test_bit(&bitmap, at as usize) {
            at += 1;
            continue;
        }
        // Holes of a sparse image are blank.
        let Some(data) = fs.image().next_data((start + at) * size) else { break };
        let data = (data / size).saturating_sub(start);
        if data > at {
            at = data;
            continue;
        }
        let most = (CHUNK / size).min(count - at);
        let length = (1..most).take_while(|n| !test_bit(&bitmap, (at + n) as usize)).count() as u64 + 1;
        sweep_run(fs, start + at, &mut buffer[..(length * size) as usize], &mut scratch, &mut part);
        at += length;
    }
    part
}

fn sweep_run(fs: &Filesystem, first: u64, buffer: &mut [u8], scratch: &mut Vec<(u32, u32)>, part: &mut Part) {
    let size = fs.block_size();
    let whole = fs.image().read_exact_at(buffer, first * size).is_ok();
    for (bytes, number) in buffer.chunks_exact_mut(size as usize).zip(first..) {
        let Some(block) = Block::new(number) else { continue };
        if !whole && fs.image().read_exact_at(bytes, number * size).is_err() {
            part.unreadable += 1;
            continue;
        }
        match examine(bytes, block, fs, scratch) {
            Finding::Blank => continue,
            Finding::Other => {}
            Finding::Integers { first } => part.integers.push((block, first)),
            Finding::Page(page) => part.pages.push(page),
        }
        part.written.push(number);
    }
}
