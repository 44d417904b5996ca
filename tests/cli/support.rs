//! Runs the program, and knows the truth about the image.

use crate::common::truth::{self, Life};
use crate::common::{self, image};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// What one run of the program gave.
pub struct Ran {
    pub status: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.text(), self.err))
    }

    /// It did what was asked.
    pub fn done(self) -> Self {
        assert_eq!(self.status, 0, "{}", self.err);
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let err = String::from_utf8(output.stderr).expect("messages are UTF-8");
        Ran { status: output.status.code().expect("not killed"), out: output.stdout, err }
    }
}

/// The program, in a pipe and in UTC.
pub fn command() -> Command {
    let mut command = common::undelfs();
    command.env("TZ", "UTC").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

pub fn undelfs<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    command().args(args).output().expect("the program runs").into()
}

/// Words of a command line, where none has a space in it.
pub fn words(line: &str) -> Ran {
    undelfs(line.split_whitespace())
}

/// The image of a removed tree.
pub fn tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| image("tree", &[]))
}

/// The lost files of the image.
pub fn truth() -> Vec<Life> {
    truth::lost(tree())
}

/// The lost file that had this path.
pub fn life(path: &str) -> Life {
    truth().into_iter().find(|life| life.paths[0] == path.as_bytes()).expect("a lost file")
}

/// The bytes of a path in the program's JSON.
pub fn path_of(file: &Value, field: &str) -> Vec<u8> {
    match file[format!("{field}_hex")].as_str() {
        Some(hex) => (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect(),
        None => file[field].as_str().unwrap_or_else(|| panic!("{field} in {file}")).into(),
    }
}

/// Replaces what differs from one making of the image to the next: times, by their form.
pub fn without_times(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let form: Option<String> = rest.get(..19).map(|text| text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect());
        if form.as_deref() == Some("9999-99-99 99:99:99") {
            result.push_str("YYYY-MM-DD hh:mm:ss");
            rest = &rest[19..];
        } else {
            result.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    result
}
