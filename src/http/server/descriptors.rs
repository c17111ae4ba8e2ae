//! The descriptors of the process: how many there may be, and how many connections fit.
//!
//! A process begins with a low limit that it may raise itself up to a higher one (setrlimit(2),
//! `RLIMIT_NOFILE`): the low one protects programs that use `select`. A connection takes a
//! descriptor, and so do a file that is sent, a log, and a connection to a database. So not all of
//! them are for connections.

use std::io;

use rlimit::Resource;

/// An eighth of the descriptors, within these bounds, is for other things than connections.
const RESERVE: (u64, u64) = (16, 1024);

/// Raises the limit as far as this process may.
pub(super) fn raise() -> io::Result<()> {
    let (soft, hard) = Resource::NOFILE.get()?;
    if soft < hard { Resource::NOFILE.set(hard, hard) } else { Ok(()) }
}

/// Returns how many connections fit, of so many that are wanted.
pub(super) fn fit(wanted: usize) -> usize {
    match Resource::NOFILE.get_soft() {
        Ok(limit) => fit_into(limit, wanted),
        Err(_) => wanted,
    }
}

fn fit_into(limit: u64, wanted: usize) -> usize {
    let free = limit.saturating_sub((limit / 8).clamp(RESERVE.0, RESERVE.1));
    usize::try_from(free).unwrap_or(usize::MAX).clamp(1, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_of_the_descriptors_is_kept_for_other_things() {
        assert_eq!(fit_into(1_024, 16_384), 896);
        assert_eq!(fit_into(1_048_576, 16_384), 16_384);
        assert_eq!(fit_into(u64::MAX, 16_384), 16_384);
        assert_eq!(fit_into(20, 16_384), 4);
        assert_eq!(fit_into(8, 16_384), 1);
        assert_eq!(fit_into(8, 1), 1);
    }
}
