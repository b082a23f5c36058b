#!/bin/sh
# Makes a fresh Debian tree the lab's host; a hook of image.sh.
#
#   usage: customize.sh TREE
set -eu
cd "$1"

# mask NAME...: units that only cost time in a machine that lives for a minute.
mask() {
    for name; do
        ln -sf /dev/null "etc/systemd/system/$name"
    done
}

# --- The kernel: that of the VMs, with its modules. Unpacked, never installed: the lab boots it
# with an initrd of its own. Fetched from outside, as inside names are resolved's affair by now.
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
meta=$(apt-cache show --no-all-versions linux-image-cloud-amd64)
kernel=$(printf '%s\n' "$meta" | sed -n 's/^Depends: \([^ ,]*\).*/\1/p')
(cd boot && apt-get -qq -o APT::Sandbox::User=root download "$kernel")
# /lib is a link, and stays one.
dpkg-deb --fsys-tarfile boot/*.deb | tar -x --keep-directory-symlink
rm boot/*.deb
unset APT_CONFIG
version=${kernel#linux-image-}
ln -f "boot/vmlinuz-$version" boot/vmlinuz
chroot . depmod "$version"

# --- The initrd: virtio on PCI, the disks, and on to the real root. ext4 is in the kernel.
mkdir -p boot/initrd/dev boot/initrd/root boot/initrd/bin boot/initrd/modules
cp bin/busybox boot/initrd/bin/
: >boot/initrd/modules/order
for module in virtio_pci virtio_blk; do
    chroot . modprobe --set-version "$version" --show-depends "$module" |
        while read -r _ path; do
            name=$(basename "$path")
            [ ! -e "boot/initrd/modules/$name" ] || continue
            cp ".$path" boot/initrd/modules/
            echo "$name" >>boot/initrd/modules/order
        done
done
cat >boot/initrd/init <<'EOF'
#!/bin/busybox sh
# Disks: the host, what is brought along, and (if there is one) the runtime directory.
export PATH=/bin
busybox mount -t devtmpfs none /dev
while read -r module; do busybox insmod "/modules/$module"; done </modules/order
busybox mount -t ext4 /dev/vda /root &&
    busybox mount -t ext4 -o ro /dev/vdb /root/lab || exec busybox poweroff -f
[ ! -b /dev/vdc ] || busybox mount -t ext4 -o ro /dev/vdc /root/lab/lib/banger
busybox mount --move /dev /root/dev
exec busybox switch_root /root /sbin/init
EOF
chmod 0755 boot/initrd/init
chroot . sh -c 'cd /boot/initrd && find . | busybox cpio -o -H newc >../initrd.cpio 2>/dev/null'
rm -r boot/initrd
mkdir -p lab

# --- A developer, who may use KVM and, with a password nobody has, nothing else.
chroot . useradd --create-home --uid 1000 --shell /bin/bash --groups kvm dev
echo 'd /run/user/1000 0700 dev dev' >etc/tmpfiles.d/lab.conf
# Who logs in later (a second user of the same machine) is a stranger to dev's files.
chroot . useradd --create-home --uid 1001 --shell /bin/bash --groups kvm eve
echo 'd /run/user/1001 0700 eve eve' >>etc/tmpfiles.d/lab.conf

# --- What the kernel of a workstation has loaded or loads by itself.
printf '%s\n' kvm-amd tun loop dm-snapshot bridge veth dummy nf_tables vhost_vsock virtio_console \
    >etc/modules-load.d/lab.conf

# --- Names through systemd-resolved, as NSS and as a stub.
sed -i 's/^hosts:.*/hosts: files resolve [!UNAVAIL=return] dns/' etc/nsswitch.conf
ln -sf ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf
printf '[Resolve]\nLLMNR=no\nMulticastDNS=no\nDNSSEC=no\nFallbackDNS=\n' >etc/systemd/resolved.conf

# --- What the lab is told to do, as soon as the system is up.
cat >etc/systemd/system/lab.service <<'EOF'
[Unit]
Description=What the lab is told to do
After=basic.target systemd-resolved.service systemd-modules-load.service
Wants=systemd-resolved.service

[Service]
ExecStart=/lab/start
# Monitors outlive who started them, here as in a login session.
KillMode=process
TasksMax=infinity
LimitCORE=0
EOF
mkdir -p etc/systemd/system/multi-user.target.wants
ln -s ../lab.service "etc/systemd/system/multi-user.target.wants/lab.service"
mask serial-getty@ttyS0.service getty@tty1.service getty.target apt-daily.timer \
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-logind.service systemd-random-seed.service
touch etc/.updated var/.updated
mkdir -p etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\n' >etc/systemd/journald.conf.d/lab.conf

echo lab >etc/hostname
printf '127.0.0.1\tlocalhost lab\n::1\t\tlocalhost\n' >etc/hosts
echo '# The root file system is mounted before systemd runs.' >etc/fstab
# Two labs are two machines, one lab booted twice is one.
echo 1ab01ab01ab01ab01ab01ab01ab01ab0 >etc/machine-id
rm -rf var/cache/apt/*.bin var/lib/apt/lists/*
