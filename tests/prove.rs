//! Tables whose indirect blocks are gone, placed again by their rows: written by the kernel on ext3, in the format of MyISAM, each byte held
//! against what it was.

mod common;

use common::disk::{Disk, run};
use common::{Random, folder};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use undelfs::image::ImageOptions;
use undelfs::recover::{FileId, Recovery};

const BLOCK: usize = 4096;
/// Blocks of each table: a DIND and several INDs.
const BLOCKS: usize = 5000;
/// Bytes of a page of a tablespace.
const PAGE: usize = 16384;

/// Rows of a dynamic table: flags, a counting column, and text of any length.
fn rows(seed: u64) -> Vec<u8> {
    let (mut random, mut file) = (Random(seed), vec![]);
    for id in 1u32.. {
        let text: Vec<u8> = (0..20 + random.below(200)).map(|_| b'a' + random.below(26) as u8).collect();
        let data = [&[0xfe][..], &id.to_le_bytes(), &(text.len() as u16).to_le_bytes(), &text].concat();
        let slack = (4 + data.len()).next_multiple_of(4) - 4 - data.len();
        let head = match slack {
            1.. if (3 + data.len()).is_multiple_of(4) => vec![1, (data.len() >> 8) as u8, data.len() as u8],
            _ => vec![3, (data.len() >> 8) as u8, data.len() as u8, slack as u8],
        };
        let padding = if head.len() == 3 { 0 } else { slack };
        file.extend([&head[..], &data, &vec![0; padding]].concat());
        if file.len() >= BLOCKS * BLOCK {
            return file;
        }
    }
    file
}

/// Rows of a fixed table: flags, a counting column, a number and a name; every 97th is deleted.
fn fixed(seed: u64) -> Vec<u8> {
    let (mut random, mut file) = (Random(seed), vec![]);
    for id in 1u32.. {
        let name = format!("{:<32}", format!("name {}", random.below(1_000_000)));
        let live =
            [&[0xfd][..], &id.to_le_bytes(), name.as_bytes(), &random.below(1 << 40).to_le_bytes(), &random.next().to_le_bytes()].concat();
        file.extend(match id % 97 {
            5 => [&[0][..], &(id - 1).to_be_bytes(), &live[5..]].concat(),
            _ => live,
        });
        if file.len() >= BLOCKS * BLOCK {
            return file;
        }
    }
    file
}

/// Pages of a tablespace: of each its number, that of the tablespace, when it was changed, and a checksum. Some were never written.
fn pages(space: u32, seed: u64) -> Vec<u8> {
    let (mut random, mut file) = (Random(seed), vec![]);
    for number in 0..(BLOCKS * BLOCK / PAGE) as u32 {
        let mut page: Vec<u8> = (0..PAGE).map(|_| random.next() as u8).collect();
        page[4..8].copy_from_slice(&number.to_be_bytes());
        page[8..16].fill(0xff);
        page[16..24].copy_from_slice(&(1_000_000 + random.below(1 << 30)).to_be_bytes());
        page[24..26].copy_from_slice(&if number == 0 { 8u16 } else { 17855 }.to_be_bytes());
        page[34..38].copy_from_slice(&space.to_be_bytes());
        if number == 0 {
            page[38..42].copy_from_slice(&space.to_be_bytes());
            page[46..50].copy_from_slice(&((BLOCKS * BLOCK / PAGE) as u32).to_be_bytes());
            page[50..54].copy_from_slice(&0u32.to_be_bytes());
            page[54..58].copy_from_slice(&0x15u32.to_be_bytes());
        }
        let sum = crc32c::crc32c(&page[..PAGE - 4]);
        page[PAGE - 4..].copy_from_slice(&sum.to_be_bytes());
        file.extend(page);
    }
    file
}

/// A disk that lost tables; where each had its indirect blocks.
struct Lost {
    disk: Disk,
    tables: Vec<Vec<u8>>,
    indirect: Vec<Vec<u64>>,
    /// Where each has its blocks.
    blocks: Vec<Vec<u64>>,
    work: TempDir,
}

impl Lost {
    /// Tables that grew side by side with other files, some of which went again, so that all lie in pieces.
    fn new(tables: Vec<Vec<u8>>) -> Lost {
        // The allocator goes on where it was on the same processor: on one alone, the layout is the same each time.
        let mut one = CpuSet::new();
        one.set(0);
        let all = sched_getaffinity(None).expect("the processors");
        sched_setaffinity(None, &one).expect("a processor");
        let disk = Disk::new("-t ext3 -b 4096 -J size=4", "192M");
        let mut inodes = vec![];
        disk.mounted("ext3", "rw", |point| {
            let sync = || run("sync", &["-f", point.to_str().expect("a path")]);
            let many: Vec<_> = (0..6000).map(|n| point.join(format!("small{n}"))).collect();
            many.iter().for_each(|path| drop(File::create(path).expect("a file")));
            let mut random = Random(9);
            let mut files: Vec<File> = (0..tables.len()).map(|n| File::create(point.join(format!("t{n}.MYD"))).expect("a file")).collect();
            let longest = tables.iter().map(Vec::len).max().unwrap_or(0);
            for (nth, at) in (0..longest).step_by(100 * BLOCK).enumerate() {
                for (file, table) in files.iter_mut().zip(&tables) {
                    file.write_all(&table[at.min(table.len())..(at + 100 * BLOCK).min(table.len())]).expect("room");
                    sync();
                }
                let noise: Vec<u8> = (0..random.below(40) * 4096).map(|_| random.next() as u8).collect();
                fs::write(point.join(format!("noise{nth}")), noise).expect("room");
                if nth % 3 == 2 {
                    fs::remove_file(point.join(format!("noise{}", nth - 1))).expect("it was there");
                }
            }
            inodes = files.iter().map(|file| file.metadata().expect("an inode").ino()).collect();
            sync();
        });
        let maps: Vec<_> = inodes.iter().map(|ino| blocks_of(&disk.image(), *ino)).collect();
        let (indirect, blocks) = maps.into_iter().unzip();
        disk.mounted("ext3", "rw", |point| {
            (0..tables.len()).for_each(|n| fs::remove_file(point.join(format!("t{n}.MYD"))).expect("it was there"));
            // The journal wraps.
            for pass in 0..5u32 {
                run("sync", &["-f", point.to_str().expect("a path")]);
                let mode = |n: u32| fs::Permissions::from_mode(0o600 + (n + pass) % 8);
                (0..6000).for_each(|n| fs::set_permissions(point.join(format!("small{n}")), mode(n)).expect("a change"));
            }
        });
        sched_setaffinity(None, &all).expect("the processors");
        Lost { disk, tables, indirect, blocks, work: tempfile::tempdir_in(folder()).expect("a folder") }
    }

    /// Opens a copy of the image on which the chosen indirect blocks of the tables were used again.
    fn damaged(&self, content: bool, chosen: impl Fn(usize, usize) -> bool) -> Recovery {
        self.damaged_with(content, chosen, &[])
    }

    /// The same where these blocks of the first table are zero as well.
    fn damaged_with(&self, content: bool, chosen: impl Fn(usize, usize) -> bool, zero: &[usize]) -> Recovery {
        let image = self.work.path().join("copy.img");
        run("cp", &["--sparse=always", self.disk.image().to_str().expect("a path"), image.to_str().expect("a path")]);
        let copy = OpenOptions::new().write(true).open(&image).expect("a copy");
        let mut random = Random(3);
        for (table, blocks) in self.indirect.iter().enumerate() {
            for block in blocks.iter().enumerate().filter(|(nth, _)| chosen(table, *nth)).map(|(_, block)| block) {
                let noise: Vec<u8> = (0..BLOCK).map(|_| random.next() as u8).collect();
                copy.write_all_at(&noise, block * BLOCK as u64).expect("the copy is written");
            }
        }
        for block in zero.iter().map(|at| self.blocks[0][*at]) {
            copy.write_all_at(&[0; BLOCK], block * BLOCK as u64).expect("the copy is written");
        }
        let options = undelfs::recover::OpenOptions { content, ..undelfs::recover::OpenOptions::new(ImageOptions::new(image)) };
        Recovery::open(&options, &()).expect("the image opens")
    }
}

/// Blocks of the indirect blocks of an inode, and of its data, in the order of the file.
fn blocks_of(image: &Path, ino: u64) -> (Vec<u64>, Vec<u64>) {
    let output = Command::new("debugfs").args(["-R", &format!("stat <{ino}>")]).arg(image).output().expect("debugfs runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let list = text.split("BLOCKS:").nth(1).expect("a list").split("TOTAL").next().expect("its end");
    let (mut indirect, mut data) = (vec![], vec![]);
    for (what, place) in list.split(',').filter_map(|piece| piece.trim().split_once("):")) {
        let numbers: Vec<u64> = place.split('-').map(|number| number.trim().parse().expect("a number")).collect();
        match what.ends_with("IND") {
            true => indirect.push(numbers[0]),
            false => data.extend(numbers[0]..=numbers[numbers.len() - 1]),
        }
    }
    assert!(indirect.len() > 4 && data.len() >= BLOCKS, "{text}");
    (indirect, data)
}

/// How many blocks of a table a file shows rightly, and how many bytes wrongly.
fn judge(recovery: &Recovery, id: FileId, table: &[u8]) -> (usize, usize) {
    judge_behind(recovery, id, table, 0)
}

/// The same of a file that begins with this block of the table.
fn judge_behind(recovery: &Recovery, id: FileId, table: &[u8], first: usize) -> (usize, usize) {
    let (mut right, mut wrong) = (0, 0);
    for range in recovery.ranges(id).filter(|range| range.evidence.is_data()) {
        let mut bytes = vec![0; range.length as usize];
        recovery.read_at(id, range.offset, &mut bytes).expect("the image can be read");
        for (nth, block) in bytes.chunks(BLOCK).enumerate() {
            let at = range.offset as usize + (first + nth) * BLOCK;
            match table.get(at..(at + block.len()).min(table.len())) {
                Some(expected) if block.starts_with(expected) && block[expected.len()..].iter().all(|byte| *byte == 0) => right += 1,
                _ => wrong += block.len(),
            }
        }
    }
    (right, wrong)
}

/// Each table's best: blocks right, and whether the size is; all files must be free of wrong bytes.
fn judged(recovery: &Recovery, tables: &[Vec<u8>]) -> Vec<(usize, bool)> {
    let mut best = vec![(0, false); tables.len()];
    for id in recovery.ids().filter(|id| recovery.file(*id).size > 64 * BLOCK as u64) {
        let all: Vec<_> = tables.iter().map(|table| judge(recovery, id, table)).collect();
        let (which, (right, wrong)) = all.iter().enumerate().max_by_key(|(_, (right, _))| *right).expect("a table");
        assert_eq!(
            *wrong,
            0,
            "{:?} of table {which}, {right} blocks right: {:?}",
            recovery.file(id),
            recovery.ranges(id).take(4).collect::<Vec<_>>()
        );
        best[which] = best[which].max((*right, recovery.file(id).size == tables[which].len() as u64));
    }
    best
}

#[test]
fn gaps_are_filled_by_what_rows_prove() {
    let lost = Lost::new(vec![rows(1)]);
    let all = BLOCKS + 1;
    // An IND in the middle; the first.
    for chosen in [3, 0] {
        let with = judged(&lost.damaged(true, |_, nth| nth == chosen), &lost.tables);
        // How much of a gap stands where only its rows could tell depends on the layout, which is another each time.
        assert!(with[0].0 + 1024 >= all, "{chosen}: {with:?}");
    }
}

#[test]
fn a_table_without_any_pointer() {
    let lost = Lost::new(vec![rows(2)]);
    let [(right, _)] = judged(&lost.damaged(true, |_, _| true), &lost.tables)[..] else { panic!("a table") };
    assert!(right + 1 >= BLOCKS, "{right} blocks");
    assert_eq!(judged(&lost.damaged(false, |_, _| true), &lost.tables), [(0, false)]);
}

/// Of a table whose rows have one length the DIND is gone, and an IND in the middle with some of its blocks, so that nothing but the rows tells how
/// far apart the rest is.
#[test]
fn parts_of_a_fixed_table_are_joined() {
    let lost = Lost::new(vec![fixed(11), rows(12)]);
    let chosen = |table, nth| table == 1 || nth == 1 || nth == 3;
    let zero: Vec<usize> = (2500..2600).chain(2060..2063).collect();
    let [(right, _), _] = judged(&lost.damaged_with(true, chosen, &zero), &lost.tables)[..] else { panic!("two tables") };
    assert!(right + zero.len() >= BLOCKS, "{right} blocks");
}

/// Two tables whose rows have one length and count alike, of which the same is gone: what could be either's is left out.
#[test]
fn fixed_tables_alike_are_not_mixed() {
    let lost = Lost::new(vec![fixed(13), fixed(14)]);
    for shift in 0..2 {
        let chosen = |table, nth| nth == 1 || nth == 3 + (table + shift) % 2;
        let from = 2060 + 1024 * shift;
        let recovery = lost.damaged_with(true, chosen, &(from..from + 40).collect::<Vec<_>>());
        for id in recovery.ids().filter(|id| recovery.file(*id).size > 64 * BLOCK as u64) {
            // A part that nothing joins to the rest stands for itself.
            let places = lost.tables.iter().flat_map(|table| (0..5).map(move |ind| (table, 1024 * ind)));
            let least = places.map(|(table, first)| judge_behind(&recovery, id, table, first).1).min();
            assert_eq!(least, Some(0), "{:?}", recovery.file(id));
        }
    }
}

/// The same of two tablespaces, beside a table: their pages are numbered.
#[test]
fn pages_say_where_they_stand() {
    let lost = Lost::new(vec![pages(7, 21), pages(8, 22), rows(23)]);
    let chosen = |table, nth| table == 2 || nth == 1 || nth == 3;
    let zero: Vec<usize> = (2500..2600).chain(2060..2064).collect();
    let best = judged(&lost.damaged_with(true, chosen, &zero), &lost.tables);
    assert!(best[..2].iter().all(|(right, _)| right + zero.len() >= BLOCKS), "{best:?}");
}

/// Two tables with the same columns and the same values in the counting one, and one that is a copy of another.
#[test]
fn tables_alike_are_not_mixed() {
    let (one, copy) = (rows(4), rows(4));
    let lost = Lost::new(vec![one, rows(5), copy]);
    for shift in 0..3 {
        let best = judged(&lost.damaged(true, |table, nth| nth == 2 + (table + shift) % 3), &lost.tables);
        println!("{best:?}");
        // The first and the last are the same.
        // A piece that nothing joins to the rest stands for itself: how many there are depends on the layout, which is another each time.
        assert!(best[1..].iter().any(|(right, _)| right + 1100 >= BLOCKS), "{best:?}");
    }
}
