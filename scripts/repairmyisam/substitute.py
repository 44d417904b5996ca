"""Runs myisamchk on a lost file where it is, without a copy of it.

myisamchk opens both files of a table for reading and writing, which a read-only mount refuses with EROFS. It is given an empty
file of the same name and size instead; where it opens that, the kernel asks this process (seccomp user notification, Linux 5.9),
which hands it the lost file, opened for reading only. What it repairs it writes to a new file beside the empty one, which that
then replaces; nothing could be written to the lost file, as the kernel knows.

The same way stands between rows that are known to be damaged and the program: its reads of the places in `patches` give what
stands there instead of the file's bytes.

An overlayfs is no other way: opening a file of its lower layer for writing copies all of it up.
"""

import bisect
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct

from .system import libc, tied_to_parent

# <linux/seccomp.h>
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1
SECCOMP_ADDFD_FLAG_SETFD = 1
NOTIF = struct.Struct("=QIIiIQ6Q")
RESPONSE = struct.Struct("=QqiI")
ADDFD = struct.Struct("=QIIII")
NOTIF_RECV = 0xC0502100
NOTIF_SEND = 0xC0182101
NOTIF_ADDFD = 0x40182103

# <linux/prctl.h>
PR_SET_NO_NEW_PRIVS = 38

# <linux/audit.h>; numbers of seccomp, openat, read and pread64.
SYSCALLS = {"x86_64": (0xC000003E, 317, 257, 0, 17), "aarch64": (0xC00000B7, 277, 56, 63, 67), "riscv64": (0xC00000F3, 277, 56, 63, 67)}

# The lost file's descriptor in myisamchk: far above those that it gets itself, below any limit of open files.
LOST_FD = 200

# <linux/bpf_common.h>: load a word, jump if equal, and, return.
LD, JEQ, AND, RET = 0x20, 0x15, 0x54, 0x06


class Unavailable(Exception):
    """This kernel or container cannot do it."""


class Filter(ctypes.Structure):
    """struct sock_filter"""
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class Program(ctypes.Structure):
    """struct sock_fprog"""
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(Filter))]


def program(watch_reads):
    """Asks about openat for reading and writing, and with `watch_reads` about reads of the lost file; allows all else."""
    arch, _, openat, read, pread = SYSCALLS[platform.machine()]
    # Offsets in struct seccomp_data: nr 0, arch 4, args from 16 on, of which the low halves count.
    code = [(LD, 0, 0, 4), (JEQ, 0, "allow", arch), (LD, 0, 0, 0), (JEQ, "open", 0, openat)]
    if watch_reads:
        code += [(JEQ, 1, 0, read), (JEQ, 0, "allow", pread), (LD, 0, 0, 16), (JEQ, "ask", "allow", LOST_FD)]
    else:
        code += [(JEQ, "allow", "allow", read)]
    labels = {"open": len(code)}
    code += [(LD, 0, 0, 32), (AND, 0, 0, os.O_ACCMODE), (JEQ, "ask", "allow", os.O_RDWR)]
    labels.update(ask=len(code), allow=len(code) + 1)
    code += [(RET, 0, 0, SECCOMP_RET_USER_NOTIF), (RET, 0, 0, SECCOMP_RET_ALLOW)]
    jump = lambda at, to: labels[to] - at - 1 if isinstance(to, str) else to
    return [Filter(op, jump(at, yes), jump(at, no), k) for at, (op, yes, no, k) in enumerate(code)]


def listen(watch_reads):
    """Puts this process under the filter; the descriptor on which its questions come."""
    filters = program(watch_reads)
    array = (Filter * len(filters))(*filters)
    fprog = Program(len(filters), array)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = libc.syscall(SYSCALLS[platform.machine()][1], SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, ctypes.byref(fprog))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


class Patches:
    """Bytes that stand in for those of the file: [(offset, bytes)], sorted, none overlapping."""

    def __init__(self, patches):
        self.patches = patches
        self.starts = [offset for offset, _ in patches]

    def __bool__(self):
        return bool(self.patches)

    def within(self, offset, end):
        """Those that touch a range."""
        first = bisect.bisect_right(self.starts, offset) - 1
        if first < 0 or self.starts[first] + len(self.patches[first][1]) <= offset:
            first += 1
        return self.patches[first:bisect.bisect_left(self.starts, end)]

    def apply(self, data, offset):
        """Puts them into the bytes that were read at `offset`."""
        for start, new in self.within(offset, offset + len(data)):
            low, high = max(start, offset), min(start + len(new), offset + len(data))
            data[low - offset:high - offset] = new[low - start:high - start]


class Answers:
    """Answers the questions of one program."""

    def __init__(self, listener, lost, placeholder, patches):
        self.listener = listener
        self.lost = lost
        self.placeholder = os.stat(placeholder)
        self.patches = patches
        self.openat, self.read = SYSCALLS[platform.machine()][2:4]

    def next(self):
        """Answers the question that is there."""
        raw = bytearray(NOTIF.size)
        try:
            fcntl.ioctl(self.listener, NOTIF_RECV, raw)
        except OSError as error:
            # Whoever asked was killed meanwhile.
            if error.errno in (errno.ENOENT, errno.EINTR):
                return
            raise
        ident, pid, _, number, _, _, *args = NOTIF.unpack(raw)
        try:
            value = self.open(ident, pid, args) if number == self.openat else self.patched(pid, args, number == self.read)
            answer = (0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE) if value is None else (value, 0, 0)
        except OSError as error:
            answer = (0, -(error.errno or errno.EIO), 0)
        try:
            fcntl.ioctl(self.listener, NOTIF_SEND, RESPONSE.pack(ident, *answer))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def open(self, ident, pid, args):
        """The lost file's descriptor where the empty file is opened, else None."""
        folder = ctypes.c_int(args[0] & 0xFFFFFFFF).value
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            # A path may end just before memory that cannot be read.
            memory.seek(args[1])
            path = memory.read(4096 - args[1] % 4096)
            if b"\0" not in path:
                path += memory.read(4096)
        path = os.path.join(f"/proc/{pid}/{'cwd' if folder < 0 else f'fd/{folder}'}".encode(), path.split(b"\0")[0])
        try:
            found = os.stat(path)
        except OSError:
            return None
        if not os.path.samestat(found, self.placeholder):
            return None
        request = ADDFD.pack(ident, SECCOMP_ADDFD_FLAG_SETFD, self.lost, LOST_FD, os.O_CLOEXEC)
        fcntl.ioctl(self.listener, NOTIF_ADDFD, request)
        return LOST_FD

    def patched(self, pid, args, sequential):
        """Reads as the program would, with the patches in their places. None where there are none in what it wants."""
        # The descriptor here and the program's share their position.
        offset = os.lseek(self.lost, 0, os.SEEK_CUR) if sequential else args[3]
        length = args[2]
        if not self.patches.within(offset, offset + length):
            return None
        data = bytearray(length)
        done = os.preadv(self.lost, [data], offset)
        data = data[:done]
        self.patches.apply(data, offset)
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(args[1])
            view = memoryview(data)
            while view:
                view = view[memory.write(view):]
        if sequential:
            os.lseek(self.lost, offset + done, os.SEEK_SET)
        return done


def start(command, watch_reads):
    """Starts a program under the filter: its process id and the listener."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            tied_to_parent()
            listener = listen(watch_reads)
            socket.send_fds(theirs, [b"0"], [listener])
            os.close(listener)
            os.execv(command[0], command)
        except OSError as error:
            theirs.send(str(error).encode() or b"?")
        finally:
            os._exit(127)
    theirs.close()
    with ours:
        word, descriptors, _, _ = socket.recv_fds(ours, 4096, 1)
    if not descriptors:
        os.waitpid(pid, 0)
        raise Unavailable(word.decode(errors="replace"))
    return pid, descriptors[0]


def run(command, lost, placeholder, patches):
    """Runs `command` with the file `lost` in the place of `placeholder`. Its exit status.

    Raises Unavailable where the kernel has no such thing; then nothing was run.
    """
    if platform.machine() not in SYSCALLS:
        raise Unavailable(f"not known for {platform.machine()}")
    patches = Patches(patches)
    descriptor = os.open(lost, os.O_RDONLY)
    listener = pid = None
    try:
        pid, listener = start(command, bool(patches))
        answers = Answers(listener, descriptor, placeholder, patches)
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while True:
            # The end of the program is not an event of the listener before Linux 5.11.
            for _, events in poll.poll(200):
                if events & select.POLLIN:
                    answers.next()
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                pid = None
                return os.waitstatus_to_exitcode(status)
    finally:
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if listener is not None:
            os.close(listener)
        os.close(descriptor)
