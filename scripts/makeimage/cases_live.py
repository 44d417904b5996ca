"""Cases in which nothing is lost, but much on the disk looks like indirect blocks."""

import array
import gzip
import os
import shutil
import sqlite3
import struct
import zipfile
import zlib

from .builder import case
from .cases_files import MB

PIECE = MB


def integers(b, first, step, count, code="I"):
    """A sorted table as a program would write it: `count` little-endian numbers from `first` on, with gaps of up to `step`."""
    numbers, at = array.array(code), first
    for _ in range(count):
        at += b.random.randrange(1, step + 1)
        numbers.append(at)
    return numbers.tobytes()


def bitmap(b, size):
    """Runs of set and clear bits, as an allocation bitmap has them."""
    bits = bytearray()
    while len(bits) < size:
        bits += b.random.choice([b"\xff", b"\0", b"\x0f", b"\xfe"]) * b.random.randrange(1, 300)
    return bytes(bits[:size])


def pointer_records(b, count, blocks):
    """As the leaves of a .MYI: keys with ascending 6-byte pointers, big-endian, in pages of 1 KiB."""
    at, pages = 0, []
    while count > 0:
        page = bytearray()
        while len(page) < 1000 and count > 0:
            at += b.random.randrange(1, 200)
            page += struct.pack(">IHI", count, 0, at % blocks)
            count -= 1
        pages.append(struct.pack(">H", len(page) + 2) + bytes(page).ljust(1022, b"\0"))
    return b"".join(pages)


def text(b, size):
    words = [b"%d" % b.random.randrange(10**6) if number % 3 else b"request served in" for number in range(size // 8 + 1)]
    return b" ".join(words)[:size]


def earlier(b, size):
    """What programs without any ext filesystem left on the device before: one piece after another of tables, bitmaps, text, noise and zeros."""
    blocks = size // 4096
    makers = [
        lambda: integers(b, b.random.randrange(blocks), 1, PIECE // 4),
        lambda: integers(b, b.random.randrange(blocks // 2), 8, PIECE // 4),
        lambda: integers(b, b.random.randrange(blocks), 3, PIECE // 8, "Q"),
        lambda: bitmap(b, PIECE),
        lambda: text(b, PIECE),
        lambda: b.random.randbytes(PIECE),
        lambda: bytes(PIECE),
        # Pages of numbers that all lie on the disk but follow no order, and short ascending lists with zeros behind.
        lambda: array.array("I", (b.random.randrange(1, blocks) for _ in range(PIECE // 4))).tobytes(),
        lambda: b"".join(integers(b, b.random.randrange(blocks // 2), 4, count).ljust(4096, b"\0")
                         for count in (b.random.randrange(1, 1024) for _ in range(PIECE // 4096))),
    ]
    # Each kind once, and then what was made again in another place: random numbers are slow to make.
    pieces = [maker() for maker in makers for _ in range(3)]
    for _ in range(-(-size // PIECE)):
        piece = b.random.choice(pieces)
        turn = 4096 * b.random.randrange(PIECE // 4096)
        yield piece[turn:] + piece[:turn]


def fill_databases(b, folder):
    """Three SQLite databases that grow in turn, with integer keys and indexes. No rollback journal: it would be a lost file."""
    databases = []
    for number in range(3):
        database = sqlite3.connect(os.fsdecode(b.disk.at(folder + b"/%d.sqlite" % number)), isolation_level=None)
        for pragma in ("journal_mode=OFF", "temp_store=MEMORY", "synchronous=OFF", f"page_size={(1024, 4096, 4096)[number]}"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, c BLOB)")
        database.execute("CREATE INDEX a ON t (a)")
        database.execute("CREATE INDEX ab ON t (b, a)")
        databases.append(database)
    for turn in range(16):
        for database in databases:
            rows = [(None, turn * 8000 + i, b.random.randrange(10**6), b"x" * b.random.randrange(40)) for i in range(8000)]
            database.execute("BEGIN")
            database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
            database.execute("COMMIT")
        b.sync()
    for database in databases:
        database.close()


def put(b, path, pieces):
    with open(b.disk.at(path), "wb") as out:
        for piece in pieces:
            out.write(piece)


def fill_tables(b, folder, blocks):
    """Sorted numbers, many of them as large as block numbers."""
    for number, first in enumerate([1, 1000, blocks // 4, blocks // 2]):
        put(b, folder + b"/dense%d.u32" % number, [integers(b, first, 1, (blocks - first) // 2)])
        put(b, folder + b"/gaps%d.u32" % number, [integers(b, first, 3, (blocks - first) // 3)])
    put(b, folder + b"/many.u32", [integers(b, first, 5, blocks // 10) for first in range(1, blocks // 2, blocks // 50)])
    put(b, folder + b"/ids.u64", [integers(b, 0, 2, 2 * MB, "Q")])
    put(b, folder + b"/rows.MYI", [pointer_records(b, 400_000, blocks)])
    put(b, folder + b"/bitmap", [bitmap(b, 4 * MB)])


def fill_media(b, folder):
    """Sound, pictures, archives: noise with headers."""
    samples = array.array("h", (int(9000 * ((i * 37 % 2000) / 1000 - 1)) + b.random.randrange(-300, 300) for i in range(2 * MB))).tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", len(samples) + 36, b"WAVE", b"fmt ", 16, 1, 2, 44100, 176400, 4, 16, b"data", len(samples))
    put(b, folder + b"/sound.wav", [head, samples])
    with zipfile.ZipFile(os.fsdecode(b.disk.at(folder + b"/archive.zip")), "w", zipfile.ZIP_DEFLATED) as out:
        for number in range(50):
            out.writestr(f"{number}.txt", text(b, 200_000))
    put(b, folder + b"/log.gz", [gzip.compress(text(b, 8 * MB))])
    rows = b.random.randbytes(3 * MB)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    put(b, folder + b"/noise.png", [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", 1024, 1024, 8, 2, 0, 0, 0)), chunk(b"IDAT", zlib.compress(rows)),
                                 chunk(b"IEND", b"")])


def copy_binaries(b, folder, limit):
    """Programs and libraries of this machine, as many as `limit` bytes hold."""
    source = next((path for path in ("/usr/lib/x86_64-linux-gnu", f"/usr/lib/{os.uname().machine}-linux-gnu", "/usr/lib") if os.path.isdir(path)))
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        if entry.is_file(follow_symlinks=False) and 100_000 < entry.stat().st_size < 20 * MB and entry.stat().st_size < limit:
            shutil.copyfile(entry.path, b.disk.at(folder + b"/" + os.fsencode(entry.name)))
            limit -= entry.stat().st_size


def fill(b):
    size = 512 * MB
    b.mkfs(size, "-b 4096 -I 256 -J size=8", earlier=earlier(b, size))
    rec = b.mount()
    for folder in (b"/databases", b"/tables", b"/media", b"/lib"):
        rec.mkdir(folder)
    fill_databases(b, b"/databases")
    fill_tables(b, b"/tables", size // 4096)
    fill_media(b, b"/media")
    copy_binaries(b, b"/lib", 150 * MB)
    b.sync()


def lists_in_free_space(b):
    """Free blocks that hold nothing but ascending numbers of blocks of this disk, as an indirect block does."""
    with b.disk.image() as image:
        volume = image.volume
        used = volume.used_blocks()
        found = 0
        for block in range(volume.blocks):
            if block in used:
                continue
            numbers = array.array("I", volume.block(block))
            found += numbers[0] > 0 and numbers[-1] < volume.blocks and all(a < c for a, c in zip(numbers, numbers[1:]))
    return found


@case("livedisk", "databases, sorted tables, media and programs, on a device whose free space holds the like from before; nothing was ever lost")
def livedisk(b):
    fill(b)
    b.finish()
    b.claim(not b.rec.lost, "nothing is lost")
    b.claim(sum(item["size"] for item in b.live) > 150 * MB, f"{len(b.live)} files and folders live, {sum(item['size'] for item in b.live) // MB} MB")
    found = lists_in_free_space(b)
    b.claim(found > 1000, f"{found} free blocks hold ascending numbers of blocks")


@case("dirtydisk", "the same disk, of which every other database, table, medium and program was deleted just now: their contents are free blocks too")
def dirtydisk(b):
    fill(b)
    doomed = []
    for folder in (b"/databases", b"/tables", b"/media", b"/lib"):
        doomed += [folder + b"/" + name for name in sorted(os.listdir(b.disk.at(folder)))[::2]]
    for path in doomed:
        b.rec.unlink(path)
    b.finish()
    lost = b.rec.lost
    b.claim(len(lost) == len(doomed), f"{len(lost)} files of {sum(life['size'] for life in lost) // MB} MB are lost")
    b.claim_all_stand(lost)
    b.claim_in_journal(lost, len(lost), len(lost), "not wrapped")
    found = lists_in_free_space(b)
    b.claim(found > 3000, f"{found} free blocks hold ascending numbers of blocks")
