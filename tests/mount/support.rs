//! Images with their truth, and mounts that go away with their test.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_undelfs");

/// Makes an image, or finds it there.
pub fn image(name: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/make-image");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = Command::new(script).arg(name).arg(folder).output().expect("scripts/make-image runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder.join(format!("{name}.img"))
}

/// One lost file as it was.
pub struct Life {
    /// All its paths, each beginning with `/`.
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

    pub fn is(&self, kind: &str) -> bool {
        self.text("type") == kind
    }

    /// Its first path under `mount`.
    pub fn below(&self, mount: &Mount) -> PathBuf {
        mount.lost(&self.paths[0])
    }
}

/// What an image lost, without FIFOs, which have no content.
pub fn truth(image: &Path) -> Vec<Life> {
    let text = fs::read_to_string(image.with_extension("truth.json")).expect("the truth is there");
    let truth: Value = serde_json::from_str(&text).expect("the truth is JSON");
    let lives = truth["lost"].as_array().expect("a list").iter().filter(|life| life["type"] != "fifo");
    let paths = |life: &Value| {
        let links = life["links"].as_array().expect("a list");
        std::iter::once(&life["path_now"]).chain(links).map(|path| bytes(path.as_str().expect("a path"))).collect()
    };
    lives.map(|life| Life { paths: paths(life), json: life.clone() }).collect()
}

/// The bytes of a name in the truth, which has `%XX` for what is not printable ASCII.
pub fn bytes(name: &str) -> Vec<u8> {
    let mut pieces = name.split('%');
    let mut bytes: Vec<u8> = pieces.next().unwrap_or_default().into();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).expect("hexadecimal"));
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    bytes
}

pub fn sha256(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut hash, mut buf) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buf).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
            0 => return hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            count => hash.update(&buf[..count]),
        }
    }
}

/// The program, ready to be started.
pub fn undelfs<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null());
    command
}

/// Its exit status, and what it said to the standard error.
pub fn status(output: &Output) -> (i32, String) {
    (output.status.code().expect("not killed"), String::from_utf8(output.stderr.clone()).expect("messages are UTF-8"))
}

/// A mount point of its own, and what is mounted there until the end of the test.
pub struct Mount {
    folder: TempDir,
}

impl Mount {
    /// An empty mount point that everybody may reach.
    pub fn point() -> Self {
        let folder = tempfile::Builder::new().prefix("undelfs-mount").tempdir().expect("a folder");
        fs::create_dir(folder.path().join("mnt")).expect("a mount point");
        Command::new("chmod").arg("755").arg(folder.path()).status().expect("chmod runs");
        Mount { folder }
    }

    /// Mounts in the background; the mount is ready when this returns.
    pub fn new(image: &Path, options: &[&str]) -> Self {
        let mount = Self::point();
        let output = mount.try_mount(image, options);
        assert_eq!(status(&output), (0, String::new()));
        mount
    }

    pub fn try_mount(&self, image: &Path, options: &[&str]) -> Output {
        undelfs(["mount".as_ref(), image.as_os_str(), self.path().as_os_str()]).args(options).output().expect("the program runs")
    }

    /// Mounts with `-f`, and waits until it is ready.
    pub fn in_front(image: &Path, options: &[&str]) -> (Self, Child) {
        let mount = Self::point();
        let mut command = undelfs(["mount".as_ref(), "-f".as_ref(), image.as_os_str(), mount.path().as_os_str()]);
        let child = command.args(options).stderr(Stdio::null()).spawn().expect("the program runs");
        until("mounted", || mount.is_mounted());
        (mount, child)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    /// What was at `path` of the filesystem that lost it.
    pub fn lost(&self, path: &[u8]) -> PathBuf {
        self.path().join("by-path").join(OsStr::from_bytes(path.strip_prefix(b"/").expect("an absolute path")))
    }

    /// Its line in the mount table.
    pub fn line(&self) -> Option<String> {
        let table = fs::read_to_string("/proc/self/mounts").expect("/proc is there");
        let point = self.path();
        table.lines().find(|line| line.split(' ').nth(1) == point.to_str()).map(str::to_owned)
    }

    pub fn is_mounted(&self) -> bool {
        self.line().is_some()
    }

    /// The process that serves it: the one that has the mount point among its arguments.
    pub fn server(&self) -> Option<u32> {
        let processes = fs::read_dir("/proc").expect("/proc is there").flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let point = self.path();
        ids.into_iter().find(|id: &u32| {
            let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let mut arguments = arguments.split(|byte| *byte == 0);
            arguments.next() == Some(PROGRAM.as_bytes()) && arguments.any(|argument| argument == point.as_os_str().as_bytes())
        })
    }

    pub fn signal(&self, name: &str) {
        let server = self.server().expect("it is served").to_string();
        assert!(Command::new("kill").args(["-s", name, &server]).status().expect("kill runs").success());
    }

    /// Waits until nothing of it is left: no mount, dead or alive, and no process.
    pub fn gone(&self) {
        until("unmounted", || !self.is_mounted());
        until("ended", || self.server().is_none());
        assert_eq!(fs::read_dir(self.path()).expect("the mount point is a folder again").count(), 0);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted() {
            let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        }
    }
}

/// Waits for something that is about to come true.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "not {what} after 20 seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}
