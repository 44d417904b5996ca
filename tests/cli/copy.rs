//! `undelfs copy`.

use crate::common::truth::Life;
use crate::support::{Ran, life, tree, truth, undelfs};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn copy(options: &[&str], dest: &Path) -> Ran {
    undelfs(["copy".as_ref(), tree().as_os_str()].into_iter().chain(options.iter().map(AsRef::as_ref)).chain([dest.as_os_str()]))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn below(folder: &Path, path: &[u8]) -> PathBuf {
    folder.join(OsStr::from_bytes(path.strip_prefix(b"/").expect("a full path")))
}

/// Whether `path` is what `life` was.
fn check(path: &Path, life: &Life) {
    let metadata = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.display();
    // That of a folder changes while it is being removed, and any of its copies may be the last.
    if !life.is("dir") {
        assert_eq!(metadata.mtime(), life.mtime as i64, "{name}");
    }
    assert_eq!((metadata.uid(), metadata.gid()), (life.uid, life.gid), "{name}");
    match life.kind.as_str() {
        "symlink" => {
            let target = fs::read_link(path).expect("a link");
            assert_eq!(target.as_os_str().as_bytes(), life.target(), "{name}");
            return;
        }
        "dir" => assert!(metadata.is_dir(), "{name}"),
        _ => {
            assert_eq!(metadata.len(), life.size, "{name}");
            let hash: String = Sha256::digest(fs::read(path).expect("readable")).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, life.sha256(), "{name}");
            assert_eq!(metadata.nlink() as usize, life.paths.len(), "{name}");
        }
    }
    assert_eq!(metadata.mode() & 0o7777, life.mode() & 0o777, "{name}");
}

#[test]
fn a_tree_comes_back_whole() {
    let dest = folder();
    let ran = copy(&["/lost"], dest.path()).done();
    let truth = truth();
    for life in &truth {
        life.paths.iter().for_each(|path| check(&below(dest.path(), path), life));
    }
    let names: usize = truth.iter().filter(|life| !life.is("dir")).map(|life| life.paths.len()).sum();
    assert!(ran.err.starts_with(&format!("{names} files copied, ")), "{}", ran.err);

    // Once more: all there. With some gone and one altered: those come back, that one stays as it is.
    let again = copy(&["/lost"], dest.path()).done();
    assert_eq!(again.err, format!("0 files copied, 0 B; {names} already there\n"));
    for gone in ["lost/more/big", "lost/more/0/other name", "lost/more/slow"] {
        fs::remove_file(dest.path().join(gone)).expect("removed");
    }
    let leftover = dest.path().join("lost/more/.big.undelfs-part");
    fs::write(&leftover, "what an interrupted run has left").expect("written");
    let altered = dest.path().join("lost/level 0/at 0");
    fs::write(&altered, "mine").expect("written");
    let third = copy(&["/lost"], dest.path());
    assert_eq!(third.status, 1);
    let mine = format!("undelfs: {}: exists already, and differs (--force replaces it)\n", altered.display());
    assert!(third.err.starts_with(&mine) && third.err.ends_with("undelfs: 1 file was not copied\n"), "{}", third.err);
    assert_eq!(fs::read_to_string(&altered).ok().as_deref(), Some("mine"));
    assert!(!leftover.exists());
    copy(&["--force", "-q", "/lost"], dest.path()).done();
    for life in &truth {
        life.paths.iter().for_each(|path| check(&below(dest.path(), path), life));
    }
}

#[test]
fn one_file_under_a_new_name() {
    let dest = folder();
    let big = dest.path().join("new name");
    copy(&["/lost/more/big"], &big).done();
    let life = life("/lost/more/big");
    check(&big, &life);
    fs::write(&big, "mine").expect("written");
    let ran = copy(&["/lost/more/big"], &big);
    assert_eq!((ran.status, ran.err), (1, format!("undelfs: {}: exists already (--force replaces it)\n", big.display())));
    assert_eq!(fs::read_to_string(&big).ok().as_deref(), Some("mine"));
    copy(&["--force", "/lost/more/big"], &big).done();
    check(&big, &life);
    assert_eq!(fs::read_dir(dest.path()).expect("a list").count(), 1, "nothing else is left there");
}

/// Without memory for block maps each is resolved again and again, to the same.
#[test]
fn without_a_cache() {
    let dest = folder();
    copy(&["--cache", "0", "/lost/more/big"], &dest.path().join("big")).done();
    check(&dest.path().join("big"), &life("/lost/more/big"));
}

#[test]
fn several_files_into_a_folder() {
    let dest = folder();
    let new = dest.path().join("new");
    copy(&["/lost/more/big", "/lost/absolute", "/lost/more/11"], &new).done();
    for name in ["big", "absolute", "11"] {
        assert!(new.join(name).symlink_metadata().is_ok(), "{name}");
    }
    let ran = copy(&["/lost/more/big", "by-path/lost/more/big"], &new);
    assert_eq!((ran.status, ran.err.as_str()), (2, "undelfs: several of these files are called big: copy them into different folders\n"));
}

#[test]
fn a_link_at_the_destination_is_not_followed() {
    let (dest, elsewhere) = (folder(), folder());
    symlink(elsewhere.path(), dest.path().join("lost")).expect("a link");
    let ran = copy(&["/lost"], dest.path());
    assert_eq!(ran.status, 1);
    assert!(ran.err.ends_with("lost: exists already, and is no folder\n"), "{}", ran.err);
    assert_eq!(fs::read_dir(elsewhere.path()).expect("a list").count(), 0);
}

#[test]
fn what_the_medium_did_not_give() {
    let dest = folder();
    let life = life("/lost/more/big");
    let bad = (life.runs.as_ref().expect("runs")[0].1 + 1) * 4096;
    let (size, mapfile) = (fs::metadata(tree()).expect("the image").len(), dest.path().join("mapfile"));
    let after = bad + 4096;
    fs::write(&mapfile, format!("0 + 1\n0 {bad} +\n{bad} 4096 -\n{after} {} +\n", size - after)).expect("written");
    let mapfile = mapfile.to_str().expect("a plain name");
    let copied = dest.path().join("copied");

    let ran = copy(&["--mapfile", mapfile, "--missing", "error", "/lost/more/big"], &copied);
    assert!(ran.status == 1 && ran.err.lines().count() == 1 && !copied.exists(), "{}", ran.err);
    let ran = copy(&["--mapfile", mapfile, "/lost/more/big"], &copied).done();
    let note = format!("undelfs: {}: 4096 of {} bytes are missing, with zeros in their place\n", copied.display(), life.size);
    assert!(ran.err.starts_with(&note), "{}", ran.err);
    let whole = dest.path().join("whole");
    copy(&["/lost/more/big"], &whole).done();
    let (mut expected, found) = (fs::read(&whole).expect("readable"), fs::read(&copied).expect("readable"));
    expected[4096..8192].fill(0);
    assert!(expected == found, "other bytes differ than the unreadable ones");
}

#[test]
fn a_full_disk_leaves_no_half_files() {
    let dest = folder();
    let mounted = Mounted::new(&["-t", "tmpfs", "-o", "size=1m", "none"], dest.path());
    let ran = copy(&["/lost/more/big"], dest.path());
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("big: No space left on device") && ran.err.lines().count() == 1, "{}", ran.err);
    assert_eq!(fs::read_dir(dest.path()).expect("a list").count(), 0);
    drop(mounted);
}

#[test]
fn never_onto_the_filesystem_that_is_recovered() {
    let work = folder();
    let (image, point) = (work.path().join("image"), work.path().join("point"));
    fs::copy(tree(), &image).expect("copied");
    fs::create_dir(&point).expect("a folder");
    let mounted = Mounted::new(&["-o", "loop", image.to_str().expect("a plain name")], &point);
    let args = |force: bool, dest: &Path| {
        let force = if force { "--force" } else { "-q" };
        undelfs(["copy".as_ref(), force.as_ref(), image.as_os_str(), "/lost".as_ref(), dest.as_os_str()])
    };
    let ran = args(false, &work.path().join("dest"));
    assert!(ran.status != 0 && ran.err.contains("is mounted read-write"), "{}", ran.err);
    for dest in [point.clone(), point.join("new")] {
        let ran = args(true, &dest);
        assert_eq!(ran.status, 1);
        assert!(ran.err.contains("is on the filesystem to be recovered") && ran.err.lines().count() == 1, "{}", ran.err);
    }
    let log = point.join("log");
    let ran = undelfs(["--log".as_ref(), log.as_os_str(), "info".as_ref(), "--force".as_ref(), image.as_os_str()]);
    assert!(ran.status == 1 && !log.exists(), "{}", ran.err);
    drop(mounted);
}

/// A mount that ends with the test.
struct Mounted(PathBuf);

impl Mounted {
    fn new(args: &[&str], point: &Path) -> Self {
        let status = std::process::Command::new("mount").args(args).arg(point).status().expect("mount runs");
        assert!(status.success(), "mount {args:?}: these tests need root and loop devices");
        Mounted(point.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}
