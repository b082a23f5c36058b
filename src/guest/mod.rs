//! What runs inside the guest, and what it is told.
//!
//! # The kernel command line
//!
//! `<the VMM's part> <the guest's part>`: the first is `vmm::Backend::kernel_cmdline` (console,
//! clock, what the machine model needs), the second [`GuestParams::to_cmdline`]. Compose them
//! with [`GuestParams::compose`], which refuses a line that the kernel would cut off. The init
//! reads all of it back from `/proc/cmdline` with [`GuestParams::parse`].
//!
//! # What the console says
//!
//! The init and its helper print [`Marker`]s on the console as they go; the host finds them, and
//! the kernel's last words, with a [`Scanner`].
//!
//! # The initrd
//!
//! A `newc` cpio archive, with nothing but this in it:
//!
//! | path | what |
//! |---|---|
//! | `/init` | the program `banger-init`, static, mode 0755 |
//! | `/modules/order` | names of files in `/modules`, one a line, in the order they are loaded |
//! | `/modules/*.ko` | the kernel modules [`MODULES`], uncompressed |
//!
//! A VM with more keys than the user's own has an initrd of its own with one more file, as a
//! kernel command line has no room for many:
//!
//! | path | what |
//! |---|---|
//! | `/keys` | lines of `authorized_keys` without options |
//!
//! The init makes the directories it needs itself.

pub mod init;
pub mod markers;
pub mod params;

pub use markers::{Marker, Scanner};
pub use params::{
    AuthorizedKey, CMDLINE_MAX, CmdlineTooLong, GuestNetwork, GuestParams, Ipv4Cidr, ParamProblem,
    RootFs, UnitName,
};

/// Where the initrd has keys beside that of the command line.
pub const KEYS_FILE: &str = "/keys";

/// The kernel modules of the initrd in the order they are loaded, each after those it needs;
/// paths below `/lib/modules/<version>/kernel` of Debian's cloud kernel.
///
/// The disk and the network of a microVM, which no boot can do without ([`NEEDED_MODULES`]); then
/// what makes the power button heard; then what else Firecracker has: a source of entropy, a
/// balloon that tells the host of the guest's memory, and a vsock. An image has no modules of its
/// own for this kernel, so whoever uses it finds here what there is.
pub const MODULES: &[&str] = &[
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_mmio.ko",
    "drivers/block/virtio_blk.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
    "drivers/acpi/button.ko",
    "drivers/input/evdev.ko",
    "drivers/char/hw_random/virtio-rng.ko",
    "drivers/virtio/virtio_balloon.ko",
    "net/vmw_vsock/vsock.ko",
    "net/vmw_vsock/vmw_vsock_virtio_transport_common.ko",
    "net/vmw_vsock/vmw_vsock_virtio_transport.ko",
];

/// How many of [`MODULES`], from the first on, must load. Without one of the others the machine
/// lacks something, and boots.
pub const NEEDED_MODULES: usize = 7;
