"""Database servers: a private one for definitions and sums, and the user's own where it runs."""

import os
import pwd
import signal
import subprocess
import time

from . import system
from .system import Failure, Refusal

# As long as a loaded machine may take to start a server with an empty folder.
START_SECONDS = 60


def quoted(name):
    return "`" + name.replace("`", "``") + "`"


def decoded(name):
    """A table's or database's name from that of its file: characters other than letters and digits stand there as @ and four hex digits."""
    parts = name.split("@")
    try:
        return parts[0] + "".join(chr(int(part[:4], 16)) + part[4:] for part in parts[1:])
    except ValueError:
        raise Refusal(f"{name}: a file name in an encoding that is not known here; rename the files to plain letters, and the table afterwards")


class Client:
    """Asks a server, each question in a connection of its own."""

    def __init__(self, arguments):
        self.command = [system.find("mariadb", "mysql"), *arguments, "--batch", "--skip-column-names", "--quick"]

    def ask(self, sql):
        """The rows of an answer, tab-separated. Raises Failure with the server's words."""
        done = subprocess.run(self.command + ["-e", sql], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise Failure(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the server gave no answer")
        return done.stdout.splitlines()

    def rows(self, sql):
        """The rows one by one, of an answer of any length."""
        process = subprocess.Popen(self.command + ["-e", sql], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                   preexec_fn=system.tied_to_parent)
        try:
            yield from (line.rstrip("\n") for line in process.stdout)
        finally:
            process.stdout.close()
            if process.wait() > 0:
                raise Failure("the server broke off its answer; its error log says why")

    def held(self, sql, until):
        """Calls `until` while a connection that began with `sql` stays open."""
        process = subprocess.Popen(self.command + ["--unbuffered", "--skip-reconnect"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, preexec_fn=system.tied_to_parent)
        try:
            process.stdin.write(f"{sql};\nSELECT 'held';\n")
            process.stdin.flush()
            if "held" not in process.stdout.readline():
                raise Failure(f"the server did not lock the table: {process.stderr.read().strip()}")
            until()
        finally:
            process.communicate("")


class Private:
    """A server for a folder of its own, without network and grants. Ends with the `with` block."""

    def __init__(self, folder):
        self.folder = folder
        self.data = os.path.join(folder, "data")
        self.process = None
        self.user = None
        if os.geteuid() == 0:
            try:
                self.user = pwd.getpwnam("mysql")
            except KeyError:
                raise Refusal("there is no user mysql for the server to run as: install the server as a package, or run this as another user")

    def __enter__(self):
        os.makedirs(self.data, exist_ok=True)
        program = system.find("mariadbd", "mysqld")
        # The path of a socket has 107 bytes at most; that of the work folder may be longer.
        self.socket = os.path.join(self.folder, "s")
        if len(self.socket) > 100:
            self.socket = f"/tmp/.repair-myisam.{os.getpid()}.sock"
        version = system.run(program, "--no-defaults", "--version")[1]
        if "MariaDB" not in version:
            raise Refusal("this needs MariaDB's server beside MySQL's for its private work: give the whole .MYI, or put MariaDB's programs first in PATH")
        command = [program, "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}", f"--pid-file={self.folder}/pid",
                   f"--log-error={self.folder}/log", "--skip-networking", "--skip-grant-tables", "--skip-log-bin", "--innodb=OFF",
                   "--default-storage-engine=MyISAM", "--performance-schema=OFF", "--sql-mode=", "--myisam-recover-options=OFF",
                   f"--tmpdir={self.folder}", "--lower-case-table-names=0"]
        if self.user:
            command.append("--user=mysql")
            for path in (self.folder, self.data):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        preexec_fn=system.tied_to_parent, start_new_session=True)
        self.client = Client(["--no-defaults", f"--socket={self.socket}"])
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                self.client.ask("SELECT 1")
                return self
            except Failure:
                time.sleep(0.05)
        self.__exit__()
        raise Failure(f"the private server did not start: {self.last_words()}")

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if os.path.exists(self.socket):
            os.unlink(self.socket)

    def last_words(self):
        try:
            with open(os.path.join(self.folder, "log"), errors="replace") as log:
                lines = [line for line in log.read().splitlines() if "ERROR" in line]
            return lines[-1] if lines else "it said nothing"
        except OSError:
            return "it said nothing"

    def owned(self, path, mode=0o660):
        """Makes a file or folder the server's own."""
        system.give(path, (self.user.pw_uid, self.user.pw_gid) if self.user else (os.geteuid(), os.getegid()), mode)


def running(datadir):
    """The process that serves a datadir, and its socket (None where it has none). None where none does."""
    real = os.path.realpath(datadir)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as comm:
                if comm.read().strip() not in ("mariadbd", "mysqld"):
                    continue
            # A server works in its datadir.
            if os.readlink(f"/proc/{pid}/cwd") != real:
                continue
            descriptors = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        inodes = {name[8:-1] for name in descriptors if name.startswith("socket:[")}
        with open("/proc/net/unix") as lines:
            sockets = [fields[7] for fields in map(str.split, lines) if len(fields) > 7 and fields[6] in inodes and fields[7][0] == "/"]
        return int(pid), (sockets or [None])[0]
    return None
