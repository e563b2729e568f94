//! Comparing keys without telling, by the time it takes, how much of one was right.
//!
//! Every key is held at one size, with its length beside it, and a presented one is compared with *all* of
//! them, to the last word, without an early exit. So the time depends on the number of keys alone: not on how
//! many characters were right, and not on whose key it is. A map by key would be faster and would leak through
//! its comparisons; at 64-bit words a thousand keys take tens of microseconds.

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::Tenant;

const WORDS: usize = Tenant::MAX_KEY_BYTES / 8;

/// A key at its full size.
struct Padded {
    length: u64,
    words: [u64; WORDS],
}

impl Padded {
    /// `None` where `key` is longer than any key may be.
    fn new(key: &str) -> Option<Self> {
        if key.len() > Tenant::MAX_KEY_BYTES {
            return None;
        }
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(key.as_bytes().chunks(8)) {
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(bytes) {
                *to = *from;
            }
            *word = u64::from_le_bytes(padded);
        }
        Some(Self { length: key.len() as u64, words })
    }

    fn equals(&self, other: &Self) -> Choice {
        self.length.ct_eq(&other.length) & self.words.ct_eq(&other.words)
    }
}

/// What a caller presented, ready to be compared.
pub(super) struct Presented(Padded);

impl Presented {
    /// `None` where it is longer than any key may be, which tells nothing about a key.
    pub(super) fn new(text: &str) -> Option<Self> {
        Padded::new(text).map(Self)
    }
}

/// Keys, and the position of the holder of each.
#[derive(Default)]
pub(super) struct KeyRing {
    keys: Vec<(Padded, u64)>,
}

impl KeyRing {
    /// Adds a key. One that is longer than keys may be is left out: the configuration refuses it.
    pub(super) fn add(&mut self, key: &str, holder: usize) {
        if let Some(padded) = Padded::new(key) {
            self.keys.push((padded, holder as u64));
        }
    }

    /// The holder of the key that equals `presented`.
    pub(super) fn find(&self, presented: &Presented) -> Option<usize> {
        const NOBODY: u64 = u64::MAX;
        let mut found = NOBODY;
        for (key, holder) in &self.keys {
            found.conditional_assign(holder, key.equals(&presented.0));
        }
        if found == NOBODY { None } else { usize::try_from(found).ok() }
    }
}
