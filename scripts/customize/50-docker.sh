#!/bin/sh
# Sets Docker Engine up, from Debian's packages, which 20-packages.sh has installed.
#
#   usage: ROOT=DIRECTORY WORK=DIRECTORY 50-docker.sh
#
# The kernel's modules are not in the image: a VM gets those of its kernel at each start.
set -eu
# shellcheck source=scripts/customize/lib.sh
. "$(dirname "$0")/lib.sh"

command -v dockerd >/dev/null || fail "the package docker.io is not installed"
command -v iptables >/dev/null || fail "the package iptables is not installed"
command -v modprobe >/dev/null || fail "the package kmod is not installed"

mkdir -p /etc/docker /etc/modules-load.d
# The guest's disk is an ext4 of its own: overlay2 works on it, and is the fastest. A log that
# grows without end would fill it.
[ -e /etc/docker/daemon.json ] || cat >/etc/docker/daemon.json <<'EOF'
{
    "storage-driver": "overlay2",
    "log-driver": "json-file",
    "log-opts": { "max-size": "10m", "max-file": "3" },
    "live-restore": false
}
EOF
# What Docker's bridge and NAT need, and what the kernel would not load by itself in time.
cat >/etc/modules-load.d/banger-docker.conf <<'EOF'
overlay
bridge
br_netfilter
veth
nf_nat
nft_compat
xt_addrtype
xt_conntrack
xt_MASQUERADE
EOF
if command -v systemctl >/dev/null; then
    systemctl enable containerd.service docker.service
fi
