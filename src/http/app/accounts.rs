//! The clients of a server by their addresses: how much of it each of them holds.
//!
//! A connection looks its client's [`Account`] up once, when it begins. The table keeps an account
//! while a connection or a background task has it, so that a client gains nothing by connecting
//! again. Accounts that nothing has any more are removed when the table has doubled.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use super::peer::Peer;
use crate::deferred::Share;

/// Entries that are kept without a look at their use.
const FEW: usize = 64;

/// What one client holds, whatever connections it has.
#[derive(Default)]
pub(crate) struct Account {
    /// Its share of the queue.
    pub(crate) share: Share,
}

#[derive(Default)]
pub(crate) struct Accounts {
    by_address: RefCell<HashMap<IpAddr, Rc<Account>>>,
    /// Entries that the last sweep left.
    left: Cell<usize>,
}

impl Accounts {
    /// Returns the account of a client; `None` if it has no address.
    pub(crate) fn of(&self, client: Peer) -> Option<Rc<Account>> {
        let address = subscriber(client.addr()?.ip());
        let mut accounts = self.by_address.borrow_mut();
        if accounts.len() >= FEW.max(self.left.get() * 2) {
            accounts.retain(|_, account| Rc::strong_count(account) > 1 || account.share.is_shared());
            accounts.shrink_to_fit();
            self.left.set(accounts.len());
        }
        Some(Rc::clone(accounts.entry(address).or_default()))
    }
}

/// The part of an address that stands for one client: a subscriber has a whole /64 of IPv6 (RFC
/// 6177), and would else have as many shares as it likes.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn addresses_of_one_client_have_one_account() {
        let same = |one: &str, other: &str| subscriber(one.parse().unwrap()) == subscriber(other.parse().unwrap());
        assert!(same("192.0.2.7", "192.0.2.7"));
        assert!(same("192.0.2.7", "::ffff:192.0.2.7"));
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert!(!same("192.0.2.7", "192.0.2.8"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
    }

    #[test]
    fn clients_that_have_gone_are_forgotten_and_others_are_not() {
        let accounts = Accounts::default();
        let of = |address: [u8; 4]| accounts.of(Peer::Ip(SocketAddr::from((address, 1)))).unwrap();
        let stays = of([192, 0, 2, 1]);
        for n in 0..100_000_u32 {
            let [_, a, b, c] = n.to_be_bytes();
            drop(of([10, a, b, c]));
        }
        let kept = accounts.by_address.borrow();
        assert!(kept.len() <= FEW, "{} entries", kept.len());
        assert!(kept.capacity() <= 4 * FEW, "room for {}", kept.capacity());
        assert_eq!(Rc::strong_count(&stays), 2, "one here, one in the table");
    }
}
