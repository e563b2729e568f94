//! The threads that sessions live on, and that serve their clients.
//!
//! A session and the connection of its client cost least on one thread: then no message between them passes a queue
//! and wakes another thread, which costs more than the message. Each thread runs a runtime of its own, of the kind that
//! has local tasks itself: a task that is woken on its thread costs no system call.

use std::{
    cell::Cell,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// Sessions and connections of drop-in clients that are put on one thread before the next one is used. Fewer threads wake
/// less often and find more to do each time, and on more of them a frame waits for less: with 200 clients on two threads, at
/// this bound, it takes two thirds of the time that it takes on one, for a tenth more of CPU. So many, all speaking, take a
/// quarter of a core. Connections of HTTP are [guests](Threads::guest) of the sessions that they speak for: were they to fill
/// threads, more sessions would be on others than their callers, and each piece of audio would pass a queue, for a quarter
/// more of CPU and no less latency.
const FILL: usize = 256;

/// Guests that a thread may have beyond what another has: the connections that all its sessions are spoken to by, and as many
/// that the same callers keep for other things. Beyond it they are more than fill it, and a core is not left idle for them.
const GUESTS_APART: usize = 2 * FILL;

thread_local! {
    static HERE: Cell<Option<ThreadId>> = const { Cell::new(None) };
}

/// The number of a thread among those of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(usize);

/// The thread that this is called on, where it is one of those that sessions live on.
pub fn here() -> Option<ThreadId> {
    HERE.get()
}

/// What is carried out on a thread: mostly, that something is spawned there.
type Task = Box<dyn FnOnce() + Send>;

enum Order {
    Run(Task),
    End,
}

/// How many hold places on a thread.
type Held = Arc<AtomicUsize>;

struct Thread {
    orders: UnboundedSender<Order>,
    /// Those that fill it.
    load: Held,
    /// Those that do not.
    guests: Held,
}

impl Thread {
    const fn load(&self) -> &Held {
        &self.load
    }

    const fn guests(&self) -> &Held {
        &self.guests
    }
}

/// The threads. Clones are the same threads.
#[derive(Clone)]
pub struct Threads(Arc<[Thread]>);

/// The right to end the threads.
pub struct ThreadsEnd {
    threads: Threads,
    joined: Vec<JoinHandle<()>>,
}

/// A place on a thread, which counts as taken until this is dropped.
#[derive(Debug)]
pub struct Place {
    /// Which thread.
    pub thread: ThreadId,
    held: Option<Held>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Threads {
    /// Starts `count` threads, at least one.
    ///
    /// # Errors
    ///
    /// The system has no more threads, or no more files.
    pub fn start(count: usize) -> io::Result<(Self, ThreadsEnd)> {
        let (mut threads, mut joined) = (Vec::new(), Vec::new());
        for number in 0..count.max(1) {
            let (orders, received) = unbounded_channel();
            let id = ThreadId(number);
            let runtime =
                move || Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            // A runtime stays on the thread that made it: whether it could be made is told from there.
            let (told, made) = std::sync::mpsc::channel();
            let name = format!("sessions-{number}");
            joined.push(std::thread::Builder::new().name(name).spawn(move || match runtime() {
                Ok(runtime) => {
                    let _ = told.send(Ok(()));
                    run(&runtime, id, received);
                }
                Err(error) => drop(told.send(Err(error))),
            })?);
            made.recv().map_err(io::Error::other)??;
            threads.push(Thread { orders, load: Arc::default(), guests: Arc::default() });
        }
        let threads = Self(threads.into());
        Ok((threads.clone(), ThreadsEnd { threads, joined }))
    }

    /// The threads.
    pub fn ids(&self) -> impl Iterator<Item = ThreadId> + use<> {
        (0..self.0.len()).map(ThreadId)
    }

    /// Carries something out on a thread; nothing where that has ended.
    ///
    /// The queue has no bound of its own: what is put there is one session that was admitted, or one listener.
    pub fn run(&self, on: ThreadId, task: impl FnOnce() + Send + 'static) {
        if let Some(thread) = self.0.get(on.0) {
            let _ended = thread.orders.send(Order::Run(Box::new(task)));
        }
    }

    /// The thread that something new is put on: the first that is not filled yet, else the one that has least.
    pub fn next(&self) -> ThreadId {
        let loads = self.0.iter().map(|thread| thread.load.load(Ordering::Relaxed));
        let first = loads.enumerate().find(|(_, load)| *load < FILL);
        first.map_or_else(|| self.least(Thread::load).0, |(number, _)| ThreadId(number))
    }

    /// Takes a place on the [next](Self::next) thread.
    pub fn place(&self) -> Place {
        self.take(self.next(), Thread::load)
    }

    /// Takes a place on `wanted`, unless that has far more than the others have.
    pub fn place_at(&self, wanted: ThreadId) -> Place {
        if self.has_room(wanted, Thread::load, FILL) { self.take(wanted, Thread::load) } else { self.place() }
    }

    /// Takes a place that does not fill its thread: what is done there is mostly the work of sessions that have theirs. On
    /// the thread `of` a session where that is known, else on the [next](Self::next); on the one with the fewest guests
    /// where that has far more of them than others, so that no number of callers is one thread's to serve.
    pub fn guest(&self, of: Option<ThreadId>) -> Place {
        let wanted = of.unwrap_or_else(|| self.next());
        let has_room = self.has_room(wanted, Thread::guests, GUESTS_APART);
        self.take(if has_room { wanted } else { self.least(Thread::guests).0 }, Thread::guests)
    }

    /// The thread of which the fewest are held, and how many these are.
    fn least(&self, held: impl Fn(&Thread) -> &Held) -> (ThreadId, usize) {
        let all = self.0.iter().map(|thread| held(thread).load(Ordering::Relaxed)).enumerate();
        let (number, least) = all.min_by_key(|(_, held)| *held).unwrap_or_default();
        (ThreadId(number), least)
    }

    /// Whether a thread is one, and does not have `apart` more than another has.
    fn has_room(&self, wanted: ThreadId, held: impl Fn(&Thread) -> &Held, apart: usize) -> bool {
        let most = self.least(&held).1.saturating_add(apart);
        self.0.get(wanted.0).is_some_and(|thread| held(thread).load(Ordering::Relaxed) < most)
    }

    fn take(&self, thread: ThreadId, held: impl Fn(&Thread) -> &Held) -> Place {
        let held = self.0.get(thread.0).map(|thread| Arc::clone(held(thread)));
        if let Some(held) = &held {
            held.fetch_add(1, Ordering::Relaxed);
        }
        Place { thread, held }
    }
}

impl ThreadsEnd {
    /// Ends the threads, with everything that runs on them, and waits for them.
    pub fn end(self) {
        for thread in self.threads.0.iter() {
            let _ended = thread.orders.send(Order::End);
        }
        for thread in self.joined {
            if thread.join().is_err() {
                tracing::error!("a thread of sessions ended by a panic");
            }
        }
    }
}

fn run(runtime: &LocalRuntime, id: ThreadId, mut orders: UnboundedReceiver<Order>) {
    HERE.set(Some(id));
    runtime.block_on(async move {
        while let Some(Order::Run(task)) = orders.recv().await {
            // In a task of its own, so that a panic ends that and nothing else.
            actix_rt::spawn(async move { task() });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_runs_on_its_thread_and_a_panic_of_one_ends_that_only() {
        let (threads, end) = Threads::start(2).unwrap();
        assert_eq!(here(), None);
        let (told, heard) = std::sync::mpsc::channel();
        for id in threads.ids() {
            threads.run(id, || panic!("by a test"));
            let told = told.clone();
            threads.run(id, move || told.send(here()).unwrap());
            assert_eq!(heard.recv().unwrap(), Some(id));
        }
        end.end();
    }

    #[test]
    fn a_thread_is_filled_before_the_next_and_then_the_emptiest_is_taken() {
        let (threads, end) = Threads::start(2).unwrap();
        let mut places: Vec<Place> = (0..FILL).map(|_| threads.place()).collect();
        assert!(places.iter().all(|place| place.thread == ThreadId(0)));
        places.extend((0..FILL).map(|_| threads.place()));
        assert!(places[FILL..].iter().all(|place| place.thread == ThreadId(1)));
        assert_eq!(threads.place().thread, ThreadId(0), "both are full: they take turns by their load");
        drop(places.split_off(FILL));
        assert_eq!(threads.place().thread, ThreadId(1), "what was given back is taken again");
        end.end();
    }

    #[test]
    fn a_guest_fills_nothing() {
        let (threads, end) = Threads::start(2).unwrap();
        let guests: Vec<Place> = (0..FILL).map(|_| threads.guest(Some(ThreadId(0)))).collect();
        assert!(guests.iter().all(|guest| guest.thread == ThreadId(0)));
        assert_eq!(threads.place().thread, ThreadId(0));
        drop(guests);
        let places: Vec<Place> = (0..FILL).map(|_| threads.place()).collect();
        assert!(
            places.iter().all(|place| place.thread == ThreadId(0)),
            "a guest that goes gives back no place"
        );
        assert_eq!(threads.place().thread, ThreadId(1));
        end.end();
    }

    #[test]
    fn guests_are_where_their_session_is_or_the_next_will_be_until_that_thread_has_far_more_of_them() {
        let (threads, end) = Threads::start(3).unwrap();
        let full: Vec<Place> = (0..FILL).map(|_| threads.place()).collect();
        for (of, wanted) in [(Some(ThreadId(2)), ThreadId(2)), (None, ThreadId(1))] {
            let guests: Vec<Place> = (0..2 * GUESTS_APART).map(|_| threads.guest(of)).collect();
            assert!(guests[..GUESTS_APART].iter().all(|guest| guest.thread == wanted));
            for thread in threads.ids() {
                let count = guests.iter().filter(|guest| guest.thread == thread).count();
                let most = if thread == wanted { 2 * GUESTS_APART } else { GUESTS_APART };
                assert!(
                    (GUESTS_APART / 4..=most).contains(&count),
                    "{count} on {thread:?} of those at {of:?}"
                );
            }
            drop(guests);
            assert_eq!(threads.guest(of).thread, wanted, "those that go make room");
        }
        drop(full);
        end.end();
    }

    #[test]
    fn a_wish_is_granted_until_the_thread_has_far_more_than_the_others() {
        let (threads, end) = Threads::start(2).unwrap();
        let wanted = ThreadId(1);
        let places: Vec<Place> = (0..FILL).map(|_| threads.place_at(wanted)).collect();
        assert!(places.iter().all(|place| place.thread == wanted));
        assert_eq!(threads.place_at(wanted).thread, ThreadId(0));
        end.end();
    }
}
