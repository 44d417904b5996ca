//! The scan behind a mount: what the journal remembers at once, the rest when it is found, and nothing that was there changes its meaning.

use crate::common::disk::run;
use crate::common::medium::Medium;
use crate::common::{folder, image as made};
use crate::support::{Mount, sha256, status, truth, undelfs, until};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BLOCK: u64 = 4096;

/// A filesystem that has lost four large files of which only indirect blocks tell, all in its second group, and a small one that the journal
/// remembers.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir_in(folder()).expect("a folder") };
        let (image, point) = (place.image(), place.path("mnt"));
        run("cp", &["--sparse=always", made("four", &[]).to_str().expect("a path"), image.to_str().expect("a path")]);
        fs::create_dir(&point).expect("a mount point");
        run("mount", &["-t", "ext3", "-o", "loop", image.to_str().expect("a path"), point.to_str().expect("a path")]);
        let file = point.join("note");
        fs::write(&file, NOTE.repeat(1000))
            .and_then(|()| File::open(&file)?.sync_all())
            .and_then(|()| fs::remove_file(&file))
            .expect("lost");
        run("umount", &[point.to_str().expect("a path")]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn image(&self) -> PathBuf {
        self.path("disk.img")
    }

    /// Groups in its catalog.
    fn groups(&self) -> i64 {
        let Ok(catalog) = Connection::open(self.path("catalog")) else { return 0 };
        catalog.query_row("SELECT count(*) FROM groups", [], |row| row.get(0)).unwrap_or(0)
    }

    fn options(&self, scan: &str) -> Vec<String> {
        vec![format!("--scan={scan}"), "--catalog".into(), self.path("catalog").to_str().expect("a path").into()]
    }
}

const NOTE: &[u8] = b"what the journal remembers\n";

fn mount(image: &Path, options: &[String]) -> (Mount, String) {
    let mount = Mount::point();
    let output = mount.try_mount(image, &options.iter().map(String::as_str).collect::<Vec<_>>());
    let (code, said) = status(&output);
    assert_eq!(code, 0, "{said}");
    (mount, said)
}

/// What the mount says of the scan.
fn scan(mount: &Mount) -> String {
    let value = xattr::get(mount.path(), "user.undelfs.scan").expect("the mount answers").expect("it is there");
    String::from_utf8(value).expect("UTF-8")
}

/// All files of a mount with their inode numbers, as `stat` and as the folder has them.
fn inodes(mount: &Mount) -> BTreeMap<PathBuf, (u64, u64)> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![mount.path()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let metadata = entry.metadata().expect("it is there");
            found.insert(entry.path(), (metadata.ino(), entry.ino()));
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

fn read(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().expect("open").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("readable");
    bytes
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_the_scan_finds_appears_and_what_was_there_stays() {
    let place = Place::new();
    // Beyond all indirect blocks of the lost files, and in free space.
    let medium = Medium::new(&place.image()).withhold(184_100 * BLOCK..190_000 * BLOCK);
    let begun = Instant::now();
    let (mount, said) = mount(&medium.image(), &place.options("background"));
    assert!(begun.elapsed() < Duration::from_secs(5) && said.contains("user.undelfs.scan"), "{said}");
    let root = mount.path();
    assert!(scan(&mount).starts_with("running 0."), "{}", scan(&mount));
    let report = || fs::read(root.join("report.json")).expect("readable");
    let parsed = |bytes: &[u8]| serde_json::from_slice::<Vec<Value>>(bytes).expect("an array");
    assert!(parsed(&report())[0]["scan"].as_str().is_some_and(|scan| scan.starts_with("running 0.")));
    assert!(fs::read_to_string(root.join("ABOUT.txt")).unwrap().starts_with("Scan of free space: running 0."));
    let note = root.join("by-path/note");
    assert_eq!(fs::read(&note).unwrap(), NOTE.repeat(1000));
    let first = inodes(&mount);
    let held = ["by-path/note", "report.json", "unclaimed.img"].map(|name| File::open(root.join(name)).expect("it opens"));
    let [held_note, held_report, held_unclaimed] = &held;
    let report_length = held_report.metadata().unwrap().len();

    // What was found so far, while the medium gives nothing more.
    until("waiting for the medium", || medium.is_waited_for());
    let unfinished = root.join("orphans/unfinished");
    until("found in part", || fs::read_dir(&unfinished).is_ok_and(|entries| entries.count() == 4));
    assert!(scan(&mount).starts_with("running 0."));
    assert_eq!(names(&root.join("orphans")), BTreeSet::from(["unfinished".to_owned()]));
    let tops: BTreeSet<String> =
        truth(&made("four", &[])).iter().flat_map(|life| life.indirect.iter().max().map(|top| top.2.to_string())).collect();
    assert_eq!(names(&unfinished), tops);
    let mut kept = vec![];
    for name in &tops {
        let path = unfinished.join(name);
        let get = |name| String::from_utf8(xattr::get(&path, name).unwrap().unwrap()).unwrap();
        assert!(get("user.undelfs.state") == "partial" && get("user.undelfs.recovered") < "1.0000".into(), "{name}");
        let file = File::open(&path).unwrap();
        let mut head = vec![0; 1 << 20];
        file.read_exact_at(&mut head, 20 << 20).unwrap();
        kept.push((name, path.metadata().unwrap().ino(), head, file));
    }
    let states: Vec<_> = parsed(&report())[1..].iter().filter(|file| file["inode"].is_null()).map(|file| file["state"].clone()).collect();
    assert_eq!(states, vec!["partial"; 4]);
    for (path, numbers) in &first {
        assert!(inodes(&mount)[path] == *numbers && numbers.0 == numbers.1, "{} {numbers:?}", path.display());
    }

    medium.release();
    until("complete", || scan(&mount) == "complete");
    assert!(!unfinished.exists(), "what was told the kernel counts at once");
    // The same as if it had been waited for.
    let waited = Mount::new(&place.image(), &["--scan=wait", "--no-catalog"]);
    assert!(report() == fs::read(waited.path().join("report.json")).unwrap());
    assert_eq!(scan(&waited), "complete");
    let relative = |mount: &Mount| -> BTreeSet<PathBuf> {
        inodes(mount).into_keys().map(|path| path.strip_prefix(mount.path()).expect("inside").to_owned()).collect()
    };
    assert_eq!(relative(&mount), relative(&waited));
    let last = inodes(&mount);
    for (path, numbers) in &first {
        assert!(last[path] == *numbers, "{} {numbers:?} {:?}", path.display(), last[path]);
    }
    let whole: BTreeMap<_, _> =
        truth(&made("four", &[])).into_iter().map(|life| (life.indirect.iter().max().expect("a tree").2, life)).collect();
    let mut right = 0;
    for file in parsed(&report()).iter().filter(|file| file["top"].is_u64()) {
        let (path, top) = (root.join(file["mount_path"].as_str().unwrap()), file["top"].as_u64().unwrap());
        right += u64::from(file["state"] == "complete" && Some(sha256(&path).as_str()) == whole[&top].sha256.as_deref());
        let (_, inode, head, open) = kept.iter().find(|(name, ..)| **name == top.to_string()).expect("it was there before");
        assert_eq!(path.metadata().unwrap().ino(), *inode);
        for file in [open, &File::open(&path).unwrap()] {
            let mut now = vec![0; head.len()];
            file.read_exact_at(&mut now, 20 << 20).unwrap();
            assert!(now == *head, "{}", path.display());
        }
    }
    assert!(right >= 3, "{right} of 4 are right");

    // What is open is what it was when it was opened.
    assert_eq!(read(held_note), NOTE.repeat(1000));
    assert!(held_report.metadata().unwrap().len() == report_length && parsed(&read(held_report)).len() < parsed(&report()).len());
    let claimed = whole.values().flat_map(|life| life.runs.iter().flatten()).map(|run| run.1).find(|block| {
        let mut bytes = vec![0; BLOCK as usize];
        File::open(root.join("unclaimed.img")).unwrap().read_exact_at(&mut bytes, block * BLOCK).unwrap();
        bytes.iter().all(|byte| *byte == 0)
    });
    let (mut before, mut disk) = (vec![0; BLOCK as usize], vec![0; BLOCK as usize]);
    let offset = claimed.expect("a block that was claimed") * BLOCK;
    held_unclaimed.read_exact_at(&mut before, offset).unwrap();
    File::open(place.image()).unwrap().read_exact_at(&mut disk, offset).unwrap();
    assert!(before == disk && disk.iter().any(|byte| *byte != 0));
    drop((held, kept));
    mount.signal("TERM");
    mount.gone();
}

#[test]
fn what_would_take_longer_than_a_minute_goes_on_behind_and_ends_at_once() {
    let place = Place::new();
    let medium = Medium::new(&place.image()).slow(Duration::from_millis(100));
    let begun = Instant::now();
    let (mount, said) = mount(&medium.image(), &place.options("auto"));
    assert!(begun.elapsed() > Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(said.contains("user.undelfs.scan") && scan(&mount).starts_with("running 0."), "{said}");
    assert_eq!(fs::read(mount.path().join("by-path/note")).unwrap(), NOTE.repeat(1000));
    let ending = Instant::now();
    mount.signal("TERM");
    mount.gone();
    assert!(ending.elapsed() < Duration::from_secs(5), "{:?}", ending.elapsed());
}

#[test]
fn what_was_found_behind_a_mount_is_kept() {
    let place = Place::new();
    let medium = Medium::new(&place.image()).withhold(184_100 * BLOCK..190_000 * BLOCK);
    let (behind, _) = mount(&medium.image(), &place.options("background"));
    until("waiting for the medium", || medium.is_waited_for());
    until("in the catalog", || place.groups() > 0);
    behind.signal("TERM");
    until("unmounted", || !behind.is_mounted());
    medium.release();
    behind.gone();
    let known = place.groups();
    assert!((1..=8).contains(&known), "{known}");

    // What is quick is waited for, and goes on from there.
    let mut again = undelfs(["mount".as_ref(), "-v".as_ref(), medium.image().as_os_str(), behind.path().as_os_str()]);
    let (code, said) = status(&again.args(place.options("auto")).stdout(Stdio::null()).output().unwrap());
    assert!(code == 0 && said.contains(&format!("{known} of 8 groups are known")) && !said.contains("user.undelfs.scan"), "{said}");
    assert_eq!(scan(&behind), "complete");
    behind.signal("TERM");
    behind.gone();
    // With a complete catalog there is nothing to wait for, nor to go on with.
    let medium = medium.withhold(184_100 * BLOCK..190_000 * BLOCK);
    let (known, said) = mount(&medium.image(), &place.options("background"));
    assert_eq!((scan(&known).as_str(), said.as_str()), ("complete", ""));
    let mut text = String::new();
    File::open(known.path().join("ABOUT.txt")).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("user.undelfs.scan") && !text.contains("Scan of free space"), "{text}");
    known.signal("TERM");
    known.gone();
}

#[test]
fn only_a_mount_has_something_to_go_on_behind() {
    let image = made("tree", &[]);
    for arguments in [&["list"][..], &["info"], &["scan"], &["show", "/lost"], &["copy", "/lost", "/nowhere"]] {
        let (command, more) = arguments.split_first().unwrap();
        let output = undelfs([command.as_ref(), image.as_os_str()]).args(more).args(["--scan", "background"]).output().unwrap();
        let (code, said) = status(&output);
        assert!(code == 2 && said.contains("--scan background is for mount only") && said.lines().count() == 1, "{command}: {said}");
    }
}
