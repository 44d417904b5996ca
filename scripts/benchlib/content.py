"""What files are filled with: a mixture like that of real disks, so that a scan meets what it has to tell apart."""

import random
import struct

from .machine import MIB

PIECE = 64 << 10
STAMP = 2048


class Pool:
    """A store of bytes from which any amount is taken, fast: four parts compressed, three text, two rows of a table, one zeros."""

    def __init__(self, seed, size=64 * MIB):
        self.choose = random.Random(seed)
        kinds = [self.choose.randbytes] * 4 + [self._text] * 3 + [self._rows] * 2 + [bytes]
        pieces = [self.choose.choice(kinds)(PIECE) for _ in range(size // PIECE)]
        self.bytes = memoryview(b"".join(pieces) * 2)
        self.size = size

    def _text(self, size):
        words = [bytes(self.choose.choices(range(97, 123), k=self.choose.randrange(1, 12))) for _ in range(300)]
        return b" ".join(self.choose.choices(words, k=size))[:size]

    def _rows(self, size):
        number = self.choose.randrange(1 << 24)
        rows = [struct.pack("<BIQ", 3, number + at, self.choose.getrandbits(34)) + b"user%d@example.net\0\0" % (at % 5000)
                for at in range(size // 24)]
        return b"".join(rows)[:size]

    def take(self, size):
        """The next bytes, at most as many as the store has."""
        at = self.choose.randrange(self.size)
        return self.bytes[at:at + size]

    def stamped(self, size, at, file=0):
        """Bytes of a file from `at` on: each block holds its own number and the file's, so that none is like another."""
        data = bytearray(self.take(size))
        first = -at % 4096
        for place in range(first + STAMP, size - 8, 4096):
            # As no block's number could look: among zeros it would be taken for a pointer, rightly.
            struct.pack_into("<II", data, place, (at + place) // 4096 | 0xC0000000, 0xFFFFFF00 + file)
        return data
