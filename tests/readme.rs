//! The session in README.md is true: its commands are run on the image that it names, and print what it shows. `UNDELFS_BLESS=1 cargo test
//! --test readme` writes what they print into the README. Needs root and FUSE, as the other tests of mounts do.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const FENCE: &str = "```console\n";

/// Unmounts where a command of the session has failed before it came to that.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-q", "-l"]).arg(self.0).output();
    }
}

#[test]
fn the_session_is_true() {
    let readme = common::root().join("README.md");
    let text = fs::read_to_string(&readme).unwrap();
    let start = text.find(FENCE).expect("a session") + FENCE.len();
    let end = start + text[start..].find("```\n").expect("the session's end");
    let session = &text[start..end];

    let folder = tempfile::tempdir().unwrap();
    symlink(common::image("files900", &[]), folder.path().join("disk.img")).unwrap();
    let mount = folder.path().join("lost");
    let _unmount = Unmount(&mount);
    let program = Path::new(env!("CARGO_BIN_EXE_undelfs")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());

    let mut real = String::new();
    for command in session.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {command}")])
            .current_dir(folder.path())
            .envs([("PATH", path.as_str()), ("TZ", "UTC"), ("LC_ALL", "C"), ("XDG_CACHE_HOME", common::CACHE)])
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command}: {printed}");
        real.push_str(&format!("$ {command}\n{}", without_chance(&printed)));
    }
    if std::env::var_os("UNDELFS_BLESS").is_some() {
        fs::write(&readme, format!("{}{real}{}", &text[..start], &text[end..])).unwrap();
    } else {
        let (shown, real) = (without_places(session), without_places(&real));
        assert!(shown == real, "README.md shows\n\n{shown}\nbut this is printed:\n\n{real}");
    }
}

/// Puts the same in place of what differs from one making of the image to the next: when it was made, the number that the kernel
/// gave to an inode's generation, and the folder that the image was mounted on.
fn without_chance(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let mut line = line.to_owned();
        let words: Vec<String> = line.split([' ', ',']).map(str::to_owned).collect();
        for pair in words.windows(2) {
            // The content's own times are older than the image.
            if is(&pair[0], "9999-99-99") && is(&pair[1], "99:99:99") && pair[0].as_str() > "2025" {
                line = line.replace(&format!("{} {}", pair[0], pair[1]), "2026-01-23 03:04:05");
            } else if pair[0] == "generation" {
                line = line.replace(&pair[1], "1841158976");
            } else if pair[1].starts_with("/tmp/make-image-") {
                line = line.replace(&pair[1], "/srv");
            }
        }
        line + "\n"
    });
    lines.collect()
}

/// Whether a word has the form of another, in which each 9 stands for a digit.
fn is(word: &str, form: &str) -> bool {
    word.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).eq(form.chars())
}

/// Without what is for the kernel to choose: the numbers of inodes, where a file's runs are, how much stands in the journal.
fn without_places(text: &str) -> String {
    let mut result = String::new();
    let (mut list, mut runs) = (false, false);
    for line in text.lines() {
        list = line.starts_with("INODE") || list && !line.starts_with("$ ");
        runs = line.starts_with("Runs (") || runs && !line.starts_with("$ ") && !line.is_empty();
        let mut words: Vec<&str> = line.split_whitespace().collect();
        match words.first_mut() {
            Some(number) if list && number.starts_with(|c: char| c.is_ascii_digit()) && line.contains('%') => *number = "N",
            Some(&mut ("inode" | "free" | "remembers")) => words.truncate(1),
            _ => {}
        }
        if !runs {
            result.push_str(&words.join(" "));
            result.push('\n');
        }
    }
    result
}
