//! The bytes of one lost file, or of free space, from the image into another file. Holes and what is missing stay holes.
//!
//! A large file is read by a second thread while what it has read before is written. Reads go into memory of our own: writing straight
//! from the memory map is no faster, and what was mapped would count as memory in use.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::thread;
use undelfs::recover::{Recovery, Segment};
use undelfs::tree::Source;

/// Bytes of the file that are looked up at once. The system is told of those after them, so this is also how far it reads ahead; enough to
/// keep a disk busy.
const WINDOW: u64 = 8 << 20;
/// Across a hole the window grows up to here: a sparse file of terabytes takes thousands of steps, not millions.
const WINDOW_MAX: u64 = 16 << 30;
/// Bytes that are written at once: the fragments of a file are gathered.
const BUFFER: usize = 1 << 20;
/// Buffers on their way between the two threads.
const BUFFERS: usize = 4;
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
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<u64, Failure> {
    let mut failure = None;
    let mut put = |piece: &Piece| {
        failure = match out.write_all_at(&piece.buffer[..piece.filled], piece.at) {
            Ok(()) if progress(piece.filled as u64) => None,
            Ok(()) => Some(Failure::Stopped),
            Err(error) => Some(Failure::Write(error)),
        };
        failure.is_none()
    };
    let reader = Reader { recovery, source, strict };
    let read = if data < ALONE_BELOW { reader.read(&mut |piece| put(&piece).then_some(piece)) } else { in_two(reader, &mut put) };
    match failure {
        Some(failure) => Err(failure),
        None => read.map_err(Failure::Read),
    }
}

/// Bytes of the file from `at` on.
#[derive(Default)]
struct Piece {
    at: u64,
    /// So many bytes at the start of `buffer`.
    filled: usize,
    /// Room, which grows as it is needed and is not cleared: that would take as long as a third of the copy.
    buffer: Vec<u8>,
}

/// Reads in a second thread, and writes in this one.
fn in_two(reader: Reader, put: &mut dyn FnMut(&Piece) -> bool) -> io::Result<u64> {
    let (full, written) = mpsc::sync_channel::<Piece>(BUFFERS);
    let (done, empty) = mpsc::channel::<Piece>();
    for _ in 1..BUFFERS {
        // The receiver is there, so this cannot fail.
        let _ = done.send(Piece::default());
    }
    thread::scope(|scope| {
        let reading = thread::Builder::new().spawn_scoped(scope, move || {
            reader.read(&mut |piece| {
                full.send(piece).ok()?;
                empty.recv().ok()
            })
        })?;
        for piece in &written {
            if !put(&piece) {
                break;
            }
            // The reader may have come to the end.
            let _ = done.send(piece);
        }
        // If this thread gives up, the other waits for nothing any more.
        drop((written, done));
        reading.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread has died")))
    })
}

struct Reader<'a> {
    recovery: &'a Recovery,
    source: Source,
    strict: bool,
}

impl Reader<'_> {
    /// Reads all there is, and hands it over piece by piece; `hand` gives back a piece to fill, or nothing to end it. Returns how many
    /// bytes are missing.
    fn read(&self, hand: &mut dyn FnMut(Piece) -> Option<Piece>) -> io::Result<u64> {
        let size = self.source.size(self.recovery);
        let (mut now, mut next) = (Vec::new(), Vec::new());
        let mut piece = Piece::default();
        let mut missing = 0;
        let mut window = WINDOW;
        let mut at = 0;
        self.source.segments(self.recovery, 0, window, &mut now);
        while !now.is_empty() {
            let end = at + now.iter().map(length).sum::<u64>();
            window = if matches!(now.as_slice(), [Segment::Zeros { .. }]) { (window * 2).min(WINDOW_MAX) } else { WINDOW };
            next.clear();
            if end > at && end < size {
                self.source.segments(self.recovery, end, window, &mut next);
            }
            for segment in &next {
                if let Segment::Image { offset, len } = segment {
                    self.recovery.image().will_need(*offset, *len);
                }
            }
            for segment in &now {
                let len = length(segment);
                if matches!(segment, Segment::Zeros { missing: true, .. }) {
                    if self.strict {
                        return Err(io::Error::other(format!("{len} bytes are missing from byte {at} on")));
                    }
                    missing += len;
                }
                let mut done = 0;
                while done < len && !matches!(segment, Segment::Zeros { .. }) {
                    let filled = piece.filled;
                    let fits = piece.at + filled as u64 == at + done;
                    if filled > 0 && (!fits || filled == BUFFER) {
                        let Some(empty) = hand(piece) else { return Ok(missing) };
                        piece = Piece { filled: 0, ..empty };
                        continue;
                    }
                    if filled == 0 {
                        piece.at = at + done;
                    }
                    let count = usize::try_from(len - done).map_or(BUFFER, |left| left.min(BUFFER - filled));
                    if piece.buffer.len() < filled + count {
                        piece.buffer.resize(filled + count, 0);
                    }
                    piece.filled += count;
                    missing += self.fill(segment, at, done, &mut piece.buffer[filled..piece.filled])?;
                    done += count as u64;
                }
                at += len;
            }
            std::mem::swap(&mut now, &mut next);
        }
        if piece.filled > 0 {
            hand(piece);
        }
        Ok(missing)
    }

    /// Fills `buffer` with the bytes of a segment that begins at byte `at` of the file, from its byte `skip` on. Where that fails, again
    /// block by block, so that a bad sector costs no more than its block. Returns how many bytes could not be read, and are zeros.
    fn fill(&self, segment: &Segment, at: u64, skip: u64, buffer: &mut [u8]) -> io::Result<u64> {
        let read = |buffer: &mut [u8], skip: u64| match segment {
            Segment::Image { offset, .. } => self.recovery.image().read_exact_at(buffer, offset + skip),
            Segment::Gather { .. } => match self.source.gather(self.recovery, at + skip, buffer)? {
                count if count == buffer.len() => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Segment::Zeros { .. } => Ok(()),
        };
        if read(buffer, skip).is_ok() {
            return Ok(0);
        }
        let mut unreadable = 0;
        let mut skip = skip;
        for block in buffer.chunks_mut(usize::try_from(self.recovery.block_size()).unwrap_or(BUFFER).max(1)) {
            if let Err(error) = read(block, skip) {
                if self.strict {
                    return Err(error);
                }
                log::info!("byte {} of the file cannot be read: {error}", at + skip);
                block.fill(0);
                unreadable += block.len() as u64;
            }
            skip += block.len() as u64;
        }
        Ok(unreadable)
    }
}

fn length(segment: &Segment) -> u64 {
    match *segment {
        Segment::Image { len, .. } | Segment::Zeros { len, .. } | Segment::Gather { len } => len,
    }
}
