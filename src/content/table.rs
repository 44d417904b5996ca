//! Records that tile a file, and a column of theirs that counts: the order of the blocks of a table.

use super::bytes::advance;
use super::myisam::counter::Counter;
use super::records::{MIN_SYNC, Phases, Records, Walker};
use super::stretch::heads;
use super::{Order, Verdict};
use std::borrow::Cow;

/// A table: the chain of its rows, and a column that counts.
#[derive(Clone)]
pub(super) struct Table<R> {
    walker: Option<Walker<R>>,
    position: u64,
    counter: Counter,
    rows: R,
}

/// The data of whole rows in a block in which rows begin at `phase`, each with its byte.
fn whole_rows<'a>(rows: &impl Records, block: &'a [u8], phase: usize) -> Vec<(usize, Cow<'a, [u8]>)> {
    heads(rows, block, phase).into_iter().filter_map(|at| Some((at, rows.data(&block[at..])?))).collect()
}

fn best_phase(records: &impl Records, block: &[u8]) -> Option<usize> {
    Phases::of(records, block).best().filter(|&(_, count)| count >= MIN_SYNC).map(|(at, _)| at)
}

impl<R: Records + Clone> Table<R> {
    /// At the start of the file, with a walker there; without one at a place of which only the bytes will tell where rows begin.
    pub(super) fn new(walker: Option<Walker<R>>, rows: R) -> Self {
        Table { walker, position: 0, counter: Counter::default(), rows }
    }

    /// Where rows begin in `next`, and what that says of it.
    fn phase(&self, next: &[u8]) -> (Option<usize>, Verdict) {
        match &self.walker {
            Some(walker) => match walker.fits(next) {
                Verdict::Contradicted => (None, Verdict::Contradicted),
                verdict => (walker.begins_in(next), verdict),
            },
            None => (best_phase(&self.rows, next), Verdict::POSSIBLE),
        }
    }

    fn data<'a>(&self, block: &'a [u8], phase: usize) -> Vec<Cow<'a, [u8]>> {
        whole_rows(&self.rows, block, phase).into_iter().map(|(_, data)| data).collect()
    }
}

impl<R: Records + Clone + Send + 'static> Order for Table<R> {
    fn fits(&self, next: &[u8]) -> Verdict {
        let (at, verdict) = self.phase(next);
        let Some(at) = at else { return verdict };
        verdict.and(self.counter.fits(self.data(next, at).iter().map(AsRef::as_ref)))
    }

    fn feed(&mut self, block: &[u8]) -> Verdict {
        let verdict = self.fits(block);
        self.position = advance(self.position, block.len() as u64);
        let (rows, counter) = (&self.rows, &mut self.counter);
        let mut seen = |_: u64, head: &[u8]| {
            if let Some(data) = rows.data(head) {
                counter.row(&data);
            }
        };
        let followed = match &mut self.walker {
            Some(walker) => walker.feed(block, &mut seen).is_ok(),
            None => false,
        };
        if !followed {
            self.walker = Walker::resume(self.rows.clone(), self.position - block.len() as u64, block);
        }
        verdict
    }

    fn skip(&mut self, bytes: u64) {
        self.position = advance(self.position, bytes);
        self.walker.take_if(|walker| !walker.skip(bytes));
    }

    fn ends_in(&self, next: &[u8]) -> Option<usize> {
        self.walker.as_ref()?.ends_in(next)
    }

    fn rank(&self, block: &[u8]) -> Option<u64> {
        self.rank_from(block, best_phase(&self.rows, block)?)
    }

    fn rank_from(&self, bytes: &[u8], head: usize) -> Option<u64> {
        self.counter.first(self.data(bytes, head).iter().map(AsRef::as_ref))
    }

    fn boundary(&self) -> Option<u64> {
        self.walker.as_ref()?.boundary()
    }

    fn ranks(&self, bytes: &[u8], head: usize) -> Vec<(u64, usize)> {
        whole_rows(&self.rows, bytes, head).into_iter().filter_map(|(at, data)| Some((self.counter.value(&data)?, at))).collect()
    }

    fn reached(&self) -> Option<u64> {
        self.counter.reached()
    }

    fn counts_on(&self, next: &[u8]) -> Option<bool> {
        self.counter.goes_on(self.data(next, self.phase(next).0?).iter().map(AsRef::as_ref))
    }

    fn fork(&self) -> Box<dyn Order> {
        Box::new(self.clone())
    }

    fn resume_at(&self, offset: u64, head: usize) -> Box<dyn Order> {
        let walker = Some(Walker::new(self.rows.clone(), offset, head as u64));
        Box::new(Table { walker, position: offset, counter: self.counter.anew(), rows: self.rows.clone() })
    }
}
