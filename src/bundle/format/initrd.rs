//! The initrd: a `newc` cpio archive (Linux Documentation/driver-api/early-userspace/
//! buffer-format.rst), uncompressed, with the layout that `guest` documents.

use std::io::{self, Write};

use cpio::newc::{Builder, trailer};

/// `S_IFDIR | 0755`, `S_IFREG | 0755` and `S_IFREG | 0644` (inode(7)).
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// Makes the archive: `/init`, `/modules/<name>` and `/modules/order`, owned by root, dated
/// 1970: the same input gives the same bytes.
///
/// # Errors
/// When a file has 4 GiB or more, which the format cannot hold.
pub fn archive(init: &[u8], modules: &[(&str, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let order: String = modules.iter().map(|(name, _)| format!("{name}\n")).collect();
    let mut out = Vec::new();
    let mut inode = 0;
    let mut add = |name: &str, mode: u32, data: &[u8]| -> io::Result<()> {
        inode += 1;
        let size = u32::try_from(data.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut writer = Builder::new(name).ino(inode).mode(mode).write(&mut out, size);
        writer.write_all(data)?;
        writer.finish().map(drop)
    };
    add("init", PROGRAM, init)?;
    add("modules", DIRECTORY, &[])?;
    for (name, data) in modules {
        add(&format!("modules/{name}"), FILE, data)?;
    }
    add("modules/order", FILE, order.as_bytes())?;
    trailer(&mut out)?;
    Ok(out)
}

/// An archive and one more file: the kernel unpacks one behind the other.
///
/// # Errors
/// When the file has 4 GiB or more.
pub fn with_file(archive: &[u8], name: &str, data: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = archive.to_vec();
    // Each begins at a multiple of 4.
    out.resize(out.len().next_multiple_of(4), 0);
    let size = u32::try_from(data.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut writer = Builder::new(name).ino(1).mode(FILE).write(&mut out, size);
    writer.write_all(data)?;
    writer.finish()?;
    trailer(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use cpio::newc::Reader;

    use super::*;

    #[test]
    fn the_archive_holds_what_the_guest_expects_and_nothing_of_the_host() {
        let modules = [("b.ko", b"bb".to_vec()), ("a.ko", b"a".to_vec())];
        let bytes = archive(b"\x7fELF", &modules).unwrap();
        assert_eq!(bytes, archive(b"\x7fELF", &modules).unwrap());
        let mut found = Vec::new();
        let mut rest = bytes.as_slice();
        loop {
            let mut reader = Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let entry = reader.entry();
            assert_eq!((entry.uid(), entry.gid(), entry.mtime()), (0, 0, 0));
            let (name, mode) = (entry.name().to_owned(), entry.mode());
            let mut data = String::new();
            reader.read_to_string(&mut data).unwrap();
            found.push((name, mode, data));
            rest = reader.finish().unwrap();
        }
        let expected = [
            ("init", 0o100_755, "\x7fELF"),
            ("modules", 0o040_755, ""),
            ("modules/b.ko", 0o100_644, "bb"),
            ("modules/a.ko", 0o100_644, "a"),
            ("modules/order", 0o100_644, "b.ko\na.ko\n"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(n, m, d)| ((*n).to_owned(), *m, (*d).to_owned())).collect();
        assert_eq!(found, expected);
    }
}
