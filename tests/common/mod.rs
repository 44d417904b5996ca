//! What the tests share: images made by `scripts/make-image`, their truth, and a judge that holds a recovery against it.
#![allow(dead_code, missing_docs)]

pub mod chains;
pub mod disk;
pub mod judge;
pub mod mariadb;
pub mod medium;
pub mod old_ext3;
pub mod oracle;
pub mod truth;

use std::path::{Path, PathBuf};
use std::process::Command;
use undelfs::image::ImageOptions;
use undelfs::recover::{OpenOptions, Recovery};

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Folder for images, some 20 GB. Shared by all tests, and by the next run.
pub fn folder() -> PathBuf {
    let folder =
        std::env::var_os("UNDELFS_TEST_IMAGES").map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("images"), PathBuf::from);
    std::fs::create_dir_all(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}; set UNDELFS_TEST_IMAGES to a folder with 18 GB of room", folder.display()));
    folder
}

/// Makes an image with the kernel, unless it is there already: of the seed that the case has, or of `UNDELFS_TEST_SEED`. Panics with what
/// is missing if it cannot be made.
pub fn image(name: &str, arguments: &[&str]) -> PathBuf {
    let folder = folder();
    let mut command = Command::new(root().join("scripts/make-image"));
    command.arg(name).arg(&folder).args(arguments);
    if let Some(seed) = std::env::var_os("UNDELFS_TEST_SEED").filter(|_| !arguments.contains(&"--seed")) {
        command.arg("--seed").arg(seed);
    }
    let output = command.output().expect("scripts/make-image runs");
    assert!(output.status.success(), "scripts/make-image {name}: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim().lines().last().expect("scripts/make-image prints the path").to_owned())
}

/// Opens an image for recovery.
pub fn recover(options: ImageOptions) -> Recovery {
    Recovery::open(&OpenOptions::new(options), &()).expect("the image opens")
}

/// xorshift64*: repeatable from the seed that is printed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// Where catalogs are kept in place of the user's caches.
pub const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");

/// The undelfs program.
pub fn undelfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undelfs"));
    command.env("XDG_CACHE_HOME", CACHE);
    command
}
