//! What the suites write into files.

/// The bytes of content `number`, `length` of them: no two places of a content hold the same, nor do
/// two contents, so that bytes at a wrong place, of another file or of an older one are seen.
pub fn content(number: usize, length: usize) -> Vec<u8> {
    // The golden ratio of 64 bits spreads neighbours apart (Knuth, The Art of Computer Programming,
    // volume 3, section 6.4).
    let word = |at: usize| (at as u64 ^ (number as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = (0..length.div_ceil(8)).flat_map(|at| word(at).to_le_bytes());
    words.take(length).collect()
}
