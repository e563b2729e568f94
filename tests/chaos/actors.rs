//! Those who use Greenroom while it happens: backends that speak over HTTP all the time, and an operator.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use super::{
    ground::{DATA, TENANTS, tenant_key},
    http::Client,
    schedule::Order,
};

/// How long a caller waits before it asks again something that was not answered as it should be.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Should {
    Run,
    Park,
}

impl Should {
    pub(crate) const fn state(self) -> &'static str {
        match self {
            Self::Run => "running",
            Self::Park => "parked",
        }
    }
}

/// One session that is wanted, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) tenant: &'static str,
    /// Unique to the session: the service's record goes by it.
    pub(crate) avatar: String,
    /// `None` where its creation was not answered yet.
    pub(crate) id: Option<String>,
    /// What was answered last.
    pub(crate) should: Should,
    /// What was asked for and not answered.
    pub(crate) asked: Option<Should>,
    /// How often the unparking of its whole tenant has begun or ended.
    unparks: usize,
    generation: usize,
}

/// A time in which nothing may be tried for an avatar.
#[derive(Clone, Debug)]
pub(crate) struct Quiet {
    pub(crate) avatar: String,
    pub(crate) from: Instant,
    pub(crate) to: Option<Instant>,
}

/// What actors share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) end: AtomicBool,
    pub(crate) slots: Mutex<Vec<Slot>>,
    /// Ids and avatars that were deleted, or whose deletion was asked for.
    pub(crate) deleted: Mutex<Vec<(String, bool)>>,
    pub(crate) quiet: Mutex<Vec<Quiet>>,
    /// Counted up when the process is killed.
    pub(crate) epoch: AtomicUsize,
    /// Requests by epoch, tenant and outcome, or `none` where no answer came.
    pub(crate) told: Mutex<BTreeMap<(usize, &'static str, String), u64>>,
    /// Each clip that was said whole, by its avatar.
    pub(crate) clips: Mutex<Vec<Clip>>,
}

/// A clip that a backend or a client said.
#[derive(Clone, Debug)]
pub(crate) struct Clip {
    pub(crate) avatar: String,
    /// Makes its audio; see [`audio`].
    pub(crate) seed: u64,
    pub(crate) bytes: usize,
    /// The id that the caller knows.
    pub(crate) req_id: Option<String>,
    /// Whether it was told that all went well.
    pub(crate) completed: bool,
}

/// Audio that no other clip has, so that a piece of another, a gap or a piece twice shows in a digest.
pub(crate) fn audio(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut audio = vec![0; bytes];
    random.fill_bytes(&mut audio);
    audio
}

impl Shared {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let shared = Self::default();
        let slot = |number: usize| {
            let (tenant, avatar) = (TENANTS[number % 2], format!("avatar-{number}-0"));
            Slot { tenant, avatar, id: None, should: Should::Run, asked: None, unparks: 0, generation: 0 }
        };
        shared.slots.lock().unwrap().extend((0..count).map(slot));
        Arc::new(shared)
    }

    pub(crate) fn ends(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, epoch: usize, tenant: &'static str, outcome: &str) {
        // Of a request that a kill fell into nobody knows which process it was counted by.
        *self.told.lock().unwrap().entry((epoch, tenant, outcome.to_owned())).or_default() += 1;
    }

    fn slot(&self, number: usize) -> Slot {
        self.slots.lock().unwrap()[number].clone()
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Slot)) {
        change(&mut self.slots.lock().unwrap()[number]);
    }

    /// A tenant is about to be unparked as a whole, with those of its sessions that somebody had parked; or that has
    /// been answered, and nothing can be said of who was parked since `begun`.
    pub(crate) fn unpark_all(&self, tenant: &str, begun: Option<Instant>) {
        let mut slots = self.slots.lock().unwrap();
        for slot in slots.iter_mut().filter(|slot| slot.tenant == tenant) {
            slot.unparks += 1;
            if slot.asked.is_none() {
                slot.asked = Some(Should::Run);
            }
            self.end_quiet(&slot.avatar);
            if let Some(begun) = begun {
                self.quiet.lock().unwrap().retain(|quiet| quiet.avatar != slot.avatar || quiet.from < begun);
            }
        }
    }

    fn end_quiet(&self, avatar: &str) {
        let mut quiet = self.quiet.lock().unwrap();
        quiet.iter_mut().filter(|it| it.avatar == avatar && it.to.is_none()).for_each(|it| {
            it.to = Some(Instant::now());
        });
    }

    /// Creates the session of a slot that has none; the same call again makes no second one.
    fn create(&self, admin: &Client, number: usize) {
        let slot = self.slot(number);
        if slot.id.is_some() {
            return;
        }
        let body = json!({"avatar_id": slot.avatar, "tenant": slot.tenant}).to_string();
        let client = admin.with_idempotency_key(&slot.avatar);
        let Ok(answer) = client.try_call("POST", "/v1/sessions", Some(body.as_bytes())) else { return };
        match answer.status {
            201 => {
                let id = answer.json()["id"].as_str().unwrap().to_owned();
                self.change(number, |slot| slot.id = Some(id));
            }
            // The store fails, or the first call is still under way.
            503 | 409 => {}
            _ => panic!("creating {}: {answer:?}", slot.avatar),
        }
    }

    /// Creates what is missing, until all are there.
    pub(crate) fn create_all(&self, admin: &Client) {
        let count = self.slots.lock().unwrap().len();
        for number in 0..count {
            while self.slot(number).id.is_none() {
                self.create(admin, number);
            }
        }
    }
}

/// A thread that speaks in the sessions of every `step`th slot from `first` on, one after another.
pub(crate) fn speaker(shared: &Arc<Shared>, seed: u64, first: usize, step: usize) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(first as u64));
        let nobody = Client::new(DATA.parse().unwrap()).forgetful();
        let count = shared.slots.lock().unwrap().len();
        while !shared.ends() {
            let number = random.random_range(0..count) / step * step + first;
            if number < count && !speak(&shared, &nobody, number, &mut random) {
                thread::sleep(PAUSE);
            }
        }
    })
}

/// Says one clip; gives whether it was accepted.
fn speak(shared: &Shared, nobody: &Client, number: usize, random: &mut StdRng) -> bool {
    let Slot { tenant, avatar, id: Some(id), .. } = shared.slot(number) else { return false };
    let (clip_seed, bytes) = (random.random(), random.random_range(1600..9600) * 2);
    let epoch = shared.epoch.load(Ordering::SeqCst);
    let client = nobody.with_key(&tenant_key(tenant));
    let path = format!("/v1/sessions/{id}/requests?wait=true");
    let clip = |req_id, completed| Clip { avatar: avatar.clone(), seed: clip_seed, bytes, req_id, completed };
    let answer = match client.try_call("POST", &path, Some(&audio(clip_seed, bytes))) {
        Ok(answer) => answer,
        // Nobody was there to count it.
        Err(ureq::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => return false,
        Err(_) => {
            shared.tell(epoch, tenant, "none");
            shared.clips.lock().unwrap().push(clip(None, false));
            return false;
        }
    };
    match answer.status {
        200 => {
            let request = answer.json();
            let outcome = request["outcome"].as_str().expect("an answer has the outcome").to_owned();
            let frames = request["frame_count"].as_u64().unwrap();
            assert!(outcome != "completed" || frames == bytes.div_ceil(1280) as u64, "{avatar}: {request}");
            shared.tell(epoch, tenant, &outcome);
            let req_id = request["req_id"].as_str().map(str::to_owned);
            shared.clips.lock().unwrap().push(clip(req_id, outcome == "completed"));
            true
        }
        // It may have been spoken, with an outcome that a full disk does not take.
        503 if answer.json()["code"] == "storeUnavailable" => {
            shared.tell(epoch, tenant, "none");
            shared.clips.lock().unwrap().push(clip(None, false));
            false
        }
        // Parked, failed, deleted; no room, or no time: so after a long stop, where the head waited too long to be read.
        404 | 408 | 409 | 413 | 429 | 503 => false,
        _ => panic!("speaking in {avatar}: {answer:?}"),
    }
}

/// The operator's thread; a process that does not answer holds up nobody else.
pub(crate) fn operator(
    shared: &Arc<Shared>,
    admin: &Client,
) -> (mpsc::Sender<(Order, usize)>, JoinHandle<()>) {
    let (sender, orders) = mpsc::channel();
    let (shared, admin) = (Arc::clone(shared), admin.forgetful());
    let thread = thread::spawn(move || {
        for (order, number) in orders {
            shared.create(&admin, number);
            carry_out(&shared, &admin, order, number);
        }
    });
    (sender, thread)
}

fn carry_out(shared: &Shared, admin: &Client, order: Order, number: usize) {
    let Slot { id: Some(id), avatar, should, unparks, .. } = shared.slot(number) else { return };
    let path = format!("/v1/sessions/{id}");
    let (method, path, wanted) = match order {
        // A restart lifts a park.
        Order::Restart => ("POST", format!("{path}/restart"), Should::Run),
        Order::Park => ("POST", format!("{path}/park"), Should::Park),
        Order::Unpark => ("POST", format!("{path}/unpark"), Should::Run),
        Order::Replace => ("DELETE", path, should),
    };
    if wanted == Should::Run || order == Order::Replace {
        shared.end_quiet(&avatar);
    }
    if order == Order::Replace {
        let answered = admin.try_call(method, &path, None).is_ok_and(|answer| answer.status == 200);
        shared.deleted.lock().unwrap().push((id, answered));
        if answered {
            shared.quiet.lock().unwrap().push(Quiet { avatar, from: Instant::now(), to: None });
        }
        shared.change(number, |slot| {
            slot.generation += 1;
            slot.avatar = format!("avatar-{number}-{}", slot.generation);
            (slot.id, slot.should, slot.asked) = (None, Should::Run, None);
        });
        shared.create(admin, number);
        return;
    }
    shared.change(number, |slot| slot.asked = Some(wanted));
    // A refusal of the store may have come after it was carried out.
    let answered = admin.try_call(method, &path, None).is_ok_and(|answer| answer.status == 200);
    if !answered {
        return;
    }
    if wanted == Should::Park && shared.slot(number).unparks != unparks {
        // Its tenant was unparked meanwhile, before or after it: nobody here knows.
        shared.change(number, |slot| slot.should = Should::Run);
        return;
    }
    shared.change(number, |slot| (slot.should, slot.asked) = (wanted, None));
    if wanted == Should::Park {
        shared.quiet.lock().unwrap().push(Quiet { avatar, from: Instant::now(), to: None });
    }
}
