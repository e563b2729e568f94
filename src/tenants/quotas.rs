//! How fast a tenant may ask: sessions made in a minute, and requests in a second.
//!
//! Both are token buckets that hold as much as the bound: after a quiet time a whole minute's or second's worth may
//! come at once, and what comes beyond it is told when to come again.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};

use super::Tenant;

/// A bucket, and the bound that it was made for.
struct Bucket {
    bound: u32,
    limiter: DefaultDirectRateLimiter,
}

impl Bucket {
    fn new(bound: u32, quota: fn(NonZeroU32) -> Quota) -> Option<Arc<Self>> {
        let limiter = RateLimiter::direct(quota(NonZeroU32::new(bound)?));
        Some(Arc::new(Self { bound, limiter }))
    }
}

/// One quota, whose bound may change.
struct Rate {
    quota: fn(NonZeroU32) -> Quota,
    /// Empty where there is no bound.
    bucket: ArcSwapOption<Bucket>,
}

impl Rate {
    fn new(quota: fn(NonZeroU32) -> Quota, bound: Option<u32>) -> Self {
        let bucket = bound.and_then(|bound| Bucket::new(bound, quota));
        Self { quota, bucket: ArcSwapOption::new(bucket) }
    }

    /// A bucket whose bound stays is kept as full as it is: a change of something else must not fill it.
    fn change(&self, bound: Option<u32>) {
        let stands = self.bucket.load().as_ref().map(|bucket| bucket.bound);
        if stands != bound {
            self.bucket.store(bound.and_then(|bound| Bucket::new(bound, self.quota)));
        }
    }

    fn take(&self) -> Result<(), TooFast> {
        let bucket = self.bucket.load();
        let Some(bucket) = &*bucket else { return Ok(()) };
        bucket.limiter.check().map_err(|early| TooFast {
            bound: bucket.bound,
            retry_after: early.wait_time_from(bucket.limiter.clock().now()),
        })
    }
}

/// More came than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast {
    /// What may come, in the quota's unit.
    pub bound: u32,
    /// After how long the next may come.
    pub retry_after: Duration,
}

/// A tenant's quotas, on every thread.
pub struct Quotas {
    starts: Rate,
    requests: Rate,
}

impl Quotas {
    /// The quotas of `tenant`, of which nothing is used.
    pub fn new(tenant: &Tenant) -> Self {
        Self {
            starts: Rate::new(Quota::per_minute, tenant.max_starts_per_minute),
            requests: Rate::new(Quota::per_second, tenant.requests_per_second),
        }
    }

    /// The quotas are those of `tenant` from now on.
    pub fn change(&self, tenant: &Tenant) {
        self.starts.change(tenant.max_starts_per_minute);
        self.requests.change(tenant.requests_per_second);
    }

    /// A session is to be made.
    ///
    /// # Errors
    ///
    /// As many were made in the last minute as may be.
    pub fn start(&self) -> Result<(), TooFast> {
        self.starts.take()
    }

    /// A request has come.
    ///
    /// # Errors
    ///
    /// As many came in the last second as may.
    pub fn request(&self) -> Result<(), TooFast> {
        self.requests.take()
    }
}
