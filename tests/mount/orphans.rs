//! Files whose inode is gone, and what no lost file explains.

use crate::common::image as made;
use crate::common::truth::Life;
use crate::support::{Mount, sha256, truth, undelfs};
use rustix::fs::SeekFrom;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

const BLOCK: u64 = 4096;

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The name that a life must have among the orphans, from the topmost of its indirect blocks.
fn name(life: &Life, extension: &str) -> String {
    let (.., top) = life.indirect.iter().max_by_key(|(level, ..)| *level).unwrap();
    format!("{top}{extension}")
}

#[test]
fn orphans_have_the_number_of_a_block_and_the_extension_of_their_content() {
    let image = made("nameless", &[]);
    let mount = Mount::new(&image, &[]);
    let root = mount.path();
    assert_eq!(
        names(&root).into_iter().collect::<Vec<_>>(),
        ["ABOUT.txt", "by-inode", "by-path", "orphans", "report.json", "unclaimed.img"]
    );
    let lives = truth(&image);
    let find = |path: &[u8]| lives.iter().find(|life| life.paths[0] == path).unwrap();
    let orphans = [(find(b"/docs/book.pdf"), ".pdf", "document"), (find(b"/docs/noise"), "", "unknown")];
    let mut expected = BTreeSet::from(["by-kind".to_owned()]);
    expected.extend(orphans.iter().map(|(life, extension, _)| name(life, extension)));
    assert_eq!(names(&root.join("orphans")), expected);
    for (life, extension, kind) in orphans {
        let name = name(life, extension);
        let path = root.join("orphans").join(&name);
        assert_eq!(sha256(&path), life.sha256.as_deref().unwrap());
        let (metadata, again) = (fs::metadata(&path).unwrap(), fs::metadata(root.join("orphans/by-kind").join(kind).join(&name)).unwrap());
        assert_eq!((metadata.ino(), metadata.nlink(), metadata.len()), (again.ino(), 2, life.size));
        assert_eq!(metadata.mode() & 0o7777, 0o400, "whose it was nobody knows");
        let get = |name: &str| xattr::get(&path, name).unwrap().map(|value| String::from_utf8(value).unwrap());
        assert_eq!(get("user.undelfs.chain"), Some(name.trim_end_matches(extension).to_owned()));
        assert_eq!((get("user.undelfs.inode"), get("user.undelfs.generation"), get("user.undelfs.path")), (None, None, None));
    }
    let report: Value = serde_json::from_slice(&fs::read(root.join("report.json")).unwrap()).unwrap();
    let paths: BTreeSet<&str> = report.as_array().unwrap().iter().map(|file| file["mount_path"].as_str().unwrap()).collect();
    let shown = expected.iter().filter(|name| *name != "by-kind").map(|name| format!("orphans/{name}")).collect::<Vec<_>>();
    assert_eq!(paths, shown.iter().map(String::as_str).collect());
    let about = fs::read_to_string(root.join("ABOUT.txt")).unwrap();
    assert!(about.contains("Of 2 the inode is gone") && about.contains("unclaimed.img"), "{about}");
}

#[test]
fn orphans_is_there_when_there_are_none() {
    let mount = Mount::new(&made("tree", &[]), &[]);
    assert!(names(&mount.path().join("orphans")).is_empty());
}

/// Ranges of data, as programs find them.
fn data(file: &File) -> Vec<(u64, u64)> {
    let (mut ranges, mut at) = (vec![], 0);
    while let Ok(data) = rustix::fs::seek(file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap();
        ranges.push((data, at));
    }
    ranges
}

#[test]
fn unclaimed_space_is_in_its_place_and_nothing_else_is() {
    let image = made("nameless", &[]);
    // Without a scan nothing explains the blocks of the lost files.
    let mount = Mount::new(&image, &["-o", "scan=no"]);
    assert!(names(&mount.path().join("orphans")).is_empty());
    let path = mount.path().join("unclaimed.img");
    let (file, original) = (File::open(&path).unwrap(), File::open(&image).unwrap());
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o7777), (original.metadata().unwrap().len(), 0o400));
    let ranges = data(&file);
    assert_eq!(ranges.iter().map(|(from, to)| to - from).sum::<u64>(), metadata.blocks() * 512);
    let is_data = |block: u64| ranges.iter().any(|(from, to)| *from <= block * BLOCK && (block + 1) * BLOCK <= *to);
    for life in truth(&image) {
        let blocks = life.runs.iter().flatten().flat_map(|(_, block, count)| *block..block + count);
        for block in blocks.chain(life.indirect.iter().map(|(.., block)| *block)) {
            assert!(is_data(block), "block {block}");
        }
    }
    let (mut found, mut expected) = (vec![0; BLOCK as usize], vec![0; BLOCK as usize]);
    for block in 0..metadata.len() / BLOCK {
        file.read_exact_at(&mut found, block * BLOCK).unwrap();
        match is_data(block) {
            true => original.read_exact_at(&mut expected, block * BLOCK).unwrap(),
            false => expected.fill(0),
        }
        assert!(found == expected, "block {block}");
    }
    // The superblock is in use.
    assert!(!is_data(0));
    let copied = tempfile::tempdir().unwrap();
    let output = Command::new("cp").arg("--sparse=always").arg(&path).arg(copied.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sparse = copied.path().join("unclaimed.img");
    assert!(fs::metadata(&sparse).unwrap().blocks() <= metadata.blocks() + 64);
    assert_eq!(sha256(&sparse), sha256(&path));

    let explained = Mount::new(&image, &[]);
    let left = data(&File::open(explained.path().join("unclaimed.img")).unwrap());
    assert!(left.iter().map(|(from, to)| to - from).sum::<u64>() <= metadata.blocks() * 512 - 8000 * BLOCK);
}

/// Whose free space was nobody knows, so other users may not look at it, nor at what has no owner any more.
#[test]
fn others_do_not_see_what_has_no_owner() {
    let image = made("nameless", &[]);
    let mount = Mount::new(&image, &["-o", "allow_other"]);
    let orphan = name(truth(&image).iter().find(|life| life.paths[0] == b"/docs/noise").unwrap(), "");
    for (name, seen) in [("ABOUT.txt".to_owned(), true), ("unclaimed.img".to_owned(), false), (format!("orphans/{orphan}"), false)] {
        let mut head = Command::new("runuser");
        head.args(["-u", "nobody", "--", "head", "-c", "1"]).arg(mount.path().join(&name));
        assert_eq!(head.output().unwrap().status.success(), seen, "{name}");
    }
}

#[test]
fn a_hint_that_makes_no_sense_mounts_nothing() {
    let mount = Mount::point();
    for (option, words) in [
        ("hint=path=/a\\,inode=many", "inode=many"),
        ("scan=perhaps", "auto, wait, background and no are known"),
        ("hint=nothing", "has no value"),
    ] {
        let output =
            undelfs(["mount".as_ref(), made("nameless", &[]).as_os_str(), mount.path().as_os_str(), "-o".as_ref(), option.as_ref()])
                .output()
                .unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && err.contains(words) && err.lines().count() == 1, "{option}: {err}");
    }
    assert!(!mount.is_mounted());
}
