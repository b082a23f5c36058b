#!/bin/sh
# The init of an image that was made from a container image and has none of its own: put here by
# the import into banger. Network, host name and keys are set before it runs, by the initrd.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=/root TERM=linux
export PATH HOME TERM
cd / || :
# shellcheck disable=SC1091 # written at the import
[ ! -r /etc/banger/environment ] || . /etc/banger/environment

have() {
    command -v "$1" >/dev/null 2>&1
}

# down REQUEST: ends everything, then asks the kernel: o powers off, b restarts.
down() {
    trap '' HUP INT TERM USR1 USR2
    echo "banger: shutting down"
    kill -TERM -1 2>/dev/null
    sleep 1
    kill -KILL -1 2>/dev/null
    sync
    # The file systems read-only, as far as nobody waits for them; then the end.
    echo u >/proc/sysrq-trigger
    sleep 1
    echo "$1" >/proc/sysrq-trigger
    while :; do sleep 60; done
}
trap 'down o' USR1 USR2
trap 'down b' INT TERM

if have mount; then
    mkdir -p /dev/pts /dev/shm
    mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts 2>/dev/null
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm 2>/dev/null
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup 2>/dev/null
fi
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
[ -e /dev/stdin ] || ln -s fd/0 /dev/stdin
[ -e /dev/stdout ] || ln -s fd/1 /dev/stdout
[ -e /dev/stderr ] || ln -s fd/2 /dev/stderr

if have sshd; then
    mkdir -p /run/sshd
    chmod 0755 /run/sshd
    # It makes those that are missing or empty, and says so: then they are to survive a power cut.
    [ -z "$(ssh-keygen -A 2>/dev/null)" ] || sync
    "$(command -v sshd)" </dev/null || echo "banger: sshd does not start"
elif have dropbear; then
    mkdir -p /etc/dropbear
    dropbear -R -s </dev/null || echo "banger: dropbear does not start"
fi

# The device behind /dev/console, which cannot be a terminal that controls anything itself.
read -r consoles </sys/class/tty/console/active 2>/dev/null || consoles=ttyS0
console=/dev/${consoles##* }

# A shell on the console, and another when that one ends.
shells() {
    echo
    echo "banger: this image was a container's; the shell on this console is all that runs"
    while :; do
        if have setsid; then
            setsid sh -c "exec sh -l <>$console >&0 2>&0"
        else
            sh -l <>"$console" >&0 2>&0
        fi
        sleep 1
    done
}
shells &

# Whoever has lost its parent is ours, and is waited for here.
while :; do
    wait
done
