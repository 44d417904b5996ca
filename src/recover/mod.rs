//! From the image and its history to lost files, each with its runs and the evidence for every one of them.

mod chain;
mod chains;
mod claims;
mod fate;
pub mod file;
mod fill;
mod folders;
pub mod hint;
mod history;
pub mod info;
mod inodes;
mod names;
mod placed;
mod read;
mod reuse;
mod stillness;
mod table;
mod takers;

pub use file::{Candidate, FileId, Kind, Loss, LostFile, Mapping, Orphan, Pointer, SizeFrom, Span, State, Tally, Time};
pub use hint::Hint;
pub use info::{Info, JournalInfo};
pub use placed::{Placed, PlacedTable};
pub use read::{Range, Segment};
pub use takers::Taker;

use crate::error::Result;
use crate::forest;
use crate::format::indirect;
use crate::fs::{Filesystem, lock};
use crate::image::{Image, ImageOptions};
use crate::run::{Evidence, Run};
use crate::scan::Survey;
use crate::units::{Block, FileBlock, Ino};
use chain::{Cache, Chain, Claims, Piece};
use chains::{Credence, Draft};
use inodes::Inodes;
use lru::LruCache;
use reuse::Reuse;
use roaring::RoaringTreemap;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use stillness::Stillness;
use table::Table;

/// Bytes of pieces of block maps kept in memory, shared by all files. A piece maps 4 MiB with 4 KiB blocks; it commonly is a run or two,
/// and 90 KiB at the worst.
const PIECES: usize = 24 << 20;

/// What to open, and how.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The image.
    pub image: ImageOptions,
    /// The superblock to use, in filesystem blocks; the first, or a backup found by itself, if not given.
    pub superblock: Option<u64>,
    /// Whether to look through free blocks for chains whose inode is gone.
    pub scan: bool,
    /// What the user knows of files.
    pub hints: Vec<Hint>,
}

impl OpenOptions {
    /// The image, with everything else as it is when nothing is asked for.
    pub fn new(image: ImageOptions) -> Self {
        OpenOptions { image, superblock: None, scan: true, hints: vec![] }
    }
}

/// Told how far a long job is.
pub trait Progress: Sync {
    /// `what` is under way and has done `done` of `total` (0 if unknown).
    fn step(&self, what: &str, done: u64, total: u64);
}

/// A [`Progress`] that tells nobody.
impl Progress for () {
    fn step(&self, _: &str, _: u64, _: u64) {}
}

/// What a filesystem lost. Shared by all threads.
pub struct Recovery {
    fs: Filesystem,
    reuse: Reuse,
    files: Vec<LostFile>,
    /// For each file what the pass over all claims found.
    verdicts: Vec<claims::Verdict>,
    pieces: Mutex<Pieces>,
    unreadable_inodes: u64,
}

impl Recovery {
    /// Opens an image, reads its history and finds what was lost.
    pub fn open(options: &OpenOptions, progress: &dyn Progress) -> Result<Recovery> {
        let image = Image::open(&options.image)?;
        progress.step("reading the journal", 0, 0);
        let fs = Filesystem::open(image, options.superblock, options.image.journal.as_deref())?;
        let inodes = Inodes::scan(&fs, progress);
        let mut files: Vec<LostFile> = inodes.lives.values().flatten().flat_map(|life| history::losses(&fs, life)).collect();
        sort(&mut files);
        let reuse = Reuse::default();
        let mut stillness = Stillness::observe(&fs, &files);
        let survey = if options.scan { Survey::make(&fs, progress) } else { Survey::default() };
        let mut explained = Explained::new(&survey);
        let (verdicts, claimed) =
            claims::settle(&fs, &reuse, &stillness, &mut files, &mut |block, table| explained.see(block, table), progress);
        let known = explained.pages;
        let mut recovery = Recovery { fs, reuse, files, verdicts, pieces: Mutex::default(), unreadable_inodes: inodes.unreadable };
        progress.step("reading folders", 0, 0);
        let paths = names::paths(&recovery, &inodes, progress);
        recovery.files.iter_mut().zip(paths).for_each(|(file, paths)| file.paths = paths);
        progress.step("joining chains", 0, 0);
        recovery.add_chains(&survey, &known, claimed, &mut stillness, progress);
        recovery.finish();
        Ok(recovery)
    }

    /// Adds the files that only their indirect blocks tell of.
    fn add_chains(
        &mut self,
        survey: &Survey,
        known: &HashSet<usize>,
        claimed: RoaringTreemap,
        stillness: &mut Stillness,
        progress: &dyn Progress,
    ) {
        let (fs, reuse) = (&self.fs, &self.reuse);
        let chains = forest::grow(fs, survey, known);
        let drafts: Vec<Draft> =
            chains.iter().map(|chain| Draft { fs, survey, chain }).filter(|draft| draft.credence() == Credence::Full).collect();
        if drafts.is_empty() {
            return;
        }
        let mut spare = &survey.written - &claimed;
        drafts.iter().for_each(|draft| spare -= draft.blocks());
        self.files.extend(drafts.iter().map(|draft| draft.file(&spare)));
        sort(&mut self.files);
        let (verdicts, claimed) = claims::settle(fs, reuse, stillness, &mut self.files, &mut |_, _| {}, progress);
        self.verdicts = verdicts;
        if self.fill_gaps(&survey.written - claimed) {
            (self.verdicts, _) = claims::settle(&self.fs, &self.reuse, stillness, &mut self.files, &mut |_, _| {}, progress);
        }
    }

    /// Fills the gaps of all files, newest first, from what is `spare`. Whether there was anything to be filled.
    fn fill_gaps(&mut self, mut spare: RoaringTreemap) -> bool {
        let mut found: Vec<(FileId, Vec<fill::Piece>)> = vec![];
        for id in self.ids().filter(|id| self.file(*id).tally.of(Evidence::Unknown) > 0) {
            for gap in self.gaps(id) {
                let pieces = fill::fill(&gap, &spare, self.block_size());
                for piece in &pieces {
                    spare.remove_range(piece.block.get()..piece.block.plus(piece.length).get());
                }
                found.push((id, pieces));
            }
        }
        *lock(&self.pieces) = Pieces::default();
        found.retain(|(_, pieces)| !pieces.is_empty());
        for (id, pieces) in &found {
            if let Mapping::Indirect { placed, .. } = &mut self.files[id.0 as usize].mapping {
                let placed = placed.get_or_insert_default();
                pieces.iter().for_each(|piece| placed.put_data(piece.first, piece.block, piece.length));
            }
        }
        !found.is_empty()
    }

    /// Where a file has no pointers behind its direct blocks, and blocks are known on one side at least.
    fn gaps(&self, id: FileId) -> Vec<fill::Gap> {
        let mut gaps = vec![];
        let mut before: Option<Block> = None;
        let mut runs = self.runs(id).peekable();
        while let Some(run) = runs.next() {
            let is_gap = run.evidence == Evidence::Unknown && run.block.is_none() && run.file_block.0 >= indirect::DIRECT;
            let after = runs.peek().and_then(|next| next.block);
            if is_gap && (before.is_some() || after.is_some()) {
                gaps.push(fill::Gap { first: run.file_block, length: run.length, before, after });
            }
            before = run.block.map(|block| block.plus(run.length - 1));
        }
        gaps
    }

    /// Drops the files of which neither a name nor content is left, and numbers the lives of each inode.
    fn finish(&mut self) {
        let mut kept = vec![];
        for (file, verdict) in self.files.drain(..).zip(self.verdicts.drain(..)) {
            if !file.paths.is_empty() || file.has_trace() {
                kept.push((file, verdict));
            }
        }
        let mut versions = HashMap::<Ino, u32>::new();
        for (file, _) in &mut kept {
            if let Some(ino) = file.ino {
                let next = versions.entry(ino).or_default();
                file.version = *next;
                *next += 1;
            }
        }
        (self.files, self.verdicts) = kept.into_iter().unzip();
        // The files have other ids now.
        *lock(&self.pieces) = Pieces::default();
    }

    /// All lost files, newest loss first.
    pub fn files(&self) -> &[LostFile] {
        &self.files
    }

    /// One of them.
    ///
    /// # Panics
    /// If `id` is not from this recovery.
    pub fn file(&self, id: FileId) -> &LostFile {
        &self.files[id.0 as usize]
    }

    /// All their ids.
    pub fn ids(&self) -> impl Iterator<Item = FileId> + use<> {
        (0..self.files.len() as u32).map(FileId)
    }

    /// The filesystem.
    pub fn filesystem(&self) -> &Filesystem {
        &self.fs
    }

    /// The image.
    pub fn image(&self) -> &Image {
        self.fs.image()
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> u64 {
        self.fs.block_size()
    }

    /// The run that `at` lies in, from `at` on, as long as one lookup tells; `None` past the file's end.
    pub fn run_at(&self, id: FileId, at: FileBlock) -> Option<Run> {
        let verdict = &self.verdicts[id.0 as usize];
        let cache = PiecesOf { id, pieces: &self.pieces };
        let chain = Chain {
            fs: &self.fs,
            reuse: &self.reuse,
            file: self.file(id),
            zeros_are_holes: verdict.zeros_are_holes,
            since: verdict.since,
            claims: &verdict.lost,
            cache: &cache,
        };
        chain.run_at(at)
    }
}

/// Newest loss first: what was lost later wins a block.
fn sort(files: &mut [LostFile]) {
    files.sort_by_key(|file| std::cmp::Reverse((file.span.freed, file.deleted.map(|time| time.seconds), file.ino)));
}

/// Which pages of a survey are indirect blocks of files that are known by their inodes.
struct Explained<'a> {
    survey: &'a Survey,
    by_block: HashMap<Block, Vec<usize>>,
    pages: HashSet<usize>,
}

impl<'a> Explained<'a> {
    fn new(survey: &'a Survey) -> Self {
        let mut by_block: HashMap<Block, Vec<usize>> = HashMap::new();
        for (at, page) in survey.pages.iter().enumerate() {
            by_block.entry(page.block).or_default().push(at);
        }
        Explained { survey, by_block, pages: HashSet::new() }
    }

    /// Notes the pages that say what a file's indirect block says.
    fn see(&mut self, block: Block, table: &Table) {
        for at in self.by_block.get(&block).into_iter().flatten() {
            let page = &self.survey.pages[*at];
            let entry = |index: u32| table.entries.get(index as usize).copied().flatten().map(|pointer| pointer.block);
            if entry(page.begin) == Some(page.first) || entry(page.end - 1) == Some(page.last) {
                self.pages.insert(*at);
            }
        }
    }
}

/// Pieces of the files' block maps, those that were used last, by file, level of the indirect block and first file block.
struct Pieces {
    lru: LruCache<(u32, u8, FileBlock), Piece>,
    /// What they take in memory.
    bytes: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self { lru: LruCache::unbounded(), bytes: 0 }
    }
}

impl Pieces {
    fn put(&mut self, key: (u32, u8, FileBlock), piece: Piece) {
        self.bytes += piece.bytes();
        if let Some(former) = self.lru.put(key, piece) {
            self.bytes -= former.bytes();
        }
        while self.bytes > PIECES
            && let Some((_, oldest)) = self.lru.pop_lru()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

/// The shared cache, seen from one file.
struct PiecesOf<'a> {
    id: FileId,
    pieces: &'a Mutex<Pieces>,
}

impl Cache for PiecesOf<'_> {
    fn get(&self, (level, at): (u8, FileBlock)) -> Option<Piece> {
        lock(self.pieces).lru.get(&(self.id.0, level, at)).cloned()
    }

    fn put(&self, (level, at): (u8, FileBlock), piece: Piece) {
        lock(self.pieces).put((self.id.0, level, at), piece);
    }
}

impl Claims for RoaringTreemap {
    fn lost_to_newer(&self, block: Block, _: Option<FileBlock>) -> bool {
        self.contains(block.get())
    }
}
