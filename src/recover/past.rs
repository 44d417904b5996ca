//! What inodes and journal tell, before anything is looked for in free space: the ground that every look at what was lost begins on.

use super::claims::Seen;
use super::gaps::Ends;
use super::inodes::Inodes;
use super::rebuild::{Known, Rebuild};
use super::reuse::Reuse;
use super::stillness::Stillness;
use super::{LostFile, OpenOptions, Progress, Recovery, claims, names, sort};
use crate::catalog;
use crate::error::Result;
use crate::fs::Filesystem;
use crate::image::Image;
use crate::recover::Hint;
use crate::scan::Survey;
use std::sync::{Arc, Mutex};

/// The history of a filesystem. Cheap to keep while free space is looked through: some hundred bytes for each lost file.
#[derive(Clone)]
pub struct Past {
    fs: Arc<Filesystem>,
    files: Vec<LostFile>,
    inodes: Arc<Inodes>,
    stillness: Stillness,
    hints: Vec<Hint>,
    content: bool,
    cache: usize,
}

impl Past {
    /// Opens an image and reads its history.
    ///
    /// # Errors
    /// Where the image cannot be opened, or holds no filesystem that can be read.
    pub fn read(options: &OpenOptions, progress: &dyn Progress) -> Result<Past> {
        let image = Image::open(&options.image)?;
        progress.step("reading the journal", 0, 0);
        let fs = Filesystem::open(image, options.superblock, options.image.journal.as_deref())?;
        catalog::recall(&fs, &options.catalog, &options.image);
        let mut inodes = Inodes::scan(&fs, progress);
        let mut files = inodes.take_losses(&fs);
        sort(&mut files);
        files.iter_mut().zip(0..).for_each(|(file, number)| file.number = Some(number));
        let mut stillness = Stillness::observe(&fs, &files);
        stillness.sworn = options.still;
        Ok(Past {
            fs: Arc::new(fs),
            files,
            inodes: Arc::new(inodes),
            stillness,
            hints: options.hints.clone(),
            content: options.content,
            cache: options.cache,
        })
    }

    /// The filesystem.
    pub fn filesystem(&self) -> &Arc<Filesystem> {
        &self.fs
    }

    /// Finds what was lost, with what `survey` tells of free space. What is found with a survey of a part of it can be taken back by what the rest tells.
    pub fn recover(self, survey: &Survey, progress: &dyn Progress) -> Recovery {
        let Past { fs, mut files, inodes, stillness, hints, content, cache } = self;
        let reuse = Reuse::default();
        let (mut known, mut ends) = (Known::new(survey), Ends::default());
        let mut see = |seen: &Seen| {
            known.see(seen);
            ends.see(seen);
        };
        let settled = claims::settle(&fs, &reuse, &stillness, &mut files, cache, &mut see, progress);
        let known = known.places();
        let unreadable_inodes = inodes.unreadable;
        let mut recovery = Recovery {
            fs,
            reuse,
            files,
            verdicts: settled.verdicts,
            claimed: settled.claimed,
            remarks: vec![],
            pieces: Mutex::new(settled.pieces),
            unreadable_inodes,
            looked: survey.looked.clone(),
        };
        progress.step("reading folders", 0, 0);
        let paths = names::paths(&recovery, &inodes, progress);
        recovery.files.iter_mut().zip(paths).for_each(|(file, paths)| file.paths = paths);
        progress.step("joining chains", 0, 0);
        drop(inodes);
        let doubted = settled.doubted;
        Rebuild { survey, known, stillness, hints: &hints, content, progress, ends, doubted }.run(&mut recovery);
        recovery.finish();
        recovery
    }
}
