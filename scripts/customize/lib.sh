# shellcheck shell=sh
# What the steps of a customization share. Sourced, not run.
#
# A step changes the root file system ROOT by what lies in the directory WORK. All of it happens
# inside ROOT: an image may be somebody else's, and a link in it must not lead out. So with a ROOT
# other than / a step takes WORK in there, and goes on as the root of it.
#
#   WORK/packages     packages to have, one a line; `name-` is to go
#   WORK/debs/        the files of packages as *.tar, for a root without apt
#   WORK/mirrors      the host's package sources: ORIGIN|CODENAME|URI|RELEASE|COMPONENT, a line each
#   WORK/lists/       the host's lists of those, as they are in /var/lib/apt/lists
#   WORK/apt.conf     the host's proxies and such, as apt.conf(5) has them
#   WORK/resolv.conf  the host's name servers; none in a VM, which has its own
#   WORK/files.tar    files to put in, by their paths below /; WORK/files.dirs directories to make
#   WORK/users        NAME sudo|- , a line each; WORK/keys/NAME lines for its authorized_keys
#   WORK/script       the user's own script
#   WORK/release      what /etc/banger-release is to say
#   WORK/vm           there if ROOT is the disk of a running VM
#   WORK/out/         what a step has found out
set -eu
umask 022
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# fail MESSAGE: says why, and ends.
fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# say WHAT: what is done now.
say() {
    printf '%s\n' "$*"
}

# The suffix of what is put aside while packages are installed, and put back by 80-clean.sh.
ASIDE=.banger-aside

# put_aside FILE: keeps a file, link or nothing for later; twice is as good as once.
put_aside() {
    if [ -e "$1$ASIDE" ] || [ -L "$1$ASIDE" ] || [ -e "$1$ASIDE-none" ]; then
        return
    fi
    if [ -e "$1" ] || [ -L "$1" ]; then
        mv "$1" "$1$ASIDE"
    else
        mkdir -p "$(dirname "$1")"
        : >"$1$ASIDE-none"
    fi
}

# put_back FILE: as it was before put_aside.
put_back() {
    if [ -e "$1$ASIDE-none" ]; then
        rm -f "$1" "$1$ASIDE-none"
    elif [ -e "$1$ASIDE" ] || [ -L "$1$ASIDE" ]; then
        rm -f "$1"
        mv "$1$ASIDE" "$1"
    fi
}

# has_dpkg: whether this is a Debian or one of its kin.
has_dpkg() {
    [ -s /var/lib/dpkg/status ] && command -v apt-get >/dev/null
}

# go_inside: runs the step again as the root of ROOT, and ends with it.
go_inside() {
    [ "$(id -u)" = 0 ] || fail "chroot needs root"
    here=$(cd "$(dirname "$0")" && pwd)
    inside=/var/tmp/banger-customize
    # shellcheck disable=SC2016 # for the shell inside
    chroot "$ROOT" /bin/sh -c 'rm -rf "$1" && mkdir -p "$1/steps"' sh "$inside"
    tar -C "$WORK" -cf - . | chroot "$ROOT" tar -C "$inside" -xf -
    tar -C "$here" -cf - . | chroot "$ROOT" tar -C "$inside/steps" -xf -
    status=0
    chroot "$ROOT" /usr/bin/env ROOT=/ WORK="$inside" \
        /bin/sh "$inside/steps/$(basename "$0")" || status=$?
    mkdir -p "$WORK/out"
    if chroot "$ROOT" test -d "$inside/out"; then
        chroot "$ROOT" tar -C "$inside/out" -cf - . | tar -C "$WORK/out" -xof -
    fi
    chroot "$ROOT" rm -rf "$inside"
    exit "$status"
}

if [ -z "${ROOT-}" ] || [ ! -d "${WORK-}" ]; then
    fail "usage: ROOT=DIRECTORY WORK=DIRECTORY $0 (lib.sh says more)"
fi
[ "$ROOT" = / ] || go_inside
mkdir -p "$WORK/out"
