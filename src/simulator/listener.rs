//! The listening socket, the threads that serve, and the outage switch.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use actix_http::{HttpService, KeepAlive};
use actix_service::{Service, ServiceFactory, fn_service, map_config};
use actix_web::{App, HttpResponse, dev::AppConfig, web};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use super::{control, hub::Hub, socket::Io, token, upgrade};

/// A storm of ten thousand sessions knocks within a second; the kernel cuts this to its own limit.
const BACKLOG: u32 = 8192;
/// Accepted sockets on their way to a worker; beyond it the kernel's queue holds them.
const HANDOVER: usize = 1024;
/// After an accept failed (no file descriptor is left, mostly): time for others to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the switch may take. It waits for the accept loop, which never blocks.
const SWITCH_DEADLINE: Duration = Duration::from_secs(5);
/// Between closing the listener and holding its port again another process may be quicker: then retry.
const REBIND_DEADLINE: Duration = Duration::from_secs(3);
const REBIND_PAUSE: Duration = Duration::from_millis(5);
/// Longer than the pauses of a person with curl, shorter than a forgotten connection matters.
const HTTP_KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Makes the service unreachable and reachable again.
#[derive(Clone)]
pub(super) struct Outage {
    wanted: Arc<watch::Sender<bool>>,
    switched: watch::Receiver<Switched>,
}

/// How often the service went down, and whether it is. A connection compares the count with that of its
/// beginning: an outage may be over before the connection's task runs.
#[derive(Clone, Copy, Default)]
struct Switched {
    outages: u64,
    down: bool,
}

impl Outage {
    /// Returns once it is so. An outage refuses new TCP connections and ends those that are between two
    /// HTTP calls; WebSocket connections live on, as they do when a load balancer alone is gone.
    pub(super) async fn set(&self, down: bool) {
        self.wanted.send_replace(down);
        let mut switched = self.switched.clone();
        // An error is the end of the simulator, which is an outage too.
        let _ = timeout(SWITCH_DEADLINE, switched.wait_for(|switched| switched.down == down)).await;
    }
}

impl Outage {
    /// An outage of its own length.
    pub(super) async fn run_for(self, time: Duration) {
        self.set(true).await;
        sleep(time).await;
        self.set(false).await;
    }
}

/// The threads of a simulator.
pub(super) struct Threads {
    pub(super) addr: SocketAddr,
    pub(super) outage: Outage,
    stop: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Threads {
    /// Tells the threads to end, without waiting.
    pub(super) fn signal_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ends the threads. Blocks for the moment that takes.
    pub(super) fn join(self) {
        self.signal_stop();
        for thread in self.threads {
            // A panic on a thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

type Bound = io::Result<SocketAddr>;

/// Binds the address and starts the threads: the first accepts, and all serve.
pub(super) async fn start(hub: &Arc<Hub>) -> io::Result<Threads> {
    let (stop, stopped) = watch::channel(false);
    let (wanted, wanted_down) = watch::channel(false);
    let (switch, switched) = watch::channel(Switched::default());
    let outage = Outage { wanted: Arc::new(wanted), switched };
    // It is set nowhere else: a hub has one listener.
    let _ = hub.outage.set(outage.clone());
    let mut threads = Vec::new();
    let mut others = Vec::new();
    for number in 1..hub.config.workers.max(1) {
        let (sender, sockets) = mpsc::channel(HANDOVER);
        others.push(sender);
        let worker = Worker { hub: Arc::clone(hub), outage: outage.clone(), stopped: stopped.clone() };
        threads.push(spawn(format!("simulator-{number}"), move |runtime| {
            runtime.block_on(worker.run_handed(sockets));
        })?);
    }
    let worker = Worker { hub: Arc::clone(hub), outage: outage.clone(), stopped };
    let (bound, is_bound) = oneshot::channel::<Bound>();
    threads.push(spawn("simulator-0".into(), move |runtime| {
        let acceptor = Acceptor { wanted_down, switch, others, next: 0 };
        runtime.block_on(worker.run_accepting(acceptor, bound));
    })?);
    let addr = is_bound.await.unwrap_or_else(|_| Err(io::Error::other("the simulator's thread ended")))?;
    Ok(Threads { addr, outage, stop, threads })
}

fn spawn(
    name: String,
    run: impl FnOnce(&actix_rt::Runtime) + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || match actix_rt::Runtime::new() {
        Ok(runtime) => run(&runtime),
        Err(error) => tracing::error!(%error, "the simulator's runtime cannot be made"),
    })
}

struct Worker {
    hub: Arc<Hub>,
    outage: Outage,
    stopped: watch::Receiver<bool>,
}

struct Acceptor {
    wanted_down: watch::Receiver<bool>,
    switch: watch::Sender<Switched>,
    others: Vec<mpsc::Sender<std::net::TcpStream>>,
    next: usize,
}

/// Serves one socket until its HTTP part is over.
type Serve = Rc<dyn Fn(TcpStream)>;

impl Worker {
    async fn run_handed(self, mut sockets: mpsc::Receiver<std::net::TcpStream>) {
        let Some(serve) = self.service().await else { return };
        let mut stopped = self.stopped.clone();
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                socket = sockets.recv() => match socket.map(TcpStream::from_std) {
                    Some(Ok(stream)) => serve(stream),
                    Some(Err(error)) => tracing::warn!(%error, "a socket could not be handed over"),
                    None => return,
                },
            }
        }
    }

    async fn run_accepting(self, mut acceptor: Acceptor, bound: oneshot::Sender<Bound>) {
        let listener = match listen(self.hub.config.listen) {
            Ok(listener) => listener,
            Err(error) => {
                let _ = bound.send(Err(error));
                return;
            }
        };
        let addr = listener.local_addr();
        let Some(serve) = self.service().await else { return };
        let Ok(at) = addr.as_ref().copied() else {
            let _ = bound.send(addr);
            return;
        };
        // Nobody waits any more: `start` was given up, and its `stop` sender is gone with it.
        let _ = bound.send(addr);
        let mut stopped = self.stopped.clone();
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = acceptor.run(listener, at, &serve) => {}
        }
    }

    /// The HTTP service, with the upgrade taken out of it.
    async fn service(&self) -> Option<Serve> {
        let (hub, outage) = (web::Data::new(Arc::clone(&self.hub)), web::Data::new(self.outage.clone()));
        let app = App::new()
            .app_data(hub)
            .app_data(outage)
            .configure(control::configure)
            .configure(token::configure)
            .default_service(web::to(|| async { HttpResponse::NotFound().json(NOT_FOUND) }));
        let hub = Arc::clone(&self.hub);
        let factory = HttpService::build()
            .keep_alive(KeepAlive::Timeout(HTTP_KEEP_ALIVE))
            .on_connect_ext(|io: &Io, data| {
                data.insert(Rc::clone(&io.switch));
            })
            .upgrade(fn_service(move |(request, framed)| {
                let hub = Arc::clone(&hub);
                async move {
                    upgrade::serve(hub, request, framed).await;
                    Ok::<_, actix_web::Error>(())
                }
            }))
            .h1(map_config(app, |()| AppConfig::default()));
        let service = Rc::new(factory.new_service(()).await.ok()?);
        let switched = self.outage.switched.clone();
        Some(Rc::new(move |stream: TcpStream| {
            // Without this a frame waits for the acknowledgement of the one before.
            let _ = stream.set_nodelay(true);
            let peer = stream.peer_addr().ok();
            let (service, mut switched) = (Rc::clone(&service), switched.clone());
            let at_first = switched.borrow().outages;
            actix_rt::spawn(async move {
                let io = Io::new(stream);
                let switch = Rc::clone(&io.switch);
                let outage = async {
                    let _ = switched.wait_for(|switched| switched.outages != at_first).await;
                    if switch.control.get() {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    _ = service.call((io, peer)) => {}
                    () = switch.is_cut() => {}
                    () = outage => {}
                }
            });
        }))
    }
}

#[derive(serde::Serialize)]
struct NotFound {
    message: &'static str,
}

const NOT_FOUND: NotFound = NotFound { message: "not found" };

impl Acceptor {
    /// Accepts until the end, with outages in between.
    async fn run(&mut self, first: TcpListener, at: SocketAddr, serve: &Serve) {
        let mut listener = Some(first);
        loop {
            let Some(open) = listener.take().or_else(|| listen(at).ok()) else {
                sleep(REBIND_PAUSE).await;
                continue;
            };
            self.switch.send_modify(|switched| switched.down = false);
            tokio::select! {
                () = accept(&open, &mut self.others, &mut self.next, serve) => {}
                down = self.wanted_down.wait_for(|down| *down) => if down.is_err() { return },
            }
            drop(open);
            // Bound, but not listening: the port stays ours, and whoever knocks is refused by the kernel.
            let held = hold(at).await;
            self.switch.send_modify(|switched| {
                switched.outages += 1;
                switched.down = true;
            });
            if self.wanted_down.wait_for(|down| !*down).await.is_err() {
                return;
            }
            listener = held.and_then(|socket| socket.listen(BACKLOG).ok());
        }
    }
}

fn socket(at: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of the time before an outage do not keep the port from being bound again.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    Ok(socket)
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    socket(at)?.listen(BACKLOG)
}

async fn hold(at: SocketAddr) -> Option<TcpSocket> {
    let deadline = Instant::now() + REBIND_DEADLINE;
    loop {
        match socket(at) {
            Ok(socket) => return Some(socket),
            Err(error) if Instant::now() >= deadline => {
                tracing::warn!(%error, %at, "the port could not be held during the outage");
                return None;
            }
            Err(_) => sleep(REBIND_PAUSE).await,
        }
    }
}

/// Deals the sockets out in turn.
async fn accept(
    listener: &TcpListener,
    others: &mut [mpsc::Sender<std::net::TcpStream>],
    next: &mut usize,
    serve: &Serve,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let turn = *next % (others.len() + 1);
        *next = next.wrapping_add(1);
        match turn.checked_sub(1).and_then(|worker| others.get(worker)) {
            None => serve(stream),
            Some(worker) => {
                if let Ok(stream) = stream.into_std() {
                    // A worker that is gone has panicked; its share of the sockets is closed.
                    let _ = worker.send(stream).await;
                }
            }
        }
    }
}
