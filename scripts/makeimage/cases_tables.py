"""Cases about MyISAM tables of a real MariaDB, grown side by side, then lost.

Beside such an image stand NAME.tables.json and, for each table, NAME.TABLE.rows and NAME.TABLE.sums: u32 little-endian.
.rows has three for each part of a row, ordered by offset: its id, offset in the .MYD, length. .sums has three for each row, ordered by
id: its id and, low half first, the number that the SQL expression `sum` gives.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from array import array

from .builder import case
from .cases_chains import small_files, wrap
from .cases_files import MB
from .mariadb import Server, dynamic_rows, fixed_rows, little_endian, packed_rows
from .system import Failure, copy_sparse, fiemap, run

ROWS = {"messages": 902_255, "outbox": 400_000, "counters": 300_000, "archive": 120_000}
MAIL = """CREATE TABLE %s (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, sender VARCHAR(80) NOT NULL, sent DATETIME NOT NULL,
 body TEXT NOT NULL, KEY (sender)) ENGINE=MyISAM"""
CREATE = {
    "messages": MAIL % "messages",
    "outbox": MAIL % "outbox",
    "archive": MAIL % "archive",
    "counters": """CREATE TABLE counters (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name CHAR(32) CHARACTER SET latin1 NOT NULL,
 n BIGINT NOT NULL, share DOUBLE, KEY (name)) ENGINE=MyISAM ROW_FORMAT=FIXED""",
}
COLUMNS = {"counters": "id, name, n, share"}
FORMAT = {"messages": "dynamic", "outbox": "dynamic", "counters": "fixed", "archive": "packed"}
FOLDER = b"/mysql/mail"


class Writer:
    """Makes up rows: mail of all lengths, in words."""

    def __init__(self, random):
        self.random = random
        letters = "eeeeaaiioourrssttnnllmmddcpgbvfhyk"
        words = ["".join(random.choices(letters, k=random.choice((2, 3, 3, 4, 5, 5, 6, 7, 9)))) for _ in range(3000)]
        weights = [1 / (n + 3) for n in range(3000)]
        self.text = " ".join(random.choices(words, weights, k=1_500_000))
        self.people = [f"{random.choice(words)}.{random.choice(words)}{n}@{random.choice(words)}.example" for n in range(20_000)]

    def body(self, usual):
        length = min(int(usual * math.exp(self.random.gauss(0, 0.9))) + 2, 30_000)
        at = int(self.random.random() * (len(self.text) - length))
        return self.text[at:at + length]

    def row(self, table, id):
        if table == "counters":
            return f"{id}\t{self.text[id * 3:id * 3 + 5].strip()} {id % 977}\t{int(self.random.random() * 10**12)}\t{self.random.random():.9f}"
        second = id * 211 + int(self.random.random() * 200)
        sent = f"2019-{1 + id // 80_000:02d}-{1 + id // 3000 % 28:02d} {second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        person = self.people[int(self.random.random() * len(self.people))]
        return f"{id}\t{person}\t{sent}\t{self.body(165 if table == 'outbox' else 80)}"

    def rows(self, table, first, count):
        return [self.row(table, id) for id in range(first, first + count)]


def at(b, table, suffix):
    return os.fsdecode(b.disk.at(FOLDER + b"/" + table.encode() + suffix.encode()))


def beside(b, suffix):
    """The temporary name of a further file beside the image."""
    b.beside.append(suffix)
    return b.path.removesuffix(".img") + suffix


def note_rows(b, server, table):
    """Writes where each row of a table stands, and what it is; returns what NAME.tables.json says of the table."""
    with open(at(b, table, ".MYD"), "rb") as rows, open(at(b, table, ".MYI"), "rb") as keys:
        data, header = rows.read(), keys.read(64)
    found = {"dynamic": lambda: dynamic_rows(data), "fixed": lambda: fixed_rows(data, header),
             "packed": lambda: packed_rows(data, header, True)}[FORMAT[table]]()
    columns = COLUMNS.get(table, "id, sender, sent, body")
    sum = f"CAST(CONV(LEFT(MD5(CONCAT_WS('|', {columns})), 16), 16, 10) AS UNSIGNED)"
    # A scan meets the rows in the order of their first parts.
    scanned = [tuple(map(int, line.split("\t"))) for line in server.ask(f"SELECT id, {sum} FROM {table} IGNORE INDEX (PRIMARY) ")]
    parts, count = [], 0
    for (id, _), row in zip(scanned, found, strict=True):
        count += 1
        parts += [(start, length, id) for start, length in row]
    parts.sort()
    with open(beside(b, f".{table}.rows"), "wb") as out:
        out.write(little_endian(array("I", [number for start, length, id in parts for number in (id, start, length)])))
    with open(beside(b, f".{table}.sums"), "wb") as out:
        out.write(little_endian(array("I", [number for id, sum in sorted(scanned) for number in (id, sum & 0xFFFFFFFF, sum >> 32)])))
    b.claim(count == ROWS[table] - DELETED.get(table, 0), f"{table}: {count} rows in {len(parts)} parts, {len(data)} bytes")
    return {
        "path": os.fsdecode(FOLDER) + "/" + table, "format": FORMAT[table], "rows": count, "sum": sum, "create": CREATE[table],
        "checksum": server.ask(f"CHECKSUM TABLE {table}")[0].split("\t")[1],
    }


# Rows that their owner deleted before the loss: every 400th, of tables that change.
DELETED = {table: ROWS[table] // 400 for table in ("messages", "outbox")}


def pack(server, b, writer):
    """A compressed table, made elsewhere: its .MYD and .MYI are returned as bytes, to be brought to the image as others grow."""
    folder = os.path.join(server.home, "data", "elsewhere")
    server.ask("CREATE DATABASE elsewhere")
    server.ask("USE elsewhere; " + CREATE["archive"])
    server.load("elsewhere.archive", writer.rows("archive", 1, ROWS["archive"]))
    server.ask("FLUSH TABLES")
    stem = os.path.join(folder, "archive")
    run("myisampack", "-s", f"--tmpdir={server.home}", stem)
    run("myisamchk", "-rqs", f"--tmpdir={server.home}", stem)
    with open(stem + ".MYD", "rb") as rows, open(stem + ".MYI", "rb") as keys, open(stem + ".frm", "rb") as definition:
        return {".MYD": rows.read(), ".MYI": keys.read(), ".frm": definition.read()}


@case("myisam-base", "four MyISAM tables of a real MariaDB, grown side by side over time; nothing is lost yet (the other myisam-* begin from it)", 41)
def base(b):
    b.mkfs(640 * MB, "-b 4096 -I 256 -N 8192 -J size=4")
    rec = b.mount()
    rec.mkdir(b"/mysql")
    rec.mkdir(FOLDER)
    small_files(b)
    writer = Writer(b.random)
    growing = [table for table in ROWS if table != "archive"]
    with Server("mail", b.disk.at(FOLDER)) as server:
        archive = pack(server, b, writer)
        rec.write(FOLDER + b"/archive.frm", archive.pop(".frm"))
        for suffix in archive:
            rec.write(FOLDER + b"/archive" + suffix.encode())
        for table in growing:
            server.ask(CREATE[table])
        rec.write(b"/mysql/log")
        have = dict.fromkeys(growing, 0)
        turns, turn = 120, 0
        while have != {table: ROWS[table] for table in growing}:
            turn += 1
            for table in growing:
                count = min(b.random.randrange(2 * ROWS[table] // turns), ROWS[table] - have[table])
                if not count:
                    continue
                server.load(table, writer.rows(table, have[table] + 1, count))
                have[table] += count
                if table in DELETED and turn % 5 == 0:
                    # Owners edit and delete: rows in parts, and places of deleted ones that later rows fill.
                    first = max(1, have[table] - 20_000)
                    server.ask(f"DELETE FROM {table} WHERE id BETWEEN {first} AND {have[table]} AND id MOD 400 = 0; "
                               f"UPDATE {table} SET body = CONCAT(body, REPEAT(' again', 20)) "
                               f"WHERE id BETWEEN {first} AND {have[table]} AND id MOD 331 = 7")
            for suffix, data in archive.items():
                done = os.path.getsize(at(b, "archive", suffix))
                piece = len(data) - done if turn >= turns else min(len(data) - done, b.random.randrange(2 * len(data) // turns))
                if piece:
                    rec.append(FOLDER + b"/archive" + suffix.encode(), data[done:done + piece])
            # Closed now and then, as tables are that share a server with many others: the filesystem forgets what room it kept for them.
            server.ask("FLUSH TABLES")
            if turn % 4 == 0:
                rec.append(b"/mysql/log", rec.text(b.random.randrange(4 * MB)))
                b.sync()
        for table in DELETED:
            server.ask(f"DELETE FROM {table} WHERE id MOD 400 = 0")
        server.ask("FLUSH TABLES")
        b.sync()
        facts = {table: note_rows(b, server, table) for table in ROWS}
    with open(beside(b, ".tables.json"), "w") as out:
        json.dump(facts, out, indent=1)
    # What was there before leaves little room.
    number = 0
    while (room := os.statvfs(b.disk.mounted.root).f_bfree * b.block_size - 56 * MB) > 0:
        rec.write(b"/mysql/backup%d" % number, rec.data(min(room, b.random.randrange(100_000, 12 * MB))))
        number += 1
    b.sync()
    for table, least in (("messages", 100), ("outbox", 80), ("counters", 40), ("archive", 30)):
        fd = os.open(at(b, table, ".MYD"), os.O_RDONLY)
        runs, size = fiemap(fd, b.block_size), os.fstat(fd).st_size
        os.close(fd)
        b.claim(len(runs) >= least, f"{table}.MYD: {size} bytes in {len(runs)} fragments")
    b.finish()


class Tables:
    """An image that begins as the base, of which some tables get lost."""

    def __init__(self, b):
        self.b = b
        folder = os.path.dirname(b.path)
        script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "make-image")
        done = subprocess.run([sys.executable, script, "myisam-base", folder], stdout=subprocess.DEVNULL)
        if done.returncode:
            raise Failure("the image that it begins from could not be made")
        base = os.path.join(folder, "myisam-base")
        # Nobody makes it anew meanwhile.
        with open(base + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            copy_sparse(base + ".img", b.path)
            with open(base + ".tables.json") as facts:
                self.facts = json.load(facts)
            self.files = {table: [f"{base}.{table}.rows", f"{base}.{table}.sums"] for table in self.facts}
            for table in self.facts:
                for suffix in (".rows", ".sums"):
                    os.link(f"{base}.{table}{suffix}", beside(b, f".{table}{suffix}"))
        b.disk.mkfs_args = "-t ext3 -b 4096 -I 256 -N 8192 -J size=4"
        b.mount()
        self.small = [b"/small/" + name for name in sorted(os.listdir(b.disk.at(b"/small")))]
        self.lost = []

    def lose(self, how, *names):
        for name in names:
            path = FOLDER + b"/" + name.encode()
            self.b.rec.unlink(path) if how == "delete" else self.b.rec.truncate(path, 0)
            self.lost.append(name)
        self.b.sync()

    def finish(self, stand=True):
        """The journal wraps; what stands of the lost tables is written down."""
        b = self.b
        wrap(b, self.small)
        b.finish()
        b.claim_in_journal(b.rec.lost, 0, 0, "wrapped")
        if stand:
            b.claim_all_stand(b.rec.lost)
        facts = {}
        for name in self.lost:
            table, suffix = os.path.splitext(name)
            fact = facts.setdefault(table, {**self.facts[table], "lost": []})
            fact["lost"].append(suffix)
            if suffix == ".MYD":
                life, = b.lost(path=os.fsdecode(FOLDER) + "/" + name)
                gone = gone_blocks(b, life)
                fact["gone"] = ranges(gone)
                fact["rows_standing"] = rows_standing(b, table, gone)
                share = 100 * len(gone) / life["hashes"][1]
                if gone:
                    b.claim(True, f"{name}: {len(gone)} of {life['hashes'][1]} blocks are overwritten ({share:.1f}%), "
                            f"{fact['rows_standing']} of {fact['rows']} rows stand")
        for table in self.facts:
            if table not in facts:
                for suffix in (".rows", ".sums"):
                    b.beside.remove(f".{table}{suffix}")
                    os.unlink(b.path.removesuffix(".img") + f".{table}{suffix}")
        with open(beside(b, ".tables.json"), "w") as out:
            json.dump(facts, out, separators=(",", ":"))

    def share(self, lost):
        """How much of `lost`, a set of blocks, is used now."""
        taken = 0
        for folder, _, names in os.walk(self.b.disk.at(b"/")):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.getsize(path):
                    continue
                fd = os.open(path, os.O_RDONLY)
                try:
                    taken += sum(len(lost.intersection(range(first, first + count))) for _, first, count in fiemap(fd, self.b.block_size))
                finally:
                    os.close(fd)
        return taken / len(lost)


def gone_blocks(b, life):
    """The file blocks that no longer hold what they held."""
    hashes, place, gone = b.rec.hashes, life["hashes"][0] * 8, []
    with b.disk.image() as image:
        for block, physical, count in life["runs"]:
            data = memoryview(image.read(physical * b.block_size, count * b.block_size))
            for i in range(count):
                length = min(b.block_size, life["size"] - (block + i) * b.block_size)
                if hashlib.sha256(data[i * b.block_size:i * b.block_size + length]).digest()[:8] != hashes[place:place + 8]:
                    gone.append(block + i)
                place += 8
    return gone


def ranges(numbers):
    """Ascending numbers as [[first, count]…]."""
    found = []
    for number in numbers:
        if found and sum(found[-1]) == number:
            found[-1][1] += 1
        else:
            found.append([number, 1])
    return found


def rows_standing(b, table, gone):
    """How many rows have all their bytes on the disk."""
    gone, parts = set(gone), array("I")
    with open(b.path.removesuffix(".img") + f".{table}.rows", "rb") as rows:
        parts.frombytes(rows.read())
    if sys.byteorder == "big":
        parts.byteswap()
    size, every, damaged = b.block_size, set(parts[::3]), set()
    for id, start, length in zip(parts[::3], parts[1::3], parts[2::3]):
        if not gone.isdisjoint(range(start // size, (start + length - 1) // size + 1)):
            damaged.add(id)
    return len(every - damaged)


BOTH = ("messages.MYD", "messages.MYI")
OTHERS = ("counters.MYD", "counters.MYI", "archive.MYD", "archive.MYI")


@case("myisam-deleted", "a table of 900,000 rows grown beside others, .MYD and .MYI deleted; then the journal wraps", 42)
def deleted(b):
    tables = Tables(b)
    tables.lose("delete", *BOTH)
    tables.finish()


@case("myisam-truncated", "the same, both files truncated to 0", 43)
def truncated(b):
    tables = Tables(b)
    tables.lose("truncate", *BOTH)
    tables.finish()


@case("myisam-keys", "the same, only the .MYI lost (truncated to 0)", 44)
def keys(b):
    tables = Tables(b)
    tables.lose("truncate", "messages.MYI")
    tables.finish()


@case("myisam-others", "a table of fixed format and a compressed one, .MYD and .MYI deleted; then the journal wraps", 45)
def others(b):
    tables = Tables(b)
    tables.lose("delete", *OTHERS)
    tables.finish()


def overwritten(b, percent):
    """All but one table deleted; then files of all sizes are written, and that one grows on, until so much of the largest .MYD is taken."""
    tables = Tables(b)
    life_of = lambda name: b.lost(path=os.fsdecode(FOLDER) + "/" + name)[0]
    tables.lose("delete", *BOTH, *OTHERS)
    lost = {first + i for _, first, count in life_of("messages.MYD")["runs"] for i in range(count)}
    writer, first, number = Writer(b.random), ROWS["outbox"] + 1, 0
    with Server("mail", b.disk.at(FOLDER)) as server:
        while (share := tables.share(lost)) < percent / 100:
            # The nearer, the less at a time.
            scale = max(0.05, min(1, 4 * (percent / 100 - share)))
            for size in b.random.choices([4000, 30_000, 200_000, 2 * MB, 6 * MB], [6, 6, 4, 2, 1], k=max(1, int(12 * scale))):
                make = b.random.choice([b.rec.data, b.rec.text])
                b.rec.write(b"/mysql/new%d" % number, make(b.random.randrange(size // 2, size)))
                number += 1
            count = max(500, int(10_000 * scale))
            server.load("outbox", writer.rows("outbox", first, count))
            first += count
            b.sync()
        server.ask("FLUSH TABLES")
    tables.finish(stand=False)
    gone = 100 * (1 - life_of("messages.MYD")["stands"] / life_of("messages.MYD")["hashes"][1])
    b.claim(percent - 1 <= gone <= percent + 3, f"{gone:.1f}% of messages.MYD are overwritten by later files and a table that grew on")


for percent, seed in ((7, 47), (15, 48), (40, 49)):
    case(f"myisam-taken{percent}", f"tables deleted, then {percent}% of the largest one's blocks overwritten by later files and rows", seed)(
        lambda b, percent=percent: overwritten(b, percent))


def destroy(b, path):
    """Overwrites all indirect blocks of a lost file."""
    life, = b.lost(path=path)
    with open(b.path, "r+b") as image:
        for _, _, block in life["indirect"]:
            image.seek(block * b.block_size)
            image.write(b.rec.text(b.block_size))
    return len(life["indirect"])


def without_pointers(b, *suffixes):
    tables = Tables(b)
    tables.lose("delete", "outbox.MYD", "outbox.MYI")
    wrap(b, tables.small)
    b.disk.unmount()
    for suffix in suffixes:
        count = destroy(b, os.fsdecode(FOLDER) + "/outbox" + suffix)
        b.claim(True, f"outbox{suffix}: all {count} indirect blocks are overwritten")
    b.disk.mount()
    tables.finish()


@case("myisam-unled", "a table of 120 MB deleted, every indirect block of its .MYD destroyed; then the journal wraps", 50)
def unled(b):
    without_pointers(b, ".MYD")


@case("myisam-unled2", "the same, with the indirect blocks of its .MYI destroyed as well", 51)
def unled2(b):
    without_pointers(b, ".MYD", ".MYI")
