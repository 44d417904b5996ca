//! Free space that no lost file explains, held block by block against what bitmaps and lost files say.

mod common;

use common::image;
use roaring::RoaringTreemap;
use std::fs;
use std::path::Path;
use undelfs::image::ImageOptions;
use undelfs::recover::{OpenOptions, Recovery, Segment};
use undelfs::run::{Evidence, Place};
use undelfs::tree::Source;
use undelfs::units::Block;

fn open(image: ImageOptions, scan: bool) -> Recovery {
    Recovery::open(&OpenOptions { scan, ..OpenOptions::new(image) }, &()).expect("the image opens")
}

/// Blocks that are unclaimed, found one by one.
fn expected(recovery: &Recovery, unread: impl Fn(u64) -> bool) -> Vec<u64> {
    let (fs, block_size) = (recovery.filesystem(), recovery.block_size());
    let is_hole = |block: u64| recovery.image().next_data(block * block_size).is_none_or(|data| data >= (block + 1) * block_size);
    let is_unclaimed = |number: &u64| {
        let Some(block) = Block::new(*number) else { return false };
        let free = !fs.is_allocated(block) && !fs.geometry().is_metadata(block);
        free && !recovery.claimed().contains(*number) && !is_hole(*number) && !unread(*number)
    };
    (0..fs.geometry().superblock.blocks).filter(is_unclaimed).collect()
}

/// The same as the program finds them.
fn found(recovery: &Recovery) -> Vec<u64> {
    let (block_size, size) = (recovery.block_size(), recovery.filesystem_bytes());
    let mut blocks = vec![];
    let mut at = 0;
    while let Some(range) = recovery.unclaimed(at..size) {
        assert!(range.start >= at && range.end > range.start && range.start % block_size == 0 && range.end % block_size == 0, "{range:?}");
        blocks.extend(range.start / block_size..range.end / block_size);
        at = range.end;
    }
    assert_eq!(recovery.unclaimed_bytes(), blocks.len() as u64 * block_size);
    blocks
}

fn check(path: &Path, scan: bool) -> usize {
    let recovery = open(ImageOptions::new(path), scan);
    let (expected, found) = (expected(&recovery, |_| false), found(&recovery));
    let differs = expected.iter().zip(&found).find(|(a, b)| a != b);
    assert!(expected == found, "{}: {} blocks, not {}; first {differs:?}", path.display(), found.len(), expected.len());
    found.len()
}

#[test]
fn what_bitmaps_and_lost_files_leave() {
    // 1 KiB blocks; many groups with descriptors everywhere; tables of several groups in one, bitmaps that were never written.
    for name in ["blk1k", "metabg", "journal64", "rev0"] {
        check(&image(name, &[]), true);
        check(&image(name, &[]), false);
    }
    let nameless = image("nameless", &[]);
    let (with, without) = (check(&nameless, true), check(&nameless, false));
    assert!(without - with >= 8000, "{without} blocks, and {with} beside what chains explain");
}

#[test]
fn pieces_are_those_of_the_image() {
    let recovery = open(ImageOptions::new(image("nameless", &[])), false);
    let unclaimed = found(&recovery);
    let (block_size, size) = (recovery.block_size(), recovery.filesystem_bytes());
    // Windows that begin and end within blocks.
    for (offset, window) in [(0, size), (5000, 100_000), (size / 3 + 1, 7 << 20), (size - 10_000, 50_000), (size, 10)] {
        let end = (offset + window).min(size);
        let mut segments = vec![];
        Source::Unclaimed.segments(&recovery, offset, window, &mut segments);
        let mut at = offset;
        for segment in segments {
            let (data, len) = match segment {
                Segment::Image { offset, len } => {
                    assert_eq!(offset, at);
                    (true, len)
                }
                Segment::Zeros { len, missing: false } => (false, len),
                other => panic!("{other:?}"),
            };
            assert!(len > 0);
            for block in at / block_size..(at + len).div_ceil(block_size) {
                assert_eq!(unclaimed.binary_search(&block).is_ok(), data, "block {block}");
            }
            at += len;
        }
        assert_eq!(at, end);
    }
}

#[test]
fn what_was_never_read_is_a_hole() {
    let path = image("nameless", &[]);
    let whole = found(&open(ImageOptions::new(&path), false));
    let (first, middle) = (whole[0] * 4096, whole[whole.len() / 2] * 4096 + 512);
    let folder = tempfile::tempdir().unwrap();
    let mapfile = folder.path().join("map");
    let size = fs::metadata(&path).unwrap().len();
    let (after, rest) = (middle + 1024, size - middle - 1024);
    fs::write(
        &mapfile,
        format!("0 + 1\n0 {first} +\n{first} 4096 -\n{} {} +\n{middle} 1024 -\n{after} {rest} +\n", first + 4096, middle - first - 4096),
    )
    .unwrap();
    let recovery = open(ImageOptions { mapfile: Some(mapfile), ..ImageOptions::new(&path) }, false);
    let unread = |block: u64| [first / 4096, middle / 4096].contains(&block);
    assert_eq!(found(&recovery), expected(&recovery, unread));
    assert_eq!(found(&recovery).len(), whole.len() - 2);
}

/// What lay behind the end of a truncated image is part of the size, and a hole.
#[test]
fn a_truncated_image() {
    let folder = tempfile::tempdir_in(common::folder()).unwrap();
    let path = folder.path().join("short.img");
    fs::copy(image("nameless", &[]), &path).unwrap();
    let whole = found(&open(ImageOptions::new(&path), false));
    let cut = whole[whole.len() / 2] * 4096 + 100;
    fs::File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
    let recovery = open(ImageOptions::new(&path), false);
    assert_eq!(recovery.filesystem_bytes(), 128 << 20);
    assert!(found(&recovery).last().is_some_and(|last| (last + 1) * 4096 <= cut));
}

/// What a lost file shows is not also among what none explains.
#[test]
fn nothing_is_shown_twice() {
    for name in ["nameless", "wrapped", "blk1k"] {
        let recovery = open(ImageOptions::new(image(name, &[])), true);
        assert!(!recovery.files().is_empty());
        for id in recovery.ids() {
            for run in recovery.runs(id).filter(|run| run.evidence.is_data() && run.place == Place::Home) {
                let Some(first) = run.block else { continue };
                let claimed = recovery.claimed().contains_range(first.get()..first.plus(run.length).get());
                assert!(claimed, "{name}: {run:?} of {:?}", recovery.file(id).orphan);
            }
        }
    }
}

/// What no file shows, since nothing tells whether it still holds what was there, is left to programs that know it by its content.
#[test]
fn what_is_withheld_is_unclaimed() {
    let recovery = open(ImageOptions::new(image("churn", &[])), true);
    let mut shown = RoaringTreemap::new();
    let mut withheld = RoaringTreemap::new();
    for run in recovery.ids().flat_map(|id| recovery.runs(id).collect::<Vec<_>>()) {
        let blocks = run.block.map(|block| block.get()..block.plus(run.length).get()).unwrap_or_default();
        match run.evidence {
            Evidence::Unknown => withheld.insert_range(blocks),
            evidence if evidence.is_data() => shown.insert_range(blocks),
            _ => 0,
        };
    }
    assert!(!withheld.is_empty(), "this image shows nothing of what is asked here");
    let unclaimed: RoaringTreemap = found(&recovery).into_iter().collect();
    let free = |block: &u64| Block::new(*block).is_some_and(|block| !recovery.filesystem().is_allocated(block));
    let hidden: Vec<u64> = (withheld - shown).iter().filter(free).filter(|block| !unclaimed.contains(*block)).collect();
    assert!(hidden.is_empty(), "{} blocks are nowhere, the first {:?}", hidden.len(), hidden.first());
}
