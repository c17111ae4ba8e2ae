//! Slabs that grow gently and shrink after a burst.

use slab::Slab;

/// Above this many entries a slab grows by an eighth instead of doubling: a slab of a hundred
/// thousand entries should not have thirty thousand more unused. Each entry is then copied some
/// eight times over the slab's life, which is cheap beside allocating for it.
const DOUBLED_UP_TO: usize = 1024;
/// A slab with at most this capacity never shrinks.
const SMALL: usize = 64;

/// Makes room for another entry in a full slab.
pub(crate) fn grow_gently<T>(slab: &mut Slab<T>) {
    let len = slab.len();
    if len == slab.capacity() {
        slab.reserve_exact(if len < DOUBLED_UP_TO { len.max(4) } else { len / 8 });
    }
}

/// Gives back the memory of a burst, up to the last entry still there. `tried` is the number of
/// entries at the last try: while that is unchanged, another try would find nothing.
#[inline]
pub(crate) fn shrink<T>(slab: &mut Slab<T>, tried: &mut usize) {
    if slab.capacity() > SMALL {
        shrink_wide(slab, tried);
    }
}

#[inline(never)] // keeps the common path short
fn shrink_wide<T>(slab: &mut Slab<T>, tried: &mut usize) {
    if slab.len() < slab.capacity() / 4 && slab.len() != *tried {
        slab.shrink_to_fit();
    }
    *tried = slab.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_at_the_front_do_not_keep_the_memory_of_a_burst() {
        let (mut slab, mut tried) = (Slab::new(), 0);
        let keys: Vec<_> = (0..10_000).map(|n| slab.insert(n)).collect();
        for key in keys.into_iter().skip(3) {
            slab.remove(key);
        }
        shrink(&mut slab, &mut tried);
        assert_eq!((slab.len(), slab.capacity() < 100), (3, true), "{}", slab.capacity());
        assert!((3..100).contains(&slab.insert(7)));
    }
}
