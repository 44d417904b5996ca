//! The bytes of one lost file, or of free space, from the image into another file. Holes and what is missing stay holes.
//!
//! Of a large file two threads take turns, each reading and writing a job of its own: what a processor has read is still in its cache when
//! it writes it. (One that reads and one that writes take twice as long.) Reads go into memory of our own: what was mapped would count as
//! memory in use.

use super::cutter::{Cutter, Job, Part};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use undelfs::recover::{Recovery, Segment};
use undelfs::tree::Source;

/// A second thread is not worth starting for fewer bytes.
const ALONE_BELOW: u64 = 4 << 20;

/// What ends the copy of a file.
#[derive(Debug)]
pub enum Failure {
    /// Something is missing or cannot be read, and was not to become zeros.
    Read(io::Error),
    /// The copy cannot be written.
    Write(io::Error),
    /// `progress` said that it is to end.
    Stopped,
}

/// Writes the content into the empty file `out`, whose size is set already. Returns how many bytes are missing or could not be read, and
/// are zeros; with `strict`, such a byte is a failure. About `data` bytes are to be written.
///
/// `progress` is told of bytes written, and answers whether to go on.
pub fn write(
    recovery: &Recovery,
    (source, data): (Source, u64),
    out: &File,
    strict: bool,
    progress: &mut (dyn FnMut(u64) -> bool + Send),
) -> Result<u64, Failure> {
    let state = State { cutter: Cutter::new(recovery, source, strict), progress, unreadable: 0, failure: None };
    let work = Work { recovery, source, out, strict, state: Mutex::new(state) };
    thread::scope(|scope| {
        // Where no thread can be had, this one does it all.
        let other = (data >= ALONE_BELOW).then(|| thread::Builder::new().spawn_scoped(scope, || work.go()));
        work.go();
        if let Some(Ok(other)) = other
            && other.join().is_err()
        {
            work.fail(Failure::Read(io::Error::other("the second thread has died")));
        }
    });
    let state = work.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failure.map_or(Ok(state.cutter.missing + state.unreadable), Err)
}

/// What the threads share.
struct Work<'a> {
    recovery: &'a Recovery,
    source: Source,
    out: &'a File,
    strict: bool,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    cutter: Cutter<'a>,
    progress: &'a mut (dyn FnMut(u64) -> bool + Send),
    /// Bytes that could not be read.
    unreadable: u64,
    /// The first thing that went wrong. After it, nobody goes on.
    failure: Option<Failure>,
}

impl<'a> Work<'a> {
    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, failure: Failure) {
        self.lock().failure.get_or_insert(failure);
    }

    /// Takes one job after the other until none is left.
    fn go(&self) {
        // Grows as it is needed and is not cleared: that would take as long as a third of the copy.
        let (mut job, mut buffer) = (Job::default(), Vec::new());
        while self.take(&mut job) {
            buffer.resize(buffer.len().max(job.bytes), 0);
            if let Err(failure) = self.copy(&job, &mut buffer[..job.bytes]) {
                return self.fail(failure);
            }
        }
    }

    /// Whether there is another job.
    fn take(&self, job: &mut Job) -> bool {
        let mut state = self.lock();
        if state.failure.is_some() {
            return false;
        }
        match state.cutter.next(job) {
            Ok(()) => job.bytes > 0,
            Err(error) => {
                state.failure = Some(Failure::Read(error));
                false
            }
        }
    }

    fn copy(&self, job: &Job, buffer: &mut [u8]) -> Result<(), Failure> {
        let Some(first) = job.parts.first() else { return Ok(()) };
        let (mut unreadable, mut rest) = (0, &mut *buffer);
        for part in &job.parts {
            let (bytes, more) = rest.split_at_mut(part.count);
            unreadable += self.fill(part, bytes).map_err(Failure::Read)?;
            rest = more;
        }
        self.out.write_all_at(buffer, first.at).map_err(Failure::Write)?;
        let mut state = self.lock();
        state.unreadable += unreadable;
        if (state.progress)(job.bytes as u64) { Ok(()) } else { Err(Failure::Stopped) }
    }

    /// Fills `buffer` with the bytes of a part. Where that fails, again block by block, so that a bad sector costs no more than its block.
    /// Returns how many bytes could not be read, and are zeros.
    fn fill(&self, part: &Part, buffer: &mut [u8]) -> io::Result<u64> {
        let read = |buffer: &mut [u8], done: u64| match part.segment {
            Segment::Image { offset, .. } => self.recovery.image().read_exact_at(buffer, offset + part.skip + done),
            Segment::Gather { .. } => match self.source.gather(self.recovery, part.at + done, buffer)? {
                count if count == buffer.len() => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Segment::Zeros { .. } => Ok(()),
        };
        if read(buffer, 0).is_ok() {
            return Ok(0);
        }
        let (mut unreadable, mut done) = (0, 0);
        let block_size = usize::try_from(self.recovery.block_size()).unwrap_or(buffer.len()).max(1);
        for block in buffer.chunks_mut(block_size) {
            if let Err(error) = read(block, done) {
                if self.strict {
                    return Err(error);
                }
                log::info!("byte {} of the file cannot be read: {error}", part.at + done);
                block.fill(0);
                unreadable += block.len() as u64;
            }
            done += block.len() as u64;
        }
        Ok(unreadable)
    }
}
