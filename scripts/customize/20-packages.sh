#!/bin/sh
# Installs and removes packages, so that the root has what the manifest says.
#
#   usage: ROOT=DIRECTORY WORK=DIRECTORY 20-packages.sh [--preview]
#
#   reads      WORK/packages; in a root without apt it unpacks WORK/debs/*.tar
#   --preview  changes no package, but writes what would change to WORK/out/preview:
#              `install NAME VERSION`, `remove NAME`, `download BYTES`, `installed BYTES` (more, or
#              with a minus less than now)
#
# What is not named stays as it is. Recommended packages are not taken.
set -eu
# shellcheck source=scripts/customize/lib.sh
. "$(dirname "$0")/lib.sh"

preview=
[ "${1-}" != --preview ] && [ ! -e "$WORK/preview" ] || preview=yes
[ -s "$WORK/packages" ] || exit 0
if ! has_dpkg; then
    [ -d "$WORK/debs" ] || fail "this image has no apt: packages can be put into Debian and its kin only"
    for tar in "$WORK"/debs/*.tar; do
        say "unpacking $(basename "$tar" .tar)"
        tar -C / -xf "$tar"
    done
    exit 0
fi

# Only the difference: apt is asked for nothing that is so already.
dpkg-query -W -f '${db:Status-Status} ${binary:Package} ${Version}\n' |
    sed -n 's/^installed //p' >"$WORK/installed"
awk -v OFS= '
    NR == FNR {
        name = $1; sub(/:.*/, "", name)
        has[$1] = has[name] = $2
        next
    }
    { word = $1; name = word; version = "" }
    word ~ /-$/ { sub(/-$/, "", name); if (name in has) print word; next }
    word ~ /=/ { version = word; sub(/^[^=]*=/, "", version); sub(/=.*/, "", name) }
    word ~ /\// { print word; next }
    !(name in has) || (version != "" && has[name] != version) { print word }
' "$WORK/installed" "$WORK/packages" >"$WORK/difference"
if [ ! -s "$WORK/difference" ]; then
    say "all packages are as they are to be"
    exit 0
fi
say "to change: $(tr '\n' ' ' <"$WORK/difference")"

# apt WORDS...: what is half-written when the power fails is thrown away as a whole, so dpkg need
# not wait for the disk. Of apt's two caches the one that others are made of is left out: it would
# be written, and the other made again when all is installed, for nobody.
apt() {
    apt-get -q -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io \
        -o Dir::Cache::srcpkgcache= -o Acquire::PDiffs=false \
        -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef \
        -o Acquire::Languages=none "$@"
}

# A step that is tried again has the lists already, if they came whole.
if [ ! -e "$WORK/out/updated" ]; then
    apt -o APT::Update::Error-Mode=any update ||
        fail "the lists of packages cannot be fetched: is the mirror reached? (the lines above say which)"
    : >"$WORK/out/updated"
fi

set --
while read -r word; do
    set -- "$@" "$word"
done <"$WORK/difference"

# trouble: says of apt's own words what the user can do about them.
trouble() {
    cat "$WORK/apt.err" >&2
    unknown=$(sed -n -e 's/^E: Unable to locate package //p' \
        -e "s/^E: Package '\(.*\)' has no installation candidate/\1/p" "$WORK/apt.err" | tr '\n' ' ')
    [ -z "$unknown" ] || fail "there is no package ${unknown}in the image's sources: correct the manifest"
    sed -n "s/^E: Version '\(.*\)' for '\(.*\)' was not found/\2 has no version \1/p" "$WORK/apt.err" >&2
    fail "apt could not do it (its reason is above)"
}

if [ -n "$preview" ]; then
    apt -s --no-install-recommends --purge install "$@" >"$WORK/simulated" 2>"$WORK/apt.err" || trouble
    # With --assume-no it says how much, and stops; that is no error here.
    apt --assume-no --no-install-recommends --purge install "$@" >"$WORK/asked" 2>/dev/null || :
    sed -n -e 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*/install \1 \2/p' \
        -e 's/^\(Remv\|Purg\) \([^ ]*\) .*/remove \2/p' "$WORK/simulated" | sort -u >"$WORK/out/preview"
    # "Need to get 1,234 kB of archives.", "... 5 kB/1,234 kB ...": what is still to be fetched.
    awk '
        function bytes(number, unit) {
            gsub(/,/, "", number)
            sub(/\/.*/, "", unit)
            if (unit == "kB") return number * 1000
            if (unit == "MB") return number * 1000000
            if (unit == "GB") return number * 1000000000
            return number
        }
        /^Need to get / { printf "download %.0f\n", bytes($4, $5) }
        /^After this operation, / { printf "installed %s%.0f\n", /freed/ ? "-" : "", bytes($4, $5) }
    ' "$WORK/asked" >>"$WORK/out/preview"
    exit 0
fi

# What a step that was ended half-way has left: apt goes on only when that is done.
if [ -n "$(ls /var/lib/dpkg/updates 2>/dev/null)" ] || dpkg --audit | grep -q .; then
    dpkg --force-unsafe-io --force-confold --force-confdef --configure -a
fi
apt --no-install-recommends --purge install "$@" 2>"$WORK/apt.err" || trouble
cat "$WORK/apt.err" >&2
