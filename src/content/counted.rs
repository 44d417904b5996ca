//! Stretches of records that are known by a number in each which counts: for records whose heads are so weak that other data passes for them, and
//! leads into them.

use super::records::{Records, Step};
use super::stretch::{self, Stretch};

/// By so much the number may rise from a record to the next.
const MOST: u64 = 16;
/// Bytes before the first record of a block that is known to count, among which those before it are looked for.
const BACK: usize = 4096;

/// Records with a number.
pub trait Numbered: Records {
    /// The number of the record at the start of `bytes`; `None` where that is cut, or has none.
    fn number(&self, bytes: &[u8]) -> Option<u64>;
}

fn follows(before: Option<u64>, next: Option<u64>) -> bool {
    before.zip(next).is_some_and(|(before, next)| next > before && next - before <= MOST)
}

/// The stretches in `bytes`, see [`stretch::stretches`], cut to blocks whose records count. Blocks between two such in which no record, or one,
/// begins belong to them.
pub fn stretches(records: &impl Numbered, bytes: &[u8], block_size: usize) -> Vec<Stretch> {
    let mut found = vec![];
    for raw in stretch::stretches(records, bytes, block_size) {
        let cut = cut(records, bytes, block_size, raw);
        // What leads into a block by chance may lead over it as well.
        for block in raw.first..raw.first + raw.blocks {
            if cut.iter().any(|known| (known.first..known.first + known.blocks).contains(&block)) {
                continue;
            }
            let own = &bytes[block * block_size..((block + 1) * block_size).min(bytes.len())];
            let alone = stretch::stretches(records, own, block_size).into_iter().flat_map(|raw| self::cut(records, own, block_size, raw));
            found.extend(alone.map(|alone| Stretch { first: block, ..alone }));
        }
        found.extend(cut);
    }
    found.sort_unstable_by_key(|stretch| stretch.first);
    found
}

fn cut(records: &impl Numbered, bytes: &[u8], block_size: usize, found: Stretch) -> Vec<Stretch> {
    let end = ((found.first + found.blocks) * block_size).min(bytes.len());
    let heads = stretch::heads(records, &bytes[..end], found.first * block_size + found.head);
    let told: Vec<(usize, Option<u64>)> = heads.into_iter().map(|at| (at, records.number(&bytes[at..end]))).collect();
    let mut runs: Vec<(usize, usize)> = vec![];
    for at in 1..told.len() {
        if follows(told[at - 1].1, told[at].1) || at > 1 && told[at - 1].1.is_none() && follows(told[at - 2].1, told[at].1) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 >= at => *last = at,
                _ => runs.push((at - 1, at)),
            }
        }
    }
    // Three that count by chance are rare: two steps of at most so much among numbers of three bytes or more.
    runs.retain(|(from, to)| to - from >= 3);
    let mut cut: Vec<Stretch> = vec![];
    for (from, to) in runs {
        let start = before(records, bytes, block_size, told[from]);
        let (first, last) = (start / block_size, told[to].0 / block_size);
        let next = Stretch {
            first,
            blocks: last - first + 1,
            head: start % block_size,
            tail: told[to].0 % block_size,
            weak_start: 0,
            weak_end: 0,
        };
        match cut.last_mut() {
            Some(known) if known.first + known.blocks > first => {
                known.blocks = last - known.first + 1;
                known.tail = next.tail;
            }
            _ => cut.push(next),
        }
    }
    cut
}

/// The first record of a block from which others lead to the one that is known, each with the number that comes before.
fn before(records: &impl Numbered, bytes: &[u8], block_size: usize, (mut start, mut number): (usize, Option<u64>)) -> usize {
    let from = (start - start % block_size).max(start.saturating_sub(BACK));
    loop {
        let leads = |at: &usize| match records.step(&bytes[*at..]) {
            Step::Record(length) => at + length as usize == start && follows(records.number(&bytes[*at..]), number),
            Step::Cut | Step::Wrong => false,
        };
        let mut leading = (from..start).filter(leads);
        match (leading.next(), leading.next()) {
            (Some(one), None) => (start, number) = (one, records.number(&bytes[one..])),
            _ => return start,
        }
    }
}
