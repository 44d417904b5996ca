//! Joins parts of one table that no pointer joins any more: chains whose content goes on where that of another ends, or that say themselves
//! where they stand.
//!
//! An IND maps blocks at multiples of its span only, so that a part has few places. It gets one if
//!
//! * its first rows follow the last ones of another part, by the places of rows and the counting column together; or
//! * rows have one length, and count without gaps: then the byte at which a row begins follows from its value, and both ends of the part
//!   must agree to the byte. Not where another table counts in the same way; or
//! * its rows are unpacked by the trees of a compressed table, and by the number of those that are missing between it and the rest there is
//!   one place only; or
//! * its pages are numbered (InnoDB).
//!
//! What fits in two places, or where something else fits as well, is left alone.

use super::super::{FileId, Mapping, Progress, Recovery};
use super::joints::{self, Joint};
use super::part::Part;
use super::{numbered, subject};
use crate::format::indirect;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Chains that are looked at; each costs some megabytes of reading.
const MOST: usize = 2048;

/// Parts of one file, each with what is to be added to its file blocks. The first has the names.
type Group = Vec<(usize, i64)>;

impl Recovery {
    /// Makes one file of the parts of each table. Whether there were any.
    pub(in super::super) fn join_parts(&mut self, progress: &dyn Progress) -> bool {
        let may_be = |id: &FileId| subject::may_be_rows(self, *id) || numbered::may_be_pages(self, *id);
        let ids: Vec<FileId> = self.ids().filter(may_be).collect();
        if !ids.iter().any(|id| self.file(*id).orphan.is_some()) {
            return false;
        }
        let mut parts = vec![];
        for (at, id) in ids.iter().take(MOST).enumerate() {
            progress.step("looking for parts of tables", at as u64, ids.len().min(MOST) as u64);
            parts.extend(Part::of(self, *id));
        }
        let joints = joints::all(self, &parts);
        let groups = groups(&parts, &joints, self.filesystem().pointers_per_block());
        let mut gone = HashSet::new();
        for group in &groups {
            gone.extend(self.merge(&parts, group));
        }
        let mut ids = self.ids();
        self.files.retain(|_| ids.next().is_none_or(|id| !gone.contains(&id)));
        !groups.is_empty()
    }

    /// Makes one file of parts; returns those that are none any more.
    fn merge(&mut self, parts: &[Part], group: &Group) -> Vec<FileId> {
        let Some(((host, shift), others)) = group.split_first() else { return vec![] };
        let top = |at: usize| self.file(parts[at].id).orphan.as_ref().map(|orphan| orphan.top);
        // What it is named by: the topmost indirect block of all.
        let highest = group.iter().find(|(at, _)| !parts[*at].is_movable).and_then(|(at, _)| top(*at));
        let host = parts[*host].id;
        if *shift != 0
            && let Mapping::Indirect { pointers, placed, .. } = &mut self.files[host.0 as usize].mapping
        {
            // What was taken for its direct blocks is none of it there.
            pointers[..indirect::DIRECT as usize].fill(None);
            placed.get_or_insert_default().shift(*shift);
        }
        let mut gone = vec![];
        for (at, shift) in others {
            let id = parts[*at].id;
            let Mapping::Indirect { placed, .. } = &mut self.files[id.0 as usize].mapping else { continue };
            let Some(mut other) = placed.take() else { continue };
            other.shift(*shift);
            if let Mapping::Indirect { placed, .. } = &mut self.files[host.0 as usize].mapping {
                placed.get_or_insert_default().add(*other);
            }
            gone.push(id);
        }
        if let Some((orphan, highest)) = self.files[host.0 as usize].orphan.as_mut().zip(highest) {
            orphan.top = highest;
        }
        gone
    }
}

/// Parts that belong together.
fn groups(parts: &[Part], joints: &[Joint], per: u64) -> Vec<Group> {
    let mut near: BTreeMap<usize, Vec<(usize, i64)>> = BTreeMap::new();
    let mut begins: HashMap<usize, i64> = HashMap::new();
    for joint in joints {
        near.entry(joint.with).or_default();
        match joint.part {
            None => _ = begins.insert(joint.with, joint.shift),
            Some(part) => {
                near.entry(part).or_default().push((joint.with, joint.shift));
                near.entry(joint.with).or_default().push((part, -joint.shift));
            }
        }
    }
    let mut seen = HashSet::new();
    let mut found = vec![];
    for start in near.keys().copied() {
        if !seen.insert(start) {
            continue;
        }
        let (mut group, mut at, mut agrees) = (vec![(start, 0i64)], 0, true);
        while let Some((part, shift)) = group.get(at).copied() {
            at += 1;
            for (other, by) in near.get(&part).into_iter().flatten() {
                match group.iter().find(|(known, _)| known == other) {
                    Some((_, known)) => agrees &= *known == shift + by,
                    None => {
                        seen.insert(*other);
                        group.push((*other, shift + by));
                    }
                }
            }
        }
        if agrees {
            found.extend(arranged(parts, group, &begins, per));
        }
    }
    found
}

/// Puts a group where its parts can stand: what is above INDs, and what an inode is known of, stays where it is. `None` where that cannot be.
fn arranged(parts: &[Part], mut group: Group, begins: &HashMap<usize, i64>, per: u64) -> Option<Group> {
    group.sort_by_key(|(at, shift)| parts[*at].first as i64 + shift);
    let stays = |at: usize| !parts[at].is_movable || !parts[at].is_loose;
    let told = group.iter().find_map(|(at, shift)| Some(begins.get(at)? - shift));
    let kept = group.iter().find(|(at, _)| stays(*at)).or(group.first()).map(|(_, shift)| -shift);
    let by = told.or(kept)?;
    group.iter_mut().for_each(|(_, shift)| *shift += by);
    let place = |(at, shift): &(usize, i64)| u64::try_from(parts[*at].first as i64 + shift).ok();
    let can_stand = |one: &(usize, i64)| {
        let begins = |first: u64| first >= indirect::DIRECT && (first - indirect::DIRECT).is_multiple_of(per);
        one.1 == 0 || !stays(one.0) && place(one).is_some_and(begins)
    };
    if !group.iter().all(can_stand) || group.iter().filter(|(at, _)| !parts[*at].is_loose).count() > 1 {
        return None;
    }
    // The one with an inode has the names; else what stays, or begins the file.
    let owner = group.iter().position(|(at, _)| !parts[*at].is_loose);
    let host = owner.or_else(|| group.iter().position(|(_, shift)| *shift == 0)).unwrap_or(0);
    let first = group.remove(host);
    group.insert(0, first);
    let shift = first.1;
    let in_host = |one: &(usize, i64)| {
        let at = u64::try_from(parts[one.0].first as i64 + one.1 - shift).ok();
        at.is_some_and(|at| parts[first.0].has_room(at, parts[one.0].length()))
    };
    let span = |one: &(usize, i64)| place(one).map(|first| (first, first + parts[one.0].length()));
    let mut spans: Vec<(u64, u64)> = group[1..].iter().filter_map(span).collect();
    spans.sort_unstable();
    let apart = spans.len() + 1 == group.len() && spans.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    (apart && group[1..].iter().all(in_host) && (group.len() > 1 || shift != 0)).then_some(group)
}
