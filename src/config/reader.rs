//! Reads sections key by key, and keeps every mistake instead of stopping at the first.
//!
//! A getter does three things: it makes its key a known one, it checks the value, and on a mistake it gives
//! the default, so that reading goes on. What no getter asked for is unknown.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::SocketAddr,
    ops::RangeInclusive,
    path::Path,
    time::Duration,
};

use url::Url;

use super::{
    Mistake, Place,
    overrides::variable_for,
    tree::{Node, Table, Value},
};

/// An unknown key, kept until all known ones are known.
struct Unknown {
    place: Place,
    path: String,
    key: String,
    siblings: Vec<&'static str>,
}

/// Everything that reading found out, and what it needs from outside.
pub(super) struct Report<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    /// The directory that relative paths of secret files begin at.
    pub(super) directory: &'a Path,
    mistakes: RefCell<Vec<Mistake>>,
    unknown: RefCell<Vec<Unknown>>,
    known: RefCell<BTreeSet<String>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(env: &'a BTreeMap<String, String>, directory: &'a Path) -> Self {
        Self {
            env,
            directory,
            mistakes: RefCell::default(),
            unknown: RefCell::default(),
            known: RefCell::default(),
        }
    }

    pub(super) fn mistake(&self, place: &Place, key: &str, text: impl Into<String>) {
        let mistake = Mistake { place: place.clone(), key: key.to_owned(), text: text.into() };
        self.mistakes.borrow_mut().push(mistake);
    }

    /// The mistakes, sorted by place, and the paths of all known keys; entries of a list are `[0]`.
    pub(super) fn finish(self) -> (Vec<Mistake>, BTreeSet<String>) {
        let known = self.known.into_inner();
        let mut mistakes = self.mistakes.into_inner();
        for unknown in self.unknown.into_inner() {
            mistakes.push(unknown.into_mistake(&known));
        }
        mistakes.sort();
        (mistakes, known)
    }
}

impl Unknown {
    fn into_mistake(self, known: &BTreeSet<String>) -> Mistake {
        let hint = match &self.place {
            Place::Environment { variable } => nearest(variable, known.iter().map(|path| variable_for(path)))
                .map_or_else(String::new, |name| format!("; the nearest known one is {name}")),
            Place::File { .. } => self.hint_in_file(known),
        };
        Mistake { place: self.place, key: self.path, text: format!("unknown key{hint}") }
    }

    fn hint_in_file(&self, known: &BTreeSet<String>) -> String {
        let moved = known.iter().find(|path| path.rsplit('.').next() == Some(&self.key));
        if let Some(path) = moved {
            return format!("; there is a key of this name at \"{path}\"");
        }
        nearest(&self.key, self.siblings.iter().copied())
            .map_or_else(String::new, |key| format!("; the nearest known one is \"{key}\""))
    }
}

fn nearest<T: AsRef<str>>(name: &str, candidates: impl Iterator<Item = T>) -> Option<T> {
    candidates.min_by_key(|candidate| strsim::damerau_levenshtein(name, candidate.as_ref()))
}

/// A section of the file: its table, or nothing where the file does not have it.
pub(super) struct Section<'a> {
    pub(super) report: &'a Report<'a>,
    table: Option<&'a Table>,
    path: String,
    place: Place,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// Reads the whole document with `read`, then looks for what it did not ask for.
    pub(super) fn root<T>(
        report: &'a Report<'a>,
        table: &'a Table,
        place: Place,
        read: impl FnOnce(&Self) -> T,
    ) -> T {
        Self::within(report, Some(table), String::new(), place, read)
    }

    fn within<T>(
        report: &'a Report<'a>,
        table: Option<&'a Table>,
        path: String,
        place: Place,
        read: impl FnOnce(&Self) -> T,
    ) -> T {
        let section = Self { report, table, path, place, asked: RefCell::default() };
        let result = read(&section);
        section.note_unknown_keys();
        result
    }

    fn note_unknown_keys(self) {
        let asked = self.asked.take();
        for (key, node) in self.table.into_iter().flatten() {
            if !asked.contains(&key.as_str()) {
                self.report.unknown.borrow_mut().push(Unknown {
                    place: node.key_place.clone(),
                    path: self.path_of(&key.escape_debug().to_string()),
                    key: key.clone(),
                    siblings: asked.clone(),
                });
            }
        }
    }

    /// The path of `key` in this section.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, which becomes known.
    pub(super) fn node(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key);
        self.report.known.borrow_mut().insert(self.path_of(key));
        self.table.and_then(|table| table.get(key))
    }

    /// The entries of the list `key`, where the file has it.
    pub(super) fn list(&self, key: &'static str) -> Option<&'a [Node]> {
        self.value(key, |node| {
            let Value::Array(items) = &node.value else {
                return Err(format!("is {}, but must be a list: [ ... ]", node.value.kind()));
            };
            Ok(items.as_slice())
        })
    }

    /// Where it begins.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Reports a mistake of `key` where its value stands, or where the section begins if it has none.
    pub(super) fn mistake(&self, key: &str, text: impl Into<String>) {
        let place = self.table.and_then(|table| table.get(key)).map_or(&self.place, |node| &node.place);
        self.report.mistake(place, &self.path_of(key), text);
    }

    /// Reads the section `key` with `read`, which also runs where the file has no such section.
    pub(super) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Section<'a>) -> T) -> T {
        self.asked.borrow_mut().push(key);
        let node = self.table.and_then(|table| table.get(key));
        let table = match node.map(|node| (&node.value, node)) {
            None => None,
            Some((Value::Table(table), _)) => Some(table),
            Some((other, node)) => {
                let text = format!("is {}, but must be a section", other.kind());
                self.report.mistake(&node.place, &self.path_of(key), text);
                None
            }
        };
        let place = node.map_or(&self.place, |node| &node.place).clone();
        Section::within(self.report, table, self.path_of(key), place, read)
    }

    /// Reads each section of the list `key`.
    pub(super) fn sections<T>(&self, key: &'static str, read: impl Fn(&Section<'a>) -> T) -> Vec<T> {
        self.asked.borrow_mut().push(key);
        let Some(node) = self.table.and_then(|table| table.get(key)) else { return Vec::new() };
        let Value::Array(items) = &node.value else {
            let text = format!("is {}, but must be a list of sections, [[{key}]]", node.value.kind());
            self.report.mistake(&node.place, &self.path_of(key), text);
            return Vec::new();
        };
        let mut results = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = self.path_of(&format!("{key}[{index}]"));
            if let Value::Table(table) = &item.value {
                results.push(Section::within(self.report, Some(table), path, item.place.clone(), &read));
            } else {
                let text = format!("is {}, but must be a section, [[{key}]]", item.value.kind());
                self.report.mistake(&item.place, &path, text);
            }
        }
        results
    }

    /// Refuses a key that later versions will have, saying so instead of calling it unknown.
    pub(super) fn not_yet(&self, key: &'static str, reason: &str) {
        if let Some(node) = self.table.and_then(|table| table.get(key)) {
            self.asked.borrow_mut().push(key);
            self.report.mistake(&node.key_place, &self.path_of(key), reason);
        }
    }

    /// The value of `key` as `convert` gives it; a text of `convert` is a mistake.
    pub(super) fn value<T>(
        &self,
        key: &'static str,
        convert: impl FnOnce(&'a Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.node(key)?;
        match convert(node) {
            Ok(value) => Some(value),
            Err(text) => {
                self.report.mistake(&node.place, &self.path_of(key), text);
                None
            }
        }
    }

    /// As [`Section::value`], from text only.
    pub(super) fn text<T>(
        &self,
        key: &'static str,
        expected: &str,
        convert: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        self.value(key, |node| match node.text() {
            Some(text) => convert(text),
            None => Err(format!("is {}, but must be {expected}", node.value.kind())),
        })
    }

    fn whole(&self, key: &'static str, range: &RangeInclusive<u64>, unit: &str) -> Option<u64> {
        let allowed = || format!("a whole number from {} to {}{unit}", range.start(), range.end());
        self.value(key, |node| match &node.value {
            Value::Integer(Some(number)) => match u64::try_from(*number) {
                Ok(fits) if range.contains(&fits) => Ok(fits),
                Ok(_) | Err(_) => Err(format!("is {number}, but must be {}", allowed())),
            },
            Value::Integer(None) => Err(format!("is out of all bounds; use {}", allowed())),
            Value::Text(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime
            | Value::Array(_)
            | Value::Table(_) => Err(format!("is {}, but must be {}", node.value.kind(), allowed())),
        })
    }

    /// A number of things.
    pub(super) fn count(&self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        self.whole(key, &range, "").and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    }

    /// A number of things, where the file has one.
    pub(super) fn own_count(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        self.whole(key, &range, "").and_then(|number| u32::try_from(number).ok())
    }

    /// A number of bytes, where the file has one.
    pub(super) fn own_bytes(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<usize> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        self.whole(key, &range, " (bytes)").and_then(|number| usize::try_from(number).ok())
    }

    /// A span in seconds, where the file has one.
    pub(super) fn own_seconds(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<Duration> {
        self.whole(key, &range, " (seconds)").map(Duration::from_secs)
    }

    /// One of a few words, where the file has one.
    pub(super) fn own_choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let expected = alternatives(words.iter().map(|(word, _)| word));
        self.text(key, &expected, |text| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
            found.ok_or_else(|| format!("\"{}\" is not allowed; use {expected}", text.escape_debug()))
        })
    }

    /// A number of bytes.
    pub(super) fn bytes(&self, key: &'static str, default: usize, range: RangeInclusive<u32>) -> usize {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        self.whole(key, &range, " (bytes)").and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    }

    /// A span in milliseconds.
    pub(super) fn millis(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<u64>,
    ) -> Duration {
        self.whole(key, &range, " (milliseconds)").map_or(default, Duration::from_millis)
    }

    /// A span in seconds.
    pub(super) fn seconds(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<u64>,
    ) -> Duration {
        self.whole(key, &range, " (seconds)").map_or(default, Duration::from_secs)
    }

    /// A number that may have a fraction.
    pub(super) fn number(&self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let allowed = || format!("a number from {:?} to {:?}", range.start(), range.end());
        let check = |number: f64| {
            if range.contains(&number) {
                Ok(number)
            } else {
                Err(format!("is {number}, but must be {}", allowed()))
            }
        };
        let number = self.value(key, |node| match &node.value {
            Value::Float(Some(number)) => check(*number),
            Value::Integer(Some(number)) => match i32::try_from(*number) {
                Ok(small) => check(f64::from(small)),
                Err(_) => Err(format!("is {number}, but must be {}", allowed())),
            },
            Value::Float(None) | Value::Integer(None) => {
                Err(format!("is out of all bounds; use {}", allowed()))
            }
            Value::Text(_) | Value::Boolean(_) | Value::Datetime | Value::Array(_) | Value::Table(_) => {
                Err(format!("is {}, but must be {}", node.value.kind(), allowed()))
            }
        });
        number.unwrap_or(default)
    }

    /// True or false.
    pub(super) fn switch(&self, key: &'static str, default: bool) -> bool {
        let value = self.value(key, |node| match &node.value {
            Value::Boolean(on) => Ok(*on),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Datetime
            | Value::Array(_)
            | Value::Table(_) => Err(format!("is {}, but must be true or false", node.value.kind())),
        });
        value.unwrap_or(default)
    }

    /// An address to listen on.
    pub(super) fn address(&self, key: &'static str, default: SocketAddr) -> SocketAddr {
        const EXPECTED: &str = "an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"";
        self.text(key, EXPECTED, |text| {
            text.parse().map_err(|_| format!("\"{}\" is not {EXPECTED}", text.escape_debug()))
        })
        .unwrap_or(default)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, default: T, words: &[(&str, T)]) -> T {
        self.own_choice(key, words).unwrap_or(default)
    }

    /// The base of the service's addresses. The text is never quoted: it may have a password in it.
    pub(super) fn base_url(&self, key: &'static str, default: &Url, schemes: &[&str]) -> Url {
        let expected = format!("a URL that begins with {}", alternatives(schemes.iter()));
        self.text(key, &expected, |text| {
            let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); use {expected}"))?;
            if !schemes.contains(&url.scheme()) || !url.has_host() {
                return Err(format!("has the scheme \"{}\"; use {expected}", url.scheme()));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err("has a user name or password in it; credentials belong to [[tenants]]".to_owned());
            }
            if url.query().is_some() || url.fragment().is_some() {
                return Err("has a query or fragment; paths are appended to it, so leave them out".to_owned());
            }
            Ok(url)
        })
        .unwrap_or_else(|| default.clone())
    }
}

/// `"a", "b" or "c"`.
pub(super) fn alternatives<T: Display>(words: impl ExactSizeIterator<Item = T>) -> String {
    let last = words.len().saturating_sub(1);
    let mut text = String::new();
    for (index, word) in words.enumerate() {
        let between = match index {
            0 => "",
            _ if index == last => " or ",
            _ => ", ",
        };
        text.push_str(&format!("{between}\"{word}\""));
    }
    text
}
