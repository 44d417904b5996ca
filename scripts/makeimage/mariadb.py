"""A MariaDB server whose database lies on an image, and what its MyISAM tables hold.

Facts of the formats: MariaDB storage/myisam/mi_dynrec.c (_mi_get_block_info), mi_statrec.c, mi_packrec.c (_mi_pack_get_block_info).
"""

import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from array import array

from .system import Failure, Refusal, libc

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1

# For each type of a dynamic row block: bytes of the head, where the length of its part stands and in how many bytes, where the length
# of its slack stands, and where the file offset of the next part.
BLOCKS = {
    1: (3, 1, 2, None, None), 2: (4, 1, 3, None, None), 3: (4, 1, 2, 3, None), 4: (5, 1, 3, 4, None),
    5: (13, 3, 2, None, 5), 6: (15, 4, 3, None, 7), 7: (3, 1, 2, None, None), 8: (4, 1, 3, None, None), 9: (4, 1, 2, 3, None),
    10: (5, 1, 3, 4, None), 11: (11, 1, 2, None, 3), 12: (12, 1, 3, None, 4), 13: (16, 5, 3, None, 8),
}
FIRST = {1, 2, 3, 4, 5, 6, 13}


class Server:
    """Without network and grants; `folder` of the image is its database `name`. Ends with the `with` block, or with this process."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder

    def __enter__(self):
        if not shutil.which("mariadbd"):
            raise Refusal("missing: mariadbd (Debian: apt-get install mariadb-server)")
        self.home = tempfile.mkdtemp(prefix="make-image-server-", dir="/tmp")
        data = os.path.join(self.home, "data")
        os.mkdir(data)
        # What else a server writes (logs, temporary files) stays off the image.
        os.symlink(self.folder, os.path.join(data, self.name))
        log = os.path.join(self.home, "log")
        self.process = subprocess.Popen(
            ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={self.home}/sock", f"--pid-file={self.home}/pid", "--user=root",
             f"--log-error={log}", "--skip-networking", "--skip-grant-tables", "--skip-log-bin", "--innodb=OFF", f"--tmpdir={self.home}",
             "--default-storage-engine=MyISAM", "--key-buffer-size=128M", "--character-set-server=utf8mb4"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        end = time.monotonic() + 60
        while self.client("SELECT 1").returncode:
            if time.monotonic() > end or self.process.poll() is not None:
                with open(log, errors="replace") as lines:
                    words = lines.read()[-2000:]
                self.__exit__()
                raise Failure(f"mariadbd did not start: {words}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def client(self, sql):
        return subprocess.run(["mariadb", "--no-defaults", f"--socket={self.home}/sock", "-N", "-B", "--quick"], input=sql,
                              capture_output=True, text=True, errors="replace")

    def ask(self, sql):
        """The rows of an answer, tab-separated."""
        done = self.client(f"USE {self.name}; {sql}" if os.path.isdir(self.folder) and self.name else sql)
        if done.returncode:
            raise Failure(f"{sql[:200]}: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def load(self, table, lines):
        """Appends rows, given as lines of tab-separated fields."""
        path = os.path.join(self.home, "rows")
        with open(path, "w") as out:
            out.write("\n".join(lines) + "\n")
        self.ask(f"LOAD DATA INFILE '{path}' INTO TABLE {table}")
        os.unlink(path)


def dynamic_rows(data):
    """Parts [(offset, length)…] of each row of a dynamic .MYD, in the order of their first parts."""
    blocks, firsts, at = {}, [], 0
    while at < len(data):
        kind = data[at]
        if kind == 0:
            at += int.from_bytes(data[at + 1:at + 4], "big")
            continue
        head, where, width, slack, link = BLOCKS[kind]
        length = head + int.from_bytes(data[at + where:at + where + width], "big") + (data[at + slack] if slack else 0)
        blocks[at] = length, link and int.from_bytes(data[at + link:at + link + 8], "big")
        if kind in FIRST:
            firsts.append(at)
        at += length
    if at != len(data):
        raise Failure("the row blocks do not end with the file")
    for first in firsts:
        parts, at = [], first
        while at is not None:
            length, following = blocks[at]
            parts.append((at, length))
            at = following
        yield parts


def fixed_rows(data, header):
    """The same of a fixed-format .MYD; a deleted row begins with a zero."""
    records, deleted = struct.unpack_from(">QQ", header, 28)
    length = len(data) // (records + deleted)
    return [[(at, length)] for at in range(0, length * (records + deleted), length) if data[at]]


def packed_rows(data, header, blobs):
    """The same of a compressed .MYD."""
    records, = struct.unpack_from(">Q", header, 28)
    at, = struct.unpack_from("<I", data, 4)

    def number(at):
        if data[at] < 254:
            return data[at], at + 1
        width = 2 if data[at] == 254 else 4
        return int.from_bytes(data[at + 1:at + 1 + width], "little"), at + 1 + width

    for _ in range(records):
        length, end = number(at)
        if blobs:
            _, end = number(end)
        yield [(at, end + length - at)]
        at = end + length
    if not len(data) - 8 <= at <= len(data):
        raise Failure("the packed rows do not end with the file")


def little_endian(numbers):
    """The numbers' bytes as they stand in the files beside an image."""
    if array("I", [1]).tobytes() != b"\x01\0\0\0":
        numbers.byteswap()
    return numbers.tobytes()
