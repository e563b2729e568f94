//! What an API key may use: credits in connected seconds, and connections at a time. Pure: `now` is the time
//! since the simulator's start.

use std::{collections::HashMap, time::Duration};

/// As many keys as the statistics name; beyond it keys share one account.
const MAX_ACCOUNTS: usize = 10_000;
/// The account of the keys that have none of their own.
const OTHER: &str = "_other";

/// Why an API key gets no further connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exhausted {
    Credits,
    Concurrency,
}

/// A limited number of seconds; all live connections use it up side by side.
#[derive(Clone, Copy, Debug)]
struct Credits {
    left: f64,
    /// When `left` was true.
    at: Duration,
}

#[derive(Debug, Default)]
struct Account {
    live: u32,
    credits: Option<Credits>,
}

impl Account {
    fn settle(&mut self, now: Duration) {
        if let Some(credits) = &mut self.credits {
            credits.left -= now.saturating_sub(credits.at).as_secs_f64() * f64::from(self.live);
            credits.at = now;
        }
    }
}

/// The accounts of all API keys.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// What a key begins with; `None` is no limit.
    initial_s: Option<f64>,
    accounts: HashMap<String, Account>,
}

impl Accounts {
    pub(super) fn new(initial_s: Option<f64>) -> Self {
        Self { initial_s, accounts: HashMap::new() }
    }

    /// The key's account, with `now` settled.
    fn account(&mut self, api_key: &str, now: Duration) -> &mut Account {
        let known = self.accounts.contains_key(api_key);
        let key = if known || self.accounts.len() < MAX_ACCOUNTS { api_key } else { OTHER };
        let credits = self.initial_s.map(|left| Credits { left, at: now });
        let account = self.accounts.entry(key.to_owned()).or_insert_with(|| Account { live: 0, credits });
        account.settle(now);
        account
    }

    /// Whether the key may have one connection more.
    pub(super) fn admits(
        &mut self,
        api_key: &str,
        now: Duration,
        max_live: Option<u32>,
    ) -> Result<(), Exhausted> {
        let account = self.account(api_key, now);
        if account.credits.is_some_and(|credits| credits.left <= 0.0) {
            return Err(Exhausted::Credits);
        }
        if max_live.is_some_and(|max| account.live >= max) {
            return Err(Exhausted::Concurrency);
        }
        Ok(())
    }

    /// A connection of the key begins.
    pub(super) fn join(&mut self, api_key: &str, now: Duration) {
        self.account(api_key, now).live += 1;
    }

    /// A connection of the key has ended.
    pub(super) fn leave(&mut self, api_key: &str, now: Duration) {
        let account = self.account(api_key, now);
        account.live = account.live.saturating_sub(1);
        if account.live == 0 && account.credits.is_none() {
            self.accounts.remove(api_key);
        }
    }

    /// Adds seconds, or takes them away, and gives what is left. A key without a limit has one from then on,
    /// of exactly these seconds.
    pub(super) fn top_up(&mut self, api_key: &str, seconds: f64, now: Duration) -> f64 {
        let credits = self.account(api_key, now).credits.get_or_insert(Credits { left: 0.0, at: now });
        // Debt is not kept: a session is ended a moment after its credits are, and owes nothing for it.
        credits.left = (credits.left.max(0.0) + seconds).max(0.0);
        credits.left
    }

    /// When the key's credits run out, if they do at the rate of now.
    pub(super) fn runs_out(&self, api_key: &str) -> Option<Duration> {
        let account = self.accounts.get(api_key).or_else(|| self.accounts.get(OTHER))?;
        let Credits { left, at } = account.credits?;
        // A year or more is no time to wait for.
        let seconds = left.max(0.0) / f64::from(account.live.max(1));
        Some(at + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(365 * 24 * 3600)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn live_connections_of_a_key_use_its_credits_up_together() {
        let mut accounts = Accounts::new(Some(10.0));
        accounts.join("k", at(0));
        assert_eq!(accounts.runs_out("k"), Some(at(10)));
        accounts.join("k", at(2));
        assert_eq!(accounts.runs_out("k"), Some(at(6)), "eight seconds are left for two");
        accounts.leave("k", at(4));
        assert_eq!(accounts.runs_out("k"), Some(at(8)));
        assert_eq!(accounts.admits("k", at(7), None), Ok(()));
        assert_eq!(accounts.admits("k", at(8), None), Err(Exhausted::Credits));
        assert_eq!(accounts.admits("other", at(8), None), Ok(()));
    }

    #[test]
    fn a_top_up_is_of_use_from_its_moment_on() {
        let mut accounts = Accounts::new(Some(1.0));
        accounts.join("k", at(0));
        accounts.leave("k", at(50));
        assert_eq!(accounts.top_up("k", 5.0, at(60)), 5.0, "no debt is kept");
        assert_eq!(accounts.admits("k", at(70), None), Ok(()));
        assert_eq!(accounts.top_up("k", -9.0, at(70)), 0.0);
        assert_eq!(accounts.admits("k", at(70), None), Err(Exhausted::Credits));
    }

    #[test]
    fn a_key_without_a_limit_never_runs_out_until_it_is_given_one() {
        let mut accounts = Accounts::new(None);
        accounts.join("k", at(0));
        assert_eq!(accounts.runs_out("k"), None);
        accounts.top_up("k", 3.0, at(10));
        assert_eq!(accounts.runs_out("k"), Some(at(13)));
    }

    #[test]
    fn a_slot_is_free_again_when_a_connection_has_left() {
        let mut accounts = Accounts::new(None);
        accounts.join("k", at(0));
        assert_eq!(accounts.admits("k", at(0), Some(1)), Err(Exhausted::Concurrency));
        assert_eq!(accounts.admits("k", at(0), Some(2)), Ok(()));
        accounts.leave("k", at(1));
        assert_eq!(accounts.admits("k", at(1), Some(1)), Ok(()));
        assert!(accounts.accounts.len() <= 1);
    }

    #[test]
    fn keys_beyond_the_bound_share_one_account() {
        let mut accounts = Accounts::new(Some(1.0));
        for number in 0..MAX_ACCOUNTS + 5 {
            accounts.join(&format!("k{number}"), at(0));
        }
        assert!(accounts.accounts.len() <= MAX_ACCOUNTS + 1);
    }
}
