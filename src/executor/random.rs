//! Pseudo-random numbers for seeded orders: splitmix64, which is a counter and a way to scramble it.

/// The steps in which splitmix64 counts.
pub(crate) const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

/// Turns the counter into a number.
pub(crate) fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Counts on, and returns a number below `len`, which is not 0.
pub(crate) fn pick(counter: &mut u64, len: u32) -> u32 {
    *counter = counter.wrapping_add(GOLDEN_RATIO);
    (scramble(*counter) % u64::from(len)) as u32
}
