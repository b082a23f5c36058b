//! QEMU's command line and the kernel's, as measured to boot fastest and reliably.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use super::Accel;
use crate::vmm::{MachineSpec, Nic, mac_text};

/// The arguments for a machine. The console is on standard input and output.
pub(super) fn arguments(accel: Accel, spec: &MachineSpec) -> Vec<OsString> {
    let mut line = Vec::<OsString>::new();
    let mut add = |name: &str, value: OsString| line.extend([OsString::from(name), value]);

    add("-name", format!("banger-{}", spec.vm).into());
    // With KVM there would be no clock chip, and a kernel looks for one twice, for a second each
    // (mc146818_avoid_UIP in Linux 6.1): 20 000 port accesses before its first process.
    add("-machine", "microvm,rtc=on".into());
    let (accel, cpu) = match accel {
        Accel::Kvm => ("kvm", "host"),
        // Older CPU models make a guest wait 2 s for entropy. What has erms or fsrm, copies and
        // clears by `rep movsb` and `rep stosb`, which are emulated byte by byte: 5 times as long and
        // more.
        Accel::Tcg => ("tcg", "max,-erms,-fsrm"),
    };
    add("-accel", accel.into());
    add("-cpu", cpu.into());
    add("-smp", spec.vcpus.to_string().into());
    add("-m", format!("{}M", spec.memory_mib).into());
    line.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
    let mut add = |name: &str, value: OsString| line.extend([OsString::from(name), value]);
    add("-display", "none".into());

    // signal=off: a Ctrl-C that is typed is the guest's.
    add("-chardev", "stdio,id=console,signal=off".into());
    add("-serial", "chardev:console".into());
    let socket = [OsStr::new("socket,id=qmp,server=on,wait=off,path="), &escape(&spec.socket)];
    add("-chardev", join(&socket));
    add("-mon", "chardev=qmp,mode=control".into());

    add("-kernel", spec.kernel.clone().into());
    add("-initrd", spec.initrd.clone().into());
    add("-append", spec.cmdline.clone().into());
    for (n, disk) in spec.disks.iter().enumerate() {
        let read_only = if disk.read_only { "on" } else { "off" };
        let options = format!("id=disk{n},if=none,format=raw,readonly={read_only},file=");
        add("-drive", join(&[OsStr::new(&options), &escape(&disk.path)]));
        add("-device", format!("virtio-blk-device,drive=disk{n}").into());
    }
    for (n, nic) in spec.nics.iter().enumerate() {
        let mac = match nic {
            Nic::User { forwards } => {
                let mut options = format!("user,id=net{n}");
                for forward in forwards {
                    let (host, guest) = (forward.host_port, forward.guest_port);
                    // Writing to a String does not fail.
                    let _ = write!(options, ",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
                }
                add("-netdev", options.into());
                String::new()
            }
            Nic::Tap { device, mac } => {
                // It is there already, and on its bridge: nothing is to be run for it.
                let options = format!("tap,id=net{n},script=no,downscript=no,ifname=");
                add("-netdev", join(&[OsStr::new(&options), &escape(device)]));
                format!(",mac={}", mac_text(*mac))
            }
        };
        // status=off: the link is up from the start, nothing to negotiate.
        add("-device", format!("virtio-net-device,netdev=net{n},status=off{mac}").into());
    }
    line
}

/// What the guest's kernel is told because it runs on this machine.
pub(super) fn kernel(accel: Accel, tsc_khz: Option<u32>) -> String {
    // A panic ends in a reboot, which ends the VMM: nothing hangs unseen. reboot=t is the way
    // (triple fault) that every x86 machine has. At level 3 the console shows errors of the
    // kernel and its last words, and not that this machine has no PCI bus. That the kernel tries
    // each of its ciphers at each boot was a fifth of the time until it runs its init.
    let mut line = "console=ttyS0 quiet loglevel=3 reboot=t panic=-1 8250.nr_uarts=1 \
                    cryptomgr.notests"
        .to_owned();
    if accel == Accel::Tcg {
        if let Some(khz) = tsc_khz {
            // Without it 4 of 18 boots hung in the kernel's own calibration, with it 0 of 154.
            let _ = write!(line, " tsc_early_khz={khz} tsc=reliable");
        }
        // Emulated, all of these only cost time. Above all norandmaps: a program that lies where it
        // lay before need not be translated again.
        line.push_str(
            " no_timer_check random.trust_cpu=on raid=noautodetect nokaslr norandmaps \
             mitigations=off init_on_alloc=0 security=none audit=0 initcall_blacklist=init_kprobe_trace",
        );
    }
    line
}

/// A value of a QEMU option: commas doubled (QemuOpts, `util/qemu-option.c`).
fn escape(value: impl AsRef<OsStr>) -> OsString {
    let mut escaped = Vec::new();
    for byte in value.as_ref().as_bytes() {
        escaped.push(*byte);
        if *byte == b',' {
            escaped.push(b',');
        }
    }
    OsString::from_vec(escaped)
}

fn join(parts: &[&OsStr]) -> OsString {
    let mut all = OsString::new();
    all.extend(parts.iter().copied());
    all
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        domain::VmId,
        vmm::{Disk, Forward},
    };

    fn spec() -> MachineSpec {
        MachineSpec {
            vm: VmId::from_bytes([0, 1, 2, 3]),
            vcpus: 2,
            memory_mib: 512,
            kernel: "/rt/vmlinux".into(),
            initrd: "/rt/initrd".into(),
            cmdline: "console=ttyS0 root=/dev/vda".to_owned(),
            disks: vec![
                Disk { path: "/vms/a,b/root.img".into(), read_only: false },
                Disk { path: "/dev/loop7".into(), read_only: true },
            ],
            nics: vec![Nic::User {
                forwards: vec![
                    Forward { host_port: 40_000, guest_port: 22 },
                    Forward { host_port: 40_001, guest_port: 80 },
                ],
            }],
            socket: "/run/x/vmm.sock".into(),
        }
    }

    fn text(accel: Accel, spec: &MachineSpec) -> String {
        let line = arguments(accel, spec);
        line.iter().map(|a| a.to_str().expect("UTF-8")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_whole_line() {
        assert_eq!(
            text(Accel::Tcg, &spec()),
            "-name banger-00010203 -machine microvm,rtc=on -accel tcg -cpu max,-erms,-fsrm -smp 2 -m 512M \
             -nodefaults -no-user-config -no-reboot -display none -chardev stdio,id=console,signal=off -serial \
             chardev:console -chardev socket,id=qmp,server=on,wait=off,path=/run/x/vmm.sock -mon \
             chardev=qmp,mode=control -kernel /rt/vmlinux -initrd /rt/initrd -append console=ttyS0 \
             root=/dev/vda -drive id=disk0,if=none,format=raw,readonly=off,file=/vms/a,,b/root.img \
             -device virtio-blk-device,drive=disk0 -drive \
             id=disk1,if=none,format=raw,readonly=on,file=/dev/loop7 -device \
             virtio-blk-device,drive=disk1 -netdev \
             user,id=net0,hostfwd=tcp:127.0.0.1:40000-:22,hostfwd=tcp:127.0.0.1:40001-:80 -device \
             virtio-net-device,netdev=net0,status=off"
        );
        assert!(text(Accel::Kvm, &spec()).contains("-accel kvm -cpu host"));
    }

    #[test]
    fn a_tap_is_named_and_has_the_guests_address() {
        let tap = Nic::Tap { device: "bang,0".to_owned(), mac: [2, 0, 0x5e, 0x10, 0, 0xff] };
        let line = text(Accel::Kvm, &MachineSpec { nics: vec![tap], ..spec() });
        let end = " -netdev tap,id=net0,script=no,downscript=no,ifname=bang,,0 -device \
                   virtio-net-device,netdev=net0,status=off,mac=02:00:5e:10:00:ff";
        assert!(line.ends_with(end), "{line}");
    }

    #[test]
    fn a_path_need_not_be_text() {
        let path = PathBuf::from(OsString::from_vec(b"/vms/\xff,/r.img".to_vec()));
        let spec = MachineSpec { disks: vec![Disk { path, read_only: false }], ..spec() };
        let line = arguments(Accel::Tcg, &spec);
        let found = line.iter().any(|a| a.as_bytes().ends_with(b"file=/vms/\xff,,/r.img"));
        assert!(found, "{line:?}");
    }

    #[test]
    fn only_an_emulated_cpu_is_told_to_hurry() {
        let tcg = kernel(Accel::Tcg, Some(2_100_000));
        assert!(tcg.starts_with("console=ttyS0 quiet"));
        assert!(
            tcg.contains(" tsc_early_khz=2100000 tsc=reliable ") && tcg.contains(" norandmaps ")
        );
        assert!(!kernel(Accel::Tcg, None).contains("tsc"));
        let kvm = kernel(Accel::Kvm, Some(2_100_000));
        assert!(!kvm.contains("tsc") && !kvm.contains("norandmaps"), "{kvm}");
    }
}
