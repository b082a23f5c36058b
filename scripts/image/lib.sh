# shellcheck shell=sh
# What the scripts that build base images share. Sourced, not run.

# fail MESSAGE: says why, and ends.
fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# step WHAT: says what is done now.
step() {
    printf '%s: %s\n' "$(basename "$0")" "$*"
}

# need PROGRAM...: all that are missing are named at once.
need() {
    missing_programs=
    for program; do
        command -v "$program" >/dev/null || missing_programs="$missing_programs $program"
    done
    [ -z "$missing_programs" ] ||
        fail "not found:$missing_programs (packages e2fsprogs, mmdebstrap, util-linux, apt)"
}

# manifest NAME: the packages of an image's manifest, on one line. BANGER_PACKAGES is another file.
manifest() {
    manifest_file=${BANGER_PACKAGES:-$here/../../assets/packages/$1.txt}
    [ -r "$manifest_file" ] || fail "there is no $manifest_file"
    sed 's/#.*//' "$manifest_file" | tr -s '[:space:]' ' ' | sed 's/^ //; s/ $//'
}

# work_directory OUTPUT: sets $work to a directory beside OUTPUT that is removed at the end.
# Beside it, as a rename must do to put OUTPUT in its place, and /tmp may be small.
work_directory() {
    work_parent=$(dirname "$1")
    mkdir -p "$work_parent"
    work=$(mktemp -d "$work_parent/.build.XXXXXX")
    work=$(cd "$work" && pwd)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# as_root COMMAND...: as root, or as the root of an own user namespace, in which the user's
# files belong to root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        unshare --map-root-user -- "$@" ||
            fail "$1 failed in a user namespace (are they allowed? else run this as root)"
    fi
}

# The options of every image. Its blocks are zero already, so none of them is written: neither
# here nor by the guest, whose overlay would grow by it. Nothing is kept for root: there is no
# other user to keep it from.
EXT4_OPTIONS="-q -F -t ext4 -b 4096 -m 0 -L root"
EXT4_EXTENDED="root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1"

# make_ext4 TREE MIB OUTPUT: a sparse file with an ext4 file system that holds TREE.
make_ext4() {
    truncate -s "$2M" "$work/image"
    # shellcheck disable=SC2086 # a list of words
    as_root mke2fs $EXT4_OPTIONS -E "$EXT4_EXTENDED" -d "$1" "$work/image"
    mv -f "$work/image" "$3"
}

# make_ext4_of_tar TAR MIB OUTPUT: the same of an archive, with all the owners in it.
make_ext4_of_tar() {
    mkdir "$work/tree"
    # The devices are the kernel's affair, and only root may make them.
    as_many tar -C "$work/tree" --numeric-owner --exclude './dev/*' -xpf "$1"
    truncate -s "$2M" "$work/image"
    # shellcheck disable=SC2086 # a list of words
    as_many mke2fs $EXT4_OPTIONS -E "$EXT4_EXTENDED" -d "$work/tree" "$work/image"
    as_many rm -rf "$work/tree"
    mv -f "$work/image" "$3"
}

# as_many COMMAND...: like as_root, with all the other users too: the ids of /etc/subuid.
as_many() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        unshare --map-root-user --map-auto -- "$@" ||
            fail "$1 failed in a user namespace (package uidmap? a range in /etc/subuid?)"
    fi
}

# debian_tar SUITE PACKAGES HOOK OUTPUT: an archive of Debian with these packages (separated by
# commas), after the script HOOK has run with the tree's path as its argument. HOOK is given as
# text: the root of the user namespace may not enter a home directory of mode 0700 to read it.
debian_tar() {
    debian_suite=$1 debian_packages=$2 debian_hook=$3 debian_output=$4
    # Which of this machine's sources are Debian's own, of this release.
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)' \
        'Created-By: Packages' 2>/dev/null |
        sed -n "s,^Debian|${debian_suite}[a-z-]*|\(http[^|]*\)|\(${debian_suite}[a-z-]*\)|\([^|]*\)\$,deb \1 \2 \3,p" |
        grep -v -e "$debian_suite-backports" -e "$debian_suite-proposed" | sort -u >"$work/sources" || :
    set --
    if grep -q " $debian_suite main\$" "$work/sources"; then
        set -- "$work/sources"
    fi
    if [ -z "${http_proxy-}" ]; then
        http_proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
        [ -z "$http_proxy" ] || export http_proxy
    fi
    debian_mode=unshare debian_alone=
    if [ "$(id -u)" = 0 ]; then
        debian_mode=root
        # What it mounts in the tree goes with it, however it ends, as it does for a normal user.
        ! unshare --mount true 2>/dev/null || debian_alone='unshare --mount --'
    fi
    # shellcheck disable=SC2086 # a list of words
    $debian_alone mmdebstrap --quiet --mode="$debian_mode" --variant=minbase --include="$debian_packages" \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="$debian_hook" \
        "$debian_suite" "$debian_output" "$@" ||
        fail "mmdebstrap failed (its reason is above; without a network nothing can be fetched)"
}
