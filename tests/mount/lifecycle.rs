//! A mount comes up, and goes away without leaving anything behind.

use crate::common::image;
use crate::common::truth::Life;
use crate::support::{Mount, PROGRAM, sha256, status, truth, undelfs, until};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

fn run(program: &str, mount: &Mount, flags: &[&str]) {
    let output = Command::new(program).args(flags).arg(mount.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn ready_when_the_command_returns() {
    let image = image("tree", &[]);
    let mount = Mount::point();
    let start = Instant::now();
    let output = mount.try_mount(&image, &[]);
    assert!(fs::read(mount.path().join("ABOUT.txt")).is_ok_and(|text| !text.is_empty()));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(status(&output), (0, String::new()));
    assert!(output.stdout.is_empty());
    let server = mount.server().unwrap();
    assert_eq!(fs::read_link(format!("/proc/{server}/cwd")).unwrap().to_str(), Some("/"));
    for descriptor in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{server}/fd/{descriptor}")).unwrap().to_str(), Some("/dev/null"));
    }
    assert_eq!(fs::read_to_string(format!("/proc/{server}/comm")).unwrap().trim(), "undelfs");
}

#[test]
fn unmounted_by_either_program() {
    let image = image("tree", &[]);
    for (program, flags) in [("fusermount3", &["-u"][..]), ("umount", &[])] {
        let mount = Mount::new(&image, &[]);
        run(program, &mount, flags);
        mount.gone();
    }
}

#[test]
fn signals_unmount() {
    let image = image("tree", &[]);
    for signal in ["TERM", "INT", "HUP"] {
        let mount = Mount::new(&image, &[]);
        mount.signal(signal);
        mount.gone();
    }
}

#[test]
fn in_front_it_ends_with_the_mount() {
    let image = image("tree", &[]);
    for end in [|mount: &Mount| mount.signal("TERM"), |mount: &Mount| run("umount", mount, &[])] {
        let (mount, mut child) = Mount::in_front(&image, &[]);
        end(&mount);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        mount.gone();
    }
}

#[test]
fn what_is_open_can_be_read_to_its_end_and_a_second_signal_stops_it() {
    let image = image("tree", &[]);
    let lives = truth(&image);
    let life = lives.iter().filter(|life| life.is("file")).max_by_key(|life| life.size).unwrap();
    for twice in [false, true] {
        let mount = Mount::new(&image, &[]);
        let file = File::open(mount.of(life)).unwrap();
        mount.signal("TERM");
        until("unmounted", || !mount.is_mounted());
        if twice {
            mount.signal("TERM");
            until("ended", || mount.server().is_none());
            assert!(file.read_at(&mut [0; 10], 0).is_err());
        } else {
            file.read_exact_at(&mut vec![0; life.size as usize], 0).unwrap();
        }
        drop(file);
        mount.gone();
    }
}

#[test]
fn auto_unmount_survives_a_kill() {
    let image = image("tree", &[]);
    for signal in ["KILL", "TERM"] {
        let mount = Mount::new(&image, &["-o", "auto_unmount"]);
        mount.signal(signal);
        mount.gone();
    }
}

#[test]
fn a_dead_mount_is_named_as_such() {
    let image = image("tree", &[]);
    let mount = Mount::new(&image, &[]);
    mount.signal("KILL");
    until("dead", || mount.server().is_none());
    let (code, text) = status(&mount.try_mount(&image, &[]));
    assert_eq!(code, 2);
    assert!(text.contains("umount"), "{text}");
    run("umount", &mount, &[]);
    assert_eq!(status(&mount.try_mount(&image, &[])), (0, String::new()));
}

#[test]
fn an_image_that_shrinks_costs_the_reads_and_not_the_server() {
    let original = image("tree", &[]);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("shrinking.img");
    assert!(Command::new("cp").arg("--sparse=always").args([&original, &image]).status().unwrap().success());
    let mount = Mount::new(&image, &[]);
    // Where each file's first and last block lie.
    let lives = truth(&original);
    let extent = |life: &Life| {
        let runs = life.runs.iter().flatten().map(|(_, block, count)| (*block, block + count));
        let runs = runs.chain(life.indirect.iter().map(|(.., block)| (*block, block + 1)));
        runs.fold((u64::MAX, 0), |all, run| (all.0.min(run.0), all.1.max(run.1)))
    };
    let mut files: Vec<_> = lives.iter().filter(|life| life.is("file") && life.size > 0).collect();
    files.sort_by_key(|life| extent(life).1);
    let cut = extent(files[files.len() / 2]).1;
    File::options().write(true).open(&image).unwrap().set_len(cut * 4096).unwrap();
    let (mut whole, mut failed) = (0, 0);
    for life in &files {
        let path = mount.of(life);
        let (first, end) = extent(life);
        if end <= cut {
            assert_eq!(sha256(&path), life.sha256(), "{}", path.display());
            whole += 1;
        } else if first >= cut {
            assert_eq!(fs::read(&path).unwrap_err().raw_os_error(), Some(libc::EIO), "{}", path.display());
            failed += 1;
        }
    }
    assert!(whole > 10 && failed > 10, "{whole} {failed}");
    run("umount", &mount, &[]);
    mount.gone();
}

#[test]
fn relative_paths_are_understood() {
    let image = image("tree", &[]);
    let mount = Mount::point();
    let folder = image.parent().unwrap();
    let name = image.file_name().unwrap();
    let output = undelfs(["mount".as_ref(), name, mount.path().as_os_str()]).current_dir(folder).output().unwrap();
    assert_eq!(status(&output), (0, String::new()));
    assert!(mount.path().join("by-path/lost").is_dir());
    assert!(mount.line().unwrap().starts_with(image.to_str().unwrap()));
}

#[test]
fn mount_and_fstab() {
    let image = image("tree", &[]);
    let mount = Mount::point();
    let folder = mount.path().parent().unwrap().to_owned();
    let (programs, fstab) = (folder.join("bin"), folder.join("fstab"));
    fs::create_dir(&programs).unwrap();
    fs::copy(PROGRAM, programs.join("undelfs")).unwrap();
    let options = "ro,noauto,nofail,x-systemd.automount,uid=123,umask=077";
    fs::write(&fstab, format!("{} {} fuse.undelfs {options} 0 0\n", image.display(), mount.path().display())).unwrap();
    // In a mount namespace of its own, in which the program is where mount.fuse looks for it.
    let script = "mount --bind $BIN /usr/local/bin
        mount -t fuse.undelfs $I $M && ls -d $M/by-path/lost && umount $M
        mount -T $FSTAB $M && stat -c '%u %a' $M/by-path/lost && umount $M
        mount -t fuse.undelfs $I $M -o no_such_word";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).env("BIN", &programs).env("FSTAB", &fstab).env("I", &image).env("M", mount.path());
    let output = command.output().unwrap();
    let (code, text) = status(&output);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}/by-path/lost\n123 500\n", mount.path().display()));
    assert!(code != 0 && text.contains("no_such_word"), "{code} {text}");
    mount.gone();
}
