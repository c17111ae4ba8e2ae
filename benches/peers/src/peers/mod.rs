//! The contestants. To add one, write a file that implements [`Peer`] and a line in [`ALL`].

mod floor;
mod futures;
mod monoio;
mod postlude;
mod smol;
mod tokio;

use crate::loads::{self, Load};
use crate::peer::Peer;
use crate::report::Column;

/// The peers that the report sets apart.
pub const OURS: &str = <postlude::Postlude as Peer>::NAME;
pub const FLOOR: &str = "floor";

pub struct Entry {
    pub column: Column,
    pub loads: fn() -> Vec<Load>,
}

const fn entry<P: Peer>() -> Entry {
    Entry { column: Column { name: P::NAME, mode: P::MODE }, loads: loads::all::<P> }
}

pub const ALL: [Entry; 7] = [
    entry::<postlude::Postlude>(),
    entry::<tokio::Tokio>(),
    entry::<tokio::TokioLocal>(),
    entry::<smol::Smol>(),
    entry::<futures::Futures>(),
    entry::<monoio::Monoio>(),
    Entry { column: Column { name: FLOOR, mode: "by hand, no runtime" }, loads: floor_loads },
];

/// The loads as they are described for the others, run by hand.
fn floor_loads() -> Vec<Load> {
    let ours = loads::all::<postlude::Postlude>();
    ours.into_iter().map(|load| Load { run: floor::run(load.name), ..load }).collect()
}
