//! Where parts of tables stand, by what their content says.

use super::super::Recovery;
use super::next::{From, Next, To, successor};
use super::part::Part;
use super::subject::{self, Subject};
use crate::content::Tiling;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Pairs of parts whose ends are held against each other.
const PAIRS: usize = 1 << 15;

/// Blocks by which it is told whether a part can be unpacked.
const UNPACKED: u64 = 16;
/// How much farther apart places must be than a measure may be wrong.
const SURE: f64 = 4.0;

/// Where a part stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joint {
    /// Index of a part; `None` for the file's own beginning.
    pub part: Option<usize>,
    /// Index of another.
    pub with: usize,
    /// What has to be added to the other's file blocks so that they are the first one's.
    pub shift: i64,
}

/// All that is known.
pub fn all(recovery: &Recovery, parts: &[Part]) -> Vec<Joint> {
    let follow = recovery.followers(parts);
    let told: HashSet<usize> = follow.iter().map(|joint| joint.with).collect();
    let measured = recovery.measured(parts, &told);
    [follow, recovery.counted(parts), measured, numbered(parts)].concat()
}

impl Recovery {
    /// Which part goes on where another ends.
    fn followers(&self, parts: &[Part]) -> Vec<Joint> {
        let size = self.block_size() as usize;
        let heads: Vec<Option<(u64, Vec<u8>)>> = parts.iter().map(|part| if part.is_loose { part.head(self) } else { None }).collect();
        let mut found: Vec<Joint> = vec![];
        let mut left = PAIRS;
        for (which, part) in parts.iter().enumerate() {
            let Some(rows) = part.rows.as_ref().filter(|rows| rows.stride.is_some()) else { continue };
            let others = (0..parts.len()).filter(|other| *other != which && parts[*other].may_be_like(rows)).take(left);
            let told = others.filter_map(|other| {
                let (block, bytes) = heads[other].as_ref()?;
                let head = rows.tiling.stretches(bytes, size).first().filter(|stretch| stretch.first == 0).map(|stretch| stretch.head)?;
                let first = rows.order.ranks(bytes, head).first().map(|(rank, _)| *rank);
                let rank = rows.order.rank_from(bytes, head);
                Some(To { which: Next::Node(other), block: *block, first, rank, phase: Some(head), head: &bytes[..size.min(bytes.len())] })
            });
            let told: Vec<To> = told.collect();
            left -= told.len().min(left);
            for at in &part.tails {
                let Some(start) = part.tail(self, *at) else { continue };
                let place = From { order: &*start.order, next: start.next, last: start.last, weak: false };
                if let Some(Next::Node(with)) = successor(rows, &place, told.iter().copied()) {
                    found.push(Joint { part: Some(which), with, shift: *at as i64 - parts[with].first as i64 });
                }
            }
        }
        let mut ways: HashMap<usize, usize> = HashMap::new();
        found.iter().for_each(|joint| *ways.entry(joint.with).or_default() += 1);
        found.retain(|joint| ways[&joint.with] == 1);
        found
    }

    /// Which parts of tables whose rows have one length and count without gaps stand where, by their values.
    fn counted(&self, parts: &[Part]) -> Vec<Joint> {
        let (mut found, mut seen) = (vec![], HashSet::new());
        for (which, part) in parts.iter().enumerate() {
            let Some(rows) = part.rows.as_ref().filter(|rows| rows.tiling.length().is_some() && rows.stride.is_some()) else { continue };
            if seen.contains(&which) {
                continue;
            }
            let like: Vec<usize> = (which..parts.len()).filter(|other| parts[*other].is_like(rows)).collect();
            seen.extend(like.iter().copied());
            found.extend(self.counted_alike(parts, &like));
        }
        found
    }

    /// The same for parts whose rows look alike: none where two of them want the same place, or one has none.
    fn counted_alike(&self, parts: &[Part], like: &[usize]) -> Vec<Joint> {
        let (size, per) = (self.block_size() as i64, self.filesystem().pointers_per_block() as i64);
        // The largest tells how the table counts.
        let Some(host) = like.iter().copied().max_by_key(|at| parts[*at].length()) else { return vec![] };
        let Some(rows) = &parts[host].rows else { return vec![] };
        let line = |at: usize| parts[at].ruler(self, rows)?.line();
        let Some(own) = line(host) else { return vec![] };
        let blocks = |bytes: i64| (bytes % (size * per) == 0).then_some(bytes / size);
        let mut joints = vec![];
        // Most tables count from 1 on.
        let first = rows.tiling.length().and_then(|length| i64::try_from(length).ok());
        if let Some(shift) = first.and_then(|length| blocks(-length - own))
            && shift != 0
        {
            joints.push(Joint { part: None, with: host, shift });
        }
        let others: Option<Vec<Joint>> = like
            .iter()
            .filter(|with| **with != host)
            .map(|with| Some(Joint { part: Some(host), with: *with, shift: line(*with).and_then(|line| blocks(own - line))? }))
            .collect();
        joints.extend(others.unwrap_or_default());
        let mut places: Vec<(i64, i64)> = vec![];
        for joint in &joints {
            let first = joint.shift + parts[joint.with].first as i64;
            places.push((first, first + parts[joint.with].length() as i64));
        }
        places.sort_unstable();
        let apart = joints.len() < 2 || places.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        if apart { joints } else { vec![] }
    }

    /// Where parts of compressed tables stand of which nothing else tells it: of the places that an IND can have only one is as far from the
    /// table's other rows as the rows between take.
    fn measured(&self, parts: &[Part], told: &HashSet<usize>) -> Vec<Joint> {
        let (size, per) = (self.block_size() as f64, self.filesystem().pointers_per_block() as f64);
        let mut found: Vec<Joint> = vec![];
        for (which, part) in parts.iter().enumerate() {
            let unpacks = |rows: &&Subject| rows.stride.is_some() && matches!(rows.tiling, Tiling::Packed(_));
            let Some(rows) = part.rows.as_ref().filter(unpacks) else { continue };
            let Some(own) = part.ruler(self, rows) else { continue };
            for (with, other) in parts.iter().enumerate().filter(|(with, other)| other.is_blank() && other.is_loose && !told.contains(with))
            {
                if !self.unpacks(rows, other) {
                    continue;
                }
                let Some((bytes, error)) = other.ruler(self, rows).and_then(|ruler| own.behind(&ruler)) else { continue };
                let inds = (bytes / (size * per)).round();
                if (bytes - inds * size * per).abs() <= error && error * SURE <= size * per {
                    found.push(Joint { part: Some(which), with, shift: (inds * per) as i64 });
                }
            }
        }
        let mut ways: HashMap<usize, usize> = HashMap::new();
        found.iter().for_each(|joint| *ways.entry(joint.with).or_default() += 1);
        found.retain(|joint| ways[&joint.with] == 1);
        found
    }

    /// Whether a part holds rows that these trees unpack, and that count.
    fn unpacks(&self, rows: &Subject, part: &Part) -> bool {
        let Some(bytes) = subject::sample(self, part.id, UNPACKED) else { return false };
        let size = self.block_size() as usize;
        let stretch = rows.tiling.stretches(&bytes, size).into_iter().max_by_key(|stretch| stretch.blocks);
        stretch.filter(|stretch| stretch.blocks as u64 * 2 > UNPACKED).is_some_and(|stretch| {
            let own = &bytes[stretch.first * size..((stretch.first + stretch.blocks) * size).min(bytes.len())];
            rows.is_alike(&rows.order.ranks(own, stretch.head))
        })
    }
}

/// Where parts of tablespaces stand by the numbers of their pages.
fn numbered(parts: &[Part]) -> Vec<Joint> {
    let mut of: BTreeMap<(u32, u64), Vec<(usize, i64)>> = BTreeMap::new();
    for (at, pages) in parts.iter().enumerate().filter_map(|(at, part)| Some((at, part.pages?))) {
        of.entry((pages.id, pages.page)).or_default().push((at, pages.shift));
    }
    let of_one = |all: &Vec<(usize, i64)>| {
        let (host, own) = all[0];
        let begin = (own != 0).then_some(Joint { part: None, with: host, shift: own });
        let others = all[1..].iter().map(move |(with, shift)| Joint { part: Some(host), with: *with, shift: shift - own });
        begin.into_iter().chain(others).collect::<Vec<_>>()
    };
    of.values().flat_map(of_one).collect()
}
