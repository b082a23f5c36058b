#!/bin/sh
# Makes a fresh Debian tree the base image "debian"; a hook of debian.sh.
#
#   usage: debian-customize.sh TREE
#
# On an emulated CPU a process costs about a tenth of a second, and systemd starts forty of them
# before anyone can log in. Nothing is taken out of the system here: what the image cannot do
# anyway is not tried, what is needed now and then starts when it is needed, and the rest comes
# after SSH.
set -eu
tree=$1
cd "$tree"

# unit NAME: writes a unit or a part of one, from standard input.
unit() {
    mkdir -p "$(dirname "etc/systemd/system/$1")"
    cat >"etc/systemd/system/$1"
}
# mask DIRECTORY NAME...: hides files of the packages (systemd.unit(5), systemd.generator(7)).
mask() {
    directory=etc/systemd/$1
    shift
    mkdir -p "$directory"
    for name; do
        ln -sf /dev/null "$directory/$name"
    done
}

# --- SSH: by key only, and first ------------------------------------------------------------
rm -f etc/ssh/ssh_host_*
cat >etc/ssh/sshd_config.d/banger.conf <<'EOF'
# root's key is set at each start. Nobody has a password.
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
# The only one that is made at the first start: an RSA key takes seconds on an emulated CPU.
HostKey /etc/ssh/ssh_host_ed25519_key
EOF
# The package's own unit, but for what it waits for: the network is set up before systemd runs.
# A copy, as a part that is added could not take that away.
# On the disk before anybody is let in: whoever knows the key would not trust another one after a
# power cut, and ssh-keygen does not write over an empty file that one left.
key=/etc/ssh/ssh_host_ed25519_key
make_key="if ! test -s $key; then rm -f $key $key.pub; ssh-keygen -q -t ed25519 -N \\\\\"\\\\\" -f $key"
make_key="$make_key; sync $key $key.pub /etc/ssh; fi"
sed -e '/^After=/d' \
    -e 's|^\[Unit\]|&\nDefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target|' \
    -e 's|^\[Service\]|&\nStartupCPUWeight=10000|' \
    -e "s#^ExecStartPre=.*#ExecStartPre=/bin/sh -c \"$make_key\"#" \
    lib/systemd/system/ssh.service | unit ssh.service
# While the system starts, whoever logs in comes first.
printf '[Slice]\nStartupCPUWeight=1000\n' | unit system.slice.d/banger.conf
for late in systemd-udevd.service systemd-udev-trigger.service systemd-journal-flush.service \
    systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-sysctl.service \
    systemd-random-seed.service systemd-update-utmp.service systemd-remount-fs.service \
    dev-mqueue.mount sys-kernel-tracing.mount; do
    printf '[Unit]\nAfter=ssh.service\n' | unit "$late.d/banger.conf"
done

# --- What the image cannot do anyway --------------------------------------------------------
# The kernel is the host's affair: if it gave no modules there is nothing to load.
for loader in modprobe@.service systemd-modules-load.service; do
    printf '[Unit]\nConditionPathIsDirectory=/lib/modules/%%v\n' | unit "$loader.d/banger.conf"
done
mask system/sysinit.target.wants proc-sys-fs-binfmt_misc.automount
# One disk without partitions, no hibernation, no boot loader, no credentials of a hypervisor.
mask system-generators systemd-bless-boot-generator systemd-cryptsetup-generator \
    systemd-gpt-auto-generator systemd-hibernate-resume-generator \
    systemd-integritysetup-generator systemd-veritysetup-generator systemd-run-generator \
    systemd-system-update-generator

# --- What starts when it is needed ----------------------------------------------------------
mask system/multi-user.target.wants dbus.service systemd-logind.service \
    systemd-update-utmp-runlevel.service
mask system/graphical.target.wants systemd-update-utmp-runlevel.service
mask system/sysinit.target.wants dev-hugepages.mount sys-kernel-debug.mount
# Upkeep for machines that live for years.
mask system apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer
# Users and directories of the packages are there: nothing to catch up with at the first start.
touch etc/.updated var/.updated

# --- The console: it belongs to who runs the machine, so it needs no password ---------------
mask system-generators systemd-getty-generator
rm -f etc/systemd/system/getty.target.wants/getty@tty1.service
ln -s /lib/systemd/system/serial-getty@.service \
    etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service
unit serial-getty@ttyS0.service.d/banger.conf <<'EOF'
[Service]
Environment=TERM=xterm-256color
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - $TERM
EOF
cat >etc/profile.d/banger-console.sh <<'EOF'
# A serial console does not tell the size of the terminal; this asks it.
resize() {
    local saved row column
    saved=$(stty -g) || return
    stty raw -echo min 0 time 10
    printf '\0337\033[999;999H\033[6n\0338'
    IFS='[;' read -r -d R _ row column
    stty "$saved"
    [ -n "$column" ] && stty rows "$row" cols "$column"
}
EOF

# --- No identity, and no trace of how it was built: each machine gets its own ---------------
rm -f etc/hostname etc/resolv.conf var/lib/dbus/machine-id
: >etc/machine-id
printf '127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n' >etc/hosts
echo '# The root file system is mounted before systemd runs.' >etc/fstab
echo LANG=C.UTF-8 >etc/default/locale
# What is installed later comes with its manual pages.
rm -f etc/dpkg/dpkg.cfg.d/99mmdebstrap
