//! Base images and the disks made from them.
