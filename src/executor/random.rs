//! Pseudo-random numbers for seeded orders: splitmix64, a counter and a function that scrambles it.

/// The increment of splitmix64's counter.
pub(crate) const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

/// Turns the counter into a pseudo-random number.
pub(crate) fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Advances the counter, and returns a number below `len`, which must not be 0.
pub(crate) fn pick(counter: &mut u64, len: u32) -> u32 {
    *counter = counter.wrapping_add(GOLDEN_RATIO);
    (scramble(*counter) % u64::from(len)) as u32
}
