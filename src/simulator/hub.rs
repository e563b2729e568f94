//! What all connections of a simulator share.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{mpsc, watch};

use super::{
    accounts::{Accounts, Exhausted},
    chance::Chance,
    config::SimulatorConfig,
    fault_check::FaultError,
    faults::{Effect, Fault, Filter, Point, Who},
    listener::Outage,
    plan::{FaultPlan, PlannedFault, Progress},
    record::{Event, Happening, Record},
    recorder::Recorder,
    stats::{RequestState, Stats},
    tokens::{Token, TokenRefusal, TokenStore},
};

/// Effects that wait for a connection. More than one is already a race; the rest is refused.
const COMMANDS: usize = 4;

/// How long an upgrade waits for the session's earlier connection to be seen to end. A client may connect
/// again right after it has dropped its socket, and the end must be counted before the beginning.
const OVERLAP_GRACE: Duration = Duration::from_millis(50);

struct Live {
    who: Who,
    since: Instant,
    confirmed: bool,
    commands: mpsc::Sender<Effect>,
    /// Whether it counts for its API key. One that is only upgraded to be refused does not.
    charged: bool,
}

#[derive(Default)]
struct State {
    plan: FaultPlan,
    tokens: TokenStore,
    recorder: Recorder,
    accounts: Accounts,
    chance: Chance,
    record: Record,
    live: HashMap<u64, Live>,
    next_connection: u64,
}

/// What all connections of a simulator share.
pub(super) struct Hub {
    pub(super) config: SimulatorConfig,
    started: Instant,
    state: Mutex<State>,
    /// Counts the changes of the fault plan, so that live connections look at their clocks again.
    plan_changes: watch::Sender<u64>,
    /// Set once the simulator listens.
    pub(super) outage: OnceLock<Outage>,
}

impl Hub {
    pub(super) fn new(config: SimulatorConfig) -> Arc<Self> {
        let (plan_changes, _) = watch::channel(0);
        let accounts = Accounts::new(config.limits.credits_s);
        let state = Mutex::new(State { accounts, chance: Chance::new(config.seed), ..State::default() });
        Arc::new(Self { config, started: Instant::now(), state, plan_changes, outage: OnceLock::new() })
    }

    /// The state is counts and lists, whole after each statement: a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, and a time at which nobody else has it: what is written into the record is in the order of its times.
    /// A reader that asks for what came since the last time it saw would miss an event that is written late.
    fn state_now(&self) -> (MutexGuard<'_, State>, Duration) {
        let state = self.state();
        (state, self.now())
    }

    /// Changes the counts.
    pub(super) fn record(&self, change: impl FnOnce(&mut Recorder)) {
        change(&mut self.state().recorder);
    }

    /// Writes into the record.
    pub(super) fn note(&self, who: &Who, connection_id: Option<&str>, what: Happening) {
        let (mut state, now) = self.state_now();
        state.record.add(now, who, connection_id, what);
    }

    /// Counts a refused token call.
    pub(super) fn token_refused(&self, who: &Who, status: u16) {
        let (mut state, now) = self.state_now();
        let State { recorder, record, .. } = &mut *state;
        recorder.token_refused(status);
        record.add(now, who, None, Happening::TokenRefused { status });
    }

    /// Counts a refused upgrade.
    pub(super) fn upgrade_refused(&self, who: &Who, status: u16) {
        let (mut state, now) = self.state_now();
        let State { recorder, record, .. } = &mut *state;
        recorder.upgrade_refused(status);
        record.add(now, who, None, Happening::UpgradeRefused { status });
    }

    /// Counts a chunk of audio; `first` begins the request.
    pub(super) fn audio(&self, who: &Who, connection_id: &str, req_id: &str, first: bool, audio: &[u8]) {
        let (mut state, now) = self.state_now();
        let State { recorder, record, .. } = &mut *state;
        recorder.audio(req_id, first, audio.len(), (connection_id, avatar_id(who)));
        record.audio(now, who, connection_id, req_id, audio);
    }

    /// Counts a frame.
    pub(super) fn frame(&self, who: &Who, connection_id: &str, req_id: &str, end: bool) {
        let (mut state, now) = self.state_now();
        let State { recorder, record, .. } = &mut *state;
        recorder.frame(req_id);
        record.frame(now, who, connection_id, req_id, end);
    }

    pub(super) fn events(&self, filter: &Filter, since_ms: u64) -> Vec<Event> {
        self.state().record.list(filter, since_ms)
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn stats(&self) -> Stats {
        let (mut state, now) = self.state_now();
        let State { recorder, live, .. } = &mut *state;
        let live = live.values().map(|live| (api_key(&live.who), live.since.elapsed()));
        recorder.report(now, live)
    }

    // The fault plan.

    pub(super) fn add_faults(&self, faults: Vec<Fault>) -> Result<Vec<u64>, FaultError> {
        for fault in &faults {
            fault.check()?;
        }
        let ids = {
            let plan = &mut self.state().plan;
            faults.into_iter().map(|fault| plan.add(fault)).collect()
        };
        self.plan_changes.send_modify(|changes| *changes += 1);
        ids
    }

    pub(super) fn seed_chance(&self, seed: u64) {
        self.state().chance = Chance::new(Some(seed));
    }

    pub(super) fn clear_faults(&self) {
        {
            let State { plan, chance, .. } = &mut *self.state();
            plan.clear();
            chance.forget();
        }
        self.plan_changes.send_modify(|changes| *changes += 1);
    }

    pub(super) fn faults(&self) -> Vec<PlannedFault> {
        self.state().plan.list().to_vec()
    }

    pub(super) fn plan_changes(&self) -> watch::Receiver<u64> {
        self.plan_changes.subscribe()
    }

    pub(super) fn strike(&self, at: Point, who: &Who) -> Option<Effect> {
        let (mut state, now) = self.state_now();
        let State { plan, recorder, chance, record, .. } = &mut *state;
        let (id, effect) = plan.strike(at, who, &mut |fault| chance.draw(fault))?;
        recorder.faults_struck += 1;
        record.add(now, who, None, Happening::FaultStruck { id });
        Some(effect)
    }

    pub(super) fn strike_live(
        &self,
        progress: Progress,
        who: &Who,
        settled: &mut BTreeSet<u64>,
    ) -> Option<Effect> {
        let (mut state, now) = self.state_now();
        let State { plan, recorder, chance, record, .. } = &mut *state;
        let (id, effect) = plan.strike_live(progress, who, settled, &mut |fault| chance.draw(fault))?;
        recorder.faults_struck += 1;
        record.add(now, who, None, Happening::FaultStruck { id });
        Some(effect)
    }

    pub(super) fn next_fault_due(&self, who: &Who, settled: &BTreeSet<u64>) -> Option<Duration> {
        self.state().plan.next_due(who, settled)
    }

    /// Begins an outage that ends by itself. Not awaited: it may end the connection that asks for it.
    pub(super) fn refuse_for(&self, time: Duration) {
        if let Some(outage) = self.outage.get() {
            actix_rt::spawn(outage.clone().run_for(time));
        }
    }

    // Tokens.

    pub(super) fn issue_token(&self, api_key: &str, expires_at: SystemTime) -> String {
        let (mut state, now) = self.state_now();
        let State { tokens, recorder, record, .. } = &mut *state;
        recorder.tokens_given += 1;
        let who = Who { api_key: Some(api_key.into()), ..Who::default() };
        record.add(now, &who, None, Happening::TokenGiven);
        tokens.issue(api_key, expires_at, rand::random())
    }

    pub(super) fn redeem_token(&self, text: &str) -> Result<Token, (TokenRefusal, Option<Token>)> {
        self.state().tokens.redeem(text, SystemTime::now())
    }

    // Live connections.

    /// Waits until the session has no live connection, or long enough to say that it really has two.
    pub(super) async fn wait_for_earlier(&self, who: &Who) {
        let deadline = Instant::now() + OVERLAP_GRACE;
        let is_live = || self.state().recorder.is_live(app_id(who), avatar_id(who));
        while is_live() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Counts a connection in, if its API key may have it; it counts until the guard is dropped or
    /// [`LiveGuard::end`] is called.
    pub(super) fn connect(self: &Arc<Self>, who: &Who) -> Result<Counted, Exhausted> {
        let (mut state, now) = self.state_now();
        state.accounts.admits(api_key(who), now, self.config.limits.concurrency)?;
        state.accounts.join(api_key(who), now);
        Ok(self.count_in(state, who, true))
    }

    /// Counts in a connection that is upgraded only to be refused.
    pub(super) fn connect_refused(self: &Arc<Self>, who: &Who) -> Counted {
        self.count_in(self.state(), who, false)
    }

    fn count_in(self: &Arc<Self>, mut state: MutexGuard<'_, State>, who: &Who, charged: bool) -> Counted {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        state.next_connection += 1;
        let id = state.next_connection;
        state.recorder.connected(app_id(who), avatar_id(who));
        let live = Live { who: who.clone(), since: Instant::now(), confirmed: false, commands, charged };
        state.live.insert(id, live);
        drop(state);
        (LiveGuard { hub: Arc::clone(self), id }, receiver)
    }

    /// When the API key's credits run out, at the rate of now.
    pub(super) fn credits_run_out(&self, who: &Who) -> Option<Instant> {
        self.state().accounts.runs_out(api_key(who)).map(|at| self.started + at)
    }

    pub(super) fn top_up(&self, api_key: &str, seconds: f64) -> f64 {
        let left = self.state().accounts.top_up(api_key, seconds, self.now());
        // Live connections look at their clocks again.
        self.plan_changes.send_modify(|changes| *changes += 1);
        left
    }

    /// Makes `effect` happen to live connections that match, `share` (0 to 1) of them by lot. Gives how many.
    pub(super) fn strike_now(&self, filter: &Filter, share: f64, effect: &Effect) -> usize {
        let state = self.state();
        let mut struck: Vec<&Live> = state.live.values().filter(|live| filter.matches(&live.who)).collect();
        let count = share_of(struck.len(), share);
        // A partial shuffle: the first `count` are a fair draw.
        for at in 0..count {
            let other = rand::random_range(at..struck.len());
            struck.swap(at, other);
        }
        struck.iter().take(count).filter(|live| live.commands.try_send(effect.clone()).is_ok()).count()
    }
}

/// At least one of those that match, unless none is wanted.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a count is within the count"
)]
fn share_of(count: usize, share: f64) -> usize {
    let share = share.clamp(0.0, 1.0);
    ((count as f64 * share).ceil() as usize).min(count)
}

fn api_key(who: &Who) -> &str {
    who.api_key.as_deref().unwrap_or_default()
}

fn app_id(who: &Who) -> &str {
    who.app_id.as_deref().unwrap_or_default()
}

fn avatar_id(who: &Who) -> &str {
    who.avatar_id.as_deref().unwrap_or_default()
}

/// A connection that counts, and what strikes it from outside.
pub(super) type Counted = (LiveGuard, mpsc::Receiver<Effect>);

/// Counts a connection as live.
pub(super) struct LiveGuard {
    hub: Arc<Hub>,
    id: u64,
}

impl LiveGuard {
    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(super) fn confirmed(&self) {
        let State { live, recorder, .. } = &mut *self.hub.state();
        if let Some(live) = live.get_mut(&self.id)
            && !live.confirmed
        {
            live.confirmed = true;
            recorder.confirmed();
        }
    }

    pub(super) fn request_lost(&self, req_id: &str, connection_id: &str) {
        self.hub.record(|recorder| recorder.request_ended(req_id, connection_id, RequestState::Lost));
    }

    /// The connection is over for the protocol, though its socket may have a moment to go.
    pub(super) fn end(&self) {
        let (mut state, now) = self.hub.state_now();
        let State { live, recorder, accounts, .. } = &mut *state;
        if let Some(live) = live.remove(&self.id) {
            let Live { who, since, confirmed, charged, .. } = live;
            if charged {
                accounts.leave(api_key(&who), now);
            }
            recorder.ended(app_id(&who), avatar_id(&who), api_key(&who), confirmed, since.elapsed());
        }
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_in_the_order_of_its_times_though_many_write_it() {
        let hub = Hub::new(SimulatorConfig::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..2_000).for_each(|_| hub.note(&Who::default(), None, Happening::Left)));
            }
        });
        let events = hub.events(&Filter::default(), 0);
        assert_eq!(events.len(), 8_000);
        assert!(events.is_sorted_by_key(|event| event.at_ms));
    }
}
