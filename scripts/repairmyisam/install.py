"""The repaired table into the datadir of a stopped or running server."""

import os
import signal

from . import server, system
from .server import Client, decoded, quoted
from .sources import PARTITION
from .system import Failure, Refusal

EXTENSIONS = (".MYD", ".MYI", ".par", ".frm", ".sdi")


class Datadir:
    """Where tables go."""

    def __init__(self, path, options):
        self.path = path
        if not os.path.isdir(path):
            raise Refusal(f"{path}: no folder; give the datadir of the server, or an empty folder to begin one in")
        self.client = None
        running = server.running(path)
        if running:
            pid, socket = running
            if not socket:
                raise Refusal(f"{path}: process {pid} serves it and has no socket to ask it through: stop it first")
            self.client = Client([*options, f"--socket={socket}"])
            try:
                self.client.ask("SELECT 1")
            except Failure as error:
                raise Refusal(f"{path}: process {pid} serves it and does not let us in ({error}): stop it, or give --defaults-file with "
                              "a user that may lock and flush tables") from None

    def home(self, table):
        return os.path.join(self.path, table.database)

    def check(self, table, force):
        """Refuses a table that is there already. A definition alone, or files without content, are none."""
        home = self.home(table)
        rows = [part.stem + ext for part in table.parts for ext in (".MYD", ".MYI")]
        there = [name for name in rows if os.path.exists(os.path.join(home, name)) and os.path.getsize(os.path.join(home, name))]
        if there and not force:
            raise Refusal(f"{home}/{there[0]} is there already: move it away, or insist with --force, which replaces the table")

    def install(self, table, folder):
        """Moves the files of a table in, those of the same name are replaced."""
        home = self.home(table)
        owner = os.stat(self.path)
        owner = owner.st_uid, owner.st_gid
        if not os.path.isdir(home):
            os.mkdir(home)
            system.give(home, owner, 0o700)
        if table.sdi and os.path.exists(os.path.join(folder, table.name + ".frm")):
            # Made for the private server.
            os.unlink(os.path.join(folder, table.name + ".frm"))
        for name in os.listdir(folder):
            system.give(os.path.join(folder, name), owner, 0o660)
        definition = os.path.basename(table.sdi) if table.sdi else table.name + ".frm"
        known = self.client and os.path.exists(os.path.join(home, definition))
        move = lambda: self.move(table, folder, home)
        if not self.client:
            move()
            return
        name = f"{quoted(decoded(table.database))}.{quoted(decoded(table.name))}"
        if known and self.opens(name):
            # Nobody writes to the old files, or reads the one file of the old and the other of the new.
            self.client.held(f"FLUSH TABLES {name} WITH READ LOCK", move)
        else:
            move()
        self.client.ask(f"FLUSH TABLES {name}")
        try:
            self.client.ask(f"SELECT 1 FROM {name} LIMIT 1")
        except Failure as error:
            unknown = "; where MySQL's dictionary does not know it any more, `IMPORT TABLE FROM` its .sdi" if table.sdi else ""
            raise Failure(f"{table} is in {home}, but the server does not open it: {error}; `CHECK TABLE {name}` says more{unknown}") from None

    def opens(self, name):
        """Whether the server can open what is there: files of which one is missing cannot be locked."""
        try:
            self.client.ask(f"SELECT 1 FROM {name} LIMIT 1")
            return True
        except Failure:
            return False

    @staticmethod
    def move(table, folder, home):
        # The definition comes last: where there is none, there is no table.
        names = sorted((name for name in os.listdir(folder) if name.endswith(EXTENSIONS)), key=lambda name: EXTENSIONS.index(name[-4:]))
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
        # Partitions that the table has no more.
        stems = {name[:-4] for name in names}
        stale = [name for name in os.listdir(home) if name.startswith(table.name + PARTITION) and name[:-4] not in stems]
        # All of it or nothing, however hard the user presses Ctrl-C.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        for name in names:
            os.replace(os.path.join(folder, name), os.path.join(home, name))
        for name in stale:
            os.unlink(os.path.join(home, name))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)
