# What the scripts share: sourced, not run. Sets ROOT, and finds or installs what a script needs.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d : -f 6)}
PATH=$PATH:$HOME/.cargo/bin:/usr/local/cargo/bin:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL=C.UTF-8

die() {
    echo "${0##*/}: $*" >&2
    exit 2
}

# Mounting images, loop devices and apt need root.
need_root() {
    [ "$(id -u)" = 0 ] || die "needs root, to mount the images it makes (and to install: $*); try: sudo -E $0"
}

# need PROGRAM=PACKAGE…: installs the packages of programs that are missing.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || [[ " ${missing[*]} " == *" ${pair#*=} "* ]] || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || die "missing: ${missing[*]} (these are Debian's package names; install them and try again)"
    echo "Installing ${missing[*]} …"
    export DEBIAN_FRONTEND=noninteractive
    local log status=0
    log=$(mktemp)
    (
        # A package that brings a service must not start it.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap 'rm -f $policy' EXIT
            printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
        fi
        apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"
    ) >"$log" 2>&1 </dev/null || status=1
    if [ $status != 0 ]; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install ${missing[*]}"
    fi
    rm -f "$log"
    # Nor at the next boot.
    case " ${missing[*]} " in
        *" mariadb-server "*) [ ! -d /run/systemd/system ] || systemctl disable --now -q mariadb 2>/dev/null || true ;;
    esac
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || die "${pair%%=*} is still missing after installing ${pair#*=}"
    done
}

# Whether apt can install a package. `apt-cache show` also knows those that others only speak of.
has_package() {
    apt-cache policy "$1" 2>/dev/null | grep -q '^ *Candidate: [0-9]'
}

need_rust() {
    # gcc only recommends the C library's development files, without which it cannot link; g++ depends on them.
    need c++=g++
    local home
    if ! command -v cargo >/dev/null && [ -n "${SUDO_USER:-}" ]; then
        home=$(getent passwd "$SUDO_USER" | cut -d : -f 6)
        if [ -x "$home/.cargo/bin/cargo" ]; then
            PATH=$PATH:$home/.cargo/bin
            export RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup}
        fi
    fi
    if ! command -v cargo >/dev/null; then
        command -v rustup >/dev/null || has_package rustup || (apt-get update -q >/dev/null 2>&1 && has_package rustup) ||
            die "Rust 1.90 or newer is missing, and this system has no package 'rustup': install it from rust-lang.org"
        need rustup=rustup
        echo "Installing Rust …"
        rustup default stable >/dev/null 2>&1 || die "rustup could not install Rust"
    fi
    cargo --version >/dev/null 2>&1 || die "cargo does not work for $(id -un): $(cargo --version 2>&1 | head -n 1)"
    cargo --version | awk '{ split($2, v, "."); exit !(v[1] > 1 || v[2] >= 90) }' || die "Rust 1.90 or newer is needed, and this is $(cargo --version)"
}

need_fuse() {
    need fusermount3=fuse3
    [ -e /dev/fuse ] || modprobe fuse 2>/dev/null || true
    [ -e /dev/fuse ] || die "/dev/fuse is missing, and modprobe fuse did not bring it: this kernel or container has no FUSE"
}

need_loop() {
    [ -e /dev/loop-control ] || modprobe loop 2>/dev/null || true
    [ -e /dev/loop-control ] || die "/dev/loop-control is missing, and modprobe loop did not bring it: this kernel or container has no loop devices"
    grep -qw ext3 /proc/filesystems || modprobe ext3 2>/dev/null || modprobe ext4 2>/dev/null || true
    grep -qw ext3 /proc/filesystems || die "this kernel cannot mount ext3"
}
