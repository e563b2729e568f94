//! The session tokens that were given out. Pure: opaque, single-use, bound to their expiry and API key.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, SystemTime},
};

/// More tokens than a storm of ten thousand sessions asks for in a day's test; the oldest go first.
const MAX_TOKENS: usize = 200_000;

/// How far ahead an expiry may lie.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// A token that was given out and not used yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) api_key: String,
    pub(super) expires_at: SystemTime,
}

/// Why an upgrade's token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenRefusal {
    /// Never given out.
    Unknown,
    /// Used before: a client's mistake, since every attempt needs a fresh one.
    Used,
    Expired,
}

#[derive(Clone, Debug)]
enum Entry {
    Fresh(Token),
    Used,
}

/// The tokens.
#[derive(Debug, Default)]
pub(super) struct TokenStore {
    entries: HashMap<String, Entry>,
    order: VecDeque<String>,
}

/// Checks the `expireAt` of a token call, in unix seconds; a missing one is 0.
pub(super) fn judge_expiry(expire_at: i64, now: SystemTime) -> Result<SystemTime, &'static str> {
    let past = "expire_at must be in the future";
    let seconds = u64::try_from(expire_at).map_err(|_| past)?;
    let expires_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let expires_at = expires_at.ok_or("expire_at must be at most 24 hours ahead")?;
    match expires_at.duration_since(now) {
        Err(_) => Err(past),
        Ok(ahead) if ahead.is_zero() => Err(past),
        Ok(ahead) if ahead > MAX_TTL => Err("expire_at must be at most 24 hours ahead"),
        Ok(_) => Ok(expires_at),
    }
}

impl TokenStore {
    /// Gives out a token made from `random`.
    pub(super) fn issue(&mut self, api_key: &str, expires_at: SystemTime, random: u128) -> String {
        while self.order.len() >= MAX_TOKENS {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
        let text = format!("sim_{random:032x}");
        self.entries.insert(text.clone(), Entry::Fresh(Token { api_key: api_key.into(), expires_at }));
        self.order.push_back(text.clone());
        text
    }

    /// Uses a token up, whether it is still good or not.
    pub(super) fn redeem(
        &mut self,
        text: &str,
        now: SystemTime,
    ) -> Result<Token, (TokenRefusal, Option<Token>)> {
        let Some(entry) = self.entries.get_mut(text) else { return Err((TokenRefusal::Unknown, None)) };
        match std::mem::replace(entry, Entry::Used) {
            Entry::Used => Err((TokenRefusal::Used, None)),
            Entry::Fresh(token) if token.expires_at <= now => Err((TokenRefusal::Expired, Some(token))),
            Entry::Fresh(token) => Ok(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn an_expiry_lies_in_the_future_and_at_most_a_day_ahead() {
        let day = 24 * 3600;
        assert_eq!(judge_expiry(1001, at(1000)), Ok(at(1001)));
        assert_eq!(judge_expiry(1000 + day, at(1000)), Ok(at(87_400)));
        for past in [1000, 999, 0, -1] {
            assert_eq!(judge_expiry(past, at(1000)), Err("expire_at must be in the future"));
        }
        for far in [1001 + day, i64::MAX] {
            assert!(judge_expiry(far, at(1000)).unwrap_err().contains("24 hours"));
        }
    }

    #[test]
    fn a_token_is_good_once_and_until_it_expires() {
        let mut store = TokenStore::default();
        let token = store.issue("key", at(100), 1);
        assert_eq!(store.redeem(&token, at(99)).unwrap().api_key, "key");
        assert_eq!(store.redeem(&token, at(99)), Err((TokenRefusal::Used, None)));
        let token = store.issue("key", at(100), 2);
        assert_eq!(store.redeem(&token, at(100)).unwrap_err().0, TokenRefusal::Expired);
        assert_eq!(store.redeem("sim_0", at(0)), Err((TokenRefusal::Unknown, None)));
    }
}
