//! The warm pool: sessions of a tenant that are connected before their clients come.
//!
//! They are sessions like any other over HTTP, through the gate and within the tenant's quota, until a drop-in client of
//! their avatar takes one. The pool is filled again at every look after it, so that a tenant whose sessions cannot be
//! made is not tried in a loop: those that are parked, failed or on their way count as there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use actix::{ActorFutureExt, Context, ResponseActFuture, WrapFuture};

use super::{
    IngressRefused, TenantRuntime,
    actor::{Manager, Mode},
};
use crate::{
    errors::ErrorCode,
    recovery::{
        SessionId, StateName, TenantId,
        lifecycle::{Hold, State},
    },
    session::{Adopt, AudioFormat, ClientSeat, Offer, Operate, Operation, SessionEntry, SessionSpec},
    tenants::{PoolFormat, PoolSpec},
};

/// How long a session may take to answer whether it takes a client; then the client gets a new one.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(1);

/// The label by which a session of a pool is known, also after a client has taken it; its value is the avatar.
const LABEL: &str = "pool";

/// The sessions that wait for a client, by tenant and avatar.
#[derive(Debug, Default)]
pub(super) struct Pool(BTreeMap<(TenantId, String), BTreeSet<SessionId>>);

impl Pool {
    fn of(&mut self, tenant: &TenantId, avatar_id: &str) -> &mut BTreeSet<SessionId> {
        self.0.entry((tenant.clone(), avatar_id.to_owned())).or_default()
    }

    /// A tenant has left.
    pub(super) fn forget_tenant(&mut self, tenant: &TenantId) {
        self.0.retain(|(holder, _), _| holder != tenant);
    }

    /// A session has ended.
    pub(super) fn forget(&mut self, session: &SessionId) {
        for sessions in self.0.values_mut() {
            sessions.remove(session);
        }
    }
}

/// What the sessions of a pool are made from.
fn spec(pool: &PoolSpec) -> SessionSpec {
    SessionSpec {
        sample_rate: pool.sample_rate,
        bitrate: pool.bitrate,
        audio_format: match pool.audio_format {
            PoolFormat::PcmS16le => AudioFormat::PcmS16le,
            PoolFormat::OggOpus => AudioFormat::OggOpus,
        },
        labels: BTreeMap::from([(LABEL.to_owned(), pool.avatar_id.clone())]),
        ..SessionSpec::for_avatar(pool.avatar_id.clone())
    }
}

impl Manager {
    /// Makes what is missing of every pool.
    pub(super) fn fill_pools(&mut self, ctx: &mut Context<Self>) {
        if matches!(self.mode, Mode::Draining(_)) {
            return;
        }
        let roster = self.tenants.load_full();
        for runtime in roster.iter() {
            for pool in &runtime.tenant().pool {
                self.fill_pool(runtime, pool, ctx);
            }
        }
    }

    /// Ends what waits in pools that are smaller than they were, or not configured any more.
    pub(super) fn close_pools(&mut self) {
        let roster = self.tenants.load_full();
        let mut surplus = Vec::new();
        for ((tenant, avatar_id), sessions) in &self.pool.0 {
            let Some(runtime) = roster.get(tenant.as_str()) else { continue };
            let wanted = runtime.tenant();
            let size =
                wanted.pool.iter().find(|pool| pool.avatar_id == *avatar_id).map_or(0, |pool| pool.size);
            surplus.extend(sessions.iter().skip(size as usize).cloned());
        }
        for id in surplus {
            let entry = self.registry.get(id.as_str());
            if let Some(address) = entry.and_then(|entry| entry.address.load_full()) {
                // At most one for each session of a pool and change of the configuration.
                address.do_send(Operate(Operation::Delete));
            }
        }
    }

    fn fill_pool(&mut self, runtime: &Arc<TenantRuntime>, pool: &PoolSpec, ctx: &mut Context<Self>) {
        let tenant = &runtime.id;
        self.replace_tired(tenant, &pool.avatar_id);
        // Nothing new of a suspended tenant knocks: what would be made now would only be parked.
        while self.pool.of(tenant, &pool.avatar_id).len() < pool.size as usize
            && self.fleet.suspension(tenant).is_none()
            && !self.fleet.minutes_are_used(tenant)
            && self.admit(tenant).is_ok()
        {
            let entry = self.create_pooled(runtime, spec(pool), ctx);
            self.pool.of(tenant, &pool.avatar_id).insert(entry.id.clone());
        }
    }

    /// Ends what a pool holds that will not be connected again by itself, though nothing is wrong with it: the
    /// service has ended it for its silence, or for its age.
    fn replace_tired(&mut self, tenant: &TenantId, avatar_id: &str) {
        for id in self.pool.of(tenant, avatar_id).clone() {
            let Some(entry) = self.registry.get(id.as_str()) else { continue };
            let is_tired = matches!(
                entry.snapshot.load().state,
                State::Dormant | State::Parked(Hold::Error(ErrorCode::SessionDurationExceeded))
            );
            if is_tired && let Some(address) = entry.address.load_full() {
                // At most one for each session of a pool and look.
                address.do_send(Operate(Operation::Delete));
            }
        }
    }

    /// A session that a client of this avatar can have at once, which leaves its pool.
    fn take_warm(&mut self, tenant: &TenantId, avatar_id: &str) -> Option<Arc<SessionEntry>> {
        let registry = Arc::clone(&self.registry);
        let sessions = self.pool.0.get_mut(&(tenant.clone(), avatar_id.to_owned()))?;
        let warm = sessions.iter().find_map(|id| {
            let entry = registry.get(id.as_str())?;
            (entry.snapshot.load().state_name() == StateName::Running).then_some(entry)
        })?;
        sessions.remove(&warm.id);
        Some(warm)
    }

    /// Seats a drop-in client: in a session of the pool where there is one, in a new one otherwise.
    pub(super) fn seat_client(
        &mut self,
        runtime: Arc<TenantRuntime>,
        avatar_id: String,
        seat: ClientSeat,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<Arc<SessionEntry>, IngressRefused>> {
        let warm = self.take_warm(&runtime.id, &avatar_id);
        self.fill_pools(ctx);
        let address = warm.as_ref().and_then(|entry| entry.address.load_full());
        let (Some(entry), Some(address)) = (warm, address) else {
            let made = self.make_ingress(&runtime, avatar_id, seat);
            return Box::pin(std::future::ready(made).into_actor(self));
        };
        let offer = Offer::new();
        let adopt = Adopt { seat: seat.clone(), offer: offer.clone() };
        let adoption = async move { address.send(adopt).timeout(ADOPTION_DEADLINE).await };
        Box::pin(adoption.into_actor(self).map(move |_answer, manager, _ctx| {
            // Where nobody has taken it the session has just ended, somebody else sits there, or its thread is starved.
            if offer.take() { manager.make_ingress(&runtime, avatar_id, seat) } else { Ok(entry) }
        }))
    }
}
