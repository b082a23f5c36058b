#!/usr/bin/env bash
# Makes the Debian package with cargo-deb, which is installed if it is missing.
#
#   usage: deb.sh [OPTION…]
#
# Options are cargo-deb's. banger and its init must be built. Cargo.toml says what goes in: files of
# a tree that banger itself makes, so that the package has what `make install` installs.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}

if ! cargo deb --version >/dev/null 2>&1; then
    echo "deb: cargo install --locked cargo-deb"
    cargo install --quiet --locked cargo-deb
fi
tree=$target/release/package
rm -rf "$tree"
"$target/release/banger" self install --prefix /usr --destdir "$tree" \
    --init "$target/release/banger-init" --checkout "$PWD"
exec cargo deb --no-build "$@"
