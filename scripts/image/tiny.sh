#!/bin/sh
# Builds the base image "tiny" from Debian packages: busybox, dropbear, the libraries they need.
#
#   usage: tiny.sh OUTPUT [DEBS]
#
#   OUTPUT  the image to make: a sparse ext4 file system without a partition table
#   DEBS    a directory with the .deb files; what is missing there is fetched into it with
#           apt-get download, whose signatures vouch for it (default: a temporary directory)
#   env     BANGER_TINY_MIB  size of the file system in MiB (default 256)
#           BANGER_PACKAGES  its package manifest (default assets/packages/tiny.txt)
#
# Nothing is installed, and no rights are needed: a normal user needs user namespaces, so that
# the files in the image belong to its root. OUTPUT appears complete or not at all.
set -eu
export LC_ALL=C
umask 022

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/image/lib.sh
. "$here/lib.sh"

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    fail "usage: tiny.sh OUTPUT [DEBS]"
fi
need apt-get dpkg-deb mke2fs find
output=$1
size=${BANGER_TINY_MIB:-256}
work_directory "$output"
debs=${2:-$work/debs}
mkdir -p "$debs"
debs=$(cd "$debs" && pwd)

# What is needed to run, and nothing of what only Debian's policy needs.
packages=$(manifest tiny)

step "packages"
missing=
for package in $packages; do
    set -- "$debs/${package}"_*.deb
    [ -e "$1" ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of words
    (cd "$debs" && apt-get -qq -o APT::Sandbox::User=root download $missing) ||
        fail "cannot fetch$missing: is the network up, and has apt-get update been run?"
fi
for package in $packages; do
    # The newest, if a directory that is used again has more than one.
    newest=
    for deb in "$debs/${package}"_*.deb; do
        [ -e "$deb" ] || fail "$package is not in $debs"
        if [ -z "$newest" ] || dpkg --compare-versions \
            "$(dpkg-deb -f "$deb" Version)" gt "$(dpkg-deb -f "$newest" Version)"; then
            newest=$deb
        fi
    done
    dpkg-deb -x "$newest" "$work/unpacked"
done

step "files"
tree=$work/tree
mkdir -p "$tree"
(
    cd "$tree"
    mkdir -p bin sbin lib lib64 usr/bin usr/sbin usr/lib etc/dropbear \
        dev proc sys run root tmp home mnt var/log var/lib var/tmp
    chmod 0700 root etc/dropbear
    chmod 1777 tmp var/tmp
    ln -s /run var/run
)
cp "$work/unpacked/bin/busybox" "$tree/bin/busybox"
"$tree/bin/busybox" --list-full | while read -r applet; do
    mkdir -p "$tree/$(dirname "$applet")"
    [ -e "$tree/$applet" ] || ln -s /bin/busybox "$tree/$applet"
done
for program in usr/sbin/dropbear usr/bin/dropbearkey usr/bin/dbclient; do
    cp "$work/unpacked/$program" "$tree/$program"
done
ln -sf dbclient "$tree/usr/bin/ssh"

# The loader itself knows which libraries the programs need.
loader=$(find "$work/unpacked" -name 'ld-linux-*.so.*' | head -n 1)
[ -n "$loader" ] || fail "libc6 has no loader"
libraries=$(find "$work/unpacked" -name '*.so*' -exec dirname {} + | sort -u | tr '\n' ':')
for program in usr/sbin/dropbear usr/bin/dropbearkey usr/bin/dbclient; do
    "$loader" --library-path "$libraries" --list "$tree/$program"
done | sed -n 's,.*=> \(/[^ ]*\) .*,\1,p' | sort -u | while read -r library; do
    case $library in
    "$work"/*) cp -L "$library" "$tree/usr/lib/" ;;
    *) fail "the library $library is in none of the packages" ;;
    esac
done
cp -L "$loader" "$tree/lib64/"
rm -f "$tree/usr/lib/$(basename "$loader")"
# Ctrl-Alt-Del is how Firecracker, whose machines have no power button, asks for the end.
cat >"$tree/etc/inittab" <<'EOF'
::sysinit:/etc/init.d/rcS
::respawn:/usr/sbin/dropbear -F -R -s -m
ttyS0::respawn:-/bin/sh
::ctrlaltdel:/sbin/poweroff
::shutdown:/etc/init.d/stop
EOF
mkdir -p "$tree/etc/init.d"
cat >"$tree/etc/init.d/rcS" <<'EOF'
#!/bin/sh
# Network, host name and keys are set before this runs: by the initrd.
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /tmp
EOF
# After this busybox's init sleeps for two seconds. Only it knows whether to power off or to
# reboot, so it is spared that only where a note says which: when the power button was pressed.
cat >"$tree/etc/init.d/stop" <<'EOF'
#!/bin/sh
running() {
    for process in /proc/[0-9]*; do
        case ${process#/proc/} in 1 | $$) continue ;; esac
        # A kernel thread has no program.
        [ ! -e "$process/exe" ] || return 0
    done
    return 1
}
kill -TERM -1
kill -HUP -1 # interactive shells heed nothing else
for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    running || break
    usleep 100000
done
kill -KILL -1
[ ! -e /run/poweroff ] || fast=yes
sync
umount -a -r 2>/dev/null
[ -z "${fast-}" ] || exec /bin/busybox poweroff -f
EOF
rm -f "$tree/sbin/poweroff"
cat >"$tree/sbin/poweroff" <<'EOF'
#!/bin/sh
: >/run/poweroff
exec /bin/busybox poweroff "$@"
EOF
chmod 0755 "$tree/etc/init.d/rcS" "$tree/etc/init.d/stop" "$tree/sbin/poweroff"
cat >"$tree/etc/profile" <<'EOF'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME="${HOME:-/root}" PAGER=less EDITOR=vi
# On the serial console nothing tells the type of the terminal: `resize` asks it its size.
case ${TERM:-linux} in vt102 | linux | dumb) export TERM=xterm-256color ;; esac
[ "$HOME" != / ] || export HOME=/root
PS1='\u@\h:\w\$ '
cd
EOF
cat >"$tree/etc/passwd" <<'EOF'
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
EOF
# No password fits `*`: the key is the only way in.
cat >"$tree/etc/shadow" <<'EOF'
root:*:19000:0:99999:7:::
nobody:*:19000:0:99999:7:::
EOF
chmod 0640 "$tree/etc/shadow"
cat >"$tree/etc/group" <<'EOF'
root:x:0:
tty:x:5:
nogroup:x:65534:
EOF
echo /bin/sh >"$tree/etc/shells"
cat >"$tree/etc/os-release" <<'EOF'
NAME="banger tiny"
ID=banger-tiny
PRETTY_NAME="banger tiny (busybox, dropbear)"
EOF

step "file system"
make_ext4 "$tree" "$size" "$output"
