//! `banger ls`.

use std::{
    io::{self, Write},
    time::Duration,
};

use unicode_width::UnicodeWidthStr;

use super::{
    args::Ls,
    client::Client,
    exit::{self, Failure, Outcome},
    json, out,
};
use crate::domain::{BundleView, ByteSize, Fleet, Outdated, UnixMs, VmView, outdated};

/// How long `--json` waits for what is to be known of the host.
const HOST_PATIENCE: Duration = Duration::from_secs(3);

/// Lists the VMs.
///
/// # Errors
/// When the state cannot be read or the output not be written.
pub fn run(ls: &Ls, client: &mut Client) -> Outcome {
    let now = super::now();
    if ls.json {
        client.loaded()?;
        // The host is looked at meanwhile; what cannot be found out must not hold up the rest.
        let (fleet, _) = client.wait_within(HOST_PATIENCE, |fleet| {
            let host = &fleet.host;
            host.bundle != BundleView::Unknown && host.vmm.is_some() && host.cpus > 0
        })?;
        let list = serde_json::to_string_pretty(&json::List::of(&fleet, now))
            .map_err(|e| Failure::from(io::Error::from(e)))?;
        out::line(list)?;
        tell_unheard(&fleet);
        return Ok(exit::OK);
    }
    let fleet = client.loaded()?;
    if fleet.vms.is_empty() {
        out::progress("no VMs yet: `banger create NAME --start` makes one");
        return Ok(exit::OK);
    }
    let mut stdout = io::stdout().lock();
    for row in layout(&rows(&fleet, now)) {
        writeln!(stdout, "{}", out::printable(&row))?;
    }
    stdout.flush()?;
    drop(stdout);
    for vm in &fleet.vms {
        if let Some(why) = trouble(vm) {
            out::progress(&format!("{}: {why}", vm.spec.name));
        }
        if let Some(why) = outdated_vm(vm, &fleet) {
            out::progress(&format!("{}*: {why}", vm.spec.name));
        }
    }
    tell_unheard(&fleet);
    Ok(exit::OK)
}

/// Says of which VMs more is not known, although they are up.
fn tell_unheard(fleet: &Fleet) {
    for vm in fleet.vms.iter().filter(|vm| unheard(vm)) {
        let name = &vm.spec.name;
        out::progress(&format!(
            "{name}: its monitor does not answer, so its state may be another; look again, and if \
             that does not help: `banger kill {name}`"
        ));
    }
}

/// Whether its monitor, which is there, has not said anything.
fn unheard(vm: &VmView) -> bool {
    vm.phase.is_up() && vm.vmm.is_none()
}

const COLUMNS: usize = 9;
const HEADER: [&str; COLUMNS] =
    ["NAME", "STATE", "ADDRESS", "NETWORK", "IMAGE", "VCPUS", "MEMORY", "DISK", "UPTIME"];

fn rows(fleet: &Fleet, now: UnixMs) -> Vec<[String; COLUMNS]> {
    let dash = || "-".to_owned();
    let row = |vm: &VmView| {
        let disk = disk_bytes(vm, fleet).map(|bytes| ByteSize(bytes).to_string());
        [
            vm.spec.name.to_string(),
            vm.phase.word().to_owned(),
            address(vm).unwrap_or_else(dash),
            vm.network.map_or_else(dash, |network| network.word().to_owned()),
            image(vm, fleet),
            vm.spec.vcpus.to_string(),
            ByteSize(vm.spec.memory_mib << 20).to_string(),
            match (vm.disk_used, disk) {
                (Some(used), Some(size)) => format!("{} of {size}", ByteSize(used)),
                (Some(used), None) => ByteSize(used).to_string(),
                (None, Some(size)) => size,
                (None, None) => dash(),
            },
            vm.uptime(now).map_or_else(dash, duration),
        ]
    };
    let header = HEADER.map(str::to_owned);
    std::iter::once(header).chain(fleet.vms.iter().map(|vm| row(vm))).collect()
}

/// Where the host finds a VM: by its name, its own address, or a port of the host's.
fn address(vm: &VmView) -> Option<String> {
    let own = || vm.address.map(|address| address.to_string());
    let forwarded = || vm.ssh.as_ref().map(|ssh| format!("{}:{}", ssh.host, ssh.port));
    vm.dns_name.clone().or_else(own).or_else(forwarded)
}

/// A VM's image; with an asterisk if its disk is not what would be made of it now.
fn image(vm: &VmView, fleet: &Fleet) -> String {
    let mark = if outdated_vm(vm, fleet).is_some() { "*" } else { "" };
    format!("{}{mark}", vm.spec.image)
}

/// Why a VM's disk is not what would be made for it now.
pub(super) fn outdated_vm(vm: &VmView, fleet: &Fleet) -> Option<Outdated> {
    outdated(&fleet.images, &vm.spec.image, vm.made_from.as_deref())
}

/// The size of a VM's disk in bytes: its own, else its image's, if that is still known.
pub(super) fn disk_bytes(vm: &VmView, fleet: &Fleet) -> Option<u64> {
    let of_image = || fleet.images.iter().find(|i| i.name == vm.spec.image).map(|i| i.size);
    vm.spec.disk_mib.map(|mib| mib << 20).or_else(of_image)
}

/// Columns two spaces apart, as wide as their widest cell.
pub(super) fn layout<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |row: &[String; N]| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        line.truncate(line.trim_end().len());
        line
    };
    rows.iter().map(line).collect()
}

/// What a user should know of a VM beyond its row.
fn trouble(vm: &VmView) -> Option<String> {
    if let Some(problem) = &vm.problem {
        return Some(problem.to_string());
    }
    let exit = vm.last_exit.as_ref().filter(|exit| !exit.reason.is_clean())?;
    (!vm.phase.is_up()).then(|| exit.reason.sentence())
}

/// Milliseconds as the two largest units: `3d 4h`, `12m 5s`, `7s`.
pub(super) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::testing::{fleet, vm},
        domain::{ExitReason, ExitRecord, ImageView, NetworkKind, Phase, SshEndpoint, VmmKind},
    };

    #[test]
    fn a_vm_whose_monitor_is_silent_is_told_from_one_that_is_known() {
        let off = vm("web");
        assert!(!unheard(&off));
        let silent = VmView { phase: Phase::Starting, vmm: None, ..off };
        assert!(unheard(&silent));
        assert!(!unheard(&VmView { vmm: Some(VmmKind::QemuKvm), ..silent }));
    }

    #[test]
    fn a_table() {
        let mut up = vm("web");
        up.phase = Phase::Running;
        up.up_since = Some(up.since);
        up.ssh = Some(SshEndpoint { host: "127.0.0.1".into(), port: 40022 });
        up.network = Some(NetworkKind::User);
        let mut bridged = vm("zoo");
        bridged.phase = Phase::Paused;
        bridged.up_since = Some(bridged.since);
        bridged.ssh = Some(SshEndpoint { host: "172.30.4.2".into(), port: 22 });
        bridged.network = Some(NetworkKind::Tap);
        bridged.address = Some([172, 30, 4, 2].into());
        let mut off = vm("a-long-name");
        off.spec.disk_mib = Some(4096);
        off.disk_used = None;
        let mut named = bridged.clone();
        named.dns_name = Some("zoo.vm".into());
        assert_eq!(address(&named).as_deref(), Some("zoo.vm"));
        let mut fleet = fleet([off, up, bridged]);
        fleet.images.push(ImageView {
            name: "tiny".into(),
            about: "small".into(),
            size: 64 << 20,
            default_memory_mib: 128,
            ..ImageView::default()
        });
        let lines = layout(&rows(&fleet, UnixMs(65_000)));
        assert_eq!(
            lines,
            [
                "NAME         STATE    ADDRESS          NETWORK  IMAGE  VCPUS  MEMORY   DISK             UPTIME",
                "a-long-name  stopped  -                -        tiny   1      128 MiB  4 GiB            -",
                "web          running  127.0.0.1:40022  user     tiny   1      128 MiB  3 MiB of 64 MiB  1m 3s",
                "zoo          paused   172.30.4.2       tap      tiny   1      128 MiB  3 MiB of 64 MiB  1m 3s",
            ]
        );
    }

    #[test]
    fn durations_have_two_units() {
        let shown = [0, 59_999, 60_000, 3_599_000, 7_260_000, 93_600_000].map(duration);
        assert_eq!(shown, ["0s", "59s", "1m 0s", "59m 59s", "2h 1m", "1d 2h"]);
    }

    #[test]
    fn a_crash_is_told_until_the_vm_is_up_again() {
        let mut vm = vm("web");
        vm.last_exit = Some(ExitRecord { at: UnixMs(1), reason: ExitReason::GuestPanic });
        assert_eq!(trouble(&vm).as_deref(), Some("the guest's kernel panicked"));
        vm.phase = Phase::Running;
        assert_eq!(trouble(&vm), None);
    }
}
