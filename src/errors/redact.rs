//! Takes secrets out of texts before they reach a log, an event, an error or a response.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// RFC 3986 lets `-._~` stand unencoded, and most encoders do; others encode all but letters and digits.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// So much of the beginning of a secret counts as the secret: whoever quotes it in a bounded place, such as a
/// close reason of 123 bytes, cuts it. Fewer bytes say little, and stand in innocent texts too.
const HEAD_BYTES: usize = 12;

/// `text` with [`REDACTED`] in place of each occurrence of one of `secrets`, as it is, percent-encoded or as JSON
/// escapes it, and also where only its beginning stands there, of 12 bytes or more.
///
/// Empty secrets are left out. Where secrets overlap in the text, the whole span is replaced once: taking out
/// one secret must not leave the end of another.
pub fn redact(text: &str, secrets: &[&str]) -> String {
    let mut spans: Vec<(usize, usize)> =
        needles(secrets).iter().flat_map(|needle| occurrences(text, needle)).collect();
    // The longest first where several begin at the same place.
    spans.sort_unstable_by_key(|&(start, end)| (start, std::cmp::Reverse(end)));
    let mut clean = String::with_capacity(text.len());
    let mut kept_to = 0;
    for (start, end) in spans {
        if start >= kept_to {
            clean.push_str(&text[kept_to..start]);
            clean.push_str(REDACTED);
        }
        kept_to = kept_to.max(end);
    }
    clean.push_str(&text[kept_to..]);
    clean
}

/// Every spelling to look for: plain, percent-encoded as encoders do it, and escaped as in JSON, where some
/// writers escape the slash too.
fn needles(secrets: &[&str]) -> Vec<String> {
    let mut needles: Vec<String> = secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .flat_map(|secret| {
            let component = utf8_percent_encode(secret, COMPONENT).to_string();
            let all = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
            // Forms write a blank as a plus.
            let form = component.replace("%20", "+");
            let json = secret.replace('\\', "\\\\").replace('"', "\\\"");
            let slashed = json.replace('/', "\\/");
            [
                (*secret).to_owned(),
                lower_hex(&component),
                lower_hex(&all),
                component,
                all,
                form,
                json,
                slashed,
            ]
        })
        .collect();
    needles.sort_unstable();
    needles.dedup();
    needles
}

/// The same percent-encoded text with its hexadecimal digits in lower case.
fn lower_hex(encoded: &str) -> String {
    let mut digits_left = 0;
    encoded
        .chars()
        .map(|character| {
            if character == '%' {
                digits_left = 2;
            } else if digits_left > 0 {
                digits_left -= 1;
                return character.to_ascii_lowercase();
            }
            character
        })
        .collect()
}

/// The byte spans of `needle`, or of a beginning of it of [`HEAD_BYTES`] at least, in `text`, overlapping ones
/// included.
fn occurrences(text: &str, needle: &str) -> Vec<(usize, usize)> {
    let step = needle.chars().next().map_or(1, char::len_utf8);
    let head = &needle[..needle.ceil_char_boundary(HEAD_BYTES)];
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find(head)) {
        let start = from + found;
        let common: usize = needle
            .chars()
            .zip(text[start..].chars())
            .take_while(|(wanted, have)| wanted == have)
            .map(|(wanted, _)| wanted.len_utf8())
            .sum();
        spans.push((start, start + common));
        from = start + step;
    }
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_occurrence_of_every_secret_is_replaced() {
        assert_eq!(redact("key=k1 k2 k1", &["k1", "k2"]), "key=[redacted] [redacted] [redacted]");
    }

    #[test]
    fn a_secret_is_found_as_json_escapes_it_and_where_it_was_cut() {
        let secret = "key/with\"quotes/and-more";
        assert_eq!(redact(r#"{"m": "key\/with\"quotes\/and-more"}"#, &[secret]), r#"{"m": "[redacted]"}"#);
        assert_eq!(redact(r#"{"m": "key/with\"quotes/and-more"}"#, &[secret]), r#"{"m": "[redacted]"}"#);
        assert_eq!(redact("bad key/with\"quo", &[secret]), "bad [redacted]");
        assert_eq!(redact("bad key/with", &[secret]), "bad key/with");
    }

    #[test]
    fn empty_secrets_and_foreign_texts_change_nothing() {
        assert_eq!(redact("nothing here", &["", "secret"]), "nothing here");
        assert_eq!(redact("", &["secret"]), "");
    }

    #[test]
    fn a_secret_inside_a_longer_one_does_not_leave_its_ends() {
        assert_eq!(redact("sk-live-123-x", &["123", "sk-live-123-x"]), REDACTED);
        assert_eq!(redact("abcd", &["abc", "bcd"]), REDACTED);
        assert_eq!(redact("aaaa", &["aaa"]), REDACTED);
    }

    #[test]
    fn the_marker_is_not_searched_again() {
        assert_eq!(redact("x redacted y", &["x", "redacted"]), "[redacted] [redacted] y");
    }

    #[test]
    fn percent_encoded_spellings_are_found() {
        let secret = "a/b+c d_é";
        for spelling in [
            "a/b+c d_é",
            "a%2Fb%2Bc%20d_%C3%A9",
            "a%2fb%2bc%20d_%c3%a9",
            "a%2Fb%2Bc%20d%5F%C3%A9",
            "a%2Fb%2Bc+d_%C3%A9",
        ] {
            assert_eq!(
                redact(&format!("?sessionKey={spelling}&x"), &[secret]),
                "?sessionKey=[redacted]&x",
                "{spelling}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_secret_survives(
            parts in prop::collection::vec("[A-Z0-9/+ é]{0,12}", 0..6),
            secrets in prop::collection::vec("[A-Z0-9/+é]{4,12}", 1..4),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut text = String::new();
            for (part, pick) in parts.iter().zip(&picks) {
                text.push_str(part);
                text.push_str(pick.get::<String>(&secrets));
            }
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let clean = redact(&text, &secrets);
            for secret in &secrets {
                prop_assert!(!clean.contains(secret), "{secret} in {clean}");
            }
        }
    }
}
