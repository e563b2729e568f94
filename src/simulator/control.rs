//! The control API, `/_sim/*`: faults, drops, the outage switch, statistics.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    faults::{Effect, Filter, Point},
    hub::Hub,
    listener::Outage,
    parse_faults,
    socket::Switch,
};

/// Room for a full fault plan.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// An outage that is to end by itself ends within a day.
const MAX_OUTAGE: Duration = Duration::from_secs(24 * 3600);

/// Registers the control API.
pub(super) fn configure(app: &mut web::ServiceConfig) {
    app.service(
        web::scope("/_sim")
            .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
            .route("/faults", web::get().to(list_faults))
            .route("/faults", web::post().to(add_faults))
            .route("/faults", web::delete().to(clear_faults))
            .route("/drop", web::post().to(drop_connections))
            .route("/strike", web::post().to(strike))
            .route("/down", web::post().to(down))
            .route("/credits", web::post().to(credits))
            .route("/record", web::get().to(record))
            .route("/stats", web::get().to(stats)),
    );
}

fn bad_request(message: impl std::fmt::Display) -> HttpResponse {
    HttpResponse::BadRequest().json(json!({"message": message.to_string()}))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
}

async fn list_faults(hub: web::Data<Arc<Hub>>) -> HttpResponse {
    HttpResponse::Ok().json(hub.faults())
}

async fn add_faults(hub: web::Data<Arc<Hub>>, body: web::Bytes) -> HttpResponse {
    let faults = match parse_faults(&body) {
        Ok(faults) => faults,
        Err(error) => return bad_request(error),
    };
    match hub.add_faults(faults) {
        Ok(ids) => HttpResponse::Created().json(json!({"ids": ids})),
        Err(error) => bad_request(error),
    }
}

async fn clear_faults(hub: web::Data<Arc<Hub>>) -> HttpResponse {
    hub.clear_faults();
    HttpResponse::NoContent().finish()
}

/// Whom a command concerns: a filter's fields, and what share of those who match.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    avatar_id: Option<String>,
    api_key: Option<String>,
    app_id: Option<String>,
    region: Option<String>,
    #[serde(default = "all")]
    share: f64,
    #[serde(default)]
    reset: bool,
}

const fn all() -> f64 {
    1.0
}

async fn drop_connections(hub: web::Data<Arc<Hub>>, body: web::Bytes) -> HttpResponse {
    let Target { avatar_id, api_key, app_id, region, share, reset } = match parse(&body) {
        Ok(target) => target,
        Err(error) => return bad_request(error),
    };
    let filter = Filter { avatar_id, api_key, app_id, region };
    let dropped = hub.strike_now(&filter, share, &Effect::Drop { reset });
    HttpResponse::Ok().json(json!({"dropped": dropped}))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StrikeNow {
    #[serde(default, rename = "match")]
    who: Filter,
    #[serde(default = "all")]
    share: f64,
    #[serde(rename = "do")]
    effect: Effect,
}

async fn strike(hub: web::Data<Arc<Hub>>, body: web::Bytes) -> HttpResponse {
    let StrikeNow { who, share, effect } = match parse(&body) {
        Ok(strike) => strike,
        Err(error) => return bad_request(error),
    };
    // The same effects are possible as in the life of a connection.
    if let Err(error) = effect.check(Point::AfterSeconds(0.0)) {
        return bad_request(error);
    }
    HttpResponse::Ok().json(json!({"struck": hub.strike_now(&who, share, &effect)}))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Down {
    down: bool,
    for_ms: Option<u64>,
}

async fn down(outage: web::Data<Outage>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let Down { down, for_ms } = match parse(&body) {
        Ok(down) => down,
        Err(error) => return bad_request(error),
    };
    if let Some(switch) = request.conn_data::<Rc<Switch>>() {
        switch.control.set(true);
    }
    outage.set(down).await;
    if let Some(for_ms) = for_ms.filter(|_| down) {
        let outage = outage.get_ref().clone();
        let time = Duration::from_millis(for_ms).min(MAX_OUTAGE);
        actix_rt::spawn(async move {
            tokio::time::sleep(time).await;
            outage.set(false).await;
        });
    }
    HttpResponse::Ok().json(json!({"down": down}))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopUp {
    api_key: String,
    seconds: f64,
}

async fn credits(hub: web::Data<Arc<Hub>>, body: web::Bytes) -> HttpResponse {
    let TopUp { api_key, seconds } = match parse(&body) {
        Ok(top_up) => top_up,
        Err(error) => return bad_request(error),
    };
    let seconds_left = hub.top_up(&api_key, seconds);
    HttpResponse::Ok().json(json!({"api_key": api_key, "seconds_left": seconds_left}))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    avatar_id: Option<String>,
    #[serde(default)]
    since: u64,
}

async fn record(hub: web::Data<Arc<Hub>>, request: HttpRequest) -> HttpResponse {
    let Wanted { avatar_id, since } = match web::Query::from_query(request.query_string()) {
        Ok(web::Query(wanted)) => wanted,
        Err(error) => return bad_request(error),
    };
    // `?avatar_id=` asks for all.
    let avatar_id = avatar_id.filter(|id| !id.is_empty());
    HttpResponse::Ok().json(hub.events(&Filter { avatar_id, ..Filter::default() }, since))
}

async fn stats(hub: web::Data<Arc<Hub>>) -> HttpResponse {
    HttpResponse::Ok().json(hub.stats())
}
