//! A small filesystem that a test makes itself: written by the kernel through a loop mount, then edited or opened.

use super::folder;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// An image of its own, gone with the test.
pub struct Disk {
    folder: TempDir,
}

/// Runs a program that must succeed.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Disk {
    /// Makes a filesystem with mke2fs.
    pub fn new(arguments: &str, size: &str) -> Disk {
        let folder = tempfile::tempdir_in(folder()).expect("a folder");
        let disk = Disk { folder };
        let image = disk.image();
        let arguments = ["-q", "-F"].into_iter().chain(arguments.split_whitespace()).chain([image.to_str().expect("a path"), size]);
        run("mke2fs", &arguments.collect::<Vec<_>>());
        disk
    }

    pub fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// Mounts it for as long as `work` takes, and leaves the journal clean.
    pub fn mounted(&self, kind: &str, options: &str, work: impl FnOnce(&Path)) {
        let point = self.folder.path().join("mnt");
        std::fs::create_dir_all(&point).expect("a mount point");
        run(
            "mount",
            &["-t", kind, "-o", &format!("loop,{options}"), self.image().to_str().expect("a path"), point.to_str().expect("a path")],
        );
        let _mounted = Mounted(point.clone());
        work(&point);
    }
}

/// Unmounts also when the test fails.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()), "umount {}", self.0.display());
    }
}
