//! A session's spec, changed: the body of `PATCH /v1/sessions/{id}`, a JSON merge patch (RFC 7396).

use std::fmt;

use serde_json::{Map, Value};

use super::{Origin, SessionSpec, record::spec_record};

/// What can be changed.
const FIELDS: [&str; 7] =
    ["avatar_id", "sample_rate", "bitrate", "audio_format", "egress", "labels", "continuity"];

/// What a session shows of itself, and nobody changes.
const SHOWN: [&str; 13] = [
    "id",
    "tenant",
    "state",
    "reason",
    "origin",
    "connection_id",
    "capabilities",
    "restarts",
    "attempt",
    "next_attempt_at",
    "last_error",
    "created_at",
    "running_since",
];

/// How often a session's spec was changed: what an `ETag` names. The state is no part of it, or a client could never
/// change a session that restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// As an entity tag (RFC 9110, 8.8.3): strong, with its quotes.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// On which revisions something may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// On whichever is there.
    Any,
    /// On one of these.
    OneOf(Vec<Revision>),
}

impl Expected {
    /// What `If-Match` says (RFC 9110, 13.1.1); `None` is no such header. A tag that is none of ours, or weak, is a
    /// revision that was never there.
    pub fn read(header: Option<&str>) -> Self {
        let Some(header) = header else { return Self::Any };
        let tags = header.split(',').map(str::trim);
        if tags.clone().any(|tag| tag == "*") {
            return Self::Any;
        }
        let number = |tag: &str| {
            let number = tag.strip_prefix('"')?.strip_suffix('"')?;
            let revision = Revision(number.parse().ok()?);
            // `"+1"` and `"01"` are other tags than `"1"`.
            (revision.to_string() == tag).then_some(revision)
        };
        Self::OneOf(tags.filter_map(number).collect())
    }

    /// Whether this revision is one of them.
    pub fn allows(&self, revision: Revision) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(revisions) => revisions.contains(&revision),
        }
    }
}

impl SessionSpec {
    /// The spec with a merge patch applied, and its revision as it is. What is `null` takes its default; an egress of
    /// another type takes the place of the one that is there.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the patch or with what would come of it, each as one sentence.
    pub fn patched(&self, patch: &Map<String, Value>) -> Result<Self, Vec<String>> {
        let unknown: Vec<String> = patch.keys().filter_map(|name| unknown_field(name)).collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let mut document = self.document();
        if is_of_another_type(document.get("egress"), patch.get("egress")) {
            document.remove("egress");
        }
        merge(&mut document, patch);
        if !document.contains_key("avatar_id") {
            return Err(vec!["avatar_id: a session needs one, it cannot be taken away".to_owned()]);
        }
        // A default is told by absence.
        document.retain(|_, value| !value.is_null());
        let mut spec: Self = serde_path_to_error::deserialize(Value::Object(document)).map_err(|error| {
            let path = error.path().to_string();
            vec![format!("{path}: {}", with_nearest(&error.inner().to_string()))]
        })?;
        spec.revision = self.revision;
        let mistakes = spec.mistakes();
        if mistakes.is_empty() { Ok(spec) } else { Err(mistakes) }
    }

    /// Its JSON, with the secrets: for merging, and for nothing else.
    fn document(&self) -> Map<String, Value> {
        match serde_json::to_value(spec_record(self, Origin::Api)) {
            Ok(Value::Object(mut document)) => {
                document.remove("revision");
                document
            }
            // A record is an object.
            Ok(_) | Err(_) => Map::new(),
        }
    }

    /// Whether the service has to be told of the difference, which it is on a new connection.
    pub fn needs_restart(&self, before: &Self) -> bool {
        self.avatar_id != before.avatar_id || self.configure_message() != before.configure_message()
    }

    /// Whether nothing differs but the revision.
    pub fn says_the_same(&self, other: &Self) -> bool {
        !self.needs_restart(other) && self.labels == other.labels && self.continuity == other.continuity
    }
}

fn unknown_field(name: &str) -> Option<String> {
    if FIELDS.contains(&name) {
        None
    } else if SHOWN.contains(&name) {
        Some(format!("{name}: cannot be changed; {} can", FIELDS.join(", ")))
    } else {
        let nearest = nearest(name, FIELDS.into_iter()).unwrap_or_default();
        Some(format!("unknown field `{name}`; the nearest known one is `{nearest}`"))
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|known| strsim::damerau_levenshtein(name, known))
}

/// An error of deserialization that names an unknown field and lists the known ones, with the nearest of them.
fn with_nearest(error: &str) -> String {
    let Some((unknown, known)) =
        error.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, expected "))
    else {
        return error.to_owned();
    };
    // Every second piece stands between the quotes.
    match nearest(unknown, known.split('`').skip(1).step_by(2)) {
        Some(nearest) => format!("unknown field `{unknown}`; the nearest known one is `{nearest}`"),
        None => error.to_owned(),
    }
}

fn is_of_another_type(standing: Option<&Value>, patch: Option<&Value>) -> bool {
    match (standing.and_then(|it| it.get("type")), patch.and_then(|it| it.get("type"))) {
        (Some(standing), Some(wanted)) => standing != wanted,
        (None | Some(_), None) | (None, Some(_)) => false,
    }
}

/// RFC 7396, 2.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(patch) => {
                let place = target.entry(name.clone()).or_insert(Value::Null);
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                if let Value::Object(place) = place {
                    merge(place, patch);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: Value) -> SessionSpec {
        serde_json::from_value(value).unwrap()
    }

    fn patched(before: &Value, patch: Value) -> Result<Map<String, Value>, Vec<String>> {
        let Value::Object(patch) = patch else { panic!("a patch is an object") };
        spec(before.clone()).patched(&patch).map(|spec| spec.document())
    }

    fn livekit() -> Value {
        json!({"avatar_id": "a", "sample_rate": 24000, "labels": {"team": "red", "tier": "1"}, "continuity": "off",
               "egress": {"type": "livekit", "room_name": "r", "api_token": "old", "extra_attributes": {"k": "v"}}})
    }

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let agora = json!({"type": "agora", "channel_name": "c", "token": "t", "uid": 0, "publisher_id": ""});
        for (patch, path, after) in [
            (json!({}), "", Value::Null),
            (json!({"avatar_id": "b"}), "/avatar_id", json!("b")),
            (json!({"sample_rate": 48000}), "/sample_rate", json!(48000)),
            (json!({"sample_rate": null}), "/sample_rate", json!(16000)),
            (json!({"bitrate": 9}), "/bitrate", json!(9)),
            (json!({"audio_format": "ogg_opus"}), "/audio_format", json!("ogg_opus")),
            (json!({"continuity": "resume"}), "/continuity", json!("resume")),
            (json!({"continuity": null}), "/continuity", Value::Null),
            (json!({"labels": {"team": "blue"}}), "/labels", json!({"team": "blue", "tier": "1"})),
            (json!({"labels": {"team": null, "new": "n"}}), "/labels", json!({"new": "n", "tier": "1"})),
            (json!({"labels": null}), "/labels", json!({})),
            (json!({"egress": {"api_token": "new"}}), "/egress/api_token", json!("new")),
            (
                json!({"egress": {"extra_attributes": {"k": null, "l": "m"}}}),
                "/egress/extra_attributes",
                json!({"l": "m"}),
            ),
            (json!({"egress": null}), "/egress", Value::Null),
            (json!({"egress": {"type": "agora", "channel_name": "c", "token": "t"}}), "/egress", agora),
        ] {
            let mut expected = Value::Object(spec(livekit()).document());
            if !path.is_empty() {
                *expected.pointer_mut(path).unwrap() = after;
            }
            assert_eq!(patched(&livekit(), patch.clone()).map(Value::Object), Ok(expected), "{patch}");
        }
    }

    #[test]
    fn what_cannot_be_is_named_with_the_nearest_that_can() {
        for (patch, texts) in [
            (json!({"avatr_id": "b"}), &["avatr_id", "`avatar_id`"][..]),
            (json!({"tenant": "globex"}), &["tenant: cannot be changed", "labels"]),
            (json!({"id": "ses_1", "lables": {}}), &["id: cannot", "`labels`"]),
            (json!({"egress": {"api_tokn": "t"}}), &["egress", "api_tokn", "`api_token`"]),
            (json!({"egress": {"type": "zoom"}}), &["egress", "zoom"]),
            (json!({"avatar_id": null}), &["avatar_id", "cannot be taken away"]),
            (json!({"avatar_id": ""}), &["avatar_id", "1 to 256"]),
            (json!({"avatar_id": 5}), &["avatar_id", "string"]),
            (json!({"sample_rate": 0}), &["sample_rate"]),
            (json!({"sample_rate": [1]}), &["sample_rate"]),
            (json!({"labels": {"a": 1}}), &["labels"]),
            (json!({"labels": []}), &["labels"]),
            (json!({"continuity": "always"}), &["continuity", "always"]),
        ] {
            let mistakes = patched(&livekit(), patch.clone()).unwrap_err().join("; ");
            for text in texts {
                assert!(mistakes.contains(text), "{patch}: {mistakes}");
            }
        }
        let without = json!({"avatar_id": "a"});
        let mistakes = patched(&without, json!({"egress": {"room_name": "r"}})).unwrap_err();
        assert!(mistakes[0].contains("type"), "{mistakes:?}");
    }

    #[test]
    fn every_field_of_a_spec_can_be_changed_and_none_that_is_shown_besides() {
        let document = spec(livekit()).document();
        assert_eq!(
            document.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
            FIELDS.into()
        );
        assert!(SHOWN.iter().all(|name| !FIELDS.contains(name)));
    }

    #[test]
    fn only_what_the_service_is_told_needs_a_restart() {
        let before = spec(livekit());
        for (patch, restarts, same) in [
            (json!({}), false, true),
            (json!({"sample_rate": 24000, "egress": {"api_token": "old"}}), false, true),
            (json!({"labels": {"team": "blue"}}), false, false),
            (json!({"continuity": "resume"}), false, false),
            (json!({"avatar_id": "b"}), true, false),
            (json!({"sample_rate": 48000}), true, false),
            (json!({"bitrate": 9}), true, false),
            (json!({"audio_format": "ogg_opus"}), true, false),
            (json!({"egress": {"api_token": "new"}}), true, false),
            (json!({"egress": null}), true, false),
        ] {
            let after = before.patched(patch.as_object().unwrap()).unwrap();
            assert_eq!(
                (after.needs_restart(&before), after.says_the_same(&before)),
                (restarts, same),
                "{patch}"
            );
        }
    }

    #[test]
    fn if_match_is_read_strictly() {
        let (first, second) = (Revision(1), Revision(2));
        for (header, allowed) in [
            (None, [true, true]),
            (Some("*"), [true, true]),
            (Some("\"1\""), [true, false]),
            (Some("\"7\", \"2\""), [false, true]),
            (Some("\"1\",\"2\""), [true, true]),
            (Some("W/\"1\""), [false, false]),
            (Some("1"), [false, false]),
            (Some("\"01\""), [false, false]),
            (Some("\"+1\""), [false, false]),
            (Some("\"\""), [false, false]),
            (Some(""), [false, false]),
        ] {
            let expected = Expected::read(header);
            assert_eq!([expected.allows(first), expected.allows(second)], allowed, "{header:?}");
        }
        assert_eq!(Expected::read(Some(&first.to_string())), Expected::OneOf(vec![first]));
    }
}
