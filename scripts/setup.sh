#!/usr/bin/env bash
# Installs the Debian packages that banger needs, and only if some are missing.
#
#   usage: setup.sh [dev]
#
# With `dev`, also what tests and lints need. Says what it will install before it does, through
# sudo when it is not run by root.
set -euo pipefail
cd "$(dirname "$0")/.."

# A program (or a file), and the package it is in.
needed=(
    cc:gcc
    /usr/include/stdio.h:libc6-dev
    curl:curl
    depmod:kmod
    dpkg-deb:dpkg
    mke2fs:e2fsprogs
    mmdebstrap:mmdebstrap
    ssh:openssh-client
    xz:xz-utils
)
case $(uname -m) in
aarch64) needed+=(qemu-system-aarch64:qemu-system-arm) ;;
*) needed+=(qemu-system-x86_64:qemu-system-x86) ;;
esac
# Without root, images are built in a user namespace with a range of ids.
[ "$(id -u)" = 0 ] || needed+=(newuidmap:uidmap)
# What reads virtual disks is tested against what QEMU writes.
[ "${1:-}" != dev ] || needed+=(shellcheck:shellcheck qemu-img:qemu-utils)

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is missing: install Rust first, https://rustup.rs" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "setup: this is not Debian: install what provides ${needed[*]%%:*}" >&2
    exit 1
fi

# mke2fs and others lie in directories that a normal user's PATH does not have.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=()
for entry in "${needed[@]}"; do
    [ -e "${entry%%:*}" ] || command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
done

# The kernel is fetched with apt, so apt has to know what there is: a day is as old as its
# lists may be while there is no runtime directory yet.
update=no
lists=$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -1 -print -quit 2>/dev/null || true)
if [ ${#missing[@]} -gt 0 ]; then
    update=needed
elif [ -z "$lists" ] && [ ! -e runtime/bundle.json ]; then
    update=wanted
fi
[ "$update" != no ] || exit 0

root=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: as root, run: apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    root=(sudo)
fi
apt() {
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"
}

echo "setup: ${root[*]} apt-get update"
if ! apt update && [ "$update" = needed ]; then
    echo "setup: apt-get update failed; trying with what apt knows" >&2
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: ${root[*]} apt-get install --no-install-recommends ${missing[*]}"
    apt install --yes --no-install-recommends "${missing[@]}"
fi
