//! Whether the filesystem to be recovered is mounted somewhere on this machine: as a device, or through a loop device.

use super::mountinfo::{self, Mount};
use rustix::fs::{major, minor};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A device by major and minor number.
pub type Device = (u32, u32);

/// The devices that show the filesystem which begins at byte `base` of `file`: the device itself or a partition of it; for a
/// regular file the loop devices on it and their partitions. From `/sys` (Documentation/ABI/testing/sysfs-block); empty where that
/// says nothing.
pub fn devices(file: &File, base: u64) -> Vec<Device> {
    let mut found = Vec::new();
    let Ok(metadata) = file.metadata() else { return found };
    if metadata.file_type().is_block_device() {
        let device = (major(metadata.rdev()), minor(metadata.rdev()));
        collect(&PathBuf::from(format!("/sys/dev/block/{}:{}", device.0, device.1)), device, 0, base, &mut found);
    } else {
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let sys = entry.path();
            let Some(backing) = read_text(&sys.join("loop/backing_file")) else { continue };
            let same = fs::metadata(backing).is_ok_and(|other| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino()));
            if let (true, Some(device)) = (same, read_device(&sys)) {
                let origin = read_number(&sys.join("loop/offset")).unwrap_or(0);
                collect(&sys, device, origin, base, &mut found);
            }
        }
    }
    found
}

/// Adds `device`, whose first byte is byte `origin` of the image, or its partition, where that begins at `base`.
fn collect(sys: &Path, device: Device, origin: u64, base: u64, found: &mut Vec<Device>) {
    if origin == base {
        found.push(device);
    }
    for entry in fs::read_dir(sys).into_iter().flatten().flatten() {
        let part = entry.path();
        // `start` counts sectors of 512 bytes whatever the device's own sectors are.
        let start = read_number(&part.join("start")).and_then(|sectors| origin.checked_add(sectors.checked_mul(512)?));
        if part.join("partition").exists() && start == Some(base) {
            found.extend(read_device(&part));
        }
    }
}

fn read_text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end_matches('\n').to_owned())
}

fn read_number(path: &Path) -> Option<u64> {
    read_text(path)?.parse().ok()
}

fn read_device(sys: &Path) -> Option<Device> {
    let text = read_text(&sys.join("dev"))?;
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The first mount of one of these devices that can be written to.
pub fn writable_mount(devices: &[Device]) -> Option<Mount> {
    let mounts = mountinfo::read().unwrap_or_default();
    mounts.into_iter().find(|mount| mount.writable && devices.contains(&mount.device))
}

/// Whether what is written to `path`, or to the nearest parent of it that exists, ends up on one of these devices.
///
/// # Errors
/// Where not even a parent can be looked at.
pub fn holds(devices: &[Device], path: &Path) -> io::Result<bool> {
    let mut path = path;
    loop {
        let existing = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match fs::metadata(existing) {
            Ok(metadata) => return Ok(devices.contains(&(major(metadata.dev()), minor(metadata.dev())))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
                Some(parent) => path = parent,
                None => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_on_the_device_of_its_nearest_parent() {
        let folder = tempfile::tempdir().unwrap();
        let device = fs::metadata(folder.path()).unwrap().dev();
        let device = (major(device), minor(device));
        assert!(holds(&[device], &folder.path().join("not/there/yet")).unwrap());
        assert!(!holds(&[(device.0, device.1 + 1)], folder.path()).unwrap());
        assert!(holds(&[], Path::new("not-there")).is_ok());
    }

    #[test]
    fn a_plain_file_is_on_no_device() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(devices(&file, 0), []);
        assert_eq!(writable_mount(&[]), None);
    }
}
