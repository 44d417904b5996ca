"""The head of a .MYI: what of it the repair needs (MariaDB storage/myisam/mi_open.c, mi_state_info_read and mi_n_base_info_read)."""

import struct

MAGIC = b"\xfe\xfe\x07\x01"
PACKED_MAGIC = b"\xfe\xfe\x08"
PACKED_HEAD = 32
# include/my_base.h
HA_OPTION_PACK_RECORD = 1
HA_OPTION_READ_ONLY_DATA = 2
HA_OPTION_COMPRESS_RECORD = 4
# MI_STATE_INFO_SIZE, MI_BASE_INFO_SIZE
STATE_INFO = 24 + 14 * 8 + 7 * 4 + 2 * 2 + 8
BASE_INFO = 100
# What a header may be at most: header_length has 16 bits, and the first key page follows within a page of 16 KiB.
MAX_HEAD = (1 << 16) + (1 << 14)


class Header:
    """The definition of a table for MyISAM: everything before its first key page."""

    def __init__(self, head):
        if head[:4] != MAGIC or len(head) < 512:
            raise ValueError("no .MYI")
        self.options, length, _, base_length, base = struct.unpack_from(">HHHHH", head, 4)
        key_parts, = struct.unpack_from(">H", head, 14)
        expected = STATE_INFO + 8 * (head[18] + head[21]) + 4 * key_parts
        if base_length != BASE_INFO or base != expected or base + BASE_INFO > len(head):
            raise ValueError("its fields contradict each other")
        key_start, = struct.unpack_from(">Q", head, base)
        self.row_length, = struct.unpack_from(">I", head, base + 48)
        self.fields, = struct.unpack_from(">I", head, base + 64)
        self.blobs, = struct.unpack_from(">H", head, base + 78)
        self.records, = struct.unpack_from(">Q", head, 28)
        self.data_length, = struct.unpack_from(">Q", head, 68)
        self.auto_increment, = struct.unpack_from(">Q", head, 92)
        self.length = length
        if not length <= key_start <= min(len(head), MAX_HEAD) or not self.row_length:
            raise ValueError("its fields contradict each other")
        self.bytes = bytearray(head[:key_start])

    @property
    def dynamic(self):
        return bool(self.options & HA_OPTION_PACK_RECORD)

    @property
    def packed(self):
        return bool(self.options & HA_OPTION_COMPRESS_RECORD)

    def columns(self):
        """Bytes that each column has in a row: mi_recinfo_read, 7 bytes a column, the last of the definitions."""
        start = self.length - 7 * self.fields
        if start < 0:
            raise ValueError("its fields contradict each other")
        return [struct.unpack_from(">H", self.bytes, start + 7 * number + 2)[0] for number in range(self.fields)]

    def mark_packed(self):
        """As myisampack's save_state: a definition that knows nothing of the compression of its rows learns of it."""
        self.options |= HA_OPTION_COMPRESS_RECORD | HA_OPTION_READ_ONLY_DATA
        struct.pack_into(">H", self.bytes, 4, self.options)

    @classmethod
    def read(cls, path):
        """The header of a file. Raises ValueError where it is none, or damaged."""
        with open(path, "rb") as file:
            return cls(file.read(MAX_HEAD))
