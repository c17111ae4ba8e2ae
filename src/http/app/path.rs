//! Deserializes path parameters: one value, a tuple in the path's order, or a struct by name.
//!
//! Each value is percent-decoded, and borrowed from the path if there is nothing to decode.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::rejection::Rejection;
use crate::http::wire::chunked::hex;

/// Deserializes a `T` from pairs of name and percent-encoded value.
pub(crate) fn from_parameters<'a, T: DeserializeOwned>(
    parameters: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> Result<T, Rejection> {
    let decoded: Result<Vec<_>, PathError> =
        parameters.map(|(name, value)| Ok((name, Value(decode_value(value)?)))).collect();
    let result = decoded.and_then(|parameters| T::deserialize(PathParameters(parameters)));
    result.map_err(|error| match error {
        PathError::Value(text) => Rejection::bad_request(text),
        PathError::Shape(text) => Rejection::internal(text),
    })
}

fn decode_value(text: &str) -> Result<Cow<'_, str>, PathError> {
    decode(text).ok_or_else(|| PathError::Value(format!("{text:?} is not percent-encoded UTF-8")))
}

/// Percent-decodes. Returns `None` if an escape is invalid or the result is not UTF-8.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    decode_with(text, |_| None)
}

/// Percent-decodes; an invalid escape stands for itself. Returns `None` if the result is not UTF-8.
pub(super) fn decode_leniently(text: &str) -> Option<Cow<'_, str>> {
    decode_with(text, Some)
}

/// `invalid` makes a byte of a `%` that is no escape.
fn decode_with(text: &str, invalid: fn(u8) -> Option<u8>) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        match escape(first, rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[2..];
            }
            None if first == b'%' => bytes.push(invalid(first)?),
            None => bytes.push(first),
        }
    }
    String::from_utf8(bytes).map(Cow::Owned).ok()
}

fn escape(first: u8, rest: &[u8]) -> Option<u8> {
    let &[high, low] = rest.first_chunk().filter(|_| first == b'%')?;
    Some(hex(high)? << 4 | hex(low)?)
}

/// The reason the parameters are not a `T`.
#[derive(Debug)]
pub(super) enum PathError {
    /// The client sent a value that does not fit the type.
    Value(String),
    /// The type does not fit the route's parameters.
    Shape(String),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Value(text) | Self::Shape(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for PathError {}

impl de::Error for PathError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Value(format!("the path cannot be read: {message}"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Shape(format!("the route has no parameter `{field}`; name it in the path given to the router"))
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        Self::Shape(format!("the route has {length} parameters, the handler expects {expected}"))
    }
}

struct PathParameters<'a>(Vec<(&'a str, Value<'a>)>);

impl<'a> PathParameters<'a> {
    fn single(mut self) -> Result<Value<'a>, PathError> {
        match (self.0.pop(), self.0.is_empty()) {
            (Some((_, value)), true) => Ok(value),
            (None, _) => Err(PathError::Shape(String::from("the route has no parameter, the handler expects one"))),
            (Some(_), false) => {
                let count = self.0.len() + 1;
                Err(PathError::Shape(format!("the route has {count} parameters; take a tuple or a struct")))
            }
        }
    }
}

macro_rules! single {
    ($($method:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
                self.single()?.$method(visitor)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for PathParameters<'de> {
    type Error = PathError;

    single! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        if self.0.len() == 1 { self.single()?.deserialize_any(visitor) } else { self.deserialize_map(visitor) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        let mut values = SeqDeserializer::new(self.0.into_iter().map(|(_, value)| value));
        let value = visitor.visit_seq(&mut values)?;
        values.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, PathError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, PathError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_map(MapDeserializer::new(self.0.into_iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PathError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PathError> {
        self.single()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_unit()
    }
}

struct Value<'a>(Cow<'a, str>);

impl<'de> IntoDeserializer<'de, PathError> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $kind:ty;)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
                let value: $kind = self.0.parse().map_err(|_| {
                    PathError::Value(format!("{:?} in the path is not of type {}", self.0, stringify!($kind)))
                })?;
                visitor.$visit(value)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = PathError;

    parsed! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
        deserialize_char visit_char char;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PathError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
