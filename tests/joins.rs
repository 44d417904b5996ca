//! Files whose inode is gone, with indirect blocks that lie in the way of joining what is left: written by the kernel on ext3, each block held
//! against what it was.

mod common;

use common::disk::{Disk, run};
use common::{Random, folder};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use undelfs::image::ImageOptions;
use undelfs::recover::{FileId, OpenOptions as Recover, Recovery};
use undelfs::run::Evidence;

const BLOCK: u64 = 4096;

/// First file block, first block, count.
type RunOf = (u64, u64, u64);

/// A disk on which `work` wrote a file named `lost`, which is gone now, and the journal has wrapped since. With the file's runs
/// and its indirect blocks (file block, block) in its order.
struct Lost {
    disk: Disk,
    runs: Vec<RunOf>,
    indirect: Vec<(u64, u64)>,
}

impl Lost {
    fn new(work: impl FnOnce(&Path)) -> Lost {
        let disk = Disk::new("-t ext3 -b 4096 -J size=4", "256M");
        let mut ino = 0;
        disk.mounted("ext3", "rw", |point| {
            (0..6000).for_each(|n| drop(File::create(point.join(format!("small{n}"))).expect("a file")));
            work(point);
            ino = fs::metadata(point.join("lost")).expect("an inode").ino();
        });
        let (runs, indirect) = blocks_of(&disk.image(), ino);
        disk.mounted("ext3", "rw", |point| {
            fs::remove_file(point.join("lost")).expect("it was there");
            for pass in 0..5u32 {
                run("sync", &["-f", point.to_str().expect("a path")]);
                let mode = |n: u32| fs::Permissions::from_mode(0o600 + (n + pass) % 8);
                (0..6000).for_each(|n| fs::set_permissions(point.join(format!("small{n}")), mode(n)).expect("a change"));
            }
        });
        Lost { disk, runs, indirect }
    }

    /// Opens a copy of the image on which these blocks hold something else.
    fn without(&self, blocks: &[u64]) -> Recovery {
        let work = tempfile::tempdir_in(folder()).expect("a folder");
        let image = work.path().join("copy.img");
        run("cp", &["--sparse=always", self.disk.image().to_str().expect("a path"), image.to_str().expect("a path")]);
        let copy = OpenOptions::new().write(true).open(&image).expect("a copy");
        let mut random = Random(3);
        for block in blocks {
            let noise: Vec<u8> = (0..BLOCK).map(|_| random.next() as u8).collect();
            copy.write_all_at(&noise, block * BLOCK).expect("the copy is written");
        }
        Recovery::open(&Recover { still: true, ..Recover::new(ImageOptions::new(image)) }, &()).expect("the image opens")
    }

    /// The indirect block that maps the file blocks from this one on; of several the topmost.
    fn indirect(&self, first: u64) -> u64 {
        self.indirect.iter().find(|(at, _)| *at == first).expect("an indirect block").1
    }

    fn block(&self, at: u64) -> Option<u64> {
        self.runs.iter().find(|(first, _, count)| (*first..first + count).contains(&at)).map(|(first, block, _)| block + at - first)
    }

    fn blocks(&self) -> u64 {
        self.runs.iter().map(|(.., count)| count).sum()
    }

    /// How many blocks a recovered file has where the lost one had them, how many elsewhere.
    fn judge(&self, recovery: &Recovery, id: FileId) -> (u64, u64) {
        let (mut right, mut wrong) = (0, 0);
        for run in recovery.runs(id).filter(|run| run.evidence.is_data()) {
            for n in 0..run.length {
                match run.block.map(|block| block.get() + n) == self.block(run.file_block.0 + n) {
                    true => right += 1,
                    false => wrong += 1,
                }
            }
        }
        (right, wrong)
    }
}

/// Runs and indirect blocks of an inode as debugfs tells them: `(0-11):5000-5011, (IND):5012, (12-40):5013-5041`.
fn blocks_of(image: &Path, ino: u64) -> (Vec<RunOf>, Vec<(u64, u64)>) {
    let output = Command::new("debugfs").args(["-R", &format!("stat <{ino}>")]).arg(image).output().expect("debugfs runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let list = text.split("BLOCKS:").nth(1).expect("a list of blocks").split("TOTAL:").next().unwrap_or_default();
    let (mut runs, mut indirect, mut above): (Vec<RunOf>, Vec<_>, Vec<u64>) = Default::default();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (what, place) = item.trim_start_matches('(').split_once("):").expect("a place and blocks");
        let number = |text: &str| text.trim().parse::<u64>().expect("a number");
        let first = number(place.split('-').next().unwrap_or_default());
        if what.ends_with("IND") {
            above.push(first);
            continue;
        }
        let (from, to) = what.split_once('-').unwrap_or((what, what));
        let (from, to) = (number(from), number(to));
        indirect.extend(above.drain(..).map(|block| (from, block)));
        runs.push((from, first, to - from + 1));
    }
    (runs, indirect)
}

fn append(path: &Path, blocks: u64, random: &mut Random) {
    let bytes: Vec<u8> = (0..blocks * BLOCK / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| file.write_all(&bytes)).expect("room");
    run("sync", &["-f", path.to_str().expect("a path")]);
}

/// The orphan with most data.
fn largest(recovery: &Recovery) -> FileId {
    recovery.ids().filter(|id| recovery.file(*id).orphan.is_some()).max_by_key(|id| recovery.file(*id).size).expect("an orphan")
}

/// The IND and the DIND of a file that grew on with its DIND, somewhere else; and the same with the first IND of the DIND lost.
#[test]
fn ind_and_dind_are_joined_over_a_break() {
    let mut random = Random(21);
    let lost = Lost::new(|point| {
        append(&point.join("lost"), 1036, &mut random);
        append(&point.join("other"), 700, &mut random);
        append(&point.join("lost"), 7000, &mut random);
    });
    let (before, after) = (lost.block(1035).expect("a block"), lost.block(1036).expect("a block"));
    assert_ne!(before + 1, after, "the file has no break there: {:?}", lost.runs);
    let recovery = lost.without(&[]);
    assert_eq!(lost.judge(&recovery, largest(&recovery)), (lost.blocks(), 0), "{:?}", lost.runs);
    let first = lost.indirect.iter().rfind(|(at, _)| *at == 1036).expect("an IND").1;
    let recovery = lost.without(&[first]);
    let (right, wrong) = lost.judge(&recovery, largest(&recovery));
    assert!(wrong == 0 && right + 1024 >= lost.blocks(), "{right} right, {wrong} wrong: {:?}", lost.runs);
}

/// Without its DIND, nothing tells where in the file a row of INDs stood.
#[test]
fn what_is_adrift_is_not_called_certain() {
    let mut random = Random(22);
    let lost = Lost::new(|point| append(&point.join("lost"), 6000, &mut random));
    let recovery = lost.without(&[lost.indirect(1036), lost.indirect(2060)]);
    let orphans: Vec<FileId> = recovery.ids().filter(|id| recovery.file(*id).orphan.is_some()).collect();
    assert!(!orphans.is_empty());
    for id in orphans {
        for run in recovery.runs(id).filter(|run| run.evidence.is_data()) {
            assert!(run.evidence == Evidence::Inferred && !run.reason.is_empty(), "{run:?}");
        }
    }
}

/// A file that grew in one go, its first IND lost: chunks that double tell by their length where they stood.
#[test]
fn the_beginning_is_placed_by_the_length_of_its_chunks() {
    let mut random = Random(23);
    let lost = Lost::new(|point| {
        (0..40).for_each(|n| append(&point.join(format!("other{n}")), 5 + n % 7, &mut random));
        append(&point.join("lost"), 4000, &mut random);
    });
    let recovery = lost.without(&[lost.indirect(12)]);
    let (right, wrong) = lost.judge(&recovery, largest(&recovery));
    assert!(wrong == 0 && right + 64 >= lost.blocks(), "{right} right, {wrong} wrong: {:?}", lost.runs);
}
