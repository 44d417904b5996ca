//! Where the truth is known: which facts of it still stand anywhere on an image, looked for by brute force. What does not, nobody can tell.

use super::truth::{Life, decode};
use std::collections::{HashMap, HashSet};
use undelfs::format::inode::Inode;
use undelfs::recover::Recovery;
use undelfs::units::{Block, Ino};

/// All copies of inodes and of pointers, wherever they stand: at home, and in every block of the log, whether or not that knows of it.
pub struct Oracle<'a> {
    recovery: &'a Recovery,
    /// By generation, which is random.
    inodes: HashMap<u32, Vec<Inode>>,
    /// Index and pointer of all words in the log that can be one.
    logged: HashSet<(u64, u64)>,
}

impl<'a> Oracle<'a> {
    /// Looks at everything once.
    pub fn new(recovery: &'a Recovery) -> Self {
        let mut oracle = Oracle { recovery, inodes: HashMap::new(), logged: HashSet::new() };
        let (fs, size) = (recovery.filesystem(), recovery.block_size());
        let sb = &fs.geometry().superblock;
        let tables: HashSet<Block> = (1..=sb.inodes).filter_map(|ino| Some(fs.geometry().inode_location(Ino(ino))?.0)).collect();
        for block in tables {
            oracle.see_inodes(&fs.read_home(block).expect("the image can be read"));
        }
        let mut bytes = vec![0; size as usize];
        for offset in (0..).map_while(|index| fs.journal().image_offset(index)) {
            recovery.image().read_exact_at(&mut bytes, offset).expect("the image can be read");
            oracle.see_inodes(&bytes);
            let words = bytes.as_chunks::<4>().0.iter().map(|raw| u64::from(u32::from_le_bytes(*raw)));
            oracle.logged.extend((0..).zip(words).filter(|(_, word)| *word > 0 && *word < sb.blocks));
        }
        oracle
    }

    fn see_inodes(&mut self, bytes: &[u8]) {
        let inode_size = self.recovery.filesystem().geometry().superblock.inode_size as usize;
        for inode in bytes.chunks_exact(inode_size).filter_map(Inode::parse).filter(|inode| inode.generation.0 != 0) {
            self.inodes.entry(inode.generation.0).or_default().push(inode);
        }
    }

    fn copies(&self, life: &Life) -> &[Inode] {
        life.generation.and_then(|generation| self.inodes.get(&generation)).map_or(&[], Vec::as_slice)
    }

    /// Whether a copy of a life's inode stands anywhere that has its size.
    pub fn knows_size(&self, life: &Life) -> bool {
        self.copies(life).iter().any(|inode| inode.size == life.size)
    }

    /// Whether a copy of a life's inode stands from before it was deleted: the kernel takes away the upper halves of the owner's numbers
    /// then (`ext4_fill_raw_inode`).
    pub fn knows_owner(&self, life: &Life) -> bool {
        self.copies(life).iter().any(|inode| inode.links > 0)
    }

    /// Whether an entry of a folder stands anywhere, be it in a block that is none any more, that gives a life's inode its name.
    pub fn knows_name(&self, life: &Life) -> bool {
        let path = decode(life.path_now.as_ref().unwrap_or(&life.path));
        let name = path.rsplit(|byte| *byte == b'/').next().expect("a name");
        let mut block = vec![0; self.recovery.block_size() as usize];
        let entry =
            |at: usize, bytes: &[u8]| bytes[at..].starts_with(&life.inode.to_le_bytes()) && usize::from(bytes[at + 6]) == name.len();
        (0..self.recovery.image().len()).step_by(block.len()).any(|offset| {
            let whole = self.recovery.image().read_exact_at(&mut block, offset).is_ok();
            let named = |at: usize| block[at + 8..].starts_with(name) && entry(at, &block);
            whole && (0..block.len() - 8).step_by(4).any(named)
        })
    }

    /// Whether its inode, or an indirect block that its inode leads to, still names the block that a life had at a file block.
    pub fn names(&self, life: &Life, at: u64, block: u64) -> bool {
        self.leads_to(life, 0, at, block)
    }

    fn leads_to(&self, life: &Life, level: u8, first: u64, block: u64) -> bool {
        let per = self.recovery.block_size() / 4;
        let slot = match level {
            0 if first < 12 => Some(first as usize),
            1 if first == 12 => Some(12),
            2 if first == 12 + per => Some(13),
            3 => Some(14),
            _ => None,
        };
        if let Some(slot) = slot {
            return self.copies(life).iter().any(|inode| inode.pointers()[slot].map(Block::get) == Some(block));
        }
        let span = per.pow(level.into());
        let above = life.indirect.iter().find(|(l, from, _)| *l == level + 1 && (*from..from + span * per).contains(&first));
        let Some((_, from, parent)) = above else { return false };
        let index = (first - from) / span;
        let mut word = [0; 4];
        let offset = parent * self.recovery.block_size() + index * 4;
        let stands = self.recovery.image().read_exact_at(&mut word, offset).is_ok() && u64::from(u32::from_le_bytes(word)) == block;
        (stands || self.logged.contains(&(index, block))) && self.leads_to(life, level + 1, *from, *parent)
    }
}
