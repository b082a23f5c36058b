#!/bin/sh
# Writes down what the image has become.
#
#   usage: ROOT=DIRECTORY WORK=DIRECTORY 90-finish.sh
#
#   reads   WORK/release
#   writes  /etc/banger-release; WORK/out/packages: what is installed, `NAME VERSION` a line
set -eu
# shellcheck source=scripts/customize/lib.sh
. "$(dirname "$0")/lib.sh"

if [ -s "$WORK/release" ]; then
    cp "$WORK/release" /etc/banger-release
fi
: >"$WORK/out/packages"
if has_dpkg; then
    dpkg-query -W -f '${db:Status-Status} ${binary:Package} ${Version}\n' |
        sed -n 's/^installed //p' | sort >"$WORK/out/packages"
fi
say "$(wc -l <"$WORK/out/packages") packages"
# What is mounted is written when it is unmounted, and this would wait for all disks of the host.
[ ! -e "$WORK/vm" ] || sync
