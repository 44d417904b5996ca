//! The command line, as `undelfs --help` shows it.

use super::{hint, values};
use clap::builder::{OsStringValueParser, Styles, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use undelfs::recover::Hint;

/// Shows the files that were lost from an ext2/3 filesystem, deleted or truncated, as ordinary files.
///
/// IMAGE is a device, or an image of a device or of a single partition. It is only ever read.
#[derive(Parser, Debug)]
#[command(name = "undelfs", version, max_term_width = 110, styles = Styles::styled(), disable_help_subcommand = true)]
pub struct CommandLine {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// Say more of what is done; twice and thrice for more still
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    pub color: Color,
    /// How to say how far it is: as suits the standard error, or one JSON object a line for other programs
    #[arg(long, global = true, value_name = "HOW", default_value = "auto", hide_default_value = true)]
    pub progress: HowFar,
    /// Append messages to FILE, with their time, instead of writing them to the standard error
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum HowFar {
    /// A bar on a terminal, else a line every 30 seconds
    Auto,
    /// {"progress":WHAT,"done":N,"total":N|null,"unit":"bytes"|null,"found":N|null}
    Json,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Mount the lost files
    Mount(MountArgs),
    /// Look through the image once, and keep what is found in a catalog
    Scan(ScanArgs),
    /// List lost files
    List(ListArgs),
    /// Show what is known of one lost file
    Show(ShowArgs),
    /// Copy lost files, without mounting
    #[command(override_usage = "undelfs copy [OPTIONS] <IMAGE> <FILE>... <DEST>")]
    Copy(CopyArgs),
    /// Describe the filesystem, and what there is to work with
    Info(InfoArgs),
}

/// The image, and how to read it.
#[derive(Args, Debug)]
pub struct ImageArgs {
    /// Device or image file
    pub image: PathBuf,
    /// Where the filesystem begins (also 63s, 1MiB)
    #[arg(long, value_name = "BYTES", value_parser = values::bytes, help_heading = "Image options", conflicts_with = "partition")]
    pub offset: Option<u64>,
    /// Partition number, as fdisk counts them; a disk with one ext filesystem does not need it
    #[arg(long, value_name = "N", help_heading = "Image options")]
    pub partition: Option<u32>,
    /// Use the superblock in this block; a backup is found by itself when the first is damaged
    #[arg(long, value_name = "BLOCK", help_heading = "Image options")]
    pub superblock: Option<u64>,
    /// GNU ddrescue mapfile of the image: what was never read counts as missing
    #[arg(long, value_name = "FILE", help_heading = "Image options")]
    pub mapfile: Option<PathBuf>,
    /// External journal: device or image file
    #[arg(long, value_name = "DEVICE", help_heading = "Image options")]
    pub journal: Option<PathBuf>,
    /// Keep what the scan finds in FILE instead of the user's caches
    #[arg(long, value_name = "FILE", help_heading = "Image options")]
    pub catalog: Option<PathBuf>,
    /// Neither use nor write a catalog
    #[arg(long, help_heading = "Image options", conflicts_with = "catalog")]
    pub no_catalog: bool,
    /// Memory for block maps of files once they are resolved (also 64M); all files share it
    #[arg(long, value_name = "SIZE", value_parser = values::bytes, default_value = "16M", help_heading = "Image options")]
    pub cache: u64,
    /// How to read: map is faster, pread tells errors of a failing medium apart
    #[arg(long, value_name = "HOW", default_value = "map", hide_default_value = true, help_heading = "Image options")]
    pub io: Io,
    /// Read a device although it is mounted read-write (with copy: also replace existing files)
    #[arg(long, help_heading = "Image options")]
    pub force: bool,
    #[command(flatten)]
    pub recovery: RecoveryArgs,
}

/// How to look for what was lost.
#[derive(Args, Debug)]
pub struct RecoveryArgs {
    /// What you know of a lost file: path=, inode=, size= (also 10G), deleted= (2026-01-23, '2026-01-23 10:00' or RFC 3339), any of them;
    /// a comma in a path is written \, (repeatable)
    #[arg(long, value_name = "NAME=VALUE,…", value_parser = OsStringValueParser::new().try_map(|text| hint::parse(text.as_bytes())), help_heading = "Recovery options")]
    pub hint: Vec<Hint>,
    /// Whether to look through free space for files whose inode is gone; without it, only files that the journal remembers are found
    #[arg(long, value_name = "WHEN", default_value = "auto", hide_default_value = true, help_heading = "Recovery options")]
    pub scan: Scan,
    /// Do not use what the content of files proves to place blocks that no pointer names
    #[arg(long, help_heading = "Recovery options")]
    pub no_content: bool,
    /// Hardly anything was written since the loss: show as inferred what the journal no longer vouches for, rather than withhold it
    #[arg(long, help_heading = "Recovery options")]
    pub still: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// Before anything is shown; but where that takes more than a minute, mount goes on without waiting for it
    Auto,
    /// Before anything is shown
    Wait,
    /// Behind the mount, which shows at first what the journal remembers, and the rest when it is found (only with mount)
    Background,
    /// Not at all
    No,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Io {
    Map,
    Pread,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Missing ranges read as zeros
    Zero,
    /// Missing ranges are errors
    Error,
}

#[derive(Args, Debug)]
pub struct MountArgs {
    #[command(flatten)]
    pub image: ImageArgs,
    /// Empty folder to mount on
    pub mountpoint: PathBuf,
    /// Stay in the foreground
    #[arg(short, long)]
    pub foreground: bool,
    /// allow_other, allow_root, default_permissions, auto_unmount, uid=, gid=, umask= (octal), fsname=, and the long options of this
    /// command (offset=, partition=, missing=, …)
    #[arg(short = 'o', value_name = "OPTION,…", action = ArgAction::Append)]
    pub options: Vec<String>,
    /// What reading a missing range gives: zeros, or an error (EIO)
    #[arg(long, value_name = "WHAT", default_value = "zero")]
    pub missing: Missing,
}

#[derive(Args, Debug)]
pub struct ScanArgs {
    #[command(flatten)]
    pub image: ImageArgs,
    /// Block groups to look through before the others (repeatable)
    #[arg(long, value_name = "A-B", value_parser = values::groups)]
    pub group: Vec<RangeInclusive<u64>>,
    /// Look first where the kernel puts the blocks of this inode (repeatable)
    #[arg(long, value_name = "inode:N", value_parser = values::inode)]
    pub near: Vec<u32>,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    pub image: ImageArgs,
    /// Only files whose path matches, or whose name where GLOB has no '/'; ** crosses folders (repeatable: any of them)
    #[arg(long, value_name = "GLOB", help_heading = "Filters")]
    pub path: Vec<String>,
    /// Only files lost at TIME or later: '2026-01-23', '2026-01-23 10:00' (local), RFC 3339, '2h' or '3d' (ago)
    #[arg(long, value_name = "TIME", value_parser = values::time, help_heading = "Filters")]
    pub deleted_after: Option<jiff::Timestamp>,
    /// Only files lost before TIME
    #[arg(long, value_name = "TIME", value_parser = values::time, help_heading = "Filters")]
    pub deleted_before: Option<jiff::Timestamp>,
    /// Only files of this size and larger (also 10K, 4M, 1G)
    #[arg(long, value_name = "SIZE", value_parser = values::bytes, help_heading = "Filters")]
    pub min_size: Option<u64>,
    /// Only files of which nothing is missing
    #[arg(long, help_heading = "Filters")]
    pub complete: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Write nothing but paths, raw and each ended by NUL
    #[arg(short = '0', long, conflicts_with = "json")]
    pub print0: bool,
    /// Leave out the table's header
    #[arg(short, long)]
    pub no_header: bool,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    pub image: ImageArgs,
    /// Lost file: its path as under by-path/ in the mount, or inode:N, or inode:N@VERSION, or chain:BLOCK
    pub file: OsString,
    /// Write JSON, with every range
    #[arg(long)]
    pub json: bool,
    /// Write the file's map for another program instead
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    pub map: Option<MapFormat>,
    /// Show every run, however many
    #[arg(long)]
    pub all_runs: bool,
    /// Read the whole of a database table to count its rows, however large (up to 64 MiB this is done anyway)
    #[arg(long, conflicts_with_all = ["json", "map"])]
    pub content: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapFormat {
    /// GNU ddrescue mapfile: + what is there, - what is missing
    Ddrescue,
}

#[derive(Args, Debug)]
pub struct CopyArgs {
    #[command(flatten)]
    pub image: ImageArgs,
    /// Lost files or folders: paths as under by-path/ in the mount ('/' for all), or inode:N, or inode:N@VERSION, or chain:BLOCK; or
    /// unclaimed.img. And where to: a folder (made if need be), or for one file also its new name
    #[arg(required = true, num_args = 1.., value_name = "FILE> <DEST")]
    names: Vec<OsString>,
    /// What becomes of files with missing ranges: zeros stand in for them, or they are not copied
    #[arg(long, value_name = "WHAT", default_value = "zero")]
    pub missing: Missing,
}

impl CopyArgs {
    /// The lost files, and where to. That both are there is checked by [`parse`]: two positional arguments would not do, since clap takes
    /// the first for complete where an option stands behind it.
    pub fn files_and_dest(&self) -> (&[OsString], &Path) {
        self.names.split_last().map_or((&[], Path::new("")), |(dest, files)| (files, Path::new(dest)))
    }
}

#[derive(Args, Debug)]
pub struct InfoArgs {
    #[command(flatten)]
    pub image: ImageArgs,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// Parses the program's arguments (the first is its own name). `undelfs IMAGE MOUNTPOINT -o …`, which is how `mount.fuse` calls it, means
/// `undelfs mount IMAGE MOUNTPOINT -o …`.
pub fn parse(mut args: Vec<OsString>) -> Result<CommandLine, clap::Error> {
    if means_mount(args.get(1..).unwrap_or_default(), Path::exists) {
        args.insert(1, "mount".into());
    }
    let line = CommandLine::try_parse_from(args)?;
    match &line.command {
        Command::Copy(copy) if copy.files_and_dest().0.is_empty() => Err(CommandLine::command()
            .error(ErrorKind::MissingRequiredArgument, "copy needs a <FILE> and <DEST>: undelfs copy IMAGE FILE... DEST")),
        _ => Ok(line),
    }
}

/// Whether these arguments mount without saying so: the first that is neither an option nor an option's value is not a command, and it
/// looks like an image. A mistyped command alone does not, so that it is answered as such.
fn means_mount(args: &[OsString], exists: impl Fn(&Path) -> bool) -> bool {
    let command = CommandLine::command();
    let Some(mount) = command.find_subcommand("mount") else { return false };
    let takes_value = |name: &[u8]| {
        mount.get_arguments().chain(command.get_arguments()).any(|argument| {
            let long = name.strip_prefix(b"--").is_some_and(|name| argument.get_long().is_some_and(|long| long.as_bytes() == name));
            // Of several short options in one word only the last can have its value in the next.
            let short = !name.starts_with(b"--") && argument.get_short().is_some_and(|short| name.last() == Some(&(short as u8)));
            (long || short) && argument.get_action().takes_values()
        })
    };
    let mut options_given = false;
    let mut rest = args.iter().map(OsString::as_os_str);
    while let Some(word) = rest.next() {
        let bytes = word.as_encoded_bytes();
        if bytes == b"--" {
            return rest.next().is_some();
        } else if bytes.len() > 1 && bytes.starts_with(b"-") {
            options_given |= bytes.starts_with(b"-o");
            if takes_value(bytes) {
                rest.next();
            }
        } else {
            let is_command = command.get_subcommands().any(|known| OsStr::new(known.get_name()) == word);
            let options_given = options_given || rest.any(|word| word.as_encoded_bytes().starts_with(b"-o"));
            return !is_command && (options_given || bytes.contains(&b'/') || exists(Path::new(word)));
        }
    }
    false
}

/// What clap has to say as one line, or `None` for help and version, which are no errors.
pub fn complaint(error: &clap::Error) -> Option<String> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
        return None;
    }
    let text = error.to_string();
    let text = text.split("\n\nUsage:").next().unwrap_or_default();
    let text = text.split("\n\nFor more information").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let words: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Some(format!("{} (see undelfs --help)", words.join(" ").replace(" tip: ", "; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn definitions_are_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn mount_needs_no_word() {
        for line in [
            "/dev/sdb1 /mnt -o ro,allow_other",
            "-o ro disk /mnt",
            "disk /mnt -o ro",
            "-oro disk /mnt",
            "--color always -o partition=2 disk /mnt",
            "-q /dev/sdb1 /mnt",
            "--offset 512 there /mnt",
            "there /mnt",
            "-- list /mnt",
        ] {
            assert!(means_mount(&words(line), |path| path == Path::new("there")), "{line}");
        }
        let line = parse(words("undelfs -o ro,allow_other disk /mnt"));
        assert!(matches!(line.map(|line| line.command), Ok(Command::Mount(MountArgs { options, .. })) if options == ["ro,allow_other"]));
    }

    #[test]
    fn commands_are_not_images() {
        for line in ["list there", "--color always list there", "-v --log there mount there /mnt", "lst there", "--help", "-o ro", ""] {
            assert!(!means_mount(&words(line), |path| path == Path::new("there")), "{line}");
        }
    }

    #[test]
    fn options_stand_anywhere_among_what_is_copied() {
        for line in [
            "copy image /a /b dest --missing error",
            "copy image /a --missing error /b dest",
            "copy image /a /b --missing=error dest -q",
            "copy --missing error image -- /a /b dest",
        ] {
            let Ok(Command::Copy(args)) = parse(words(&format!("undelfs {line}"))).map(|line| line.command) else { panic!("{line}") };
            assert_eq!(args.files_and_dest(), (&["/a".into(), "/b".into()][..], Path::new("dest")), "{line}");
            assert!(args.missing == Missing::Error && args.image.image == Path::new("image"), "{line}");
        }
    }

    #[test]
    fn complaints_are_one_line() {
        for line in ["undelfs lst x", "undelfs list", "undelfs list --jsn x", "undelfs list x --min-size many", "undelfs copy x y"] {
            let complaint = parse(words(line)).err().as_ref().and_then(complaint);
            assert!(complaint.as_ref().is_some_and(|text| !text.contains('\n') && !text.starts_with("error")), "{complaint:?}");
        }
    }
}
