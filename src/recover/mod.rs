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
pub mod past;
mod pieces;
mod placed;
mod prove;
mod read;
mod rebuild;
mod reuse;
mod stillness;
mod table;
mod takers;
mod tiling;
mod turnover;
mod unclaimed;
mod wear;

pub use crate::progress::Progress;
pub use file::{Candidate, FileId, Key, Kind, Loss, LostFile, Mapping, Orphan, Pointer, SizeFrom, Span, State, Tally, Time, Zeroed};
pub use hint::Hint;
pub use info::{Info, JournalInfo};
pub use past::Past;
pub use placed::{Basis, Placed, PlacedTable};
pub use read::{Range, Segment};
pub use takers::Taker;

use crate::catalog::{self, Place};
use crate::error::Result;
use crate::fs::{Filesystem, lock};
use crate::image::{Image, ImageOptions};
use crate::run::Run;
use crate::scan::Survey;
use crate::scan::extent::Looked;
use crate::units::{Block, FileBlock, Ino};
use chain::{Cache, Chain, Claims, Piece, Spot};
use pieces::Pieces;
use reuse::Reuse;
use roaring::RoaringTreemap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

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
    /// The user's word that hardly anything was written since the loss, where the journal does not reach back to it.
    pub still: bool,
    /// Bytes of memory for pieces of the files' block maps; all files share it.
    pub cache: usize,
}

impl OpenOptions {
    /// The image, with everything else as it is when nothing is asked for.
    pub fn new(image: ImageOptions) -> Self {
        OpenOptions {
            image,
            superblock: None,
            scan: true,
            catalog: Place::Nowhere,
            hints: vec![],
            content: true,
            still: false,
            cache: pieces::ROOM,
        }
    }
}

/// What a filesystem lost. Shared by all threads.
pub struct Recovery {
    fs: Arc<Filesystem>,
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
    looked: Looked,
}

impl Recovery {
    /// Opens an image, reads its history and finds what was lost.
    pub fn open(options: &OpenOptions, progress: &dyn Progress) -> Result<Recovery> {
        let past = Past::read(options, progress)?;
        let survey = match options.scan {
            true => catalog::survey(past.filesystem(), &options.catalog, &options.image, progress)?,
            false => Survey::default(),
        };
        let recovery = past.recover(&survey, progress);
        recovery.remarks.iter().for_each(|line| log::warn!("{line}"));
        Ok(recovery)
    }

    /// Drops the files of which neither a name nor content is left, and numbers the lives of each inode.
    fn finish(&mut self) {
        let is_kept = |file: &LostFile| !file.paths.is_empty() || file.has_trace();
        lock(&self.pieces).renumber(self.files.iter().map(is_kept));
        // In place: a second list of a hundred thousand files would double what they take.
        let mut files = self.files.iter();
        self.verdicts.retain(|_| files.next().is_some_and(is_kept));
        self.files.retain(is_kept);
        let mut versions = HashMap::<Ino, u32>::new();
        for file in &mut self.files {
            if let Some(ino) = file.ino {
                let next = versions.entry(ino).or_default();
                file.version = *next;
                *next += 1;
            }
        }
    }

    /// Does something to the files, and forgets what was resolved of them if that changed anything.
    fn noted(&mut self, change: impl FnOnce(&mut Recovery) -> bool) -> bool {
        let changed = change(self);
        if changed {
            lock(&self.pieces).clear();
        }
        changed
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

    /// What of free space was looked through for it.
    pub fn looked(&self) -> &Looked {
        &self.looked
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

    /// Whether a file's content is the same, byte for byte and by the same evidence, as that of a file of `other`, another look at the same
    /// filesystem.
    pub fn shows_alike(&self, id: FileId, other: &Recovery, other_id: FileId) -> bool {
        fn content(file: &LostFile) -> impl PartialEq {
            (file.kind, file.size, &file.mapping, &file.zeroed, &file.span)
        }
        content(self.file(id)) == content(other.file(other_id)) && self.verdicts[id.0 as usize] == other.verdicts[other_id.0 as usize]
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

/// Newest loss first: what was lost later wins a block. What may be no file at all comes last.
fn sort(files: &mut [LostFile]) {
    // By keys put aside: sorting the files themselves takes room for half of them once more.
    files.sort_by_cached_key(|file| {
        let loss = (file.span.freed, file.deleted.map(|time| time.seconds), file.ino);
        (file.is_dubious(), std::cmp::Reverse(loss))
    });
}

/// The shared cache, seen from one file.
struct PiecesOf<'a> {
    id: FileId,
    pieces: &'a Mutex<Pieces>,
}

impl Cache for PiecesOf<'_> {
    fn get(&self, (level, at): (u8, FileBlock)) -> Option<Piece> {
        lock(self.pieces).get((self.id.0, level, at))
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
