//! Images with their truth, and mounts that go away with their test.

use crate::common::truth::Life;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub use crate::common::truth::lost as truth;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_undelfs");

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
    let mut command = crate::common::undelfs();
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

    /// Where a lost file is, under its first path.
    pub fn of(&self, life: &Life) -> PathBuf {
        self.lost(&life.paths[0])
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
