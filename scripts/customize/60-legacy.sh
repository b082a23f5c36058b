#!/bin/sh
# Takes out what images of the older layout have of their own disks for /home and /var: they have
# one disk now, and a boot that waits for the others takes 90 s and fails.
#
#   usage: ROOT=DIRECTORY WORK=DIRECTORY 60-legacy.sh
#
# Only that: lines of /etc/fstab, and units, that mount a second or third disk of the VM - vdb to
# vdz, or one called home or var - on just /home or /var. Anything else there, such as a /home on a
# file server, is the user's.
set -eu
# shellcheck source=scripts/customize/lib.sh
. "$(dirname "$0")/lib.sh"

# In awk's words: the disks that older images had beside the root's.
old_disk='^(/dev/vd[b-z][0-9]*|(LABEL|PARTLABEL)="?(banger-)?(home|var)"?|/dev/disk/by-(label|partlabel)/(banger-)?(home|var))$'

if [ -f /etc/fstab ]; then
    awk -v old="$old_disk" '
        /^[[:space:]]*#/ { print; next }
        ($2 == "/home" || $2 == "/home/" || $2 == "/var" || $2 == "/var/") && $1 ~ old { next }
        { print }
    ' /etc/fstab >"$WORK/fstab"
    if ! cmp -s "$WORK/fstab" /etc/fstab; then
        # Written through: owner and mode stay.
        cat "$WORK/fstab" >/etc/fstab
        say "took the disks of /home and /var out of /etc/fstab"
    fi
fi

for name in home var; do
    for unit in "/etc/systemd/system/$name.mount" "/lib/systemd/system/$name.mount"; do
        # A package's own, or a link such as a mask, is left alone.
        { [ -f "$unit" ] && [ ! -L "$unit" ]; } || continue
        what=$(sed -n 's/^What=//p' "$unit" | tail -n 1)
        if printf '%s\n' "$what" | awk -v old="$old_disk" '$1 ~ old { found = 1 } END { exit !found }'; then
            rm -f "$unit"
            # Links that asked for it.
            for wants in /etc/systemd/system/*.wants /etc/systemd/system/*.requires \
                /lib/systemd/system/*.wants /lib/systemd/system/*.requires; do
                if [ -L "$wants/$name.mount" ]; then
                    rm -f "$wants/$name.mount"
                fi
            done
            say "took $unit out"
        fi
    done
done
