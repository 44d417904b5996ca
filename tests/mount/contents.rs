//! What is read through the mount is what was lost.

use crate::common::image;
use crate::support::{Mount, sha256, truth};
use rustix::fs::SeekFrom;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

#[test]
fn a_removed_tree_is_there_again() {
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &[]);
    let lives = truth(&image);
    assert!(lives.len() > 290);
    for life in &lives {
        for path in &life.paths {
            let path = mount.lost(path);
            let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if life.is("symlink") {
                assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), life.target());
                continue;
            }
            let mode = life.mode();
            assert_eq!(metadata.mode() & 0o7777, mode & 0o1555, "{}", path.display());
            let owner = (metadata.uid(), metadata.gid());
            assert_eq!(owner, (life.uid, life.gid), "{}", path.display());
            if life.is("file") {
                assert_eq!(metadata.len(), life.size, "{}", path.display());
                assert_eq!(metadata.mtime(), life.mtime as i64, "{}", path.display());
                // Its names, and the one under by-inode.
                assert_eq!(metadata.nlink() as usize, life.paths.len() + 1, "{}", path.display());
                assert_eq!(sha256(&path), life.sha256(), "{}", path.display());
            }
        }
    }
}

#[test]
fn programs_copy_it() {
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &[]);
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").arg(mount.path().join("by-path")).arg(folder.path()).output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let count = |folder: &Path, kind: &str| {
        let found = Command::new("find").arg(folder).args(["-type", kind, "-printf", "."]).output().unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        found.stdout.len()
    };
    for kind in ["f", "d", "l"] {
        assert_eq!(count(&folder.path().join("by-path"), kind), count(&mount.path().join("by-path"), kind), "-type {kind}");
    }
    let compared = Command::new("diff")
        .arg("-r")
        .arg("--no-dereference")
        .arg(mount.path().join("by-path"))
        .arg(folder.path().join("by-path"))
        .output()
        .unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
    for life in truth(&image).iter().filter(|life| life.is("file")) {
        let path = folder.path().join("by-path").join(mount.of(life).strip_prefix(mount.path().join("by-path")).unwrap());
        assert_eq!(sha256(&path), life.sha256(), "{}", path.display());
    }
}

#[test]
fn a_fragmented_file_from_many_sides_at_once() {
    let image = image("frag700", &[]);
    let mount = Mount::new(&image, &[]);
    let lives = truth(&image);
    let life = lives.iter().max_by_key(|life| life.size).unwrap();
    let path = mount.of(life);
    let size = life.size;
    assert_eq!(fs::metadata(&path).unwrap().len(), size);
    assert_eq!(sha256(&path), life.sha256());
    // A second mount, of which nothing is in the page cache yet, compared with the first.
    let again = Mount::new(&image, &[]);
    std::thread::scope(|scope| {
        for part in 0..8u64 {
            let (one, other) = (&path, again.of(life));
            scope.spawn(move || {
                let (one, other) = (File::open(one).unwrap(), File::open(other).unwrap());
                let (mut expected, mut found) = (vec![0; 5000], vec![0; 5000]);
                for step in 0..500 {
                    let offset = (part + step * 8).wrapping_mul(0x9E37_79B9_7F4A_7C15) % (size - 5000);
                    one.read_exact_at(&mut expected, offset).unwrap();
                    other.read_exact_at(&mut found, offset).unwrap();
                    assert!(expected == found, "at {offset}");
                }
            });
        }
    });
    assert_eq!(File::open(path).unwrap().read_at(&mut [0; 10], size).unwrap(), 0, "beyond the end");
}

#[test]
fn a_program_maps_a_file() {
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &[]);
    let lives = truth(&image);
    let life = lives.iter().filter(|life| life.is("file")).max_by_key(|life| life.size).unwrap();
    let script = "import hashlib, mmap, sys
with open(sys.argv[1], 'rb') as file:
    print(hashlib.sha256(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)).hexdigest())";
    let output = Command::new("python3").args(["-c", script]).arg(mount.of(life)).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), life.sha256(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn holes_are_told_from_data() {
    let image = image("sparse", &[]);
    let mount = Mount::new(&image, &[]);
    let lives = truth(&image);
    let life = &lives[0];
    let file = File::open(mount.of(life)).unwrap();
    let size = life.size;
    let mut expected: Vec<(u64, u64)> = Vec::new();
    for (first, _, count) in life.runs.iter().flatten() {
        let (first, count) = (first * 4096, count * 4096);
        match expected.last_mut() {
            Some(last) if last.1 == first => last.1 += count,
            _ => expected.push((first, first + count)),
        }
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, SeekFrom::Hole(data)).unwrap();
        found.push((data, at));
    }
    assert_eq!(found, expected);
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(size - 1)), Ok(size - 1), "it ends in a hole");
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(size)), Err(rustix::io::Errno::NXIO));
    let data: u64 = expected.iter().map(|(first, end)| end - first).sum();
    assert_eq!(file.metadata().unwrap().blocks(), data / 512);
    assert_eq!(sha256(&mount.of(life)), life.sha256());
}

#[test]
fn extended_attributes_tell_what_is_known() {
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &[]);
    let lives = truth(&image);
    let life = lives.iter().find(|life| life.is("file") && life.size > 0).unwrap();
    let path = mount.of(life);
    let get = |name: &str| xattr::get(&path, name).unwrap().map(|value| String::from_utf8(value).unwrap());
    assert_eq!(get("user.undelfs.state").as_deref(), Some("complete"));
    assert_eq!(get("user.undelfs.recovered").as_deref(), Some("1.0000"));
    assert_eq!(get("user.undelfs.inode"), Some(life.inode.to_string()));
    assert_eq!(get("user.undelfs.generation"), Some(life.generation.unwrap().to_string()));
    assert_eq!(get("user.undelfs.path").unwrap().as_bytes(), life.paths[0]);
    assert_eq!(get("user.undelfs.missing").as_deref(), Some("[]"));
    assert_eq!(get("user.undelfs.nothing"), None);
    let names: Vec<_> = xattr::list(&path).unwrap().collect();
    assert!(names.iter().all(|name| xattr::get(&path, name).unwrap().is_some()) && names.len() >= 8, "{names:?}");
    // So that `ls -l` asks for one file's ACL and not for each.
    let acl = xattr::get(&path, "system.posix_acl_access").unwrap_err();
    assert_eq!(acl.raw_os_error(), Some(libc::EOPNOTSUPP));
}

#[test]
fn thousands_of_files_are_open_at_once() {
    const WANTED: usize = 5000;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &[]);
    let lives = truth(&image);
    let files: Vec<_> = lives.iter().filter(|life| life.is("file") && life.size > 0).collect();
    let open: Vec<_> = files.iter().cycle().take(WANTED).map(|life| File::open(mount.of(life)).unwrap()).collect();
    for file in &open {
        file.read_exact_at(&mut [0], 0).unwrap();
    }
    let server = mount.server().unwrap();
    assert!(fs::read_dir(format!("/proc/{server}/fd")).unwrap().count() < 30, "the server opens nothing for it");
}

#[test]
fn the_mount_as_a_whole() {
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &[]);
    let stat = rustix::fs::statvfs(mount.path()).unwrap();
    assert_eq!((stat.f_bsize, stat.f_bavail, stat.f_namemax), (4096, 0, 255));
    assert!(stat.f_blocks > 0 && stat.f_files > 200);
    let line = mount.line().unwrap();
    let fields: Vec<_> = line.split(' ').collect();
    assert_eq!((fields[0], fields[2]), (image.to_str().unwrap(), "fuse.undelfs"));
    assert!(fields[3].starts_with("ro,nosuid,nodev,noexec,noatime"), "{line}");
    let device = fs::metadata(mount.path()).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let read_ahead = fs::read_to_string(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb")).unwrap();
    assert_eq!(read_ahead.trim(), "512");
    for (name, inode) in [("by-path", None), ("by-inode", None), ("ABOUT.txt", None), ("report.json", None), (".", Some(1))] {
        let metadata = fs::metadata(mount.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(inode.is_none_or(|inode| metadata.ino() == inode));
    }
}

#[test]
fn one_file_has_one_number_wherever_it_is_shown() {
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &[]);
    for life in truth(&image).iter().filter(|life| life.is("file")) {
        let by_path = fs::metadata(mount.of(life)).unwrap();
        let by_inode = fs::metadata(mount.path().join("by-inode").join(life.inode.to_string())).unwrap();
        assert_eq!(by_path.ino(), by_inode.ino());
    }
}
