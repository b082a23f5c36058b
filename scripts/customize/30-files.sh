#!/bin/sh
# Puts files into the root; they belong to root there and keep their modes.
#
#   usage: ROOT=DIRECTORY WORK=DIRECTORY 30-files.sh
#
#   reads  WORK/files.dirs, WORK/files.tar
set -eu
# shellcheck source=scripts/customize/lib.sh
. "$(dirname "$0")/lib.sh"

if [ -s "$WORK/files.dirs" ]; then
    # A directory that is there already, or a link to one, is kept as it is.
    while read -r directory; do
        mkdir -p "/$directory" || fail "cannot make the directory /$directory"
    done <"$WORK/files.dirs"
fi
[ -s "$WORK/files.tar" ] || exit 0
tar -C / -xof "$WORK/files.tar"
say "$(tar -tf "$WORK/files.tar" | wc -l) files and directories"
