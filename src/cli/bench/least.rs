//! The least that HTTP in front of the service can cost on these crates: an actix-web handler that passes each piece of a
//! body on to a connection of awc, and gives the frames back.
//!
//! One thread, nothing checked, counted, bounded, kept or mended: what Greenroom takes beyond this is what it is for. It
//! has of Greenroom's API what the driver of `stream`, `burst` and `idle` asks for, and tells its address the same way.

use std::{cell::RefCell, collections::HashMap, io, process::ExitCode, rc::Rc, time::Duration};

use actix::System;
use actix_codec::Framed;
use actix_web::{App, Error, HttpResponse, HttpServer, error::ErrorBadGateway, web};
use awc::{BoxedSocket, ws};
use bytes::{Bytes, BytesMut};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use prost::encoding::encode_varint;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};

use super::bare::Dialer;
use crate::{
    cli::output,
    wire::{self, Data, proto},
};

type Socket = Framed<BoxedSocket, ws::Codec>;

/// What one attempt may take.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(30);

/// The arguments.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[arg(long)]
    console: String,
    #[arg(long)]
    ingress: String,
    #[arg(long)]
    in_flight: u32,
}

/// A session: where its audio goes out, and who waits for which request.
struct Session {
    sink: RefCell<SplitSink<Socket, ws::Message>>,
    open: RefCell<HashMap<String, Request>>,
}

/// A request whose frames are collected.
struct Request {
    frames: BytesMut,
    done: oneshot::Sender<Bytes>,
}

/// The sessions of the one thread that serves.
struct Sessions {
    dialer: Dialer,
    by_id: RefCell<HashMap<String, Rc<Session>>>,
    requests: RefCell<u64>,
}

pub(in crate::cli) fn run(args: Args) -> ExitCode {
    let _limit = rlimit::increase_nofile_limit(u64::MAX);
    crate::upstream::install_crypto();
    match System::new().block_on(serve(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("greenroom bench-least: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> io::Result<()> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(Sessions::new(&args)))
            .route("/v1/sessions", web::post().to(create))
            .route("/v1/sessions/{id}/requests", web::post().to(speak))
            .route("/metrics", web::get().to(metrics))
    })
    .workers(1)
    .tcp_nodelay(true)
    .bind("127.0.0.1:0")?;
    let address = server.addrs().first().map(ToString::to_string).unwrap_or_default();
    output::complain(&json!({"data": address, "admin": address}).to_string());
    server.run().await
}

impl Sessions {
    fn new(args: &Args) -> Self {
        let http = awc::Client::builder()
            .connector(awc::Connector::new().limit(0).timeout(ATTEMPT_DEADLINE))
            .timeout(ATTEMPT_DEADLINE)
            .finish();
        let dialer = Dialer {
            http,
            console: args.console.clone(),
            ingress: args.ingress.clone(),
            key: "bench-upstream".to_owned(),
            gate: Semaphore::new(args.in_flight as usize),
        };
        Self { dialer, by_id: RefCell::default(), requests: RefCell::default() }
    }
}

#[derive(Deserialize)]
struct Create {
    avatar_id: String,
}

async fn create(sessions: web::Data<Sessions>, body: Bytes) -> Result<HttpResponse, Error> {
    let Create { avatar_id } = serde_json::from_slice(&body)?;
    let connection = sessions.dialer.open(&avatar_id).await?;
    let (sink, frames) = connection.into_socket().split();
    let session = Rc::new(Session { sink: RefCell::new(sink), open: RefCell::default() });
    actix_rt::spawn(collect(Rc::clone(&session), frames));
    sessions.by_id.borrow_mut().insert(avatar_id.clone(), session);
    Ok(HttpResponse::Created().json(json!({"id": avatar_id})))
}

/// Collects the frames of a session until its connection ends.
async fn collect(session: Rc<Session>, mut frames: SplitStream<Socket>) {
    while let Some(Ok(frame)) = frames.next().await {
        let ws::Frame::Binary(bytes) = frame else { continue };
        let Ok(Some(Data::ServerResponseAnimation(animation))) = wire::decode(bytes.clone()) else {
            continue;
        };
        let mut open = session.open.borrow_mut();
        if let Some(request) = open.get_mut(&animation.req_id) {
            encode_varint(bytes.len() as u64, &mut request.frames);
            request.frames.extend_from_slice(&bytes);
        }
        if animation.end
            && let Some(Request { frames, done }) = open.remove(&animation.req_id)
        {
            drop(done.send(frames.freeze()));
        }
    }
}

async fn speak(
    sessions: web::Data<Sessions>,
    id: web::Path<String>,
    mut body: web::Payload,
) -> Result<HttpResponse, Error> {
    let session = sessions.by_id.borrow().get(&*id).cloned();
    let session = session.ok_or_else(|| ErrorBadGateway("no such session"))?;
    let req_id = {
        let mut requests = sessions.requests.borrow_mut();
        *requests += 1;
        format!("least-{requests}")
    };
    let (done, frames) = oneshot::channel();
    session.open.borrow_mut().insert(req_id.clone(), Request { frames: BytesMut::new(), done });
    while let Some(piece) = body.next().await {
        session.send(&req_id, piece?, false).await?;
    }
    session.send(&req_id, Bytes::new(), true).await?;
    let frames = frames.await.map_err(ErrorBadGateway)?;
    Ok(HttpResponse::Ok().content_type("application/x-protobuf").body(frames))
}

impl Session {
    #[expect(clippy::await_holding_refcell_ref, reason = "of one session one request is sent at a time")]
    async fn send(&self, req_id: &str, audio: Bytes, end: bool) -> Result<(), Error> {
        let input = proto::ClientAudioInput { req_id: req_id.to_owned(), end, audio };
        let message = ws::Message::Binary(wire::encode(Data::ClientAudioInput(input)));
        self.sink.borrow_mut().send(message).await.map_err(ErrorBadGateway)
    }
}

/// As much of Greenroom's as the driver looks at.
async fn metrics(sessions: web::Data<Sessions>) -> String {
    format!("greenroom_sessions{{state=\"running\"}} {}\n", sessions.by_id.borrow().len())
}
