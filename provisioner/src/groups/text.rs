//! Documents as text: TOML for people, JSON for programs. Keys stand in their order, so that two
//! exports differ where their documents do.

use super::{Json, reader::Mistake};
use serde::Serialize;

/// How a document is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// For people.
    #[default]
    Toml,
    /// For programs.
    Json,
}

impl Format {
    /// What a text is written in: a document in JSON begins with a brace, and one in TOML cannot.
    pub fn of(text: &str) -> Self {
        if text.trim_start().starts_with('{') { Self::Json } else { Self::Toml }
    }

    /// Its media type (RFC 8259; TOML's is registered with IANA).
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Toml => "application/toml",
            Self::Json => "application/json",
        }
    }
}

/// Reads a text.
pub fn parse(text: &str, format: Format) -> Result<Json, Mistake> {
    let wrong = |what: String| Mistake { at: String::new(), what };
    match format {
        Format::Json => serde_json::from_str(text).map_err(|error| wrong(error.to_string())),
        Format::Toml => {
            let table: toml::Table =
                text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
            Ok(of_toml(toml::Value::Table(table)))
        }
    }
}

/// TOML has times as values of their own; here they are texts.
fn of_toml(value: toml::Value) -> Json {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(of_toml).collect(),
        toml::Value::Table(table) => {
            Json::Object(table.into_iter().map(|(key, value)| (key, of_toml(value))).collect())
        }
    }
}

/// A document that cannot be written. None that was read is.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// As TOML.
    #[error("the configuration cannot be written as TOML: {0}; export it as JSON")]
    Toml(#[from] toml::ser::Error),
    /// As JSON.
    #[error("the configuration cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes a document.
pub fn write<T: Serialize>(document: &T, format: Format) -> Result<String, WriteError> {
    // By way of JSON, whose tables are in the order of their keys.
    let json = serde_json::to_value(document)?;
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(&json)? + "\n",
        Format::Toml => toml::to_string_pretty(&toml::Table::try_from(json)?)?,
    })
}
