//! `undelfs show`.

use crate::common::image;
use crate::support::{Ran, life, tree, undelfs, without_times};
use serde_json::Value;

fn show(options: &[&str]) -> Ran {
    undelfs(["show".as_ref(), tree().as_os_str()].into_iter().chain(options.iter().map(AsRef::as_ref)))
}

#[test]
fn a_file_for_people() {
    let text = without_times(&show(&["/lost/level 0/level 1/at 1"]).done().text());
    let life = life("/lost/level 0/level 1/at 1");
    let block = life.runs.as_ref().expect("runs")[0].1.to_string();
    let generation = life.generation.expect("a generation").to_string();
    assert_eq!(text, AT_1.replace("GENERATION", &generation).replace("    BLOCK0", &format!("{block:>10}")));
}

const AT_1: &str = "\
/lost/level 0/level 1/at 1
  what        file, deleted YYYY-MM-DD hh:mm:ss
  size        2.0 KiB (2000 bytes), from the inode
  state       complete: every byte is there
  inode       83, generation GENERATION, the last file lost from it
  mode        0644, owner 0, group 0
  modified    YYYY-MM-DD hh:mm:ss
  changed     YYYY-MM-DD hh:mm:ss
  accessed    YYYY-MM-DD hh:mm:ss
  path        /lost/level 0/level 1/at 1
  in a mount  by-path/lost/level 0/level 1/at 1

How it is known
  journal               2000 bytes  the pointer stands in a journal copy of the inode or of an indirect block

Runs (1)
          OFFSET           BYTES       BLOCK  EVIDENCE     REASON
               0            2000      BLOCK0  journal
";

#[test]
fn every_way_to_name_a_file() {
    let inode = life("/lost/more/big").inode;
    let expected = show(&["/lost/more/big"]).done().text();
    for name in [
        "lost/more/big".into(),
        "/by-path/lost/more/big".into(),
        "by-path/lost//more/./big".into(),
        format!("inode:{inode}"),
        format!("inode:{inode}@0"),
        format!("by-inode/{inode}"),
    ] {
        assert_eq!(show(&[&name]).done().text(), expected, "{name}");
    }
}

#[test]
fn ranges_cover_the_file() {
    let file = show(&["--json", "/lost/more/big"]).done().json();
    let ranges = file["ranges"].as_array().expect("an array");
    let mut at = 0;
    for range in ranges {
        assert_eq!(range["offset"].as_u64(), Some(at), "{range}");
        at += range["length"].as_u64().expect("a length");
    }
    assert_eq!(Some(at), file["size"].as_u64());
    let life = life("/lost/more/big");
    let blocks: Vec<Option<u64>> = ranges.iter().map(|range| range["block"].as_u64()).collect();
    let expected: Vec<Option<u64>> = life.runs.iter().flatten().map(|run| Some(run.1)).collect();
    let mut distinct = blocks.clone();
    // One run of the truth may be known in several ways here.
    distinct.retain(|block| expected.contains(block));
    assert_eq!(distinct, expected, "{blocks:?}");
    assert!(ranges.iter().all(|range| matches!(range["evidence"].as_str(), Some("journal" | "chain"))), "{ranges:?}");
}

#[test]
fn a_mapfile_for_ddrescue() {
    let map = show(&["--map", "ddrescue", "/lost/more/big"]).done().text();
    let lines: Vec<&str> = map.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, ["0x00000000     +               1", &format!("0x00000000  0x{:08X}  +", (9 << 20) + 4321)]);
}

#[test]
fn symbolic_links_and_folders() {
    let text = show(&["/lost/absolute"]).done().text();
    assert!(text.contains("\n  leads to    /etc/passwd\n") && text.contains("symbolic link, deleted"), "{text}");
    let text = show(&["/lost/more/empty folder"]).done().text();
    assert!(text.contains("  folder, deleted"), "{text}");
    assert_eq!(show(&["--json", "/lost/more"]).done().json()["type"], Value::from("dir"));
}

#[test]
fn what_is_not_there() {
    for (name, status, message) in [
        ("/lost/more/nothing", 1, "/lost/more/nothing: no lost file has this path"),
        ("/more/big", 1, "/more/big: no lost file has this path; one of that name was lost at /lost/more/big"),
        ("/alive/more/big", 1, "/alive/more/big: no lost file has this path; one of that name was lost at /lost/more/big"),
        ("/lost/../lost/more/big", 1, "/lost/../lost/more/big: no lost file has this path; one of that name was lost at /lost/more/big"),
        ("inode:4000000000", 1, "inode:4000000000: no lost file had this inode"),
        ("chain:4711", 1, "chain:4711: no such chain was found"),
        ("inode:twelve", 2, "inode:twelve: expected inode:N or inode:N@VERSION, such as inode:12 or inode:12@1"),
        ("chain:", 2, "chain:: expected chain:BLOCK, such as chain:4711"),
    ] {
        let ran = show(&[name]);
        assert_eq!((ran.status, ran.text().as_str(), ran.err), (status, "", format!("undelfs: {message}\n")));
    }
}

/// Each missing range with the reason of its own runs, and with the name of who has its blocks.
#[test]
fn why_bytes_are_missing() {
    let image = image("churn", &[]);
    let listed = undelfs(["list".as_ref(), image.as_os_str(), "--json".as_ref()]).done().json();
    let overwritten = |file: &&Value| file["inode"].is_u64() && file["evidence"]["overwritten"].as_u64() > Some(0);
    let mut named = 0;
    for file in listed.as_array().expect("an array").iter().filter(overwritten).step_by(4) {
        let name = format!("inode:{}@{}", file["inode"], file["version"]);
        let show = |option: &str| undelfs(["show".as_ref(), image.as_os_str(), option.as_ref(), name.as_ref()]).done();
        let (json, text) = (show("--json").json(), show("--all-runs").text());
        let ranges: Vec<&Value> = json["ranges"].as_array().expect("an array").iter().collect();
        let rows = text.split("\nMissing (").nth(1).expect("a table").lines().skip(2).take_while(|line| !line.is_empty());
        let mut missing = 0;
        for row in rows {
            let mut words = row.split_whitespace();
            let mut number = || words.next().expect("a column").parse::<u64>().expect("a number");
            let (offset, length) = (number(), number());
            let why = words.collect::<Vec<_>>().join(" ");
            let within = |range: &&&Value| {
                let at = range["offset"].as_u64().expect("an offset");
                at <= offset && offset < at + range["length"].as_u64().expect("a length")
            };
            let range = ranges.iter().find(within).expect("a range");
            let (word, reason) = (range["evidence"].as_str().expect("a word"), range["reason"].as_str().expect("a reason"));
            let (own, taker) = why.split_once(", by ").unwrap_or((&why, ""));
            assert!(own == format!("{word}: {reason}") && !reason.is_empty(), "{name}: {row}\n{range}");
            let takers = json["overwritten_by"].as_array().expect("an array");
            assert!(taker.is_empty() || takers.iter().any(|known| known["path"] == taker), "{name}: {row}\n{takers:?}");
            named += u32::from(!taker.is_empty());
            missing += length;
        }
        assert_eq!(Some(missing), file["missing"].as_u64(), "{name}\n{text}");
    }
    assert!(named > 0, "nobody who has a lost file's blocks is named");
}
