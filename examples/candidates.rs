//! How often what the scan calls a page is none, and the other way round, on real data.
//!
//! ```text
//! cargo run --release --example candidates -- IMAGE FOLDER...
//! ```
//!
//! *Missed*: of the indirect blocks of IMAGE's live files, how many are not candidates. *False*: of the blocks of all files under the
//! FOLDERs, taken as blocks of IMAGE's filesystem, how many are. None of them is an indirect block of IMAGE.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use undelfs::format::indirect;
use undelfs::fs::Filesystem;
use undelfs::image::{Image, ImageOptions};
use undelfs::scan::page::{Finding, Page, examine};
use undelfs::units::{Block, Ino};

/// Blocks by what they were taken for.
#[derive(Default)]
struct Count {
    blocks: u64,
    blank: u64,
    pages: u64,
    scattered: u64,
    arithmetic: u64,
    strong: u64,
}

impl Count {
    fn add(&mut self, finding: &Finding) {
        self.blocks += 1;
        match finding {
            Finding::Blank => self.blank += 1,
            Finding::Page(page) => self.add_page(page),
            Finding::Integers { .. } | Finding::Other => {}
        }
    }

    fn add_page(&mut self, page: &Page) {
        self.pages += 1;
        self.scattered += u64::from(page.scattered);
        self.arithmetic += u64::from(page.is_arithmetic());
        self.strong += u64::from(page.is_strong() && !page.is_arithmetic());
    }

    fn print(&self, what: &str) {
        println!("{what}: {} blocks, {} of them blank", self.blocks, self.blank);
        for (name, count) in
            [("pages", self.pages), ("scattered", self.scattered), ("arithmetic", self.arithmetic), ("strong, not arithmetic", self.strong)]
        {
            println!("  {name:<24}{count:>9}  {:.1e}", count as f64 / self.blocks.max(1) as f64);
        }
    }
}

/// Looks at the indirect blocks below `block`; one that is met in a loop is counted again until its level ends.
fn walk(fs: &Filesystem, block: Block, level: u8, count: &mut [Count; 3]) {
    let Ok(bytes) = fs.read_block(block) else { return };
    count[usize::from(level - 1)].add(&examine(&bytes, block, fs, &mut vec![]));
    if level > 1 {
        indirect::parse(&bytes).flatten().for_each(|below| walk(fs, below, level - 1, count));
    }
}

/// Looks at every block of the files below a path; links are not followed.
fn read(fs: &Filesystem, path: &Path, at: Block, count: &mut Count) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?;
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            // What cannot be read is not counted.
            let _ = read(fs, &entry?.path(), at, count);
        }
    } else if kind.is_file() {
        let (mut file, mut block) = (File::open(path)?, vec![0; fs.block_size() as usize]);
        let mut scratch = vec![];
        while file.read_exact(&mut block).is_ok() {
            count.add(&examine(&block, at, fs, &mut scratch));
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args_os().skip(1);
    let image = args.next().ok_or("usage: candidates IMAGE FOLDER...")?;
    let fs = Filesystem::open(Image::open(&ImageOptions::new(image))?, None, None)?;
    let superblock = &fs.geometry().superblock;
    println!("a filesystem of {} blocks of {} bytes", superblock.blocks, superblock.block_size);
    let mut live: [Count; 3] = Default::default();
    for ino in (11..=superblock.inodes).map(Ino) {
        if let Some(inode) = fs.read_inode(ino).ok().filter(|inode| inode.is_live() && !inode.is_fast_symlink()) {
            (1..=3u8).for_each(|level| {
                if let Some(block) = inode.pointers()[11 + usize::from(level)] {
                    walk(&fs, block, level, &mut live);
                }
            });
        }
    }
    live.iter()
        .zip(["live IND", "live DIND", "live TIND"])
        .filter(|(count, _)| count.blocks > 0)
        .for_each(|(count, what)| count.print(what));
    let at = Block::new(superblock.blocks / 2).ok_or("an empty filesystem")?;
    for folder in args {
        let mut count = Count::default();
        read(&fs, Path::new(&folder), at, &mut count)?;
        count.print(&folder.to_string_lossy());
    }
    Ok(())
}
