//! Pure readers and writers of the formats the bundle is made of.

pub mod bzimage;
pub mod elf;
pub mod initrd;
