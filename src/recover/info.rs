//! What there is to work with: the filesystem and its journal, in figures.

use super::Recovery;
use crate::format::superblock::compat;
use crate::fs::test_bit;
use crate::recover::file::Time;
use serde::Serialize;

/// The filesystem as its superblock describes it, its journal, and the damage that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// `ext2` without a journal, else `ext3`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `s_volume_name`; empty where there is none.
    pub label: String,
    /// `s_uuid` in its usual form.
    pub uuid: String,
    /// Byte of the image at which the filesystem begins.
    pub offset: u64,
    /// Names of the features that are set, as `dumpe2fs` writes them.
    pub features: Vec<String>,
    /// Bytes in a block.
    pub block_size: u64,
    /// `s_blocks_count`.
    pub blocks: u64,
    /// Blocks that are free according to the bitmaps.
    pub free_blocks: u64,
    /// Bytes in an inode.
    pub inode_size: u32,
    /// `s_inodes_count`.
    pub inodes: u64,
    /// Block groups.
    pub groups: u64,
    /// Block of the superblock that was used: the first, or a backup.
    pub superblock: u64,
    /// `s_last_mounted`: where it was mounted last; empty where nothing says so.
    pub mounted_on: String,
    /// `s_mtime`.
    pub last_mount: Option<Time>,
    /// `s_wtime`.
    pub last_write: Option<Time>,
    /// `EXT3_VALID_FS` is set and the journal needs no replay.
    pub clean: bool,
    /// The journal; `None` on ext2, and where it cannot be read (then `damage` says why).
    pub journal: Option<JournalInfo>,
    /// What is wrong with the filesystem or its journal, one clause each.
    pub damage: Vec<String>,
}

/// What the journal remembers.
#[derive(Clone, Debug, Serialize)]
pub struct JournalInfo {
    /// Bytes of the log.
    pub size: u64,
    /// Whether transactions in it have not reached the disk (`s_start` is not 0).
    pub dirty: bool,
    /// Transactions that could be read, in and behind the log's tail.
    pub transactions: u64,
    /// Copies of blocks in them.
    pub copies: u64,
    /// Commit time of the oldest transaction that has one; the old jbd wrote none.
    pub oldest_commit: Option<Time>,
    /// Commit time of the newest.
    pub newest_commit: Option<Time>,
}

impl Recovery {
    /// The filesystem and its journal in figures.
    pub fn info(&self) -> Info {
        let fs = self.filesystem();
        let sb = &fs.geometry().superblock;
        let journal = fs.journal();
        let time = |seconds: u32| (seconds != 0).then_some(Time { seconds: seconds.into(), nanos: 0 });
        let commits = || journal.transactions().iter().filter_map(|transaction| transaction.time);
        let commit = |(seconds, nanos): (i64, u32)| Time { seconds, nanos };
        let free = (0..sb.groups()).filter_map(|group| Some((group, fs.block_bitmap(group)?)));
        let free = free.map(|(group, bitmap)| {
            let blocks = sb.blocks_per_group.min(sb.blocks.saturating_sub(sb.group_start(group))) as usize;
            (0..blocks).filter(|bit| !test_bit(&bitmap, *bit)).count() as u64
        });
        let mut damage = fs.damage().to_vec();
        if self.unreadable_inodes > 0 {
            damage.push(format!("{} blocks of the inode tables cannot be read", self.unreadable_inodes));
        }
        Info {
            kind: if sb.compat & compat::HAS_JOURNAL != 0 { "ext3" } else { "ext2" },
            label: String::from_utf8_lossy(&sb.volume_name).into_owned(),
            uuid: uuid(sb.uuid),
            offset: self.image().base(),
            features: sb.feature_names(),
            block_size: sb.block_size,
            blocks: sb.blocks,
            free_blocks: free.sum(),
            inode_size: sb.inode_size as u32,
            inodes: sb.inodes.into(),
            groups: sb.groups(),
            superblock: fs.geometry().superblock_block,
            mounted_on: String::from_utf8_lossy(&sb.last_mounted).into_owned(),
            last_mount: time(sb.mount_time),
            last_write: time(sb.write_time),
            clean: sb.clean && !journal.is_dirty(),
            journal: journal.size().map(|size| JournalInfo {
                size,
                dirty: journal.is_dirty(),
                transactions: journal.transactions().len() as u64,
                copies: journal.transactions().iter().map(|transaction| transaction.copies.len() as u64).sum(),
                oldest_commit: commits().next().map(commit),
                newest_commit: commits().next_back().map(commit),
            }),
            damage,
        }
    }
}

/// `s_uuid` as text.
pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| hex[part].concat()).join("-")
}
