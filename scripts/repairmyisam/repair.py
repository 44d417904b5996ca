"""One table: from its lost files to sound ones in a work folder."""

import os
import shutil
import subprocess

from . import damage, index, substitute, system
from .index import Header
from .server import decoded, quoted
from .sources import PARTITION
from .system import Failure, Refusal

# A share of the memory that is free, and no more than this: keys of some 300 million rows are then sorted in one go.
MAX_SORT_BUFFER = 8 << 30
MIN_SORT_BUFFER = 16 << 20
COPY_CHUNK = 4 << 20


def size(number):
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 10240:
            return f"{number:,} {unit}"
        number //= 1024
    return f"{number:,} TiB"


class Repair:
    """Brings one table back. `private` gives a running private server when first asked."""

    def __init__(self, table, work, private, args, say):
        self.table = table
        self.work = work
        self.private = private
        self.args = args
        self.say = say
        # Beside the private server's data, so that it can be asked about the result.
        self.folder = os.path.join(work, "data", table.database)

    def file(self, stem, ext):
        return os.path.join(self.folder, stem + ext)

    def run(self):
        """Makes the files of the table in the work folder. The rows that came back."""
        os.makedirs(self.folder, exist_ok=True)
        headers = self.headers()
        return sum(self.repair(part, header) for part, header in zip(self.table.parts, headers))

    def headers(self):
        """The definition of each part for MyISAM, from what is left of its .MYI, or made anew. Leaves .frm (and .par) in the folder."""
        old = [self.old_header(part) for part in self.table.parts]
        known = next((header for header in old if header), None)
        if self.args.create:
            known = self.created() if not all(old) or not self.table.frm else known
        if self.table.sdi:
            self.copy_dictionary(all(old))
        if self.table.frm and not os.path.exists(self.file(self.table.name, ".frm")):
            self.copy_definition()
        elif not (self.table.frm or self.table.sdi or self.args.create):
            raise Refusal(f"{self.table}: its definition ({self.table.name}.frm) is neither lost nor in the datadir: give --frm FILE, "
                          "or --create FILE.sql with its CREATE TABLE")
        if not known:
            known = self.from_frm()
        return [self.fitting(part, header or Header(bytes(known.bytes))) for part, header in zip(self.table.parts, old)]

    def copy_dictionary(self, whole):
        """MySQL's definition of the table, from which no .MYI can be made. `whole` says that none has to."""
        name = os.path.basename(self.table.sdi)
        if not whole and not self.args.create:
            raise Refusal(f"{self.table}: a .MYI cannot be made from {name}: give --create FILE.sql with the CREATE TABLE")
        shutil.copyfile(self.table.sdi, self.file(name, ""))

    def copy_definition(self):
        for ext, source in ((".frm", self.table.frm), (".par", self.table.par)):
            if source:
                shutil.copyfile(source, self.file(self.table.name, ext))
                os.chmod(self.file(self.table.name, ext), 0o660)

    def old_header(self, part):
        if not part.myi:
            self.say(f"{part.stem}.MYI is gone or empty: making its head anew")
            return None
        try:
            header = Header.read(part.myi)
        except (ValueError, OSError) as error:
            self.say(f"{part.stem}.MYI cannot be used ({error}): making its head anew")
            return None
        if header.packed and not self.is_packed(part):
            if not self.begins(part):
                raise Failure(f"{part.myd}: its first block is missing, and with it what its compressed rows are unpacked by: if a copy "
                              "of its first bytes is anywhere, give the whole by --myd")
            self.say(f"{part.stem}.MYI speaks of a compressed table, which the rows are not: making its head anew")
            return None
        return header

    def is_packed(self, part):
        try:
            with open(part.myd, "rb") as rows:
                return rows.read(3) == index.PACKED_MAGIC
        except OSError as error:
            raise Failure(f"{part.myd} cannot be read ({error.strerror}): mount without --missing error, or give a copy by --myd") from None

    @staticmethod
    def begins(part):
        """Whether the first bytes are there."""
        with open(part.myd, "rb") as rows:
            return any(rows.read(index.PACKED_HEAD))

    def fitting(self, part, header):
        if self.is_packed(part) and not header.packed:
            header.mark_packed()
        return header

    def created(self):
        """The header of the table that the given SQL makes."""
        private = self.private()
        with open(self.args.create, "rb") as sql:
            statements = sql.read()
        database = quoted(decoded(self.table.database))
        before = f"CREATE DATABASE IF NOT EXISTS {database}; USE {database};\n".encode()
        status, words = self.execute(private, before + statements)
        if status:
            raise Refusal(f"{self.args.create}: {words.splitlines()[-1]}")
        private.client.ask("FLUSH TABLES")
        return self.take_header(f"{self.args.create} makes no MyISAM table {self.table.name} in {self.table.database}: correct its name "
                                "or engine")

    def execute(self, private, sql):
        path = os.path.join(self.work, "create.sql")
        with open(path, "wb") as file:
            file.write(sql)
        with open(path, "rb") as file:
            return system.run(*private.client.command, stdin=file)

    def from_frm(self):
        """The header that the server makes from the .frm."""
        if len(self.table.parts) > 1:
            raise Refusal(f"{self.table}: no .MYI of its partitions is left: give --create FILE.sql with its CREATE TABLE")
        private = self.private()
        name, sql = self.table.name, f"{quoted(decoded(self.table.database))}.{quoted(decoded(self.table.name))}"
        open(self.file(name, ".MYD"), "wb").close()
        words = private.client.ask(f"REPAIR TABLE {sql} USE_FRM")
        private.client.ask("FLUSH TABLES")
        why = words[-1].split("\t")[-1] if words else "no answer"
        return self.take_header(f"the server makes nothing of {self.table.frm} ({why}): give --create FILE.sql with the table's "
                                "CREATE TABLE")

    def take_header(self, otherwise):
        """The header of the .MYI that the private server made; its files other than the definition go."""
        made = sorted(file for file in os.listdir(self.folder)
                      if file.endswith(".MYI") and file[:-4].split(PARTITION)[0] == self.table.name)
        try:
            header = Header.read(os.path.join(self.folder, made[0]))
        except (IndexError, ValueError, OSError):
            raise Refusal(otherwise) from None
        for file in os.listdir(self.folder):
            if file.endswith((".MYI", ".MYD")):
                os.unlink(os.path.join(self.folder, file))
        return header

    def repair(self, part, header):
        """myisamchk over the lost rows. How many came back."""
        myd, myi = self.file(part.stem, ".MYD"), self.file(part.stem, ".MYI")
        descriptor = os.open(part.myd, os.O_RDONLY)
        try:
            length = os.fstat(descriptor).st_size
            missing = damage.missing(descriptor, length)
            self.check_mount(part, missing)
            patches = damage.patches(descriptor, length, header, missing)
        except ValueError as error:
            raise Failure(f"{part.myd}: {error}: give the right --frm, or the table's old .MYI by --myi") from None
        finally:
            os.close(descriptor)
        there = length - sum(end - start for start, end in missing)
        room = os.statvfs(self.work)
        # The rows, and keys for some of them; more cannot be known before.
        needed = there * (2 if self.args.copy else 1)
        if needed > room.f_bavail * room.f_frsize:
            raise Refusal(f"{self.work}: {size(needed)} are needed there, {size(room.f_bavail * room.f_frsize)} are free: make room, "
                          "or give --work with a folder on a larger filesystem")
        lost = f", of which {size(length - there)} in {len(missing)} ranges are missing" if missing else ""
        self.say(f"{self.table.database}/{part.stem}: {size(length)} of rows{lost}")
        if missing and header.packed:
            self.say(f"{part.stem}: a compressed row begins with nothing but its length, so beside each missing range a row may be left out "
                     "without need")
        status = None
        for how in ("-r", "-o"):
            with open(myi, "wb") as file:
                file.write(header.bytes)
            with open(myd, "wb") as file:
                file.truncate(length)
            buffer = max(MIN_SORT_BUFFER, min(system.available_memory() // 2, MAX_SORT_BUFFER))
            command = [system.find("myisamchk"), how, f"--sort_buffer_size={buffer}", f"--tmpdir={self.work}", "--read_buffer_size=4M",
                       "--write_buffer_size=4M", self.file(part.stem, "")]
            status = self.myisamchk(command, part, myd, patches, missing)
            if status == 0:
                break
            self.say(f"myisamchk {how} gave up (exit status {status})" + (": trying its older way, -o" if how == "-r" else ""))
        if status:
            raise Failure(f"{self.table}: myisamchk could not repair it; what it said stands above. If it was a key, give --create FILE.sql"
                          " with a CREATE TABLE without that key")
        found = Header.read(myi)
        if not found.records and there:
            raise Failure(f"{self.table}: no row is in it, so its definition is another's: give the right --frm, or --create FILE.sql")
        if found.data_length < there // 2:
            self.say(f"{self.table}: only {size(found.data_length)} of {size(there)} are rows, the rest was deleted or damaged before, or "
                     "the definition is another's: look at them before you use them")
        return found.records

    @staticmethod
    def check_mount(part, missing):
        """With --missing error, missing ranges are no holes but errors, at the first of which myisamchk stops."""
        try:
            state = os.getxattr(part.myd, "user.undelfs.state")
        except OSError:
            return
        if state == b"empty":
            raise Failure(f"{part.myd}: nothing of its content is there; `undelfs show` says why")
        if state == b"partial" and not missing:
            raise Refusal(f"{part.myd}: mount it without --missing error: myisamchk stops at the first error")

    def myisamchk(self, command, part, myd, patches, missing):
        if not self.args.copy:
            try:
                return substitute.run(command, part.myd, myd, patches)
            except substitute.Unavailable as error:
                self.say(f"this kernel gives no way to repair the file where it is ({error}): copying it first, which takes twice the room")
        with open(part.myd, "rb") as lost, open(myd, "r+b") as copy:
            at = 0
            for start, end in missing + [(os.fstat(lost.fileno()).st_size, None)]:
                lost.seek(at)
                copy.seek(at)
                while at < start:
                    data = lost.read(min(COPY_CHUNK, start - at))
                    if not data:
                        raise Failure(f"{part.myd} ends before its size; is it still mounted?")
                    copy.write(data)
                    at += len(data)
                at = end
            for offset, data in patches:
                copy.seek(offset)
                copy.write(data)
        return subprocess.run(command, stdin=subprocess.DEVNULL, preexec_fn=system.tied_to_parent).returncode
