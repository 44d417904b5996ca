"""What myisamchk must not see: rows of which only a part is there.

Missing ranges of a lost file read as zeros. A row that begins before one has a sound head and zeros for its end, and unless the
table has row checksums (CHECKSUM=1) myisamchk takes it for whole. So each such row, with the missing range, is made one deleted row.

Facts of the formats: MariaDB storage/myisam/mi_dynrec.c (_mi_get_block_info), mi_statrec.c, mi_packrec.c (_mi_pack_get_block_info);
src/content/myisam/ has the same at length.
"""

import errno
import os
import struct

from .unpack import Decoder

# MI_MIN_BLOCK_LENGTH, and the longest block that a deleted one can be (MI_MAX_BLOCK_LENGTH).
MIN_BLOCK = 20
MAX_BLOCK = (1 << 24) - 4
# From this length on the headers with 3-byte lengths are used.
LONG = 65520
# How many bytes are looked at together to find where rows begin: first few, then more, because rows may be long.
WINDOWS = (1 << 12, 1 << 14, 1 << 17, 1 << 20)
# Rows one after another at a place where they may begin, so that they do. Fewer, with no other bytes left to ask, are not believed.
SURE, FEW = 8, 2
# Packed rows that are unpacked to see what counts in them.
SAMPLE = 24
# Ways in which they may end that are tried, before it is given up to find them.
TRIES = 256


def missing(descriptor, size):
    """The missing ranges, as the mount tells them: holes. A .MYD never has holes of its own."""
    ranges, at = [], 0
    while at < size:
        hole = os.lseek(descriptor, at, os.SEEK_HOLE)
        if hole >= size:
            break
        try:
            at = min(os.lseek(descriptor, hole, os.SEEK_DATA), size)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            at = size
        ranges.append((hole, at))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return ranges


def counting(rows):
    """Columns whose numbers rise from row to row, and by how much at most they may between two."""
    found = {}
    for column in range(len(rows[0]) if len(rows) >= SURE else 0):
        numbers = [row[column] for row in rows]
        steps = [b - a for a, b in zip(numbers, numbers[1:]) if None not in (a, b)]
        if len(steps) == len(numbers) - 1 and min(steps) > 0 and max(steps) <= 1 << 16:
            found[column] = 16 * max(steps)
    return found


class Dynamic:
    """Row blocks, aligned to 4 bytes."""

    # What looks like a row block is one, as often as matters.
    sure = None

    align = 4
    heads = frozenset(range(14))

    @staticmethod
    def length(data, at):
        """Bytes of the row block whose head stands at `at`, 0 where none does, None where the bytes end within the head."""
        head = data[at:at + 20]
        kind = head[0]
        # For each type: where length and slack of this part stand, bytes of the head, of the length.
        where = ((1, None, 0, 3), (1, None, 3, 2), (1, None, 4, 3), (1, 3, 4, 2), (1, 4, 5, 3), (3, None, 13, 2), (4, None, 15, 3),
                 (1, None, 3, 2), (1, None, 4, 3), (1, 3, 4, 2), (1, 4, 5, 3), (1, None, 11, 2), (1, None, 12, 3), (5, None, 16, 3))
        if kind > 13:
            return 0
        at_length, at_slack, header, width = where[kind]
        if len(head) < max(header, MIN_BLOCK if kind == 0 else 0):
            return None
        part = int.from_bytes(head[at_length:at_length + width], "big")
        slack = head[at_slack] if at_slack else 0
        total = header + part + slack
        if total < MIN_BLOCK or total % 4 or slack > 44 or (kind and not part):
            return 0
        if kind in (1, 2, 3, 4, 7, 8, 9, 10) and (total >= LONG) != (kind in (2, 4, 8, 10)):
            return 0
        if kind in (5, 6):
            row, = struct.unpack_from(">H", head, 1) if kind == 5 else (int.from_bytes(head[1:4], "big"),)
            if row <= part:
                return 0
        for link in {0: (4, 12), 5: (5,), 6: (7,), 11: (3,), 12: (4,), 13: (8,)}.get(kind, ()):
            target = int.from_bytes(head[link:link + 8], "big")
            if target != (1 << 64) - 1 and (target >= 1 << 56 or target % 4) or kind and target == (1 << 64) - 1:
                return 0
        return total

    @staticmethod
    def erase(start, end):
        """Patches that make deleted row blocks of a range."""
        patches = []
        while start < end:
            length = min(end - start, MAX_BLOCK)
            if 0 < end - start - length < MIN_BLOCK:
                length -= MIN_BLOCK
            if length < MIN_BLOCK:
                return patches + [(start, bytes(length))]
            patches.append((start, b"\0" + length.to_bytes(3, "big") + b"\xff" * 16))
            start += length
        return patches


class Packed:
    """Rows of myisampack: their length, that of their blobs where they have some, and so many bytes."""

    align = 1
    heads = frozenset(range(256))

    def __init__(self, head, columns, blobs):
        self.decoder = Decoder(head, columns)
        self.version = head[3]
        self.first, self.shortest, self.longest = struct.unpack_from("<III", head, 4)
        self.blobs = blobs

    def number(self, data, at):
        """read_pack_length: the number, and where it ends."""
        kind = data[at]
        if kind < 254:
            return kind, at + 1
        if kind == 254:
            return int.from_bytes(data[at + 1:at + 3], "little"), at + 3
        width = 3 if self.version == 1 else 4
        return int.from_bytes(data[at + 1:at + 1 + width], "little"), at + 1 + width

    def length(self, data, at):
        if at + 10 > len(data):
            return None
        row, end = self.number(data, at)
        if not self.shortest <= row <= self.longest:
            return 0
        if self.blobs:
            end = self.number(data, end)[1]
        return end - at + row

    def row(self, data, at):
        """The numbers in a row (see Decoder.row), None where it is none: its codes end elsewhere than the row, or its blobs do."""
        if not 0 < (self.length(data, at) or 0) <= len(data) - at:
            return None
        row, end = self.number(data, at)
        blobs, end = self.number(data, end) if self.blobs else (0, end)
        return self.decoder.row(data[end:end + row], blobs)

    def sure(self, data, found, heads):
        """Where the first of the rows in `data` begins that is one for sure. None where none is.

        A byte that happens to be the distance to a row looks like the head of one more, and its codes may even end where they should. So
        rows are taken from the back: a place that leads to a row that is known is one itself if it can be unpacked, and counts as the rows
        behind it do, and no other such place leads there. The foremost of rows in which nothing counts is left out.
        """
        known, numbers = self.last_rows(data, found, heads)
        if len(numbers) < FEW:
            return None
        counters = counting(numbers)
        leading = {}
        for place in found:
            if place < known:
                leading.setdefault(place + (self.length(data, place) or 0), []).append(place)
        while True:
            rows = [(place, new) for place in leading.get(known, ()) if (new := self.row(data, place)) is not None]
            rows = [(place, new) for place, new in rows if all(0 < numbers[0][column] - (new[column] or 0) <= step
                                                               for column, step in counters.items())]
            if len(rows) != 1:
                break
            known, numbers = rows[0][0], [rows[0][1]]
        return known if counters else known + self.length(data, known)

    def last_rows(self, data, found, heads):
        """The last rows of a chain, which can be unpacked: where they begin, and their numbers. However they begin, chains run together
        within a few rows; those that end elsewhere are few."""
        tried = set()
        for _, at, last in heads:
            if last in tried:
                continue
            tried.add(last)
            path = [at]
            while len(path) < 3 * SAMPLE and (total := self.length(data, path[-1])) and path[-1] + total in found:
                path.append(path[-1] + total)
            known, numbers = path.pop(), []
            while path and len(numbers) <= SAMPLE and (new := self.row(data, path[-1])) is not None:
                known = path.pop()
                numbers.insert(0, new)
            if len(numbers) >= FEW or len(tried) >= TRIES:
                break
        return known, numbers

    @staticmethod
    def erase(start, end):
        """A row cannot be marked as deleted; one of length 0 is none."""
        return [(start, bytes(end - start))] if end > start else []


def chains(format, data, base):
    """For each place where a row may begin, how many follow from there to the end of `data` without a break, and where the last begins.

    `base` is the offset of `data` in the file.
    """
    found = {}
    length, align, heads = format.length, format.align, format.heads
    last = len(data) - (base + len(data)) % align
    for at in range(last - align if last == len(data) else last, -1, -align):
        if data[at] not in heads:
            continue
        total = length(data, at)
        if total == 0:
            continue
        if total is None or at + total >= len(data):
            # Goes on behind these bytes, or what stands there cannot be told from a head.
            found[at] = (1, at)
        elif at + total in found:
            count, end = found[at + total]
            found[at] = (count + 1, end)
    return found


def begin(format, descriptor, start, end):
    """The first place at or behind `start` where a row begins for sure, None where there is none before `end`."""
    for window in WINDOWS:
        data = os.pread(descriptor, min(window, end - start), start)
        # No chain of rows reaches beyond zeros at the end of the file.
        found = chains(format, data.rstrip(b"\0"), start)
        enough = SURE if len(data) < end - start else FEW
        heads = sorted((-count, at, last) for at, (count, last) in found.items() if count >= enough)
        if heads and format.sure is None:
            return start + heads[0][1]
        at = format.sure(data, found, heads) if heads else None
        if at is not None:
            return start + at
        if len(data) == end - start:
            return None
    return None


def cut(format, descriptor, start, end, known):
    """Where the row begins that goes on behind `end`; `end` if none does, None where nothing is sure.

    `known` says that a row begins at `start`.
    """
    window = WINDOWS[-1] if known and end - start <= WINDOWS[-1] else WINDOWS[-2]
    base = max(start, end - window)
    data = os.pread(descriptor, end - base, base)
    if not known or base > start:
        found = chains(format, data, base)
        best = max(found.values(), default=(0, 0))
        return base + best[1] if best[0] >= FEW else None
    at = 0
    while at < len(data):
        total = format.length(data, at)
        if total == 0:
            return None
        if total is None or at + total > len(data):
            return base + at
        at += total
    return end


def in_records(format, descriptor, size, ranges, first):
    """Patches for a file of records without gaps: each missing range, with the rows that it cuts, becomes deleted."""
    patches, island, known = [], first, True
    stops = [start for start, _ in ranges[1:]] + [size]
    for (start, end), stop in zip(ranges, stops):
        head = island
        if start > island:
            row = cut(format, descriptor, island, start, known)
            # Of what lies between two missing ranges nothing is sure to be whole.
            head = island if row is None else row
        after = begin(format, descriptor, end, stop) if stop > end else stop
        known = after is not None
        island = stop if after is None else after
        if island == stop and patches and patches[-1][1] == head:
            patches[-1] = (patches[-1][0], island)
        else:
            patches.append((head, island))
    return patches


def joined(ranges):
    """Ranges in their order, those that touch or overlap as one."""
    whole = []
    for start, end in sorted(ranges):
        if whole and start <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole


def patches(descriptor, size, header, ranges):
    """What stands in for bytes of the lost file, [(offset, bytes)], of which `ranges` are missing. Raises ValueError where `header` is another
    table's."""
    if not ranges:
        return []
    head = os.pread(descriptor, 32, 0)
    if head[:3] == b"\xfe\xfe\x08":
        format = Packed(os.pread(descriptor, int.from_bytes(head[4:8], "little"), 0), header.columns(), header.blobs > 0)
        erased = joined(in_records(format, descriptor, size, ranges, format.first))
        # Missing bytes are zeros as it is: only what stands beside them is to go.
        return [patch for start, end in outside(erased, ranges) for patch in format.erase(start, end)]
    if header.dynamic:
        erased = joined(in_records(Dynamic, descriptor, size, ranges, 0))
        return [patch for start, end in erased for patch in Dynamic.erase(start, end)]
    # A deleted row begins with 0. One that begins within a missing range does so anyway.
    length = header.row_length
    cuts = sorted({start - start % length for start, _ in ranges if start % length})
    return [(at, b"\0") for at in cuts if at < size]


def outside(ranges, holes):
    """The parts of ranges that are not in holes; both are in order."""
    next_hole = 0
    for start, end in ranges:
        while next_hole < len(holes) and holes[next_hole][0] < end:
            low, high = holes[next_hole]
            if low > start:
                yield start, low
            start = max(start, high)
            next_hole += 1
        if end > start:
            yield start, end
