//! Rebuilds what the inodes no longer tell: files of which only indirect blocks are left, and parts of known files.

use super::chains::{Credence, Direct, Draft, complete_direct};
use super::claims::{self, Seen, Settled};
use super::cut;
use super::file::SizeFrom;
use super::gaps::Ends;
use super::hint::{self, Hint};
use super::names::live_path;
use super::owners::{self, Claimant, Match, Start};
use super::stillness::Stillness;
use super::{LostFile, Mapping, PlacedTable, Progress, Recovery, sort};
use crate::content;
use crate::forest::{self, Chain, Table, Torn};
use crate::format::indirect;
use crate::fs::lock;
use crate::scan::Survey;
use crate::units::{Block, FileBlock, Ino, Moment};
use roaring::RoaringTreemap;
use std::collections::{HashMap, HashSet};

/// Where a page stands in a known file: the file's index, level and first file block.
type Place = (usize, u8, FileBlock);

/// Which pages of a survey are indirect blocks of files that are known by their inodes.
pub struct Known<'a> {
    survey: &'a Survey,
    by_block: HashMap<Block, Vec<usize>>,
    found: Places,
}

/// Where known files have their indirect blocks.
#[derive(Default)]
pub struct Places {
    /// Pages, by their index in the survey. The newest file counts.
    pages: HashMap<usize, Place>,
    /// Places where a file's pointers are known, wherever from.
    filled: HashSet<Place>,
    /// Which block is named there, also where its pointers are lost.
    named: HashMap<Place, Block>,
}

impl<'a> Known<'a> {
    /// Nothing is known yet.
    pub fn new(survey: &'a Survey) -> Self {
        let mut by_block: HashMap<Block, Vec<usize>> = HashMap::new();
        for (at, page) in survey.pages.iter().enumerate() {
            by_block.entry(page.block).or_default().push(at);
        }
        Known { survey, by_block, found: Places::default() }
    }

    /// What was noted.
    pub fn places(self) -> Places {
        self.found
    }

    /// Notes the pages that say what a file's indirect block says.
    pub fn see(&mut self, seen: &Seen) {
        let place = (seen.file, seen.level, seen.first);
        self.found.named.insert(place, seen.block);
        if seen.table.entries.iter().any(Option::is_some) {
            self.found.filled.insert(place);
        }
        for at in self.by_block.get(&seen.block).into_iter().flatten() {
            let page = &self.survey.pages[*at];
            let entry = |index: u32| seen.table.entries.get(index as usize).copied().flatten().map(|pointer| pointer.block);
            if entry(page.begin) == Some(page.first) || entry(page.end - 1) == Some(page.last) {
                self.found.pages.entry(*at).or_insert(place);
            }
        }
    }
}

/// Work that goes on over the files of a recovery.
pub struct Rebuild<'a> {
    /// What is free, and which pages are in it.
    pub survey: &'a Survey,
    /// What is known of files by their inodes.
    pub known: Places,
    /// Tells what free blocks are worth.
    pub stillness: Stillness,
    /// What the user knows.
    pub hints: &'a [Hint],
    /// Whether content may place blocks.
    pub content: bool,
    /// Told how far it is.
    pub progress: &'a dyn Progress,
    /// What was seen of files' indirect blocks.
    pub ends: Ends,
    /// Blocks that the known files claim, but do not show for doubt.
    pub doubted: RoaringTreemap,
}

impl Rebuild<'_> {
    /// Adds to `recovery`, which has the known files, what chains tell, and fills gaps. As long as the survey is not whole, chains stand for
    /// themselves, and nothing is said of the known files.
    pub fn run(mut self, recovery: &mut Recovery) {
        let mut claimed = std::mem::take(&mut recovery.claimed);
        let spare = forest::spare(&recovery.fs, self.survey, &claimed);
        let mut chains = forest::grow(&recovery.fs, self.survey, &HashSet::new(), &spare);
        let (torn, mut changed) = self.extend(recovery, &mut chains);
        if !torn.is_empty() {
            let rest: HashSet<usize> = (0..self.survey.pages.len()).filter(|page| !torn.contains(page)).collect();
            chains.extend(forest::grow(&recovery.fs, self.survey, &rest, &spare));
        }
        if !self.survey.looked.goes_on() {
            changed |= self.add_cut(recovery, &mut chains, &mut claimed, &spare);
        }
        changed |= self.add(recovery, &chains, &claimed);
        recovery.claimed = claimed;
        if changed {
            sort(&mut recovery.files);
            self.doubted = self.settle(recovery);
        }
        if !self.survey.looked.goes_on() && self.infer(recovery) {
            self.doubted = self.settle(recovery);
        }
        recovery.claimed -= self.doubted;
    }

    /// Adds what is known and what can be inferred without pointers: the user's hints, what the content tells, and what fills gaps. Returns
    /// whether anything has changed.
    fn infer(&mut self, recovery: &mut Recovery) -> bool {
        let mut changed = self.content && recovery.join_parts(self.progress);
        if changed {
            sort(&mut recovery.files);
            self.doubted = self.settle(recovery);
        }
        let said = recovery.remarks.len();
        let rows = self.survey.near_rows(recovery.block_size());
        let mut spare = &self.survey.written - &recovery.claimed;
        changed |= recovery.noted(|recovery| hint::apply(self.hints, recovery));
        if self.content {
            changed |= recovery.noted(|recovery| recovery.examine_beginnings(&mut spare));
            changed |= recovery.noted(|recovery| recovery.confirm(self.progress));
            changed |= recovery.noted(|recovery| recovery.prove(&mut spare, &rows, self.progress));
            changed |= recovery.noted(|recovery| recovery.place_pages(&mut spare, self.progress));
        }
        let ends = std::mem::take(&mut self.ends);
        changed |= recovery.noted(|recovery| recovery.fill_gaps(&mut spare, &ends, self.content));
        if self.content {
            changed |= recovery.noted(|recovery| recovery.examine_beginnings(&mut spare));
            if recovery.build_tables(&mut spare, &rows, self.progress) {
                sort(&mut recovery.files);
                self.settle(recovery);
                // What the user knows may be of these.
                recovery.remarks.truncate(said);
                recovery.noted(|recovery| hint::apply(self.hints, recovery));
                recovery.noted(|recovery| recovery.examine_beginnings(&mut spare));
                changed = true;
            }
        }
        changed
    }

    /// Returns the blocks that files claim, but do not show for doubt.
    fn settle(&mut self, recovery: &mut Recovery) -> RoaringTreemap {
        self.stillness.forget_owned(&recovery.fs, &recovery.files);
        // What was resolved before is resolved anew, and there is no room for both.
        lock(&recovery.pieces).clear();
        let (mut ends, mut settled) = self.settle_once(recovery);
        // What has become of all of them tells what each of them is worth.
        if self.stillness.learn(&recovery.files, std::mem::take(&mut settled.wear)) {
            settled.pieces.clear();
            (ends, settled) = self.settle_once(recovery);
        }
        (recovery.verdicts, recovery.claimed) = (settled.verdicts, settled.claimed);
        self.ends = ends;
        *lock(&recovery.pieces) = settled.pieces;
        settled.doubted
    }

    fn settle_once(&self, recovery: &mut Recovery) -> (Ends, Settled) {
        let (mut ends, room) = (Ends::default(), lock(&recovery.pieces).room());
        let Recovery { fs, reuse, files, .. } = recovery;
        let settled = claims::settle(fs, reuse, &self.stillness, files, room, &mut |seen| ends.see(seen), self.progress);
        (ends, settled)
    }

    /// Takes out of `chains` those that hold pages of known files, and adds to the files what they did not know. Returns the pages of
    /// chains that contradict a file's pointers, less the file's own, and whether any file has more now.
    fn extend(&self, recovery: &mut Recovery, chains: &mut Vec<Chain>) -> (HashSet<usize>, bool) {
        let (mut torn, mut extended, block_size) = (HashSet::new(), false, recovery.block_size());
        chains.retain(|chain| {
            let Some(file) = chain.tables.iter().find_map(|table| self.known.pages.get(&table.page)).map(|(file, ..)| *file) else {
                return true;
            };
            let unknown: Vec<&Table> = chain.tables.iter().filter(|table| !self.known.pages.contains_key(&table.page)).collect();
            let (size, open) = (recovery.files[file].size, recovery.files[file].size_from == SizeFrom::Chain);
            let agrees = |table: &Table| {
                let place = (file, table.level, table.first);
                let fits_pointer = self.known.named.get(&place).is_none_or(|block| *block == self.survey.pages[table.page].block);
                let is_free =
                    fits_pointer && !self.known.filled.contains(&place) && (open || table.first.0.saturating_mul(block_size) < size);
                self.known.pages.get(&table.page).map_or(is_free, |known| *known == place)
            };
            match chain.tables.iter().all(agrees) {
                true if self.survey.looked.goes_on() => {}
                true if !unknown.is_empty() => {
                    self.extend_file(recovery, file, chain, &unknown);
                    extended = true;
                }
                true => {}
                false => torn.extend(unknown.iter().map(|table| table.page)),
            }
            false
        });
        (torn, extended)
    }

    fn extend_file(&self, recovery: &mut Recovery, file: usize, chain: &Chain, unknown: &[&Table]) {
        let draft = Draft { fs: &recovery.fs, survey: self.survey, chain };
        let direct = draft.blocks_before(&self.survey.written).map_or_else(Vec::new, |direct| direct.blocks);
        let Mapping::Indirect { pointers, certain, placed } = &mut recovery.files[file].mapping else { return };
        let placed = placed.get_or_insert_default();
        for table in unknown {
            let page = &self.survey.pages[table.page];
            placed.put_table(table.level, table.first, PlacedTable { block: page.block, sources: page.sources.clone() });
        }
        let without_direct = pointers[..indirect::DIRECT as usize].iter().all(Option::is_none);
        if !*certain && without_direct && direct.len() == indirect::DIRECT as usize {
            let found = draft.file(&direct);
            if let Mapping::Indirect { pointers: found, .. } = found.mapping {
                pointers[..indirect::DIRECT as usize].copy_from_slice(&found[..indirect::DIRECT as usize]);
            }
        }
    }

    /// Makes lost files of chains that are the end of a file in use, and takes them out of `chains`; what they name is `claimed` then.
    /// Whether there are any.
    fn add_cut(&self, recovery: &mut Recovery, chains: &mut Vec<Chain>, claimed: &mut RoaringTreemap, spare: &RoaringTreemap) -> bool {
        let fs = &recovery.fs;
        let cuts = cut::find(fs, self.survey, chains, spare);
        if cuts.is_empty() {
            return false;
        }
        let paths = live_path(fs, &cuts.iter().map(|cut| cut.ino).collect());
        let draft = |cut: &cut::Cut| Draft { fs, survey: self.survey, chain: &chains[cut.chain] };
        let mut files: Vec<LostFile> = cuts.iter().map(|cut| cut.file(&draft(cut), &paths)).collect();
        cuts.iter().for_each(|cut| *claimed |= draft(cut).blocks());
        recovery.files.append(&mut files);
        let mut at = 0;
        chains.retain(|_| {
            at += 1;
            cuts.iter().all(|cut| cut.chain != at - 1)
        });
        true
    }

    /// Makes lost files of chains, each with its owner where there is one. Whether there are any.
    fn add(&self, recovery: &mut Recovery, chains: &[Chain], claimed: &RoaringTreemap) -> bool {
        let fs = &recovery.fs;
        let drafts = chains.iter().map(|chain| Draft { fs, survey: self.survey, chain });
        let drafts = drafts.map(|draft| (draft.credence(), draft)).map(|(credence, draft)| (draft, credence));
        let (weak, mut drafts): (Vec<_>, Vec<_>) = drafts.partition(|(_, credence)| *credence == Credence::None);
        // Where nothing was ever lost, they are none.
        let any_lost =
            !recovery.files.is_empty() || self.stillness.births() > 0 || drafts.iter().any(|(_, credence)| *credence == Credence::Full);
        let dubious = |draft: &Draft| any_lost.then(|| draft.dubious());
        let mut files: Vec<LostFile> =
            weak.iter().filter(|(draft, _)| draft.is_regular()).filter_map(|(draft, _)| dubious(draft)).collect();
        let mut named = RoaringTreemap::new();
        if drafts.is_empty() && files.is_empty() {
            return false;
        }
        let mut contested = RoaringTreemap::new();
        for (draft, _) in &drafts {
            // One by one: as sets, each of many small chains would cost as much as all that came before.
            for block in draft.blocks() {
                if claimed.contains(block) || !named.insert(block) {
                    contested.insert(block);
                }
            }
        }
        // Tables of integers, as of the letters of an alphabet, lie anywhere, and name what belongs to others.
        let is_strange = |draft: &Draft| draft.is_far_from_data() && !draft.blocks().is_disjoint(&contested);
        files.extend(drafts.iter().filter(|(draft, _)| is_strange(draft)).filter_map(|(draft, _)| dubious(draft)));
        drafts.retain(|(draft, _)| !is_strange(draft));
        let mut spare = &self.survey.written - claimed;
        spare -= &named;
        let mut direct: Vec<Option<Direct>> = drafts.iter().map(|(draft, _)| draft.blocks_before(&spare)).collect();
        direct.iter().flatten().flat_map(|direct| &direct.blocks).for_each(|block| {
            spare.remove(block.get());
        });
        let is_head = |block| self.content && fs.read_home(block).is_ok_and(|bytes| content::identify_anywhere(&bytes).is_some());
        complete_direct(fs, &mut direct, &spare, is_head);
        let starts: Vec<Start> = drafts.iter().map(|(draft, _)| draft.start()).collect();
        let (matches, paths) = match self.survey.looked.goes_on() {
            true => (starts.iter().map(|_| Match::default()).collect(), HashMap::new()),
            false => owners::find(fs, &starts, &recovery.files, &self.stillness, &|inodes| live_path(fs, inodes)),
        };
        let path = |ino: Ino| paths.get(&ino).cloned();
        let found = drafts.iter().zip(&direct).zip(matches);
        let (believed, doubted): (Vec<_>, Vec<_>) =
            found.partition(|(((_, credence), _), found)| *credence != Credence::WithOwner || found.has_losers);
        files.extend(doubted.iter().filter_map(|(((draft, _), _), _)| dubious(draft)));
        let torn = Torn::among(fs, self.survey, believed.iter().map(|(((draft, _), _), _)| draft.chain));
        let later = later(believed.iter().map(|(((draft, _), _), _)| draft), &contested);
        let (mut owned, first) = (HashSet::new(), files.len());
        for (((draft, _), direct), found) in believed {
            let mut file = draft.file(direct.as_ref().map_or(&[], |direct| &direct.blocks));
            if let Mapping::Indirect { placed: Some(placed), .. } = &mut file.mapping {
                placed.torn = torn.is_adrift(draft.chain);
            }
            if let Some(owner) = found.owner {
                owner.own(&mut file, &recovery.files, &path);
                if let Claimant::Dead(at) = owner {
                    owned.insert(at);
                }
            } else if let Some(orphan) = &mut file.orphan {
                (orphan.candidates, file.span.ended) = (found.candidates, found.earliest);
            }
            files.push(file);
        }
        for (at, than) in later {
            let freed = files[first + than].span.freed;
            let span = &mut files[first + at].span;
            if span.freed >= freed {
                span.freed = Moment(freed.0.saturating_sub(1));
            }
        }
        let mut at = 0;
        recovery.files.retain(|_| {
            at += 1;
            !owned.contains(&(at - 1))
        });
        recovery.files.append(&mut files);
        true
    }
}

/// Which chain must have been lost before which other, by their numbers: what one names as data stands as an indirect block of the other, so
/// that one had the block last. `contested` are blocks that several name.
fn later<'a, 'b: 'a>(drafts: impl Iterator<Item = &'a Draft<'b>> + Clone, contested: &RoaringTreemap) -> Vec<(usize, usize)> {
    if contested.is_empty() {
        return vec![];
    }
    // An indirect block that nothing above or below it confirms may be data itself.
    let confirmed = drafts.clone().enumerate().filter(|(_, draft)| draft.chain.tables.iter().any(|table| table.level > 1));
    let tables: HashMap<Block, usize> = confirmed.flat_map(|(at, draft)| draft.tables().map(move |block| (block, at))).collect();
    let named = drafts.enumerate().flat_map(|(at, draft)| (draft.blocks() & contested).into_iter().map(move |block| (at, block)));
    let others = named.filter_map(|(at, block)| Some((at, *tables.get(&Block::new(block)?)?)));
    let mut later: Vec<(usize, usize)> = others.filter(|(at, than)| at != than).collect();
    later.sort_unstable();
    later.dedup();
    // Where each names the other's, neither says anything.
    let mutual: Vec<bool> = later.iter().map(|(at, than)| later.binary_search(&(*than, *at)).is_ok()).collect();
    later.into_iter().zip(mutual).filter(|(_, mutual)| !mutual).map(|(pair, _)| pair).collect()
}
