//! Holds what was recovered against the truth, block by block.

use super::truth::{Life, Truth, decode};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use undelfs::recover::{FileId, Kind, Recovery};
use undelfs::run::Evidence;

/// What a comparison found. Everything that should not be is a line in `faults`.
#[derive(Default, Debug)]
pub struct Verdict {
    pub lives: u64,
    pub found: u64,
    pub standing: u64,
    pub right: u64,
    pub inferred: u64,
    pub wrong: u64,
    pub wrong_inferred: u64,
    pub missed: u64,
    pub absent: u64,
    /// Blocks that stand whole although part of them is said to be zeroed by a truncate; they are missed.
    pub cut: u64,
    pub faults: Vec<String>,
}

fn hash(bytes: &[u8]) -> [u8; 8] {
    Sha256::digest(bytes)[..8].try_into().unwrap()
}

fn kind(name: &str) -> Option<Kind> {
    match name {
        "file" => Some(Kind::File),
        "dir" => Some(Kind::Dir),
        "symlink" => Some(Kind::Symlink),
        _ => None,
    }
}

/// How many of the truth's blocks a file names in their place.
fn likeness(recovery: &Recovery, id: FileId, life: &Life) -> u64 {
    let mut map = HashMap::new();
    for run in recovery.runs(id) {
        if let Some(block) = run.block {
            map.extend((0..run.length).map(|n| (run.file_block.0 + n, block.get() + n)));
        }
    }
    let runs = life.runs.iter().flatten();
    runs.flat_map(|(f, p, n)| (0..*n).map(move |i| (f + i, p + i))).filter(|(f, p)| map.get(f) == Some(p)).count() as u64
}

/// Which lost file is which life: of the same inode and generation the one that is most alike, each used once.
pub fn assign(recovery: &Recovery, truth: &Truth, by_identity: &HashMap<(u32, u32), Vec<FileId>>) -> HashMap<usize, FileId> {
    let mut pairs = vec![];
    for (number, life) in truth.lost.iter().enumerate() {
        for id in by_identity.get(&(life.inode, life.generation.unwrap_or(0))).into_iter().flatten() {
            let (file, alike) = (recovery.file(*id), likeness(recovery, *id, life));
            if kind(&life.kind) == Some(file.kind) && (alike > 0 || file.size == life.size || file.kind == Kind::Dir) {
                pairs.push(((file.size == life.size, alike), number, *id));
            }
        }
    }
    pairs.sort_by_key(|(score, number, _)| (std::cmp::Reverse(*score), *number));
    let (mut chosen, mut used) = (HashMap::new(), HashSet::new());
    for (_, number, id) in pairs {
        if !chosen.contains_key(&number) && used.insert(id) {
            chosen.insert(number, id);
        }
    }
    chosen
}

/// Judges a whole recovery.
pub fn judge(recovery: &Recovery, truth: &Truth, hashes: &[[u8; 8]]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_identity: HashMap<(u32, u32), Vec<FileId>> = HashMap::new();
    for id in recovery.ids() {
        let file = recovery.file(id);
        if let (Some(ino), Some(generation)) = (file.ino, file.generation) {
            by_identity.entry((ino.0, generation.0)).or_default().push(id);
        }
    }
    let chosen = assign(recovery, truth, &by_identity);
    let used: HashSet<FileId> = chosen.values().copied().collect();
    for (number, life) in truth.lost.iter().enumerate() {
        if kind(&life.kind).is_none() {
            continue;
        }
        verdict.lives += 1;
        let label = format!("inode {} generation {:?} {} ({}, {} bytes)", life.inode, life.generation, life.path, life.lost_by, life.size);
        match chosen.get(&number) {
            Some(id) => {
                verdict.found += 1;
                judge_one(recovery, *id, life, hashes, &label, &mut verdict);
            }
            None => judge_absent(recovery, life, hashes, &label, &mut verdict),
        }
    }
    for id in recovery.ids().filter(|id| !used.contains(id)) {
        let file = recovery.file(id);
        let data: u64 = Evidence::ALL.into_iter().filter(|e| e.is_data()).map(|e| file.tally.of(e)).sum();
        if data > 0 && file.kind == Kind::File {
            let name = String::from_utf8_lossy(&file.paths.first().cloned().unwrap_or_default()).into_owned();
            verdict.faults.push(format!(
                "invented: inode {:?}@{} {:?} {name} {} bytes, {data} of data {:?}",
                file.ino, file.version, file.generation, file.size, file.span
            ));
        }
    }
    verdict
}

fn home_stands(recovery: &Recovery, physical: u64, length: usize, want: [u8; 8]) -> bool {
    let mut bytes = vec![0; length];
    recovery.image().read_exact_at(&mut bytes, physical * recovery.block_size()).is_ok() && hash(&bytes) == want
}

/// Bytes of a file block that are within the file.
fn length_of(life: &Life, file_block: u64, block_size: u64) -> usize {
    life.size.saturating_sub(file_block * block_size).min(block_size) as usize
}

fn judge_absent(recovery: &Recovery, life: &Life, hashes: &[[u8; 8]], label: &str, verdict: &mut Verdict) {
    let block_size = recovery.block_size();
    let standing =
        life.blocks(hashes).filter(|(f, p, want)| home_stands(recovery, *p, length_of(life, *f, block_size), *want)).count() as u64;
    verdict.absent += standing;
    if standing > 0 {
        verdict.faults.push(format!("absent: {label}: {standing} blocks stand"));
    }
}

fn judge_one(recovery: &Recovery, id: FileId, life: &Life, hashes: &[[u8; 8]], label: &str, verdict: &mut Verdict) {
    let (file, block_size) = (recovery.file(id), recovery.block_size());
    let mut fault = |text: String| verdict.faults.push(format!("{label}: {text}"));
    let wanted = decode(&life.path);
    if file.kind != Kind::Dir && file.size != life.size {
        fault(format!("size {}", file.size));
    }
    let shown: Vec<String> = file.paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    if file.kind != Kind::Dir || life.lost_by == "rmdir" {
        let today = life.path_now.as_deref().map(decode);
        if !file.paths.contains(&wanted) && !today.is_some_and(|path| file.paths.contains(&path)) {
            fault(format!("path {shown:?}"));
        }
        if life.lost_by == "unlink" {
            life.links
                .iter()
                .filter(|link| !file.paths.contains(&decode(link)))
                .for_each(|link| fault(format!("link {link} is missing from {shown:?}")));
        }
    }
    if format!("{:04o}", file.mode) != life.mode.trim_start_matches("0o") || (file.uid, file.gid) != (life.uid, life.gid) {
        fault(format!("mode {:04o}, owner {}:{} for {} {}:{}", file.mode, file.uid, file.gid, life.mode, life.uid, life.gid));
    }
    if let (Kind::Symlink, Some(target)) = (file.kind, &life.target)
        && recovery.link_target(id).ok() != Some(decode(target))
    {
        fault(format!("target {:?}", recovery.link_target(id)));
    }
    if file.kind != Kind::File {
        return;
    }
    let mut served: HashMap<u64, (Evidence, u64)> = HashMap::new();
    for run in recovery.runs(id).filter(|run| run.evidence.is_data()) {
        let first = run.block.map_or(0, |block| block.get());
        served.extend((0..run.length).map(|n| (run.file_block.0 + n, (run.evidence, first + n))));
    }
    let (mut wrong, mut wrong_inferred, mut missed) = (vec![], vec![], vec![]);
    for (file_block, physical, want) in life.blocks(hashes) {
        let length = length_of(life, file_block, block_size);
        let stands = home_stands(recovery, physical, length, want);
        verdict.standing += u64::from(stands);
        let Some((evidence, block)) = served.remove(&file_block) else {
            if stands {
                missed.push((file_block, physical));
            }
            continue;
        };
        let mut bytes = vec![0; length];
        recovery.read_at(id, file_block * block_size, &mut bytes).expect("the image can be read");
        // Where the size is too small, which is a fault of its own, the bytes before it are right if the block is.
        let short = stands && block == physical && file.size < file_block * block_size + length as u64;
        let right = short || hash(&bytes) == want;
        let zeroed = file.zeroed.iter().find(|part| part.offset / block_size == file_block);
        match (right, evidence) {
            (false, _) if zeroed.is_some_and(|part| !part.stands) => {
                verdict.cut += u64::from(stands);
                missed.extend(stands.then_some((file_block, physical)));
            }
            (true, _) if zeroed.is_some_and(|part| part.stands) => verdict.inferred += 1,
            (true, Evidence::Inferred) => verdict.inferred += 1,
            (true, _) => verdict.right += 1,
            (false, Evidence::Inferred) => wrong_inferred.push((file_block, physical, block)),
            (false, _) => wrong.push((file_block, physical, evidence)),
        }
    }
    wrong.extend(
        served
            .into_iter()
            .filter(|(block, _)| life.runs.is_some() && block * block_size < life.size)
            .map(|(block, (evidence, _))| (block, 0, evidence)),
    );
    verdict.wrong += wrong.len() as u64;
    verdict.wrong_inferred += wrong_inferred.len() as u64;
    verdict.missed += missed.len() as u64;
    let mut fault = |text: String| verdict.faults.push(format!("{label}: {text}"));
    if !wrong.is_empty() {
        fault(format!("{} blocks are wrong: {:?}; {:?}", wrong.len(), &wrong[..wrong.len().min(3)], file.span));
    }
    if let Some((file_block, ..)) = wrong_inferred.first() {
        let (first, count) = (recovery.run_at(id, undelfs::units::FileBlock(*file_block)), wrong_inferred.len());
        fault(format!("{count} inferred blocks are wrong: {:?}; {first:?}; {:?}", &wrong_inferred[..count.min(3)], file.span));
    }
    if !missed.is_empty() {
        let first = recovery.run_at(id, undelfs::units::FileBlock(missed[0].0));
        fault(format!("{} blocks that stand are missing: {:?}; {first:?}; {:?}", missed.len(), &missed[..missed.len().min(3)], file.span));
    }
}
