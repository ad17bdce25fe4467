//! FNV-1a, by Fowler, Noll and Vo: the same in every process, quick for names, and no match for somebody who wants two of
//! them to meet. Who uses it says what that would cost.

/// Of 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Of 32 bits.
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_its_authors() {
        // From the test vectors of draft-eastlake-fnv.
        assert_eq!((fnv1a(b""), fnv1a_32(b"")), (0xcbf2_9ce4_8422_2325, 0x811c_9dc5));
        assert_eq!((fnv1a(b"a"), fnv1a_32(b"a")), (0xaf63_dc4c_8601_ec8c, 0xe40c_292c));
        assert_eq!((fnv1a(b"foobar"), fnv1a_32(b"foobar")), (0x8594_4171_f739_67e8, 0xbf9c_f968));
    }
}
