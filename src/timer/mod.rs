//! Timers: the [`wheel`] holds them, the [`clock`] tells the time. Both count ticks and know
//! wakers, not tasks.

pub(crate) mod clock;
pub(crate) mod wheel;
