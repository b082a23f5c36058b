//! Pure readers and writers of the formats the bundle is made of.

pub(super) mod bzimage;
pub(super) mod elf;
pub(super) mod initrd;
