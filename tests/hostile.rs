//! Every number from the disk is hostile. Errors are fine, panics and endless work are bugs.

mod common;

use common::{image, recover};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use undelfs::image::ImageOptions;
use undelfs::recover::{self, Recovery};
use undelfs::tree::Tree;

/// xorshift64*: repeatable from the seed that is printed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// A copy of an image that tests may spoil.
fn copy_of(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir_in(common::folder()).unwrap();
    let copy = folder.path().join("copy.img");
    let status = std::process::Command::new("cp").arg("--sparse=always").arg(image(name, &[])).arg(&copy).status().unwrap();
    assert!(status.success());
    (folder, copy)
}

fn open(path: &Path) -> undelfs::Result<Recovery> {
    Recovery::open(&recover::OpenOptions::new(ImageOptions::new(path)), &())
}

/// Does with an image what commands do: open, walk every file's runs as far as a bound, read from both ends.
fn use_all(path: &Path) {
    let Ok(recovery) = open(path) else { return };
    recovery.info();
    let tree = Tree::build(Arc::new(recovery));
    let recovery = tree.recovery();
    let mut buffer = vec![0; 10_000];
    for id in recovery.ids() {
        let size = recovery.file(id).size;
        let walked: u64 = recovery.ranges(id).take(5000).map(|range| range.length).sum();
        assert!(walked <= size, "ranges of {walked} bytes in a file of {size}");
        for offset in [0, size / 2, size.saturating_sub(5000)] {
            let _ = recovery.read_at(id, offset, &mut buffer);
        }
        let _ = recovery.link_target(id);
        undelfs::xattr::value(recovery, id, b"user.undelfs.missing");
    }
}

/// Bytes of the image that hold metadata: superblock and descriptors, and everything of which the journal has copies, and those copies.
fn metadata(path: &Path) -> Vec<u64> {
    let recovery = recover(ImageOptions::new(path));
    let (fs, size) = (recovery.filesystem(), recovery.block_size());
    let mut blocks: Vec<u64> = vec![0, size, 1024];
    blocks.extend(fs.journal().copied_blocks().map(|(block, _)| block.get() * size));
    blocks.extend((0..2000).filter_map(|index| fs.journal().image_offset(index)));
    blocks
}

fn spoil(name: &str, rounds: u64, seed: u64) {
    let (_folder, path) = copy_of(name);
    let blocks = metadata(&path);
    let file: File = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut random = Random(seed);
    for round in 0..rounds {
        let mut undo = vec![];
        for _ in 0..1 + random.below(40) {
            let base = blocks[random.below(blocks.len() as u64) as usize];
            let offset = base + random.below(4096 / 4) * 4;
            let mut old = [0; 4];
            if file.read_exact_at(&mut old, offset).is_err() {
                continue;
            }
            let value = match random.below(5) {
                0 => 0,
                1 => u32::MAX,
                2 => random.below(1 << 18) as u32,
                3 => u32::from_le_bytes(old) ^ (1 << random.below(32)),
                _ => random.next() as u32,
            };
            undo.push((offset, old));
            file.write_all_at(&value.to_le_bytes(), offset).unwrap();
        }
        println!("{name} seed {seed} round {round}");
        let began = Instant::now();
        use_all(&path);
        assert!(began.elapsed() < Duration::from_secs(60), "{name} seed {seed} round {round}: endless");
        undo.iter().rev().for_each(|(offset, old)| file.write_all_at(old, *offset).unwrap());
    }
}

#[test]
fn spoiled_metadata() {
    spoil("tree", 150, 0x5EED_0001);
    spoil("blk1k", 15, 0x5EED_0002);
    spoil("lives", 40, 0x5EED_0003);
}

/// The first superblock and all descriptors are gone: the backups do, and everything is found as before.
#[test]
fn damaged_superblock_and_descriptors() {
    let (_folder, path) = copy_of("files900");
    let before = recover(ImageOptions::new(&path)).files().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xAA; 8192], 0).unwrap();
    let recovery = recover(ImageOptions::new(&path));
    assert_eq!(recovery.files().len(), before);
    let damage = recovery.info().damage.join("; ");
    assert!(damage.contains("primary superblock") && damage.contains("descriptors"), "{damage}");
}

/// An image that was cut short: what lay behind counts as missing, what is there is found.
#[test]
fn truncated_image() {
    let (_folder, path) = copy_of("files900");
    let whole = recover(ImageOptions::new(&path));
    let length = std::fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2 + 777).unwrap();
    let cut = recover(ImageOptions::new(&path));
    assert!(!cut.files().is_empty() && cut.files().len() <= whole.files().len());
    for id in cut.ids() {
        let mut bytes = vec![0; cut.file(id).size.min(1 << 20) as usize];
        assert!(cut.read_at(id, 0, &mut bytes).is_ok(), "missing ranges are zeros, not errors");
    }
    use_all(&path);
}

/// Blocks of 64 KiB, which this machine's kernel may not mount, are read too.
#[test]
fn blocks_of_64_kib() {
    let folder = tempfile::tempdir_in(common::folder()).unwrap();
    let path = folder.path().join("large.img");
    let made = std::process::Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext3", "-b", "65536", "-N", "1024"])
        .arg(&path)
        .arg("512M")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let recovery = recover(ImageOptions::new(&path));
    assert_eq!((recovery.block_size(), recovery.files().len()), (65536, 0));
}
