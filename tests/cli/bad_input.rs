//! What is no image, or no command: one clear line, and the right exit status.

use crate::support::{Ran, tree, undelfs, words};
use std::fs;
use std::path::Path;

/// One line that begins as all do.
fn refused(ran: &Ran, status: i32, part: &str) {
    assert_eq!(ran.status, status, "{}", ran.err);
    assert!(ran.err.starts_with("undelfs: ") && ran.err.ends_with('\n') && ran.err.lines().count() == 1, "{:?}", ran.err);
    assert!(ran.err.contains(part), "{part} in {:?}", ran.err);
    assert!(ran.out.is_empty());
}

#[test]
fn wrong_usage() {
    for (line, part) in [
        ("lsit image", "unrecognized subcommand 'lsit'"),
        ("list", "<IMAGE>"),
        ("list --jsn image", "'--jsn'"),
        ("list image --min-size many", "'many'"),
        ("list image --deleted-after someday", "'someday'"),
        ("list image --json -0", "cannot be used with"),
        ("list image --offset 512 --partition 1", "cannot be used with"),
        ("show image", "<FILE>"),
        ("show image file --map gpx", "'gpx'"),
        ("copy image file", "<FILE>"),
        ("mount image", "<MOUNTPOINT>"),
        ("mount image / -o frobnicate", "frobnicate"),
        ("mount image / -o partition=x", "partition=x"),
        ("list image --path [", "--path"),
        ("-q -v list image", "cannot be used with"),
    ] {
        refused(&words(line), 2, part);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in ["--help", "list --help", "mount -h", "--version"] {
        let ran = words(line).done();
        assert!(!ran.out.is_empty() && ran.err.is_empty(), "{line}");
    }
    let nothing = words("");
    assert_eq!(nothing.status, 2);
}

#[test]
fn what_is_no_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("empty"), "").expect("written");
    fs::write(path("text"), "not an image\n".repeat(1000)).expect("written");
    fs::write(path("zeros"), vec![0; 1 << 20]).expect("written");
    fs::write(path("short"), &fs::read(tree()).expect("the image")[..1500]).expect("written");
    for name in ["empty", "text", "zeros", "short", "not-there", "."] {
        for command in ["list", "info"] {
            refused(&undelfs([command.as_ref(), path(name).as_os_str()]), 3, "");
        }
        let copy = undelfs(["copy".as_ref(), path(name).as_os_str(), "/a".as_ref(), path("dest").as_os_str()]);
        refused(&copy, 3, "");
    }
}

/// An image that was not copied to its end still has what is in its beginning.
#[test]
fn a_truncated_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fs::read(tree()).expect("the image");
    for part in [2, 3, 10, 100] {
        let image = folder.path().join("image");
        fs::write(&image, &whole[..whole.len() / part]).expect("written");
        let ran = undelfs(["list".as_ref(), image.as_os_str(), "--json".as_ref()]);
        assert!(matches!(ran.status, 0 | 3), "{}", ran.err);
        if ran.status == 0 {
            ran.json();
        }
    }
}

#[test]
fn options_that_do_not_fit_the_image() {
    let image = tree().to_str().expect("a plain name");
    for (line, status) in [
        (format!("list {image} --offset 1T"), 2),
        (format!("list {image} --offset 4096"), 3),
        (format!("list {image} --partition 3"), 2),
        (format!("list {image} --superblock 5"), 3),
        (format!("list {image} --mapfile /not/there"), 2),
        (format!("list {image} --journal /not/there"), 3),
        (format!("list {image} --log /not/there/log"), 1),
    ] {
        refused(&words(&line), status, "");
    }
    let backup = words(&format!("list {image} -0 --superblock 0")).done();
    assert_eq!(backup.out, words(&format!("list {image} -0")).done().out);
    assert!(Path::new(image).exists());
}
