//! Images that the old ext3 driver of Linux 2.6.32 wrote and deleted from: all that stands on them comes back, under its name.

mod common;

use common::chains::{Chains, Verdict, Wanted};
use common::old_ext3::{Bundle, Written, bundle, bytes_of};
use common::recover;
use undelfs::image::ImageOptions;
use undelfs::recover::{FileId, Kind, Recovery};

/// Files that reach beyond this file block have indirect blocks.
const DIRECT: u64 = 12;

/// The files that were lost, as far as they had file blocks from `beyond` on.
fn chains_of(bundle: &Bundle, beyond: u64) -> Chains {
    let reaches = |file: &&Written| file.data.last().is_some_and(|(at, _, count)| at + count > beyond);
    let lost: Vec<_> = bundle.truth.files.iter().filter(|file| file.is_lost()).filter(reaches).collect();
    let wanted = lost.iter().map(|file| Wanted {
        label: format!("inode {} /{} ({} bytes)", file.inode, file.path, file.size),
        paths: vec![format!("/{}", file.path).into_bytes()],
        ino: file.inode,
        generation: None,
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

/// Whether a recovered file is a lost one that is not judged: too small for a chain, or one of those that were removed to make holes before the loss
/// or to wrap the journal after it, whose blocks the truth doesn't list.
fn is_by_the_way(bundle: &Bundle, recovery: &Recovery, id: FileId) -> bool {
    let truth = &bundle.truth;
    let known = |path: &str| {
        let early = truth.early.iter().map(|file| (&file.path, file.id, file.wav, file.size));
        let lost = truth.files.iter().filter(|file| file.is_lost()).map(|file| (&file.path, file.id, file.wav, file.size));
        let listed = early.chain(lost).find(|(other, ..)| *other == path).map(|(_, content, wav, size)| (content, wav, size));
        listed.or_else(|| path.starts_with("churn/").then_some((CHURN, 0, recovery.file(id).size)))
    };
    let paths = recovery.file(id).paths.iter().filter_map(|path| str::from_utf8(path).ok()?.strip_prefix('/'));
    if recovery.file(id).paths.is_empty() {
        return is_an_orphan(bundle, recovery, id);
    }
    paths.filter_map(known).any(|(content, wav, size)| is_of(recovery, id, content, wav, size))
}

/// Whether what is shown of a file without a name is one lost file's, wherever its chain was cut: each block says whose it is.
fn is_an_orphan(bundle: &Bundle, recovery: &Recovery, id: FileId) -> bool {
    let (size, mut bytes) = (recovery.block_size(), vec![0; recovery.block_size() as usize]);
    let data = || recovery.runs(id).filter(|run| run.evidence.is_data()).flat_map(|run| run.file_block.0..run.end().0);
    let Some(last) = data().last() else { return true };
    recovery.read_at(id, last * size, &mut bytes).expect("the image can be read");
    let content = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let early = bundle.truth.early.iter().map(|file| (file.id, file.wav, file.size));
    let lost = bundle.truth.files.iter().filter(|file| file.is_lost()).map(|file| (file.id, file.wav, file.size));
    early
        .chain(lost)
        .chain([(CHURN, 0, recovery.file(id).size)])
        .any(|(known, wav, length)| known == content && is_of(recovery, id, known, wav, length))
}

fn check(name: &str, beyond: u64) -> Verdict {
    let bundle = bundle(name);
    let chains = chains_of(&bundle, beyond);
    let recovery = recover(ImageOptions::new(&bundle.image));
    let mut verdict = chains.judge(&recovery);
    let intact: u64 = bundle.after.iter().map(|file| file.data_blocks_intact).sum();
    assert!(verdict.standing == intact || beyond > 0, "{name}: the image is not put together as it was");
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

/// At least `percent` of what stands of the files that reach beyond a file block is shown, with name, inode and size; nothing is wrong, and nothing is
/// shown that never was.
fn demand(name: &str, beyond: u64, percent: f64) {
    let verdict = check(name, beyond);
    let faults = verdict.faults[..verdict.faults.len().min(20)].join("\n");
    assert!(verdict.found == verdict.lives && verdict.wrongs() == 0 && verdict.pointed_missed == 0, "{name}: {verdict}\n{faults}");
    assert!(verdict.rights() as f64 >= percent / 100.0 * verdict.standing as f64, "{name}: {verdict}\n{faults}");
    assert!(verdict.invented == 0, "{name}: {verdict}\n{faults}");
    assert!([verdict.sizes, verdict.paths, verdict.owners] == [verdict.lives; 3], "{name}: {verdict}\n{faults}");
}

#[test]
fn simple() {
    demand("1_simple", 0, 100.0);
}

/// The journal has the pointers of 6 of 53 files. Of the others those without indirect blocks can't be told apart any more, and which
/// chain was whose inode's nothing says.
#[test]
fn cold_log() {
    let verdict = check("1b_cold", DIRECT);
    assert!((verdict.found, verdict.rights(), verdict.sizes) == (verdict.lives, verdict.standing, verdict.lives), "{verdict}");
    assert!(verdict.wrongs() + verdict.wrong_owners + verdict.invented == 0, "{verdict}");
}

#[test]
fn fragmented_while_open() {
    demand("2b_fragmented_open", 0, 100.0);
}

#[test]
fn wrapped() {
    demand("3_wrapped", 0, 100.0);
}

#[test]
fn truncated() {
    demand("4_truncated", 0, 100.0);
}

#[test]
fn crashed() {
    demand("6_crash", 0, 100.0);
}

#[test]
fn blocks_of_1k() {
    demand("7_blk1k", 0, 100.0);
}

#[test]
fn restarted_truncate() {
    demand("8b_restart_bgsync", 0, 100.0);
}

#[test]
fn most_of_the_dind_zeroed() {
    demand("8f_dind_lost", 0, 99.0);
}

#[test]
fn tree() {
    demand("9_tree", 0, 100.0);
}
