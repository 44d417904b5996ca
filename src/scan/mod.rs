//! One pass over everything that is free: which blocks can be indirect blocks of lost files ([`page`]), and which hold anything at all.
//! [`sweep`](mod@sweep) is the pass; [`crate::catalog`] keeps what it found.

pub mod extent;
pub mod page;
pub mod sweep;

use crate::fs::Filesystem;
use crate::units::{Block, consecutive};
use extent::Looked;
use page::{Finding, Page, Source, examine};
use roaring::RoaringTreemap;
use std::collections::{HashMap, HashSet};
use sweep::Part;

/// What a pass found.
#[derive(Clone, Default)]
pub struct Survey {
    /// Candidates, by block.
    pub pages: Vec<Page>,
    /// Free blocks that are not all zeros.
    pub written: RoaringTreemap,
    /// Those of them that stand among rows of MyISAM tables.
    pub rows: RoaringTreemap,
    /// Free blocks that cannot be read.
    pub unreadable: u64,
    /// What it is a survey of.
    pub looked: Looked,
}

/// What groups hold, put together one by one.
#[derive(Clone, Default)]
pub struct Gathering {
    survey: Survey,
    /// Tables of consecutive integers: block, and the first integer.
    integers: Vec<(Block, u32)>,
}

impl Gathering {
    /// Adds what a group holds.
    pub fn add(&mut self, part: Part) {
        self.survey.pages.extend(part.pages);
        self.integers.extend(part.integers);
        self.survey.written |= part.written;
        self.survey.rows |= part.rows;
        self.survey.unreadable += part.unreadable;
    }

    /// Candidates so far.
    pub fn pages(&self) -> usize {
        self.survey.pages.len()
    }

    /// All of it, with the journal's copies of blocks that have other content now. `looked` is what it is a survey of.
    pub fn finish(self, fs: &Filesystem, looked: Looked) -> Survey {
        let Gathering { mut survey, integers } = self;
        survey.pages.sort_unstable_by_key(|page| page.block);
        drop_integer_tables(&mut survey.pages, &integers, fs.pointers_per_block());
        survey.add_journal(fs);
        survey.pages.sort_by_key(|page| page.block);
        survey.looked = looked;
        survey
    }
}

impl Survey {
    /// Free blocks with content near rows of MyISAM tables: those that are cut where the pass looked at what lies beside on its own are not told.
    pub fn near_rows(&self, block_size: u64) -> RoaringTreemap {
        let (mut near, reach) = (RoaringTreemap::new(), sweep::UNIT / block_size.max(1));
        for run in consecutive(&self.rows, u64::MAX) {
            near.insert_range(run.start.saturating_sub(reach)..run.end.saturating_add(reach));
        }
        near & &self.written
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
