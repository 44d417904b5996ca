//! Holds recovered files against the truth by what blocks they name, since a chain may come without an inode.

use super::truth::{Truth, decode};
use roaring::RoaringTreemap;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use undelfs::format::inode::Inode;
use undelfs::recover::{FileId, Kind, LostFile, Recovery};
use undelfs::run::{Evidence, Place, Run};
use undelfs::units::{Block, Ino};

/// File blocks that the inode maps itself.
const DIRECT: u64 = 12;

/// Tells whether bytes are what a file (by its index) had in a block: its place among the mapped blocks, and its file block.
type Content = Box<dyn Fn(usize, u64, u64, &[u8]) -> bool>;

/// A lost file as it was.
pub struct Wanted {
    pub label: String,
    /// Each of them is right.
    pub paths: Vec<Vec<u8>>,
    pub ino: u32,
    /// `None` where the truth does not tell.
    pub generation: Option<u32>,
    pub size: u64,
    /// First file block, first physical block, count.
    pub runs: Vec<(u64, u64, u64)>,
    /// Level (1 for IND), first file block, physical block.
    pub indirect: Vec<(u8, u64, u64)>,
}

impl Wanted {
    /// File block and physical block of every block that it had.
    fn blocks(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().flat_map(|(at, block, count)| (0..*count).map(move |n| (at + n, block + n)))
    }

    fn length_of(&self, at: u64, block_size: u64) -> usize {
        self.size.saturating_sub(at * block_size).min(block_size) as usize
    }
}

/// What an image lost, and which of it still stands.
pub struct Chains {
    wanted: Vec<Wanted>,
    content: Content,
    block_size: u64,
    /// For each file whether each of its blocks still stands, in the order of its runs.
    standing: Vec<Vec<bool>>,
    /// Runs of all files, by how far the physical block is from the file block: difference, first file block, end, file.
    index: Vec<(i64, u64, u64, usize)>,
}

/// What a comparison found; counts of blocks unless said otherwise. `right` and `wrong` are by evidence: journal, chain, inferred.
#[derive(Default, Debug)]
pub struct Verdict {
    /// Files lost, and found among the recovered.
    pub lives: u64,
    pub found: u64,
    pub standing: u64,
    pub right: [u64; 3],
    pub wrong: [u64; 3],
    /// Those of the right ones that are shown so many blocks from their place in the file, in files that say of themselves that nothing tells
    /// where in it they stood, each by one distance for all its blocks.
    pub displaced: u64,
    /// Stand, and are not shown.
    pub missed: u64,
    /// Stand, are free, and are named by a pointer that stands: in the IND itself, or in a copy of it or of the inode in the journal.
    pub pointed: u64,
    /// Those of them that the file which is taken for theirs does not show.
    pub pointed_missed: u64,
    /// Those of them that no recovered file shows at all, as another life of the same inode may.
    pub unshown: u64,
    /// Those of them of which not a word is said: no recovered file tells that it had the block, and that it is in doubt whether the block still
    /// holds what was there. What is told so is no byte that anybody gets, unless they ask for it (`--still`): this is the lesser measure of
    /// the two, of what was found, where `unshown` is of what was given back.
    pub left_out: u64,
    /// Those not shown, and not in doubt, of which a recovered file tells that it had the block and that somebody else had it since. Whoever that was
    /// never wrote to it, of which nothing on the disk tells.
    pub given_up: u64,
    /// Files whose size, path or inode is right; and those that were given the inode of another.
    pub sizes: u64,
    pub paths: u64,
    pub owners: u64,
    pub wrong_owners: u64,
    /// Files with more data than a file without indirect blocks can have that match no lost file.
    pub invented: u64,
    /// All recovered files that match no lost file.
    pub unmatched: Vec<FileId>,
    /// Everything that should not be, a line each.
    pub faults: Vec<String>,
}

/// A recovered file that has a part of a lost one, and shows it too early.
struct Fragment {
    id: FileId,
    number: usize,
    /// By so many file blocks.
    shift: u64,
}

impl Verdict {
    /// Blocks that are shown and right.
    pub fn rights(&self) -> u64 {
        self.right.iter().sum()
    }

    /// Blocks that are shown and wrong.
    pub fn wrongs(&self) -> u64 {
        self.wrong.iter().sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([journal, chain, inferred], [a, b, c]) = (self.right, self.wrong);
        write!(
            f,
            "{} of {} found, {} blocks stand, {journal}/{chain}/{inferred} right, {a}/{b}/{c} wrong, ",
            self.found, self.lives, self.standing
        )?;
        write!(f, "{} displaced, ", self.displaced)?;
        let withheld = self.unshown - self.given_up - self.left_out;
        write!(f, "{} missed, of {} pointed to {} missed, ", self.missed, self.pointed, self.pointed_missed)?;
        write!(
            f,
            "{} not shown by any ({withheld} withheld for doubt, {} given up, {} left out), ",
            self.unshown, self.given_up, self.left_out
        )?;
        write!(
            f,
            "{} sizes, {} paths, {} owners ({} wrong), {} invented",
            self.sizes, self.paths, self.owners, self.wrong_owners, self.invented
        )
    }
}

fn hash(bytes: &[u8]) -> [u8; 8] {
    Sha256::digest(bytes)[..8].try_into().unwrap()
}

/// Blocks of data that a recovered file shows.
fn data_blocks(file: &LostFile, block_size: u64) -> u64 {
    Evidence::ALL.into_iter().filter(|e| e.is_data()).map(|e| file.tally.of(e)).sum::<u64>() / block_size
}

impl Chains {
    /// The lost files of an image with truth and hashes beside it, as far as they had file blocks from `beyond` on.
    pub fn of_image(image: &Path, truth: &Truth, hashes: Vec<[u8; 8]>, beyond: u64) -> Chains {
        let (mut wanted, mut first) = (vec![], vec![]);
        for life in truth.lost.iter().filter(|life| life.kind == "file") {
            let runs = life.runs.clone().unwrap_or_default();
            if runs.last().is_some_and(|(at, _, count)| at + count > beyond) {
                first.push(life.hashes.map_or(0, |(first, _)| first));
                wanted.push(Wanted {
                    label: format!("inode {} {} ({}, {} bytes)", life.inode, life.path, life.lost_by, life.size),
                    paths: std::iter::once(&life.path).chain(&life.path_now).map(|path| decode(path)).collect(),
                    ino: life.inode,
                    generation: life.generation,
                    size: life.size,
                    runs,
                    indirect: life.indirect.clone(),
                });
            }
        }
        let content = move |file: usize, nth: u64, _: u64, bytes: &[u8]| hash(bytes) == hashes[(first[file] + nth) as usize];
        Chains::new(image, truth.block_size, wanted, Box::new(content))
    }

    /// Looks at the image once for what stands.
    pub fn new(image: &Path, block_size: u64, wanted: Vec<Wanted>, content: Content) -> Chains {
        let image = File::open(image).expect("the image opens");
        let mut bytes = vec![0; block_size as usize];
        let mut stands = |file: usize, life: &Wanted, nth: usize, at: u64, block: u64| {
            let part = &mut bytes[..life.length_of(at, block_size)];
            image.read_exact_at(part, block * block_size).is_ok() && content(file, nth as u64, at, part)
        };
        let standing = wanted.iter().enumerate();
        let standing =
            standing.map(|(file, life)| life.blocks().enumerate().map(|(nth, (at, block))| stands(file, life, nth, at, block)).collect());
        let standing = standing.collect();
        let runs = wanted.iter().enumerate().flat_map(|(file, life)| life.runs.iter().map(move |run| (file, *run)));
        let mut index: Vec<_> = runs.map(|(file, (at, block, count))| (block as i64 - at as i64, at, at + count, file)).collect();
        index.sort_unstable();
        Chains { wanted, content, block_size, standing, index }
    }

    /// The lost files.
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Adds to `alike` how many blocks a run names that each lost file had in the same place.
    fn compare(&self, run: &Run, alike: &mut HashMap<usize, u64>) {
        let Some(block) = run.block.filter(|_| run.evidence.is_data()) else { return };
        let (from, to) = (run.file_block.0, run.end().0);
        let difference = block.get() as i64 - from as i64;
        let start = self.index.partition_point(|(other, ..)| *other < difference);
        for (_, at, end, file) in self.index[start..].iter().take_while(|(other, at, ..)| *other == difference && *at < to) {
            let both = to.min(*end).saturating_sub(from.max(*at));
            if both > 0 {
                *alike.entry(*file).or_default() += both;
            }
        }
    }

    /// For each file how many blocks of a run it had and stand, by how many file blocks farther on.
    fn compare_anywhere(&self, run: &Run, alike: &mut HashMap<(usize, u64), u64>) {
        let Some(first) = run.block.filter(|_| run.evidence.is_data() && run.place == Place::Home).map(Block::get) else { return };
        for (number, life) in self.wanted.iter().enumerate() {
            let mut before = 0;
            for (at, block, count) in &life.runs {
                let (from, to) = (first.max(*block), (block + count).min(first + run.length));
                let shift = (at + first).checked_sub(block + run.file_block.0).filter(|_| from < to);
                if let Some(shift) = shift {
                    let standing = &self.standing[number][(before + from - block) as usize..(before + to - block) as usize];
                    *alike.entry((number, shift)).or_default() += standing.iter().filter(|stands| **stands).count() as u64;
                }
                before += count;
            }
        }
    }

    /// The recovered files that say themselves that nothing tells where their blocks stood, and that show these elsewhere.
    fn fragments(&self, recovery: &Recovery) -> Vec<Fragment> {
        let fragment = |id: FileId| {
            let mut alike = HashMap::new();
            recovery.runs(id).for_each(|run| self.compare_anywhere(&run, &mut alike));
            let ((number, shift), _) = alike.into_iter().max_by_key(|((number, shift), alike)| (*alike, Reverse((*shift, *number))))?;
            (shift > 0).then_some(Fragment { id, number, shift })
        };
        recovery.ids().filter(|id| recovery.file(*id).is_adrift()).filter_map(fragment).collect()
    }

    /// Which recovered file is which lost one: the most alike first, each used once; then those that are known by name only.
    fn assign(&self, recovery: &Recovery, fragments: &[Fragment]) -> HashMap<usize, FileId> {
        let mut pairs = vec![];
        let whole = |id: &FileId| recovery.file(*id).kind == Kind::File && fragments.iter().all(|fragment| fragment.id != *id);
        for id in recovery.ids().filter(whole) {
            let mut alike = HashMap::new();
            recovery.runs(id).for_each(|run| self.compare(&run, &mut alike));
            let file = recovery.file(id);
            for (number, alike) in alike {
                let life = &self.wanted[number];
                let known = file.paths.iter().any(|path| life.paths.contains(path));
                pairs.push((Reverse((alike, file.size == life.size, known)), number, id));
            }
        }
        pairs.sort();
        let (mut chosen, mut used) = (HashMap::new(), HashSet::new());
        for (_, number, id) in pairs {
            if !chosen.contains_key(&number) && used.insert(id) {
                chosen.insert(number, id);
            }
        }
        // A file of which only name or inode are known.
        for id in recovery.ids() {
            let file = recovery.file(id);
            let named =
                |life: &Wanted| file.ino.is_some_and(|ino| ino.0 == life.ino) && file.paths.iter().any(|path| life.paths.contains(path));
            if file.kind == Kind::File && data_blocks(file, self.block_size) == 0 && !used.contains(&id) {
                let life = self.wanted.iter().enumerate().find(|(number, life)| !chosen.contains_key(number) && named(life));
                chosen.extend(life.map(|(number, _)| (number, id)));
            }
        }
        chosen
    }

    /// For each block of a lost file whether it is free and a pointer that stands on this image names it: in its IND, or in a copy of that, or
    /// of the inode, in the journal.
    fn pointed(&self, recovery: &Recovery, life: &Wanted) -> Vec<bool> {
        let (fs, per) = (recovery.filesystem(), self.block_size / 4);
        let copies = |block: Block| {
            let copies = fs.journal().copies(block).iter();
            copies.filter_map(|copy| fs.journal().read_copy(fs.image(), *copy).ok()).collect::<Vec<Vec<u8>>>()
        };
        let ind: HashMap<u64, u64> =
            life.indirect.iter().filter(|(level, ..)| *level == 1).map(|(_, first, block)| (*first, *block)).collect();
        let inode = fs.geometry().inode_location(Ino(life.ino));
        let inodes =
            inode.iter().flat_map(|(table, offset)| copies(*table).into_iter().filter_map(|bytes| Inode::parse(&bytes[*offset..])));
        let inodes: Vec<Inode> = inodes.filter(|inode| life.generation == Some(inode.generation.0)).collect();
        let (mut held, mut tables) = (None, vec![]);
        let named = |(at, block): (u64, u64)| {
            if fs.is_allocated(Block::new(block)?) {
                return Some(false);
            }
            let Some(behind) = at.checked_sub(DIRECT) else {
                return Some(inodes.iter().any(|inode| u64::from(inode.block[at as usize]) == block));
            };
            let first = DIRECT + behind / per * per;
            if held != Some(first) {
                let block = Block::new(*ind.get(&first)?)?;
                tables = copies(block);
                tables.push(fs.read_home(block).ok()?);
                held = Some(first);
            }
            let entry = 4 * (at - first) as usize;
            Some(tables.iter().any(|table| table[entry..entry + 4] == (block as u32).to_le_bytes()))
        };
        life.blocks().map(named).map(|named| named == Some(true)).collect()
    }

    /// Judges a recovery of the image, or of a copy on which the same data stands.
    pub fn judge(&self, recovery: &Recovery) -> Verdict {
        let mut verdict = Verdict::default();
        let fragments = self.fragments(recovery);
        let chosen = self.assign(recovery, &fragments);
        let (mut shown, mut doubted) = (RoaringTreemap::new(), RoaringTreemap::new());
        let mut taken = RoaringTreemap::new();
        for run in recovery.ids().flat_map(|id| recovery.runs(id)) {
            let blocks = run.block.map_or(0..0, |block| block.get()..block.get() + run.length);
            match run.evidence {
                Evidence::Unknown => doubted.insert_range(blocks),
                Evidence::Overwritten => taken.insert_range(blocks),
                evidence if evidence.is_data() => shown.insert_range(blocks),
                _ => 0,
            };
        }
        for (number, life) in self.wanted.iter().enumerate() {
            let pointed = self.pointed(recovery, life);
            let standing = &self.standing[number];
            verdict.lives += 1;
            verdict.standing += standing.iter().filter(|stands| **stands).count() as u64;
            verdict.pointed += pointed.iter().zip(standing).filter(|(a, b)| **a && **b).count() as u64;
            let blocks = life.blocks().map(|(_, block)| block).zip(&pointed).zip(standing);
            let unshown = blocks.filter(|((block, pointed), stands)| **pointed && **stands && !shown.contains(*block));
            let unshown: Vec<u64> = unshown.map(|((block, _), _)| block).collect();
            verdict.unshown += unshown.len() as u64;
            let (given_up, left): (Vec<u64>, Vec<u64>) =
                unshown.into_iter().filter(|block| !doubted.contains(*block)).partition(|block| taken.contains(*block));
            let left_out = left.len();
            verdict.given_up += given_up.len() as u64;
            verdict.left_out += left_out as u64;
            if let Some(block) = left.first() {
                verdict.faults.push(format!("{}: {left_out} blocks are left out, the first is {block}", life.label));
            }
            let before = (verdict.missed, verdict.pointed_missed, verdict.wrong);
            match chosen.get(&number) {
                Some(id) => self.judge_one(recovery, *id, number, &pointed, &mut verdict),
                None => (0..standing.len()).for_each(|nth| self.miss(number, nth, &pointed, &mut verdict)),
            }
            let (missed, pointed_missed) = (verdict.missed - before.0, verdict.pointed_missed - before.1);
            let wrong: Vec<u64> = verdict.wrong.iter().zip(before.2).map(|(now, before)| now - before).collect();
            if missed > 0 || verdict.wrong != before.2 {
                let text = format!("{missed} missed, {pointed_missed} of them pointed to, {left_out} left out; wrong {wrong:?}");
                verdict.faults.push(format!("{}: {text}", life.label));
            }
        }
        for Fragment { id, number, shift } in &fragments {
            let before = verdict.wrong;
            self.judge_blocks(recovery, (*id, *shift), *number, &mut verdict, &mut |_, _| ());
            if verdict.wrong != before {
                let top = recovery.file(*id).orphan.as_ref().map(|orphan| orphan.top);
                verdict.faults.push(format!(
                    "{}: in a part of it, {top:?}, wrong {:?}, {before:?} before",
                    self.wanted[*number].label, verdict.wrong
                ));
            }
        }
        let used: HashSet<FileId> = chosen.values().copied().chain(fragments.iter().map(|fragment| fragment.id)).collect();
        for id in recovery.ids().filter(|id| !used.contains(id)) {
            verdict.unmatched.push(id);
            let file = recovery.file(id);
            let data = data_blocks(file, self.block_size);
            if file.kind == Kind::File && data > DIRECT {
                verdict.invented += 1;
                let path = file.paths.first().map(|path| String::from_utf8_lossy(path));
                verdict.faults.push(format!("invented: {:?} {path:?}, {} bytes, {data} blocks of data", file.ino, file.size));
            }
        }
        verdict
    }

    fn miss(&self, number: usize, nth: usize, pointed: &[bool], verdict: &mut Verdict) {
        if self.standing[number][nth] {
            verdict.missed += 1;
            verdict.pointed_missed += u64::from(pointed[nth]);
        }
    }

    fn judge_one(&self, recovery: &Recovery, id: FileId, number: usize, pointed: &[bool], verdict: &mut Verdict) {
        let (file, life) = (recovery.file(id), &self.wanted[number]);
        verdict.found += 1;
        let known = file.paths.iter().any(|path| life.paths.contains(path));
        verdict.paths += u64::from(known);
        verdict.owners += u64::from(file.ino.is_some_and(|ino| ino.0 == life.ino));
        if let Some(ino) = file.ino.filter(|ino| ino.0 != life.ino) {
            verdict.wrong_owners += 1;
            verdict.faults.push(format!("{}: given to inode {ino}", life.label));
        }
        match self.size_is_right(recovery, file, number) {
            true => verdict.sizes += 1,
            false => verdict.faults.push(format!("{}: size {}", life.label, file.size)),
        }
        if !known && !file.paths.is_empty() {
            let path = String::from_utf8_lossy(&file.paths[0]).into_owned();
            verdict.faults.push(format!("{}: path {path}", life.label));
        }
        self.judge_blocks(recovery, (id, 0), number, verdict, &mut |nth, verdict| self.miss(number, nth, pointed, verdict));
    }

    /// Judges each block of a file that shows everything so many file blocks too early; `miss` is told which blocks of the lost one it lacks.
    fn judge_blocks(
        &self,
        recovery: &Recovery,
        (id, shift): (FileId, u64),
        number: usize,
        verdict: &mut Verdict,
        miss: &mut dyn FnMut(usize, &mut Verdict),
    ) {
        let (file, life) = (recovery.file(id), &self.wanted[number]);
        let mut truth = life.blocks().enumerate().peekable();
        for run in recovery.runs(id).filter(|run| run.evidence.is_data()) {
            for n in 0..run.length {
                let at = run.file_block.0 + n + shift;
                while let Some((nth, _)) = truth.next_if(|(_, (next, _))| *next < at) {
                    miss(nth, verdict);
                }
                let found = truth.next_if(|(_, (next, _))| *next == at);
                // A block that a truncate zeroed in part is shown as such.
                if file.zeroed.iter().any(|part| !part.stands && part.offset / self.block_size == at) {
                    continue;
                }
                let right = match found {
                    Some((nth, (_, block))) if run.place == Place::Home && run.block.is_some_and(|first| first.get() + n == block) => {
                        self.standing[number][nth]
                    }
                    found => self.reads_right(recovery, id, number, found.map(|(nth, _)| nth as u64), at, shift),
                };
                verdict.displaced += u64::from(right && shift > 0);
                let counts = if right { &mut verdict.right } else { &mut verdict.wrong };
                counts[run.evidence as usize] += 1;
                if let (false, Some((nth, _))) = (right, found) {
                    miss(nth, verdict);
                }
            }
        }
        truth.for_each(|(nth, _)| miss(nth, verdict));
    }

    /// Whether what is read at a file block is what the file had there; `nth` is `None` where it had a hole or had ended.
    fn reads_right(&self, recovery: &Recovery, id: FileId, number: usize, nth: Option<u64>, at: u64, shift: u64) -> bool {
        let life = &self.wanted[number];
        let mut bytes = vec![0; life.length_of(at, self.block_size)];
        recovery.read_at(id, (at - shift) * self.block_size, &mut bytes).expect("the image can be read");
        match nth {
            Some(nth) => (self.content)(number, nth, at, &bytes),
            None => !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0),
        }
    }

    /// Sizes may differ by zeros in the last block; where that does not stand, nothing tells the size.
    fn size_is_right(&self, recovery: &Recovery, file: &LostFile, number: usize) -> bool {
        let (life, size) = (&self.wanted[number], self.block_size);
        let last = life.runs.last().map(|(at, block, count)| (at + count - 1, block + count - 1));
        let Some((at, block)) = last.filter(|(at, _)| *at == (life.size - 1) / size && self.standing[number].last() == Some(&true)) else {
            return true;
        };
        let (from, to) = (life.size.min(file.size), life.size.max(file.size));
        let mut between = vec![1; to.saturating_sub(from).min(size) as usize];
        let inside = from > at * size && to <= (at + 1) * size;
        inside && recovery.image().read_exact_at(&mut between, block * size + from % size).is_ok() && between.iter().all(|byte| *byte == 0)
    }
}
