//! Going to the background without forking a process that has threads: the command starts itself a second time, and waits until that
//! process says that the mount is ready. Its standard output is the pipe through which it says so, and its standard error stays the
//! terminal until then.

use crate::error::{Error, Result};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

/// The hidden argument, put before all others, that tells the second process what it is.
pub const CHILD_ARGUMENT: &str = "--background-child";

/// What the child writes when the mount is ready.
const READY: u8 = b'+';

/// Starts this command again with the same arguments and waits until it is ready or has failed. Returns the exit status: 0, or that
/// of the child, which has said why.
///
/// # Errors
/// [`Error::Failed`] where it cannot be started, or was killed.
pub fn start() -> Result<u8> {
    let failed = |error: io::Error| Error::Failed(format!("cannot start the background process: {error}"));
    let (mut reader, writer) = io::pipe().map_err(failed)?;
    let mut arguments = std::env::args_os();
    // By its link in /proc, which stands for this very program even if its file has been replaced or removed.
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.arg(CHILD_ARGUMENT).args(arguments).stdin(Stdio::null()).stdout(writer);
    let mut child = command.spawn().map_err(failed)?;
    // It holds our copy of the pipe's writing end, which would keep the pipe open after the child's death.
    drop(command);
    let mut byte = [0];
    if matches!(reader.read(&mut byte), Ok(1)) && byte == [READY] {
        return Ok(0);
    }
    let status = child.wait().map_err(failed)?;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ok(u8::try_from(code).unwrap_or(1)),
        (None, signal) => Err(Error::Failed(format!("the background process was killed by signal {}", signal.unwrap_or_default()))),
    }
}

/// In the child: lets go of the terminal and the working folder, and tells the parent that the mount is ready.
///
/// # Errors
/// Where the parent is gone, for one; nobody waits for the mount then.
pub fn ready() -> io::Result<()> {
    let pipe = io::stdout().as_fd().try_clone_to_owned()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    rustix::process::setsid()?;
    // Started through /proc/self/exe it would be called `exe`, and `pgrep undelfs` would not find it.
    rustix::thread::set_name(c"undelfs")?;
    std::env::set_current_dir("/")?;
    File::from(pipe).write_all(&[READY])
}
