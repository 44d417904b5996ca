//! Random histories, each a real mount with its truth: what is called journal or chain is right, what is inferred nearly always, and of what is still
//! pointed to nothing is left out.
//!
//! A few by default; `scripts/histories` runs many, by these variables:
//!
//! * `UNDELFS_HISTORIES`: how many; what passed is removed, and noted in `histories.log` beside the images, so that a run that was stopped goes on.
//! * `UNDELFS_HISTORIES_SEED`: the first seed.

mod common;

use common::chains::Chains;
use common::{folder, image, judge, recover, truth};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use undelfs::image::ImageOptions;

/// How many, and from which seed on, when nobody says.
const SHORT: u64 = 2;
const FIRST: u64 = 101;

/// A history that fails, in one line; `Ok` says what was found. Unless `strict`, a few blocks may be wrong: those that were written and freed
/// within one transaction, of which the journal's bitmaps say nothing, and of what is left out the INDs of a few pointers, which anything can be.
fn judge_history(seed: u64, strict: bool) -> Result<String, String> {
    let path = image("history", &["--seed", &seed.to_string()]);
    let (truth, hashes) = truth::read(&path);
    let recovery = recover(ImageOptions::new(&path));
    let by_inode = judge::judge(&recovery, &truth, &hashes);
    let chains = Chains::of_image(&path, &truth, hashes, 0).judge(&recovery);
    let text = format!("{chains}; by inode {} wrong, {} wrong inferred of {}", by_inode.wrong, by_inode.wrong_inferred, by_inode.inferred);
    let [journal, chain, inferred] = chains.wrong;
    let right = by_inode.wrong + journal + chain == 0;
    let likely = by_inode.wrong_inferred * 100 <= by_inode.inferred && inferred * 100 <= chains.right[2];
    let nearly = by_inode.wrong * 100 <= by_inode.right && (journal + chain) * 100 <= chains.right[0] + chains.right[1];
    match right && likely && chains.left_out == 0 || !strict && nearly && chains.left_out * 8 <= chains.pointed {
        true => Ok(text),
        false => {
            let mut faults = by_inode.faults;
            faults.retain(|fault| fault.contains("wrong"));
            faults.extend(
                chains
                    .faults
                    .into_iter()
                    .filter(|fault| ["left out", "wrong", "invented"].iter().any(|word| fault.contains(word)))
                    .filter(|fault| !fault.contains(" 0 left out; wrong [0, 0, 0]")),
            );
            faults.truncate(10);
            Err(format!("{text}\n    {}", faults.join("\n    ")))
        }
    }
}

/// What of an earlier run of this very program has passed, and where to note more.
struct Notes {
    path: PathBuf,
    passed: BTreeSet<u64>,
}

impl Notes {
    fn read() -> Notes {
        let path = folder().join("histories.log");
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        let digest = Sha256::digest(program).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let notes = fs::read_to_string(&path).unwrap_or_default();
        match notes.strip_prefix(&format!("{digest}\n")) {
            Some(seeds) => Notes { passed: seeds.lines().filter_map(|line| line.parse().ok()).collect(), path },
            None => {
                fs::write(&path, format!("{digest}\n")).unwrap();
                Notes { path, passed: BTreeSet::new() }
            }
        }
    }

    fn add(&self, seed: u64) {
        writeln!(OpenOptions::new().append(true).open(&self.path).unwrap(), "{seed}").unwrap();
    }
}

fn remove(seed: u64) {
    for suffix in ["img", "truth.json", "hashes", "ops.txt", "lock"] {
        let _ = fs::remove_file(folder().join(Path::new(&format!("history-{seed}.{suffix}"))));
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn histories() {
    let many = number("UNDELFS_HISTORIES");
    let first = number("UNDELFS_HISTORIES_SEED").unwrap_or(FIRST);
    let notes = many.map(|_| Notes::read());
    let mut failed = vec![];
    for seed in first..first + many.unwrap_or(SHORT) {
        if notes.as_ref().is_some_and(|notes| notes.passed.contains(&seed)) {
            println!("history {seed}: passed before");
            continue;
        }
        match judge_history(seed, many.is_some()) {
            Ok(text) => {
                println!("history {seed}: {text}");
                if let Some(notes) = &notes {
                    remove(seed);
                    notes.add(seed);
                }
            }
            Err(text) => {
                println!("history {seed}: FAILED: {text}");
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "histories with these seeds fail: {failed:?}");
}
