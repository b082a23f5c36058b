#!/bin/sh
# Builds the lab's host: a Debian 12 workstation with systemd, KVM, device-mapper and QEMU.
#
#   usage: image.sh DIRECTORY
#
#   DIRECTORY  where host.ext4, vmlinuz and initrd.cpio are put; they appear together or not at all
#
# The packages come from where this machine's apt gets its own. Runs as root, or as a user with
# user namespaces and a range of ids in /etc/subuid. Needs about 1.5 GiB while it works, 0.7 GiB
# afterwards, and a minute or two.
set -eu
export LC_ALL=C
umask 022

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/image/lib.sh
. "$here/../image/lib.sh"

[ $# = 1 ] || fail "usage: image.sh DIRECTORY"
need mmdebstrap mke2fs tar apt-get unshare
output=$1
work_directory "$output"

# What a developer's workstation has, and what banger may use of it.
packages=systemd,systemd-sysv,udev,dbus,kmod,busybox-static,procps,iproute2,iputils-ping
packages=$packages,nftables,iptables,dmsetup,e2fsprogs,openssh-client,sudo,ca-certificates
packages=$packages,systemd-resolved,libnss-resolve,bind9-dnsutils,qemu-system-x86

step "packages"
debian_tar bookworm "$packages" "$(cat "$here/customize.sh")" "$work/tree.tar"

step "file system"
# Sparse; room for the disks of many VMs.
make_ext4_of_tar "$work/tree.tar" 8192 "$work/host.ext4"
for file in vmlinuz initrd.cpio; do
    tar -C "$work" -xf "$work/tree.tar" "./boot/$file"
    mv "$work/boot/$file" "$work/$file"
done
mkdir "$work/done"
mv "$work/host.ext4" "$work/vmlinuz" "$work/initrd.cpio" "$work/done/"
chmod 0755 "$work/done"
mv -T "$work/done" "$output"
step "made $output"
