//! Large MyISAM tables of a real MariaDB, grown side by side on the kernel's ext3, lost whole and in part (`scripts/make-image myisam-*`), the journal
//! wrapped since: back in a database through the mount and `scripts/repair-myisam`, each row held against what it was.
//!
//! One image by default; `scripts/tables` does all, by `UNDELFS_TABLES=all`.

mod common;

use common::disk::run;
use common::mariadb::{Server, text};
use common::{image, recover, root, truth, undelfs};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use undelfs::image::ImageOptions;
use undelfs::tree::Tree;

const BLOCK: u64 = 4096;
/// The folder of the tables, on the image and under `by-path/`.
const FOLDER: &str = "mysql/mail";

/// What `NAME.tables.json` says of a table.
#[derive(Deserialize)]
struct Facts {
    format: String,
    rows: usize,
    checksum: String,
    /// SQL for a number that tells what is in a row.
    sum: String,
    /// Which of its files were lost.
    lost: Vec<String>,
    /// Blocks of the `.MYD` that hold something else now: first, count.
    #[serde(default)]
    gone: Vec<(u64, u64)>,
    rows_standing: Option<usize>,
}

impl Facts {
    fn is_lost(&self, ext: &str) -> bool {
        self.lost.iter().any(|lost| lost == ext)
    }
}

/// An image whose tables are lost, and what is known of them.
struct Case {
    image: PathBuf,
    tables: BTreeMap<String, Facts>,
}

impl Case {
    fn new(name: &str) -> Case {
        let image = image(name, &[]);
        let tables = serde_json::from_slice(&fs::read(image.with_extension("tables.json")).expect("facts")).expect("JSON");
        Case { image, tables }
    }

    /// Three numbers each, of a file beside the image.
    fn numbers(&self, table: &str, what: &str) -> Vec<[u32; 3]> {
        let bytes = fs::read(self.image.with_extension(format!("{table}.{what}"))).expect("the truth");
        let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        bytes.as_chunks::<4>().0.as_chunks::<3>().0.iter().map(|three| three.each_ref().map(number)).collect()
    }

    /// What each row was, by its id.
    fn sums(&self, table: &str) -> BTreeMap<u32, u64> {
        let sums = self.numbers(table, "sums");
        sums.into_iter().map(|[id, low, high]| (id, u64::from(high) << 32 | u64::from(low))).collect()
    }

    /// Ids of the rows of which some byte is gone.
    fn damaged(&self, table: &str) -> BTreeSet<u32> {
        let gone: BTreeSet<u64> = self.tables[table].gone.iter().flat_map(|(first, count)| *first..first + count).collect();
        let is_gone = |start: u64, length: u64| gone.range(start / BLOCK..=(start + length - 1) / BLOCK).next().is_some();
        let rows = self.numbers(table, "rows").into_iter();
        rows.filter(|[_, start, length]| is_gone((*start).into(), (*length).into())).map(|[id, ..]| id).collect()
    }
}

/// An image mounted as by a user, after its scan.
struct Mounted<'a> {
    case: &'a Case,
    point: TempDir,
}

impl<'a> Mounted<'a> {
    fn new(case: &'a Case, options: &[&str]) -> Self {
        let point = tempfile::tempdir().expect("a mount point");
        let output =
            undelfs().arg("mount").args([&case.image, point.path()]).args(["--scan", "wait"]).args(options).output().expect("undelfs runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        Mounted { case, point }
    }

    /// Where each lost file of a table is: under its name, or the chain that has most of its blocks in their places. With how many of its bytes are said
    /// to be there.
    fn files(&self) -> BTreeMap<String, (PathBuf, u64)> {
        let mut wanted: BTreeMap<String, BTreeMap<u64, u64>> = BTreeMap::new();
        for life in truth::lost(&self.case.image).into_iter().filter(|life| life.is("file")) {
            let of_run = |(at, physical, count): &(u64, u64, u64)| (*at..at + count).zip(*physical..physical + count);
            wanted.insert(life.path.rsplit_once('/').expect("a path").1.to_owned(), life.runs.iter().flatten().flat_map(of_run).collect());
        }
        let recovery = Arc::new(recover(ImageOptions::new(&self.case.image)));
        let tree = Tree::build(Arc::clone(&recovery));
        let mut best: BTreeMap<String, (usize, PathBuf, u64)> = BTreeMap::new();
        for id in recovery.ids() {
            let data = recovery.runs(id).filter(|run| run.evidence.is_data()).filter_map(|run| Some((run.block?.get(), run)));
            let blocks: Vec<_> = data.flat_map(|(block, run)| (run.file_block.0..run.end().0).zip(block..)).collect();
            let there = recovery.file(id).size - recovery.file(id).tally.missing();
            for (name, wanted) in &wanted {
                let right = blocks.iter().filter(|(at, block)| wanted.get(at) == Some(block)).count();
                if right > best.get(name).map_or(0, |(right, ..)| *right) {
                    let path = String::from_utf8(tree.mount_path(id)).expect("a path");
                    best.insert(name.clone(), (right, self.point.path().join(path), there));
                }
            }
        }
        best.into_iter().map(|(name, (_, path, bytes))| (name, (path, bytes))).collect()
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run("umount", &[self.point.path().to_str().expect("a path")]);
    }
}

/// How a table came back.
struct Outcome {
    image: String,
    table: String,
    format: String,
    /// Share of the `.MYD`'s bytes that are said to be there.
    file: f64,
    rows: usize,
    standing: usize,
    back: usize,
    /// Rows that stand and are not back.
    missing: Vec<u32>,
    /// Rows that are not what they were, or never were.
    wrong: Vec<u32>,
    twice: usize,
    same_sum: bool,
    took: Duration,
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { image, table, format, rows, standing, back, twice, .. } = self;
        let sum = if self.same_sum { "same" } else { "another" };
        write!(
            f,
            "{image} {table} ({format}): {:.1}% of the file, {back} of {rows} rows ({:.2}%), {standing} stand, {} of them missing, {} wrong, {twice} twice; \
             {sum} checksum; {:.1} s",
            100.0 * self.file,
            100.0 * *back as f64 / *rows as f64,
            self.missing.len(),
            self.wrong.len(),
            self.took.as_secs_f64()
        )
    }
}

/// What the user still has of the tables: definitions, and files that were not lost.
fn remains(case: &Case, datadir: &Path) {
    let point = tempfile::tempdir().expect("a folder");
    let at = point.path().to_str().expect("a path");
    run("mount", &["-t", "ext3", "-o", "loop,ro,noload", case.image.to_str().expect("a path"), at]);
    let folder = datadir.join("mail");
    fs::create_dir(&folder).expect("a folder");
    for (table, facts) in &case.tables {
        for ext in [".frm", ".MYD", ".MYI"].into_iter().filter(|ext| !facts.is_lost(ext)) {
            let name = format!("{table}{ext}");
            fs::copy(point.path().join(FOLDER).join(&name), folder.join(&name)).expect("a copy");
        }
    }
    run("umount", &[at]);
}

/// Recovers all tables of an image.
fn recovered(name: &str) -> Vec<Outcome> {
    let case = Case::new(name);
    let folder = tempfile::tempdir_in(common::folder()).expect("a folder");
    let datadir = folder.path().join("data");
    fs::create_dir(&datadir).expect("a folder");
    remains(&case, &datadir);
    let mounted = Mounted::new(&case, &[]);
    let files = mounted.files();
    let mut repairs = vec![];
    for (table, facts) in &case.tables {
        let began = Instant::now();
        let mut command = Command::new(root().join("scripts/repair-myisam"));
        command.arg(mounted.point.path()).arg(format!("mail/{table}")).arg(&datadir).arg("--force").stdin(Stdio::null());
        let home = |ext: &str| datadir.join(format!("mail/{table}{ext}"));
        let found = |ext: &str| files.get(&format!("{table}{ext}")).map(|(path, _)| path.clone());
        let place = |ext: &str| if facts.is_lost(ext) { found(ext) } else { Some(home(ext)) };
        for (option, ext) in [("--myd", ".MYD"), ("--myi", ".MYI")] {
            if let Some(place) = place(ext) {
                command.arg(option).arg(place);
            }
        }
        let output = command.output().expect("repair-myisam runs");
        if !output.status.success() {
            println!("{name} {table}: {}", text(&output.stderr));
        }
        let myd = files.get(&format!("{table}.MYD"));
        let size = myd.and_then(|(path, _)| fs::metadata(path).ok()).map_or(1, |metadata| metadata.len());
        let file = if facts.is_lost(".MYD") { myd.map_or(0, |(_, bytes)| *bytes) as f64 / size as f64 } else { 1.0 };
        repairs.push((table, facts, file, output.status.success(), began.elapsed()));
    }
    drop(mounted);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside the datadir");

    let server = Server::start(&datadir);
    let mut outcomes = vec![];
    for (table, facts, file, done, took) in repairs {
        let (sums, damaged) = (case.sums(table), case.damaged(table));
        assert_eq!(
            (sums.len(), sums.len() - damaged.len()),
            (facts.rows, facts.rows_standing.unwrap_or(facts.rows)),
            "{table}: the truth agrees"
        );
        let (mut seen, mut wrong, mut twice) = (BTreeSet::new(), vec![], 0);
        let rows = if done { server.ask(&format!("SELECT id, {} FROM mail.{table}", facts.sum)) } else { vec![] };
        for row in &rows {
            let (id, sum) = row.split_once('\t').expect("two columns");
            let (id, sum): (u32, u64) = (id.parse().expect("a number"), sum.parse().expect("a number"));
            twice += usize::from(!seen.insert(id));
            if sums.get(&id) != Some(&sum) {
                wrong.push(id);
            }
        }
        let missing = sums.keys().filter(|id| !damaged.contains(id) && !seen.contains(id)).copied().collect();
        let outcome = Outcome {
            image: name.to_owned(),
            table: table.clone(),
            format: facts.format.clone(),
            file,
            rows: facts.rows,
            standing: facts.rows - damaged.len(),
            back: rows.len(),
            missing,
            wrong,
            twice,
            same_sum: done && server.sum(table) == facts.checksum,
            took,
        };
        println!("{outcome}");
        for (what, ids) in [("missing", &outcome.missing), ("wrong", &outcome.wrong)] {
            if !ids.is_empty() {
                println!("    {what}: {:?}", &ids[..ids.len().min(20)]);
            }
        }
        outcomes.push(outcome);
    }
    outcomes
}

fn all() -> bool {
    std::env::var("UNDELFS_TABLES").is_ok_and(|which| which == "all")
}

/// Every row that stands is back, none is wrong, none twice; where all of it stands, the checksum is the original's.
fn exact(name: &str) {
    for outcome in recovered(name) {
        assert!(outcome.wrong.is_empty() && outcome.twice == 0, "{outcome}");
        assert!(outcome.missing.is_empty(), "{outcome}");
        assert!(outcome.same_sum || outcome.standing < outcome.rows, "{outcome}");
    }
}

/// Where parts are overwritten: none is wrong, none twice, and of rows that stand fewer than one in a hundred are missing; of a compressed table,
/// whose rows are packed so densely that few blocks tell their place alone, one in four.
fn nearly(name: &str) {
    for outcome in recovered(name) {
        assert!(outcome.wrong.is_empty() && outcome.twice == 0, "{outcome}");
        let share = if outcome.format == "packed" { 4 } else { 100 };
        assert!(outcome.missing.len() * share < outcome.standing, "{outcome}");
    }
}

macro_rules! tables {
    ($judge:ident: $($name:ident $image:literal),+) => { $(#[test] fn $name() { if all() { $judge($image); } })+ };
}

tables!(exact: deleted "myisam-deleted", truncated "myisam-truncated", keys "myisam-keys", others "myisam-others");
tables!(nearly: taken7 "myisam-taken7", taken40 "myisam-taken40");

#[test]
fn taken15() {
    nearly("myisam-taken15");
}

/// Of a table all of whose indirect blocks are destroyed, its content alone gives 95% of the rows back.
#[test]
fn without_pointers() {
    for name in ["myisam-unled", "myisam-unled2"].into_iter().filter(|_| all()) {
        for outcome in recovered(name) {
            assert!(outcome.wrong.is_empty() && outcome.twice == 0, "{outcome}");
            assert!(outcome.back * 100 >= outcome.rows * 95, "{outcome}");
        }
    }
}

/// What a program says, which must succeed.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

/// Under the names that the user remembers: myisamchk's own looks at the lost table, a reader that maps it, and a repair that takes hardly longer
/// than that of an ordinary file.
#[test]
fn readers() {
    if !all() {
        return;
    }
    let case = Case::new("myisam-deleted");
    let hints = ["--hint", "path=/mysql/mail/messages.MYD,size=151000000", "--hint", "path=/mysql/mail/messages.MYI"];
    let mounted = Mounted::new(&case, &hints);
    let stem = mounted.point.path().join("by-path").join(FOLDER).join("messages").to_str().expect("a path").to_owned();
    let described = said("myisamchk", &["-d", &stem]);
    assert!(described.split_whitespace().collect::<Vec<_>>().windows(2).any(|words| words == ["records:", "900000"]), "{described}");
    said("myisamchk", &["-cT", &stem]);
    for life in truth::lost(&case.image) {
        let path = format!("{}/by-path{}", mounted.point.path().display(), life.path);
        let mapped = "import hashlib, mmap, sys; file = open(sys.argv[1], 'rb'); \
                      print(hashlib.sha256(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).hexdigest())";
        assert_eq!(said("python3", &["-c", mapped, &path]).trim(), life.sha256(), "{}", life.path);
    }

    let folder = tempfile::tempdir_in(common::folder()).expect("a folder");
    let (ordinary, lost) = (folder.path().join("messages.MYD"), format!("{stem}.MYD"));
    fs::copy(&lost, &ordinary).expect("a copy");
    let repair = root().join("scripts/repair-myisam");
    let mut least = [f64::MAX; 2];
    for round in 0..4 {
        for (which, myd) in [lost.as_str(), ordinary.to_str().expect("a path")].into_iter().enumerate() {
            let datadir = folder.path().join("data");
            fs::create_dir(&datadir).expect("a datadir");
            remains(&case, &datadir);
            let place = [mounted.point.path().to_str().expect("a path"), "mail/messages", datadir.to_str().expect("a path")];
            let options = ["--myd", myd, "--myi", &format!("{stem}.MYI")];
            let missing = ["--missing-rows"];
            let began = Instant::now();
            let more: &[&str] = if round == 0 { &missing } else { &[] };
            let words = said(repair.to_str().expect("a path"), &[&place[..], &options[..], more].concat());
            if round == 0 {
                // Every 400th was deleted by its owner, and is told like any other.
                assert!(words.contains("2,255 values of id are missing, in 2,255 ranges"), "{words}");
            } else {
                least[which] = least[which].min(began.elapsed().as_secs_f64());
            }
            fs::remove_dir_all(&datadir).expect("it was there");
        }
    }
    let ratio = least[0] / least[1];
    println!("repair over the mount {:.2} s, of an ordinary file {:.2} s: {ratio:.2} times", least[0], least[1]);
    assert!(ratio <= 1.15, "{least:?}");
}
