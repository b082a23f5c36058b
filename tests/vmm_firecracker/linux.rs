//! The real Firecracker with the real guest: the bundle's kernel, initrd and smallest image. Takes
//! a KVM that boots Linux, as the lab's.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use banger::{
    guest::{GuestParams, Marker, Scanner},
    host::{disk, facts},
    vmm::{Backend, Machine, MachineExit},
};

use crate::{
    Bench, Console, PATIENCE,
    common::{runtime_dir, skip},
    exit_of, real,
};

/// What a shell of the guest says when it can be typed to.
const PROMPT: &str = "# ";

/// Reads until the guest says this.
async fn marked(console: &mut Console, wanted: &Marker) {
    while !Scanner::new().feed(&console.text).contains(wanted) {
        console.more().await;
    }
}

async fn boot(bench: &Bench) -> (Box<dyn Machine>, Console) {
    let (machine, mut console) = real::start(bench).await;
    marked(&mut console, &Marker::SwitchRoot).await;
    console.read_until(PROMPT).await;
    (machine, console)
}

#[tokio::test]
async fn linux_boots_has_its_devices_and_ends_as_firecracker_lets_it() {
    let test = "linux::linux_boots_has_its_devices_and_ends_as_firecracker_lets_it";
    let skipped = |reason: &str| skip(&format!("vmm_firecracker::{test}"), reason);
    if let facts::KvmState::Unusable { reason } = facts::kvm(None) {
        return skipped(&format!("KVM is not usable: {reason}"));
    }
    let image = runtime_dir().join("images/tiny.img");
    if !image.exists() {
        return skipped(&format!("there is no {}", image.display()));
    }
    let Some(mut bench) = real::bench(test) else { return };
    std::fs::remove_file(&bench.spec.disks[0].path).expect("the file");
    disk::copy_image(&image, &bench.spec.disks[0].path).expect("a disk");
    let params = GuestParams::new("web".parse().expect("a name"));
    bench.spec.cmdline = params.compose(&bench.backend.kernel_cmdline()).expect("a line");
    bench.spec.kernel = runtime_dir().join("vmlinux");
    bench.spec.initrd = runtime_dir().join("initrd.cpio");
    bench.spec.vcpus = 1;
    bench.spec.memory_mib = 128;

    // Its devices have drivers; and who asks it to reboot ends the process.
    let (mut machine, mut console) = boot(&bench).await;
    console
        .to
        .write_all(b"ls -d /sys/bus/virtio/drivers/*/virtio*; echo that\\ is all\n")
        .expect("typed");
    console.read_until("that is all").await;
    let said = String::from_utf8_lossy(&console.text).into_owned();
    for driver in ["virtio_blk", "virtio_rng", "virtio_balloon", "vmw_vsock_virtio_transport"] {
        assert!(said.contains(&format!("drivers/{driver}/virtio")), "{driver}: {said}");
    }
    let begun = Instant::now();
    while machine.memory().await.expect("memory").total.is_none() {
        assert!(begun.elapsed() < PATIENCE, "the balloon says nothing of the guest");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let memory = machine.memory().await.expect("memory");
    assert!(memory.total.is_some_and(|total| total > 64 << 20), "{memory:?}");
    assert!(memory.available <= memory.total && memory.ballooned == 0, "{memory:?}");
    console.to.write_all(b"reboot\n").expect("typed");
    assert_eq!(exit_of(&mut machine).await, MachineExit::GuestReboot);
    drop(machine);

    // A power-off does not.
    let (mut machine, mut console) = boot(&bench).await;
    console.to.write_all(b"poweroff\n").expect("typed");
    marked(&mut console, &Marker::PowerDown).await;
    machine.signal(true).expect("signal");
    assert_eq!(exit_of(&mut machine).await, MachineExit::Asked);
    drop(machine);

    // The power button is Ctrl-Alt-Del, which this image answers with a power-off.
    let (mut machine, mut console) = boot(&bench).await;
    machine.power_button().await.expect("press");
    marked(&mut console, &Marker::PowerDown).await;
    machine.signal(true).expect("signal");
    assert_eq!(exit_of(&mut machine).await, MachineExit::Asked);
    drop(machine);
    bench.nothing_is_left();
}
