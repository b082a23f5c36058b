//! As much of ELF as tells whether a program needs nothing but a kernel (elf(5)).

/// Why a file cannot be the guest's first program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStatic {
    /// No 64-bit little-endian ELF.
    #[error("it is no 64-bit Linux program")]
    NotElf,
    /// Made for another machine.
    #[error("it is made for another architecture (ELF machine {0})")]
    Machine(u16),
    /// Its program headers lie outside of the file.
    #[error("it is cut off")]
    CutOff,
    /// It wants a dynamic loader, which the initrd does not have.
    #[error("it is linked dynamically, and the initrd has no libraries")]
    Dynamic,
}

/// `e_machine` of an architecture as Rust names it.
const fn machine_of(arch: &str) -> u16 {
    match arch.as_bytes() {
        b"aarch64" => 183,
        _ => 62,
    }
}

/// Checks that a file is a static program for `arch`: no program header is `PT_INTERP`.
///
/// # Errors
/// Says what it is instead.
pub fn check_static(file: &[u8], arch: &str) -> Result<(), NotStatic> {
    // EI_CLASS 2: 64 bits; EI_DATA 1: little-endian.
    if file.get(..6) != Some(b"\x7fELF\x02\x01") || file.len() < 64 {
        return Err(NotStatic::NotElf);
    }
    let u16_at = |at: usize| u16::from_le_bytes([file[at], file[at + 1]]);
    let machine = u16_at(18);
    if machine != machine_of(arch) {
        return Err(NotStatic::Machine(machine));
    }
    let offset = u64::from_le_bytes(file[32..40].try_into().map_err(|_| NotStatic::NotElf)?);
    let (size, count) = (u16_at(54), u16_at(56));
    for i in 0..u64::from(count) {
        let at = offset.checked_add(i * u64::from(size)).and_then(|at| usize::try_from(at).ok());
        let header = at.and_then(|at| file.get(at..)?.first_chunk::<4>());
        const PT_INTERP: u32 = 3;
        match header.map(|h| u32::from_le_bytes(*h)) {
            None => return Err(NotStatic::CutOff),
            Some(PT_INTERP) => return Err(NotStatic::Dynamic),
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::env::consts::ARCH;

    use super::*;

    /// A program of one header of this type.
    pub fn program(header: u32) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine_of(ARCH).to_le_bytes());
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64..68].copy_from_slice(&header.to_le_bytes());
        file
    }

    #[test]
    fn only_a_static_program_of_this_machine_passes() {
        assert_eq!(check_static(&program(1), ARCH), Ok(()));
        assert_eq!(check_static(&program(3), ARCH), Err(NotStatic::Dynamic));
        assert_eq!(check_static(&program(1)[..66], ARCH), Err(NotStatic::CutOff));
        assert_eq!(check_static(b"#!/bin/sh\n", ARCH), Err(NotStatic::NotElf));
        assert_eq!(check_static(&[], ARCH), Err(NotStatic::NotElf));
        let mut far = program(1);
        far[39] = 0xff;
        assert_eq!(check_static(&far, ARCH), Err(NotStatic::CutOff));
        let other = if ARCH == "aarch64" { "x86_64" } else { "aarch64" };
        assert!(matches!(check_static(&program(1), other), Err(NotStatic::Machine(_))));
    }

    #[test]
    fn the_test_program_itself_is_dynamic() {
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(check_static(&me, ARCH), Err(NotStatic::Dynamic));
    }
}
