//! Values by type: layers leave them in a request for handlers, and routers give them as state.
//!
//! A list that is searched from its begin, for there are seldom more than three. An empty one owns
//! nothing. Unlike those of the `http` crate the values need not be `Send`, `Sync` or `Clone`: they
//! stay on this thread, so an `Rc` is fine.

use std::any::{Any, TypeId};
use std::fmt;

/// At most one value of each type: see
/// [`Request::extensions_mut`](crate::http::Request::extensions_mut).
///
/// ```
/// let mut extensions = postlude::http::Extensions::default();
/// assert_eq!(extensions.insert(7_u32), None);
/// assert_eq!(extensions.get::<u32>(), Some(&7));
/// ```
#[derive(Default)]
pub struct Extensions {
    values: Vec<(TypeId, Box<dyn Any>)>,
}

impl Extensions {
    /// Puts a value in, and gives the one of this type that was there.
    pub fn insert<T: 'static>(&mut self, value: T) -> Option<T> {
        if let Some(known) = self.get_mut::<T>() {
            return Some(std::mem::replace(known, value));
        }
        self.values.push((TypeId::of::<T>(), Box::new(value)));
        None
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let found = self.values.iter().find(|(kind, _)| *kind == TypeId::of::<T>());
        found.and_then(|(_, value)| value.downcast_ref())
    }

    /// The value of this type, to be changed.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        let found = self.values.iter_mut().find(|(kind, _)| *kind == TypeId::of::<T>());
        found.and_then(|(_, value)| value.downcast_mut())
    }

    /// Takes the value of this type out.
    pub fn remove<T: 'static>(&mut self) -> Option<T> {
        let place = self.values.iter().position(|(kind, _)| *kind == TypeId::of::<T>())?;
        self.values.swap_remove(place).1.downcast().ok().map(|value| *value)
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").field("values", &self.values.len()).finish()
    }
}
