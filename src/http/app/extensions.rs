//! Values by type: layers leave them in a request for handlers, and routers hold them as state.
//!
//! They are a list, which is searched from the front: it seldom has more than three values. An
//! empty one allocates nothing.

use std::any::{Any, TypeId};
use std::fmt;

/// A map from types to values, for
/// [`Request::extensions_mut`](crate::http::Request::extensions_mut).
///
/// Unlike those of the `http` crate the values need not be `Send`, `Sync` or `Clone`: they stay on
/// this thread, so an `Rc` is fine.
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
    /// Inserts a value, and returns the previous one of its type.
    pub fn insert<T: 'static>(&mut self, value: T) -> Option<T> {
        if let Some(known) = self.get_mut::<T>() {
            return Some(std::mem::replace(known, value));
        }
        self.values.push((TypeId::of::<T>(), Box::new(value)));
        None
    }

    /// Returns the value of this type.
    #[must_use]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let found = self.values.iter().find(|(kind, _)| *kind == TypeId::of::<T>());
        found.and_then(|(_, value)| value.downcast_ref())
    }

    /// Returns a mutable reference to the value of this type.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        let found = self.values.iter_mut().find(|(kind, _)| *kind == TypeId::of::<T>());
        found.and_then(|(_, value)| value.downcast_mut())
    }

    /// Removes and returns the value of this type.
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
