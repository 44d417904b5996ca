"""What is read from: FUSE servers, mounts, images; and how."""

import contextlib
import os
import subprocess
import time

from makeimage.system import Failure
from .machine import MIB

# KiB; what undelfs sets for its own mount when it may. The yardstick gets the same.
READ_AHEAD = 512


def wait_for(ready, what, seconds=60):
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            raise Failure(f"{what} is not there after {seconds} s")
        time.sleep(0.001)


def is_mounted(folder):
    with open("/proc/self/mounts", "rb") as mounts:
        return any(line.split()[1] == os.fsencode(folder) for line in mounts)


class Server:
    """A FUSE server in the foreground, on a folder of its own. `None` among the words of the command stands for that folder."""

    def __init__(self, folder, name, file, *command, read_ahead=None):
        self.point = os.path.join(folder, name.replace(" ", "-"))
        os.mkdir(self.point)
        words = [self.point if word is None else word for word in command]
        self.log = open(self.point + ".log", "w+b")
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.path = os.path.join(self.point, file)
            wait_for(lambda: is_mounted(self.point) or self.process.poll() is not None, name)
            if self.process.poll() is not None:
                self.log.seek(0)
                raise Failure(f"{name} has ended: {self.log.read().decode(errors='replace').strip()}")
            # The first answer comes after the server has begun to serve.
            device = os.stat(self.path).st_dev
            if read_ahead:
                with open(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb", "w") as file:
                    file.write(str(read_ahead))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self):
        return self.process.pid

    def close(self):
        for lazily in ([], ["-l"]):
            if is_mounted(self.point):
                subprocess.run(["umount", *lazily, self.point], stderr=subprocess.DEVNULL)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        for remove, path in ((os.unlink, self.point + ".log"), (os.rmdir, self.point)):
            with contextlib.suppress(OSError):
                remove(path)


class File:
    """Reads of the first `size` bytes of an open file, with nothing of it in the cache before."""

    def __init__(self, path, size, reader):
        self.path, self.size, self.reader = path, size, reader
        self.fd = os.open(path, os.O_RDONLY)
        self.buffer = bytearray(MIB)

    def forget(self):
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sequential(self):
        """Reads it all, 1 MiB at a time; returns bytes a second."""
        self.forget()
        fd, into, at = self.fd, [self.buffer], 0
        began = time.perf_counter()
        while at < self.size and (got := os.preadv(fd, into, at)):
            at += got
        took = time.perf_counter() - began
        if at < self.size:
            raise Failure(f"read {at} bytes of {self.size}")
        return at / took

    def random(self, count, threads, seed):
        """Reads 4 KiB at random places, so many at a time; returns seconds for one, as the clock on the wall counts."""
        words = [self.reader, self.path, self.size, count, threads, seed]
        done = subprocess.run(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise Failure(f"reading {self.path}: {done.stderr.strip()}")
        return int(done.stdout) / 1e9 / count

    def close(self):
        os.close(self.fd)


class RawImage(File):
    """The bytes of a lost file, read where they stand on the image; in memory there is no cache to empty."""

    def __init__(self, lost, reader, in_memory):
        super().__init__(lost.after, lost.size, reader)
        self.in_memory = in_memory
        self.pieces, at = [], 0
        view = memoryview(self.buffer)
        while at < self.size:
            place, there = lost.place(at)
            size = min(MIB, there, self.size - at)
            self.pieces.append(([view[:size]], place))
            at += size

    def forget(self):
        if not self.in_memory:
            super().forget()

    def sequential(self):
        self.forget()
        began = time.perf_counter()
        for into, place in self.pieces:
            os.preadv(self.fd, into, place)
        return self.size / (time.perf_counter() - began)
