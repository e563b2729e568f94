//! Session tokens of the drop-in console: who may connect, until when, and how often.
//!
//! A token is 256 random bits, so that nobody guesses one, and only its hash is kept: what is read from this table
//! opens nothing, and the time that a look-up takes tells nothing about a token. Time and random bits are
//! arguments.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::recovery::TenantId;

/// What every token begins with, so that a leaked one is recognised for what it is.
const PREFIX: &str = "grt_";

/// The longest lifetime that may be asked for, in seconds; the service's bound too.
pub const MAX_LIFETIME_S: u64 = 24 * 3600;

/// Longer than any token: what is longer is none, and is not hashed.
const MAX_TOKEN_BYTES: usize = 256;

/// How long a token is remembered after its expiry, in seconds, so that whoever comes late is told that it expired
/// instead of that it is unknown.
const REMEMBERED_S: u64 = 3600;

/// The most that a tenant is asked to wait when it holds too many tokens, in seconds.
const MAX_RETRY_AFTER_S: u64 = 60;

type Hash = [u8; 32];

/// Why no token was given out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotIssued {
    /// The expiry is not after now.
    #[error("expire_at must be in the future")]
    NotInFuture,
    /// The expiry is too far ahead.
    #[error("expire_at must be at most 24 hours ahead")]
    TooFar,
    /// The tenant holds as many tokens as it may that nobody has used.
    #[error("{held} session tokens are unused, which is the most; use them, or wait until they expire")]
    TooMany {
        /// How many.
        held: usize,
        /// When the first of them expires, in seconds, within bounds.
        retry_after_s: u64,
    },
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// Never given out, used, or in use by another upgrade.
    #[error("Invalid session token")]
    Invalid,
    /// Its time is over.
    #[error("Session token expired")]
    Expired,
}

/// How often a token serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenUse {
    /// For one connection.
    Once,
    /// For any number of connections until it expires.
    Often,
}

/// A token that an upgrade holds while it waits. It has to be given back to the table, one way or the other.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reserved token is consumed or released"]
pub struct Reservation {
    hash: Hash,
    /// Whose token it is.
    pub tenant: TenantId,
}

struct Entry {
    tenant: TenantId,
    /// Unix seconds.
    expires_at: u64,
    reserved: bool,
}

/// Every token that may still be used, and those that expired lately.
pub struct TokenTable {
    usable: TokenUse,
    tokens: BTreeMap<Hash, Entry>,
    /// The tokens of each tenant by their expiry.
    by_tenant: BTreeMap<TenantId, BTreeSet<(u64, Hash)>>,
}

impl TokenTable {
    /// An empty table.
    pub const fn new(usable: TokenUse) -> Self {
        Self { usable, tokens: BTreeMap::new(), by_tenant: BTreeMap::new() }
    }

    /// Gives out a token to `tenant`, which may hold `max` at a time. `random` must be fresh and unpredictable;
    /// times are Unix seconds.
    ///
    /// # Errors
    ///
    /// The expiry is refused, or the tenant holds too many.
    pub fn issue(
        &mut self,
        tenant: &TenantId,
        expires_at: u64,
        max: usize,
        random: [u8; 32],
        now: u64,
    ) -> Result<String, NotIssued> {
        if expires_at <= now {
            return Err(NotIssued::NotInFuture);
        }
        if expires_at - now > MAX_LIFETIME_S {
            return Err(NotIssued::TooFar);
        }
        self.forget_before(tenant, now.saturating_sub(REMEMBERED_S));
        if self.held(tenant) >= max {
            // Room is worth more than a better answer to somebody who comes late.
            self.forget_before(tenant, now);
        }
        let own = self.by_tenant.entry(tenant.clone()).or_default();
        if own.len() >= max {
            let first = own.first().map_or(now, |(expires_at, _)| *expires_at);
            let retry_after_s = first.saturating_sub(now).clamp(1, MAX_RETRY_AFTER_S);
            return Err(NotIssued::TooMany { held: own.len(), retry_after_s });
        }
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let hash = hash(&token);
        own.insert((expires_at, hash));
        self.tokens.insert(hash, Entry { tenant: tenant.clone(), expires_at, reserved: false });
        Ok(token)
    }

    /// Holds a token for an upgrade that waits: nobody else can use it meanwhile.
    ///
    /// # Errors
    ///
    /// It opens nothing, or not now.
    pub fn reserve(&mut self, token: &str, now: u64) -> Result<Reservation, TokenRefused> {
        if !token.starts_with(PREFIX) || token.len() > MAX_TOKEN_BYTES {
            return Err(TokenRefused::Invalid);
        }
        let hash = hash(token);
        let entry = self.tokens.get_mut(&hash).ok_or(TokenRefused::Invalid)?;
        if entry.expires_at <= now {
            return Err(TokenRefused::Expired);
        }
        match self.usable {
            TokenUse::Once if entry.reserved => return Err(TokenRefused::Invalid),
            TokenUse::Once => entry.reserved = true,
            TokenUse::Often => {}
        }
        Ok(Reservation { hash, tenant: entry.tenant.clone() })
    }

    /// The upgrade succeeded.
    #[expect(clippy::needless_pass_by_value, reason = "a reservation ends here")]
    pub fn consume(&mut self, reservation: Reservation) {
        if self.usable == TokenUse::Once {
            self.forget(&reservation.hash);
        }
    }

    /// The upgrade came to nothing: the token can be used again.
    #[expect(clippy::needless_pass_by_value, reason = "a reservation ends here")]
    pub fn release(&mut self, reservation: Reservation) {
        if let Some(entry) = self.tokens.get_mut(&reservation.hash) {
            entry.reserved = false;
        }
    }

    /// How many tokens the tenant holds, those that expired lately included.
    pub fn held(&self, tenant: &TenantId) -> usize {
        self.by_tenant.get(tenant).map_or(0, BTreeSet::len)
    }

    fn forget(&mut self, hash: &Hash) {
        let Some(entry) = self.tokens.remove(hash) else { return };
        if let Some(own) = self.by_tenant.get_mut(&entry.tenant) {
            own.remove(&(entry.expires_at, *hash));
        }
    }

    /// Forgets a tenant's tokens, since it is deleted: another may get its name.
    pub fn forget_tenant(&mut self, tenant: &TenantId) {
        self.forget_before(tenant, u64::MAX);
        self.by_tenant.remove(tenant);
    }

    /// Forgets the tenant's tokens that expired at `time` or before.
    fn forget_before(&mut self, tenant: &TenantId, time: u64) {
        let Some(own) = self.by_tenant.get_mut(tenant) else { return };
        while let Some((expires_at, hash)) = own.first().copied()
            && expires_at <= time
        {
            own.remove(&(expires_at, hash));
            self.tokens.remove(&hash);
        }
    }
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests;
