//! How a file's bytes get from the image to the kernel.

use crate::image::Image;
use crate::recover::{Recovery, Segment};
use crate::tree::Source;
use fuser::{Errno, ReplyData, RequestId};
use rustix::io::Errno as SystemErrno;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

/// Pieces that one `writev` takes, the header among them (`UIO_MAXIOV`, include/uapi/linux/uio.h).
const PIECES_MAX: usize = 1024;

/// What holes are made of.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What a thread keeps from one request to the next, so that none of them allocates. A request asks for 1 MiB at most.
#[derive(Default)]
struct Scratch {
    segments: Vec<Segment>,
    buffer: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Of what.
    pub source: Source,
    /// First byte.
    pub offset: u64,
    /// Bytes that are asked for.
    pub size: u32,
    /// Whether what is missing is an error instead of zeros.
    pub missing_is_error: bool,
}

/// Answers a read. Its pieces go to the kernel straight from the memory map, in one `writev` to `device`, the open FUSE device; where
/// there is no map, or a piece must be put together first, they are read into memory.
pub fn send(recovery: &Recovery, read: Read, device: &OwnedFd, request: RequestId, reply: ReplyData) {
    SCRATCH.with_borrow_mut(|Scratch { segments, buffer }| {
        segments.clear();
        read.source.segments(recovery, read.offset, read.size.into(), segments);
        if read.missing_is_error && segments.iter().any(|segment| matches!(segment, Segment::Zeros { missing: true, .. })) {
            return reply.error(Errno::EIO);
        }
        let image = recovery.image();
        for segment in &*segments {
            if let Segment::Image { offset, len } = *segment {
                image.will_need(offset, len);
            }
        }
        let total: u64 = segments.iter().map(length).sum();
        let header = header(request, total);
        if let Some(pieces) = borrow(image, &header, segments) {
            return send_pieces(read, device, &pieces, reply);
        }
        match gather(recovery, read, segments, buffer) {
            Ok(()) => reply.data(buffer),
            Err(error) => {
                log::warn!("{read:?}: {error}");
                reply.error(Errno::EIO);
            }
        }
    });
}

/// Bytes of a piece.
const fn length(segment: &Segment) -> u64 {
    match *segment {
        Segment::Image { len, .. } | Segment::Zeros { len, .. } | Segment::Gather { len } => len,
    }
}

/// `struct fuse_out_header` (include/uapi/linux/fuse.h) of an answer with `total` bytes behind it: length with the header, error,
/// request.
fn header(request: RequestId, total: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&(total as u32 + 16).to_ne_bytes());
    header[8..].copy_from_slice(&request.0.to_ne_bytes());
    header
}

/// The header, and the segments as slices of the memory map and of zeros; `None` where some cannot be had so.
fn borrow<'a>(image: &'a Image, header: &'a [u8], segments: &[Segment]) -> Option<Vec<IoSlice<'a>>> {
    let mut pieces = Vec::with_capacity(segments.len() + 1);
    pieces.push(IoSlice::new(header));
    for segment in segments {
        match *segment {
            Segment::Image { offset, len } => pieces.push(IoSlice::new(image.slice(offset, len)?)),
            Segment::Zeros { len, .. } => {
                let mut left = usize::try_from(len).ok()?;
                while left > 0 {
                    let piece = &ZEROS[..left.min(ZEROS.len())];
                    pieces.push(IoSlice::new(piece));
                    left -= piece.len();
                }
            }
            Segment::Gather { .. } => return None,
        }
    }
    (pieces.len() <= PIECES_MAX).then_some(pieces)
}

/// Sends the pieces, instead of `reply`, which can send only one slice: copying them together first costs a fifth of the speed of a
/// fragmented file.
fn send_pieces(read: Read, device: &OwnedFd, pieces: &[IoSlice<'_>], reply: ReplyData) {
    let answered = match rustix::io::writev(device, pieces) {
        // Interrupted, or the mount is gone: nobody waits for the answer.
        Ok(_) | Err(SystemErrno::NOENT | SystemErrno::NODEV) => true,
        Err(error) => {
            log::warn!("{read:?}: the image cannot be read: {error}");
            // The image has shrunk, or the medium has failed under the map. The kernel has answered EIO by itself then
            // (fuse_dev_do_write, fs/fuse/dev.c).
            error == SystemErrno::FAULT
        }
    };
    if answered {
        // Dropped, it would answer a second time. What is forgotten with it is one count of the session's device.
        std::mem::forget(reply);
    } else {
        reply.error(Errno::EIO);
    }
}

/// Fills `buffer` with the bytes of `segments`, which are those of `read`.
fn gather(recovery: &Recovery, read: Read, segments: &[Segment], buffer: &mut Vec<u8>) -> io::Result<()> {
    let total: u64 = segments.iter().map(length).sum();
    // Not cleared first: every byte is written below.
    buffer.resize(usize::try_from(total).map_err(io::Error::other)?, 0);
    let mut rest = &mut buffer[..];
    let mut at = read.offset;
    for segment in segments {
        let (part, tail) = rest.split_at_mut(usize::try_from(length(segment)).map_err(io::Error::other)?);
        match *segment {
            Segment::Image { offset, .. } => recovery.image().read_exact_at(part, offset)?,
            Segment::Zeros { .. } => part.fill(0),
            Segment::Gather { len } => {
                if read.source.gather(recovery, at, part)? as u64 != len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        rest = tail;
        at += length(segment);
    }
    Ok(())
}
