//! The commands. Results go to the standard output, everything else to the standard error.

mod args;
mod copy;
mod hint;
mod info;
mod list;
mod messages;
mod mount;
mod options;
mod orphan;
mod progress;
mod scan;
mod select;
mod show;
mod terminal;
mod values;

use args::{Command, CommandLine, Global, ImageArgs, Scan};
use progress::Meter;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use undelfs::catalog::Place;
use undelfs::fuse::mount::CHILD_ARGUMENT;
use undelfs::image::{Image, ImageOptions, Io};
use undelfs::recover::{OpenOptions, Recovery};
use undelfs::tree::Tree;
use undelfs::{Error, Result};

/// Runs the command that the program's arguments name, and says what went wrong.
pub fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let child = words.get(1).is_some_and(|word| word == CHILD_ARGUMENT);
    if child {
        words.remove(1);
    }
    let line = match args::parse(words) {
        Ok(line) => line,
        Err(error) => {
            match args::complaint(&error) {
                Some(complaint) => messages::error(&complaint),
                // Help that cannot be written is not wanted any more: the pipe is closed.
                None => drop(error.print()),
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let status = run(line, child).unwrap_or_else(|error| {
        messages::error(&error.to_string());
        error.exit_status()
    });
    ExitCode::from(status)
}

/// Runs a command; returns its exit status where it says itself why that is not 0.
fn run(line: CommandLine, child: bool) -> Result<u8> {
    let CommandLine { global, command } = line;
    match command {
        Command::Mount(args) => return mount::run(args, &global, child),
        Command::Scan(args) => scan::run(&args, &global)?,
        Command::List(args) => list::run(&args, &global)?,
        Command::Show(args) => show::run(&args, &global)?,
        Command::Copy(args) => copy::run(&args, &global)?,
        Command::Info(args) => info::run(&args, &global)?,
    }
    Ok(0)
}

/// The image as the command line names it, once the log is begun.
fn start(args: &ImageArgs, global: &Global) -> Result<ImageOptions> {
    let image = ImageOptions {
        path: args.image.clone(),
        offset: args.offset,
        partition: args.partition,
        mapfile: args.mapfile.clone(),
        journal: args.journal.clone(),
        force: args.force,
        io: match args.io {
            args::Io::Map => Io::Map,
            args::Io::Pread => Io::Pread,
        },
    };
    if let Some(log) = &global.log
        && Image::open(&image)?.holds(log).map_err(|error| Error::path(log, error))?
    {
        return Err(Error::Failed(format!("{}: is on the filesystem to be recovered, where nothing may be written", log.display())));
    }
    messages::start(global)?;
    Ok(image)
}

/// Where the catalog is.
fn place(args: &ImageArgs) -> Place {
    match &args.catalog {
        _ if args.no_catalog => Place::Nowhere,
        Some(path) => Place::File(path.clone()),
        None => Place::Cache,
    }
}

/// The image, and how to look for what was lost from it.
fn open_options(args: &ImageArgs, global: &Global) -> Result<OpenOptions> {
    Ok(OpenOptions {
        image: start(args, global)?,
        superblock: args.superblock,
        scan: args.recovery.scan != Scan::No,
        catalog: place(args),
        hints: args.recovery.hint.clone(),
        content: !args.recovery.no_content,
        still: args.recovery.still,
        cache: usize::try_from(args.cache).unwrap_or(usize::MAX),
    })
}

/// Refuses what only a mount can do.
fn refuse_background(args: &ImageArgs) -> Result<()> {
    match args.recovery.scan {
        Scan::Background => Err(Error::Usage(
            "--scan background is for mount only: without a mount there is nothing to go on behind; --scan wait and --scan no are possible"
                .into(),
        )),
        _ => Ok(()),
    }
}

/// Opens the image and finds what was lost.
fn open(args: &ImageArgs, global: &Global) -> Result<Arc<Tree>> {
    refuse_background(args)?;
    let options = open_options(args, global)?;
    let meter = Meter::new(global);
    let recovery = Recovery::open(&options, &meter);
    meter.finish();
    Ok(Arc::new(Tree::build(Arc::new(recovery?))))
}
