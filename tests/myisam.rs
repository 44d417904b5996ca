//! Real MyISAM tables, lost from a real ext3, back in a database through `scripts/repair-myisam`; and what `undelfs show` says of them.

mod common;

use common::disk::{Disk, run};
use common::mariadb::{Server, text};
use common::{Random, root, undelfs};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use undelfs::content::Walker;
use undelfs::content::myisam::dynamic::RowBlocks;
use undelfs::content::myisam::header::Header;
use undelfs::content::myisam::packed;

const ROWS: u64 = 20_000;
const TABLES: [&str; 3] = ["dynamic", "fixed", "packed"];

/// A disk with a database whose tables were lost, and what they were.
struct Lost {
    disk: Disk,
    /// Copies of the tables' files.
    originals: TempDir,
    sums: Vec<String>,
    mount: TempDir,
}

impl Lost {
    /// Makes the three tables, closes them, and lets `lose` take from their folder.
    fn new(lose: impl FnOnce(&Path)) -> Lost {
        let (disk, originals, mut sums) = (Disk::new("-t ext3 -b 4096", "96M"), tempfile::tempdir().expect("a folder"), vec![]);
        disk.mounted("ext3", "rw", |point| {
            let datadir = point.join("db");
            fs::create_dir(&datadir).expect("a datadir");
            let server = Server::start(&datadir);
            let columns = "id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, sender";
            server.ask(&format!(
                "CREATE DATABASE mail; USE mail;
                 CREATE TABLE dynamic ({columns} VARCHAR(80) NOT NULL, body TEXT NOT NULL, KEY (sender));
                 CREATE TABLE fixed ({columns} CHAR(40) NOT NULL, n DOUBLE, KEY (sender)) ROW_FORMAT=FIXED;
                 CREATE TABLE packed LIKE dynamic;
                 INSERT INTO dynamic SELECT seq, CONCAT(MD5(seq), '@example.org'), REPEAT(SHA1(seq), 1 + CRC32(seq) MOD 9) FROM seq_1_to_{ROWS};
                 INSERT INTO fixed SELECT seq, MD5(seq), seq / 7 FROM seq_1_to_{ROWS};
                 INSERT INTO packed SELECT * FROM dynamic;
                 FLUSH TABLES"
            ));
            sums = TABLES.iter().map(|table| server.sum(table)).collect();
            drop(server);
            let folder = datadir.join("mail");
            let packed = folder.join("packed");
            run("myisampack", &["-s", packed.to_str().expect("a path")]);
            run("myisamchk", &["-rqs", packed.to_str().expect("a path")]);
            for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
                fs::copy(entry.path(), originals.path().join(entry.file_name())).expect("a copy");
            }
            run("sync", &["-f", point.to_str().expect("a path")]);
            lose(&folder);
        });
        Lost { disk, originals, sums, mount: tempfile::tempdir().expect("a mount point") }
    }

    fn mounted(&self, options: &[&str]) -> Mounted<'_> {
        let output = undelfs().arg("mount").args([&self.disk.image(), self.mount.path()]).args(options).output().expect("undelfs runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        Mounted(self.mount.path())
    }

    fn original(&self, name: &str) -> String {
        self.originals.path().join(name).to_str().expect("a path").to_owned()
    }
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().expect("a path")]);
    }
}

/// Removes the two files that hold a table's content.
fn delete(folder: &Path) {
    for table in TABLES {
        for ext in ["MYD", "MYI"] {
            fs::remove_file(folder.join(format!("{table}.{ext}"))).expect("the file was there");
        }
    }
}

fn script(mount: &Path, table: &str, datadir: &Path) -> Command {
    let mut command = Command::new(root().join("scripts/repair-myisam"));
    command.args([mount.as_os_str(), table.as_ref(), datadir.as_os_str()]).stdin(Stdio::null());
    command
}

/// Repairs, which must work. Its standard output, without what myisamchk writes, and its messages.
fn repaired(command: &mut Command) -> (Vec<String>, String) {
    let output = command.output().expect("repair-myisam runs");
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let is_ours = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit()) || line.starts_with("mail.");
    (text(&output.stdout).lines().filter(is_ours).map(str::to_owned).collect(), text(&output.stderr))
}

/// An empty datadir in a folder of its own, in which nothing else may be when it is done.
fn target() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let datadir = folder.path().join("data");
    fs::create_dir(&datadir).expect("a folder");
    (folder, datadir)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

fn sums_of(datadir: &Path) -> Vec<String> {
    let server = Server::start(datadir);
    TABLES.iter().map(|table| server.sum(table)).collect()
}

#[test]
fn deleted_tables_come_back() {
    let lost = Lost::new(delete);
    let _mounted = lost.mounted(&[]);
    let (folder, datadir) = target();
    fs::create_dir(datadir.join("mail")).expect("a folder");
    for table in TABLES {
        fs::copy(lost.original(&format!("{table}.frm")), datadir.join(format!("mail/{table}.frm"))).expect("a copy");
    }
    let (out, messages) = repaired(script(lost.mount.path(), "mail/*", &datadir).arg("--sum"));
    let expected: Vec<_> = TABLES.iter().zip(&lost.sums).map(|(table, sum)| format!("mail.{table} {sum}")).collect();
    assert_eq!(out, expected, "{messages}");
    assert_eq!(messages.matches("20,000 rows are back").count(), 3, "{messages}");
    assert_eq!(names(folder.path()), ["data"], "nothing is left beside the datadir");
    assert_eq!(names(&datadir), ["mail"]);
    assert_eq!(sums_of(&datadir), lost.sums);

    // A second time only where that is meant.
    let again = script(lost.mount.path(), "db/mail/dynamic.MYD", &datadir).output().expect("it runs");
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("is there already: move it away, or insist with --force"), "{}", text(&again.stderr));
    repaired(script(lost.mount.path(), "db/mail/dynamic.MYD", &datadir).args(["--force", "--copy"]));
    assert_eq!(sums_of(&datadir), lost.sums);
}

/// The rows still stand in the filesystem and the keys are gone; or both were truncated; or the keys are damaged.
#[test]
fn without_the_keys() {
    let lost = Lost::new(|folder| {
        fs::remove_file(folder.join("fixed.MYI")).expect("the file was there");
        for name in ["dynamic.MYD", "dynamic.MYI", "packed.MYD", "packed.MYI"] {
            fs::File::options().write(true).open(folder.join(name)).and_then(|file| file.set_len(0)).expect("a truncate");
        }
    });
    let (folder, datadir) = target();
    let point = folder.path().join("live");
    fs::create_dir(&point).expect("a folder");
    run("mount", &["-t", "ext3", "-o", "loop,ro,noload", lost.disk.image().to_str().expect("a path"), point.to_str().expect("a path")]);
    let live = Mounted(&point);
    let _mounted = lost.mounted(&["--force"]);
    let file = |name: &str| point.join("db/mail").join(name).to_str().expect("a path").to_owned();
    let mount = lost.mount.path();

    // A .MYD that is not lost; with the .MYI from the mount.
    let found = mount.join("by-path/db/mail/fixed.MYI");
    repaired(
        script(mount, "mail/fixed", &datadir).args(["--myd", &file("fixed.MYD"), "--frm", &file("fixed.frm")]).arg("--myi").arg(found),
    );
    // The zero-size .MYI that the disk still has, beside the table's definition.
    let (_, messages) =
        repaired(script(mount, "mail/dynamic", &datadir).args(["--myi", &file("dynamic.MYI"), "--frm", &file("dynamic.frm")]));
    assert!(messages.contains("dynamic.MYI is gone or empty"), "{messages}");
    // A .MYI of which the first block is lost, and no .frm.
    let (damaged, sql) = (folder.path().join("damaged"), folder.path().join("packed.sql"));
    let mut keys = fs::read(lost.original("packed.MYI")).expect("the original");
    keys[..4096].fill(0);
    fs::write(&damaged, keys).expect("a file");
    let columns = "id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, sender VARCHAR(80) NOT NULL, body TEXT NOT NULL, KEY (sender)";
    fs::write(&sql, format!("CREATE TABLE packed ({columns}) ENGINE=MyISAM;\n")).expect("a file");
    let (_, messages) = repaired(script(mount, "mail/packed", &datadir).arg("--myi").arg(&damaged).arg("--create").arg(&sql));
    assert!(messages.contains("packed.MYI cannot be used"), "{messages}");
    assert_eq!(sums_of(&datadir), lost.sums);
    drop(live);
}

/// Where each row of an original stands in its `.MYD`: rows are in the order of their ids.
fn row_ranges(lost: &Lost, table: &str) -> Vec<(u64, u64)> {
    let rows = fs::read(lost.original(&format!("{table}.MYD"))).expect("the original");
    let header = Header::parse(&fs::read(lost.original(&format!("{table}.MYI"))).expect("the original")).expect("a .MYI");
    let mut starts = vec![];
    match table {
        "dynamic" => drop(Walker::new(RowBlocks::ANY, 0, 0).feed(&rows, |at, _| starts.push(at))),
        "fixed" => starts.extend((0..rows.len() as u64).step_by(header.packed_length as usize)),
        _ => {
            let format = packed::Rows { header: packed::Header::parse(&rows).expect("a head"), blobs: header.blobs > 0 };
            let _ = Walker::new(format, 0, format.header.length.into()).feed(&rows, |at, _| starts.push(at));
        }
    }
    assert_eq!(starts.len() as u64, ROWS, "{table}");
    let end = header.data_file_length - if table == "packed" { 7 } else { 0 };
    let ends = starts.iter().skip(1).copied().chain([end]).collect::<Vec<_>>();
    starts.into_iter().zip(ends).collect()
}

/// Picks blocks of the lost files that were never read, so that they are missing: a mapfile, and the missing file blocks by table.
fn unread(lost: &Lost, map: &Path) -> Vec<BTreeSet<u64>> {
    let (mut random, mut bad, mut missing) = (Random(4), BTreeSet::new(), vec![]);
    for (table, percent) in TABLES.into_iter().zip([15, 15, 15]) {
        let output =
            undelfs().args(["show", "--json"]).arg(lost.disk.image()).arg(format!("/db/mail/{table}.MYD")).output().expect("it runs");
        let file: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let mut chosen = BTreeSet::new();
        for range in file["ranges"].as_array().expect("ranges") {
            let number = |field: &str| range[field].as_u64().expect("a number");
            for n in 0..number("length").div_ceil(4096) {
                let at = number("offset") / 4096 + n;
                // The first block of a compressed table has its Huffman trees.
                if at > 0 && random.below(100) < percent {
                    chosen.insert(at);
                    bad.insert(number("block") + n);
                }
            }
        }
        assert!(chosen.len() > 3, "{table}");
        missing.push(chosen);
    }
    let (mut lines, mut at) = (String::from("0 + 1\n"), 0);
    for block in bad {
        if block * 4096 > at {
            lines += &format!("{at} {} +\n", block * 4096 - at);
        }
        lines += &format!("{} 4096 -\n", block * 4096);
        at = (block + 1) * 4096;
    }
    lines += &format!("{at} {} +\n", fs::metadata(lost.disk.image()).expect("the image").len() - at);
    fs::write(map, lines).expect("a mapfile");
    missing
}

/// Of tables with missing blocks, every row all of whose bytes stand is back, and no other; the missing ones are listed.
#[test]
fn missing_ranges() {
    let lost = Lost::new(delete);
    let (folder, datadir) = target();
    let map = folder.path().join("map");
    let missing = unread(&lost, &map);
    let mapfile = ["--mapfile", map.to_str().expect("a path")];
    let mounted = lost.mounted(&mapfile);
    for (table, missing) in TABLES.into_iter().zip(missing) {
        let stands = |(start, end): &(u64, u64)| missing.range(start / 4096..=(end - 1) / 4096).next().is_none();
        let whole: BTreeSet<u64> = (1..).zip(row_ranges(&lost, table)).filter(|(_, range)| stands(range)).map(|(id, _)| id).collect();
        // The .MYI is whole but for the fixed table, whose .frm must do.
        let frm = lost.original(&format!("{table}.frm"));
        let mut command = script(lost.mount.path(), &format!("mail/{table}"), &datadir);
        command.args(["--frm", &frm, "--missing-rows", "100000"]);
        if table == "fixed" {
            let empty = folder.path().join("empty");
            fs::write(&empty, "").expect("a file");
            command.arg("--myi").arg(empty);
        }
        let (out, messages) = repaired(&mut command);
        let mut back: BTreeSet<u64> = (1..=ROWS).collect();
        for line in &out {
            let (first, last) = line.split_once('-').unwrap_or((line, line));
            for id in first.parse::<u64>().expect("a number")..=last.parse().expect("a number") {
                back.remove(&id);
            }
        }
        // The last rows: nothing in a new .MYI says that they were there.
        let highest = *whole.last().expect("a row");
        let back: BTreeSet<u64> = back.range(..=highest).copied().collect();
        assert!(whole.len() > 3000 && whole.len() < ROWS as usize - 50, "{table}: {}", whole.len());
        assert_eq!(back.difference(&whole).count(), 0, "{table}: rows are back that cannot be: {messages}");
        let not_back = whole.difference(&back).count();
        assert!(not_back == 0 || table == "packed" && not_back <= 2, "{table}: {not_back} rows are not back: {messages}");

        let output =
            undelfs().arg("show").arg(lost.disk.image()).arg(format!("/db/mail/{table}.MYD")).args(mapfile).output().expect("it runs");
        let shown = text(&output.stdout);
        let counted = shown.lines().find_map(|line| line.strip_prefix("  rows ")?.trim().strip_suffix(" whole")?.parse::<usize>().ok());
        let near = counted.is_some_and(|counted| counted.abs_diff(whole.len()) * 500 <= whole.len());
        assert!(near, "{table}: {counted:?} rows, not {}", whole.len());
        assert!(shown.contains("20000 rows, says the .MYI") && shown.contains("Rows in missing ranges, at a guess"), "{shown}");
    }
    drop(mounted);
    for table in TABLES {
        for ext in ["MYD", "MYI", "frm"] {
            fs::copy(lost.original(&format!("{table}.{ext}")), datadir.join(format!("mail/o_{table}.{ext}"))).expect("a copy");
        }
    }
    let server = Server::start(&datadir);
    for table in TABLES {
        let sql = format!("SELECT COUNT(*) FROM (SELECT * FROM mail.{table} EXCEPT SELECT * FROM mail.o_{table}) AS wrong");
        assert_eq!(server.ask(&sql), ["0"], "{table}");
        assert_eq!(server.ask(&format!("SELECT COUNT(*) - COUNT(DISTINCT id) FROM mail.{table}")), ["0"], "{table}");
        assert_eq!(server.ask(&format!("CHECK TABLE mail.{table} EXTENDED")), [format!("mail.{table}\tcheck\tstatus\tOK")]);
    }
}

#[test]
fn into_a_running_server() {
    let lost = Lost::new(delete);
    let _mounted = lost.mounted(&[]);
    let (folder, datadir) = target();
    let server = Server::start(&datadir);
    repaired(script(lost.mount.path(), "mail/dynamic", &datadir).args(["--frm", &lost.original("dynamic.frm")]));
    assert_eq!(server.sum("dynamic"), lost.sums[0]);
    // Over a table that the server has open.
    server.ask("DELETE FROM mail.dynamic WHERE id > 100");
    let refused = script(lost.mount.path(), "mail/dynamic", &datadir).output().expect("it runs");
    assert_eq!((refused.status.code(), server.ask("SELECT COUNT(*) FROM mail.dynamic")[0].as_str()), (Some(2), "100"));
    repaired(script(lost.mount.path(), "mail/dynamic", &datadir).arg("--force"));
    assert_eq!(server.sum("dynamic"), lost.sums[0]);
    server.ask("INSERT INTO mail.dynamic (sender, body) VALUES ('a', 'b')");
    assert_eq!(server.ask("SELECT MAX(id) FROM mail.dynamic; CHECK TABLE mail.dynamic"), ["20001", "mail.dynamic\tcheck\tstatus\tOK"]);
    assert_eq!(names(folder.path()), ["data"]);
}

/// A folder as MySQL 8 has it, made up: its definition is an `.sdi`, from which nothing is made, and which goes along. No real MySQL has seen it.
#[test]
fn the_layout_of_mysql() {
    let lost = Lost::new(|_| ());
    let (folder, datadir) = target();
    let there = folder.path().join("there/mail");
    fs::create_dir_all(&there).expect("a folder");
    for name in ["dynamic.MYD", "dynamic.MYI"] {
        fs::copy(lost.original(name), there.join(name)).expect("a copy");
    }
    fs::write(there.join("dynamic_361.sdi"), "{}").expect("a file");
    let from = folder.path().join("there");
    repaired(&mut script(&from, "mail/dynamic", &datadir));
    assert_eq!(names(&datadir.join("mail")), ["dynamic.MYD", "dynamic.MYI", "dynamic_361.sdi"]);

    let (sql, columns) = (folder.path().join("sql"), "sender VARCHAR(80) NOT NULL, body TEXT NOT NULL, KEY (sender)");
    fs::write(&sql, format!("CREATE TABLE dynamic (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, {columns});\n")).expect("a file");
    fs::remove_file(there.join("dynamic.MYI")).expect("it was there");
    for option in ["--force", "--sum"] {
        let output = script(&from, "mail/dynamic", &datadir).args(["--force", option]).output().expect("it runs");
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("give --create FILE.sql"), "{said}");
    }
    let (out, _) = repaired(script(&from, "mail/dynamic", &datadir).args(["--force", "--sum", "--create"]).arg(&sql));
    assert_eq!(out, [format!("mail.dynamic {}", lost.sums[0])]);
    assert_eq!(names(&datadir.join("mail")), ["dynamic.MYD", "dynamic.MYI", "dynamic_361.sdi"]);
    fs::copy(lost.original("dynamic.frm"), datadir.join("mail/dynamic.frm")).expect("a copy");
    assert_eq!(Server::start(&datadir).sum("dynamic"), lost.sums[0]);
}

/// Processes that mention a path in their arguments.
fn processes(path: &Path) -> Vec<String> {
    let path = path.to_str().expect("a path");
    let lines = fs::read_dir("/proc").expect("/proc").filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.map(|line| text(&line)).filter(|line| line.contains(path)).collect()
}

#[test]
fn nothing_is_left_behind() {
    let lost = Lost::new(delete);
    let _mounted = lost.mounted(&[]);
    let (folder, datadir) = target();
    let (frm, empty) = (lost.original("dynamic.frm"), lost.original("empty"));
    fs::write(&empty, "").expect("a file");
    for (signal, milliseconds) in [("INT", 150), ("TERM", 400), ("INT", 700), ("HUP", 1000)] {
        // Signals as a terminal has them, whatever this test was started by.
        let mut child = Command::new("env")
            .arg("--default-signal")
            .arg(root().join("scripts/repair-myisam"))
            .args([lost.mount.path().as_os_str(), "mail/dynamic".as_ref(), datadir.as_os_str()])
            .args(["--myi", &empty, "--frm", &frm, "--sum", "--missing-rows", "--force"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        std::thread::sleep(Duration::from_millis(milliseconds));
        run("sh", &["-c", &format!("kill -{signal} {} || true", child.id())]);
        child.wait().expect("it ended");
        assert_eq!(names(folder.path()), ["data"], "after {signal}");
        assert_eq!(processes(folder.path()), Vec::<String>::new(), "after {signal}");
    }

    let other = folder.path().join("other.sql");
    fs::write(&other, "CREATE TABLE other (a INT)").expect("a file");
    let other = other.to_str().expect("a path").to_owned();
    let (nobody, _) = target();
    for (table, options, status, message) in [
        ("mail/nothing", vec![], 2, "no .MYD or .MYI of it in"),
        ("dynamic", vec![], 2, "give DATABASE/TABLE"),
        ("mail/fixed", vec![], 2, "give --frm FILE, or --create FILE.sql"),
        ("mail/fixed", vec!["--frm", "/nowhere"], 2, "no such file"),
        ("mail/fixed", vec!["--myi", &other, "--create", &other], 2, "makes no MyISAM table fixed"),
        ("mail/packed", vec!["--myi", &other, "--frm", &other], 2, "the server makes nothing of"),
    ] {
        let output = script(lost.mount.path(), table, &nobody.path().join("data")).args(&options).output().expect("it runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{table} {options:?}: {said}");
        assert!(
            said.lines().next_back().is_some_and(|line| line.starts_with("repair-myisam: ") && line.contains(message)),
            "{message}: {said}"
        );
        assert_eq!((names(nobody.path()), names(&nobody.path().join("data"))), (vec!["data".to_owned()], vec![]), "{table} {options:?}");
    }
}
