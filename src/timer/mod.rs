//! Timers: which are set ([`wheel`]), and what time it is ([`clock`]). Both count ticks and know wakers, not tasks.

pub(crate) mod clock;
pub(crate) mod wheel;
