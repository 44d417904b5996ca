//! The words behind `-o`.

use crate::error::{Error, Result};

/// Who besides the user who mounts may look at the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Access {
    /// Nobody, as FUSE has it by default.
    #[default]
    Owner,
    /// root (`allow_root`).
    Root,
    /// Everybody, each as far as modes and owners let them (`allow_other`).
    Everybody,
}

/// How to mount, and how the files look.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MountOptions {
    /// Who may look (`allow_root`, `allow_other`).
    pub access: Access,
    /// Owner of all files instead of their own (`uid=`).
    pub uid: Option<u32>,
    /// Group of all files instead of their own (`gid=`).
    pub gid: Option<u32>,
    /// Permissions that nobody gets, instead of the files' own modes (`umask=`, octal).
    pub umask: Option<u16>,
    /// The kernel checks modes and owners (`default_permissions`; with `allow_other` it always does).
    pub default_permissions: bool,
    /// `fusermount3` stays and unmounts even when this process is killed (`auto_unmount`).
    pub auto_unmount: bool,
    /// What the mount table shows as the source (`fsname=`).
    pub fsname: Option<String>,
    /// Reading what is missing gives `EIO` instead of zeros. Not a word of `-o` but the command line's `--missing error`.
    pub missing_is_error: bool,
}

/// Words of mount(8) and fstab(5) that ask for nothing here: for other programs to read, without meaning for a mount that cannot be
/// written to, or done anyway. `rw`, `dev` and `suid` are among them because mount(8) and mount.fuse(8) pass them unasked; the mount is
/// read-only, without devices and setuid all the same.
const IGNORED: &[&str] = &[
    "_netdev",
    "async",
    "atime",
    "auto",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "group",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "noexec",
    "nofail",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "ro",
    "rw",
    "silent",
    "strictatime",
    "suid",
    "sync",
    "user",
    "users",
];

/// Words with a value of the same sort: notes, and `x-systemd.…=` and the like.
const IGNORED_WITH_VALUE: &[&str] = &["comment", "user"];

impl MountOptions {
    /// Reads the arguments of all `-o`, each a list of words with commas between them; `\,` is a comma and `\\` a backslash in a word.
    /// The last of contradicting words wins.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the word that is unknown or has a value that makes no sense.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for word in arguments.iter().flat_map(|argument| split(argument)).filter(|word| !word.is_empty()) {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            match (name, value) {
                ("allow_other", None) => options.access = Access::Everybody,
                ("allow_root", None) => options.access = Access::Root,
                ("default_permissions", None) => options.default_permissions = true,
                ("auto_unmount", None) => options.auto_unmount = true,
                ("fsname", Some(value)) if !value.is_empty() => options.fsname = Some(value.to_owned()),
                ("uid", Some(value)) => options.uid = Some(value.parse().map_err(|_| bad(&word, "is no user number"))?),
                ("gid", Some(value)) => options.gid = Some(value.parse().map_err(|_| bad(&word, "is no group number"))?),
                ("umask", Some(value)) => options.umask = Some(parse_umask(value).ok_or_else(|| bad(&word, "is no octal mask"))?),
                (name, None) if IGNORED.contains(&name) => {}
                (name, Some(_)) if IGNORED_WITH_VALUE.contains(&name) => {}
                (name, _) if name.starts_with("x-") || name.starts_with("X-") => {}
                _ => return Err(bad(&word, "is not known")),
            }
        }
        Ok(options)
    }
}

fn bad(word: &str, what: &str) -> Error {
    Error::Usage(format!("mount option -o {} {what}", word.escape_debug()))
}

fn parse_umask(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777)
}

/// The words of one argument.
fn split(argument: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = argument.chars();
    while let Some(char) = chars.next() {
        match char {
            ',' => words.push(std::mem::take(&mut word)),
            '\\' => word.push(chars.next().unwrap_or('\\')),
            char => word.push(char),
        }
    }
    words.push(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<MountOptions> {
        MountOptions::parse(&arguments.iter().map(|argument| argument.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn each_word_has_its_effect() {
        let nothing = MountOptions::default();
        for (word, expected) in [
            ("", nothing.clone()),
            ("allow_other", MountOptions { access: Access::Everybody, ..nothing.clone() }),
            ("allow_root", MountOptions { access: Access::Root, ..nothing.clone() }),
            ("uid=1000,gid=100", MountOptions { uid: Some(1000), gid: Some(100), ..nothing.clone() }),
            ("umask=022", MountOptions { umask: Some(0o022), ..nothing.clone() }),
            ("default_permissions,auto_unmount", MountOptions { default_permissions: true, auto_unmount: true, ..nothing.clone() }),
            (r"fsname=a\,b\\c", MountOptions { fsname: Some(r"a,b\c".into()), ..nothing.clone() }),
            ("ro,defaults,noauto,user,nofail,_netdev,nosuid,x-systemd.requires=/home,comment=mine", nothing.clone()),
            ("rw,dev,suid", nothing.clone()),
            (",,ro,", nothing.clone()),
        ] {
            assert_eq!(parse(&[word]).unwrap(), expected, "{word}");
        }
        let several = parse(&["ro", "uid=1,allow_other", "uid=2"]).unwrap();
        assert_eq!(several, MountOptions { access: Access::Everybody, uid: Some(2), ..nothing });
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (argument, word) in [
            ("ro,alow_other", "alow_other"),
            ("uid=root", "uid=root"),
            ("uid=", "uid="),
            ("gid=-1", "gid=-1"),
            ("umask=9", "umask=9"),
            ("umask=1777", "umask=1777"),
            ("fsname=", "fsname="),
            ("uid", "uid"),
            ("allow_other=yes", "allow_other=yes"),
        ] {
            let Err(Error::Usage(text)) = parse(&[argument]) else { panic!("{argument}") };
            assert!(text.contains(&format!("-o {word} is")), "{text}");
        }
    }
}
