//! How a file's bytes get from the image to the kernel.

use crate::image::Image;
use crate::recover::{FileId, Recovery, Segment};
use fuser::{Errno, ReplyData};
use std::cell::RefCell;
use std::io;

/// What a thread keeps from one request to the next, so that none of them allocates. A request asks for 1 MiB at most.
#[derive(Default)]
struct Scratch {
    segments: Vec<Segment>,
    buffer: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Answers a read of `size` bytes from `offset` on. A request that lies in one piece of the image is answered with a slice of the memory
/// map, which the kernel copies from; all others are put together in memory.
pub fn send(recovery: &Recovery, file: FileId, offset: u64, size: u32, missing_is_error: bool, reply: ReplyData) {
    SCRATCH.with_borrow_mut(|Scratch { segments, buffer }| {
        segments.clear();
        recovery.segments(file, offset, size.into(), segments);
        if missing_is_error && segments.iter().any(|segment| matches!(segment, Segment::Zeros { missing: true, .. })) {
            return reply.error(Errno::EIO);
        }
        let image = recovery.image();
        for segment in &*segments {
            if let Segment::Image { offset, len } = *segment {
                image.will_need(offset, len);
            }
        }
        if let [Segment::Image { offset, len }] = segments[..]
            && let Some(slice) = image.slice(offset, len)
        {
            return reply.data(slice);
        }
        match gather(recovery, image, file, offset, segments, buffer) {
            Ok(()) => reply.data(buffer),
            Err(error) => {
                log::warn!("file {}, {size} bytes from {offset} on: {error}", file.0);
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

/// Fills `buffer` with the bytes of `segments`, which begin at byte `offset` of the file.
fn gather(recovery: &Recovery, image: &Image, file: FileId, offset: u64, segments: &[Segment], buffer: &mut Vec<u8>) -> io::Result<()> {
    let total: u64 = segments.iter().map(length).sum();
    // Not cleared first: every byte is written below.
    buffer.resize(usize::try_from(total).map_err(io::Error::other)?, 0);
    let mut rest = &mut buffer[..];
    let mut at = offset;
    for segment in segments {
        let (part, tail) = rest.split_at_mut(usize::try_from(length(segment)).map_err(io::Error::other)?);
        match *segment {
            Segment::Image { offset, .. } => image.read_exact_at(part, offset)?,
            Segment::Zeros { .. } => part.fill(0),
            Segment::Gather { len } => {
                let got = recovery.read_at(file, at, part)?;
                if got as u64 != len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        rest = tail;
        at += length(segment);
    }
    Ok(())
}
