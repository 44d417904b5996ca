"""Running programs: how long they take, and how much memory that is not pages of a file."""

import contextlib
import hashlib
import subprocess
import tempfile
import threading
import time

from makeimage.system import Failure
from .machine import MIB


class Watch:
    """The largest RssAnon of a process while it works: memory that is not pages of a file or an image."""

    def __init__(self, pid):
        self.pid, self.largest, self.ended = pid, 0, threading.Event()
        self._look()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _look(self):
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    self.largest = max(self.largest, int(line.split()[1]) * 1024)

    def _run(self):
        while not self.ended.wait(0.01):
            self._look()

    def close(self):
        """Ends it and returns bytes."""
        self.ended.set()
        self.thread.join()
        return self.largest


@contextlib.contextmanager
def watching(pid, into, name):
    """Keeps in `into[name]` the most memory of a process meanwhile."""
    watch = Watch(pid)
    try:
        yield
    finally:
        into[name] = max(into.get(name, 0), watch.close())


def timed(*command, cwd=None, ok=(0,)):
    """Runs a command and returns seconds."""
    return run(*command, cwd=cwd, ok=ok)[0]


def run(*command, cwd=None, ok=(0,), most=None):
    """Runs a command; returns seconds and the largest RssAnon, or (None, …) where it took more than `most` seconds and was ended."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        with subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
            watch = Watch(process.pid)
            try:
                process.wait(most)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return None, watch.largest
            finally:
                if process.poll() is None:
                    process.kill()
                took = time.perf_counter() - began
                watch.close()
        if process.returncode not in ok:
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
            raise Failure(f"{' '.join(command)} ended with {process.returncode}: {text[-500:]}")
    return took, watch.largest


def digest(path):
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(4 * MIB):
            whole.update(piece)
    return whole.hexdigest()
