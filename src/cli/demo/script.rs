//! The demo's script: one fault of each family every few seconds, each mended as it would be in life.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rand::seq::IndexedRandom;
use tokio::{task::JoinHandle, time::sleep};

use super::stage::{Event, Key, Keys, Stage};
use crate::{
    manager::ManagerHandle,
    recovery::{StateName, TenantId},
    session::{InjectPanic, Operation, SessionEntry},
    simulator::{Close, Effect, Fault, Filter, Nonsense, Point, Simulator},
};

/// From one fault to the next.
const EVERY: Duration = Duration::from_secs(4);
/// How long a person takes to pay the bill or to mend the configuration.
const MENDED_AFTER: Duration = Duration::from_secs(5);
/// How long the service is down in the outage of the script.
const OUTAGE: Duration = Duration::from_secs(3);

/// A family of faults.
#[derive(Clone, Copy, Debug)]
enum Family {
    Drop,
    Dependency,
    Billing,
    Expired,
    MissingAvatar,
    Nonsense,
    Panic,
    Concurrency,
    Idle,
    Outage,
}

const SCRIPT: [Family; 10] = [
    Family::Drop,
    Family::Dependency,
    Family::Billing,
    Family::Expired,
    Family::MissingAvatar,
    Family::Nonsense,
    Family::Panic,
    Family::Concurrency,
    Family::Idle,
    Family::Outage,
];

impl Family {
    /// What the script says when it strikes.
    const fn story(self) -> &'static str {
        match self {
            Self::Drop => "the connection is cut without a close frame",
            Self::Dependency => "the service closes with 4503, a dependency is unavailable",
            Self::Billing => {
                "the account has no credits left (4001): the tenant is suspended, and unparked in 5 s"
            }
            Self::Expired => "the session token expires (4010): a fresh one is fetched at once",
            Self::MissingAvatar => "the avatar is gone (404) at the next connect: failed, and mended in 5 s",
            Self::Nonsense => "the service sends bytes that are no protobuf",
            Self::Panic => "the session's own handler panics",
            Self::Concurrency => {
                "the concurrency limit is reached (4003): parked, until a slot frees or in 5 s"
            }
            Self::Idle => "the service ends the session for lack of audio: dormant, until the next word",
            Self::Outage => "the whole service is gone for 3 s",
        }
    }

    /// What happens to the session's connection now.
    fn effect(self) -> Option<Effect> {
        let said_then_closed = |code, message: &str, close_code| Effect::ServerError {
            code,
            message: message.to_owned(),
            req_id: false,
            then_close: Some(Close { code: close_code, reason: message.to_owned(), after_ms: 0 }),
        };
        match self {
            Self::Drop | Self::MissingAvatar => Some(Effect::Drop { reset: false }),
            Self::Dependency => Some(Effect::close(4503, "dependency unavailable")),
            Self::Billing => Some(said_then_closed(4001, "credits exhausted", 4001)),
            Self::Expired => Some(Effect::close(4010, "session token expired")),
            Self::Nonsense => Some(Effect::Nonsense(Nonsense::BadProtobuf)),
            Self::Concurrency => Some(Effect::close(4003, "concurrency limit reached")),
            Self::Idle => Some(said_then_closed(0, "no audio input for 300s", 1000)),
            Self::Panic | Self::Outage => None,
        }
    }

    /// What waits for the session's next attempt.
    fn trap(self) -> Option<(Point, Effect)> {
        match self {
            Self::MissingAvatar => {
                let body = Some("{\"message\":\"Avatar not found: demo\"}\n".into());
                Some((Point::Upgrade, Effect::Http { status: 404, body, headers: BTreeMap::new() }))
            }
            Self::Drop
            | Self::Dependency
            | Self::Billing
            | Self::Expired
            | Self::Nonsense
            | Self::Panic
            | Self::Concurrency
            | Self::Idle
            | Self::Outage => None,
        }
    }
}

/// What the faults are played with.
pub(super) struct Cast {
    pub(super) manager: ManagerHandle,
    pub(super) simulator: Arc<Simulator>,
    pub(super) sessions: Vec<Arc<SessionEntry>>,
    pub(super) stage: Rc<Stage>,
}

/// Plays the script until it is dropped.
pub(super) async fn play(cast: Rc<Cast>) {
    for family in SCRIPT.into_iter().cycle() {
        sleep(EVERY).await;
        let Some(victim) = cast.victim() else { continue };
        // An outage is everybody's.
        if matches!(family, Family::Outage) {
            cast.stage.tell(Event::Struck(family.story().to_owned()));
        } else {
            cast.told(victim, family.story());
        }
        cast.strike(family, victim).await;
        if matches!(family, Family::Billing | Family::MissingAvatar | Family::Concurrency) {
            actix_rt::spawn(mend(Rc::clone(&cast), Arc::clone(victim)));
        }
    }
}

/// Does what keys ask for, until one asks for the end.
pub(super) async fn obey(cast: Rc<Cast>, mut keys: Keys) -> io::Result<()> {
    let mut outage: Option<JoinHandle<()>> = None;
    loop {
        match keys.next().await? {
            Key::Drop => {
                if let Some(victim) = cast.victim() {
                    cast.told(victim, Family::Drop.story());
                    cast.strike(Family::Drop, victim).await;
                }
            }
            Key::Billing => {
                if let Some(victim) = cast.victim() {
                    cast.told(victim, "the account has no credits left (4001): suspended until you press u");
                    cast.strike(Family::Billing, victim).await;
                }
            }
            // Two outages side by side would end with the first.
            Key::Outage if outage.as_ref().is_some_and(|outage| !outage.is_finished()) => {}
            Key::Outage => {
                cast.stage.tell(Event::Struck(Family::Outage.story().to_owned()));
                let cast = Rc::clone(&cast);
                outage = Some(actix_rt::spawn(async move { cast.outage().await }));
            }
            Key::Park => cast.park().await,
            Key::Unpark => cast.unpark().await,
            Key::Commands => cast.stage.tell(Event::Turned),
            Key::End => return Ok(()),
        }
    }
}

impl Cast {
    /// One of the sessions that run.
    fn victim(&self) -> Option<&Arc<SessionEntry>> {
        let running: Vec<_> = self
            .sessions
            .iter()
            .filter(|entry| entry.snapshot.load().state_name() == StateName::Running)
            .collect();
        running.choose(&mut rand::rng()).copied()
    }

    fn told(&self, victim: &SessionEntry, story: &str) {
        let text = format!("{} ({}): {story}", victim.spec.load().avatar_id, victim.tenant);
        self.stage.tell(Event::Struck(text));
    }

    async fn strike(&self, family: Family, victim: &SessionEntry) {
        let who = Filter::avatar(&victim.spec.load().avatar_id);
        if let Some((at, effect)) = family.trap() {
            let fault = Fault { who: who.clone(), at, effect, times: Some(1), chance: None };
            if let Err(error) = self.simulator.add_fault(fault) {
                self.stage.tell(Event::Trouble(format!("the simulator refuses the fault: {error}")));
            }
        }
        if let Some(effect) = family.effect() {
            self.simulator.strike(&who, 1.0, &effect);
        }
        if matches!(family, Family::Panic)
            && let Some(address) = victim.address.load_full()
        {
            address.do_send(InjectPanic);
        }
        if matches!(family, Family::Outage) {
            self.outage().await;
        }
    }

    async fn outage(&self) {
        self.simulator.set_down(true).await;
        self.simulator.drop_connections(&Filter::default());
        sleep(OUTAGE).await;
        self.simulator.set_down(false).await;
    }

    async fn park(&self) {
        let Some(victim) = self.victim() else { return };
        self.told(victim, "parked by you, until you press u");
        if let Err(error) = self.manager.operate(victim, Operation::Park).await {
            self.stage.tell(Event::Trouble(format!("{}: {error}", victim.spec.load().avatar_id)));
        }
    }

    async fn unpark(&self) {
        let tenants: BTreeSet<&TenantId> = self.sessions.iter().map(|entry| &entry.tenant).collect();
        for tenant in tenants {
            match self.manager.operate_tenant(tenant, Operation::Unpark).await {
                Ok(_sessions) => self.stage.tell(Event::Mended(format!("tenant {tenant}: unparked by you"))),
                Err(error) => self.stage.tell(Event::Trouble(format!("tenant {tenant}: {error}"))),
            }
        }
    }
}

/// What a person would do about it: pay and unpark, or mend and restart.
async fn mend(cast: Rc<Cast>, entry: Arc<SessionEntry>) {
    sleep(MENDED_AFTER).await;
    let Cast { manager, stage, .. } = &*cast;
    let done = match entry.snapshot.load().state_name() {
        StateName::Parked => {
            stage.tell(Event::Mended(format!("tenant {}: unparked", entry.tenant)));
            manager.operate_tenant(&entry.tenant, Operation::Unpark).await.map(|_sessions| ())
        }
        StateName::Failed => {
            stage.tell(Event::Mended(format!("{}: mended and restarted", entry.spec.load().avatar_id)));
            manager.operate(&entry, Operation::Restart).await
        }
        StateName::Starting
        | StateName::Running
        | StateName::BackingOff
        | StateName::Dormant
        | StateName::Stopped => Ok(()),
    };
    if let Err(error) = done {
        stage.tell(Event::Trouble(format!("{}: {error}", entry.spec.load().avatar_id)));
    }
}
