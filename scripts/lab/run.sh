#!/usr/bin/env bash
# Boots the lab - a Debian 12 workstation with KVM, device-mapper, TAPs, systemd and resolved,
# emulated by QEMU - runs a command in it as root, and takes the lab down again.
#
#   usage: run.sh [OPTION...] COMMAND       its output is ours, its exit code too
#          run.sh [OPTION...] --shell       a shell on this terminal; `exit` ends the lab
#          run.sh --prepare                 makes what is cached, so that the next is there at once
#
#   --copy SOURCE[:NAME]  brings a file or directory along, as /lab/NAME (read-only)
#   --banger FILE         which banger is brought along (default: the debug build, if there is one)
#   --env NAME=VALUE      a variable for COMMAND
#   --disk FILE           keeps the lab's disk in FILE: a later run with it is the same machine,
#                         rebooted (default: all that was written is forgotten)
#   --pid-file FILE       where QEMU's process id is put: killing it is the power cut
#   --monitor SOCKET      where QEMU's monitor is to be, to ask it why nothing goes on
#   --timeout SECONDS     for all of it (default 600; 0: none)
#
# In the lab: /lab/bin is on PATH and has `banger`; /lab/lib/banger is the runtime directory, where
# an installed banger looks for it; `dev` (uid 1000, may use KVM) and `eve` (uid 1001) are users:
# `as dev COMMAND...` runs something as one. If BANGER_TEST_FIRECRACKER (and BANGER_TEST_JAILER)
# name programs here, they name copies of them there, on PATH. The default route leads to
# 198.51.100.1, which answers pings and knows of nothing else.
#
#   env  BANGER_LAB_DIR      where the lab's disk is cached (default: $CARGO_TARGET_DIR/lab)
#        BANGER_RUNTIME_DIR  the runtime directory (default: the checkout's, if it is there)
#        BANGER_LAB_MEMORY   MiB of memory (default 3072);  BANGER_LAB_CPUS  (default 2)
#        BANGER_LAB_APPEND   more words for its kernel, to see why it does not come up
#
# Unit tests that need device-mapper, TAPs or KVM, for example:
#
#   unit=$(cargo test --lib --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
#   scripts/lab/run.sh --copy "$unit:unit" '/lab/unit host::dm'
#
# Exit code 125: the lab did not come up, or did not come to an end; its console is shown.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
target=${CARGO_TARGET_DIR:-$top/target}
lab=${BANGER_LAB_DIR:-$target/lab}
runtime=${BANGER_RUNTIME_DIR:-$top/runtime}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

fail() {
    echo "lab: $*" >&2
    exit 125
}

copies=() variables=() command='' mode=run disk='' pid_file='' monitor='' limit=600
banger=$target/debug/banger
[ -e "$banger" ] || banger=''
while [ $# -gt 0 ]; do
    case $1 in
    --copy) copies+=("$2") && shift ;;
    --banger) banger=$2 && shift ;;
    --env) variables+=("$2") && shift ;;
    --disk) disk=$2 && shift ;;
    --pid-file) pid_file=$2 && shift ;;
    --monitor) monitor=$2 && shift ;;
    --timeout) limit=$2 && shift ;;
    --shell) mode=shell limit=0 ;;
    --prepare) mode=prepare ;;
    --*) fail "no such option: $1" ;;
    *) command=$1 ;;
    esac
    shift
done
[ "$mode" != run ] || [ -n "$command" ] || fail "which command? (usage: head -17 $0)"
for program in qemu-system-x86_64 mke2fs mmdebstrap flock setpriv; do
    command -v "$program" >/dev/null || fail "$program is not found; \`make setup-dev\` installs it"
done

# --- What is cached: the host's disk by the scripts that make it, the runtime directory by what
# its record says.
mkdir -p "$lab"
exec 9>"$lab/lock"
flock 9
key=$(cat scripts/lab/image.sh scripts/lab/customize.sh scripts/image/lib.sh | sha256sum | cut -c1-12)
image=$lab/image-$key
if [ ! -e "$image" ]; then
    scripts/lab/image.sh "$image" >&2 9>&- || fail "the lab's disk could not be made"
    find "$lab" -maxdepth 1 -name 'image-*' ! -name "image-$key" -exec rm -rf {} +
fi
bundle=''
if [ -e "$runtime/bundle.json" ]; then
    key=$(sha256sum "$runtime/bundle.json" | cut -c1-12)
    bundle=$lab/bundle-$key.ext4
    if [ ! -e "$bundle" ]; then
        find "$lab" -maxdepth 1 -name 'bundle-*' -delete
        truncate -s "$(($(du -sm "$runtime" | cut -f1) * 11 / 10 + 64))M" "$bundle.new"
        mke2fs -q -F -t ext4 -m 0 -O ^has_journal -E root_owner=0:0 -d "$runtime" "$bundle.new"
        mv "$bundle.new" "$bundle"
    fi
else
    echo "lab: no runtime directory in $runtime (\`make runtime\` makes it): no VMs in this lab" >&2
fi
flock -u 9
exec 9>&-
[ "$mode" != prepare ] || exit 0

# --- What is brought along.
work=$(mktemp -d "$lab/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
stage=$work/stage
mkdir -p "$stage/bin" "$stage/lib/banger"
# A hard link is a copy that costs nothing, where it can be had.
bring() {
    [ -e "$1" ] || fail "$1 is not there"
    mkdir -p "$(dirname "$stage/$2")"
    cp -rLl "$1" "$stage/$2" 2>/dev/null || cp -rL --sparse=always "$1" "$stage/$2"
}
[ -z "$banger" ] || bring "$banger" bin/banger
for program in firecracker jailer; do
    variable=BANGER_TEST_${program^^}
    [ -n "${!variable-}" ] || continue
    bring "${!variable}" "bin/$program"
    variables+=("$variable=/lab/bin/$program")
done
for copy in "${copies[@]}"; do
    from=${copy%%:*}
    bring "$from" "$(basename "${copy#*:}")"
done
printf '%s\n' "$command" >"$stage/command"
if [ "$mode" = shell ] && size=$(stty size 2>/dev/null); then
    variables+=("LAB_ROWS=${size% *}" "LAB_COLUMNS=${size#* }")
fi
for variable in "${variables[@]}"; do
    printf 'export %s=%q\n' "${variable%%=*}" "${variable#*=}"
done >"$stage/environment"
cp scripts/lab/inside/start "$stage/start"
cp scripts/lab/inside/as "$stage/bin/as"
truncate -s "$(($(du -sm "$stage" | cut -f1) * 11 / 10 + 16))M" "$work/share.ext4"
mke2fs -q -F -t ext4 -m 0 -O ^has_journal -E root_owner=0:0 -d "$stage" "$work/share.ext4"
rm -rf "$stage"

# --- The machine. What it writes to its disks goes with it, or - into a disk that is kept - at
# once into the page cache of this machine: killing QEMU loses what the lab had not yet written.
if [ -n "$disk" ]; then
    [ -e "$disk" ] || cp --sparse=always --reflink=auto "$image/host.ext4" "$disk"
    root="file=$disk"
else
    root="file=$image/host.ext4,snapshot=on"
fi
drive() {
    qemu+=(-drive "$2,format=raw,if=none,id=$1,cache=unsafe" -device "virtio-blk-pci,drive=$1")
}
kernel="console=ttyS0 quiet reboot=t panic=-1 mitigations=off no_timer_check cryptomgr.notests"
kernel+=" random.trust_cpu=on raid=noautodetect apparmor=0 selinux=0 audit=0 init_on_alloc=0 8250.nr_uarts=1"
kernel+=" net.ifnames=0 systemd.show_status=0 lab.mode=$mode ${BANGER_LAB_APPEND-}"
# With norandmaps a program lies where it lay when it ran before, and what the emulator has
# translated of it serves again: `banger ls` 0.3 s instead of 0.9.
kernel+=" norandmaps"
# With thread=single, an interrupt that KVM injects is delivered twice when the emulator turns to the
# other CPU just then, and the guest waits for its own lock for ever.
# Page tables of five levels only make longer what is walked here: a guest's and, for each of its
# steps, the host's. With erms or fsrm, a kernel copies and clears by the byte, which is emulated
# byte by byte: 7 times as long, and a quarter of a VM's life.
qemu=(qemu-system-x86_64 -machine q35 -accel "tcg,thread=multi" -cpu "max,-la57,-erms,-fsrm,+svm,+npt"
    -m "${BANGER_LAB_MEMORY:-3072}" -smp "${BANGER_LAB_CPUS:-2}" -no-user-config -nodefaults
    -display none -no-reboot -pidfile "${pid_file:-$work/pid}"
    -kernel "$image/vmlinuz" -initrd "$image/initrd.cpio" -append "$kernel"
    -chardev "file,id=console,path=$work/console" -serial chardev:console
    -device virtio-rng-pci -device virtio-serial-pci
    -chardev "file,id=status,path=$work/status" -device "virtserialport,chardev=status,name=lab.status"
    -chardev "stdio,id=terminal,signal=off")
# An uplink whose packets are shorter than usual, as those of a VPN are, to an outside that is a
# gateway and nothing else.
qemu+=(-netdev "user,id=uplink,net=198.51.100.0/24,host=198.51.100.1,ipv6=off,restrict=on"
    -device "virtio-net-pci,netdev=uplink,host_mtu=1400")
[ -z "$monitor" ] || qemu+=(-monitor "unix:$monitor,server=on,wait=off")
drive host "$root"
drive share "file=$work/share.ext4,readonly=on"
[ -z "$bundle" ] || drive bundle "file=$bundle,readonly=on"
if [ "$mode" = shell ]; then
    qemu+=(-device "virtconsole,chardev=terminal")
    exec 8<&0
else
    qemu+=(-device "virtserialport,chardev=terminal,name=lab.out")
    # Silence that does not end: at its end the port would be closed, its writers held up.
    mkfifo "$work/silence"
    exec 8<>"$work/silence"
fi

# Neither it nor its keeper outlives this script, however that ends.
if [ "$limit" = 0 ]; then
    setpriv --pdeathsig KILL "${qemu[@]}" <&8 &
else
    setpriv --pdeathsig KILL timeout --foreground -s KILL "$limit" \
        setpriv --pdeathsig KILL "${qemu[@]}" <&8 &
fi
machine=$!
trap 'kill -KILL $machine 2>/dev/null; rm -rf "$work"; exit 130' INT TERM HUP
ended=0
wait "$machine" || ended=$?

status=$(cat "$work/status" 2>/dev/null || true)
case $status in
[0-9]*) exit "$status" ;;
esac
echo "lab: it ended without a result (QEMU: $ended, 137 is the time limit of $limit s or a kill)" >&2
if [ -s "$work/console" ]; then
    echo "lab: the end of its console:" >&2
    tail -c 4000 "$work/console" >&2
fi
exit 125
