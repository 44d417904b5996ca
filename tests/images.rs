//! Kernel-made images with known truth: every block that still stands is right, no block is wrong, sizes and paths are exact.

mod common;

use common::chains::Chains;
use common::disk::Disk;
use common::oracle::Oracle;
use common::truth::{Life, Truth};
use common::{image, judge, recover, truth};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use undelfs::format::dir_block::DirBlock;
use undelfs::image::ImageOptions;
use undelfs::recover::{LostFile, Recovery, State};
use undelfs::run::Evidence;
use undelfs::units::{Block, FileBlock, Ino, Time};

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

/// Revision 0 has no journal, and the kernel wipes names and pointers: no lost inode can be told, and none is made up; what is
/// found are chains without one. What is in use is read right, and the backups of the superblock, one in every group, are no file's blocks.
#[test]
fn rev0() {
    let path = image("rev0", &[]);
    let (truth, _) = truth::read(&path);
    let recovery = recover(ImageOptions::new(&path));
    let (fs, geometry) = (recovery.filesystem(), recovery.filesystem().geometry());
    // Whose a chain is, what the kernel left of an inode may tell.
    let is_lost =
        |ino: Ino, file: &LostFile| truth.lost.iter().any(|life| life.inode == ino.0 && life.generation == file.generation.map(|g| g.0));
    let made_up = recovery.files().iter().find(|file| file.ino.is_some_and(|ino| !is_lost(ino, file)) || !file.paths.is_empty());
    assert!(made_up.is_none() && fs.damage().is_empty(), "{made_up:?}, {:?}", fs.damage());
    let info = recovery.info();
    assert_eq!((info.kind, info.features.len(), info.inode_size, info.journal.is_none()), ("ext2", 0, 128, true));
    for group in 0..geometry.superblock.groups() {
        let start = Block::new(geometry.superblock.group_start(group)).expect("group 0 begins at block 1");
        assert!(geometry.is_metadata(start) && fs.is_allocated(start), "the superblock of group {group}");
    }
    for file in &truth.live {
        let inode = fs.read_inode(Ino(file.inode)).expect("it is there");
        assert_eq!((inode.generation.0, inode.size, inode.is_live()), (file.generation, file.size, true), "{}", file.path);
        let Some(wanted) = &file.sha256 else { continue };
        let mut bytes = vec![];
        for at in 0..inode.size.div_ceil(fs.block_size()) {
            let block = fs.current_block(&inode.pointers(), FileBlock(at)).expect("it has no holes");
            assert!(fs.is_allocated(block) && !geometry.is_metadata(block), "{}: {block:?}", file.path);
            bytes.extend(fs.read_block(block).expect("it can be read"));
        }
        bytes.truncate(inode.size as usize);
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hash, wanted, "{}", file.path);
    }
    for life in &truth.lost {
        let inode = fs.read_inode(Ino(life.inode)).expect("the table is there");
        assert_eq!((Some(inode.generation.0), inode.is_live(), inode.size), (life.generation, false, 0), "{}", life.path);
        for (first, physical, count) in life.runs.iter().flatten() {
            let blocks = (0..*count).filter_map(|n| Block::new(physical + n));
            blocks.for_each(|block| {
                assert!(!fs.is_allocated(block) && !geometry.is_metadata(block), "{} from {first}: {block:?}", life.path)
            });
        }
    }
}

/// Inodes of 512 bytes and more: what lies behind the fields that are known, attributes among it, is in nobody's way.
#[test]
fn large_inodes() {
    for (inode_size, block_size) in [(512, 4096), (1024, 4096), (1024, 1024), (2048, 2048)] {
        let disk = Disk::new(&format!("-t ext3 -b {block_size} -I {inode_size} -J size=4"), "48M");
        let content = |number: usize| -> Vec<u8> { (0..number * 7001).map(|at| (at * 31 + at / 251 + number) as u8).collect() };
        let (mut seen, mut inodes) = (vec![], HashSet::new());
        disk.mounted("ext3", "user_xattr", |at| {
            fs::create_dir(at.join("d")).unwrap();
            for number in 0..40 {
                let path = at.join(format!("d/{number}"));
                fs::write(&path, content(number)).unwrap();
                // Fills what lies behind i_extra_isize.
                xattr::set(&path, "user.fill", &vec![0xA5; inode_size / 3]).unwrap();
            }
            std::os::unix::fs::symlink("x".repeat(59), at.join("d/link")).unwrap();
            rustix::fs::sync();
            for number in (0..40).step_by(3) {
                let path = at.join(format!("d/{number}"));
                let meta = fs::metadata(&path).unwrap();
                assert!(inodes.insert(meta.ino()));
                seen.push((number, meta.ino(), Time { seconds: meta.mtime(), nanos: meta.mtime_nsec() as u32 }));
                fs::remove_file(&path).unwrap();
            }
            fs::remove_file(at.join("d/link")).unwrap();
        });
        let recovery = recover(ImageOptions::new(disk.image()));
        let case = format!("inodes of {inode_size}, blocks of {block_size}");
        assert_eq!(recovery.filesystem().geometry().superblock.inode_size, inode_size as u64, "{case}");
        assert_eq!(recovery.files().len(), seen.len() + 1, "{case}");
        for id in recovery.ids() {
            let file = recovery.file(id);
            let name = String::from_utf8(file.paths[0].strip_prefix(b"/d/").expect("its folder").to_vec()).unwrap();
            assert_eq!((file.paths.len(), file.state()), (1, State::Complete), "{case}: {name}");
            if name == "link" {
                assert_eq!(recovery.link_target(id).unwrap(), [b'x'; 59], "{case}");
                continue;
            }
            let (number, ino, mtime) = *seen.iter().find(|(number, ..)| *number.to_string() == name).expect("a name that was lost");
            let mut bytes = vec![0; file.size as usize + 1];
            let length = recovery.read_at(id, 0, &mut bytes).unwrap();
            assert!(bytes[..length] == content(number), "{case}: {name}: content");
            assert_eq!((file.ino.map(|ino| u64::from(ino.0)), file.mtime), (Some(ino), mtime), "{case}: {name}");
        }
    }
}

/// Months of churn, then a loss: of what was lost last everything is there; of what was lost before, nothing that is shown is wrong.
#[test]
fn churn() {
    let verdict = check("churn", &[]);
    // What a file in use kept when it was cut can be written in place since.
    let is_strange = |fault: &&String| fault.contains("wrong") && !fault.contains("the file kept the block when it was cut");
    let wrong: Vec<_> = verdict.faults.iter().filter(is_strange).collect();
    assert!(verdict.wrong == 0 && wrong.is_empty(), "{wrong:#?}");
    let path = image("churn", &[]);
    let (mut truth, hashes) = truth::read(&path);
    let recovery = recover(ImageOptions::new(&path));
    nothing_is_left_out(&recovery, &truth, &hashes);
    let chains = Chains::of_image(&path, &truth, hashes.clone(), 0).judge(&recovery);
    let is_strange = |fault: &&String| fault.starts_with("invented") || fault.contains("wrong") && !fault.contains("wrong [0, 0, 0]");
    let strange: Vec<_> = chains.faults.iter().filter(is_strange).collect();
    let [journal, chain, inferred] = chains.wrong;
    assert_eq!((journal, chain, chains.invented, chains.left_out), (0, 0, 0, 0), "{chains} {strange:#?}");
    // Orphans only: of files that came and went within the part of the log that is gone, no trace is left but their data.
    assert!(inferred * 10 <= chains.right[2], "{chains} {strange:#?}");
    // What has no inode is matched by its blocks instead.
    let oracle = Oracle::new(&recovery);
    let nobody_knows = |fault: &str| {
        let of = |life: &&Life| fault.starts_with(&format!("inode {} generation {:?} {} ", life.inode, life.generation, life.path));
        let mut lives = truth.lost.iter().filter(of);
        fault.contains("): path [") && !lives.clone().any(|life| oracle.knows_name(life))
            || fault.contains("): size ") && !lives.clone().any(|life| oracle.knows_size(life))
            || fault.contains("): mode ") && !lives.any(|life| oracle.knows_owner(life))
    };
    let told = |fault: &&String| {
        !fault.starts_with("absent: ")
            && !fault.contains("blocks that stand are missing")
            && !fault.contains("inferred blocks are wrong")
            && !fault.starts_with("invented: inode None")
            && !nobody_knows(fault)
    };
    assert_eq!(verdict.faults.iter().find(told), None, "sizes, paths and all else are exact");
    // Of many that were lost in one transaction, a later one may have taken the only copy of an inode's pointers out of the log.
    truth.lost.drain(..truth.lost.len() - LAST_LOSS);
    truth.lost.retain(|life| oracle.knows_size(life));
    assert!(truth.lost.len() * 10 >= LAST_LOSS * 9, "{} of the last are known", truth.lost.len());
    let mut verdict = judge::judge(&recover(ImageOptions::new(path)), &truth, &hashes);
    verdict.faults.retain(|fault| !fault.starts_with("invented"));
    assert!(verdict.faults.is_empty() && verdict.standing == verdict.right, "{verdict:#?}");
}

/// What stands, and is still named by an inode that had it or by an indirect block that one leads to, is shown, unless it is in use.
fn nothing_is_left_out(recovery: &Recovery, truth: &Truth, hashes: &[[u8; 8]]) {
    let shown: HashSet<u64> = recovery
        .ids()
        .flat_map(|id| recovery.runs(id).filter(|run| run.evidence.is_data()).collect::<Vec<_>>())
        .flat_map(|run| run.block.map(|block| (0..run.length).map(move |n| block.get() + n)).into_iter().flatten())
        .collect();
    let (oracle, size) = (Oracle::new(recovery), recovery.block_size());
    let (mut named, mut sizes, mut left_out) = (0, 0, vec![]);
    for life in truth.lost.iter().filter(|life| life.is("file")) {
        sizes += u32::from(oracle.knows_size(life));
        for (at, block, hash) in life.blocks(hashes) {
            let mut bytes = vec![0; life.size.saturating_sub(at * size).min(size) as usize];
            recovery.image().read_exact_at(&mut bytes, block * size).unwrap();
            if Sha256::digest(&bytes)[..8] != hash || !oracle.names(life, at, block) {
                continue;
            }
            named += 1;
            if !shown.contains(&block) && !recovery.filesystem().is_allocated(Block::new(block).unwrap()) {
                left_out.push((life.inode, life.path.clone(), at, block));
            }
        }
    }
    println!("    {named} blocks that stand are still named, {} of them left out; {sizes} sizes stand", left_out.len());
    assert!(left_out.is_empty(), "{left_out:?}");
}

/// Files that `churn` loses in its last session.
const LAST_LOSS: usize = 50;

/// Random histories: creates, appends, truncates, renames, links, deletes, remounts and crashes. What pointers tell is right, and of what is inferred
/// nearly all. The histories differ from machine to machine, since they depend on when the kernel commits.
#[test]
fn histories() {
    let (mut right, mut wrong, mut inferred, mut wrong_inferred) = (0, 0, 0, 0);
    for seed in ["1", "2", "3", "4"] {
        let verdict = check("history", &["--seed", seed]);
        verdict.faults.iter().filter(|fault| fault.contains("wrong")).for_each(|fault| println!("    {fault}"));
        (right, wrong) = (right + verdict.right, wrong + verdict.wrong);
        (inferred, wrong_inferred) = (inferred + verdict.inferred, wrong_inferred + verdict.wrong_inferred);
    }
    assert!(wrong == 0 && wrong_inferred * 50 <= inferred, "{wrong} wrong of {right}, {wrong_inferred} of {inferred} inferred");
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
        assert!(takers.iter().all(|taker| !taker.blocks.is_empty()), "{takers:?}");
        let live: u64 = takers.iter().filter(|taker| !taker.lost).map(|taker| taker.blocks.len()).sum();
        assert_eq!(live, in_use, "inode {:?}: {in_use} blocks in use now, takers {takers:?}", recovery.file(id).ino);
        all += in_use;
        named += takers.iter().filter(|taker| taker.path.is_some()).count();
    }
    assert!(named > 0 && all > 1000, "{named} takers named, {all} blocks");
}

/// Flips a bit of the image.
fn spoil(image: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(image).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

/// Checksums of version 1: replay ends before a transaction whose copies are not those that were committed.
#[test]
fn replay_ends_at_a_wrong_checksum() {
    let disk = Disk::new("-t ext3 -b 4096 -J size=4", "48M");
    let copy = disk.image().with_file_name("copy.img");
    disk.mounted("ext4", "journal_checksum,nodelalloc", |at| {
        // Only the journal is written, so that what stands at home is from before.
        let commit = || fs::File::open(at).unwrap().sync_all().unwrap();
        for name in ["a", "b", "c", "d"] {
            fs::write(at.join(name), name.repeat(5000)).unwrap();
        }
        rustix::fs::sync();
        for name in ["a", "b", "c"] {
            fs::remove_file(at.join(name)).unwrap();
            commit();
        }
        fs::copy(disk.image(), &copy).unwrap();
    });
    let lost = || -> (BTreeSet<Vec<u8>>, String) {
        let recovery = recover(ImageOptions::new(&copy));
        assert!(recovery.filesystem().journal().is_dirty());
        assert!(recovery.files().iter().all(|file| file.state() == State::Complete), "{:?}", recovery.files());
        (recovery.files().iter().map(|file| file.paths[0].clone()).collect(), recovery.info().damage.join("; "))
    };
    let paths = |names: &str| names.split_whitespace().map(|name| name.as_bytes().to_vec()).collect::<BTreeSet<_>>();
    assert_eq!(lost(), (paths("/a /b /c"), String::new()));
    let recovery = recover(ImageOptions::new(&copy));
    let journal = recovery.filesystem().journal();
    let removal_of_b = &journal.transactions()[journal.transactions().len() - 2];
    let (_, spoilt) = removal_of_b.copies[removal_of_b.copies.len() / 2];
    let rejected: HashSet<u32> = removal_of_b.copies.iter().map(|(_, copy)| copy.index).collect();
    spoil(&copy, journal.image_offset(spoilt.index).unwrap() + 4095);
    assert!(!recover(ImageOptions::new(&copy)).filesystem().journal().loose().iter().any(|copy| rejected.contains(&copy.index)));
    let (paths_left, damage) = lost();
    assert_eq!(paths_left, paths("/a"));
    assert!(damage.contains(&format!("transaction {} does not match", removal_of_b.sequence.0)), "{damage}");
    // e2fsprogs, which replays like the kernel, stops there too.
    let said = Command::new("e2fsck").arg("-fy").arg(&copy).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains(&format!("transaction {} was corrupt, replay was aborted", removal_of_b.sequence.0)), "{said}");
    assert!(said.contains(": 14/"), "11 reserved inodes and b, c, d: {said}");

    // In a clean journal, which is history only, it is left out.
    let recovery = recover(ImageOptions::new(disk.image()));
    let journal = recovery.filesystem().journal();
    let removal_of_b = journal.transactions().iter().find(|t| t.sequence == removal_of_b.sequence).unwrap();
    let (_, spoilt) = removal_of_b.copies[0];
    spoil(&disk.image(), journal.image_offset(spoilt.index).unwrap() + 4095);
    let recovery = recover(ImageOptions::new(disk.image()));
    let journal = recovery.filesystem().journal();
    let without: Vec<_> = journal.transactions().iter().filter(|t| t.copies.is_empty()).map(|t| t.sequence).collect();
    assert_eq!(without, [removal_of_b.sequence]);
    assert!(!journal.is_dirty() && recovery.info().damage[0].contains("its copies are not used"), "{:?}", recovery.info().damage);
}

/// The first entry of a folder's block: where it stands, and its name.
fn first_entry(image: &Path, folder: &str, at: u64) -> (u64, Vec<u8>) {
    let recovery = recover(ImageOptions::new(image));
    let fs = recovery.filesystem();
    let root = fs.read_block(fs.current_block(&fs.read_inode(Ino::ROOT).unwrap().pointers(), FileBlock(0)).unwrap()).unwrap();
    let root = DirBlock::parse(&root, u32::MAX).unwrap();
    let ino = root.live().find(|entry| entry.name == folder.as_bytes()).unwrap().ino;
    let block = fs.current_block(&fs.read_inode(ino).unwrap().pointers(), FileBlock(at)).unwrap();
    let bytes = fs.read_block(block).unwrap();
    let first = DirBlock::parse(&bytes, u32::MAX).unwrap().entries[0];
    assert_eq!(first.offset, 0);
    (block.get() * fs.block_size(), first.name.to_vec())
}

/// What the old driver leaves of the first entry of a folder's block: all but its inode number. The kernel of today wipes it, so
/// the test puts it back. The name is used where the journal or the folder's last change tells whose it was.
#[test]
fn names_without_inode_number() {
    let paths = |image: &Path| -> Vec<Vec<u8>> {
        recover(ImageOptions::new(image)).files().iter().filter(|file| file.ino.is_some()).map(|file| file.paths.concat()).collect()
    };
    for (removed, renamed_to) in [(1, None), (2, None), (1, Some("d")), (1, Some("."))] {
        let disk = Disk::new("-t ext3 -b 4096 -O ^dir_index -J size=4", "48M");
        disk.mounted("ext3", "noatime", |at| {
            fs::create_dir(at.join("d")).unwrap();
            (0..600).for_each(|number| fs::write(at.join(format!("d/a file with number {number}")), [b'x'; 10]).unwrap());
        });
        let lost: Vec<_> = (1..=removed).map(|at| first_entry(&disk.image(), "d", at)).collect();
        let path = |name: &[u8]| [b"/d/", name].concat();
        // The folder must not have been changed by anything else in the second of the loss.
        std::thread::sleep(Duration::from_millis(2100));
        disk.mounted("ext3", "noatime", |at| {
            lost.iter().for_each(|(_, name)| fs::remove_file(at.join("d").join(OsStr::from_bytes(name))).unwrap());
            // The name is too long for the place that became free.
            if let Some(folder) = renamed_to {
                fs::rename(at.join("d/a file with number 7"), at.join(folder).join("x".repeat(200))).unwrap();
            }
        });
        let image = fs::OpenOptions::new().read(true).write(true).open(disk.image()).unwrap();
        for (offset, name) in &lost {
            let mut entry = [0; 7];
            image.read_exact_at(&mut entry, *offset).unwrap();
            assert!(entry[..4] == [0; 4] && entry[6] == 0, "the entry is wiped: {entry:?}");
            image.write_all_at(&[name.len() as u8, 1], offset + 6).unwrap();
            image.write_all_at(name, offset + 8).unwrap();
        }
        let (mut found, mut wanted): (Vec<_>, Vec<_>) = (paths(&disk.image()), lost.iter().map(|(_, name)| path(name)).collect());
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "by the journal");
        let recovery = recover(ImageOptions::new(disk.image()));
        let log = (1..).map_while(|index| recovery.filesystem().journal().image_offset(index));
        log.for_each(|offset| image.write_all_at(&[0; 4096], offset).unwrap());
        let wanted = if removed == 1 && renamed_to.is_none() { wanted } else { vec![] };
        assert_eq!(paths(&disk.image()), wanted, "without the journal: {removed} removed, {renamed_to:?}");
    }
}

/// A file has the names that it had in the end, and no other: not one from before a rename, nor one of a later life of its inode.
#[test]
fn only_the_last_names() {
    let disk = Disk::new("-t ext3 -b 4096 -J size=4", "48M");
    disk.mounted("ext3", "noatime", |at| {
        let commit = || fs::File::open(at).unwrap().sync_all().unwrap();
        let path = |name: &str| at.join(name);
        fs::create_dir(path("d")).unwrap();
        fs::write(path("d/stays"), "so that the folder is there").unwrap();
        fs::write(path("d/before"), "first").unwrap();
        commit();
        fs::rename(path("d/before"), path("d/after")).unwrap();
        commit();
        fs::hard_link(path("d/after"), path("d/link")).unwrap();
        commit();
        let inode = fs::metadata(path("d/after")).unwrap().ino();
        fs::remove_file(path("d/after")).unwrap();
        fs::remove_file(path("d/link")).unwrap();
        commit();
        fs::write(path("d/second"), "second life").unwrap();
        assert_eq!(fs::metadata(path("d/second")).unwrap().ino(), inode, "the inode is used again");
        commit();
        fs::remove_file(path("d/second")).unwrap();
        commit();
    });
    let recovery = recover(ImageOptions::new(disk.image()));
    let mut paths: Vec<_> = recovery.files().iter().map(|file| (file.version, file.paths.clone())).collect();
    paths.sort();
    assert_eq!(paths, [(0, vec![b"/d/second".to_vec()]), (1, vec![b"/d/after".to_vec(), b"/d/link".to_vec()])]);
}
