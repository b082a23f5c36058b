//! A guest of 143 bytes: enough of a kernel to test a VMM with, in a tenth of a second and
//! without anything to download.
//!
//! It says `ready`, echoes its serial port, and obeys some letters:
//! `p` powers off, `r` resets, `t` faults three times, `i` lets it ignore the power button.
//! Everything else, and `i`, `r` and `t` before they are obeyed, is only echoed.

use std::{fs, io, path::Path};

/// Where it is loaded and entered, with paging off (PVH boot protocol).
const LOAD: u64 = 0x10_0000;

/// Where its code lies in the file.
const CODE_AT: usize = 256;

/// ```text
/// start: mov  $0x110000, %esp
///        mov  $0x3fd, %edx          # line status register of the first serial port
///        xor  %edi, %edi            # whether to ignore the power button
///        lea  ready, %esi
/// print: lodsb; test %al, %al; jz poll; call put; jmp print
/// poll:  pause
///        mov  0xfea00000, %eax      # generic event device: what happened, cleared by reading
///        test $2, %al; jz input     # the power button
///        test %edi, %edi; jnz input
/// off:   movb $0x34, 0xfea00200     # sleep control register: S5, now
///        jmp  poll
/// input: in   %dx, %al; test $1, %al; jz poll
///        mov  $0x3f8, %edx; in %dx, %al; mov $0x3fd, %edx
///        cmp  $'p', %al; je off
///        cmp  $'i', %al; jne 1f; inc %edi
///     1: cmp  $'t', %al; jne 2f; lidt none; int3
///     2: cmp  $'r', %al; jne 3f; movb $0x42, 0xfea00202  # reset register
///     3: call put; jmp poll
/// put:   push %eax
///     4: in   %dx, %al; test $0x20, %al; jz 4b
///        pop  %eax; mov $0x3f8, %edx; out %al, %dx; mov $0x3fd, %edx; ret
/// ready: .asciz "ready\n"
/// none:  .long 0, 0
/// ```
const CODE: &[u8] = &[
    0xbc, 0x00, 0x00, 0x11, 0x00, 0xba, 0xfd, 0x03, 0x00, 0x00, 0x31, 0xff, 0x8d, 0x35, 0x80, 0x00,
    0x10, 0x00, 0xac, 0x84, 0xc0, 0x74, 0x07, 0xe8, 0x51, 0x00, 0x00, 0x00, 0xeb, 0xf4, 0xf3, 0x90,
    0xa1, 0x00, 0x00, 0xa0, 0xfe, 0xa8, 0x02, 0x74, 0x0d, 0x85, 0xff, 0x75, 0x09, 0xc6, 0x05, 0x00,
    0x02, 0xa0, 0xfe, 0x34, 0xeb, 0xe8, 0xec, 0xa8, 0x01, 0x74, 0xe3, 0xba, 0xf8, 0x03, 0x00, 0x00,
    0xec, 0xba, 0xfd, 0x03, 0x00, 0x00, 0x3c, 0x70, 0x74, 0xe3, 0x3c, 0x69, 0x75, 0x01, 0x47, 0x3c,
    0x74, 0x75, 0x08, 0x0f, 0x01, 0x1d, 0x87, 0x00, 0x10, 0x00, 0xcc, 0x3c, 0x72, 0x75, 0x07, 0xc6,
    0x05, 0x02, 0x02, 0xa0, 0xfe, 0x42, 0xe8, 0x02, 0x00, 0x00, 0x00, 0xeb, 0xb1, 0x50, 0xec, 0xa8,
    0x20, 0x74, 0xfb, 0x58, 0xba, 0xf8, 0x03, 0x00, 0x00, 0xee, 0xba, 0xfd, 0x03, 0x00, 0x00, 0xc3,
    0x72, 0x65, 0x61, 0x64, 0x79, 0x0a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

/// Writes it.
pub fn write(path: &Path) -> io::Result<()> {
    write_elf(path, CODE)
}

/// Writes code that is loaded at 1 MiB and entered at its first byte, as an ELF file with the note that tells a VMM its PVH entry (note 18 of owner
/// `Xen`: `XEN_ELFNOTE_PHYS32_ENTRY`, Xen's `public/elfnote.h`).
pub fn write_elf(path: &Path, code: &[u8]) -> io::Result<()> {
    let mut note = Vec::new();
    for word in [4_u32, 8, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(LOAD.to_le_bytes());

    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([2_u16, 62].iter().flat_map(|n| n.to_le_bytes())); // executable, x86-64
    elf.extend(1_u32.to_le_bytes());
    elf.extend([LOAD, 64, 0].iter().flat_map(|n| n.to_le_bytes())); // program headers at 64
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 56, 2, 64, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
    let segment = |kind: u32, flags: u32, at: usize, size: usize, align: u64| {
        let mut header = Vec::new();
        header.extend(kind.to_le_bytes());
        header.extend(flags.to_le_bytes());
        let address = if kind == 1 { LOAD } else { 0 };
        let size = size as u64;
        let words = [at as u64, address, address, size, size, align];
        header.extend(words.iter().flat_map(|n| n.to_le_bytes()));
        header
    };
    let note_at = 64 + 2 * 56;
    elf.extend(segment(1, 7, CODE_AT, code.len(), 4096)); // PT_LOAD
    elf.extend(segment(4, 4, note_at, note.len(), 4)); // PT_NOTE
    elf.extend(note);
    elf.resize(CODE_AT, 0);
    elf.extend(code);
    fs::write(path, elf)
}
