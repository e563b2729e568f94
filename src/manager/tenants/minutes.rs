//! The minutes that a tenant's connections may last in a day.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::Context;

use super::Roster;
use crate::{
    events::TenantQuota,
    manager::actor::Manager,
    recovery::FleetInput,
    session::{FleetAnswer, TenantRuntime},
    store::{Records, records::MinutesRecord},
};

/// How many looks there are between two that are written: a process that is killed forgets a minute at most, and
/// nothing is written for tenants without a bound.
const LOOKS_BETWEEN_NOTES: u32 = 60;

/// What was written last, and when that is looked at again.
#[derive(Debug, Default)]
pub(in crate::manager) struct MinutesNoted {
    looks: u32,
    noted: MinutesRecord,
}

fn bound(runtime: &TenantRuntime) -> Option<Duration> {
    let minutes = runtime.tenant().max_connected_minutes_per_day?;
    Some(Duration::from_secs(60) * minutes)
}

/// The connected time of all tenants that have a bound.
fn record(roster: &Roster) -> MinutesRecord {
    let bounded = roster.iter().filter(|runtime| bound(runtime).is_some());
    let mut day = 0;
    let connected_ms = bounded
        .map(|runtime| {
            day = runtime.usage.day();
            let connected = runtime.usage.connected_today().as_millis();
            (runtime.id.to_string(), u64::try_from(connected).unwrap_or(u64::MAX))
        })
        .collect::<BTreeMap<_, _>>();
    MinutesRecord { day, connected_ms }
}

/// Writes what is counted, at the end of a process.
pub(in crate::manager) async fn keep(roster: &Roster, records: &Records) {
    let record = record(roster);
    if record.connected_ms.is_empty() {
        return;
    }
    if let Err(error) = records.keep_minutes(record).await {
        tracing::warn!(%error, "tenants' connected minutes could not be written");
    }
}

/// Takes over what an earlier process has counted.
pub(super) fn resume(record: &MinutesRecord, runtimes: impl Iterator<Item = Arc<TenantRuntime>>) {
    for runtime in runtimes {
        if let Some(connected) = record.connected_ms.get(runtime.id.as_str()) {
            runtime.usage.resume(record.day, Duration::from_millis(*connected));
        }
    }
}

impl Manager {
    /// Parks the sessions of tenants that have used their minutes, and lets those start again that have new ones:
    /// since the day has turned, or the bound is another.
    pub(in crate::manager) fn look_at_minutes(&mut self, ctx: &mut Context<Self>) {
        let roster = self.tenants.load_full();
        for runtime in roster.iter() {
            let is_used = bound(runtime).is_some_and(|bound| runtime.usage.connected_today() >= bound);
            let tenant = runtime.id.clone();
            match (self.fleet.minutes_are_used(&tenant), is_used) {
                (false, true) => {
                    tracing::warn!(%tenant, "tenant has used its connected minutes of this day");
                    self.fleet(FleetInput::MinutesUsed { tenant }, ctx);
                    self.tell_of_minutes(runtime);
                    let quota = TenantQuota::MaxConnectedMinutesPerDay;
                    self.journal.chronicle().tell_quota(self.clock.now(), runtime, quota);
                }
                (true, false) => {
                    tracing::info!(%tenant, "tenant has connected minutes again");
                    self.fleet(FleetInput::MinutesRenewed { tenant }, ctx);
                }
                (false, false) | (true, true) => {}
            }
        }
    }

    /// Those that are connected know nothing of the gate. A session whose actor is being rebuilt has lost its
    /// connection, and is refused when it asks.
    fn tell_of_minutes(&self, runtime: &TenantRuntime) {
        for entry in self.registry.of_tenant(&runtime.id) {
            if let Some(address) = entry.address.load_full() {
                // One for each session and day, or change of the bound.
                address.do_send(FleetAnswer::MinutesUsed);
            }
        }
    }

    /// Writes what is counted, from time to time.
    pub(in crate::manager) fn note_minutes(&mut self) {
        self.minutes.looks += 1;
        if self.minutes.looks < LOOKS_BETWEEN_NOTES {
            return;
        }
        self.minutes.looks = 0;
        let record = record(&self.tenants.load());
        if record == self.minutes.noted || record.connected_ms.is_empty() {
            return;
        }
        self.minutes.noted = record.clone();
        let records = self.journal.records().clone();
        actix_rt::spawn(async move {
            if let Err(error) = records.keep_minutes(record).await {
                tracing::warn!(%error, "tenants' connected minutes could not be written");
            }
        });
    }
}
