//! From the image and its history to lost files, each with its runs and the evidence for every one of them.

mod chain;
mod chains;
mod claims;
mod cut;
mod fate;
pub mod file;
mod fill;
mod folders;
mod gaps;
pub mod hint;
mod history;
pub mod info;
mod inodes;
mod names;
mod owners;
mod placed;
mod prove;
mod read;
mod rebuild;
mod reuse;
mod stillness;
mod table;
mod takers;
mod turnover;
mod unclaimed;

pub use crate::progress::Progress;
pub use file::{Candidate, FileId, Kind, Loss, LostFile, Mapping, Orphan, Pointer, SizeFrom, Span, State, Tally, Time, Zeroed};
pub use hint::Hint;
pub use info::{Info, JournalInfo};
pub use placed::{Basis, Placed, PlacedTable};
pub use read::{Range, Segment};
pub use takers::Taker;

use crate::catalog::{self, Place};
use crate::error::Result;
use crate::fs::{Filesystem, lock};
use crate::image::{Image, ImageOptions};
use crate::run::Run;
use crate::scan::Survey;
use crate::units::{Block, FileBlock, Ino};
use chain::{Cache, Chain, Claims, Piece, Spot};
use inodes::Inodes;
use lru::LruCache;
use rebuild::{Known, Rebuild};
use reuse::Reuse;
use roaring::RoaringTreemap;
use std::collections::HashMap;
use std::sync::Mutex;
use stillness::Stillness;

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
    /// Where what that finds is kept.
    pub catalog: Place,
    /// What the user knows of files.
    pub hints: Vec<Hint>,
    /// Whether the content of files is used to place blocks that no pointer names, and to tell sizes.
    pub content: bool,
}

impl OpenOptions {
    /// The image, with everything else as it is when nothing is asked for.
    pub fn new(image: ImageOptions) -> Self {
        OpenOptions { image, superblock: None, scan: true, catalog: Place::Nowhere, hints: vec![], content: true }
    }
}

/// What a filesystem lost. Shared by all threads.
pub struct Recovery {
    fs: Filesystem,
    reuse: Reuse,
    files: Vec<LostFile>,
    /// For each file what the pass over all claims found.
    verdicts: Vec<claims::Verdict>,
    /// All blocks that they show, with their indirect blocks.
    claimed: RoaringTreemap,
    /// What is to be said of hints.
    remarks: Vec<String>,
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
        let stillness = Stillness::observe(&fs, &files);
        let survey = match options.scan {
            true => catalog::survey(&fs, &options.catalog, &options.image, progress)?,
            false => Survey::default(),
        };
        let mut known = Known::new(&survey);
        let settled = claims::settle(&fs, &reuse, &stillness, &mut files, &mut |seen| known.see(seen), progress);
        let known = known.places();
        let mut recovery = Recovery {
            fs,
            reuse,
            files,
            verdicts: settled.verdicts,
            claimed: settled.claimed,
            remarks: vec![],
            pieces: Mutex::default(),
            unreadable_inodes: inodes.unreadable,
        };
        progress.step("reading folders", 0, 0);
        let paths = names::paths(&recovery, &inodes, progress);
        recovery.files.iter_mut().zip(paths).for_each(|(file, paths)| file.paths = paths);
        progress.step("joining chains", 0, 0);
        drop(inodes);
        Rebuild { survey: &survey, known, stillness, hints: &options.hints, content: options.content, progress, ends: HashMap::new() }
            .run(&mut recovery);
        recovery.remarks.iter().for_each(|line| log::warn!("{line}"));
        recovery.finish();
        Ok(recovery)
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

    /// What is to be said of the user's hints: one line for each that contradicts the evidence, or that nothing fits.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
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
            since: &verdict.since,
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
    fn lost_to_newer(&self, block: Block, _: Spot) -> bool {
        self.contains(block.get())
    }

    fn was_kept(&self, block: Block, _: Spot) -> bool {
        !self.contains(block.get())
    }
}
