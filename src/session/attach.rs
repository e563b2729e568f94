//! The session's client: how it comes, what it says, and how it goes.

use actix::Handler;

use super::{
    Attach, AttachRefused, ClientAudio, ClientAudioRefused, ClientConfigure, ClientControl, ConfigureRefused,
    Detach, FailRequest, SessionActor,
};

impl Handler<Attach> for SessionActor {
    type Result = Result<(), AttachRefused>;

    fn handle(&mut self, _attach: Attach, _ctx: &mut Self::Context) -> Self::Result {
        Err(AttachRefused::Ended)
    }
}

impl Handler<Detach> for SessionActor {
    type Result = ();

    fn handle(&mut self, _detach: Detach, _ctx: &mut Self::Context) {}
}

impl Handler<ClientConfigure> for SessionActor {
    type Result = Result<(), ConfigureRefused>;

    fn handle(&mut self, _configure: ClientConfigure, _ctx: &mut Self::Context) -> Self::Result {
        Err(super::NotSeated.into())
    }
}

impl Handler<ClientAudio> for SessionActor {
    type Result = Result<(), ClientAudioRefused>;

    fn handle(&mut self, _audio: ClientAudio, _ctx: &mut Self::Context) -> Self::Result {
        Err(super::NotSeated.into())
    }
}

impl Handler<ClientControl> for SessionActor {
    type Result = ();

    fn handle(&mut self, _control: ClientControl, _ctx: &mut Self::Context) {}
}

impl Handler<FailRequest> for SessionActor {
    type Result = ();

    fn handle(&mut self, _fail: FailRequest, _ctx: &mut Self::Context) {}
}
