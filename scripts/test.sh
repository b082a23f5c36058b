#!/usr/bin/env bash
# Builds and runs all tests, and sums up.
#
#   usage: test.sh INIT
#
# INIT is the guest's init. A test that cannot do here what its name says writes one line into
# the file that BANGER_SKIP_FILE names - "name: reason" - and returns; cargo counts it as passed,
# this does not. The end of what is printed is enough to know what is wrong: how long the lab's tests
# took, what failed and the beginning of what that said, the results of each test program, what was
# skipped. The last line is the sum, and is left in $CARGO_TARGET_DIR/test-summary.
#
# Panics come without stack traces, which would be most of a short log; BANGER_TEST_BACKTRACE=1 or
# =full has them.
set -euo pipefail
cd "$(dirname "$0")/.."
init=$1
target=${CARGO_TARGET_DIR:-$PWD/target}

log=$(mktemp)
BANGER_SKIP_FILE=$(mktemp)
export BANGER_SKIP_FILE
# The second is for errors; without it they go by the first.
export RUST_BACKTRACE="${BANGER_TEST_BACKTRACE:-0}" RUST_LIB_BACKTRACE="${BANGER_TEST_BACKTRACE:-0}"
trap 'rm -f "$log" "$BANGER_SKIP_FILE"' EXIT
rm -f "$target/test-summary"

failures=()
# fail WHAT: something beside a test failed.
fail() {
    echo "FAILED: $1"
    failures+=("$1")
}

# One build: the tests boot their VMs with the same unoptimized banger.
if ! cargo test --locked --no-run; then
    fail "the tests do not build"
else
    "$target/debug/banger" runtime bootstrap --init "$init" || fail "banger runtime bootstrap"
    # Why it cannot be made, the lab's own tests say once more.
    scripts/lab/run.sh --prepare || true
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

# What each failed test said first: where it panicked and how its message begins; of one that did not
# panic, its last lines. Sections are "---- NAME stdout ----" (libtest) or "---- NAME ----" (the lab).
failed_tests() {
    awk '
    function cut(line) { return length(line) > 240 ? substr(line, 1, 240) " …" : line }
    function leave() {
        if (name != "" && !(name in said) && !panicked)
            for (i = (n > 3 ? n - 3 : 0); i < n; i++) keep("    " cut(last[i]))
        name = ""; n = 0; panicked = 0; message = 0
    }
    function keep(line) { text[name] = text[name] line "\n" }
    function enter() { leave(); name = $2; if (name in text) said[name] = 1 }
    /^test .+ \.\.\. FAILED$/ && !($2 in known) { known[$2] = 1; names[++count] = $2 }
    # The lab says it there as well, which matters if it is ended before it sums up.
    /^test .+ \.\.\. FAILED$/ && !summing { enter(); next }
    /^test .+ \.\.\. / && !summing { leave(); next }
    /^test .+ has been running for over / { next }
    /^---- .+ ----$/ { enter(); summing = 1; next }
    /^(failures:|test result: .*|running [0-9]+ tests?)$/ { leave(); summing = 0; next }
    name == "" || name in said { next }
    / panicked at .*:$/ && !panicked {
        panicked = 1; message = 4
        sub(/^.* panicked at/, "panicked at"); keep("    " cut($0)); next
    }
    /^(stack backtrace:|note: .*|)$/ { message = 0; next }
    message > 0 { message--; keep("      " cut($0)); next }
    !panicked { last[n++] = $0 }
    END {
        leave()
        for (i = 1; i <= count; i++) printf "  %s\n%s", names[i], text[names[i]]
    }' "$log"
}

passed=$(sum passed)
failed=$(sum failed)
ignored=$(sum ignored)
skips=$(sort -u "$BANGER_SKIP_FILE" | sed '/^$/d' | wc -l)
if [ "${status:-0}" != 0 ] && [ "$failed" = 0 ]; then
    fail "cargo test ended with status $status"
fi
failed=$((failed + ${#failures[@]}))
passed=$((passed > skips ? passed - skips : 0))
skipped=$((ignored + skips))

# "test ten_at_once::root ... ok <96.7s> and a figure": the lab's. What takes no time was skipped.
took=$(sed -nE 's/^test (.+) \.\.\. ok <([0-9.]+)s>(.*)$/\2 \1\3/p' "$log" | grep -v '^0\.0 ' |
    sort -rn || true)
echo
if [ -n "$took" ]; then
    echo "seconds in the lab:"
    awk '{ printf "%7s ", $1; $1 = ""; print }' <<<"$took"
fi
grep '^a machine of the lab failed' "$log" || true
if [ "$failed" != 0 ]; then
    echo "failed ($failed):"
    failed_tests
    # Of a test program that died only cargo says so.
    grep -E "process didn't exit successfully.*signal" "$log" | cut -c 1-240 || true
    for what in "${failures[@]}"; do echo "  $what"; done
fi
grep -E '^test result: ' "$log" || true
if [ "$skips" -gt 0 ]; then
    echo "skipped here, as this machine lacks what they need ($skips):"
    sort -u "$BANGER_SKIP_FILE" | sed '/^$/d; s/^/  /'
fi
echo "$passed passed, $failed failed, $skipped skipped" | tee "$target/test-summary"
[ "$failed" = 0 ]
