"""A small reader of ext3, written for the truth and independent of undelfs. It reads a device, an image, or any bytes."""

import struct
from collections import namedtuple

from .system import add_run

INCOMPAT_META_BG = 0x10
INCOMPAT_64BIT = 0x80
RO_COMPAT_SPARSE_SUPER = 0x1

S_IFMT, S_IFREG = 0o170000, 0o100000
DIRECT = 12

JBD_MAGIC = 0xC03B3998
# Fields of the journal's superblock.
S_FEATURE_INCOMPAT, S_HEAD = 0x28, 0x58
JBD2_FEATURE_INCOMPAT_64BIT = 2

Inode = namedtuple("Inode", "number mode uid size mtime dtime links blocks flags i_block generation")
Blocks = namedtuple("Blocks", "runs indirect")


class Volume:
    """An ext2/3 filesystem. `read(offset, length)` returns bytes."""

    def __init__(self, read):
        self.read = read
        sb = read(1024, 1024)
        if struct.unpack_from("<H", sb, 56)[0] != 0xEF53:
            raise ValueError("not an ext filesystem")
        u32 = lambda at: struct.unpack_from("<I", sb, at)[0]
        self.blocks = u32(4)
        self.first_data_block = u32(20)
        self.block_size = 1024 << u32(24)
        self.blocks_per_group = u32(32)
        self.inodes_per_group = u32(40)
        self.revision = u32(76)
        self.inode_size = struct.unpack_from("<H", sb, 88)[0] if self.revision else 128
        self.incompat = u32(96) if self.revision else 0
        self.sparse_super = bool(u32(100) & RO_COMPAT_SPARSE_SUPER) if self.revision else False
        self.journal_inode = u32(224)
        self.descriptor_size = struct.unpack_from("<H", sb, 254)[0] if self.incompat & INCOMPAT_64BIT else 32
        self.first_meta_bg = u32(260)
        self.groups = -(-(self.blocks - self.first_data_block) // self.blocks_per_group)
        self._tables, self._bitmaps = {}, {}

    def block(self, number):
        return self.read(number * self.block_size, self.block_size)

    def _has_super(self, group):
        if not self.sparse_super or group <= 1:
            return True
        for base in (3, 5, 7):
            power = base
            while power < group:
                power *= base
            if power == group:
                return True
        return False

    def inode_table(self, group):
        """First block of a group's inode table."""
        if group not in self._tables:
            per_block = self.block_size // self.descriptor_size
            meta = group // per_block
            if self.incompat & INCOMPAT_META_BG and meta >= self.first_meta_bg:
                first = meta * per_block
                block = self.first_data_block + first * self.blocks_per_group + self._has_super(first)
            else:
                block = self.first_data_block + 1 + meta
            at = block * self.block_size + group % per_block * self.descriptor_size
            self._bitmaps[group], _, self._tables[group] = struct.unpack("<III", self.read(at, 12))
        return self._tables[group]

    def used_blocks(self):
        """The set of all blocks that are in use, by the bitmaps."""
        used = set(range(self.first_data_block))
        for group in range(self.groups):
            self.inode_table(group)
            first = self.first_data_block + group * self.blocks_per_group
            bits = int.from_bytes(self.block(self._bitmaps[group]), "little")
            used.update(first + i for i in range(min(self.blocks_per_group, self.blocks - first)) if bits >> i & 1)
        return used

    def inode_at(self, number):
        """Byte offset of an inode."""
        group, index = divmod(number - 1, self.inodes_per_group)
        return self.inode_table(group) * self.block_size + index * self.inode_size

    def inode(self, number):
        raw = self.read(self.inode_at(number), 128)
        mode, uid, size, _, _, mtime, dtime, _, links, blocks, flags = struct.unpack_from("<HHIIIIIHHII", raw)
        generation, _, high = struct.unpack_from("<III", raw, 100)
        if mode & S_IFMT == S_IFREG:
            size |= high << 32
        return Inode(number, mode, uid, size, mtime, dtime, links, blocks, flags, raw[40:100], generation)

    def map(self, i_block):
        """The runs that an inode's 60 bytes of pointers lead to, and its indirect blocks as [level, first file block, block]."""
        pointers = struct.unpack("<15I", i_block)
        per_block = self.block_size // 4
        runs, indirect = [], []

        def walk(level, first, block):
            if not block:
                return
            if level == 0:
                add_run(runs, first, block, 1)
                return
            indirect.append([level, first, block])
            span = per_block ** (level - 1)
            inner = struct.unpack(f"<{per_block}I", self.block(block))
            if level == 1:
                for i, pointer in enumerate(inner):
                    if pointer:
                        add_run(runs, first + i, pointer, 1)
            else:
                for i, pointer in enumerate(inner):
                    walk(level - 1, first + i * span, pointer)

        for i in range(DIRECT):
            walk(0, i, pointers[i])
        first = DIRECT
        for level in (1, 2, 3):
            walk(level, first, pointers[DIRECT + level - 1])
            first += per_block ** level
        return Blocks(runs, indirect)

    def content_blocks(self, number):
        """(file block, bytes) of each mapped block of an inode, in order."""
        for start, physical, count in self.map(self.inode(number).i_block).runs:
            for i in range(count):
                yield start + i, self.block(physical + i)

    def journal(self):
        """All bytes of the internal journal."""
        return b"".join(data for _, data in self.content_blocks(self.journal_inode))

    def journal_superblock(self):
        """Byte offset of the internal journal's superblock."""
        return self.block_size * struct.unpack_from("<I", self.inode(self.journal_inode).i_block)[0]

    def journal_start(self):
        """s_start of the internal journal: zero when it was closed in order."""
        return struct.unpack(">I", self.read(self.journal_superblock() + 28, 4))[0]


def described(journal, block_size):
    """Indexes of the log's blocks that some descriptor names; for a log without 64bit and checksum features."""
    named = set()
    for index in range(len(journal) // block_size):
        at = index * block_size
        magic, kind, _ = struct.unpack_from(">III", journal, at)
        if magic != JBD_MAGIC or kind != 1:
            continue
        tag, follows = at + 12, index
        while tag + 8 <= at + block_size:
            flags = struct.unpack_from(">H", journal, tag + 6)[0]
            follows += 1
            named.add(follows)
            tag += 8 if flags & 2 else 24  # SAME_UUID
            if flags & 8:  # LAST_TAG
                break
    return named


def name_stands(blocks, name, has_filetype=True):
    """Whether directory blocks hold `name` as an entry, live or in the slack."""
    for data in blocks:
        at = data.find(name)
        while at >= 0:
            # Entries begin at multiples of four; the name follows 8 bytes of header, which end in its length and type.
            if at >= 8 and at % 4 == 0 and data[at - 2] == len(name) and data[at - 1] <= 7:
                return True
            at = data.find(name, at + 1)
    return False
