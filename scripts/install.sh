#!/usr/bin/env bash
# Installs what is built, or removes what was installed. For `make install` and `make uninstall`.
#
#   usage: install.sh [remove]
#
# The environment says what and where: PREFIX, DESTDIR, PROFILE, RUNTIME, BUILD, as in the
# Makefile. Builds first if something has changed since: so `make build && sudo make install` needs
# no Rust for root.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
profile=${PROFILE:-release}
runtime=${RUNTIME:-$PWD/runtime}
target=${CARGO_TARGET_DIR:-$PWD/target}
banger=$target/$profile/banger
init=$target/$profile/banger-init
at=(--prefix "$prefix" --destdir "$destdir")

if [ "${1:-}" = remove ]; then
    # The installed one knows best what it has installed; it need not run here, though.
    installed=$destdir$prefix/bin/banger
    if [ -x "$installed" ] && "$installed" --version >/dev/null 2>&1; then
        banger=$installed
    elif [ ! -x "$banger" ]; then
        echo "install: neither $installed nor $banger is there; \`make build\` makes one" >&2
        exit 1
    fi
    exec "$banger" self uninstall "${at[@]}"
fi

changed() {
    [ ! -x "$banger" ] || [ ! -x "$init" ] ||
        [ -n "$(find src assets scripts Cargo.toml Cargo.lock runtime-bundle.toml -newer "$banger" -print -quit)" ]
}
if [ "${BUILD:-yes}" != no ] && changed; then
    make --no-print-directory init
    if [ "$profile" = release ]; then
        make --no-print-directory build
    else
        cargo build --locked
    fi
fi
for program in "$banger" "$init"; do
    if [ ! -x "$program" ]; then
        echo "install: $program is not there; \`make build\` makes it" >&2
        exit 1
    fi
done
if [ "$runtime" != none ] && [ ! -e "$runtime/bundle.json" ]; then
    if [ "$runtime" != "$PWD/runtime" ] || [ "${BUILD:-yes}" = no ]; then
        echo "install: there is no runtime directory in $runtime" >&2
        echo "install: name one with RUNTIME=, or leave it out with RUNTIME=none" >&2
        exit 1
    fi
    "$banger" runtime bootstrap --init "$init" --dir "$runtime"
fi

"$banger" self install "${at[@]}" --init "$init" --checkout "$PWD"
if [ "$runtime" != none ]; then
    "$banger" runtime install "${at[@]}" --dir "$runtime"
fi
