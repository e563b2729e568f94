//! The data plane's server. It serves on the threads that sessions live on, so that what a client says to its session
//! passes no queue between threads where both are on one.
//!
//! One task accepts, and chooses a thread for each connection: the one of the session that its first request is about
//! where that can be told, else the one that is to be filled. Whatever it chooses, every thread serves every request.

use std::{fmt, future::poll_fn, io, net::TcpListener, rc::Rc, sync::Arc, time::Duration};

use actix_http::{HttpService, HttpServiceBuilder, Request, Response};
use actix_rt::net::TcpStream;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, map_config};
use actix_web::{body::MessageBody, dev::AppConfig};
use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    HEAD_DEADLINE, ListenerTls, SHUTDOWN_S, bound_untaken,
    ending::Ending,
    tls::{DISCONNECT_DEADLINE, KEEP_ALIVE},
};
use crate::{
    manager::{ManagerHandle, Registry},
    session::{Place, ThreadId, Threads},
};

/// How long accepting rests where the system gives no more connections, mostly for lack of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How long it is waited for the beginning of a connection's first request. Clients send it at once; one that connects
/// ahead of its need loses nothing by the wait.
const STEER_WAIT: Duration = Duration::from_millis(20);

/// Bytes of a request that are looked at: a method, a path and an id.
const STEER_BYTES: usize = 128;

/// How the paths begin that only drop-in clients ask for. One that keeps its connection takes its seat on that which it got
/// its token by.
const DROP_IN: [&str; 4] =
    ["/v2/driveningress/", "/v1/auth/session-token", "/v1/console/session-tokens", "/session-tokens"];

/// What the data plane is served from.
pub(super) struct Setup {
    pub(super) listener: TcpListener,
    pub(super) threads: Threads,
    pub(super) manager: ManagerHandle,
    /// How long a client may take nothing of what waits for it.
    pub(super) untaken: Duration,
    pub(super) tls: Option<Arc<ListenerTls>>,
}

/// The data plane while it serves.
pub(super) struct Plane {
    accepting: JoinHandle<()>,
    ending: watch::Sender<bool>,
    /// Ends when the last connection has.
    live: mpsc::Receiver<()>,
}

impl Plane {
    /// Takes no more connections, and returns when those that are there have ended; at the latest when requests under
    /// way have had their time.
    pub(super) async fn stop(mut self) {
        self.accepting.abort();
        // Cancelled, as it has to be: the socket is closed now.
        let _cancelled = self.accepting.await;
        self.ending.send_replace(true);
        if timeout(Duration::from_secs(SHUTDOWN_S), self.live.recv()).await.is_err() {
            tracing::debug!("connections of clients were still open at the end");
        }
    }
}

/// A connection on its way to its thread.
struct Accepted {
    stream: std::net::TcpStream,
    place: Place,
}

/// What each thread needs to serve.
#[derive(Clone)]
struct Terms {
    address: std::net::SocketAddr,
    untaken: Duration,
    tls: Option<Arc<ListenerTls>>,
    ending: watch::Receiver<bool>,
    live: mpsc::Sender<()>,
}

/// Serves what `make` makes, on all threads.
///
/// # Errors
///
/// The listener cannot be used.
pub(super) fn serve<F, I, S, B>(setup: Setup, make: F) -> io::Result<Plane>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let Setup { listener, threads, manager, untaken, tls } = setup;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (ending, ended) = watch::channel(false);
    // The channel only tells that the last of its senders is gone.
    let (alive, live) = mpsc::channel(1);
    let has_tls = tls.is_some();
    let terms = Terms { address, untaken, tls, ending: ended, live: alive };
    let senders = threads.ids().map(|id| {
        let (sender, connections) = unbounded_channel();
        let (make, terms) = (make.clone(), terms.clone());
        threads.run(id, move || {
            actix_rt::spawn(serve_here(make, terms, connections));
        });
        (id, sender)
    });
    let acceptor = Rc::new(Acceptor { senders: senders.collect(), threads, manager, steers: !has_tls });
    let accepting = actix_rt::spawn(accept(listener, acceptor));
    Ok(Plane { accepting, ending, live })
}

/// Chooses threads.
struct Acceptor {
    senders: Vec<(ThreadId, UnboundedSender<Accepted>)>,
    threads: Threads,
    manager: ManagerHandle,
    /// Whether the beginning of a request can be read, and there is a choice.
    steers: bool,
}

async fn accept(listener: tokio::net::TcpListener, acceptor: Rc<Acceptor>) {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) if acceptor.steers && acceptor.senders.len() > 1 => {
                let acceptor = Rc::clone(&acceptor);
                actix_rt::spawn(async move {
                    let first = first(&stream, acceptor.manager.registry()).await;
                    acceptor.hand_over(stream, first);
                });
            }
            Ok((stream, _peer)) => acceptor.hand_over(stream, None),
            // It was there, and has gone while it waited.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "connections cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

impl Acceptor {
    fn hand_over(&self, stream: TcpStream, first: Option<First>) {
        let place = match first {
            Some(First { takes_seat: true, thread: Some(thread) }) => self.threads.place_at(thread),
            Some(First { takes_seat: false, thread }) => self.threads.guest(thread),
            Some(First { takes_seat: true, thread: None }) | None => self.threads.place(),
        };
        let Some((_, sender)) = self.senders.iter().find(|(id, _)| *id == place.thread) else { return };
        match stream.into_std() {
            // The connections that may be open bound the queue.
            Ok(stream) => drop(sender.send(Accepted { stream, place })),
            Err(error) => tracing::debug!(%error, "a connection was lost"),
        }
    }
}

/// What a connection's first request tells of it.
#[derive(Clone, Copy)]
struct First {
    /// A drop-in client takes its seat at a session with it, and stays, or may. HTTP speaks for any session, one after the other.
    takes_seat: bool,
    /// That of the session that the request names, where there is one.
    thread: Option<ThreadId>,
}

/// The first request, where it comes in time.
async fn first(stream: &TcpStream, registry: &Registry) -> Option<First> {
    let mut head = [0; STEER_BYTES];
    let length = timeout(STEER_WAIT, stream.peek(&mut head)).await.ok()?.ok()?;
    let Told { takes_seat, session } = told(head.get(..length)?)?;
    let thread = session.and_then(|session| registry.get(session)?.thread.get().copied());
    Some(First { takes_seat, thread })
}

/// What the beginning of a request tells.
#[derive(Debug, PartialEq, Eq)]
struct Told<'a> {
    takes_seat: bool,
    session: Option<&'a str>,
}

/// Reads the path of a request, where it is all there, or longer than any that matters here.
fn told(head: &[u8]) -> Option<Told<'_>> {
    let text = std::str::from_utf8(head).ok().or_else(|| {
        // A character may be cut at the end, and behind the path anything may come.
        let end = head.iter().position(|byte| !byte.is_ascii())?;
        std::str::from_utf8(head.get(..end)?).ok()
    })?;
    let (_method, rest) = text.split_once(' ')?;
    let path = match rest.split_once([' ', '?']) {
        Some((path, _)) => path,
        None if head.len() >= STEER_BYTES => rest,
        // What a part of a path would be taken for, the connection would be for as long as it stands.
        None => return None,
    };
    let named = |start: &'static str| path.strip_prefix(start)?.split('/').next();
    Some(match (named("/v1/sessions/"), named("/s/")) {
        (Some(session), _) => Told { takes_seat: false, session: Some(session) },
        (None, Some(session)) => Told { takes_seat: true, session: Some(session) },
        (None, None) => {
            Told { takes_seat: DROP_IN.iter().any(|start| path.starts_with(start)), session: None }
        }
    })
}

async fn serve_here<F, I, S, B>(make: F, terms: Terms, connections: UnboundedReceiver<Accepted>)
where
    F: Fn() -> I,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let app = make().into_factory().map_err(|error| error.into().error_response());
    // Of a server's own configuration only links to itself are made, and there are none.
    let app = map_config(app, |()| AppConfig::default());
    let ending = Ending::default();
    let (told, mut ended) = (ending.clone(), terms.ending.clone());
    actix_rt::spawn(async move {
        // An error says that nobody is left who could end it in order.
        let _ = ended.wait_for(|is_ending| *is_ending).await;
        told.come();
    });
    if let Some(tls) = terms.tls.clone() {
        let made = http::<_, _, B>(&terms, &ending).secure().h1(app).new_service(()).await;
        let Ok(service) = made else { return unserved() };
        serve_each(service, terms, connections, move |stream| {
            let tls = Arc::clone(&tls);
            async move { tls.accept(stream).await.ok() }
        })
        .await;
    } else {
        let made = http::<_, _, B>(&terms, &ending).h1(app).new_service(()).await;
        let Ok(service) = made else { return unserved() };
        serve_each(service, terms, connections, |stream| async move { Some(stream) }).await;
    }
}

fn unserved() {
    tracing::error!("a thread cannot serve the data plane: its handlers could not be made");
}

fn http<T, S, B>(terms: &Terms, ending: &Ending) -> HttpServiceBuilder<T, S>
where
    S: ServiceFactory<Request, Config = ()>,
    S::Error: Into<Response<actix_http::body::BoxBody>> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let ending = ending.clone();
    HttpService::<T, S, B>::build()
        .graceful_shutdown_signal(move || ending.wait())
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_DEADLINE)
        .client_disconnect_timeout(DISCONNECT_DEADLINE)
        .h1_allow_half_closed(true)
        .local_addr(terms.address)
}

async fn serve_each<T, H, Opened>(
    service: H,
    terms: Terms,
    mut connections: UnboundedReceiver<Accepted>,
    open: impl Fn(TcpStream) -> Opened + 'static,
) where
    H: Service<(T, Option<std::net::SocketAddr>), Response = ()> + 'static,
    H::Error: fmt::Debug,
    Opened: Future<Output = Option<T>> + 'static,
{
    let service = Rc::new(service);
    while let Some(Accepted { stream, place }) = connections.recv().await {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was lost");
                continue;
            }
        };
        let peer = stream.peer_addr().ok();
        bound_untaken(&stream, terms.untaken);
        // Frames are small and must not wait for one another.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set on a socket");
        }
        let (service, opened, live) = (Rc::clone(&service), open(stream), terms.live.clone());
        actix_rt::spawn(async move {
            let _counted = (place, live);
            let Some(stream) = opened.await else { return };
            let served = async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call((stream, peer)).await
            };
            if let Err(error) = served.await {
                tracing::debug!(?error, "a connection ended by an error");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_tells_its_session_and_whether_it_stays_by_its_path() {
        for (head, takes_seat, session) in [
            ("POST /v1/sessions/ses_1/requests?end=true HTTP/1.1\r\n", false, Some("ses_1")),
            ("DELETE /v1/sessions/ses_1 HTTP/1.1\r\n", false, Some("ses_1")),
            ("GET /v1/sessions/ses_1?a=b HTTP/1.1\r\n", false, Some("ses_1")),
            ("GET /s/ses_1/v2/driveningress/websocket?id=a HTTP/1.1\r\n", true, Some("ses_1")),
            ("POST /v1/sessions HTTP/1.1\r\n", false, None),
            ("GET /v2/driveningress/websocket?id=/s/x/ HTTP/1.1\r\n", true, None),
            ("POST /v1/auth/session-token HTTP/1.1\r\n", true, None),
            ("POST /v1/console/session-tokens HTTP/1.1\r\n", true, None),
            ("GET /v1/events HTTP/1.1\r\n", false, None),
        ] {
            assert_eq!(told(head.as_bytes()), Some(Told { takes_seat, session }), "{head}");
        }
        for cut in
            ["G", "GET ", "GET /v2/driv", "GET /s/ses_1", "GET /s/ses_1/v2/dri", "POST /v1/sessions/ses_1"]
        {
            assert_eq!(told(cut.as_bytes()), None, "{cut}");
        }
        let long = format!("GET /s/ses_1/v2/{}", "x".repeat(STEER_BYTES));
        let cut = Some(Told { takes_seat: true, session: Some("ses_1") });
        assert_eq!(told(&long.as_bytes()[..STEER_BYTES]), cut);
        assert_eq!(told(b"GET /s/ses_1/x HTTP/1.1\r\nx: \xc3"), cut);
        for nonsense in [&b""[..], b"/s/x/", &[0x16, 3, 1, 2, 0, 1]] {
            assert_eq!(told(nonsense), None);
        }
        assert_eq!(told(b"GET /s/\xff/x").and_then(|told| told.session), None);
    }
}
