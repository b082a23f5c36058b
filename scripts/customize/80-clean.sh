#!/bin/sh
# Takes out what only the building needed, and what no two machines may share.
#
#   usage: ROOT=DIRECTORY WORK=DIRECTORY 80-clean.sh
set -eu
# shellcheck source=scripts/customize/lib.sh
. "$(dirname "$0")/lib.sh"

# --- What 10-prepare.sh did -----------------------------------------------------------------
put_back /etc/resolv.conf
put_back /usr/sbin/policy-rc.d
rm -f /etc/apt/apt.conf.d/99banger-build /etc/apt/sources.list.d/banger-build.list
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    case $list in
    *"$ASIDE") put_back "${list%"$ASIDE"}" ;;
    *) put_back "$list" ;;
    esac
done

# --- Caches and logs ------------------------------------------------------------------------
if has_dpkg; then
    apt-get clean
    find /var/lib/apt/lists /var/cache/apt -type f ! -name lock -exec rm -f {} +
    rm -f /var/cache/debconf/*-old /var/lib/dpkg/*-old
fi
if [ -d /var/log ]; then
    find /var/log -type f \( -name '*.gz' -o -name '*.[0-9]' -o -name '*.journal' \) -exec rm -f {} +
    find /var/log -type f -size +0 | while read -r log; do
        : >"$log"
    done
fi

# What the last connection to a VM is to do; written anew when this step is tried again.
rm -f "$WORK/last.sh"

# --- Identity: each machine makes its own ---------------------------------------------------
if [ -e /etc/machine-id ]; then
    : >/etc/machine-id
fi
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
# Unless the user has put some in.
if ! tar -tf "$WORK/files.tar" 2>/dev/null | grep -q -e '^etc/ssh/ssh_host_' -e '^etc/dropbear/'; then
    remove='rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /etc/dropbear/dropbear_*_host_key'
    if [ -e "$WORK/vm" ]; then
        # Its sshd would have no key, or another, for the connections that are to come.
        printf '%s\n' "$remove" >>"$WORK/last.sh"
    else
        sh -c "$remove"
    fi
    # Debian's sshd does not make them by itself.
    if [ -x /usr/bin/ssh-keygen ] && [ -d /etc/systemd/system ] &&
        ! grep -qs ssh-keygen /etc/systemd/system/ssh.service /lib/systemd/system/ssh.service \
            /lib/systemd/system/sshd.service; then
        cat >/etc/systemd/system/banger-ssh-keys.service <<'EOF'
[Unit]
Description=SSH host keys of this machine
Before=ssh.service sshd.service ssh.socket

[Service]
Type=oneshot
# It makes those that are missing or empty, and says so: then they are to survive a power cut.
ExecStart=/bin/sh -c '[ -z "$$(/usr/bin/ssh-keygen -A)" ] || sync'

[Install]
WantedBy=multi-user.target
EOF
        mkdir -p /etc/systemd/system/multi-user.target.wants
        ln -sf ../banger-ssh-keys.service /etc/systemd/system/multi-user.target.wants/
    fi
fi
if [ -e "$WORK/vm" ]; then
    # What the start of this VM has written into its disk; each start writes its own.
    rm -f /etc/hostname
    [ ! -L /etc/resolv.conf ] && rm -f /etc/resolv.conf
    if [ -f /etc/hosts ]; then
        sed '/^127\.0\.1\.1[[:space:]]/d' /etc/hosts >"$WORK/hosts"
        cat "$WORK/hosts" >/etc/hosts
    fi
    # The key that this VM's start has put there is our way in, until the last connection.
    cat >>"$WORK/last.sh" <<'EOF'
keys=/root/.ssh/authorized_keys
if [ -f $keys ]; then
    kept=$(sed '/^# banger: the next line is set at each start$/,+1d' $keys)
    if [ -n "$kept" ]; then printf '%s\n' "$kept" >$keys; else rm -f $keys; fi
fi
EOF
fi

# --- What was left lying about --------------------------------------------------------------
rm -f /root/.bash_history /root/.ash_history /root/.wget-hsts /root/.lesshst
find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -path "$WORK" -exec rm -rf {} + 2>/dev/null || :
