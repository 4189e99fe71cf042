//! TFRecord, the framing of event files, and the checksum that it uses.
//!
//! A record is its length (u64), the masked CRC of these 8 bytes, the data, and the masked CRC of the data; all numbers
//! are little-endian. From `tensorflow/core/lib/io/record_writer.h` and `tensorflow/core/lib/hash/crc32c.h`.

/// Castagnoli's polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The remainder of each byte.
const TABLE: [u32; 256] = table();

/// `data` as one record.
pub(super) fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked(crc32c(&length)).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked(crc32c(data)).to_le_bytes());
    record
}

/// The checksum as it is stored: a CRC over data that hold their own CRC would be weak, so that it is disguised.
pub(super) const fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli).
pub(super) fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = if remainder & 1 == 1 { POLYNOMIAL } else { 0 };
            remainder = (remainder >> 1) ^ carry;
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_equal_published_ones() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, appendix B.4
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }

    #[test]
    fn a_record_is_length_data_and_their_checksums() {
        let record = framed(b"abc");
        assert_eq!(record.len(), 8 + 4 + 3 + 4);
        assert_eq!(record[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record[12..15], *b"abc");
        // 0xe3069283 turned right by 15 bits is 0x2507c60d, plus 0xa282ead8
        assert_eq!(masked(0xe306_9283), 0xc78a_b0e5);
    }
}
