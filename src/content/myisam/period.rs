//! The length of the rows of a fixed table, from its bytes alone: where a number stands, the next one stands a row further on.

use super::super::bytes::array;
use std::collections::HashMap;

/// The shortest row: a byte of flags, and room for the link of a deleted one or a counting column of 4 bytes.
const SHORTEST: usize = 5;
/// Bytes looked at: more than enough for rows of some kilobytes.
const LOOK_AT: usize = 1 << 16;
/// Numbers that must be followed twice by the next one at the same distance. Three numbers of 3 bytes agree by chance once in 2^48.
const FEWEST: usize = 16;

/// Bytes from row to row, and a byte at which a number stands that counts up from row to row. `None` where nothing counts: dense, in steps
/// of 1, with few exceptions.
pub fn rows(bytes: &[u8]) -> Option<(usize, usize)> {
    let bytes = &bytes[..bytes.len().min(LOOK_AT)];
    // The low bytes of whatever number it is.
    let value = |at: usize| array(bytes, at).map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]));
    let (mut last, mut votes): (HashMap<u32, usize>, HashMap<usize, (usize, usize)>) = Default::default();
    for at in 0..bytes.len().saturating_sub(2) {
        let Some(number) = value(at) else { break };
        let before = number.checked_sub(1).and_then(|before| last.get(&before).copied());
        if let Some(length) = before.map(|before| at - before).filter(|length| *length >= SHORTEST)
            && value(at + length) == Some(number + 1)
        {
            votes.entry(length).or_insert((0, at)).0 += 1;
        }
        last.insert(number, at);
    }
    let (length, (count, at)) = votes.into_iter().max_by_key(|(length, (count, _))| (*count, std::cmp::Reverse(*length)))?;
    // Of the rows that there is room for, half at least.
    (count >= FEWEST && count * length * 2 >= bytes.len()).then_some((length, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_length() {
        for length in [7usize, 53, 56, 1000] {
            let row = |id: u32| [&[0xf1][..], &(id + 70_000).to_le_bytes(), &vec![(id * 37 % 251) as u8; length - 5]].concat();
            let bytes: Vec<u8> = (0..200_000 / length as u32).flat_map(row).collect();
            let (found, at) = rows(&bytes[3..]).unwrap();
            assert_eq!((found, (at + 3) % length), (length, 1));
        }
    }

    #[test]
    fn what_has_none() {
        let random: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let integers: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        assert!([vec![], vec![0; 70_000], random, integers].iter().all(|bytes| rows(bytes).is_none()));
    }
}
