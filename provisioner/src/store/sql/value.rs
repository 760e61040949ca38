//! Values of both databases, and rows of them.

use crate::store::StoreError;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) enum Value {
    /// None.
    Null,
    /// Of 64 bits.
    Integer(i64),
    /// A text.
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// Times and counts fit with room to spare.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl<T> From<Option<T>> for Value
where
    Self: From<T>,
{
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) struct Row(pub(super) Vec<Value>);

impl Row {
    /// The value of a column, from 0.
    pub(in crate::store) fn get<T: Column>(&self, column: usize) -> Result<T, StoreError> {
        let value = self.0.get(column).unwrap_or(&Value::Null);
        T::of(value).ok_or_else(|| StoreError::Column { column, value: format!("{value:?}") })
    }
}

/// What a column can be read as.
pub(in crate::store) trait Column: Sized {
    /// None where the value is of another type.
    fn of(value: &Value) -> Option<Self>;
}

impl Column for i64 {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

/// A number below zero, which nobody wrote, is none.
impl Column for u64 {
    fn of(value: &Value) -> Option<Self> {
        i64::of(value).map(|number| Self::try_from(number).unwrap_or(0))
    }
}

impl Column for u32 {
    fn of(value: &Value) -> Option<Self> {
        i64::of(value).and_then(|number| Self::try_from(number).ok())
    }
}

impl Column for String {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::of(other).map(Some),
        }
    }
}
