//! A drop-in client without a socket: it speaks to its session as the listener does.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use greenroom::{
    errors::ErrorCode,
    manager::{IngressRefused, ManagerHandle},
    recovery::TenantId,
    session::{
        Attach, AttachMode, AttachRefused, ClientAudio, ClientAudioRefused, ClientConfigure, ClientControl,
        ClientId, ClientLine, ConfigureRefused, Control, Departure, Detach, FailRequest, Farewell,
        SessionEntry, ToClient, client_line,
    },
    wire::{
        self, Data,
        proto::{ClientConfigureSession, ServerConfirmSession},
    },
};

use crate::world::{DEADLINE, silence};

/// Far above what a test lets wait.
const ROOMY: usize = 8 << 20;

pub(crate) struct Client {
    manager: ManagerHandle,
    pub(crate) entry: Arc<SessionEntry>,
    pub(crate) line: ClientLine,
}

/// A configuration at this rate, as an SDK sends it.
pub(crate) fn configuration(sample_rate: i32) -> Bytes {
    let content = ClientConfigureSession { sample_rate, ..ClientConfigureSession::default() };
    wire::encode(Data::ClientConfigureSession(content))
}

impl Client {
    /// Comes without a session, and is given one.
    pub(crate) async fn arrive(manager: &ManagerHandle, tenant: &str, avatar: &str) -> Self {
        Self::try_arrive(manager, tenant, avatar).await.expect("there is a session for it")
    }

    pub(crate) async fn try_arrive(
        manager: &ManagerHandle,
        tenant: &str,
        avatar: &str,
    ) -> Result<Self, IngressRefused> {
        Self::arrive_over(manager, tenant, avatar, ROOMY).await
    }

    pub(crate) async fn arrive_over(
        manager: &ManagerHandle,
        tenant: &str,
        avatar: &str,
        bound_bytes: usize,
    ) -> Result<Self, IngressRefused> {
        let (seat, line) = client_line(bound_bytes);
        let entry = manager.create_ingress(&TenantId::from(tenant), avatar, seat).await.unwrap()?;
        Ok(Self { manager: manager.clone(), entry, line })
    }

    /// Comes to a session that is there.
    pub(crate) async fn join(
        manager: &ManagerHandle,
        session: &str,
        mode: AttachMode,
    ) -> Result<Self, AttachRefused> {
        Self::join_over(manager, session, mode, ROOMY).await
    }

    pub(crate) async fn join_over(
        manager: &ManagerHandle,
        session: &str,
        mode: AttachMode,
        bound_bytes: usize,
    ) -> Result<Self, AttachRefused> {
        let entry = manager.registry().get(session).expect("the session is there");
        let (seat, line) = client_line(bound_bytes);
        manager.ask(&entry, || Attach { seat: seat.clone(), mode }).await.unwrap()?;
        Ok(Self { manager: manager.clone(), entry, line })
    }

    /// Arrives, configures at 16 kHz, and is confirmed; gives the connection id that it was told.
    pub(crate) async fn settled(manager: &ManagerHandle, tenant: &str, avatar: &str) -> (Self, String) {
        let mut client = Self::arrive(manager, tenant, avatar).await;
        client.ready().await;
        let confirm = client.confirmed(16_000).await;
        (client, confirm.connection_id)
    }

    pub(crate) fn id(&self) -> ClientId {
        self.line.id()
    }

    pub(crate) fn session(&self) -> &str {
        self.entry.id.as_str()
    }

    /// What it hears next, which it takes at once.
    pub(crate) async fn next(&mut self) -> ToClient {
        let next = tokio::time::timeout(DEADLINE, self.line.next()).await;
        let said = next.expect("it hears something").expect("its line stands");
        if let ToClient::Message(bytes) = &said {
            self.line.taken(bytes.len());
        }
        said
    }

    pub(crate) async fn ready(&mut self) {
        let said = self.next().await;
        assert!(matches!(said, ToClient::Ready), "{said:?}");
    }

    pub(crate) async fn ended(&mut self) -> Farewell {
        let said = self.next().await;
        self.last_word(said).await
    }

    /// Its end, of which the service may tell before, between or after the frames of an answer that it makes.
    pub(crate) async fn ended_amid_answers(&mut self) -> Farewell {
        let said = self.next_but_messages().await;
        self.last_word(said).await
    }

    async fn last_word(&mut self, said: ToClient) -> Farewell {
        let ToClient::Ended(farewell) = said else { panic!("it goes on: {said:?}") };
        let after = tokio::time::timeout(DEADLINE, self.line.next()).await;
        assert!(matches!(after, Ok(None)), "nothing comes after the last word: {after:?}");
        farewell
    }

    /// What it hears after the frames of answers that are on their way.
    pub(crate) async fn next_but_messages(&mut self) -> ToClient {
        loop {
            let said = self.next().await;
            if !matches!(said, ToClient::Message(_)) {
                return said;
            }
        }
    }

    /// Whether nothing was said to it that it has not heard.
    pub(crate) fn has_heard_all(&self) -> bool {
        self.line.waiting_bytes() == 0
    }

    pub(crate) async fn message(&mut self) -> Data {
        let said = self.next().await;
        let ToClient::Message(bytes) = said else { panic!("it is no message: {said:?}") };
        wire::decode(bytes).unwrap().expect("a known message")
    }

    pub(crate) async fn configure(&self, message: Bytes) -> Result<(), ConfigureRefused> {
        let client = self.id();
        let configure = || ClientConfigure { client, message: message.clone() };
        self.manager.ask(&self.entry, configure).await.unwrap()
    }

    pub(crate) async fn confirmed(&mut self, sample_rate: i32) -> ServerConfirmSession {
        self.configure(configuration(sample_rate)).await.unwrap();
        let data = self.message().await;
        let Data::ServerConfirmSession(confirm) = data else { panic!("it is not confirmed: {data:?}") };
        confirm
    }

    pub(crate) async fn audio(
        &self,
        req_id: &str,
        frames: usize,
        end: bool,
    ) -> Result<(), ClientAudioRefused> {
        let (client, audio) = (self.id(), silence(frames));
        let send = || ClientAudio { client, req_id: req_id.to_owned(), audio: audio.clone(), end };
        self.manager.ask(&self.entry, send).await.unwrap()
    }

    /// Sends a whole request and takes its answer; gives the number of its frames.
    pub(crate) async fn speak(&mut self, req_id: &str, connection_id: &str, frames: usize) -> usize {
        self.audio(req_id, frames, true).await.unwrap();
        self.answer(req_id, connection_id).await
    }

    /// Takes an answer, which must come under these ids; gives the number of its frames.
    pub(crate) async fn answer(&mut self, req_id: &str, connection_id: &str) -> usize {
        for count in 1.. {
            let data = self.message().await;
            let Data::ServerResponseAnimation(frame) = data else { panic!("it is no frame: {data:?}") };
            assert_eq!((frame.req_id.as_str(), frame.connection_id.as_str()), (req_id, connection_id));
            if frame.end {
                return count;
            }
        }
        unreachable!("the loop ends with the answer")
    }

    pub(crate) async fn control(&self, req_id: &str, control: Control) {
        let client = self.id();
        let say = || ClientControl { client, req_id: req_id.to_owned(), control };
        self.manager.ask(&self.entry, say).await.unwrap();
    }

    pub(crate) async fn fail(&self, req_id: &str, code: ErrorCode) {
        let client = self.id();
        let say =
            || FailRequest { client, req_id: req_id.to_owned(), code, reason: "told by a test".to_owned() };
        self.manager.ask(&self.entry, say).await.unwrap();
    }

    pub(crate) async fn leave(self, how: Departure) {
        let client = self.id();
        self.manager.ask(&self.entry, || Detach { client, how }).await.unwrap();
        // Its line is dropped only now, as a listener's would be.
        tokio::time::sleep(Duration::ZERO).await;
    }
}
