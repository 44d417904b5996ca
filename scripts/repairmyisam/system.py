"""What the rest shares: errors that say what to do, and programs that never outlive this one."""

import ctypes
import os
import shutil
import signal
import subprocess

libc = ctypes.CDLL(None, use_errno=True)

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1


class Refusal(Exception):
    """Wrong usage, or something is missing on this machine: one line that says what to do, exit status 2."""


class Failure(Exception):
    """It ran, but the table could not be brought back: one line that says what to do, exit status 1."""


def find(*names):
    """The path of the first of these programs that is installed."""
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise Refusal(f"{names[0]} is missing: install a MariaDB or MySQL server (Debian: apt-get install mariadb-server)")


def tied_to_parent():
    """For a child, before it becomes another program: it ends with its parent, whatever ends that."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def run(*args, **kwargs):
    """Runs a program without output of its own: its exit status, and what it printed."""
    done = subprocess.run(list(args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", preexec_fn=tied_to_parent,
                          **{"stdin": subprocess.DEVNULL, **kwargs})
    return done.returncode, done.stdout.strip()


def available_memory():
    """Bytes that programs can still have without swapping."""
    with open("/proc/meminfo") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return int(fields.get("MemAvailable", fields["MemFree"]).split()[0]) * 1024


def give(path, owner, mode):
    """Sets owner (uid, gid) and mode."""
    if os.geteuid() == 0:
        os.chown(path, *owner)
    os.chmod(path, mode)
