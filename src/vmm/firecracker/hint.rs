//! What to do when Firecracker says no: its words name the cause in its own terms.

use crate::vmm::VmmError;

/// A part of what Firecracker says (1.16.1; the recorded answers among the tests' fixtures), and
/// what to do then.
const HINTS: &[(&str, &str)] = &[
    (
        "failed to load ELF kernel image",
        "the kernel must be an uncompressed vmlinux: `banger runtime bootstrap` makes one",
    ),
    (
        "kernel file cannot be opened",
        "`banger runtime verify` tells what the runtime directory lacks",
    ),
    (
        "initrd file cannot be opened",
        "`banger runtime verify` tells what the runtime directory lacks",
    ),
    ("Error manipulating the backing file", "`banger doctor` checks the disks of all VMs"),
    ("Resource busy", "another process has this TAP; `banger doctor` lists what was left behind"),
    (
        "Open tap device failed",
        "/dev/net/tun must be there, and the TAP must belong to whoever runs the VM: see `banger \
         doctor`",
    ),
    (
        "unknown field",
        "this Firecracker is not one of the versions that banger knows: `banger doctor`",
    ),
    ("number of vCPUs", "make the VM with 1 to 32 vCPUs"),
    ("Cannot allocate memory", "give the VM less memory, or stop another one"),
    ("guest memory", "give the VM less memory, or stop another one"),
    (
        "kvm",
        "Firecracker needs KVM: `banger doctor` tells why it cannot be used; QEMU does without",
    ),
    ("not supported after starting", "it is started once only: stop the VM and start it again"),
];

/// The same error, with what to do about it if that is known.
pub(super) fn explain(error: VmmError) -> VmmError {
    match error {
        VmmError::Refused { command, message } => {
            let message = with_hint(&message);
            VmmError::Refused { command, message }
        }
        VmmError::EarlyExit { program, stderr } => {
            let stderr = with_hint(&stderr);
            VmmError::EarlyExit { program, stderr }
        }
        other => other,
    }
}

fn with_hint(message: &str) -> String {
    let lower = message.to_lowercase();
    let known = HINTS.iter().find(|(words, _)| lower.contains(&words.to_lowercase()));
    match known {
        // Its sentences end in a dot, or do not.
        Some((_, hint)) => format!("{}; {hint}", message.trim_end().trim_end_matches('.')),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(message: &str) -> String {
        let (command, message) = ("the kernel /k".to_owned(), message.to_owned());
        explain(VmmError::Refused { command, message }).to_string()
    }

    #[test]
    fn what_is_known_comes_with_what_to_do() {
        // Recorded from 1.16.1.
        for (message, what_to_do) in [
            (
                "Start microvm error: System configuration error: Cannot load kernel due to \
                 invalid memory configuration or invalid kernel image: Kernel Loader: failed to \
                 load ELF kernel image: Kernel Loader: Invalid Elf magic number",
                "uncompressed vmlinux",
            ),
            (
                "Start microvm error: Kvm error: The host kernel reports an invalid KVM API \
                 version: -1",
                "QEMU does without",
            ),
            (
                "Start microvm error: Invalid Memory Configuration: Cannot create mmap region: \
                 Cannot allocate memory (os error 12)",
                "less memory",
            ),
            (
                "Boot source error: The initrd file cannot be opened due to invalid path or \
                 invalid permissions. No such file or directory (os error 2)",
                "runtime verify",
            ),
            (
                "Machine config error: The number of vCPUs must be greater than 0, less than 32 \
                 and must be 1 or an even number if SMT is enabled.",
                "enabled; make the VM with 1 to 32 vCPUs",
            ),
        ] {
            let text = explained(message);
            assert!(text.starts_with("the kernel /k failed: "), "{text}");
            assert!(text.contains(what_to_do), "{text}");
        }
        assert_eq!(explained("no idea."), "the kernel /k failed: no idea.");
        let stderr = "Error: Kvm(Error(13))".to_owned();
        let early = explain(VmmError::EarlyExit { program: "f".to_owned(), stderr }).to_string();
        assert!(early.contains("banger doctor"), "{early}");
    }
}
