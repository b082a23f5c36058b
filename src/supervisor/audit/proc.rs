//! What `/proc` tells: processes of ours, mounts, ports, settings.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::{Role, Thing};
use crate::domain::{Layout, VmId};

/// Processes that were started for VMs of this home, whoever started them.
pub fn processes(layout: &Layout, things: &mut BTreeSet<Thing>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may end meanwhile.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        if let Some((vm, role)) = recognise(&words, layout) {
            things.insert(Thing::Process { pid, vm, role });
        }
    }
}

/// Whose a process is, by its command line. Programs that only look at our files - an editor, a
/// `tail` - have our paths among their arguments, too: so it must be one of those that we start.
fn recognise(words: &[&[u8]], layout: &Layout) -> Option<(VmId, Role)> {
    let program = Path::new(OsStr::from_bytes(words.first()?)).file_name()?.to_str()?;
    let run = layout.run.as_os_str().as_bytes();
    if words.get(1) == Some(&b"monitor".as_slice()) {
        let vm = std::str::from_utf8(words.get(2)?).ok()?.parse().ok()?;
        let ours = words.windows(2).any(|pair| pair[0] == b"--run" && pair[1] == run);
        return ours.then_some((vm, Role::Monitor));
    }
    let runs_vms = ["qemu-system-", "firecracker", "jailer"];
    if !runs_vms.iter().any(|start| program.starts_with(start)) {
        return None;
    }
    words.iter().find_map(|word| {
        let at = word.windows(run.len()).position(|part| part == run)?;
        // Where a path begins: the directory of another home may end in the name of ours.
        let begins = at == 0 || matches!(word[at - 1], b'=' | b':' | b',');
        let rest = word[at + run.len()..].strip_prefix(b"/").filter(|_| begins)?;
        let id = rest.split(|byte| *byte == b'/').next()?;
        Some((std::str::from_utf8(id).ok()?.parse().ok()?, Role::Vmm))
    })
}

/// Mounts below the directories of VMs.
pub fn mounts(layout: &Layout, things: &mut BTreeSet<Thing>) {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    things.extend(mounts_in(&table, layout).into_iter().map(Thing::Mount));
}

fn mounts_in(table: &[u8], layout: &Layout) -> Vec<PathBuf> {
    let vms = layout.state.join("vms");
    let below_a_vm = |path: &PathBuf| {
        [&vms, &layout.run].into_iter().any(|dir| {
            let id = path.strip_prefix(dir).ok().and_then(|rest| rest.iter().next()?.to_str());
            id.is_some_and(|id| id.parse::<VmId>().is_ok())
        })
    };
    // Field 5 is the mount point (proc(5)).
    let points = table.split(|b| *b == b'\n').filter_map(|l| l.split(|b| *b == b' ').nth(4));
    points.map(|field| PathBuf::from(unescaped(field))).filter(below_a_vm).collect()
}

/// Blanks and the like are written as `\040`.
fn unescaped(field: &[u8]) -> OsString {
    let mut text = Vec::new();
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(code) => {
                text.push(code);
                rest = &after[3..];
            }
            None => {
                text.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(text)
}

/// Ports of this host on which TCP listens, for IPv4.
pub fn ports() -> BTreeSet<u16> {
    ports_in(&fs::read_to_string("/proc/net/tcp").unwrap_or_default())
}

fn ports_in(table: &str) -> BTreeSet<u16> {
    // `sl local_address rem_address st …`, addresses as HEX:HEX; 0A is TCP_LISTEN.
    let listens = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
        let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
        (state == "0A").then_some(port)
    };
    table.lines().filter_map(listens).collect()
}

/// Whether the kernel forwards IPv4.
pub fn forwarding() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout { state: "/s".into(), run: "/r/banger".into() }
    }

    fn role(line: &str) -> Option<(VmId, Role)> {
        recognise(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>(), &layout())
    }

    #[test]
    fn only_what_we_start_is_ours() {
        let vm = VmId::from_bytes([10, 27, 44, 61]);
        let monitor = format!("/usr/bin/banger monitor {vm} --state /s --run /r/banger --vmm x");
        assert_eq!(role(&monitor), Some((vm.clone(), Role::Monitor)));
        let qemu = format!("qemu-system-x86_64 -qmp unix:/r/banger/{vm}/vmm.sock,server=on");
        assert_eq!(role(&qemu), Some((vm.clone(), Role::Vmm)));
        let firecracker = format!("/firecracker --api-sock /r/banger/{vm}/vmm.sock");
        assert_eq!(role(&firecracker), Some((vm.clone(), Role::Vmm)));
        for other in [
            format!("banger monitor {vm} --run /elsewhere/banger"),
            format!("tail -f /r/banger/{vm}/log"),
            "qemu-system-x86_64 -qmp unix:/r/banger/none/vmm.sock".to_owned(),
            format!("qemu-system-x86_64 -qmp unix:/home/r/banger/{vm}/vmm.sock"),
            format!("qemu-system-x86_64 -qmp unix:/r/banger2/{vm}/vmm.sock"),
            String::new(),
        ] {
            assert_eq!(role(&other), None, "{other}");
        }
    }

    #[test]
    fn mounts_of_vms_are_seen_and_the_users_own_are_not() {
        let table = b"22 1 0:20 / / rw - ext4 /dev/vda rw\n\
            30 22 0:30 / /s/vms rw - btrfs /dev/vdb rw\n\
            31 22 0:31 / /r/banger rw - tmpfs t rw\n\
            32 22 0:32 / /s/vms/0a1b2c3d/a\\040b rw - ext4 /dev/loop0 rw\n\
            33 22 0:33 / /r/banger/0a1b2c3d/jail rw - tmpfs t rw\n";
        let found = mounts_in(table, &layout());
        let wanted = ["/s/vms/0a1b2c3d/a b", "/r/banger/0a1b2c3d/jail"].map(PathBuf::from);
        assert_eq!(found, wanted);
    }

    #[test]
    fn listening_ports_are_read() {
        let table = "  sl  local_address rem_address   st\n\
               0: 0100007F:9C56 00000000:0000 0A 00000000:00000000 00:00000000\n\
               1: 0100007F:1F90 0100007F:9C56 01 00000000:00000000 00:00000000\n";
        assert_eq!(ports_in(table), BTreeSet::from([40_022]));
    }
}
