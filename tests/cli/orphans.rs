//! Files whose inode is gone, hints, and free space.

use crate::support::{Ran, undelfs, without_times};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// An image that lost two files of which only indirect blocks tell.
fn nameless() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/make-image");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let made = Command::new(script).arg("nameless").arg(folder).output().expect("scripts/make-image runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder.join("nameless.img")
    })
}

fn run(command: &str, arguments: &[&str]) -> Ran {
    undelfs([command.as_ref(), nameless().as_os_str()].into_iter().chain(arguments.iter().map(AsRef::as_ref)))
}

/// The life that was at a path, and its topmost block.
fn life(path: &str) -> (Value, u64) {
    let text = fs::read_to_string(nameless().with_extension("truth.json")).expect("the truth is there");
    let truth: Value = serde_json::from_str(&text).expect("the truth is JSON");
    let life = truth["lost"].as_array().expect("a list").iter().find(|life| life["path"] == path).expect("a lost file");
    let indirect = life["indirect"].as_array().expect("a list");
    let top = indirect.iter().max_by_key(|block| block[0].as_u64()).expect("one at least")[2].as_u64().expect("a block");
    (life.clone(), top)
}

fn hash(path: &Path) -> String {
    Sha256::digest(fs::read(path).expect("readable")).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn they_are_listed() {
    let (pdf, noise) = (life("/docs/book.pdf").1, life("/docs/noise").1);
    let mut rows = [
        (noise, format!("    -    12 MiB   100%  -                    orphans/{noise}\n")),
        (pdf, format!("    -    20 MiB   100%  -                    orphans/{pdf}.pdf\n")),
    ];
    rows.sort();
    let expected = format!("INODE      SIZE  THERE  DELETED              PATH\n{}{}", rows[0].1, rows[1].1);
    assert_eq!(run("list", &[]).done().text(), expected);
    let only = format!("orphans/{pdf}.pdf");
    for pattern in ["*.pdf", "orphans/*.pdf", "/orphans/*.p*"] {
        assert_eq!(run("list", &["-0", "--path", pattern]).done().text(), format!("{only}\0"), "{pattern}");
    }
    assert_eq!(run("list", &["--path", "/docs/**"]).status, 1);
    assert_eq!(run("list", &["--json", "--scan", "no"]).done().json(), json!([]));
    let info = run("info", &["--json"]).done().json();
    assert_eq!((&info["lost"]["files"], &info["lost"]["orphans"]), (&json!(2), &json!(2)));
    assert!(run("info", &[]).done().text().contains("\n  orphans       2 of them, whose inode is gone\n"));
}

#[test]
fn json_has_nothing_that_is_not_known() {
    let (life, top) = life("/docs/book.pdf");
    let listed = run("list", &["--json"]).done().json();
    let file = listed.as_array().expect("an array").iter().find(|file| file["top"] == top).expect("it is listed").clone();
    for (field, value) in [
        ("inode", Value::Null),
        ("generation", Value::Null),
        ("path", Value::Null),
        ("deleted", Value::Null),
        ("size", life["size"].clone()),
        ("size_from", json!("chain")),
        ("state", json!("complete")),
        ("candidates", json!([])),
        ("mount_path", json!(format!("orphans/{top}.pdf"))),
    ] {
        assert_eq!(file[field], value, "{field}");
    }
    assert_eq!(run("show", &["--json", &format!("chain:{top}")]).done().json()["top"], json!(top));
}

#[test]
fn they_are_shown_and_copied_by_their_block() {
    let (life, top) = life("/docs/noise");
    let text = without_times(&run("show", &[&format!("chain:{top}")]).done().text());
    assert_eq!(text, run("show", &[&format!("orphans/{top}")]).done().text().replace("1970-01-01 00:00:00", "YYYY-MM-DD hh:mm:ss"));
    for line in [
        &format!("orphans/{top}"),
        "  what        file, deleted, nothing says when",
        "  inode       unknown",
        &format!("  topmost     in block {top}"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let dest = tempfile::tempdir().expect("a folder");
    let copied = dest.path().join("copied");
    run("copy", &[&format!("chain:{top}"), copied.to_str().expect("a plain name")]).done();
    assert_eq!(hash(&copied), life["sha256"]);
    let all = dest.path().join("all");
    run("copy", &["orphans", all.to_str().expect("a plain name")]).done();
    let links = [format!("{top}"), format!("by-kind/unknown/{top}")].map(|name| fs::metadata(all.join(name)).expect("it is there").ino());
    assert_eq!(links[0], links[1]);
    let ran = run("show", &["chain:1"]);
    assert_eq!((ran.status, ran.err.as_str()), (1, "undelfs: chain:1: no such chain was found\n"));
}

#[test]
fn free_space_is_copied_with_its_holes() {
    let dest = tempfile::tempdir().expect("a folder");
    let ran = run("copy", &["--scan", "no", "unclaimed.img", dest.path().to_str().expect("a plain name")]).done();
    assert_eq!(ran.err, "1 file copied, 128 MiB\n");
    let copied = dest.path().join("unclaimed.img");
    let metadata = fs::metadata(&copied).expect("it is there");
    assert!(metadata.len() == 128 << 20 && metadata.blocks() * 512 < 64 << 20, "{} of {}", metadata.blocks() * 512, metadata.len());
    let (copy, original) = (fs::read(&copied).expect("readable"), fs::read(nameless()).expect("readable"));
    for run in life("/docs/noise").0["runs"].as_array().expect("runs") {
        let block = |index: usize| run[index].as_u64().expect("a number") as usize * 4096;
        let range = block(1)..block(1) + block(2);
        assert!(copy[range.clone()] == original[range.clone()], "{range:?}");
    }
    let ran = run("show", &["unclaimed.img"]);
    assert_eq!((ran.status, ran.err.as_str()), (1, "undelfs: unclaimed.img: free space, which is no lost file\n"));
}

#[test]
fn hints_that_make_no_sense() {
    for (hint, part) in [
        ("path=/a,b", "'b' has no value: a comma inside a path is written \\,"),
        ("inode=many", "inode=many: expected the number of an inode"),
        ("size=10Q", "unknown unit"),
        ("deleted=lately", "deleted=lately: expected '2010-01-23'"),
        ("name=x", "'name' is not known"),
    ] {
        for command in ["list", "info"] {
            let ran = run(command, &["--hint", hint]);
            assert!(ran.status == 2 && ran.err.contains(part) && ran.err.lines().count() == 1, "{hint}: {}", ran.err);
        }
    }
    run("list", &["--hint", "path=\"/docs/a, b\",size=10G,deleted=2026-01-23", "--hint", "inode=12"]).done();
}
