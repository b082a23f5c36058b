//! The colours that are told to a guest that asks.

/// The usual 256 colours of xterm: 16 named ones, a 6x6x6 cube, 24 greys.
#[must_use]
pub(super) fn xterm(index: u8) -> (u8, u8, u8) {
    // xterm's defaults for the first 16 (XTerm-col.ad).
    const NAMED: [(u8, u8, u8); 16] = [
        (0, 0, 0),
        (205, 0, 0),
        (0, 205, 0),
        (205, 205, 0),
        (0, 0, 238),
        (205, 0, 205),
        (0, 205, 205),
        (229, 229, 229),
        (127, 127, 127),
        (255, 0, 0),
        (0, 255, 0),
        (255, 255, 0),
        (92, 92, 255),
        (255, 0, 255),
        (0, 255, 255),
        (255, 255, 255),
    ];
    match index {
        0..=15 => NAMED[usize::from(index)],
        16..=231 => {
            let n = index - 16;
            let level = |v: u8| if v == 0 { 0 } else { 55 + 40 * v };
            (level(n / 36), level(n / 6 % 6), level(n % 6))
        }
        232..=255 => {
            let grey = 8 + 10 * (index - 232);
            (grey, grey, grey)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corners_of_the_palette() {
        assert_eq!(xterm(1), (205, 0, 0));
        assert_eq!((xterm(16), xterm(231)), ((0, 0, 0), (255, 255, 255)));
        assert_eq!(xterm(196), (255, 0, 0));
        assert_eq!((xterm(232), xterm(255)), ((8, 8, 8), (238, 238, 238)));
    }
}
