//! Secrets: written out, in an environment variable, or in a file.
//!
//! A mistake names the key, the variable or the file, never the secret.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use secrecy::SecretString;

use super::{
    Place,
    reader::{Report, Section},
    tree::{Node, Table, Value},
};

/// The longest secret, in bytes. Long API keys are JWTs of a kilobyte or two; beyond this a path is likely to
/// name the wrong file.
const MAX_SECRET_BYTES: u64 = 4096;

const FORMS: &str = "a string, { env = \"NAME\" } or { file = \"PATH\" }";

impl Section<'_> {
    /// The secret `key`, if the file has it.
    pub(super) fn secret(&self, key: &'static str) -> Option<SecretString> {
        self.value(key, |node| secret(self.report, node))
    }

    /// As [`Section::secret`], with spaces allowed between words: `Bearer ...`.
    pub(super) fn secret_words(&self, key: &'static str) -> Option<SecretString> {
        self.value(key, |node| {
            let (text, source) = stated(self.report, node)?;
            if !text
                .split(' ')
                .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic()))
            {
                return Err(format!(
                    "{source} has line breaks, characters beyond ASCII or needless spaces in it"
                ));
            }
            Ok(SecretString::from(text))
        })
    }

    /// The secrets of the list `key` with the place of each; `None` without the key or with an empty list.
    pub(super) fn secrets(&self, key: &'static str) -> Option<Vec<(SecretString, Place)>> {
        let node = self.node(key)?;
        let Value::Array(items) = &node.value else {
            self.mistake(key, format!("is {}, but must be a list: [ ... ]", node.value.kind()));
            return Some(Vec::new());
        };
        if items.is_empty() {
            return None;
        }
        let mut secrets = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match secret(self.report, item) {
                Ok(secret) => secrets.push((secret, item.place.clone())),
                Err(text) => {
                    self.report.mistake(&item.place, &self.path_of(&format!("{key}[{index}]")), text);
                }
            }
        }
        Some(secrets)
    }
}

fn secret(report: &Report<'_>, node: &Node) -> Result<SecretString, String> {
    let (text, source) = stated(report, node)?;
    // Keys travel in HTTP headers; one that cannot would fail every call with an error that hides why.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{source} has spaces, line breaks or characters beyond ASCII in it"));
    }
    Ok(SecretString::from(text))
}

/// The text of a secret, neither empty nor too long, and what to call it in a mistake.
fn stated(report: &Report<'_>, node: &Node) -> Result<(String, String), String> {
    let (text, source) = match &node.value {
        Value::Table(table) => referenced(report, table)?,
        Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_) => {
            let text = node.text().ok_or_else(|| format!("is {}, but must be {FORMS}", node.value.kind()))?;
            (text.to_owned(), "the secret".to_owned())
        }
    };
    if text.is_empty() {
        return Err(format!("{source} is empty"));
    }
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!("{source} is longer than {MAX_SECRET_BYTES} bytes"));
    }
    Ok((text, source))
}

/// The text that `{ env = ... }` or `{ file = ... }` refers to, and what to call it in a mistake.
fn referenced(report: &Report<'_>, table: &Table) -> Result<(String, String), String> {
    let mut entries = table.iter();
    let (Some((form, node)), None) = (entries.next(), entries.next()) else {
        return Err(format!("must have exactly one of the keys \"env\" and \"file\": {FORMS}"));
    };
    let Some(name) = node.text() else {
        return Err(format!("\"{form}\" is {}, but must be a string", node.value.kind()));
    };
    match form.as_str() {
        "env" => {
            let source = format!("the environment variable {}", name.escape_debug());
            let text = report.env.get(name).ok_or_else(|| format!("{source} is not set"))?;
            Ok((text.clone(), source))
        }
        "file" => {
            let path = report.directory.join(name);
            let source = format!("the file {}", path.display());
            let text = read_bounded(&path).map_err(|error| format!("{source} cannot be read: {error}"))?;
            let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.trim_end_matches('\r'));
            Ok((line.to_owned(), source))
        }
        other => Err(format!("unknown key \"{}\"; use \"env\" or \"file\": {FORMS}", other.escape_debug())),
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // Two more for a line end, one more to see that it is too long.
    File::open(path)?.take(MAX_SECRET_BYTES + 3).read_to_string(&mut text)?;
    Ok(text)
}
