#!/usr/bin/env bash
# Builds and runs all tests, and sums up.
#
#   usage: test.sh INIT
#
# INIT is the guest's init. A test that cannot do here what its name says writes one line into
# the file that BANGER_SKIP_FILE names - "name: reason" - and returns; cargo counts it as passed,
# this does not. The last line printed is the sum, and is left in $CARGO_TARGET_DIR/test-summary.
set -euo pipefail
cd "$(dirname "$0")/.."
init=$1
target=${CARGO_TARGET_DIR:-$PWD/target}

log=$(mktemp)
BANGER_SKIP_FILE=$(mktemp)
export BANGER_SKIP_FILE
trap 'rm -f "$log" "$BANGER_SKIP_FILE"' EXIT
rm -f "$target/test-summary"

failures=0
# fail WHAT: something beside a test failed.
fail() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}

# One build: the tests boot their VMs with the same unoptimized banger.
if ! cargo test --locked --no-run; then
    fail "the tests do not build"
else
    "$target/debug/banger" runtime bootstrap --init "$init" || fail "banger runtime bootstrap"
    # Its status says no more than the results do, unless there are none.
    status=0
    cargo test --locked --no-fail-fast 2>&1 | tee "$log" || status=$?
fi

# "test result: ok. 5 passed; 0 failed; 1 ignored; …", a line per test program.
sum() {
    awk -v word="$1" '/^test result: / {
        for (i = 2; i <= NF; i++) if ($i == word ";") n += $(i - 1)
    } END { print n + 0 }' "$log"
}
passed=$(sum passed)
failed=$(sum failed)
ignored=$(sum ignored)
skips=$(sort -u "$BANGER_SKIP_FILE" | sed '/^$/d' | wc -l)
if [ "${status:-0}" != 0 ] && [ "$failed" = 0 ]; then
    fail "cargo test ended with status $status"
fi
failed=$((failed + failures))
passed=$((passed > skips ? passed - skips : 0))
skipped=$((ignored + skips))

echo
grep -E '^test result: ' "$log" || true
if [ "$skips" -gt 0 ]; then
    echo "skipped here, as this machine lacks what they need ($skips):"
    sort -u "$BANGER_SKIP_FILE" | sed '/^$/d; s/^/  /'
fi
echo "$passed passed, $failed failed, $skipped skipped" | tee "$target/test-summary"
[ "$failed" = 0 ]
