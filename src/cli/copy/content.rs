//! The bytes of one lost file, from the image into another file. Holes and what is missing stay holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use undelfs::recover::file::FileId;
use undelfs::recover::{Recovery, Segment};

/// Bytes of the file that are looked up at once. While they are written the system already reads those after them, so this is also
/// how far it reads ahead; enough to keep a disk busy, little enough to see the progress.
const WINDOW: u64 = 8 << 20;
/// Across a hole the window grows up to here: a sparse file of terabytes takes thousands of steps, not millions.
const WINDOW_MAX: u64 = 16 << 30;
/// Bytes that are read at once where they cannot be written straight from the map.
const BUFFER: usize = 1 << 20;

/// What ends the copy of a file.
#[derive(Debug)]
pub enum Failure {
    /// The image cannot be read here, and unreadable ranges were not to become zeros.
    Read(io::Error),
    /// The copy cannot be written.
    Write(io::Error),
    /// `progress` said that it is to end.
    Stopped,
}

/// Writes the content into the empty file `out`, whose size is set already. Returns how many bytes could not be read, and are zeros.
///
/// `progress` is told of bytes done, and answers whether to go on.
pub fn write(recovery: &Recovery, id: FileId, out: &File, strict: bool, progress: &mut dyn FnMut(u64) -> bool) -> Result<u64, Failure> {
    let mut writer = Writer { recovery, id, out, strict, buffer: Vec::new(), unreadable: 0 };
    let size = recovery.file(id).size;
    let (mut now, mut next) = (Vec::new(), Vec::new());
    let mut window = WINDOW;
    recovery.segments(id, 0, window, &mut now);
    let mut at = 0;
    while !now.is_empty() {
        let end = at + length(&now);
        window = if matches!(now.as_slice(), [Segment::Zeros { .. }]) { (window * 2).min(WINDOW_MAX) } else { WINDOW };
        next.clear();
        if end > at && end < size {
            recovery.segments(id, end, window, &mut next);
        }
        for segment in &next {
            if let Segment::Image { offset, len } = segment {
                recovery.image().will_need(*offset, *len);
            }
        }
        for segment in &now {
            let len = match *segment {
                Segment::Image { offset, len } => writer.image(at, offset, len).map(|()| len),
                Segment::Gather { len } => writer.gather(at, len).map(|()| len),
                Segment::Zeros { len, .. } => {
                    at += len;
                    continue;
                }
            }?;
            at += len;
            if !progress(len) {
                return Err(Failure::Stopped);
            }
        }
        std::mem::swap(&mut now, &mut next);
    }
    Ok(writer.unreadable)
}

fn length(segments: &[Segment]) -> u64 {
    segments
        .iter()
        .map(|segment| match *segment {
            Segment::Image { len, .. } | Segment::Zeros { len, .. } | Segment::Gather { len } => len,
        })
        .sum()
}

struct Writer<'a> {
    recovery: &'a Recovery,
    id: FileId,
    out: &'a File,
    strict: bool,
    buffer: Vec<u8>,
    unreadable: u64,
}

impl Writer<'_> {
    /// Bytes that lie in the image one after another.
    fn image(&mut self, at: u64, offset: u64, len: u64) -> Result<(), Failure> {
        let image = self.recovery.image();
        if let Some(bytes) = image.slice(offset, len) {
            match self.out.write_all_at(bytes, at) {
                // The kernel could not read the map: a bad sector, or an image that has shrunk.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::FAULT.raw_os_error()) => {}
                result => return result.map_err(Failure::Write),
            }
        }
        self.buffered(at, len, |_, buffer, done| image.read_exact_at(buffer, offset + done))
    }

    /// Bytes that have to be put together first.
    fn gather(&mut self, at: u64, len: u64) -> Result<(), Failure> {
        let (recovery, id) = (self.recovery, self.id);
        self.buffered(at, len, |at, buffer, done| match recovery.read_at(id, at + done, buffer)? {
            read if read == buffer.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    /// Reads and writes by way of memory; where reading fails, again block by block, so that one bad sector costs no more than its block.
    fn buffered(&mut self, at: u64, len: u64, read: impl Fn(u64, &mut [u8], u64) -> io::Result<()>) -> Result<(), Failure> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER, 0);
        let mut done = 0;
        while done < len {
            let piece = chunk(&mut buffer, len - done);
            if read(at, piece, done).is_ok() {
                self.out.write_all_at(piece, at + done).map_err(Failure::Write)?;
                done += piece.len() as u64;
                continue;
            }
            let end = done + piece.len() as u64;
            while done < end {
                let block = chunk(&mut buffer, (end - done).min(self.recovery.block_size()));
                match read(at, block, done) {
                    Ok(()) => self.out.write_all_at(block, at + done).map_err(Failure::Write)?,
                    Err(error) if self.strict => return Err(Failure::Read(error)),
                    Err(error) => {
                        log::info!("byte {} of the file cannot be read: {error}", at + done);
                        self.unreadable += block.len() as u64;
                    }
                }
                done += block.len() as u64;
            }
        }
        self.buffer = buffer;
        Ok(())
    }
}

/// The first `len` bytes of `buffer`, or all of it.
fn chunk(buffer: &mut [u8], len: u64) -> &mut [u8] {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len());
    &mut buffer[..len]
}
