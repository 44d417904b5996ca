//! `undelfs scan` and its catalog: what was found once is not looked for again, and never believed of another state of the image.

mod common;

use common::disk::{Disk, run};
use common::{folder, image};
use roaring::RoaringTreemap;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use undelfs::fs::Filesystem;
use undelfs::image::{Image, ImageOptions};
use undelfs::units::Block;

/// An image of its own that has lost a file with many indirect blocks, and a place for its catalog.
struct Place {
    folder: TempDir,
    image: PathBuf,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir_in(folder()).expect("a folder");
        let own = folder.path().join("disk.img");
        run("cp", &["--sparse=always", image("wrapped", &[]).to_str().expect("a path"), own.to_str().expect("a path")]);
        Place { folder, image: own }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with its caches here.
    fn command<S: AsRef<OsStr>>(&self, command: &str, arguments: impl IntoIterator<Item = S>) -> Command {
        self.command_on(&self.image, command, arguments)
    }

    fn command_on<S: AsRef<OsStr>>(&self, image: &Path, command: &str, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut program = common::undelfs();
        program.env("XDG_CACHE_HOME", self.path("cache")).env("TZ", "UTC").stdin(Stdio::null());
        program.arg(command).arg(image).args(arguments);
        program
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Ran {
        self.command(command, arguments).output().expect("the program runs").into()
    }

    /// Scans into `catalog` of this folder.
    fn scan(&self, catalog: &str) -> Ran {
        let ran: Ran =
            self.command("scan", ["--catalog".as_ref(), self.path(catalog).as_os_str()]).output().expect("the program runs").into();
        assert_eq!(ran.status, 0, "{}", ran.err);
        ran
    }

    /// Lists with `catalog` of this folder.
    fn list(&self, catalog: &str) -> Ran {
        let catalog = self.path(catalog);
        let arguments = ["--json".as_ref(), "-v".as_ref(), "--catalog".as_ref(), catalog.as_os_str()];
        self.command("list", arguments).output().expect("the program runs").into()
    }

    /// What is lost, without any catalog.
    fn truth(&self) -> String {
        let ran = self.run("list", &["--json", "--no-catalog"]);
        assert_eq!(ran.status, 0, "{}", ran.err);
        ran.out
    }

    fn edit(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.image).expect("the image opens")
    }
}

struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ran { status: output.status.code().expect("not killed"), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn filesystem(image: &Path) -> Filesystem {
    Filesystem::open(Image::open(&ImageOptions::new(image)).expect("an image"), None, None).expect("a filesystem")
}

#[test]
fn what_is_known_is_not_looked_for_again() {
    let place = Place::new();
    let expected = place.truth();
    assert!(!place.path("cache").exists());
    for (known, command) in [(0, "list"), (4, "list"), (4, "info"), (4, "list")] {
        let ran = place.run(command, &["--json", "-v"]);
        assert!(ran.err.contains(&format!("{known} of 4 groups are known")), "{command}: {}", ran.err);
        assert!(command != "list" || ran.out == expected);
    }
    let catalogs: Vec<_> = fs::read_dir(place.path("cache/undelfs")).expect("a folder").flatten().collect();
    let name = catalogs[0].file_name().into_string().expect("UTF-8");
    assert!(catalogs.len() == 1 && name.starts_with("3c0ffee0-0000-4000-8000-000000000001-") && name.ends_with(".sqlite"), "{name}");
    let ran = place.run("scan", &[]);
    assert!(ran.status == 0 && ran.out.contains("was known already: 39 blocks that can be indirect blocks"), "{}", ran.out);
}

#[test]
fn a_scan_is_kept_for_other_commands_and_for_people() {
    let place = Place::new();
    let ran = place.scan("catalog");
    assert!(ran.out.contains("free space looked through in") && ran.out.lines().count() == 1, "{}", ran.out);
    let ran = place.list("catalog");
    assert!(ran.err.contains("4 of 4 groups are known") && ran.out == place.truth(), "{}", ran.err);
    assert!(!place.path("cache").exists());

    let catalog = Connection::open(place.path("catalog")).expect("a database");
    let number = |query| catalog.query_row(query, [], |row| row.get::<_, i64>(0)).expect(query);
    assert_eq!(number("SELECT count(*) FROM groups"), number("SELECT CAST(value AS INTEGER) FROM image WHERE property = 'groups'"));
    let fs = filesystem(&place.image);
    let free = (1..131_072).filter(|at| !fs.is_allocated(Block::new(*at).expect("not 0"))).count();
    assert_eq!(number("SELECT sum(free) FROM groups"), free as i64);
    let block = number("SELECT block FROM pages ORDER BY pointers DESC") as u64;
    let first = number("SELECT first_pointer FROM pages ORDER BY pointers DESC") as u32;
    assert!(fs.read_home(Block::new(block).expect("not 0")).expect("readable").starts_with(&first.to_le_bytes()));
}

/// What else the one pass sees is noted too: where files of known kinds begin, and what stands among rows of tables.
#[test]
fn beginnings_and_rows_are_noted() {
    let disk = Disk::new("-t ext3 -b 4096", "32M");
    let row = |number: usize| [&[1, 0, 97][..], &[0x80 | number as u8; 97]].concat();
    let png = [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..], &[0xa5; 9000]].concat();
    disk.mounted("ext3", "noatime", |at| {
        fs::write(at.join("image"), &png).unwrap();
        fs::write(at.join("other"), [0x5a; 500_000]).unwrap();
        fs::write(at.join("rows"), (0..2000).flat_map(row).collect::<Vec<u8>>()).unwrap();
        rustix::fs::sync();
        ["image", "other", "rows"].iter().for_each(|name| fs::remove_file(at.join(name)).unwrap());
    });
    let folder = tempfile::tempdir_in(folder()).expect("a folder");
    let catalog = folder.path().join("catalog");
    let status = common::undelfs().arg("scan").arg(disk.image()).arg("--catalog").arg(&catalog).stdout(Stdio::null()).status();
    assert!(status.expect("the program runs").success());
    let catalog = Connection::open(catalog).expect("a database");
    let head: (i64, String, String) =
        catalog.query_row("SELECT * FROM heads", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("one head");
    let first = filesystem(&disk.image()).read_home(Block::new(head.0 as u64).expect("not 0")).expect("readable");
    assert!(first.starts_with(&png[..16]) && (head.1.as_str(), head.2.as_str()) == ("png", "image"), "{head:?}");
    let rows: Vec<u8> = catalog.query_row("SELECT rows FROM groups WHERE rows IS NOT NULL", [], |row| row.get(0)).expect("one group");
    let rows = RoaringTreemap::deserialize_from(&rows[..]).expect("a bitmap");
    // With what stands directly beside them, up to 64 KiB on each side.
    let own = 2000 * 100 / 4096 + 1;
    assert!((own..=own + 32).contains(&rows.len()), "{rows:?}");
}

/// Those of images that are long gone go, and nothing else does.
#[test]
fn catalogs_that_nobody_uses_are_removed() {
    let place = Place::new();
    place.run("scan", &[]);
    let folder = place.path("cache/undelfs");
    let own = fs::read_dir(&folder).expect("a folder").flatten().next().expect("a catalog").path();
    let put = |name: &str, content: &Path, days: u64| {
        let path = folder.join(name);
        fs::copy(content, &path).expect("copied");
        let times = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60));
        File::options().write(true).open(path).and_then(|file| file.set_times(times)).expect("set back");
    };
    fs::write(place.path("text"), "no catalog").unwrap();
    Connection::open(place.path("other")).unwrap().execute_batch("CREATE TABLE mine (one)").unwrap();
    let kept = [
        ("recent.sqlite", &own, 100),
        ("catalog.old", &own, 300),
        ("text.sqlite", &place.path("text"), 300),
        ("other.sqlite", &place.path("other"), 300),
    ];
    kept.iter().for_each(|(name, content, days)| put(name, content, *days));
    symlink(&own, folder.join("link.sqlite")).unwrap();
    (0..61).for_each(|nth| put(&format!("many{nth}.sqlite"), &own, 1));
    put("old.sqlite", &own, 181);
    // The own one, 61 of yesterday, that of last month and the recent one are 64; what is older is too many.
    put("month.sqlite", &own, 29);
    put("beyond.sqlite", &own, 101);
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
    File::options().write(true).open(&own).and_then(|file| file.set_times(times)).expect("set back");
    let names =
        || -> BTreeSet<String> { fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect() };
    let mut expected = names();
    // Named catalogs are nobody's caches.
    place.scan("catalog");
    assert_eq!(names(), expected);
    let ran = place.run("list", &["-v"]);
    assert!(ran.err.contains("4 of 4 groups are known") && ran.err.contains("old.sqlite: not used for long, removed"), "{}", ran.err);
    for gone in ["old.sqlite", "beyond.sqlite"] {
        assert!(expected.remove(gone));
    }
    assert_eq!(names(), expected);
    // It was used just now.
    assert!(own.metadata().unwrap().modified().unwrap().elapsed().is_ok_and(|ago| ago < Duration::from_secs(60)));
}

/// Also where its time is set back.
#[test]
fn a_change_of_the_image_is_noticed() {
    let place = Place::new();
    place.scan("catalog");
    let before = place.list("catalog").out;
    let block: u64 = {
        let catalog = Connection::open(place.path("catalog")).expect("a database");
        catalog.query_row("SELECT block FROM pages WHERE pointers = 1024 LIMIT 1", [], |row| row.get(0)).expect("a page")
    };
    let file = place.edit();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(&[b'x'; 4096], block * 4096).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
    drop(file);
    let ran = place.list("catalog");
    assert!(ran.err.contains("stale, made anew (changed differs)") && ran.err.contains("0 of 4 groups are known"), "{}", ran.err);
    assert_ne!(ran.out, before);
    assert_eq!(ran.out, place.truth());
    assert!(place.list("catalog").err.contains("4 of 4 groups are known"));
}

/// Of a device the system does not say when it was written to: a group is looked through again where its bitmap is another one.
#[test]
fn a_change_of_a_device_is_noticed() {
    let place = Place::new();
    let output = Command::new("losetup").args(["-f", "--show"]).arg(&place.image).output().expect("losetup runs");
    assert!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
    let device = Loop(PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim()));
    let catalog = place.path("catalog");
    let run =
        |command, options: &[&OsStr]| -> Ran { place.command_on(&device.0, command, options).output().expect("the program runs").into() };
    let with_catalog = ["-v".as_ref(), "--json".as_ref(), "--catalog".as_ref(), catalog.as_os_str()];
    assert!(run("list", &with_catalog).err.contains("0 of 4 groups are known"));
    assert!(run("list", &with_catalog).err.contains("4 of 4 groups are known"));
    let fs = filesystem(&device.0);
    let (bitmap, mut bits) = (fs.geometry().group(2).expect("a group").block_bitmap, (*fs.block_bitmap(2).expect("readable")).clone());
    bits[3000..].fill(0xff);
    let file = OpenOptions::new().write(true).open(&device.0).expect("the device opens");
    file.write_all_at(&bits, bitmap.get() * 4096).expect("written");
    file.sync_all().expect("synced");
    let ran = run("list", &with_catalog);
    assert!(ran.err.contains("3 of 4 groups are known"), "{}", ran.err);
    assert_eq!(ran.out, run("list", &["--json".as_ref(), "--no-catalog".as_ref()]).out);
}

struct Loop(PathBuf);

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["-d", self.0.to_str().expect("a path")]);
    }
}

/// A filesystem whose free space is full of blocks that could all be indirect blocks: it takes long to look through them.
fn slow() -> Disk {
    let disk = Disk::new("-t ext3 -b 4096", "1G");
    disk.mounted("ext4", "nodelalloc", |point| {
        let mut file = File::create(point.join("file")).expect("created");
        let mut bytes = vec![];
        // All of one group and more, of which not two are the same; neither are they sorted, so that no chain is made of them.
        for block in 0..160_000u32 {
            bytes.extend((0..1024).flat_map(|word| (block * 7919 % 150_000 + 70_000 + word).to_le_bytes()));
            if block % 256 == 255 {
                file.write_all(&bytes).expect("written");
                bytes.clear();
            }
        }
        // What is deleted before it is written never is.
        file.sync_all().expect("written");
        fs::remove_file(point.join("file")).expect("removed");
    });
    disk
}

#[test]
fn a_killed_scan_goes_on_where_it_was() {
    let disk = slow();
    let folder = tempfile::tempdir().expect("a folder");
    let (catalog, whole) = (folder.path().join("catalog"), folder.path().join("whole"));
    let scan = |catalog: &Path, more: &[&str]| {
        let mut command = common::undelfs();
        command.arg("scan").arg(disk.image()).arg("--catalog").arg(catalog).args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let groups = |catalog: &Path| -> Vec<u64> {
        let Ok(catalog) = Connection::open(catalog) else { return vec![] };
        let Ok(mut statement) = catalog.prepare("SELECT number FROM groups ORDER BY number") else { return vec![] };
        statement.query_map([], |row| row.get(0)).map_or(vec![], |rows| rows.flatten().collect())
    };
    let mut child = scan(&catalog, &["--group", "5-6", "--near", "inode:12"]).spawn().expect("the program runs");
    let begun = Instant::now();
    while !catalog.exists() || groups(&catalog).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no group is done");
        sleep(Duration::from_millis(5));
    }
    assert!(child.try_wait().expect("a child").is_none(), "killed too late");
    child.kill().expect("killed");
    child.wait().expect("a child");
    let done = groups(&catalog);
    assert!(done.contains(&5) && done.len() < 8, "{done:?}");

    let ran: Ran = scan(&catalog, &[]).output().expect("the program runs").into();
    assert!(ran.status == 0 && ran.out.contains(&format!("({} of 8 groups were known)", done.len())), "{}{}", ran.out, ran.err);
    scan(&whole, &[]).status().expect("the program runs");
    let content = |catalog: &Path| {
        let catalog = Connection::open(catalog).expect("a database");
        let mut rows = vec![];
        for query in ["SELECT * FROM image", "SELECT * FROM groups", "SELECT * FROM pages", "SELECT * FROM integers"] {
            let mut statement = catalog.prepare(query).expect("a table");
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at)).collect();
            let found: Result<Vec<Vec<_>>, _> = statement.query_map([], row).expect("rows").collect();
            rows.extend(found.expect("rows"));
        }
        rows
    };
    assert!(content(&catalog).len() > 100_000 && content(&catalog) == content(&whole));
}

#[test]
fn other_programs_are_told_how_far_it_is() {
    let place = Place::new();
    let ran = place.run("scan", &["--progress", "json"]);
    let lines: Vec<serde_json::Value> = ran.err.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let scan = lines.iter().skip_while(|line| line["progress"] == "reading inodes");
    assert!(scan.clone().all(|line| line["progress"] == "looking through free blocks" && line["unit"] == "bytes") && scan.count() > 0);
    let last = lines.last().expect("a line");
    assert!(last["done"] == last["total"] && last["found"] == 39, "{last}");
}

#[test]
fn without_a_place_for_it_work_goes_on() {
    let place = Place::new();
    let expected = place.truth();
    fs::write(place.path("cache"), "not a folder").unwrap();
    let ran = place.run("list", &["--json"]);
    assert_eq!((ran.status, ran.out), (0, expected));
    assert!(ran.err.contains("warning: catalog ") && ran.err.lines().count() == 1, "{}", ran.err);
    // For a scan, it is the purpose.
    let ran = place.run("scan", &[]);
    assert!(ran.status == 1 && ran.out.is_empty() && ran.err.lines().count() == 1, "{}{}", ran.out, ran.err);
    assert_eq!(place.run("scan", &["--no-catalog"]).status, 2);
}

/// Which blocks of the inode tables hold anything is kept too, and noted anew where it makes no sense.
#[test]
fn inode_tables_are_read_once() {
    let place = Place::new();
    let expected = place.truth();
    place.scan("catalog");
    let catalog = || Connection::open(place.path("catalog")).expect("a database");
    let length = || catalog().query_row("SELECT length(written) FROM inode_tables", [], |row| row.get::<_, u64>(0)).expect("it is kept");
    let kept = length();
    assert!(kept > 20 && place.list("catalog").out == expected);
    for nonsense in ["UPDATE inode_tables SET written = x'00'", "DELETE FROM inode_tables"] {
        catalog().execute_batch(nonsense).expect(nonsense);
        assert_eq!(place.list("catalog").out, expected, "{nonsense}");
        assert_eq!(length(), kept, "{nonsense}");
    }
}

#[test]
fn a_locked_catalog_is_a_warning() {
    let place = Place::new();
    place.scan("catalog");
    let other = Connection::open(place.path("catalog")).expect("a database");
    other.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    let ran = place.list("catalog");
    assert!(ran.status == 0 && ran.err.contains("warning: ") && ran.err.contains("database is locked"), "{}", ran.err);
    assert_eq!(ran.out, place.truth());
}

#[test]
fn a_damaged_catalog_is_made_anew() {
    let place = Place::new();
    let expected = place.truth();
    place.scan("catalog");
    let length = fs::metadata(place.path("catalog")).unwrap().len();
    let file = OpenOptions::new().write(true).open(place.path("catalog")).unwrap();
    // From the second page on: the first says that it is a catalog.
    file.write_all_at(&vec![0xa5; length as usize - 4096], 4096).unwrap();
    let ran = place.list("catalog");
    assert!(ran.status == 0 && ran.out == expected && ran.err.contains("0 of 4 groups are known"), "{}", ran.err);
    assert!(place.list("catalog").err.contains("4 of 4 groups are known"));
    // What is well-formed, but cannot be.
    for nonsense in [
        "UPDATE pages SET end_index = 4000000000",
        "UPDATE pages SET first_pointer = 0",
        "UPDATE pages SET breaks = -1",
        "UPDATE groups SET written = x'00'",
        "UPDATE groups SET number = number + 1000",
        "DROP TABLE integers",
    ] {
        Connection::open(place.path("catalog")).expect("a database").execute_batch(nonsense).expect(nonsense);
        let ran = place.list("catalog");
        assert!(ran.status == 0 && ran.out == expected && ran.err.contains("0 of 4 groups are known"), "{nonsense}: {}", ran.err);
    }
}

#[test]
fn other_files_are_left_alone() {
    let place = Place::new();
    fs::write(place.path("text"), "a letter").unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    Connection::open(place.path("other")).unwrap().execute_batch("CREATE TABLE mine (one); INSERT INTO mine VALUES (1)").unwrap();
    symlink(place.path("nowhere"), place.path("link")).unwrap();
    let other = fs::read(place.path("other")).unwrap();
    for command in ["scan", "list", "info"] {
        for name in ["text", "folder", "other", "link", "disk.img"] {
            let catalog = place.path(name);
            let ran: Ran = place.command(command, ["--catalog".as_ref(), catalog.as_os_str()]).output().expect("the program runs").into();
            let expected = format!("undelfs: {} is not a catalog of undelfs; it is left as it is\n", catalog.display());
            assert_eq!((ran.status, ran.out.as_str(), ran.err), (2, "", expected));
        }
    }
    assert_eq!((fs::read(place.path("text")).unwrap(), fs::read(place.path("other")).unwrap()), (b"a letter".to_vec(), other));
    assert!(!place.path("nowhere").exists() && place.path("folder").read_dir().unwrap().next().is_none());
}

#[test]
fn nothing_is_written_to_what_is_recovered() {
    let disk = Disk::new("-t ext3", "32M");
    disk.mounted("ext4", "rw", |point| {
        for command in ["scan", "list"] {
            let catalog = point.join("catalog");
            let output = common::undelfs().arg(command).arg(disk.image()).arg("--force").arg("--catalog").arg(&catalog).output();
            let ran: Ran = output.expect("the program runs").into();
            let expected = format!("undelfs: {}: is on the filesystem to be recovered, where nothing may be written\n", catalog.display());
            assert_eq!((ran.status, ran.out.as_str(), ran.err), (1, "", expected));
        }
        // The user's caches are there: no catalog is asked for, so that is no reason not to go on.
        let output = common::undelfs().args(["list", "--force"]).arg(disk.image()).env("XDG_CACHE_HOME", point.join("cache")).output();
        let ran: Ran = output.expect("the program runs").into();
        assert!(ran.status == 0 && ran.err.contains("is on the filesystem to be recovered"), "{}", ran.err);
        assert_eq!(fs::read_dir(point).unwrap().count(), 1, "lost+found");
    });
}
