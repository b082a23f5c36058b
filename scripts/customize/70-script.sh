#!/bin/sh
# Runs the user's own script, as root in the root.
#
#   usage: ROOT=DIRECTORY WORK=DIRECTORY 70-script.sh
#
#   reads  WORK/script; one without a `#!` line is for sh
set -eu
# shellcheck source=scripts/customize/lib.sh
. "$(dirname "$0")/lib.sh"

[ -s "$WORK/script" ] || exit 0
cd /root 2>/dev/null || cd /
export HOME=/root
# `#!`, and what follows in that line.
first=$(head -n 1 "$WORK/script")
case $first in
'#!'*)
    chmod 0755 "$WORK/script"
    status=0
    "$WORK/script" || status=$?
    ;;
*)
    status=0
    sh -eu "$WORK/script" || status=$?
    ;;
esac
[ "$status" = 0 ] || fail "the script ended with status $status"
