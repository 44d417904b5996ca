//! Large MyISAM tables of a real MariaDB, grown side by side on the kernel's ext3, lost whole and in part (`scripts/make-image myisam-*`), the journal
//! wrapped since: back in a database through the mount and `scripts/repair-myisam`, each row held against what it was.
//!
//! One image by default; `scripts/tables` does all, by `UNDELFS_TABLES=all`.

mod common;

use common::disk::run;
use common::mariadb::{Server, text};
use common::{image, root, truth, undelfs};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;

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
    options: &'a [&'a str],
}

impl<'a> Mounted<'a> {
    fn new(case: &'a Case, options: &'a [&'a str]) -> Self {
        let point = tempfile::tempdir().expect("a mount point");
        let output =
            undelfs().arg("mount").args([&case.image, point.path()]).args(["--scan", "wait"]).args(options).output().expect("undelfs runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        Mounted { case, point, options }
    }

    fn json(&self, command: &str, file: Option<&str>) -> Value {
        let output =
            undelfs().args([command, "--json"]).arg(&self.case.image).args(file).args(["--scan", "wait"]).args(self.options).output();
        serde_json::from_slice(&output.expect("undelfs runs").stdout).expect("JSON")
    }

    /// Where each lost file of a table is: under its name, or the chain that has most of its blocks. With how many of its bytes are said to be there.
    fn files(&self) -> BTreeMap<String, (PathBuf, u64)> {
        let mut wanted = BTreeMap::new();
        for life in truth::lost(&self.case.image).into_iter().filter(|life| life.is("file")) {
            let blocks = life.runs.iter().flatten().flat_map(|(_, physical, count)| *physical..physical + count).collect::<BTreeSet<u64>>();
            wanted.insert(life.path.rsplit_once('/').expect("a path").1.to_owned(), blocks);
        }
        let mut best: BTreeMap<String, (usize, PathBuf, u64)> = BTreeMap::new();
        for file in self.json("list", None).as_array().expect("a list") {
            let path = file["mount_path"].as_str().expect("a path");
            // As `show` takes it: what is named under by-path, else the chain.
            let topmost = path.strip_prefix("orphans/").map(|name| name.split('.').next().unwrap_or(name));
            let name = topmost.map_or_else(|| path.trim_start_matches("by-path").to_owned(), |block| format!("chain:{block}"));
            let shown = self.json("show", Some(&name));
            let blocks: BTreeSet<u64> = shown["ranges"].as_array().expect("ranges").iter().flat_map(blocks_of).collect();
            for (name, wanted) in &wanted {
                let shared = blocks.intersection(wanted).count();
                // A chain of another file may share a few with it, of another life.
                if shared > best.get(name).map_or(wanted.len() / 50, |(shared, ..)| *shared) {
                    best.insert(name.clone(), (shared, self.point.path().join(path), file["recovered"].as_u64().expect("bytes")));
                }
            }
        }
        best.into_iter().map(|(name, (_, path, bytes))| (name, (path, bytes))).collect()
    }
}

/// The blocks that a range of `show --json` is on.
fn blocks_of(range: &Value) -> std::ops::Range<u64> {
    let first = range["block"].as_u64().unwrap_or(0);
    first..if first > 0 { first + range["length"].as_u64().expect("bytes").div_ceil(BLOCK) } else { 0 }
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
fn recovered(name: &str, options: &[&str]) -> Vec<Outcome> {
    let case = Case::new(name);
    let folder = tempfile::tempdir_in(common::folder()).expect("a folder");
    let datadir = folder.path().join("data");
    fs::create_dir(&datadir).expect("a folder");
    remains(&case, &datadir);
    let mounted = Mounted::new(&case, options);
    let files = mounted.files();
    let mut repairs = vec![];
    for (table, facts) in &case.tables {
        let began = Instant::now();
        let mut command = std::process::Command::new(root().join("scripts/repair-myisam"));
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
    for outcome in recovered(name, &[]) {
        assert!(outcome.wrong.is_empty() && outcome.twice == 0, "{outcome}");
        assert!(outcome.missing.is_empty(), "{outcome}");
        assert!(outcome.same_sum || outcome.standing < outcome.rows, "{outcome}");
    }
}

macro_rules! exact {
    ($($name:ident: $image:literal),+) => { $(#[test] fn $name() { if all() { exact($image); } })+ };
}

exact!(deleted: "myisam-deleted", truncated: "myisam-truncated", keys: "myisam-keys", others: "myisam-others", taken7: "myisam-taken7", taken40: "myisam-taken40");

#[test]
fn taken15() {
    exact("myisam-taken15");
}

/// Of a table all of whose indirect blocks are destroyed, its content alone gives 95% of the rows back.
#[test]
fn without_pointers() {
    for name in ["myisam-unled", "myisam-unled2"].into_iter().filter(|_| all()) {
        for outcome in recovered(name, &[]) {
            assert!(outcome.wrong.is_empty() && outcome.twice == 0, "{outcome}");
            assert!(outcome.back * 100 >= outcome.rows * 95, "{outcome}");
        }
    }
}
