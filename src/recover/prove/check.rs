//! Whether the content agrees with blocks that were placed for another reason.

use super::super::Recovery;
use super::count::Ruler;
use super::index;
use super::subject::{self, Subject};
use super::walk::typical;
use crate::units::{Block, FileBlock};

/// Known blocks on each side that are looked at with them.
const BESIDE: u64 = 16;
/// Blocks looked at together.
const PIECE: u64 = 1024;

/// The parts of consecutive blocks that can stand in the file from `at` on: records go on in them from known blocks beside them, or their
/// rank is what it must be there. First file block, block and count.
pub fn agreeing(
    recovery: &Recovery,
    subject: &Subject,
    ruler: Option<&Ruler>,
    at: u64,
    first: Block,
    count: u64,
) -> Vec<(u64, Block, u64)> {
    let mut found: Vec<(u64, Block, u64)> = vec![];
    let mut done = 0;
    while done < count {
        let blocks = (count - done).min(PIECE);
        // What was found to agree is known for what follows.
        let joined = found.last().is_some_and(|(start, _, length)| start + length == at + done);
        for (from, length) in agreeing_in(recovery, subject, ruler, at + done, first.get() + done, blocks, joined) {
            let block = first.plus(done + from);
            match found.last_mut() {
                Some((start, _, known)) if *start + *known == at + done + from => *known += length,
                _ => found.push((at + done + from, block, length)),
            }
        }
        done += blocks;
    }
    found
}

fn agreeing_in(
    recovery: &Recovery,
    subject: &Subject,
    ruler: Option<&Ruler>,
    at: u64,
    first: u64,
    count: u64,
    joined: bool,
) -> Vec<(u64, u64)> {
    let size = recovery.block_size();
    let is_data = |block: u64| recovery.run_at(subject.id, FileBlock(block)).is_some_and(|run| run.evidence.is_data());
    let known = |from: u64, blocks: u64| subject::read(recovery, subject.id, FileBlock(from), blocks);
    let before = (1..=BESIDE.min(at)).take_while(|back| is_data(at - back)).count() as u64;
    let behind = (0..BESIDE).take_while(|ahead| is_data(at + count + ahead)).count() as u64;
    let before = match joined {
        true => index::read(recovery.filesystem(), first.saturating_sub(BESIDE)..first),
        false => known(at - before, before),
    };
    let (Some(before), Some(own), Some(behind)) =
        (before, index::read(recovery.filesystem(), first..first + count), known(at + count, behind))
    else {
        return vec![];
    };
    let lead = before.len() as u64 / size;
    let bytes = [before, own, behind].concat();
    let mut found = vec![];
    for stretch in subject.tiling.stretches(&bytes, size as usize) {
        let (from, to) = (stretch.first as u64, (stretch.first + stretch.blocks) as u64);
        // At its ends chance may have led into strange blocks.
        let (strong_from, strong_to) = (from + stretch.weak_start as u64, to - stretch.weak_end as u64);
        let (start, end) = (strong_from.max(lead), strong_to.min(lead + count));
        if start >= end {
            continue;
        }
        let beside = strong_from < lead || strong_to > lead + count;
        let ranked = || {
            let own = &bytes[(from * size) as usize..((to * size) as usize).min(bytes.len())];
            let ranks = subject.order.ranks(own, stretch.head);
            typical(&ranks[..ranks.len().min(super::walk::MARKS)])
        };
        let place = |(rank, byte): (u64, usize)| {
            let (expected, error) = ruler?.estimate(rank)?;
            let byte = (at as f64 - lead as f64 + from as f64) * size as f64 + byte as f64;
            Some(((byte - expected).abs(), error + size as f64 / 2.0))
        };
        let agrees = match ranked().and_then(place) {
            Some((difference, error)) => difference <= error && (beside || error < 2.0 * size as f64),
            None => beside,
        };
        if agrees {
            found.push((start - lead, end - start));
        }
    }
    found
}
