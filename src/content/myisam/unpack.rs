//! Numbers in the rows of a compressed table: its Huffman trees stand in the head of its `.MYD` (MariaDB storage/myisam/mi_packrec.c:
//! `_mi_read_pack_info`, `read_huff_table`, `_mi_pack_rec_unpack`, `uf_*`). Only the first columns are unpacked, of which one may count.

use super::super::counted;
use super::super::records::{Records, Step};
use super::counter::Counter;
use super::packed::{Header, Rows};
use std::borrow::Cow;
use std::sync::Arc;

/// `enum en_fieldtype` (include/my_base.h).
mod kind {
    pub const NORMAL: u32 = 0;
    pub const SKIP_ZERO: u32 = 3;
    pub const CONSTANT: u32 = 5;
    pub const INTERVALL: u32 = 6;
    pub const ZERO: u32 = 7;
    pub const CHECK: u32 = 9;
}
/// `PACK_TYPE_SPACE_FIELDS`, `PACK_TYPE_ZERO_FILL` (storage/myisam/myisamdef.h).
const SPACE_FIELDS: u32 = 2;
const ZERO_FILL: u32 = 4;
/// `HEAD_LENGTH`: where the columns stand.
const COLUMNS_AT: usize = 32;
/// Columns that a table can have (`MAX_FIELDS`, sql/unireg.h).
const MOST_COLUMNS: usize = 4096;
/// Bits that are read at most to find out how many there are.
const BUDGET: usize = 1 << 25;
/// Columns among which one that counts is looked for, and bytes that it can have.
const FIRST: usize = 4;
const WIDE: [usize; 3] = [4, 8, 3];
/// Rows from which it is learnt which column counts, and how many before them may be none: lengths lead from a wrong start to a right one.
const ROWS: usize = 1024;
const SETTLED: usize = 32;
/// Bytes of a column before it whose length is not known: flags.
const FLAGS: usize = 1;

/// Reads bits, the highest of a byte first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn one(&mut self) -> Option<u32> {
        let byte = self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit.into())
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |value, _| Some(value << 1 | self.one()?))
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    /// One value of a tree.
    fn coded(&mut self, tree: &Tree) -> Option<u32> {
        let mut at = 0usize;
        loop {
            at += self.one()? as usize;
            match tree.nodes.get(at)? {
                Node::Value(value) => return Some(*value),
                Node::Offset(offset) => at += *offset as usize,
            }
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Node {
    Value(u32),
    Offset(u32),
}

/// A Huffman tree, and the distinct values that it is about, if it is one of those.
#[derive(PartialEq, Eq, Debug)]
struct Tree {
    nodes: Vec<Node>,
    values: Vec<u8>,
}

#[derive(PartialEq, Eq, Debug)]
struct Column {
    kind: u32,
    pack: u32,
    width: u32,
    tree: usize,
}

/// A number in each row.
#[derive(PartialEq, Eq, Debug)]
pub struct Number {
    columns: Vec<Column>,
    trees: Vec<Tree>,
    /// Bytes of the last of the columns, the number's own.
    length: usize,
}

impl Number {
    /// The column that counts, by some rows in their order (without their lengths); `head` is the start of the file. `None` where none does, or the
    /// head is not whole.
    pub fn find(head: &[u8], rows: &[&[u8]]) -> Option<Arc<Number>> {
        let mut number = Number::parse(head)?;
        let most = number.columns.len().min(FIRST);
        for columns in 1..=most {
            for length in WIDE {
                number.length = length;
                let mut counter = Counter::default();
                let values = rows.iter().filter_map(|row| number.value_in(row, columns));
                values.for_each(|value| counter.row(&value.to_le_bytes()));
                if counter.column().is_some_and(|column| column.start == 0) {
                    number.columns.truncate(columns);
                    return Some(Arc::new(number));
                }
            }
        }
        None
    }

    /// Columns and trees. How many columns there are is not said; with the right count the trees end where the head does.
    fn parse(head: &[u8]) -> Option<Number> {
        let header = Header::parse(head)?;
        let head = head.get(..header.length as usize)?;
        let trees = usize::from(u16::from_le_bytes([head[24], head[25]]));
        let tree_bits = (trees - 1).checked_ilog2().map_or(1, |log| log + 1);
        let (mut columns, mut left) = (vec![], BUDGET);
        let mut bits = Bits { data: head, at: 8 * COLUMNS_AT };
        while columns.len() < MOST_COLUMNS {
            let column = Column { kind: bits.take(5)?, pack: bits.take(6)?, width: bits.take(5)?, tree: bits.take(tree_bits)? as usize };
            if column.kind > kind::CHECK || column.tree >= trees {
                return None;
            }
            columns.push(column);
            let mut rest = Bits { data: head, at: bits.at };
            rest.align();
            let found: Option<Vec<Tree>> = (0..trees).map(|_| Tree::parse(&mut rest)).collect();
            if let Some(trees) = found.filter(|_| rest.at == 8 * head.len()) {
                return Some(Number { columns, trees, length: 0 });
            }
            left = left.checked_sub(rest.at - bits.at)?;
        }
        None
    }

    /// The number in a row.
    pub fn value(&self, row: &[u8]) -> Option<u64> {
        self.value_in(row, self.columns.len())
    }

    /// The number in the last of the first `columns`.
    fn value_in(&self, row: &[u8], columns: usize) -> Option<u64> {
        let mut bits = Bits { data: row, at: 0 };
        let (last, before) = self.columns.get(..columns)?.split_last()?;
        for column in before {
            self.column(&mut bits, column, FLAGS)?;
        }
        self.column(&mut bits, last, self.length)
    }

    /// Unpacks one column of so many bytes; `None` for text, which holds no number.
    fn column(&self, bits: &mut Bits<'_>, column: &Column, length: usize) -> Option<u64> {
        let tree = &self.trees[column.tree];
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        match column.kind {
            kind::ZERO | kind::CHECK => Some(0),
            kind::CONSTANT => tree.values.get(..length).map(number),
            kind::INTERVALL => {
                let at = length.checked_mul(bits.coded(tree)? as usize)?;
                tree.values.get(at..at.checked_add(length)?).map(number)
            }
            kind::NORMAL if column.pack & SPACE_FIELDS != 0 => None,
            kind::NORMAL | kind::SKIP_ZERO => {
                if column.kind == kind::SKIP_ZERO && bits.one()? == 1 {
                    return Some(0);
                }
                let zeros = if column.pack & ZERO_FILL != 0 { column.width as usize } else { 0 };
                let bytes: Option<Vec<u8>> =
                    (0..length.checked_sub(zeros).filter(|count| *count > 0)?).map(|_| bits.coded(tree).map(|byte| byte as u8)).collect();
                bytes.map(|bytes| number(&bytes))
            }
            _ => None,
        }
    }
}

impl Tree {
    fn parse(bits: &mut Bits<'_>) -> Option<Tree> {
        let has_values = bits.one()? == 1;
        let least = if has_values { 0 } else { bits.take(8)? };
        let elements = bits.take(if has_values { 15 } else { 9 })?;
        let length = if has_values { bits.take(16)? } else { 0 };
        let (value_bits, offset_bits) = (bits.take(5)?, bits.take(5)?);
        let node = |_| match bits.one()? {
            1 => bits.take(offset_bits).map(Node::Offset),
            _ => bits.take(value_bits).and_then(|value| value.checked_add(least)).map(Node::Value),
        };
        let nodes = (0..(2 * elements).saturating_sub(2)).map(node).collect::<Option<Vec<Node>>>()?;
        bits.align();
        let values = bits.data.get(bits.at / 8..bits.at / 8 + length as usize)?.to_vec();
        bits.at += 8 * length as usize;
        Some(Tree { nodes, values })
    }
}

/// The rows of a compressed table with a number in each, if a column counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Numbered {
    /// Where rows begin.
    pub rows: Rows,
    /// What tells their numbers.
    pub number: Option<Arc<Number>>,
}

impl Numbered {
    /// Learns from the file's head and from bytes in which a row begins at each of `heads`.
    pub fn of(rows: Rows, head: &[u8], bytes: &[u8], heads: &[usize]) -> Numbered {
        let packed: Vec<&[u8]> = heads.iter().skip(SETTLED).take(ROWS).filter_map(|at| packed(rows, bytes.get(*at..)?)).collect();
        Numbered { rows, number: Number::find(head, &packed) }
    }
}

/// The codes of the row that begins here.
fn packed(rows: Rows, bytes: &[u8]) -> Option<&[u8]> {
    let (head, length) = rows.header.row(bytes, rows.blobs)?;
    let codes = bytes.get(head as usize..)?;
    Some(&codes[..codes.len().min(length as usize)])
}

impl Records for Numbered {
    fn align(&self) -> usize {
        self.rows.align()
    }

    fn head(&self) -> usize {
        self.rows.head()
    }

    fn step(&self, bytes: &[u8]) -> Step {
        self.rows.step(bytes)
    }

    fn data<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Owned(counted::Numbered::number(self, bytes)?.to_le_bytes().to_vec()))
    }
}

impl counted::Numbered for Numbered {
    fn number(&self, bytes: &[u8]) -> Option<u64> {
        self.number.as_ref()?.value(packed(self.rows, bytes)?)
    }
}
