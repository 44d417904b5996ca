//! Runs the program, and knows the truth about the image.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_undelfs"));
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
    TREE.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/make-image");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let made = Command::new(script).arg("tree").arg(folder).output().expect("scripts/make-image runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder.join("tree.img")
    })
}

/// One lost file as it was.
pub struct Life {
    /// All its paths.
    pub paths: Vec<Vec<u8>>,
    pub json: Value,
}

impl Life {
    pub fn number(&self, field: &str) -> u64 {
        self.json[field].as_u64().unwrap_or_else(|| panic!("{field} in {}", self.json))
    }

    pub fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_else(|| panic!("{field} in {}", self.json))
    }
}

/// The lost files of the image, without FIFOs, which have no content.
pub fn truth() -> Vec<Life> {
    let text = fs::read_to_string(tree().with_extension("truth.json")).expect("the truth is there");
    let truth: Value = serde_json::from_str(&text).expect("the truth is JSON");
    let lives = truth["lost"].as_array().expect("a list").iter().filter(|life| life["type"] != "fifo");
    lives
        .map(|life| {
            let links = life["links"].as_array().expect("a list");
            let paths = std::iter::once(&life["path_now"]).chain(links).map(|path| bytes(path.as_str().expect("a path")));
            Life { paths: paths.collect(), json: life.clone() }
        })
        .collect()
}

/// The bytes of a name in the truth, which has `%XX` for what is not printable ASCII.
pub fn bytes(name: &str) -> Vec<u8> {
    let mut pieces = name.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).expect("hexadecimal"));
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    bytes
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
