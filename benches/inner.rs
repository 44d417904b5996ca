//! The inner loops by themselves: judging a block in the scan, and finding where a byte of a file stands. `cargo bench --bench inner`.
//!
//! The images are those of the tests: made by `scripts/make-image`, which needs root, unless they are there.

#[path = "../tests/common/mod.rs"]
mod common;

use common::Random;
use criterion::{Criterion, Throughput};
use std::hint::black_box;
use undelfs::fs::Filesystem;
use undelfs::image::{Image, ImageOptions};
use undelfs::recover::Recovery;
use undelfs::scan::page::{Finding, examine};
use undelfs::units::{Block, FileBlock};

/// Blocks to judge, each with what it is.
fn blocks(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut random = Random(7);
    let mut words = |next: &mut dyn FnMut(&mut Random, u32) -> u32| -> Vec<u8> {
        let mut before = 70_000;
        let numbers = (0..size / 4).map(|_| {
            before = next(&mut random, before);
            before
        });
        numbers.flat_map(u32::to_le_bytes).collect()
    };
    let compressed = words(&mut |random, _| random.next() as u32);
    let consecutive = words(&mut |_, before| before + 1);
    let fragmented = words(&mut |random, before| before + 2 + random.below(3) as u32);
    let mut few = vec![0; size];
    few[..4].copy_from_slice(&70_000u32.to_le_bytes());
    let text = b"the quick brown fox jumps over the lazy dog, ".iter().copied().cycle().take(size).collect();
    vec![
        ("compressed", compressed),
        ("text", text),
        ("one pointer", few),
        ("consecutive pointers", consecutive),
        ("fragmented pointers", fragmented),
    ]
}

fn judging(criterion: &mut Criterion) {
    let options = ImageOptions::new(common::image("big600", &[]));
    let fs = Filesystem::open(Image::open(&options).expect("the image opens"), None, None).expect("the filesystem opens");
    let own = Block::new(60_000).expect("not 0");
    let mut group = criterion.benchmark_group("examine");
    group.throughput(Throughput::Bytes(fs.block_size()));
    for (name, bytes) in blocks(fs.block_size() as usize) {
        let is_page = matches!(examine(&bytes, own, &fs, &mut vec![]), Finding::Page(_));
        assert_eq!(is_page, name.contains("pointer"), "{name}");
        let mut scratch = vec![];
        group.bench_function(name, |bencher| bencher.iter(|| examine(black_box(&bytes), own, &fs, &mut scratch)));
    }
    group.finish();
}

/// The largest file of an image.
fn largest(recovery: &Recovery) -> (undelfs::recover::FileId, u64) {
    let sized = recovery.ids().map(|id| (id, recovery.file(id).size.div_ceil(recovery.block_size())));
    sized.max_by_key(|(_, blocks)| *blocks).expect("something is lost")
}

fn looking_up(criterion: &mut Criterion) {
    let recovery = common::recover(ImageOptions::new(common::image("million", &[])));
    let (id, blocks) = largest(&recovery);
    let mut group = criterion.benchmark_group("run_at, a million fragments");
    // The first megabytes' indirect blocks stay in the cache, all of them together do not.
    for (name, among) in [("cached", 20_000), ("anywhere", blocks)] {
        let mut random = Random(9);
        (0..among.min(20_000)).for_each(|at| drop(recovery.run_at(id, FileBlock(at))));
        group.bench_function(name, |bencher| bencher.iter(|| recovery.run_at(id, FileBlock(random.below(among)))));
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    judging(&mut criterion);
    looking_up(&mut criterion);
    criterion.final_summary();
}
