//! Giving memory back that was needed once.

use std::{fs, io};

use nix::libc;

/// Gives back what the heap does not use, and lets go of the pages of program and libraries:
/// those that are used again come back from the page cache at a microsecond each.
///
/// For a process that does much at its start and then waits for hours. Nine tenths of what such
/// a one of ours has in memory is code that it will not run again.
///
/// # Errors
/// If `/proc/self/smaps` cannot be read.
pub fn give_back() -> io::Result<()> {
    // SAFETY: malloc_trim(3) takes a number and works under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    for (start, end) in droppable(&smaps) {
        // SAFETY: only the kernel's page tables change: the range is a mapping of a file of which
        // no page was ever written (see `droppable`), so what is read there next is the same
        // bytes, from the file. A range that is not mapped any more is refused.
        unsafe {
            libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
        }
    }
    Ok(())
}

/// The address ranges of files that are mapped for reading or execution only, and of which this
/// process has no page of its own (proc(5), `/proc/pid/smaps`): of one that has, such as a table
/// of addresses that was relocated and then write-protected, the changes would be lost.
fn droppable(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(head) = mapping(line) {
            current = head;
        } else if let Some(rest) = line.strip_prefix("Anonymous:") {
            let own = rest.trim() != "0 kB";
            found.extend(current.take().filter(|_| !own));
        }
    }
    found
}

/// A line that begins a mapping; in it the range, if that is of a file and not writable.
///
/// `55a8419d3000-55a8419e0000 r-xp 00001000 fd:00 1234 /usr/bin/banger`
fn mapping(line: &str) -> Option<Option<(usize, usize)>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = (address(start)?, address(end)?);
    let kind = words.next()?;
    let path = words.nth(3).unwrap_or_default();
    Some((kind.starts_with("r-") && kind.ends_with('p') && path.starts_with('/')).then_some(range))
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsRawFd};

    use super::*;

    #[test]
    fn only_untouched_pages_of_files_are_let_go() {
        let smaps = "\
1000-2000 r--p 00000000 fd:00 12 /bin/x
Rss:                   4 kB
Anonymous:             0 kB
2000-3000 r-xp 00001000 fd:00 12 /bin/x
Anonymous:             0 kB
3000-4000 r--p 00002000 fd:00 12 /bin/x
Anonymous:             4 kB
4000-5000 rw-p 00003000 fd:00 12 /bin/x
Anonymous:             0 kB
5000-6000 r--s 00000000 fd:00 13 /run/shared
Anonymous:             0 kB
6000-7000 r--p 00000000 00:00 0
Anonymous:             0 kB
7000-8000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
VmFlags: rd ex mr mw me
";
        assert_eq!(droppable(smaps), [(0x1000, 0x2000), (0x2000, 0x3000)]);
    }

    /// Kilobytes of the mapping at `start` that are in this process's memory.
    fn resident(start: usize) -> u64 {
        let smaps = fs::read_to_string("/proc/self/smaps").expect("smaps");
        let head = format!("{start:x}-");
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&head));
        let line = lines.find_map(|line| line.strip_prefix("Rss:")).expect("Rss");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[test]
    fn a_file_that_was_read_is_let_go_and_comes_back_the_same() {
        const SIZE: usize = 1 << 20;
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(&[7; SIZE]).expect("write");
        // SAFETY: a new mapping wherever the kernel likes; nobody truncates the file.
        let start = unsafe {
            let any = std::ptr::null_mut();
            libc::mmap(any, SIZE, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: the mapping is as long, and stays until the process ends.
        let bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), SIZE) };
        let sum = || bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
        let before = sum();
        assert!(resident(start as usize) > 0);
        give_back().expect("give back");
        assert_eq!(resident(start as usize), 0);
        assert_eq!(sum(), before);
    }
}
