//! `undelfs list` and `undelfs info`.

use crate::support::{command, path_of, tree, truth, undelfs, without_times};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Stdio;

fn list(options: &[&str]) -> crate::support::Ran {
    undelfs(["list".as_ref(), tree().as_os_str()].into_iter().chain(options.iter().map(AsRef::as_ref)))
}

#[test]
fn json_tells_the_truth_about_every_file() {
    let listed = list(&["--json"]).done().json();
    let listed = listed.as_array().expect("an array");
    let by_inode: HashMap<u64, &Value> = listed.iter().map(|file| (file["inode"].as_u64().expect("an inode"), file)).collect();
    let truth = truth();
    assert_eq!(listed.len(), truth.len());
    for life in truth {
        let file = by_inode[&life.inode.into()];
        assert!(life.paths.contains(&path_of(file, "path")), "{file}\n{}", life.path);
        let expected = json!({
            "generation": life.generation, "size": life.size, "mode": life.mode, "type": life.kind, "uid": life.uid, "gid": life.gid,
            "version": 0, "size_from": "inode", "state": "complete", "recovered": life.size, "missing": 0
        });
        for (field, value) in expected.as_object().expect("an object") {
            assert_eq!(&file[field], value, "{field} of {file}");
        }
        let evidence = file["evidence"].as_object().expect("an object");
        assert_eq!(evidence.keys().collect::<BTreeSet<_>>().len(), 7);
        assert_eq!(evidence.values().filter_map(Value::as_u64).sum::<u64>(), life.size, "{file}");
        let seconds = |field: &str| file[field].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok()).map(|time| time.as_second());
        // That of a folder changes while it is being removed, and any of its copies may be the last.
        if !life.is("dir") {
            assert_eq!(seconds("mtime"), Some(life.mtime as i64), "mtime of {file}");
        }
        let late = seconds("deleted").expect("a time") - life.lost_at as i64;
        assert!((-2..=2).contains(&late), "deleted {late} s late: {file}");
        assert!(path_of(file, "mount_path").starts_with(b"by-path/lost"), "{file}");
    }
}

#[test]
fn the_table() {
    let ran = list(&["--path", "/lost/more/f*", "--path", "/lost/more/empty*"]).done();
    assert_eq!(without_times(&ran.text()), TABLE);
    assert_eq!(ran.err, "4 lost files, 4.1 KiB: 4 complete\n");
    assert_eq!(list(&["--path", "fast", "--no-header", "-q"]).done().text().lines().count(), 1);
}

const TABLE: &str = "\
INODE      SIZE  THERE  DELETED              PATH
  304       0 B   100%  YYYY-MM-DD hh:mm:ss  /lost/more/empty
  305   4.0 KiB   100%  YYYY-MM-DD hh:mm:ss  /lost/more/empty folder/
  308       8 B   100%  YYYY-MM-DD hh:mm:ss  /lost/more/fast
  309      59 B   100%  YYYY-MM-DD hh:mm:ss  /lost/more/fast 59
";

#[test]
fn filters() {
    let truth = truth();
    let big = truth.iter().filter(|life| life.size >= 100 << 10).count();
    assert_eq!(list(&["--json", "--min-size", "100K"]).done().json().as_array().map(Vec::len), Some(big));
    assert_eq!(list(&["--json", "--deleted-after", "9000d", "--complete"]).done().json().as_array().map(Vec::len), Some(truth.len()));
    for nothing in [["--deleted-before", "2020-01-01"], ["--path", "/nothing/**"], ["--min-size", "1T"]] {
        let ran = list(&nothing);
        assert_eq!((ran.status, ran.text().as_str(), ran.err.as_str()), (1, "", "undelfs: no lost file matches\n"));
        assert_eq!(list(&[nothing[0], nothing[1], "--json"]).json(), json!([]));
    }
}

#[test]
fn print0_gives_paths_that_show_takes() {
    let ran = list(&["-0"]).done();
    let mut paths: Vec<&[u8]> = ran.out.split(|byte| *byte == 0).collect();
    assert_eq!(paths.pop(), Some(&b""[..]));
    assert_eq!(paths.len(), truth().len());
    let known: BTreeSet<Vec<u8>> = truth().into_iter().flat_map(|life| life.paths).collect();
    for path in &paths {
        assert!(known.contains(*path), "{}", path.escape_ascii());
    }
    for path in paths.iter().step_by(17) {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::OsStr::from_bytes(path);
        undelfs(["show".as_ref(), tree().as_os_str(), path]).done();
    }
}

#[test]
fn names_are_raw_in_a_pipe() {
    let out = list(&["--path", "*red*", "--path", "invalid*"]).done().out;
    for name in [&b"/lost/odd names/\x1b[31mred\x1b[0m\n"[..], b"/lost/odd names/invalid \xff\xfe utf-8\n"] {
        assert!(out.windows(name.len()).any(|window| window == name), "{}", name.escape_ascii());
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    for option in ["--json", "-0", "--no-header"] {
        let mut child =
            command().arg("list").arg(tree()).arg(option).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program runs");
        drop(child.stdout.take());
        assert!(child.wait().expect("it ends").success(), "{option}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let ran: crate::support::Ran =
        command().arg("list").arg(tree()).stdout(full).stderr(Stdio::piped()).output().expect("the program runs").into();
    assert_eq!((ran.status, ran.err.as_str()), (1, "undelfs: standard output: No space left on device (os error 28)\n"));
}

#[test]
fn a_log_file_has_what_would_be_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let ran = undelfs(["-v".as_ref(), "--log".as_ref(), log.as_os_str(), "info".as_ref(), tree().as_os_str()]).done();
    assert_eq!(ran.err, "");
    assert!(log.exists());
}

#[test]
fn info_describes_the_filesystem() {
    let info = undelfs(["info".as_ref(), tree().as_os_str(), "--json".as_ref()]).done().json();
    for (field, value) in [
        ("type", json!("ext3")),
        ("block_size", json!(4096)),
        ("blocks", json!(32768)),
        ("inode_size", json!(256)),
        ("groups", json!(1)),
        ("superblock", json!(0)),
        ("clean", json!(true)),
        ("damage", json!([])),
        ("offset", json!(0)),
    ] {
        assert_eq!(info[field], value, "{field}");
    }
    assert_eq!(info["journal"]["dirty"], json!(false));
    assert_eq!(info["journal"]["size"], json!(16 << 20));
    assert!(info["journal"]["transactions"].as_u64() > Some(1) && info["journal"]["copies"].as_u64() > Some(10), "{info}");
    assert!(info["journal"]["oldest_commit"].as_str() <= info["journal"]["newest_commit"].as_str());
    assert_eq!(info["lost"]["files"], json!(truth().len()));
    assert_eq!(info["lost"]["missing"], json!(0));

    let text = undelfs(["info".as_ref(), tree().as_os_str()]).done().text();
    for line in ["Filesystem", "  type          ext3", "  size          128 MiB: 32768 blocks of 4096 bytes", "Journal", "Lost files"] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(
        Path::new(text.lines().nth(1).and_then(|line| line.strip_prefix("  image         ")).expect("the image")).ends_with("tree.img")
    );
}
