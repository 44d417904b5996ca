//! Cuts what is to be copied into jobs: up to 1 MiB of data in a row, however many fragments that is.

use std::collections::VecDeque;
use std::io;
use undelfs::recover::{Recovery, Segment};
use undelfs::tree::Source;

/// Bytes of the file that are looked up at once. The system is told of those after them, so this is also how far it reads ahead; enough to
/// keep a disk busy.
const WINDOW: u64 = 8 << 20;
/// Across a hole the window grows up to here: a sparse file of terabytes takes thousands of steps, not millions.
const WINDOW_MAX: u64 = 16 << 30;
/// Bytes of a job at most: the fragments of a file are gathered, and are still in the processor's cache when they are written.
const MOST: usize = 1 << 20;

/// Bytes of one segment.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The segment.
    pub segment: Segment,
    /// Byte of the file at which the part begins.
    pub at: u64,
    /// Bytes of the segment before it.
    pub skip: u64,
    /// Its length in bytes.
    pub count: usize,
}

/// Parts that follow each other in the file.
#[derive(Default)]
pub struct Job {
    /// The parts.
    pub parts: Vec<Part>,
    /// Their bytes.
    pub bytes: usize,
}

/// Goes through a file, from its start to its end.
pub struct Cutter<'a> {
    recovery: &'a Recovery,
    source: Source,
    strict: bool,
    /// What comes next, and after that what the system was told of.
    now: VecDeque<Segment>,
    next: Vec<Segment>,
    /// Byte of the file up to which segments were looked up.
    seen: u64,
    window: u64,
    /// Byte of the file at which `now` goes on, so far into its first segment.
    at: u64,
    skip: u64,
    /// Bytes so far that are missing.
    pub missing: u64,
}

impl<'a> Cutter<'a> {
    /// Begins with the file. With `strict`, bytes that are missing are an error.
    pub fn new(recovery: &'a Recovery, source: Source, strict: bool) -> Self {
        let (now, next) = (VecDeque::new(), vec![]);
        let mut cutter = Cutter { recovery, source, strict, now, next, seen: 0, window: WINDOW, at: 0, skip: 0, missing: 0 };
        cutter.look_ahead();
        cutter
    }

    /// Looks up another window.
    fn look_ahead(&mut self) {
        self.next.clear();
        if self.seen < self.source.size(self.recovery) || self.seen == 0 {
            self.source.segments(self.recovery, self.seen, self.window, &mut self.next);
        }
        self.seen += self.next.iter().map(length).sum::<u64>();
        self.window = if matches!(self.next.as_slice(), [Segment::Zeros { .. }]) { (self.window * 2).min(WINDOW_MAX) } else { WINDOW };
        for segment in &self.next {
            if let Segment::Image { offset, len } = segment {
                self.recovery.image().will_need(*offset, *len);
            }
        }
    }

    /// Puts the next bytes to be copied into `job`; it is empty after the last.
    ///
    /// # Errors
    /// Where something is missing that must not be.
    pub fn next(&mut self, job: &mut Job) -> io::Result<()> {
        job.parts.clear();
        job.bytes = 0;
        while job.bytes < MOST {
            let Some(segment) = self.now.front().copied() else {
                if self.next.is_empty() {
                    break;
                }
                self.now.extend(self.next.drain(..));
                self.look_ahead();
                continue;
            };
            let left = length(&segment) - self.skip;
            if let Segment::Zeros { missing, .. } = segment {
                if job.bytes > 0 {
                    break;
                }
                if missing && self.strict {
                    return Err(io::Error::other(format!("{left} bytes are missing from byte {} on", self.at)));
                }
                self.missing += if missing { left } else { 0 };
                self.advance(left, left);
                continue;
            }
            let count = usize::try_from(left).map_or(MOST, |left| left.min(MOST)).min(MOST - job.bytes);
            job.parts.push(Part { segment, at: self.at, skip: self.skip, count });
            job.bytes += count;
            self.advance(count as u64, left);
        }
        Ok(())
    }

    /// Goes on by `bytes` of the `left` ones of the first segment.
    fn advance(&mut self, bytes: u64, left: u64) {
        self.at += bytes;
        self.skip += bytes;
        if bytes == left {
            self.now.pop_front();
            self.skip = 0;
        }
    }
}

fn length(segment: &Segment) -> u64 {
    match *segment {
        Segment::Image { len, .. } | Segment::Zeros { len, .. } | Segment::Gather { len } => len,
    }
}
