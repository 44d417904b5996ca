//! Images that the old ext3 driver of Linux 2.6.32 wrote and deleted from: all that stands on them comes back, under its name.

mod common;

use common::chains::{Chains, Verdict, Wanted};
use common::old_ext3::{Bundle, bundle, bytes_of};
use common::recover;
use undelfs::image::ImageOptions;
use undelfs::recover::{FileId, Kind, Recovery};

fn chains_of(bundle: &Bundle) -> Chains {
    let lost: Vec<_> = bundle.truth.files.iter().filter(|file| file.is_lost()).collect();
    let wanted = lost.iter().map(|file| Wanted {
        label: format!("inode {} /{} ({} bytes)", file.inode, file.path, file.size),
        paths: vec![format!("/{}", file.path).into_bytes()],
        ino: file.inode,
        size: file.size,
        runs: file.data.clone(),
        indirect: file.ind.clone(),
    });
    let (known, block_size): (Vec<_>, _) = (lost.iter().map(|file| (file.id, file.wav, file.size)).collect(), bundle.block_size);
    let content = move |file: usize, _: u64, at: u64, bytes: &[u8]| {
        let (id, wav, size) = known[file];
        bytes == bytes_of(id, wav, size, at * block_size, bytes.len() as u64)
    };
    Chains::new(&bundle.image, block_size, wanted.collect(), Box::new(content))
}

/// Id of all files that were written and removed to wrap the journal.
const CHURN: u64 = 99_999;

/// Whether every block that is shown of a recovered file is that of the file with this id.
fn is_of(recovery: &Recovery, id: FileId, content: u64, wav: u64, length: u64) -> bool {
    let (size, mut bytes) = (recovery.block_size(), vec![]);
    recovery.runs(id).filter(|run| run.evidence.is_data()).flat_map(|run| run.file_block.0..run.end().0).all(|at| {
        bytes.resize(length.saturating_sub(at * size).min(size) as usize, 0);
        let read = recovery.read_at(id, at * size, &mut bytes).expect("the image can be read");
        read == bytes.len() && bytes == bytes_of(content, wav, length, at * size, read as u64)
    })
}

/// Whether a recovered file is one that the truth doesn't list, or lists without its blocks: removed to make holes before the loss, or to wrap the
/// journal after it.
fn is_by_the_way(bundle: &Bundle, recovery: &Recovery, id: FileId) -> bool {
    recovery.file(id).paths.iter().filter_map(|path| str::from_utf8(path).ok()?.strip_prefix('/')).any(|path| {
        let early = bundle.truth.early.iter().find(|early| early.path == path);
        early.is_some_and(|early| is_of(recovery, id, early.id, early.wav, early.size))
            || path.starts_with("churn/") && is_of(recovery, id, CHURN, 0, recovery.file(id).size)
    })
}

fn check(name: &str) -> Verdict {
    let bundle = bundle(name);
    let chains = chains_of(&bundle);
    let recovery = recover(ImageOptions::new(&bundle.image));
    let mut verdict = chains.judge(&recovery);
    let intact: u64 = bundle.after.iter().map(|file| file.data_blocks_intact).sum();
    assert_eq!(verdict.standing, intact, "{name}: the image is not put together as it was");
    let (mut by_the_way, mut folders, mut links, mut others) = (0, 0, 0, vec![]);
    for id in &verdict.unmatched {
        match recovery.file(*id).kind {
            Kind::File if is_by_the_way(&bundle, &recovery, *id) => by_the_way += 1,
            Kind::File => others.push(format!("{:?}", recovery.file(*id))),
            Kind::Dir => folders += 1,
            Kind::Symlink => links += 1,
        }
    }
    verdict.invented = others.len() as u64;
    println!("{name}: {verdict}; besides {by_the_way} lost by the way, {folders} folders, {links} links");
    verdict.faults.retain(|fault| !fault.starts_with("invented"));
    verdict.faults.extend(others.into_iter().map(|file| format!("not in the truth: {file}")));
    verdict
}

/// At least `percent` of what stands is shown, nothing wrong, with name, inode and size, and nothing that never was.
fn demand(name: &str, percent: f64) {
    let verdict = check(name);
    let faults = verdict.faults[..verdict.faults.len().min(20)].join("\n");
    assert!(verdict.found == verdict.lives && verdict.wrongs() == 0 && verdict.pointed_missed == 0, "{name}: {verdict}\n{faults}");
    assert!(verdict.rights() as f64 >= percent / 100.0 * verdict.standing as f64, "{name}: {verdict}\n{faults}");
    assert!(verdict.faults.is_empty() || percent < 100.0, "{name}: {verdict}\n{faults}");
    assert!([verdict.sizes, verdict.paths, verdict.owners] == [verdict.lives; 3], "{name}: {verdict}\n{faults}");
}

#[test]
fn simple() {
    demand("1_simple", 100.0);
}

#[test]
fn cold_log() {
    demand("1b_cold", 100.0);
}

#[test]
fn fragmented_while_open() {
    demand("2b_fragmented_open", 100.0);
}

#[test]
fn wrapped() {
    demand("3_wrapped", 100.0);
}

#[test]
fn truncated() {
    demand("4_truncated", 100.0);
}

#[test]
fn crashed() {
    demand("6_crash", 100.0);
}

#[test]
fn blocks_of_1k() {
    demand("7_blk1k", 100.0);
}

#[test]
fn restarted_truncate() {
    demand("8b_restart_bgsync", 100.0);
}

#[test]
fn most_of_the_dind_zeroed() {
    demand("8f_dind_lost", 99.0);
}

#[test]
fn tree() {
    demand("9_tree", 100.0);
}
