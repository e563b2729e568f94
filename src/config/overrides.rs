//! Environment variables that override keys: `GREENROOM_SERVER__LISTEN` is `server.listen`.

use std::collections::BTreeMap;

use crate::errors::ErrorCode;

use super::{
    Mistake, Place,
    tree::{Node, Table, Value, parse_variable},
};

const PREFIX: &str = "GREENROOM_";
const BETWEEN_LEVELS: &str = "__";

/// The variable that overrides the key at `path`; `[n]` becomes a level of its own.
pub(super) fn variable_for(path: &str) -> String {
    let levels = path.replace('[', ".").replace(']', "").replace('.', BETWEEN_LEVELS);
    format!("{PREFIX}{}", levels.to_uppercase())
}

/// Puts every override into `tree`. Names without a double underscore are left alone: they belong to
/// secrets, such as `GREENROOM_ADMIN_KEY`. A key that does not exist is put in as well, and is found there by
/// whoever looks for unknown keys.
pub(super) fn apply(tree: &mut Table, env: &BTreeMap<String, String>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (variable, text) in env {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        // `GREENROOM__SERVER__LISTEN`, with two underscores after the prefix, is a misspelt override too.
        if !name.contains(BETWEEN_LEVELS) && !name.starts_with('_') {
            continue;
        }
        let levels: Vec<String> = name.split(BETWEEN_LEVELS).map(spelling).collect();
        if let Err(text) = insert(tree, &levels, parse_variable(variable, text)) {
            let place = Place::Environment { variable: variable.clone() };
            mistakes.push(Mistake { place, key: levels.join("."), text });
        }
    }
    mistakes
}

/// Keys are lower-case, but for the error codes under `recovery.policy`.
fn spelling(level: &str) -> String {
    ErrorCode::ALL
        .into_iter()
        .find(|code| code.as_str().eq_ignore_ascii_case(level))
        .map_or_else(|| level.to_lowercase(), |code| code.as_str().to_owned())
}

fn insert(table: &mut Table, levels: &[String], node: Node) -> Result<(), String> {
    let [level, deeper @ ..] = levels else { return Ok(()) };
    if deeper.is_empty() {
        table.insert(level.clone(), node);
        return Ok(());
    }
    let inner = table.entry(level.clone()).or_insert_with(|| Node {
        value: Value::Table(Table::new()),
        place: node.place.clone(),
        key_place: node.key_place.clone(),
        raw: None,
    });
    match &mut inner.value {
        Value::Table(inner) => insert(inner, deeper, node),
        Value::Array(items) => {
            let [index, deeper @ ..] = deeper else { return Ok(()) };
            let count = items.len();
            match index.parse().ok().and_then(|index: usize| items.get_mut(index)) {
                Some(Node { value: Value::Table(item), .. }) if !deeper.is_empty() => {
                    insert(item, deeper, node)
                }
                Some(_) => Err(format!("\"{level}\" can be overridden key by key only, or as a whole")),
                None => Err(format!(
                    "\"{level}\" has {count} entries; the level after it is the position of one, from 0"
                )),
            }
        }
        Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime => {
            Err(format!("\"{level}\" is no section and has no keys"))
        }
    }
}
