//! Kernel-made images with known truth: every block that still stands is right, no block is wrong, sizes and paths are exact.

mod common;

use common::{image, judge, recover, truth};
use undelfs::image::ImageOptions;
use undelfs::run::Evidence;

fn check(name: &str, arguments: &[&str]) -> judge::Verdict {
    let path = image(name, arguments);
    let (truth, hashes) = truth::read(&path);
    let journal = path.with_extension("journal.img");
    let options = ImageOptions { journal: journal.exists().then_some(journal), ..ImageOptions::new(path) };
    let verdict = judge::judge(&recover(options), &truth, &hashes);
    println!(
        "{name}: {} lives, {} found, {} blocks stand, {} right, {} inferred, {} wrong, {} wrong inferred, {} missed, {} absent, {} cut, {} faults",
        verdict.lives,
        verdict.found,
        verdict.standing,
        verdict.right,
        verdict.inferred,
        verdict.wrong,
        verdict.wrong_inferred,
        verdict.missed,
        verdict.absent,
        verdict.cut,
        verdict.faults.len()
    );
    verdict
}

fn exact(name: &str, arguments: &[&str]) {
    let verdict = check(name, arguments);
    let faults = &verdict.faults[..verdict.faults.len().min(300)];
    assert!(faults.is_empty(), "{name}: {} faults\n{}", verdict.faults.len(), faults.join("\n"));
    assert!(verdict.wrong_inferred == 0 && verdict.lives > 0, "{verdict:?}");
    // In these two, one file is removed before it ever had a block or a committed inode.
    let never_there = u64::from(matches!(name, "datajournal" | "ext4driver"));
    assert_eq!(verdict.found + never_there, verdict.lives, "{name}: lost files are not found");
}

macro_rules! exact {
    ($($name:ident),+) => { $(#[test] fn $name() { exact(stringify!($name), &[]); })+ };
}

exact!(
    files900,
    tree,
    frag700,
    recovery,
    blk1k,
    sparse,
    sparse1k,
    datajournal,
    lives,
    ext4driver,
    journal64,
    journalcsum,
    metabg,
    extjournal,
    remount,
    bigdir
);

/// Nothing was ever deleted: nothing may be found.
#[test]
fn rootfs() {
    let path = image("rootfs", &[]);
    let recovery = recover(ImageOptions::new(path));
    assert_eq!(recovery.files().len(), 0, "{:?}", recovery.files().first());
}

/// Months of churn, then a loss: of what was lost last everything is there; of what was lost before, nothing that is shown is wrong.
#[test]
fn churn() {
    let verdict = check("churn", &[]);
    assert!(
        verdict.wrong == 0 && verdict.wrong_inferred == 0,
        "{:#?}",
        verdict.faults.iter().filter(|f| f.contains("wrong")).collect::<Vec<_>>()
    );
    let path = image("churn", &[]);
    let (mut truth, hashes) = truth::read(&path);
    truth.lost.drain(..truth.lost.len() - LAST_LOSS);
    let mut verdict = judge::judge(&recover(ImageOptions::new(path)), &truth, &hashes);
    verdict.faults.retain(|fault| !fault.starts_with("invented"));
    assert!(verdict.faults.is_empty() && verdict.standing == verdict.right, "{verdict:#?}");
}

/// Files that `churn` loses in its last session.
const LAST_LOSS: usize = 50;

/// Random histories: creates, appends, truncates, renames, links, deletes, remounts and crashes. What is shown is right.
#[test]
fn histories() {
    for seed in ["1", "2", "3", "4"] {
        let verdict = check("history", &["--seed", seed]);
        let wrong: Vec<_> = verdict.faults.iter().filter(|fault| fault.contains("wrong")).collect();
        assert!(verdict.wrong == 0 && verdict.wrong_inferred * 100 <= verdict.inferred, "history --seed {seed}: {wrong:#?}");
    }
}

/// Who took the blocks of an overwritten file is named, and has as many of them as are overwritten now.
#[test]
fn takers_are_named() {
    let recovery = recover(ImageOptions::new(image("churn", &[])));
    let (mut named, mut all) = (0, 0);
    for id in recovery.ids() {
        let taken = recovery.runs(id).filter(|run| run.evidence == Evidence::Overwritten);
        let blocks = taken.flat_map(|run| (0..run.length).filter_map(move |n| Some(run.block?.plus(n))));
        let in_use = blocks.filter(|block| recovery.filesystem().is_allocated(*block)).count() as u64;
        let takers = recovery.takers(id);
        assert!(takers.iter().all(|taker| taker.blocks > 0), "{takers:?}");
        let live: u64 = takers.iter().filter(|taker| !taker.lost).map(|taker| taker.blocks).sum();
        assert_eq!(live, in_use, "inode {:?}: {in_use} blocks in use now, takers {takers:?}", recovery.file(id).ino);
        all += in_use;
        named += takers.iter().filter(|taker| taker.path.is_some()).count();
    }
    assert!(named > 0 && all > 1000, "{named} takers named, {all} blocks");
}
