//! `undelfs scan`: looks through the image once, and keeps what it found.

use super::args::{Global, ScanArgs};
use super::progress::Meter;
use super::terminal::{self, Output, count, size};
use super::{place, refuse_background, start};
use std::io::Write;
use std::time::Instant;
use undelfs::catalog::{self, Scan, Summary};
use undelfs::fs::Filesystem;
use undelfs::image::Image;
use undelfs::tables;
use undelfs::units::Ino;
use undelfs::{Error, Result};

/// Groups, from an inode's own on, in which most blocks of its file are commonly found: 8 GiB with blocks of 4 KiB. The allocator looks from
/// the file's last block onwards (`ext3_new_blocks`, fs/ext3/balloc.c).
const NEAR: u64 = 64;

/// Scans into the catalog.
///
/// # Errors
/// Where the image cannot be read, or the catalog not be written.
pub fn run(args: &ScanArgs, global: &Global) -> Result<()> {
    if args.image.no_catalog {
        return Err(Error::Usage("scan has no purpose with --no-catalog: it keeps what it finds in a catalog".into()));
    }
    refuse_background(&args.image)?;
    let options = start(&args.image, global)?;
    let fs = Filesystem::open(Image::open(&options)?, args.image.superblock, options.journal.as_deref())?;
    let first = first(args, &fs)?;
    let scan = Scan::into_catalog(&fs, &place(&args.image), &options)?;
    let path = scan.path().map(|path| path.display().to_string()).unwrap_or_default();
    let (meter, begun) = (Meter::new(global), Instant::now());
    catalog::recall(&fs, &place(&args.image), &options);
    if fs.written_tables().get().is_none() {
        // What every later command asks for first.
        tables::each_block(&fs, &meter, &mut |_, _, _| ());
    }
    let summary = scan.run(&first, &mut |_| (), &meter);
    meter.finish();
    let line = line(&summary?, fs.block_size(), begun.elapsed().as_secs_f64());
    let mut output = Output::new(global);
    let written = writeln!(output.out, "{line}; catalog {}", terminal::line(&path));
    output.finish(written)
}

/// The groups that are looked through before the others.
fn first(args: &ScanArgs, fs: &Filesystem) -> Result<Vec<u64>> {
    let sb = &fs.geometry().superblock;
    let mut first = vec![];
    for range in &args.group {
        if *range.end() >= sb.groups() {
            return Err(Error::Usage(format!("there is no group {}: the last is {}", range.end(), sb.groups() - 1)));
        }
        first.extend(range.clone());
    }
    for ino in &args.near {
        if *ino > sb.inodes {
            return Err(Error::Usage(format!("there is no inode {ino}: the last is {}", sb.inodes)));
        }
        let group = sb.group_of_inode(Ino(*ino));
        first.extend(group..sb.groups().min(group + NEAR));
    }
    Ok(first)
}

fn line(summary: &Summary, block_size: u64, seconds: f64) -> String {
    let bytes = |blocks: u64| size(blocks.saturating_mul(block_size));
    let found = count(summary.pages, "block that can be an indirect block", "blocks that can be indirect blocks");
    let took = match (summary.known, summary.swept) {
        (_, 0) => "was known already".to_owned(),
        (0, _) => format!("looked through in {seconds:.1} s"),
        (known, swept) => format!("looked through in {seconds:.1} s ({known} of {} groups were known)", known + swept),
    };
    let unreadable = match summary.unreadable {
        0 => String::new(),
        blocks => format!("; {} cannot be read", bytes(blocks)),
    };
    format!("{} of free space {took}: {found}{unreadable}", bytes(summary.free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let summary = Summary { known: 0, swept: 4, free: 1 << 20, written: 9, unreadable: 0, pages: 1 };
        assert_eq!(line(&summary, 4096, 2.0), "4.0 GiB of free space looked through in 2.0 s: 1 block that can be an indirect block");
        let summary = Summary { known: 3, swept: 1, unreadable: 3, pages: 2, ..summary };
        let expected = "4.0 GiB of free space looked through in 2.0 s (3 of 4 groups were known): 2 blocks that can be indirect blocks; \
                        12 KiB cannot be read";
        assert_eq!(line(&summary, 4096, 2.0), expected);
        assert!(line(&Summary { swept: 0, ..summary }, 4096, 0.0).starts_with("4.0 GiB of free space was known already: 2 blocks"));
    }
}
