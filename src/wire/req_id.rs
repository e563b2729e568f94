//! Request ids: the UTC second, and twelve random characters.

use std::time::SystemTime;

/// 64 characters that are safe in a URL, so that six bits choose one without bias.
const ALPHABET: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-";

/// Makes a request id of the service's form, `YYYYMMDDHHMMSS_` and 12 characters.
///
/// `random` gives 72 of its 128 bits to the id; ids are never reused, so it must be fresh each time.
pub fn request_id(now: SystemTime, random: u128) -> String {
    let stamp = humantime::format_rfc3339_seconds(now).to_string();
    let mut id: String = stamp.chars().filter(char::is_ascii_digit).collect();
    id.push('_');
    for position in 0..12 {
        let index = usize::try_from((random >> (position * 6)) & 63).unwrap_or_default();
        id.push(char::from(ALPHABET[index]));
    }
    id
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    #[test]
    fn an_id_has_the_form_that_the_service_knows() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_841_600);
        let id = request_id(now, u128::MAX);
        assert_eq!(&id[..15], "20251122200000_");
        assert_eq!(id.len(), 27);
    }

    #[test]
    fn the_alphabet_has_no_character_twice() {
        assert_eq!(ALPHABET.iter().collect::<BTreeSet<_>>().len(), 64);
    }
}
