#!/bin/sh
# Builds the base image "debian": Debian 12 with systemd, udev, dbus and OpenSSH.
#
#   usage: debian.sh OUTPUT
#
#   OUTPUT  the image to make: a sparse ext4 file system without a partition table
#   env     BANGER_DEBIAN_MIB  size of the file system in MiB (default 4096)
#           BANGER_PACKAGES    its package manifest (default assets/packages/debian.txt)
#           TMPDIR             where about 400 MiB are needed while it is built
#
# The packages come from where this machine's apt gets its own, if that is Debian 12, else from
# mmdebstrap's default. Runs as root, or as a user with user namespaces and a range of ids in
# /etc/subuid. OUTPUT appears complete or not at all.
#
# It is a Debian as anyone knows it; debian-customize.sh says in what it differs, and why.
set -eu
export LC_ALL=C
umask 022

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/image/lib.sh
. "$here/lib.sh"

[ $# = 1 ] || fail "usage: debian.sh OUTPUT"
need mmdebstrap mke2fs tar apt-get unshare
output=$1
size=${BANGER_DEBIAN_MIB:-4096}
work_directory "$output"

suite=bookworm
packages=$(manifest debian | tr ' ' ',')

step "packages"
debian_tar "$suite" "$packages" "$(cat "$here/debian-customize.sh")" "$work/tree.tar"

step "file system"
make_ext4_of_tar "$work/tree.tar" "$size" "$output"
