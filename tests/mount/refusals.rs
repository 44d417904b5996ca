//! What cannot be mounted or written says so in one line.

use crate::common::image;
use crate::support::{Mount, PROGRAM, status, truth};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

#[test]
fn nothing_can_be_written() {
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &["-o", "rw"]);
    let lives = truth(&image);
    let file = mount.of(lives.iter().find(|life| life.is("file")).unwrap());
    let new = mount.path().join("new");
    type Attempt<'a> = (&'a str, &'a dyn Fn() -> io::Result<()>);
    let attempts: [Attempt; 11] = [
        ("create", &|| File::create(&new).map(drop)),
        ("mkdir", &|| fs::create_dir(&new)),
        ("symlink", &|| symlink("target", &new)),
        ("link", &|| fs::hard_link(&file, &new)),
        ("rename", &|| fs::rename(&file, &new)),
        ("unlink", &|| fs::remove_file(&file)),
        ("open for writing", &|| OpenOptions::new().write(true).open(&file).map(drop)),
        ("truncate", &|| OpenOptions::new().write(true).truncate(true).open(&file).map(drop)),
        ("chmod", &|| fs::set_permissions(&file, Permissions::from_mode(0o777))),
        ("setxattr", &|| xattr::set(&file, "user.new", b"value")),
        ("removexattr", &|| xattr::remove(&file, "user.undelfs.state")),
    ];
    for (what, attempt) in attempts {
        assert_eq!(attempt().unwrap_err().raw_os_error(), Some(libc::EROFS), "{what}");
    }
}

#[test]
fn mount_points_and_options_that_will_not_do() {
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &[]);
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let cases: [(&Path, &Path, &[&str], i32, &str); 9] = [
        (&image, &absent, &[], 2, "mkdir"),
        (&image, &file, &[], 2, "is not a folder"),
        (&image, folder.path(), &[], 2, "is not empty"),
        (&image, &mount.path(), &[], 2, "mounted on it already"),
        (&image, &empty, &["-o", "ro,alow_other"], 2, "alow_other"),
        (&image, &empty, &["-o", "uid=root"], 2, "uid=root"),
        (&absent, &empty, &[], 3, "no such file"),
        (&file, &empty, &[], 3, "is empty"),
        (folder.path(), &empty, &[], 3, "is a folder"),
    ];
    for (image, point, options, expected, word) in cases {
        for front in [false, true] {
            let mut command = crate::support::undelfs(["mount".as_ref(), image.as_os_str(), point.as_os_str()]);
            let output = command.args(options).args(front.then_some("-f")).output().unwrap();
            let (code, text) = status(&output);
            assert_eq!(code, expected, "{text}");
            assert!(text.contains(word) && text.lines().count() == 1, "{text}");
        }
    }
}

#[test]
fn missing_can_be_an_error() {
    let image = image("wrapped", &[]);
    let lives = truth(&image);
    let (zeros, errors) = (Mount::new(&image, &[]), Mount::new(&image, &["--missing", "error"]));
    for life in lives.iter().filter(|life| life.is("file")) {
        let path = zeros.of(life);
        let Ok(Some(missing)) = xattr::get(&path, "user.undelfs.missing") else { continue };
        fs::read(&path).unwrap();
        let result = fs::read(errors.of(life));
        assert_eq!(result.is_ok(), missing == b"[]", "{}", path.display());
    }
}

#[test]
fn without_the_device_or_the_module() {
    let image = image("tree", &[]);
    let mount = Mount::point();
    let script = |device: &str| {
        format!(
            "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && {device} && exec {PROGRAM} mount {} {}",
            image.display(),
            mount.path().display()
        )
    };
    for (device, word) in [
        ("true", "modprobe fuse"),
        // A number that no driver has.
        ("mknod -m 666 /dev/fuse c 10 254", "modprobe fuse"),
    ] {
        let output = Command::new("unshare").args(["-m", "sh", "-c", &script(device)]).output().unwrap();
        let (code, text) = status(&output);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(word) && text.lines().count() == 1, "{text}");
    }
}

#[test]
fn what_is_mounted_read_write_is_refused() {
    let original = image("tree", &[]);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("in-use.img");
    assert!(Command::new("cp").arg("--sparse=always").args([&original, &image]).status().unwrap().success());
    let inside = Mount::point();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(inside.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run("mount", &["-o", "loop", image.to_str().unwrap()]);
    let mount = Mount::point();
    let (code, text) = status(&mount.try_mount(&image, &[]));
    assert_eq!(code, 2);
    assert!(text.contains("is mounted read-write") && text.contains("--force"), "{text}");
    run("mount", &["-o", "remount,ro"]);
    assert_eq!(status(&mount.try_mount(&image, &[])), (0, String::new()));
}
