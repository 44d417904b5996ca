//! Files that are one record after another without a gap: where one ends, the next must begin. That is what ties a block of the
//! file to the one before it.

use super::Verdict;
use super::bytes::advance;
use std::borrow::Cow;

/// What stands at a place where a record should begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A record; the next begins so many bytes on. Never 0.
    Record(u32),
    /// The bytes end before that can be told.
    Cut,
    /// No record.
    Wrong,
}

/// A way to tell the length of a record from its first bytes.
pub trait Records {
    /// Records begin at multiples of this in the file, and so in every filesystem block.
    fn align(&self) -> usize;
    /// How many bytes of a record tell its length at the latest.
    fn head(&self) -> usize;
    /// What stands at the start of `bytes`.
    fn step(&self, bytes: &[u8]) -> Step;
    /// Whether whatever may stand inside the record that begins here: then what looks like other records within it is no
    /// contradiction.
    fn is_opaque(&self, _head: &[u8]) -> bool {
        false
    }
    /// Whether the record that begins here says for its own sake that it is one. What can be found anywhere does not count where records are
    /// looked for.
    fn is_telling(&self, _bytes: &[u8]) -> bool {
        true
    }
    /// The columns of the whole row that begins here, as far as the bytes go, or what tells them; `None` where it is none, or cannot be told.
    fn data<'a>(&self, _bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        None
    }
}

/// Where the records of a block can begin: for each place the number of whole heads that follow each other from there to the
/// block's end.
pub struct Phases {
    align: usize,
    counts: Vec<Option<u32>>,
}

impl Phases {
    /// Looks at every place in the block, from its end to its start: one step for each place.
    pub fn of(records: &(impl Records + ?Sized), block: &[u8]) -> Phases {
        let align = records.align().max(1);
        let mut counts = vec![None; block.len().div_ceil(align)];
        for place in (0..counts.len()).rev() {
            let bytes = &block[place * align..];
            counts[place] = match records.step(bytes) {
                Step::Wrong => None,
                Step::Cut => Some(0),
                // A record of a length that is not a multiple of the alignment leads nowhere.
                Step::Record(length) if !(length as usize).is_multiple_of(align) => None,
                Step::Record(length) => match counts.get(place + length as usize / align) {
                    Some(after) => after.map(|count| count + u32::from(records.is_telling(bytes))),
                    None => Some(u32::from(records.is_telling(bytes))),
                },
            };
        }
        Phases { align, counts }
    }

    /// Whole heads that follow each other from byte `at` to the block's end; `None` if the chain breaks before it.
    pub fn count(&self, at: usize) -> Option<u32> {
        if !at.is_multiple_of(self.align) {
            return None;
        }
        self.counts.get(at / self.align).copied().flatten()
    }

    /// The place from which most heads follow each other, and how many: where records begin if nothing else is known. Stale
    /// records in a deleted one, which its length covers, may be among them; they lead to the right place in the next block all
    /// the same.
    pub fn best(&self) -> Option<(usize, u32)> {
        let best = self.counts.iter().enumerate().filter_map(|(place, count)| count.map(|count| (place, count)));
        // The first of the longest: counts fall along a chain.
        best.max_by_key(|&(place, count)| (count, std::cmp::Reverse(place)))
            .filter(|&(_, count)| count > 0)
            .map(|(place, count)| (place * self.align, count))
    }

    /// How much it says that records begin at `at`. Of all places in the block some would do as well; another block of the
    /// file, which has its records at other places, fits with just that chance. A chain without one whole head says nothing.
    pub fn verdict(&self, at: usize) -> Verdict {
        match self.count(at) {
            None => Verdict::Contradicted,
            Some(0) => Verdict::POSSIBLE,
            Some(_) => Verdict::of(self.counts.len(), self.counts.iter().flatten().filter(|&&count| count > 0).count()),
        }
    }
}

/// The chain of records broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Break {
    /// Byte of the block given at which no record begins although one must (0 also for one whose head began in the block before).
    pub at: usize,
    /// Only zeros follow: perhaps the file's end.
    pub zeros: bool,
}

/// Heads from which a chain is taken for records without knowing where they begin. See the rates at [`Walker::fits`].
pub const MIN_SYNC: u32 = 4;

/// Follows the records of a file from block to block.
#[derive(Clone, Debug)]
pub struct Walker<R> {
    /// How to read them.
    pub records: R,
    /// Bytes fed and skipped since the start.
    position: u64,
    /// Bytes of the current record that are still to come.
    owed: u64,
    opaque: bool,
    /// The start of a record's head that the last block cut.
    carry: Vec<u8>,
}

impl<R: Records> Walker<R> {
    /// At a place of the file where a record begins; `position` is its offset (or 0 if that is not known), `skip` the bytes
    /// before the first record.
    pub fn new(records: R, position: u64, skip: u64) -> Self {
        Walker { records, position, owed: skip, opaque: true, carry: vec![] }
    }

    /// After a block of which only the bytes are known, at `position`. `None` if fewer than [`MIN_SYNC`] records in a row are
    /// found in it.
    pub fn resume(records: R, position: u64, block: &[u8]) -> Option<Self> {
        let (at, count) = Phases::of(&records, block).best()?;
        let mut walker = Walker::new(records, position, at as u64);
        (count >= MIN_SYNC && walker.feed(block, |_, _| ()).is_ok()).then_some(walker)
    }

    /// Offset in the file of the next byte to feed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Byte of the next block at which a record begins, if the block is that long; `None` if the head of that record has begun
    /// in the last block.
    pub fn boundary(&self) -> Option<u64> {
        self.carry.is_empty().then_some(self.owed)
    }

    /// Byte of `next` at which the first record begins if it is the next block, where the last block cut a head as well; `None` where it holds
    /// no beginning, or not even that head.
    pub fn begins_in(&self, next: &[u8]) -> Option<usize>
    where
        R: Clone,
    {
        let at = if self.carry.is_empty() { Some(self.owed) } else { self.clone().rest_of_head(next, &mut |_, _| ()).ok()? };
        usize::try_from(at?).ok().filter(|at| *at < next.len())
    }

    /// Whether the file can end here.
    pub fn can_end(&self) -> bool {
        self.owed == 0 && self.carry.is_empty()
    }

    /// Passes over bytes that are missing. `false` if records begin in them: then it is not known where the next one behind
    /// them begins, and another walker is to be started with [`Walker::resume`].
    pub fn skip(&mut self, bytes: u64) -> bool {
        self.position = advance(self.position, bytes);
        if !self.carry.is_empty() || self.owed < bytes {
            return false;
        }
        self.owed -= bytes;
        true
    }

    /// Feeds the next bytes of the file, a block or any number of them; cut the last at the file's end. `seen` gets each
    /// record's offset and the bytes from its head on, as far as these (or head and rest joined) have them.
    ///
    /// # Errors
    /// [`Break`] where a record must begin but does not. The walker then knows nothing any more: start another with
    /// [`Walker::resume`].
    pub fn feed(&mut self, block: &[u8], mut seen: impl FnMut(u64, &[u8])) -> Result<u32, Break> {
        let mut at = match self.rest_of_head(block, &mut seen)? {
            Some(at) => at,
            None => return Ok(0),
        };
        let mut count = 0;
        while let Some(bytes) = usize::try_from(at).ok().and_then(|at| block.get(at..)).filter(|bytes| !bytes.is_empty()) {
            match self.records.step(bytes) {
                Step::Record(length) => {
                    seen(self.position + at, bytes);
                    self.opaque = self.records.is_opaque(bytes);
                    (at, count) = (at + u64::from(length.max(1)), count + 1);
                }
                Step::Cut => {
                    self.carry = bytes.to_vec();
                    at = block.len() as u64;
                }
                Step::Wrong => return Err(Break { at: at as usize, zeros: super::bytes::all_zero(bytes) }),
            }
        }
        self.position = advance(self.position, block.len() as u64);
        self.owed = at - block.len() as u64;
        Ok(count)
    }

    /// Completes a head that the last block cut; the byte of `block` where the next record begins, `None` if not even this
    /// block is enough.
    fn rest_of_head(&mut self, block: &[u8], seen: &mut impl FnMut(u64, &[u8])) -> Result<Option<u64>, Break> {
        if self.carry.is_empty() {
            return Ok(Some(self.owed));
        }
        let cut = self.carry.len();
        let mut head = std::mem::take(&mut self.carry);
        head.extend(block);
        match self.records.step(&head) {
            Step::Record(length) if u64::from(length) >= cut as u64 => {
                seen(self.position - cut as u64, &head);
                self.opaque = self.records.is_opaque(&head);
                Ok(Some(u64::from(length) - cut as u64))
            }
            Step::Cut if head.len() < self.records.head() => {
                self.position = advance(self.position, block.len() as u64);
                self.carry = head;
                Ok(None)
            }
            _ => Err(Break { at: 0, zeros: super::bytes::all_zero(block) }),
        }
    }

    /// How well `next` fits as the next block.
    pub fn fits(&self, next: &[u8]) -> Verdict
    where
        R: Clone,
    {
        let at = if self.carry.is_empty() {
            self.owed
        } else {
            let Ok(Some(at)) = self.clone().rest_of_head(next, &mut |_, _| ()) else { return Verdict::Contradicted };
            at
        };
        let phases = Phases::of(&self.records, next);
        match usize::try_from(at).ok().filter(|&at| at < next.len()) {
            Some(at) => phases.verdict(at),
            // Inside of a record: many records in a row there say that it is none.
            None if !self.opaque && phases.best().is_some_and(|(_, count)| count >= MIN_SYNC) => Verdict::Contradicted,
            None => Verdict::POSSIBLE,
        }
    }

    /// Where the file ends in `next`, if this is its last block: all records are whole, and zeros follow. Bytes of `next` that
    /// belong to the file.
    pub fn ends_in(&self, next: &[u8]) -> Option<usize>
    where
        R: Clone,
    {
        match self.clone().feed(next, |_, _| ()) {
            Err(Break { at, zeros: true }) => Some(at),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of one byte of length and so many bytes less one, aligned to `0`.
    #[derive(Clone, Copy)]
    struct Counted(usize);

    impl Records for Counted {
        fn align(&self) -> usize {
            self.0
        }
        fn head(&self) -> usize {
            2
        }
        fn step(&self, bytes: &[u8]) -> Step {
            match bytes {
                [0xee, length @ 2..=99, ..] => Step::Record((*length).into()),
                [0xee] => Step::Cut,
                _ => Step::Wrong,
            }
        }
    }

    fn record(length: u8) -> Vec<u8> {
        let mut record = vec![7; length.into()];
        record[..2].copy_from_slice(&[0xee, length]);
        record
    }

    #[test]
    fn follows_records_over_any_cut() {
        let file = [record(20), record(8), record(40), record(4)].concat();
        for piece in 1..file.len() {
            let mut walker = Walker::new(Counted(1), 0, 0);
            let mut seen = vec![];
            for block in file.chunks(piece) {
                assert_ne!(walker.fits(block), Verdict::Contradicted, "pieces of {piece}");
                walker.feed(block, |at, _| seen.push(at)).unwrap();
            }
            assert_eq!((seen.as_slice(), walker.can_end(), walker.position()), (&[0, 20, 28, 68][..], true, 72), "pieces of {piece}");
        }
    }

    #[test]
    fn phases() {
        let block = [vec![7; 8], record(8), record(12), record(80)].concat();
        let phases = Phases::of(&Counted(4), &block);
        assert_eq!(
            (phases.count(8), phases.count(16), phases.count(28), phases.count(9), phases.count(4)),
            (Some(3), Some(2), Some(1), None, None)
        );
        assert_eq!(phases.best(), Some((8, 3)));
        assert_eq!(phases.verdict(8), Verdict::Fits { bits: 3 }, "3 of 27 places fit");
        assert_eq!((phases.verdict(4), phases.verdict(1000)), (Verdict::Contradicted, Verdict::Contradicted));
        assert_eq!(Phases::of(&Counted(4), &[]).best(), None);
    }

    #[test]
    fn breaks_ends_and_gaps() {
        let mut walker = Walker::new(Counted(1), 100, 5);
        assert_eq!(walker.boundary(), Some(5));
        assert_eq!(walker.clone().feed(&[7; 20], |_, _| ()), Err(Break { at: 5, zeros: false }));
        let last = [vec![7; 5], record(10), vec![0; 9]].concat();
        assert_eq!((walker.ends_in(&last), walker.ends_in(&last[..15]), walker.ends_in(&[7; 20])), (Some(15), None, None));
        assert!(walker.skip(5) && !walker.clone().skip(1));
        assert_eq!((walker.position(), walker.can_end()), (105, true));

        // Within a record that is not opaque, many records in a row cannot stand.
        let mut walker = Walker::new(Counted(1), 0, 0);
        walker.feed(&record(99)[..10], |_, _| ()).unwrap();
        assert_eq!(walker.fits(&record(10).repeat(5)), Verdict::Contradicted);
        assert_eq!(walker.fits(&[7; 50]), Verdict::POSSIBLE);
        assert_eq!(Walker::resume(Counted(1), 0, &[vec![7; 3], record(10).repeat(5)].concat()).unwrap().boundary(), Some(0));
        assert!(Walker::resume(Counted(1), 0, &record(10).repeat(3)).is_none());
    }
}
