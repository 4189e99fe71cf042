//! XMP packets are carried as they are, but for an orientation that has been applied.

/// More bytes than this are not taken for XMP.
pub(super) const MAX_BYTES: usize = 16 << 20;

const NAME: &[u8] = b"tiff:Orientation";

/// The packet with every stated `tiff:Orientation` set to 1, in the same number of bytes.
pub(super) fn normalize(mut packet: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(found) = packet[at..].windows(NAME.len()).position(|window| window == NAME) {
        at += found + NAME.len();
        // `="6"`, `='6'` or `>6<`, perhaps with spaces.
        let value = packet[at..].iter().position(|byte| !b"=\"'> \t\r\n".contains(byte));
        if let Some(digit) = value.and_then(|skip| packet.get_mut(at + skip))
            && digit.is_ascii_digit()
        {
            *digit = b'1';
        }
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_orientation_are_reset() {
        let packet =
            br#"<a tiff:Orientation="6"/><tiff:Orientation>8</tiff:Orientation> tiff:Orientation"#;
        let expected =
            br#"<a tiff:Orientation="1"/><tiff:Orientation>1</tiff:Orientation> tiff:Orientation"#;
        assert_eq!(normalize(packet.to_vec()), expected);
    }
}
