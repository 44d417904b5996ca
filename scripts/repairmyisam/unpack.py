"""Unpacks rows of compressed tables, to tell them from bytes that only look like rows.

Facts of the format: MariaDB storage/myisam/mi_packrec.c (_mi_read_pack_info, read_huff_table, _mi_pack_rec_unpack, uf_*).
"""

import struct

# include/my_base.h: en_fieldtype
NORMAL, SKIP_ENDSPACE, SKIP_PRESPACE, SKIP_ZERO, BLOB, CONSTANT, INTERVALL, ZERO, VARCHAR, CHECK = range(10)
# storage/myisam/myisamdef.h: PACK_TYPE_*
SELECTED, SPACE_FIELDS, ZERO_FILL = 1, 2, 4
# A value, not an offset, in a tree.
IS_CHAR = 1 << 15
# Widths of columns that may hold a number.
NUMBER = range(1, 9)


class Spent(Exception):
    """The bits end within a row."""


class Bits:
    """Reads bits, the highest of a byte first."""

    def __init__(self, data, at=0):
        self.data = data
        self.at = at
        self.end = 8 * len(data)

    def take(self, count):
        value = 0
        for _ in range(count):
            value = 2 * value + self.one()
        return value

    def one(self):
        if self.at >= self.end:
            raise Spent
        bit = self.data[self.at >> 3] >> (7 - (self.at & 7)) & 1
        self.at += 1
        return bit

    def to_byte(self):
        self.at = (self.at + 7) & ~7

    def coded(self, tree):
        """One value of a Huffman tree."""
        at = 0
        while True:
            at += self.one()
            if at >= len(tree):
                raise Spent
            if tree[at] & IS_CHAR:
                return tree[at] & ~IS_CHAR
            at += tree[at]


class Decoder:
    """The columns and trees of one table, from the head of its .MYD; `lengths` are the columns' bytes. Raises ValueError where they do not fit."""

    def __init__(self, head, lengths):
        trees, = struct.unpack_from("<H", head, 24)
        bits = Bits(head, 8 * 32)
        tree_bits = max(1, (trees - 1).bit_length())
        try:
            columns = [(bits.take(5), bits.take(6), bits.take(5), bits.take(tree_bits), length) for length in lengths]
            bits.to_byte()
            found = [self.tree(bits) for _ in range(trees)]
        except Spent:
            raise ValueError("the head of the compressed rows is damaged") from None
        if bits.at != bits.end or any(kind > CHECK or tree >= trees for kind, _, _, tree, _ in columns):
            raise ValueError("the compressed rows are another table's")
        self.columns = [(kind, pack, width, *found[tree], length) for kind, pack, width, tree, length in columns]

    @staticmethod
    def tree(bits):
        """The nodes of a tree, and the bytes of the distinct values that it is about, if it is one of those."""
        distinct = bits.one()
        least = 0 if distinct else bits.take(8)
        elements = bits.take(15 if distinct else 9)
        length = bits.take(16) if distinct else 0
        value_bits, offset_bits = bits.take(5), bits.take(5)
        nodes = [bits.take(offset_bits) if bits.one() else IS_CHAR + bits.take(value_bits) + least for _ in range(2 * elements - 2)]
        bits.to_byte()
        values = bits.data[bits.at >> 3:(bits.at >> 3) + length]
        bits.at += 8 * length
        return nodes, values

    def row(self, data, blobs):
        """The number in each column, None where it can hold none. None where the row's codes end elsewhere than `data`, or its blobs have
        not `blobs` bytes together."""
        bits, numbers = Bits(data), []
        try:
            for kind, pack, width, tree, values, length in self.columns:
                number, unpacked = self.column(bits, kind, pack, width, tree, values, length)
                blobs -= unpacked
                numbers.append(number)
        except Spent:
            return None
        return numbers if bits.at + 7 >> 3 == len(data) and blobs == 0 else None

    @staticmethod
    def column(bits, kind, pack, width, tree, values, length):
        """Reads one column: its number, and the bytes of its blob."""

        def text(count):
            # At least one is read whatever it says, as decode_bytes does.
            if count <= 0:
                raise Spent
            return bytes([bits.coded(tree) & 255 for _ in range(count)])

        number = lambda content: int.from_bytes(content, "little") if length in NUMBER else None
        if kind in (ZERO, CHECK):
            return number(b""), 0
        if kind == CONSTANT:
            return number(values[:length]), 0
        if kind == INTERVALL:
            at = length * bits.coded(tree)
            if at + length > len(values):
                raise Spent
            return number(values[at:at + length]), 0
        if kind == SKIP_ZERO or kind == NORMAL and not pack & SPACE_FIELDS:
            if kind == SKIP_ZERO and bits.one():
                return number(b""), 0
            return number(text(length - (width if pack & ZERO_FILL else 0))), 0
        if kind in (BLOB, VARCHAR):
            if bits.one():
                return None, 0
            count = bits.take(width)
            if kind == VARCHAR and count >= length:
                raise Spent
            text(count)
            return None, count if kind == BLOB else 0
        # Padded with spaces.
        if pack & SPACE_FIELDS and bits.one():
            return None, 0
        spaces = 0
        if kind != NORMAL and (not pack & SELECTED or bits.one()):
            spaces = bits.take(width)
        if spaces < length:
            text(length - spaces)
        elif spaces > length:
            raise Spent
        return None, 0
