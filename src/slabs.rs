//! Slabs that grow by little and shrink after a burst.

use slab::Slab;

/// Above this many entries a slab grows by an eighth instead of by as much again: one of a hundred thousand should not have another
/// thirty thousand unused. Each entry is then copied some eight times over the slab's life, which is cheap beside allocating for it.
const DOUBLED_UP_TO: usize = 1024;
/// A slab with room for no more than this is left alone.
const SMALL: usize = 64;

/// Makes room for another entry, if there is none.
pub(crate) fn grow_gently<T>(slab: &mut Slab<T>) {
    let len = slab.len();
    if len == slab.capacity() {
        slab.reserve_exact(if len < DOUBLED_UP_TO { len.max(4) } else { len / 8 });
    }
}

/// Gives back what a burst took, as far as entries that are left do not stand behind it. `tried` is how many were left the last time:
/// unless some of those have gone, another try finds nothing.
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
    fn what_is_left_in_front_does_not_keep_the_memory_of_a_burst() {
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
