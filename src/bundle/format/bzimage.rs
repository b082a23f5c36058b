//! The kernel inside a `vmlinuz`: Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel
//! Header", and the "legacy" LZ4 frame of the lz4 project's lz4_Frame_format.md.

/// Why no kernel could be taken out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    /// It does not look like a bzImage, or not like one with a known payload.
    #[error("it is no x86 kernel image (no boot header of version 2.08 or later)")]
    NotBzImage,
    /// The payload lies outside of the file.
    #[error("it is cut off: the payload ends at byte {end}, the file at {len}")]
    CutOff {
        /// Where the payload ends.
        end: u64,
        /// Where the file ends.
        len: u64,
    },
    /// Compressed with something else.
    #[error("its kernel is compressed with {0}, and only LZ4 is known here")]
    Compression(String),
    /// The compressed data is damaged.
    #[error("its compressed kernel is damaged: {0}")]
    Damaged(String),
}

/// The payload of a bzImage: the compressed kernel.
///
/// # Errors
/// When the header is not there or points outside of the file.
pub fn payload(image: &[u8]) -> Result<&[u8], BadImage> {
    let u32_at = |at: usize| -> Option<u64> {
        let bytes = image.get(at..at + 4)?;
        Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
    };
    let magic = image.get(0x202..0x206) == Some(b"HdrS");
    let version = u32_at(0x206).map_or(0, |v| v & 0xffff);
    // payload_offset and payload_length came with protocol 2.08.
    if !magic || version < 0x0208 {
        return Err(BadImage::NotBzImage);
    }
    // "If the setup_sects field is 0, the real value is 4"; one more sector is the boot sector.
    let sectors = match image[0x1f1] {
        0 => 4,
        n => u64::from(n),
    };
    let offset = u32_at(0x248).ok_or(BadImage::NotBzImage)?;
    let length = u32_at(0x24c).ok_or(BadImage::NotBzImage)?;
    let start = (sectors + 1) * 512 + offset;
    let end = start + length;
    image.get(start as usize..end as usize).ok_or(BadImage::CutOff { end, len: image.len() as u64 })
}

/// The first bytes of compressed data, by what compressed it (Linux lib/decompress.c).
const KNOWN: [(&[u8], &str); 7] = [
    (&[0x1f, 0x8b], "gzip"),
    (&[0x42, 0x5a, 0x68], "bzip2"),
    (&[0x5d, 0x00, 0x00], "LZMA"),
    (&[0xfd, 0x37, 0x7a, 0x58, 0x5a], "xz"),
    (&[0x89, 0x4c, 0x5a], "LZO"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0x7f, b'E', b'L', b'F'], "nothing"),
];

const LZ4_LEGACY: [u8; 4] = 0x184c_2102_u32.to_le_bytes();

/// A block of a legacy LZ4 frame holds at most this many bytes when unpacked.
const BLOCK: usize = 8 << 20;

/// Unpacks a kernel: a legacy LZ4 frame, after which the kernel's build appends the unpacked
/// size (`size_append` in scripts/Makefile.lib).
///
/// # Errors
/// When it is compressed in another way, or damaged.
pub fn unpack(payload: &[u8]) -> Result<Vec<u8>, BadImage> {
    let Some(mut rest) = payload.strip_prefix(&LZ4_LEGACY) else {
        let by = KNOWN.iter().find(|(magic, _)| payload.starts_with(magic));
        let head = &payload[..payload.len().min(4)];
        let by = by.map_or_else(|| format!("something unknown ({head:02x?})"), |b| b.1.to_owned());
        return Err(BadImage::Compression(by));
    };
    let damaged = |why: &str| BadImage::Damaged(why.to_owned());
    let mut kernel = Vec::new();
    while rest.len() > 4 {
        let (size, after) = take_u32(rest).ok_or_else(|| damaged("no block"))?;
        let block = after.get(..size as usize).ok_or_else(|| damaged("a block is cut off"))?;
        rest = &after[size as usize..];
        let start = kernel.len();
        kernel.resize(start + BLOCK, 0);
        let n = lz4_flex::block::decompress_into(block, &mut kernel[start..])
            .map_err(|e| BadImage::Damaged(e.to_string()))?;
        kernel.truncate(start + n);
    }
    match take_u32(rest) {
        Some((size, _)) if size as usize == kernel.len() => Ok(kernel),
        Some((size, _)) => {
            let why = format!("{} bytes came out instead of {size}", kernel.len());
            Err(BadImage::Damaged(why))
        }
        None => Err(damaged("its size is missing")),
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    /// A legacy LZ4 frame as the kernel's build makes it.
    fn packed(kernel: &[u8]) -> Vec<u8> {
        let mut out = LZ4_LEGACY.to_vec();
        for block in kernel.chunks(BLOCK) {
            let block = lz4_flex::block::compress(block);
            out.extend((block.len() as u32).to_le_bytes());
            out.extend(block);
        }
        out.extend((kernel.len() as u32).to_le_bytes());
        out
    }

    /// A bzImage with one setup sector and the payload at 100 in its protected-mode part.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 100];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&100_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        image.extend([0xaa; 64]);
        image
    }

    #[test]
    fn a_kernel_of_more_than_one_block_comes_out_as_it_went_in() {
        let kernel: Vec<u8> = (0..BLOCK as u32 * 2 + 77).map(|i| (i / 1000) as u8).collect();
        let image = image(&packed(&kernel));
        assert!(unpack(payload(&image).unwrap()).unwrap() == kernel);
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_the_reason() {
        assert_eq!(payload(b"MZ"), Err(BadImage::NotBzImage));
        assert_eq!(payload(&[0; 4096]), Err(BadImage::NotBzImage));
        let good = image(&packed(b"kernel"));
        let cut = payload(&good[..good.len() - 70]);
        assert!(matches!(cut, Err(BadImage::CutOff { .. })), "{cut:?}");
        let xz = unpack(&[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 1, 2]).unwrap_err();
        assert!(xz.to_string().contains("compressed with xz"), "{xz}");
        let other = unpack(b"abcdefgh").unwrap_err();
        assert!(other.to_string().contains("unknown"), "{other}");
        let mut wrong_size = packed(b"kernel");
        *wrong_size.last_mut().unwrap() = 9;
        assert!(matches!(unpack(&wrong_size), Err(BadImage::Damaged(_))));
        assert!(matches!(unpack(&packed(b"kernel")[..9]), Err(BadImage::Damaged(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut image = image(&bytes);
            image.truncate(1100 + bytes.len() / 2);
            let _ = payload(&image);
            let mut frame = LZ4_LEGACY.to_vec();
            frame.extend(&bytes);
            let _ = unpack(&frame);
            let _ = unpack(&bytes);
        }
    }
}
