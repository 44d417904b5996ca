//! What the tests share: images made by `scripts/make-image`, their truth, and a judge that holds a recovery against it.
#![allow(dead_code, missing_docs)]

pub mod disk;
pub mod judge;
pub mod truth;

use std::path::{Path, PathBuf};
use std::process::Command;
use undelfs::image::ImageOptions;
use undelfs::recover::{OpenOptions, Recovery};

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Folder for images: in memory where there is room, so that tests do not wait for a disk. Shared by all tests of a run.
pub fn folder() -> PathBuf {
    let folder = std::env::var_os("UNDELFS_TEST_IMAGES").map_or_else(|| PathBuf::from("/dev/shm/undelfs-test-images"), PathBuf::from);
    std::fs::create_dir_all(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}; set UNDELFS_TEST_IMAGES to a folder with 8 GB of room", folder.display()));
    folder
}

/// Makes an image with the kernel, unless it is there already. Panics with what is missing if it cannot be made.
pub fn image(name: &str, arguments: &[&str]) -> PathBuf {
    let folder = folder();
    let output =
        Command::new(root().join("scripts/make-image")).arg(name).arg(&folder).args(arguments).output().expect("scripts/make-image runs");
    assert!(output.status.success(), "scripts/make-image {name}: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim().lines().last().expect("scripts/make-image prints the path").to_owned())
}

/// Opens an image for recovery.
pub fn recover(options: ImageOptions) -> Recovery {
    Recovery::open(&OpenOptions { image: options, superblock: None }, &()).expect("the image opens")
}

/// The undelfs program.
pub fn undelfs() -> Command {
    Command::new(env!("CARGO_BIN_EXE_undelfs"))
}
