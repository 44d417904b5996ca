"""The machine: what it lacks and gets, what it is, what it has room for; and the programs that are built for it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

from makeimage.system import Failure, Refusal

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GIB = 1 << 30
MIB = 1 << 20
MB = 1000 * 1000
# Command, the Debian package that has it.
TOOLS = {
    "mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "fuse2fs": "fuse2fs", "extundelete": "extundelete", "ext4magic": "ext4magic",
    "photorec": "testdisk", "fusermount3": "fuse3",
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def install():
    """Installs what is missing; a Refusal where that cannot be done."""
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    packages = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if packages and shutil.which("apt-get"):
        say(f"installing {', '.join(packages)}")
        quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *packages], **quiet).returncode:
            subprocess.run(["apt-get", "update"], **quiet)
            subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *packages], **quiet)
    missing = [tool for tool in (*TOOLS, "cargo") if not shutil.which(tool)]
    if missing:
        raise Refusal(f"missing: {', '.join(missing)}")
    if not os.path.exists("/dev/fuse"):
        raise Refusal("there is no /dev/fuse here")


def build(profile):
    """Builds what is measured and what measures it, and returns the paths of undelfs, the bare server and the reader."""
    say(f"building ({profile})")
    command = ["cargo", "build", "--profile", profile, "--bin", "undelfs", "--example", "bare_server", "--example", "reader",
               "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise Failure("the build has failed")
    messages = map(json.loads, done.stdout.splitlines())
    made = {message["target"]["name"]: message["executable"] for message in messages if message.get("executable")}
    return made["undelfs"], made["bare_server"], made["reader"]


def field(path, name):
    """What stands behind `name` and a colon in a file of /proc."""
    with contextlib.suppress(OSError), open(path) as lines:
        for line in lines:
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    return "unknown"


def memory(name):
    """Bytes of a field of /proc/meminfo."""
    return int(field("/proc/meminfo", name).split()[0]) * 1024


def describe():
    """What figures have to be read with."""
    def version(*command):
        with contextlib.suppress(OSError):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            return next((line.strip() for line in done.stdout.splitlines() if line.strip()), "unknown")
        return "unknown"

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return {
        "cpu": field("/proc/cpuinfo", "model name"), "cores": os.cpu_count(), "memory": memory("MemTotal"), "kernel": os.uname().release,
        "load_before": os.getloadavg()[0], "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": commit.stdout.strip(),
        "versions": [version("extundelete", "--version"), version("ext4magic", "-V"), version("photorec", "-v").split(",")[0],
                     version("debugfs", "-V")],
    }


def is_in_memory(folder):
    return os.statvfs(folder).f_bsize and subprocess.run(
        ["stat", "-f", "-c", "%T", folder], stdout=subprocess.PIPE, text=True).stdout.strip() == "tmpfs"


def need_room(folder, size, what):
    """Refuses what would not fit; in memory, room is memory that can be had too."""
    stat = os.statvfs(folder)
    free = stat.f_bavail * stat.f_frsize
    if is_in_memory(folder):
        free = min(free, memory("MemAvailable"))
    if free < size:
        raise Refusal(f"{what} needs {size / GIB:.0f} GiB in {folder}, where {free / GIB:.1f} GiB can be had")


def drop_caches():
    """Nothing that stands on a disk is in memory after this."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as control:
        control.write("3\n")
