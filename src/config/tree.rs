//! The configuration as a tree of values that each know where they were written.
//!
//! The `toml` crate's own tree knows byte offsets only and cannot hold values from the environment; this one
//! holds both alike. Nothing here derives `Debug`: the tree has secrets in it.

use std::{collections::BTreeMap, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::{Mistake, Place};

/// A table by key.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and where it was written.
pub(super) struct Node {
    pub(super) value: Value,
    /// Where the value begins.
    pub(super) place: Place,
    /// Where the key that names it begins.
    pub(super) key_place: Place,
    /// The text as the environment gave it. A key that wants text takes this, since a secret such as
    /// `12345678` would otherwise turn out to be a number.
    pub(super) raw: Option<String>,
}

/// A TOML value.
pub(super) enum Value {
    Text(String),
    /// `None` where the number does not fit 64 bits.
    Integer(Option<i64>),
    /// `None` where the number is not finite.
    Float(Option<f64>),
    Boolean(bool),
    Datetime,
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    /// The kind of value, with its article.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Datetime => "a date or time",
            Self::Array(_) => "a list",
            Self::Table(_) => "a section",
        }
    }
}

impl Node {
    /// The node's text, if it is a string or a plain value from the environment.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime => self.raw.as_deref(),
            Value::Array(_) | Value::Table(_) => None,
        }
    }
}

/// Turns byte offsets of a text into lines and columns.
pub(super) struct Positions<'a> {
    file: Arc<str>,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Positions<'a> {
    pub(super) fn new(file: Arc<str>, text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { file, text, line_starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// The place at `offset`; an offset behind the text is its end.
    pub(super) fn at(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(offset - start, |before| before.chars().count()) + 1;
        Place::File { file: self.file.clone(), line, column }
    }
}

/// Parses a TOML document. The error's texts name what TOML expects and never quote the line, because the
/// line may hold a secret.
pub(super) fn parse_document(positions: &Positions<'_>) -> Result<Table, Vec<Mistake>> {
    let (document, errors) = DeTable::parse_recoverable(positions.text);
    if errors.is_empty() {
        return Ok(table(document.into_inner(), &|offset| positions.at(offset)));
    }
    let mistakes = errors.iter().map(|error| Mistake {
        place: positions.at(error.span().map_or(0, |span| span.start)),
        key: String::new(),
        text: format!("not valid TOML: {}", error.message()),
    });
    Err(mistakes.collect())
}

/// The node for the text of an environment variable: a TOML value where it is one, else a string.
pub(super) fn parse_variable(variable: &str, text: &str) -> Node {
    let place = Place::Environment { variable: variable.to_owned() };
    let value = match DeValue::parse(text) {
        Ok(parsed) => value(parsed.into_inner(), &|_| place.clone()),
        Err(_) => Value::Text(text.to_owned()),
    };
    Node { value, key_place: place.clone(), place, raw: Some(text.to_owned()) }
}

fn table(source: DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Table {
    source
        .into_iter()
        .map(|(key, item)| {
            let node = Node {
                place: place(item.span().start),
                key_place: place(key.span().start),
                value: value(item.into_inner(), place),
                raw: None,
            };
            (key.into_inner().into_owned(), node)
        })
        .collect()
}

fn value(source: DeValue<'_>, place: &dyn Fn(usize) -> Place) -> Value {
    match source {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(number) => {
            Value::Float(number.as_str().parse().ok().filter(|float: &f64| float.is_finite()))
        }
        DeValue::Boolean(truth) => Value::Boolean(truth),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| {
                    let at = place(item.span().start);
                    Node {
                        key_place: at.clone(),
                        place: at,
                        value: value(item.into_inner(), place),
                        raw: None,
                    }
                })
                .collect(),
        ),
        DeValue::Table(entries) => Value::Table(table(entries, place)),
    }
}
