//! Ids of sessions: `ses_`, the time, and random characters, so that they sort by the time of their making.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::recovery::SessionId;

/// Crockford's alphabet: no letters that are read for another, and it sorts by value.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Makes an id of 50 bits of milliseconds and 80 bits of `random`.
pub(super) fn session_id(now: SystemTime, random: u128) -> SessionId {
    let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut id = String::with_capacity(30);
    id.push_str("ses_");
    push(&mut id, millis, 10);
    push(&mut id, random, 16);
    SessionId::from(id)
}

fn push(id: &mut String, value: u128, digits: u32) {
    for position in (0..digits).rev() {
        let index = usize::try_from((value >> (position * 5)) & 31).unwrap_or_default();
        id.push(char::from(ALPHABET[index]));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_sort_by_time_and_differ_by_chance() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let early = session_id(at(1_763_841_600_000), u128::MAX);
        let late = session_id(at(1_763_841_600_001), 0);
        assert!(early < late);
        assert_ne!(session_id(at(1), 1), session_id(at(1), 2));
        assert_eq!(late.as_str().len(), 30);
    }
}
