#!/bin/sh
# Makes a root ready for packages: name servers, the host's mirrors and proxies, no services.
#
#   usage: ROOT=DIRECTORY WORK=DIRECTORY 10-prepare.sh
#
#   reads  WORK/resolv.conf, WORK/mirrors, WORK/lists/, WORK/apt.conf
#
# What it changes is put aside; 80-clean.sh puts it back.
set -eu
# shellcheck source=scripts/customize/lib.sh
. "$(dirname "$0")/lib.sh"

if [ -s "$WORK/resolv.conf" ]; then
    put_aside /etc/resolv.conf
    cp "$WORK/resolv.conf" /etc/resolv.conf
fi
has_dpkg || exit 0

# Nothing that is installed is started: there is no init here, or not one for these services.
put_aside /usr/sbin/policy-rc.d
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d

mkdir -p /etc/apt/apt.conf.d
if [ -s "$WORK/apt.conf" ]; then
    cp "$WORK/apt.conf" /etc/apt/apt.conf.d/99banger-build
fi

# The host's own mirror of this release stands in for Debian's public ones: it is near, and may be
# the only one that is reached. Sources of somebody else's stay.
codename=$(sed -n 's/^VERSION_CODENAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release)
if [ -n "$codename" ] && grep -q "^Debian|$codename|.*|$codename|main\$" "$WORK/mirrors" 2>/dev/null; then
    others=
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -f "$list" ] || continue
        uris=$(sed -n -e 's/^deb[^#]*[[:space:]]\([a-z]*:\/\/[^[:space:]]*\).*/\1/p' \
            -e 's/^URIs:[[:space:]]*//p' "$list")
        public=yes
        for uri in $uris; do
            case $uri in
            *://deb.debian.org/* | *://security.debian.org/* | *://ftp.*debian.org/*) ;;
            *) public= ;;
            esac
        done
        if [ -n "$uris" ] && [ -n "$public" ]; then
            put_aside "$list"
        else
            others=$others$uris
        fi
    done
    # Where nobody else's keys are trusted, the archive's keyring has the same as the single files: of
    # those apt would make one anew for each release.
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    signed=
    if [ -z "$others" ] && [ -s "$keyring" ] && [ ! -s /etc/apt/trusted.gpg ] &&
        [ -z "$(find /etc/apt/trusted.gpg.d/ ! -type d ! -name 'debian-archive-*' 2>/dev/null)" ]; then
        signed="[signed-by=$keyring] "
    fi
    mkdir -p /etc/apt/sources.list.d
    sed -n "s,^Debian|${codename}[a-z-]*|\([^|]*\)|\(${codename}[a-z-]*\)|\([^|]*\)\$,deb $signed\1 \2 \3,p" \
        "$WORK/mirrors" | grep -v -e "$codename-backports" -e "$codename-proposed" | sort -u \
        >/etc/apt/sources.list.d/banger-build.list
    # apt sees by their times and sums what has changed since, and fetches that.
    mkdir -p /var/lib/apt/lists
    for list in "$WORK"/lists/*; do
        [ ! -f "$list" ] || cp -p "$list" /var/lib/apt/lists/
    done
fi
