//! As an ordinary user, through `fusermount3`.

use crate::common::image;
use crate::support::{Mount, PROGRAM};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A copy of the program and of an image where everybody can reach them.
struct Shared {
    folder: tempfile::TempDir,
    image: PathBuf,
}

impl Shared {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("tree.img");
        assert!(Command::new("cp").arg("--sparse=always").arg(crate::common::image("tree", &[])).arg(&image).status().unwrap().success());
        fs::copy(PROGRAM, folder.path().join("undelfs")).unwrap();
        assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()).status().unwrap().success());
        Shared { folder, image }
    }

    /// Runs `script` as nobody, in a mount namespace in which everybody may open `/dev/fuse`, as on a machine with udev. `before` is run
    /// there by root first. In both, `$U` is the program, `$I` the image and `$M` a mount point that belongs to nobody.
    fn run(&self, before: &str, script: &str) -> Output {
        let mount = Mount::point();
        let device = self.folder.path().join("fuse");
        let preparation = format!(
            "set -e; [ -e {0} ] || mknod {0} c 10 229; chmod 666 {0}; mount --bind {0} /dev/fuse; chown nobody $M; {before}\n\
             exec runuser -u nobody -- sh -c \"$SCRIPT\"",
            device.display()
        );
        Command::new("unshare")
            .args(["-m", "sh", "-c", &preparation])
            .env("U", self.folder.path().join("undelfs"))
            .env("I", &self.image)
            .env("M", mount.path())
            .env("SCRIPT", script)
            .output()
            .unwrap()
    }

    fn check(&self, before: &str, script: &str, expected: &str) {
        let output = self.run(before, script);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out.trim_end(), expected, "{script}\n{err}");
    }
}

#[test]
fn mounts_reads_and_unmounts() {
    let shared = Shared::new();
    image("tree", &[]);
    let script = "$U mount $I $M && ls -d $M/by-path/lost/* >/dev/null && find $M/by-path -type f -exec cat {} + | wc -c > /dev/null && echo read; \
                  grep -c \" $M fuse.undelfs ro,\" /proc/mounts; fusermount3 -u $M; grep -c \" $M \" /proc/mounts";
    shared.check("", script, "read\n1\n0");
}

#[test]
fn signals_unmount() {
    let shared = Shared::new();
    let script = "$U mount -f $I $M & sleep 0.1; while ! grep -q \" $M \" /proc/mounts; do sleep 0.05; done; kill -TERM $!; wait $!; echo $?; \
                  grep -c \" $M \" /proc/mounts; ls $M | wc -l";
    shared.check("", script, "0\n0\n0");
    let busy = "$U mount -f $I $M & sleep 0.1; while ! grep -q \" $M \" /proc/mounts; do sleep 0.05; done; exec 5<$M/ABOUT.txt; kill -TERM $!; \
                while grep -q \" $M \" /proc/mounts; do sleep 0.05; done; head -c 1 <&5 | wc -c; exec 5<&-; wait $!; echo $?";
    shared.check("", busy, "1\n0");
}

#[test]
fn others_only_where_the_system_allows_it() {
    let shared = Shared::new();
    shared.check("", "$U mount $I $M -o allow_other 2>&1 | grep -c user_allow_other; ls $M | wc -l", "1\n0");
    shared.check("", "$U mount $I $M -o auto_unmount 2>&1 | grep -c allow_root; ls $M | wc -l", "1\n0");
    let allow = "echo user_allow_other > ${I%/*}/fuse.conf; mount --bind ${I%/*}/fuse.conf /etc/fuse.conf";
    let script = "$U mount $I $M -o allow_other && grep -c allow_other,default_permissions /proc/mounts; fusermount3 -u $M";
    shared.check(allow, &script.replace("allow_other,default_permissions", "default_permissions,allow_other"), "1");
}

#[test]
fn without_what_it_takes() {
    let shared = Shared::new();
    let no_helper = "for f in /bin/fusermount* /usr/bin/fusermount*; do mount --bind /dev/null $f || true; done";
    shared.check(no_helper, "$U mount $I $M 2>&1 | grep -c 'install fuse3'", "1");
    shared.check("chmod 600 /dev/fuse", "$U mount $I $M 2>&1 | grep -c 'chmod 666 /dev/fuse'", "1");
    shared.check("chown root $M", "$U mount $I $M 2>&1 | grep -c 'no write access'", "1");
    shared.check("chmod 600 $I", "$U mount $I $M 2>&1 | grep -c 'permission denied'", "1");
}
