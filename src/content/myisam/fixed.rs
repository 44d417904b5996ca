//! Fixed tables: row `n` stands at `n` × row length (MariaDB storage/myisam/mi_statrec.c). Rows have no heads, so what ties
//! blocks together is only that the rows of the next block begin where they must.

use super::super::Verdict;
use super::super::bytes::advance;

/// Rows that must have been seen before their common bits say anything.
const MIN_ROWS: u32 = 64;

/// Follows rows of one length from block to block, and learns which bits are the same in all.
#[derive(Clone, Debug)]
pub struct FixedRows {
    position: u64,
    /// For each byte of a row: bits that were the same in all live rows so far, and what they are.
    profile: Vec<(u8, u8)>,
    seen: u32,
}

impl FixedRows {
    /// Rows of `length` bytes (`base.pack_reclength`), from offset `position` of the file on. `None` for a length that no table has.
    pub fn new(length: u32, position: u64) -> Option<FixedRows> {
        // HA_MAX_REC_LENGTH, include/my_base.h, and the bytes of the checksum and of the NULL flags.
        let length = usize::try_from(length).ok().filter(|length| (1..=66_000).contains(length))?;
        Some(FixedRows { position, profile: vec![(0xff, 0); length], seen: 0 })
    }

    /// What was learnt of the rows, at another offset.
    pub fn at(&self, position: u64) -> FixedRows {
        FixedRows { position: advance(0, position), ..self.clone() }
    }

    /// Offset in the file of the next byte to feed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of a row.
    pub fn length(&self) -> u64 {
        self.profile.len() as u64
    }

    /// Byte of the next block at which the first row begins.
    pub fn boundary(&self) -> usize {
        let length = self.profile.len() as u64;
        usize::try_from((length - self.position % length) % length).unwrap_or(usize::MAX)
    }

    /// Whether these bytes can be a row. `ha_myisam` sets the lowest bit of the first byte of each live row (sql/table.cc keeps
    /// it free in tables that are not packed); a deleted one begins with 0 and the link to the next.
    pub fn is_row(first: u8) -> bool {
        first == 0 || first & 1 == 1
    }

    /// Feeds the next block. `false` where a row that begins in it cannot be one.
    pub fn feed(&mut self, block: &[u8]) -> bool {
        let boundary = self.boundary();
        let rows = || block.get(boundary..).unwrap_or_default().chunks(self.profile.len());
        let sound = rows().all(|row| Self::is_row(row[0]));
        let live: Vec<&[u8]> = if sound { rows().filter(|row| row[0] != 0).collect() } else { vec![] };
        for row in live {
            let first = self.seen == 0;
            for (&byte, (same, value)) in row.iter().zip(&mut self.profile) {
                if first { *value = byte } else { *same &= !(*value ^ byte) }
            }
            self.seen = self.seen.saturating_add(1);
        }
        self.skip(block.len() as u64);
        sound
    }

    /// Passes over bytes that are missing.
    pub fn skip(&mut self, bytes: u64) {
        self.position = advance(self.position, bytes);
    }

    /// How well `next` fits as the next block: of all places at which its rows could begin, how many agree with the rows seen
    /// so far as well as the right one.
    ///
    /// Weak: a block of the same table passes with the chance of 1 / row length (or 1 / (row length / common divisor with the
    /// block size), if that is less) and of twins, for rows of different columns look alike; blocks whose places differ by a
    /// multiple of the row length pass always. Add what a counter column says (see [`Counter`](super::counter::Counter)).
    pub fn fits(&self, next: &[u8]) -> Verdict {
        let right = self.boundary();
        let rows = |at: usize| next.get(at..).unwrap_or_default().chunks(self.profile.len());
        if !rows(right).all(|row| Self::is_row(row[0])) {
            return Verdict::Contradicted;
        }
        let live = |at: usize| rows(at).filter(|row| row[0] != 0).count();
        let all = live(right);
        if self.seen < MIN_ROWS || all == 0 {
            return Verdict::POSSIBLE;
        }
        let strange = |at: usize| -> u32 { rows(at).filter(|row| row[0] != 0).map(|row| self.strange(row)).sum() };
        let limit = strange(right);
        let places = self.profile.len().min(next.len());
        // Where zeros of a row stand, all rows would be deleted ones; such a place is no rival.
        let fits = |at: &usize| rows(*at).all(|row| Self::is_row(row[0])) && live(*at) * 2 >= all && strange(*at) <= limit;
        Verdict::of(places, (0..places).filter(fits).count())
    }

    /// Bits in which a row differs from what all rows had.
    fn strange(&self, row: &[u8]) -> u32 {
        row.iter().zip(&self.profile).map(|(byte, (same, value))| ((byte ^ value) & same).count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: u32) -> Vec<u8> {
        (0..rows).flat_map(|id| [&[0xf1][..], &id.to_le_bytes(), format!("name {:08}", id * 7919).as_bytes()].concat()).collect()
    }

    #[test]
    fn follows_rows() {
        let file = table(4000);
        let mut rows = FixedRows::new(18, 0).unwrap();
        let blocks: Vec<_> = file.chunks(1024).collect();
        for block in &blocks[..20] {
            assert_ne!(rows.fits(block), Verdict::Contradicted);
            assert!(rows.feed(block));
        }
        assert_eq!((rows.position(), rows.boundary()), (20 * 1024, 18 - 20 * 1024 % 18));
        assert_eq!(rows.fits(blocks[20]), Verdict::Fits { bits: 4 });
        assert_eq!(rows.fits(blocks[21]), Verdict::Contradicted, "a block further on");
        assert_eq!(rows.fits(&[2; 1024]), Verdict::Contradicted);
        assert_eq!(rows.fits(&[0; 1024]), Verdict::POSSIBLE, "deleted rows");
    }

    #[test]
    fn lengths() {
        assert!(FixedRows::new(0, 0).is_none() && FixedRows::new(u32::MAX, 0).is_none());
        let mut rows = FixedRows::new(100, 30).unwrap();
        assert_eq!(rows.boundary(), 70);
        rows.skip(u64::MAX);
        assert_eq!(rows.position(), 1 << 62);
    }
}
